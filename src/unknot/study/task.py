"""The unit of work of a study: one activation on one set, all cells and seeds in one stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.workforce import Workforce
from unknot.nets.data import LabelledData
from unknot.nets.training import batches_an_epoch, epochs_to, one_thread
from unknot.profiles.monitor import Monitor
from unknot.study.options import NewActivation, StudyOptions, standardised
from unknot.study.stacked_training import Progress, train_alone, train_stack
from unknot.study.trials import Curve, StoredTrial, TopologyRow, Trial, TrialFile, TrialSettings
from unknot.topology.scale import Scale

# A cell is chosen by the epochs to this train accuracy.
CHOOSE_BY = 0.99
# Betti numbers change slowly: they are read when the epochs have grown by this share.
TOPOLOGY_GROWTH = 0.5
# Samples that are measured, if there are so many: a thin sample merges what the data keep apart.
WATCHED_POINTS = 10_000


@dataclass(frozen=True, eq=False)
class Task:
    """What one worker trains.

    Attributes:
        set: name of the data.
        activation, new_activation: its name, and what makes one.
        cells: (learning rate, gain) pairs.
        seeds: each cell is trained on each.
        choosing: stop as soon as it is known which cell is best.
        scale: at which the Betti numbers of ``options.topology`` seeds of each cell are measured; None:
            none are.
    """

    KIND = Trial

    set: str
    activation: str
    new_activation: NewActivation
    options: StudyOptions
    settings: TrialSettings
    cells: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    choosing: bool = False
    scale: Scale | None = None

    def nets(self) -> list[tuple[tuple[float, float], int]]:
        return [(cell, seed) for cell in self.cells for seed in self.seeds]


def run_task(task: Task, data: LabelledData) -> list[Trial]:
    """Train every net of the task on its set; a net that diverges is a result."""
    data, _ = standardised(data)
    with one_thread(), torch.random.fork_rng(devices=[]):
        models = [
            task.options.initialised(data, task.new_activation, gain, seed)
            for (_, gain), seed in task.nets()
        ]
        watch = _Watch(task, data, models)
        # What a cell is chosen by is exact: when it has that accuracy, else its accuracy at the cap.
        read, exact_from = (data.without_test(), CHOOSE_BY) if task.choosing else (data, 0.0)
        if next(models[0].buffers(), None) is None:
            curves = train_stack(
                models,
                read,
                learning_rates=[rate for (rate, _), _ in task.nets()],
                seeds=[seed for _, seed in task.nets()],
                epochs=task.options.epochs,
                batch_size=task.options.batch_size,
                exact_from=exact_from,
                is_done=_is_done(task, data),
                give_up=_GiveUp(task) if task.choosing else lambda progress: (),
                on_checkpoint=watch.look,
                progress=False,
            )
        else:
            curves = tuple(
                train_alone(
                    model, read, learning_rate=rate, seed=seed, epochs=task.options.epochs,
                    batch_size=task.options.batch_size, exact_from=exact_from,
                    is_done=_is_done(task, data), on_checkpoint=partial(watch.look_at, net),
                    progress=False,
                )
                for net, (model, ((rate, _), seed)) in enumerate(zip(models, task.nets(), strict=True))
            )  # fmt: skip
        topologies = watch.finish(curves)
    return [
        Trial(task.set, task.activation, rate, gain, seed, task.settings, curve, tuple(topology))
        for ((rate, gain), seed), curve, topology in zip(task.nets(), curves, topologies, strict=True)
    ]


def run_missing(
    file: TrialFile,
    work: Callable[..., Sequence[StoredTrial]],
    tasks: Sequence[Any],
    data: Mapping[str, LabelledData],
    workforce: Workforce,
    label: str,
    show: ShowProgress,
) -> None:
    """Run the tasks of which a trial is missing; each trial is committed when its task is done.

    A task is always run whole: its result is then the same bit for bit, whatever an interruption
    has left of it.

    Args:
        work: (task, data of its set) -> its trials.
        tasks: of one kind, each with ``KIND``, ``set``, ``activation``, ``settings`` and ``nets()``.
        label: of the progress bar.
        show: it.
    """
    done = {
        (trial.data, trial.activation, trial.cell, trial.seed, trial.settings)
        for kind in {task.KIND for task in tasks}
        for trial in file.read_kind(kind)
    }
    missing = [
        task
        for task in tasks
        if not {(task.set, task.activation, *net, task.settings) for net in task.nets()} <= done
    ]
    results = workforce.run(work, [(task, data[task.set]) for task in missing])
    for trials in track(results, label, show=show, total=len(missing)):
        file.add(trials)


def rank_cell(curves: Sequence[Curve]) -> tuple[float, float, float]:
    """Smaller is better: seeds that missed, median epochs, then the final accuracy."""
    times = [curve.epochs_to(CHOOSE_BY) for curve in curves]
    middle = median(math.inf if t is None else t for t in times)
    final = median(curve.train_accuracy[-1] for curve in curves)
    return times.count(None), middle, -final


def _is_done(task: Task, data: LabelledData) -> Callable[[float, float], bool]:
    if task.choosing:
        return lambda train, test: train >= CHOOSE_BY
    stop_at, test_target = task.options.stop_at, task.options.test_target
    if test_target is None or not len(data.test_inputs):
        return lambda train, test: train >= stop_at
    return lambda train, test: train >= stop_at and test >= test_target


class _GiveUp:
    """Which nets can no longer make their cell the best one.

    Once every seed of a cell has arrived, with median m, another cell wins only by a median of at most
    m. The median of a cell whose missing seeds all arrived now is the least that it can still have; above
    m it has lost. So the choice is the one that training to the cap would make.
    """

    def __init__(self, task: Task) -> None:
        n = len(task.seeds)
        self._cells = [range(i * n, (i + 1) * n) for i in range(len(task.cells))]

    def __call__(self, progress: Progress) -> list[int]:
        best = math.inf
        least: list[float] = []
        for cell in self._cells:
            times = [epochs_to(CHOOSE_BY, progress.train_accuracy[i], progress.epochs[i]) for i in cell]
            least.append(median(progress.epoch if t is None else t for t in times))
            if all(t is not None for t in times):
                best = min(best, least[-1])
        running = set(progress.running)
        lost = [cell for cell, time in zip(self._cells, least, strict=True) if time > best]
        return [net for cell in lost for net in cell if net in running]


def measured_samples(data: LabelledData) -> tuple[Tensor, Tensor]:
    """Inputs and labels whose topology is measured: train and test together, to have them dense."""
    return torch.cat([data.inputs, data.test_inputs]), torch.cat([data.labels, data.test_labels])


class _Watch:
    """The Betti numbers of some nets of a task along their training."""

    def __init__(self, task: Task, data: LabelledData, models: list[nn.Module]) -> None:
        self._models = models
        self._batches = batches_an_epoch(len(data.inputs), task.options.batch_size)
        first = set(task.seeds[: task.options.topology])
        self._monitors: dict[int, Monitor] = {}
        self._next = [0.0] * len(models)
        if task.scale is None:
            return
        probe = [measured_samples(data)]
        for i, (_, seed) in enumerate(task.nets()):
            if seed in first:
                self._monitors[i] = Monitor(
                    models[i], probe, layers=_layers(models[i]), scale=task.scale,
                    max_points=WATCHED_POINTS, background=False, untangling=False,
                )  # fmt: skip
                self._record(i, 0)

    def look(self, progress: Progress) -> None:
        for i in self._monitors.keys() & set(progress.running):
            if self._is_due(i, progress.epoch):
                with torch.no_grad():
                    nn.utils.vector_to_parameters(
                        progress.parameters[i].clone(), self._models[i].parameters()
                    )
                self._record(i, progress.epoch)

    def look_at(self, net: int, epoch: float) -> None:
        if net in self._monitors and self._is_due(net, epoch):
            self._record(net, epoch)

    def _is_due(self, net: int, epoch: float) -> bool:
        """Whether the epochs have grown by the share after which Betti numbers are read again."""
        due = epoch >= self._next[net]
        if due:
            self._next[net] = epoch * (1 + TOPOLOGY_GROWTH)
        return due

    def finish(self, curves: Sequence[Curve]) -> list[list[TopologyRow]]:
        """The rows of each net, the end of its training among them."""
        for i in self._monitors:
            self._record(i, curves[i].epochs[-1])
        return [self._rows(i) for i in range(len(self._models))]

    def _record(self, net: int, epoch: float) -> None:
        # A monitor counts in whole numbers: steps here. A diverged net has no topology.
        if all(bool(p.isfinite().all()) for p in self._models[net].parameters()):
            self._monitors[net].record(round(epoch * self._batches))

    def _rows(self, net: int) -> list[TopologyRow]:
        if net not in self._monitors:
            return []
        return [
            TopologyRow(
                (row.epoch or 0) / self._batches, row.layer, row.label, row.n_points, row.b0, row.b1
            )
            for row in self._monitors[net].profile.rows
        ]


def _layers(model: nn.Module) -> list[str]:
    """The activations of the built-in nets; every leaf of another."""
    names = [name for name, _ in model.named_modules()]
    return ["act*"] if any(name.startswith("act") for name in names) else ["*"]
