"""The verb that shrinks models: prune."""

import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import typer
from torch import nn

from unknot.cli import options as flags
from unknot.cli.samples import read_data
from unknot.cli.sources import load_factory, load_model, load_object, one_thread_unless_told
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError
from unknot.nets.data import LabelledData
from unknot.nets.training import train_first
from unknot.pruning.artifact import SavedModel, save_pruned
from unknot.pruning.exports.onnx import ExportReport, export_onnx, require_onnx
from unknot.pruning.outcomes.comparison import compare_criteria
from unknot.pruning.outcomes.outcome import PruningOutcome, Round
from unknot.pruning.pipeline import Shrunk, follow_recipe, with_test_part
from unknot.pruning.planning.budget import Budget
from unknot.pruning.recipe import Recipe, default_criterion
from unknot.pruning.scoring.criteria import criterion_names, register
from unknot.pruning.scoring.thresholds import threshold_sensitivity
from unknot.pruning.structure.layers import prunable_layers
from unknot.report.page import write_report


def prune_command(
    model: flags.Model,
    data: flags.Data,
    out: Annotated[Path, typer.Option(help="New folder for the model, its plan and a report.")],
    criterion: Annotated[
        str | None,
        typer.Option(
            help=f"What goes first: {', '.join(criterion_names())}, or package.module:name of your own.",
            show_default=f"{Recipe.criterion}; betti with --max-betti",
        ),
    ] = None,
    label_column: flags.LabelColumn = None,
    max_betti: flags.MaxBetti = None,
    ratio: flags.Ratio = None,
    macs: flags.Macs = None,
    parameters: flags.Parameters = None,
    latency_ms: flags.LatencyMs = None,
    latency_batch: Annotated[
        int, typer.Option(min=1, help="Samples of the pass that --latency-ms is of.")
    ] = Recipe.latency_batch,
    allocation: Annotated[
        Literal["auto", "uniform", "macs"],
        typer.Option(
            help="uniform: the same share of every layer; macs: the lowest score for its MACs first; "
            "auto: macs where layers can be compared (the criteria with surgeon), else uniform.",
        ),
    ] = Recipe.allocation,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Glob of layers to leave alone, e.g. 'stem*'; may be repeated."),
    ] = None,
    linear: Annotated[
        list[str] | None,
        typer.Option(
            help="Glob of the linear layers to prune, e.g. '*pwconv1', '' for none; may be repeated. "
            "All but the last layer of the model by default.",
        ),
    ] = None,
    min_filters: Annotated[
        int, typer.Option(min=1, help="Filters left in every layer, at least.")
    ] = Recipe.min_filters,
    round_to: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep a multiple of so many filters in every layer. By default, in wide nets whose "
            "widths are measured, the multiples that are fast on this machine.",
        ),
    ] = Recipe.round_to,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Prune, refit and fine-tune so often, each time a part of the budget."),
    ] = Recipe.rounds,
    refit: Annotated[
        bool, typer.Option(help="Mend the pruned layers in closed form, no labels.")
    ] = Recipe.refit,
    effort: Annotated[
        Literal["fast", "balanced", "best"],
        typer.Option(
            help="fast: no widths are measured, seconds; balanced: the widths that lose least in the "
            "model's output, a minute; best: more of them, minutes (for a ResNet-18 at 32 x 32).",
        ),
    ] = Recipe.effort,
    polish: Annotated[
        int,
        typer.Option(
            min=0, help="Steps of training towards the original's outputs, no labels, e.g. 100."
        ),
    ] = Recipe.polish,
    max_points: flags.MaxPoints = Recipe.max_points,
    activation: flags.Activation = "relu",
    train_epochs: flags.TrainEpochs = 0,
    finetune: Annotated[
        int, typer.Option(min=0, help="Epochs after pruning, at most, in every round.")
    ] = Recipe.finetune,
    patience: Annotated[
        int,
        typer.Option(
            min=0,
            help="Stop fine-tuning after so many epochs without better accuracy on a tenth of the "
            "training samples, kept apart for it; take the best weights. 0: train on all, to the end.",
        ),
    ] = Recipe.patience or 0,
    compare: Annotated[
        bool,
        typer.Option(
            help="Prune by random, l1 and taylor too, at up to three budgets, for the report.",
        ),
    ] = True,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write model.onnx too, checked in ONNX Runtime.")
    ] = False,
    seed: flags.Seed = Recipe.seed,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Remove filters; get a smaller model.

    --criterion decides which filters are removed. Give one budget: --ratio, --macs, --parameters,
    --latency-ms or --max-betti.

    Writes the model to OUT/model: its weights without pickle, and program.pt2, which torch loads without
    unknot, checked against the model.

    Prints accuracy, parameters, MACs of one sample, memory and latency before and after. The accuracy is
    that of the test samples; where there are none, of a tenth of the samples, kept apart by class. torch
    uses one thread unless OMP_NUM_THREADS says how many.

      unknot prune --model cnn --data digits --train 20 --max-betti 300 --finetune 3 --out pruned/

      unknot prune --model mine:net --data mine:data --criterion elder --macs 0.5 --onnx --out pruned/
    """
    if ":" in model:
        load_factory(model, "--model")  # its module may register the criterion
    budget = Budget(max_betti, ratio, macs, parameters, latency_ms)
    recipe = Recipe(
        budget,
        criterion=default_criterion(budget) if criterion is None else _named_criterion(criterion),
        allocation=allocation,
        ignored=tuple(ignore or ()),
        min_filters=min_filters,
        round_to=round_to,
        latency_batch=latency_batch,
        rounds=rounds,
        refit=refit,
        effort=effort,
        polish=polish,
        max_points=max_points,
        finetune=finetune,
        patience=patience or None,
        seed=seed,
        linear=None if linear is None else tuple(filter(None, linear)),
    )
    if onnx:
        require_onnx()
    flags.require_folder_name(out, "--out")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out} exists", "a new or empty folder", "choose another")
    loaded = read_data(data, seed=seed, label_column=label_column)
    split = with_test_part(loaded, seed)
    net = load_model(model, loaded, activation=activation, seed=seed)
    _require_matches(recipe, net)  # refuse before training and before writing anything
    with one_thread_unless_told():
        train_first(net, split, train_epochs, seed)
        shrunk = follow_recipe(net, loaded, recipe, progress=True)
        title = f"{model} on {data}, pruned by {shrunk.scores.criterion}"
        outcome, saved = _written(out, title, net, split, recipe, shrunk, compare=compare, onnx=onnx)
    if as_json:
        print_json(outcome.summary())
        return
    print(f"{title}\n{outcome}")
    _print_details(shrunk, outcome)
    _print_files(saved, outcome.export)


def _written(
    out: Path, title: str, net: nn.Module, data: LabelledData, recipe: Recipe, shrunk: Shrunk, *,
    compare: bool, onnx: bool,
) -> tuple[PruningOutcome, SavedModel]:  # fmt: skip
    """Everything in the folder: the outcome with what else was looked at, and the model's own files."""
    outcome, seed = shrunk.outcome, recipe.seed
    # First, whatever happens below.
    saved = save_pruned(shrunk.model, shrunk.plan, out / "model", outcome=outcome, progress=True)
    shrunk.scores.to_json(out / "scores.json")
    if compare:
        baselines = compare_criteria(net, data, recipe, scores=shrunk.scores, progress=True)
        outcome = replace(outcome, baselines=baselines)
    if (limit := recipe.budget.max_betti) is not None:
        sizes = [max(2, recipe.max_points // part) for part in (4, 2, 1)]
        rows = threshold_sensitivity(
            net, data.inputs, limit, linear=recipe.linear, sizes=sizes, seed=seed, progress=True
        )
        outcome = replace(outcome, thresholds=rows)
    _report(out, shrunk, outcome, title)
    if onnx:  # last: where it is refused, the rest is there
        example, file = data.test_inputs[:64], out / "model.onnx"
        exported = export_onnx(shrunk.model, example, file, seed=seed, progress=True)
        outcome = replace(outcome, export=exported)
        _report(out, shrunk, outcome, title)
    return outcome, saved


def _named_criterion(spec: str) -> str:
    """A criterion's name; the user's own, ``package.module:name``, is registered by that."""
    if ":" in spec and spec not in criterion_names():
        register(spec, load_object(spec, "--criterion"))
    return spec


def _report(out: Path, shrunk: Shrunk, outcome: PruningOutcome, title: str) -> None:
    outcome.to_json(out / "outcome.json")
    write_report(out / "report.html", shrunk.scores, shrunk.plan, outcome, title=title)


def _print_details(shrunk: Shrunk, outcome: PruningOutcome) -> None:
    """What the table of costs does not say."""
    if shrunk.plan.budget:
        print(f"removed: {shrunk.plan.budget}")
    if shrunk.plan.n_removed:
        print(f"as pruned it computes {shrunk.plan.judged_by}")
    for number, done in enumerate(outcome.rounds, start=1):
        _print_round(f"round {number}: " if len(outcome.rounds) > 1 else "", done)
    if shrunk.times is not None:
        print(shrunk.times)
    if outcome.baselines:
        columns = ["criterion", "MACs removed", "accuracy"]
        cells = [(r.criterion, f"{r.removed:.1%}", f"{r.accuracy:.2%}") for r in outcome.baselines]
        print_table("Criteria at the same budgets, not fine-tuned", columns, cells)
    for layer, reason in shrunk.plan.kept_layers.items():
        print(f"layer {layer} keeps all of its filters: {reason}", file=sys.stderr)


def _print_round(prefix: str, done: Round) -> None:
    stages = [f"{value:.2%} {stage}" for stage, value in done.accuracies.items() if value is not None]
    print(f"{prefix}accuracy {', '.join(stages) or 'unknown'}, {done.filters:,} filters left")
    if done.refit_note:
        print(f"{prefix}refit: {done.refit_note}")
    if done.polish_note:
        print(f"{prefix}polish: {done.polish_note}")
    if done.tuning_note:
        print(f"{prefix}fine-tuning: {done.tuning_note}")


def _print_files(saved: SavedModel, export: ExportReport | None) -> None:
    print(f"{saved.folder}: {saved.bytes:,} bytes in {len(saved.files)} files")
    if saved.program is None:
        print(saved.note, file=sys.stderr)
    else:
        print(saved.program.sentence)
    if export is not None:
        _print_export(export)


def _print_export(report: ExportReport) -> None:
    sizes = ", ".join(str(p.batch_size) for p in report.parity)
    print(
        f"{report.file}: {report.bytes:,} bytes, opset {report.opset}; outputs differ from torch's by at "
        f"most {report.worst:.2g} of the largest, at batch {sizes}"
    )
    for ours, theirs in zip(report.torch, report.onnx, strict=True):
        print(
            f"  batch {ours.batch_size}: {theirs.median_ms:.3g} ms in ONNX Runtime, {ours.median_ms:.3g} "
            f"ms in torch, on the CPU, {report.threads} thread{'s' * (report.threads != 1)}"
        )


def _require_matches(recipe: Recipe, net: nn.Module) -> None:
    layers = list(prunable_layers(net, recipe.linear))
    for glob in recipe.ignored:
        if not any(fnmatchcase(layer, glob) for layer in layers):
            raise InputError(
                f"--ignore {glob}",
                "a glob that matches a convolution",
                f"there are {', '.join(layers[:8])}",
            )
