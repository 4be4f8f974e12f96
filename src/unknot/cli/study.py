"""The verb that trains many nets: study."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unknot.cli import options as flags
from unknot.cli.budgets import show_budgets
from unknot.cli.samples import load_data, takes_columns
from unknot.cli.sources import study_activation, study_net
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.study.budget.options import BUDGET_DEFAULTS as BUDGETS
from unknot.study.budget.options import BudgetOptions
from unknot.study.budget.tuning import run_budgets_with
from unknot.study.options import DEFAULTS, TEST_TARGET, StudyOptions
from unknot.study.overview import StudyOverview, study_overview
from unknot.study.results import TARGETS, StudyComparison, StudyRow, rows_in_words
from unknot.study.study import Study
from unknot.study.trials import SUFFIXES, TrialFile
from unknot.study.untangling import fall_text, prediction_text

ALIKE = ("seeds", "selection_seeds", "net", "batch_size", "task")  # whose defaults are those of both


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def study_command(
    context: typer.Context,
    data: flags.DataSets,
    activations: Annotated[
        str,
        typer.Option(
            help="Names, e.g. relu,gelu,zfold,qfold2; your own as package.module:name (a module class, a "
            "factory or a function of a tensor).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="SQLite file of the trials.")],
    label_column: flags.LabelColumn = None,
    task: Annotated[
        Literal["auto", "classes", "regression"],
        typer.Option(
            help="Labels are classes, or numbers (R^2 then stands wherever accuracy is said); auto: "
            "numbers where there are more than 20 with fractions."
        ),
    ] = "auto",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="How good after so many epochs or seconds, on held-out samples, in place of epochs to a "
            "target.",
        ),
    ] = None,
    unit: Annotated[
        Literal["epochs", "seconds"],
        typer.Option(help="Of --at; seconds are of this machine, a net alone on one thread."),
    ] = "epochs",
    schedule: Annotated[
        Literal["cosine", "constant"],
        typer.Option(
            help="Of the learning rate with --at. cosine: each budget is a training whose rate falls to "
            "0 over it; constant: one training is read at each."
        ),
    ] = "cosine",
    seeds: Annotated[int, typer.Option(min=1, help="Reported seeds.")] = DEFAULTS.seeds,
    epochs: Annotated[int, typer.Option(min=1, help="The cap.")] = DEFAULTS.epochs,
    limit: Annotated[
        int | None, typer.Option(min=10, help="Most samples to train on, and to test on.")
    ] = None,
    learning_rates: Annotated[
        str,
        typer.Option(
            help=f"Grid, the same for every activation; with --at {_listed(BUDGETS.learning_rates)}."
        ),
    ] = _listed(DEFAULTS.learning_rates),
    gains: Annotated[
        str,
        typer.Option(
            help=f"Grid of multiples of the variance-preserving gain; with --at {_listed(BUDGETS.gains)}."
        ),
    ] = _listed(DEFAULTS.gains),
    selection_seeds: Annotated[
        int, typer.Option(min=1, help="Seeds that choose the cell, not reported.")
    ] = DEFAULTS.selection_seeds,
    net: Annotated[
        str,
        typer.Option(
            help="mlp, cnn, cnn-bn, resnet or resnet-bn (bn: batch normalisation), for the "
            "data's size, or package.module:factory taking (data, new_activation).",
        ),
    ] = "mlp",
    width: Annotated[
        int, typer.Option(min=1, help=f"Units a layer of the MLP; with --at {BUDGETS.width}.")
    ] = DEFAULTS.width,
    depth: Annotated[
        int, typer.Option(min=1, help=f"Hidden layers of the MLP; with --at {BUDGETS.depth}.")
    ] = DEFAULTS.depth,
    targets: Annotated[
        str, typer.Option(help="Train accuracies. A trial ends when it has the highest, and the next.")
    ] = _listed(TARGETS),
    test_target: Annotated[float, typer.Option(min=0, max=1, help="Test accuracy.")] = TEST_TARGET,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = DEFAULTS.batch_size,
    baseline: Annotated[
        str, typer.Option(help="What the others are compared with; default: the first.")
    ] = "",
    topology: Annotated[
        int, typer.Option(min=0, help="Seeds whose Betti numbers are measured on the way.")
    ] = DEFAULTS.topology,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes of this machine; 1 with --unit seconds.")
    ] = os.cpu_count() or 1,
    cluster: flags.Cluster = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an existing file.")] = False,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Epochs to target accuracy, by activation.

    Trains nets until they reach 95, 99 and 99.9 % train accuracy, and 99 % on held-out samples.

    Every activation gets the same grid of learning rates and gains; its cell is chosen on seeds that
    are not reported. A seed that does not arrive within the cap is reported as not reached, and counts in
    medians as longer than the cap. Ratios of medians come with a 95 % interval (bootstrap over seeds,
    from five on) and a log-rank test corrected for all comparisons.

      unknot study --data rings --activations relu,gelu,zfold --out study.sqlite

      unknot report study.sqlite --out report.html

    With --at it tells how good each is after so many epochs, or seconds, on held-out samples:

      unknot study --data table.csv --label-column y --activations relu,silu,qfold2 --at 4,8,16
      --out study.sqlite

    Killed at any moment, it goes on with --resume as if nothing had happened. One process, or one worker
    of a --cluster, trains one activation on one set at a time.
    """
    flags.require_file_name(out, "--out", SUFFIXES)
    names = [name.strip() for name in activations.split(",") if name.strip()]
    if not names:
        raise InputError(f"--activations {activations!r}", "at least one name", "pass e.g. relu,zfold")
    base = baseline or names[0]
    if base not in names:
        raise InputError(f"--baseline {base}", f"one of {', '.join(names)}", "add it to --activations")
    factories = {name: study_activation(name) for name in names}
    goals = _numbers("--targets", targets)
    if not all(0 < goal <= 1 for goal in goals):
        raise InputError(f"--targets {targets}", "accuracies above 0, at most 1", "pass e.g. 0.9,0.99")
    given: dict[str, Any] = {
        "seeds": seeds, "learning_rates": _numbers("--learning-rates", learning_rates),
        "gains": _numbers("--gains", gains), "selection_seeds": selection_seeds, "net": study_net(net),
        "width": width, "depth": depth, "batch_size": batch_size, "task": task,
    }  # fmt: skip
    typed = {name for name in context.params if _is_typed(context, name)}
    options: StudyOptions | BudgetOptions
    if at is None:
        _require_none_of(typed & {"unit", "schedule"}, "without --at", "both", "pass e.g. --at 4,8,16")
        options = StudyOptions(
            **given, epochs=epochs, stop_at=max(goals), test_target=test_target, topology=topology
        )
    else:
        _require_none_of(
            typed & {"epochs", "targets", "topology"}, "with --at", "one of them", "drop one"
        )
        own = {name: value for name, value in given.items() if name in typed or name in ALIKE}
        options = BudgetOptions(**own, at=_numbers("--at", at), unit=unit, schedule=schedule)
        jobs = jobs if unit == "epochs" or "jobs" in typed else 1
    tables = list(filter(takes_columns, data)) or data  # those that a column of labels is for
    loaded = [
        load_data(spec, seed=seed, label_column=label_column if spec in tables else None, task=task)
        for spec in data
    ]
    sets = {samples.name: samples for samples in loaded}
    if limit is not None:
        sets = {name: samples.limited(limit, seed) for name, samples in sets.items()}
    if len(sets) < len(data):
        raise InputError(f"--data {' '.join(data)}", "sets of different names", "rename a file")
    if out.exists() and not resume:
        raise InputError(f"--out {out} exists", "a new file", "pass --resume to go on with it")
    study = Study(out)
    workforce = Workforce(jobs, cluster)
    if isinstance(options, BudgetOptions):
        run_budgets_with(TrialFile(out), options, sets, factories, workforce, progress=True)
        show_budgets(study, base, test_target, as_json)
    else:
        study.run_with(options, sets, factories, workforce, progress=True)
        _show_targets(study, base, goals, test_target, as_json)
    if not as_json:
        print(f"trials: {out}; see them: unknot report {out} --out report.html")


