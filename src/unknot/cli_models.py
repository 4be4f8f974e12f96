"""The verbs that train and shrink models: study, prune."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from unknot.artifact import save_pruned
from unknot.console import print_json, print_table
from unknot.convergence import Study
from unknot.demo import print_outcome
from unknot.errors import InputError
from unknot.options import (
    Activation,
    Data,
    Debug,
    Gains,
    Json,
    Macs,
    MaxBetti,
    MaxPoints,
    Model,
    Rates,
    Ratio,
    Seed,
    TrainEpochs,
)  # fmt: skip
from unknot.outcome import shrink
from unknot.report import write_report
from unknot.scoring import conv_layers
from unknot.sources import load_data, load_model
from unknot.training import train_first


def study(
    data: Data,
    activations: Annotated[str, typer.Option("--activations", help="Names, e.g. relu,zfold.")],
    out: Annotated[Path, typer.Option("--out", help="SQLite file of the trials.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Reported seeds.")] = 5,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="The cap.")] = 60,
    learning_rates: Rates = "1e-3",
    gains: Gains = "1.0",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an existing file.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Epochs to target accuracy, by activation.

    Trains MLPs until they reach 95, 99 and 99.9 % train accuracy.

    Every activation gets the same grid of learning rates and gains; its cell is chosen on seeds that
    are not reported. A seed that does not arrive within the cap is reported as not reached.

      unknot study --data rings --activations relu,zfold,gelu --seeds 5 --epochs 40 --out study.sqlite
    """

    names = [name.strip() for name in activations.split(",") if name.strip()]
    rates, multiples = _numbers("--learning-rates", learning_rates), _numbers("--gains", gains)
    loaded = load_data(data, seed=seed)
    if out.exists() and not resume:
        raise InputError(f"--out {out} exists", "a new file", "pass --resume to go on with it")
    trials = Study(out)
    trials.run(
        {loaded.name: (loaded.inputs, loaded.labels)}, names, seeds=seeds, epochs=epochs,
        learning_rates=rates, gains=multiples, progress=True,
    )  # fmt: skip
    rows = trials.summary()
    if as_json:
        print_json({"rows": [asdict(row) for row in rows]})
        return
    cells = [
        (r.set, r.activation, r.learning_rate, r.gain, r.target, f"{r.reached}/{r.seeds}",
         _or(r.median, "not reached"), " ".join(str(_or(e, "-")) for e in r.epochs))
        for r in rows
    ]  # fmt: skip
    columns = ["set", "activation", "rate", "gain", "target", "reached", "median", "epochs, by seed"]
    print_table(f"Epochs to train accuracy (cap {epochs})", columns, cells)


def prune(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="New folder for the model, its plan and a report.")],
    criterion: Annotated[
        str,
        typer.Option(
            "--criterion",
            help="elder, elder-taylor, elder-h0, elder-h0-taylor, taylor, l1, bn, fpgm, betti or random.",
        ),
    ] = "betti",
    max_betti: MaxBetti = None,
    ratio: Ratio = None,
    macs: Macs = None,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Mend the pruned layers in closed form, no labels.")
    ] = True,
    max_points: MaxPoints = 400,
    activation: Activation = "relu",
    train_epochs: TrainEpochs = 0,
    finetune: Annotated[int, typer.Option("--finetune", min=0, help="Epochs after pruning.")] = 0,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove filters; get a smaller model.

    Convolution filters go by a topological criterion, or by one of the usual ones.

    Prints accuracy on held-out data, parameters, MACs and latency before and after.

      unknot prune --model cnn --data digits --train 20 --max-betti 300 --finetune 3 --out pruned/
    """

    loaded = load_data(data, seed=seed)
    net = load_model(model, loaded, activation=activation, seed=seed)
    conv_layers(net)  # refuse before training and before writing anything
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists", "a new or empty folder", "choose another")
    train_first(net, loaded, train_epochs, seed)
    shrunk = shrink(
        net,
        loaded,
        criterion=criterion,
        max_betti=max_betti,
        ratio=ratio,
        macs=macs,
        refit=refit,
        max_points=max_points,
        tune_epochs=finetune,
        seed=seed,
        progress=True,
    )
    save_pruned(shrunk.model, shrunk.plan, out / "model")
    shrunk.scores.to_json(out / "scores.json")
    shrunk.outcome.to_json(out / "outcome.json")
    title = f"{model} on {data}, pruned by {shrunk.scores.criterion}"
    write_report(out / "report.html", shrunk.scores, shrunk.plan, shrunk.outcome, title=title)
    if as_json:
        print_json(shrunk.outcome.summary())
        return
    print_outcome(title, shrunk.outcome)
    if shrunk.plan.budget:
        print(f"removed: {shrunk.plan.budget}")
    if shrunk.refit is not None:
        before, after = shrunk.refit.output_before, shrunk.refit.output_after
        print(f"refit: error of the output from {before:.3g} to {after:.3g}, on samples kept aside")
    for layer, reason in shrunk.plan.kept_layers.items():
        print(f"layer {layer} keeps all of its filters: {reason}", file=sys.stderr)


def _or(value: object, absent: str) -> object:
    return absent if value is None else value


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{flag} {text}", "numbers separated by commas", "pass e.g. 1e-3,3e-3") from None
