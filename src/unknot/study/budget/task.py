"""The unit of work of a study by budget: one activation on one set, for the budgets of one training."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unknot.nets.data import LabelledData, keep_apart
from unknot.nets.training import one_thread
from unknot.study.budget.options import BudgetOptions
from unknot.study.budget.trials import BudgetCurve, BudgetSettings, BudgetTrial
from unknot.study.options import NewActivation, standardised
from unknot.study.stack import CLASSES, PART, NetAlone, NetsTogether, goal_of

# Of the training samples; on it cells are compared.
VALIDATION_SHARE = 0.2
# A reported training by the clock is read so often, at times a tenth apart; reading is not counted.
READINGS, GROWTH = 48, 1.1
# Steps of a copy before the clock starts: the first ones of a process load what later ones find.
WARM_UP = 3

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}
"""Share of the training that is done -> factor of the learning rate (Loshchilov and Hutter, 2017)."""


@dataclass(frozen=True, eq=False)
class BudgetTask:
    """What one worker trains.

    Attributes:
        set: name of the data.
        activation, new_activation: its name, and what makes one.
        settings: say what it is read at, among others.
        cells: (learning rate, gain) pairs.
        seeds: each cell is trained on each.
        choosing: on a part of the training samples, and read on the others.
    """

    KIND = BudgetTrial

    set: str
    activation: str
    new_activation: NewActivation
    options: BudgetOptions
    settings: BudgetSettings
    cells: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    choosing: bool = False

    def nets(self) -> list[tuple[tuple[float, float], int]]:
        return [(cell, seed) for cell in self.cells for seed in self.seeds]


def run_budget_task(task: BudgetTask, data: LabelledData) -> list[BudgetTrial]:
    """Train every net of the task on its set; a net that diverges is a result."""
    data, spread = standardised(with_validation(data) if task.choosing else data)
    judge = Judge(data, spread)
    size, by_clock = task.options.batch_size, task.settings.unit == "seconds"
    with one_thread(), torch.random.fork_rng(devices=[]):
        models = [
            task.options.initialised(data, task.new_activation, gain, seed)
            for (_, gain), seed in task.nets()
        ]
        rates, seeds = [rate for (rate, _), _ in task.nets()], [seed for _, seed in task.nets()]
        if by_clock:
            _warm_up(models[0], data, size)
        if by_clock or next(models[0].buffers(), None) is not None:
            curves = [
                curve
                for model, rate, seed in zip(models, rates, seeds, strict=True)
                for curve in _train(task, NetAlone(model, data, rate, seed, size), judge)
            ]
        else:
            curves = _train(task, NetsTogether(models, data, rates, seeds, size), judge)
    return [
        BudgetTrial(task.set, task.activation, *cell, seed, task.settings, curve)
        for (cell, seed), curve in zip(task.nets(), curves, strict=True)
    ]


def with_validation(data: LabelledData) -> LabelledData:
    """The training samples in two, the same for all: to train on, and as test samples to choose by."""
    task = "classes" if goal_of(data.labels) is CLASSES else "regression"
    return keep_apart(data, share=VALIDATION_SHARE, task=task)  # type: ignore[arg-type]


class Judge:
    """Reads scores and losses on the test samples of a set whose targets have been standardised."""

    def __init__(self, data: LabelledData, spread: float) -> None:
        self._inputs, self._targets, self._spread = data.test_inputs, data.test_labels, spread
        self._goal = goal_of(data.labels)

    def read(self, outputs_of: Callable[[Tensor], Tensor]) -> tuple[list[float], list[float]]:
        """(scores, losses), one of each a net.

        Args:
            outputs_of: inputs ``[samples, ...]`` -> ``[nets, samples, outputs]``.
        """
        errors: Tensor | float = 0.0
        losses: Tensor | float = 0.0
        for x, y in zip(torch.split(self._inputs, PART), torch.split(self._targets, PART), strict=True):
            outputs = outputs_of(x)
            each = self._goal.loss(outputs.flatten(0, 1), y.repeat(len(outputs)), reduction="none")
            losses = losses + each.view(len(outputs), -1).double().sum(1)
            errors = errors + self._goal.errors(outputs, y).double().sum(1)
        worst = self._goal.worst(self._targets)
        means = torch.as_tensor(losses) / len(self._targets)
        if self._goal is not CLASSES:
            means = means.sqrt() * self._spread
        return ((worst - torch.as_tensor(errors)) / worst).tolist(), means.tolist()


def _train(task: BudgetTask, nets: NetAlone | NetsTogether, judge: Judge) -> list[BudgetCurve]:
    """Train to the last budget and read at each; one curve a net."""
    settings = task.settings
    schedule = SCHEDULES[settings.schedule]
    by_clock = settings.unit == "seconds"
    moments = _readings(settings.at) if by_clock and not task.choosing else settings.at
    at: list[float] = []
    times: list[float] = []
    scores: list[list[float | None]] = []
    losses: list[list[float | None]] = []
    pace = _by_clock(nets, moments, schedule) if by_clock else _by_steps(nets, moments, schedule)
    for moment, taken in zip(moments, pace, strict=True):
        at.append(moment)
        times.append(taken)
        finite = nets.finite()
        for kept, values in zip((scores, losses), judge.read(nets.outputs), strict=True):
            kept.append(
                [
                    value if fine and math.isfinite(value) else None
                    for value, fine in zip(values, finite, strict=True)
                ]
            )
        if not any(finite):
            break
    return [
        BudgetCurve(tuple(at), tuple(times), tuple(of_net), tuple(loss))
        for of_net, loss in zip(zip(*scores, strict=True), zip(*losses, strict=True), strict=True)
    ]


def _by_steps(
    nets: NetAlone | NetsTogether, moments: Sequence[float], schedule: Callable[[float], float]
) -> Iterator[float]:
    """Train to each of the epochs, a step at least; the epochs."""
    steps = [max(1, round(moment * nets.batches)) for moment in moments]
    done = 0
    for step in steps:
        while done < step:
            nets.step(schedule(done / steps[-1]))
            done += 1
        yield done / nets.batches


def _by_clock(
    nets: NetAlone | NetsTogether, moments: Sequence[float], schedule: Callable[[float], float]
) -> Iterator[float]:
    """Train to each of the seconds; the seconds, without those between."""
    taken = 0.0
    for moment in moments:
        start = time.perf_counter() - taken
        while taken < moment:
            nets.step(schedule(taken / moments[-1]))
            taken = time.perf_counter() - start
        yield taken


def _readings(at: Sequence[float]) -> tuple[float, ...]:
    """The budgets, and times before the last that are a tenth apart."""
    between = at[-1] / GROWTH ** np.arange(1, READINGS)
    return tuple(sorted({*at, *map(float, between)}))


def _warm_up(model: nn.Module, data: LabelledData, batch_size: int) -> None:
    nets = NetAlone(copy.deepcopy(model), data, 1e-9, 0, batch_size)
    for _ in range(WARM_UP):
        nets.step()
    nets.outputs(data.test_inputs[:PART])
