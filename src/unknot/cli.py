"""The command ``unknot``: every verb a few lines over the library."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import click
import typer

from unknot.cloud import load_points, make_cloud
from unknot.console import print_json, print_table
from unknot.errors import InputError
from unknot.graph import Scale, scale_graph
from unknot.homology import betti_numbers
from unknot.options import Activation, Data, Debug, Hops, Json, K, Model, Radius, Seed, TrainEpochs

if TYPE_CHECKING:
    from torch import nn

    from unknot.training import LabelledData

app = typer.Typer(
    name="unknot",
    help="See, speed up and shrink neural networks by the topology of the data that flows through them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html and summary.json.")],
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: under 40 seconds.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The whole story on embedded data: see, speed up, shrink. Under 3 minutes on 2 cores.

    Trains small nets with ReLU and a folding activation on shapes of known topology, measures Betti
    numbers layer by layer before and after training, prunes a convolution net by Betti number, and
    writes report.html, summary.json, study.sqlite and the pruned model into the folder.

      unknot demo --out runs/demo
    """
    from unknot.demo import FULL, QUICK, print_story, run_demo

    result = run_demo(out, QUICK if quick else FULL, seed=seed, progress=True)
    if as_json:
        print_json(result.summary)
    else:
        print_story(result)


@app.command()
def betti(
    file: Annotated[Path, typer.Argument(help=".npy, .npz (points, labels or X, y) or .csv.")],
    radius: Radius = None,
    knn: K = None,
    hops: Hops = None,
    max_dim: Annotated[int, typer.Option("--max-dim", min=0, max=2, help="Highest Betti number.")] = 1,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Betti numbers of the points in FILE, and of each class where it has labels.

    One neighbour rule: --radius, in the unit of the points, or --knn with --hops, which has no unit.

      unknot betti points.npy --radius 0.5

      unknot betti labelled.npz --knn 14 --hops 2 --json
    """
    if (radius is None) == (knn is None):
        given = f"--radius {radius} and --knn {knn}" if knn is not None else "neither --radius nor --knn"
        raise InputError(given, "exactly one neighbour rule", "pass --radius 0.5, or --knn 14 --hops 2")
    if hops is not None and knn is None:
        raise InputError(f"--hops {hops} with --radius", "--hops with --knn only", "drop --hops")
    scale = Scale(radius=radius) if knn is None else Scale(k=knn, hops=hops or 1)
    cloud = load_points(file)
    everything = make_cloud(cloud.points)  # a point that occurs in two classes counts once here
    clouds = {"all": everything.points} | {str(c): cloud.of_class(c).points for c in cloud.classes()}
    found = {
        name: betti_numbers(scale_graph(points, scale), max_dim=max_dim)
        for name, points in clouds.items()
    }
    if as_json:
        print_json(
            {
                "betti": {name: list(b.values) for name, b in found.items()},
                "n": {name: b.n_points for name, b in found.items()},
                "scale": asdict(scale),
            }
        )
        return
    columns = ["cloud", "n", *(f"b{d}" for d in range(max_dim + 1))]
    rows = [[name, b.n_points, *b.values] for name, b in found.items()]
    print_table(f"Betti numbers of {file.name} at {scale}", columns, rows)


@app.command()
def measure(
    model: Model,
    data: Data,
    by: Annotated[str, typer.Option("--by", help="class, layer or filter.")] = "class",
    layers: Annotated[
        list[str], typer.Option("--layers", help="Glob over dotted module names; may be repeated.")
    ] = ["*"],  # noqa: B006
    knn: K = None,
    hops: Hops = None,
    radius: Radius = None,
    max_points: Annotated[int, typer.Option("--max-points", min=2, help="Samples measured.")] = 1000,
    activation: Activation = "relu",
    train_epochs: TrainEpochs = 0,
    out: Annotated[Optional[Path], typer.Option("--out", help="Write the profile to FILE.json.")] = None,  # noqa: UP045
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Betti numbers of the data after each layer of a model.

    The scale is calibrated on the input and held for all layers, unless --knn or --radius gives it.

      unknot measure --model mlp --data rings --train 10 --layers 'act*' --out profile.json

      unknot measure --model my_package.nets:resnet --data mine.npz --by filter --out filters.json
    """
    from unknot.profile import measure as measure_model
    from unknot.sources import load_data, load_model

    if radius is not None and knn is not None:
        raise InputError(f"--radius {radius} and --knn {knn}", "one neighbour rule", "drop one of them")
    scale: Any = "auto"
    if radius is not None or knn is not None:
        scale = Scale(radius=radius) if knn is None else Scale(k=knn, hops=hops or 1)
    loaded = load_data(data, seed=seed)
    net = load_model(model, loaded, activation=activation, seed=seed)
    _train(net, loaded, train_epochs, seed)
    profile = measure_model(
        net,
        [(loaded.inputs, loaded.labels)],
        layers="*" if layers == ["*"] else layers,
        by=by,  # type: ignore[arg-type]
        scale=scale,
        max_points=max_points,
        seed=seed,
    )
    if out is not None:
        profile.to_json(out)
    if as_json:
        print_json(asdict(profile))
        return
    rows = [
        (r.layer, r.call, _or(r.label, "all"), _or(r.filter, ""), r.n_points, r.b0, r.b1)
        for r in profile.rows
    ]
    title = f"Betti numbers of {model} on {data} at {profile.rows[0].scale}, seed {seed}"
    print_table(title, ["layer", "call", "class", "filter", "n", "b0", "b1"], rows)


@app.command()
def study(
    data: Data,
    activations: Annotated[str, typer.Option("--activations", help="Names, e.g. relu,zfold.")],
    out: Annotated[Path, typer.Option("--out", help="SQLite file of the trials.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Reported seeds.")] = 5,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="The cap.")] = 60,
    learning_rates: Annotated[
        str, typer.Option("--learning-rates", help="Grid, e.g. 3e-4,1e-3.")
    ] = "1e-3",
    gains: Annotated[
        str, typer.Option("--gains", help="Grid of multiples of the variance-preserving gain.")
    ] = "1.0",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an existing file.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Epochs to 95, 99 and 99.9 % train accuracy of an MLP, for several activations.

    Every activation gets the same grid of learning rates and gains; its cell is chosen on seeds that
    are not reported. A seed that does not arrive within the cap is reported as not reached.

      unknot study --data rings --activations relu,zfold,gelu --seeds 5 --epochs 40 --out study.sqlite
    """
    from unknot.convergence import Study
    from unknot.sources import load_data

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


@app.command()
def prune(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="New folder for the model, its plan and a report.")],
    criterion: Annotated[str, typer.Option("--criterion", help="betti, l1 or random.")] = "betti",
    max_betti: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--max-betti", help="Remove filters whose b0 + b1 is above this."),
    ] = None,
    ratio: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--ratio", help="Remove this share of each layer's filters."),
    ] = None,
    max_points: Annotated[int, typer.Option("--max-points", min=2, help="Samples measured.")] = 400,
    activation: Activation = "relu",
    train_epochs: TrainEpochs = 0,
    finetune: Annotated[int, typer.Option("--finetune", min=0, help="Epochs after pruning.")] = 0,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove convolution filters by a topological criterion; the model gets physically smaller.

    Prints accuracy on held-out data, parameters, MACs and latency before and after.

      unknot prune --model cnn --data digits --train 20 --max-betti 300 --finetune 3 --out pruned/
    """
    from unknot.artifact import save_pruned
    from unknot.demo import print_outcome
    from unknot.outcome import shrink
    from unknot.report import write_report
    from unknot.scoring import conv_layers
    from unknot.sources import load_data, load_model

    loaded = load_data(data, seed=seed)
    net = load_model(model, loaded, activation=activation, seed=seed)
    conv_layers(net)  # refuse before training and before writing anything
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists", "a new or empty folder", "choose another")
    _train(net, loaded, train_epochs, seed)
    shrunk = shrink(
        net,
        loaded,
        criterion=criterion,
        max_betti=max_betti,
        ratio=ratio,
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
    for layer, reason in shrunk.plan.kept_layers.items():
        print(f"layer {layer} keeps all of its filters: {reason}", file=sys.stderr)


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(help="profile, scores, plan or outcome .json; study .sqlite.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One self-contained HTML page from saved results.

    unknot report profile.json study.sqlite pruned/model/plan.json --out report.html
    """
    from unknot.report import load_result, write_report

    written = write_report(out, *((path.stem, load_result(path)) for path in paths))
    if as_json:
        print_json({"report": str(written)})
    else:
        print(written)


@app.command()
def doctor(seed: Seed = 0, as_json: Json = False, debug: Debug = False) -> None:
    """Versions, the native module, and a self-test against independent answers."""
    from unknot.doctor import examine

    found = examine(seed)
    if as_json:
        print_json(asdict(found))
    else:
        print_table("unknot doctor", ["", ""], [*found.versions.items(), *found.checks.items()])
    if not found.healthy:
        raise typer.Exit(1)


def main(argv: list[str] | None = None) -> None:
    """Run the command; exit code 0 done, 1 a defect, 2 bad input with one line, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="unknot", standalone_mode=False)
    except (
        InputError,
        FileNotFoundError,
        PermissionError,
        NotADirectoryError,
        IsADirectoryError,
    ) as error:
        code = _refuse(error, arguments)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "unknot"
        code = _refuse(f"{error.format_message()} See {verb} --help.", arguments)
    except (click.Abort, KeyboardInterrupt):
        print("unknot: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _refuse(error: Exception | str, arguments: list[str]) -> int:
    if "--debug" in arguments and isinstance(error, Exception):
        raise error
    print(f"unknot: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _or(value: object, absent: str) -> object:
    return absent if value is None else value


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{flag} {text}", "numbers separated by commas", "pass e.g. 1e-3,3e-3") from None


def _train(net: nn.Module, data: LabelledData, epochs: int, seed: int) -> None:
    from unknot.training import train

    train(net, data.inputs, data.labels, epochs=epochs, seed=seed, progress="training")