def _show_targets(
    study: Study, base: str, goals: Sequence[float], test_target: float, as_json: bool
) -> None:
    overview = study_overview(study, baseline=base, targets=goals, test_targets=[test_target])
    if as_json:
        print_json(_record(overview))
        return
    for target in dict.fromkeys((row.target, row.split, row.metric) for row in overview.rows):
        rows = [row for row in overview.rows if (row.target, row.split, row.metric) == target]
        _print_target(rows, overview.comparisons, base)
    if overview.falls:
        _print_untangling(overview)


def _record(overview: StudyOverview) -> dict[str, object]:
    hidden = ("split", "cap", "net", "metric")
    return {
        "rows": [_without(row, *hidden) for row in overview.rows if row.split == "train"],
        "test_rows": [_without(row, *hidden) for row in overview.rows if row.split == "test"],
        "comparisons": [_without(c, "result") | asdict(c.result) for c in overview.comparisons],
        "untangling": [asdict(row) for row in overview.untangling],
    }


def _without(row: StudyRow | StudyComparison, *fields: str) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if key not in fields}


def _print_target(rows: Sequence[StudyRow], comparisons: Sequence[StudyComparison], base: str) -> None:
    cells = [
        (text.row.set, text.row.activation, text.row.learning_rate, text.row.gain,
         f"{text.row.reached}/{text.row.seeds}", f"{text.median} {text.range}", text.ratio, text.p)
        for text in rows_in_words(rows, comparisons)
    ]  # fmt: skip
    columns = ["set", "activation", "rate", "gain", "reached", "epochs: median [range]",
               f"times fewer than {base}", "p"]  # fmt: skip
    print_table(
        f"Epochs to {rows[0].target:.4g} {rows[0].split} {rows[0].metric}, {rows[0].net}, cap "
        f"{rows[0].cap}",
        columns,
        cells,
    )


def _print_untangling(overview: StudyOverview) -> None:
    cells = [
        (row.set, row.activation, row.which, f"{row.before:g}", f"{row.after:g}", fall_text(row))
        for row in overview.falls
    ]
    columns = ["set", "activation", "Betti number", "before", "after", "epochs to its fall: median"]
    print_table("Betti numbers of the class clouds, summed over layers", columns, cells)
    if overview.predicts is not None:
        print(prediction_text(overview.predicts))


def _is_typed(context: typer.Context, name: str) -> bool:
    """Whether the user gave the option; its value may still be the default's."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _require_none_of(names: set[str], where: str, expected: str, remedy: str) -> None:
    if names:
        raise InputError(f"--{min(names).replace('_', '-')} {where}", expected, remedy)


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{flag} {text}", "numbers separated by commas", "pass e.g. 1e-3,3e-3") from None
