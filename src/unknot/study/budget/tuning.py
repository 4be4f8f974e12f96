"""Chooses a cell for each budget, and runs what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import median

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.nets.data import Data, LabelledData
from unknot.study.budget.options import BudgetOptions
from unknot.study.budget.task import VALIDATION_SHARE, BudgetTask, run_budget_task, with_validation
from unknot.study.budget.trials import BudgetCurve, BudgetSettings, BudgetTrial
from unknot.study.options import NewActivation, named_factories, named_sets, task_of
from unknot.study.task import run_missing
from unknot.study.trials import REGRESSION, SELECTION_SEED, TrialFile


def run_budgets_with(
    file: TrialFile,
    options: BudgetOptions,
    sets: Mapping[str, Data],
    activations: Sequence[str] | Mapping[str, NewActivation],
    workforce: Workforce,
    *,
    progress: ShowProgress = False,
) -> None:
    """Train every missing trial of `Study.run_budgets`, with its numbers in one object."""
    data = named_sets(sets, options.task)
    factories = named_factories(activations)
    if options.unit == "seconds" and (workforce.jobs > 1 or workforce.cluster is not None):
        raise InputError(
            f"unit = 'seconds' with {workforce.cluster or f'{workforce.jobs} jobs'}",
            "one process of this machine: others would slow it down",
            "pass jobs=1 and no cluster",
        )
    for samples in data.values():
        _require_held_out(samples, options.chooses)
    settings = {name: options.settings(samples) for name, samples in data.items()}
    tasks = [
        BudgetTask(name, activation, new, options, of_training, options.cells, seeds=())
        for name, (activation, new) in product(data, factories.items())
        for of_training in settings[name]
    ]
    for task in tasks:
        options.try_net(data[task.set], task.activation, task.new_activation)
    with file.claimed(), workforce:
        if options.chooses:
            numbers = tuple(range(SELECTION_SEED, SELECTION_SEED + options.selection_seeds))
            choosing = [replace(task, seeds=numbers, choosing=True) for task in tasks]
            run_missing(file, run_budget_task, choosing, data, workforce, "choosing cells", progress)
        trials = file.read_kind(BudgetTrial)
        reported = [one for task in tasks for one in _reported(task, trials)]
        run_missing(file, run_budget_task, reported, data, workforce, "trials", progress)


def _reported(task: BudgetTask, trials: Sequence[BudgetTrial]) -> list[BudgetTask]:
    """One task for each cell that was chosen, for the budgets that it was chosen for."""
    chosen: dict[tuple[float, float], list[float]] = {}
    for at in task.settings.at:
        chosen.setdefault(_best_cell(task, trials, at), []).append(at)
    seeds = tuple(range(task.options.seeds))
    return [
        replace(task, cells=(cell,), seeds=seeds, settings=replace(task.settings, at=tuple(budgets)))
        for cell, budgets in chosen.items()
    ]


def _best_cell(task: BudgetTask, trials: Iterable[BudgetTrial], at: float) -> tuple[float, float]:
    if len(task.cells) == 1:
        return task.cells[0]
    curves: dict[tuple[float, float], list[BudgetCurve]] = {cell: [] for cell in task.cells}
    for trial in trials:
        found = (trial.data, trial.activation, trial.settings)
        if found == (task.set, task.activation, task.settings) and not trial.reported:
            curves[trial.cell].append(trial.curve)
    return min(task.cells, key=lambda cell: rank_budget_cell(curves[cell], at))


def rank_budget_cell(curves: Sequence[BudgetCurve], at: float) -> tuple[float, float]:
    """Smaller is better: the median score with its sign turned, then the median loss."""
    scores = [curve.value(at, "score") for curve in curves]
    losses = [curve.value(at, "loss") for curve in curves]
    lowest = median(-math.inf if score is None else score for score in scores)
    return -lowest, median(math.inf if loss is None else loss for loss in losses)


def chosen_by(trials: Iterable[BudgetTrial], settings: BudgetSettings, at: float) -> list[BudgetTrial]:
    """The trials that chose a cell for a budget, each net once."""
    found: dict[tuple[tuple[float, float], int], BudgetTrial] = {}
    for trial in trials:
        alike = replace(trial.settings, at=settings.at) == settings
        if alike and at in trial.settings.at and not trial.reported:
            found.setdefault((trial.cell, trial.seed), trial)
    return list(found.values())


def _require_held_out(data: LabelledData, chooses: bool) -> None:
    numbers = ", task='regression'" if task_of(data) == REGRESSION else ""
    if not len(data.test_labels):
        raise InputError(
            f"set {data.name} without test samples",
            "some that nothing is trained or chosen on",
            "pass ((inputs, labels), (test inputs, test labels)), or let unknot.nets.keep_apart(data, "
            f"share=0.2{numbers}) hold some out",
        )
    if not chooses:
        return
    split = with_validation(data)
    kept, left = split.test_labels, split.labels
    one_number = task_of(data) == REGRESSION and any(len(set(part.tolist())) < 2 for part in (kept, left))
    if not len(kept) or not len(left) or one_number:
        raise InputError(
            f"set {data.name} of {len(data.labels)} training samples",
            f"enough to choose a cell on {100 * VALIDATION_SHARE:g} % of them",
            "pass more, or a single learning rate and gain",
        )
