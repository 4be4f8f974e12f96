"""Study: epochs to a target accuracy for several activations, every one tuned alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.core.console import track
from unknot.core.errors import InputError, require_count
from unknot.core.workforce import Workforce
from unknot.nets.data import LabelledData
from unknot.nets.models import mlp
from unknot.study.survival import Comparison, censored_median, compare, correct
from unknot.study.task import (
    WATCHED_POINTS,
    NewActivation,
    NewNet,
    Task,
    measured_samples,
    rank_cell,
    run_task,
)
from unknot.study.trials import SELECTION_SEED, Trial, TrialFile, TrialSettings
from unknot.topology.calibration import calibrate

TARGETS = (0.95, 0.99, 0.999)
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
GAINS = (0.6, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class StudyRow:
    """Epochs to one target for the chosen cell of one activation on one set.

    Attributes:
        set: name of the data.
        activation: its name.
        learning_rate, gain: the chosen cell; gain multiplies the variance-preserving one.
        target: accuracy.
        seeds: how many were run.
        reached: how many reached the target.
        epochs: one a seed, in fractions of an epoch; None when censored (not reached within the cap).
        median: over all seeds, counting a censored one as longer than the cap; None where the median
            itself is censored.
        split: "train" or "test": on which accuracy was read.
        cap: epochs after which a seed was given up.
        net: that was trained.
    """

    set: str
    activation: str
    learning_rate: float
    gain: float
    target: float
    seeds: int
    reached: int
    epochs: tuple[float | None, ...]
    median: float | None
    split: str = "train"
    cap: int | None = None
    net: str = ""


@dataclass(frozen=True)
class StudyComparison:
    """One activation against the baseline, on one set and target; see `Comparison`."""

    set: str
    activation: str
    baseline: str
    target: float
    split: str
    result: Comparison


class Study:
    """Trials in an SQLite file; a trial is committed when it is done and never done twice.

    >>> study = uk.Study("study.sqlite")                                       # doctest: +SKIP
    >>> study.run({"rings": (x, y)}, ["relu", "zfold"], seeds=5, epochs=60)    # doctest: +SKIP
    >>> study.summary()                                                        # doctest: +SKIP

    Args:
        path: the file; a missing one is created by the first `run`.

    Raises:
        InputError: the file is not a study.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = TrialFile(path)

    def run(  # noqa: PLR0913 (each is one decision of the user's)
        self,
        sets: Mapping[str, LabelledData | tuple[Tensor, Tensor]],
        activations: Sequence[str] | Mapping[str, NewActivation],
        *,
        seeds: int = 5,
        epochs: int = 60,
        learning_rates: Sequence[float] = LEARNING_RATES,
        gains: Sequence[float] = GAINS,
        selection_seeds: int = 3,
        net: NewNet | None = None,
        width: int = 50,
        depth: int = 6,
        batch_size: int = 128,
        stop_at: float = 0.999,
        test_target: float | None = 0.99,
        topology: int = 0,
        jobs: int = 1,
        cluster: str | None = None,
        progress: bool = False,
    ) -> None:
        """Train every missing trial: one net a set, activation, learning rate, gain and seed.

        Every activation gets the same grid. Where the grid has more than one cell, each cell is run on
        ``selection_seeds`` seeds of its own, and ``seeds`` fresh ones are run on the best cell alone:
        the one whose seeds reach 99 % train accuracy most often, then soonest by median, then with the
        best final accuracy. Cells that can no longer win are given up early; the choice is the same.

        All nets of an activation train together as one stack (`unknot.study.stacked_training`); nets with
        buffers, such as those of batch normalisation, one after another.

        Args:
            sets: {name: data}; a pair ``(inputs float [n, ...], labels int64 [n])`` has no test samples.
            activations: built-in names, or {name: factory}.
            seeds: reported ones.
            epochs: the cap; what has not reached a target by then is censored.
            gains: multiples of the variance-preserving gain of each activation.
            net: ``(data, factory) -> module``; None is an MLP of ``depth`` hidden layers of ``width``.
            stop_at: a trial ends once its train accuracy is this high,
            test_target: and its test accuracy this; None: the test accuracy does not count.
            topology: of so many seeds of each chosen cell Betti numbers are measured along the training,
                on at most 10,000 samples, at the scale that `calibrate` finds for them.
            jobs: processes; each trains one activation on one set at a time.
            cluster: a Dask scheduler whose workers do so instead, while this process alone writes the
                file; see `Workforce`.

        Raises:
            InputError: an unknown activation, bad numbers, data that cannot be trained on, a cluster that
                is not there or goes (what is done is in the file).
        """
        factories = _factories(activations)
        cells = _grid(learning_rates, gains)
        data = {name: _as_data(name, given) for name, given in sets.items()}
        new_net = partial(_mlp, width=width, depth=depth) if net is None else net
        shared = TrialSettings(
            net=f"mlp {depth} x {width}" if net is None else _name(net),
            epochs=require_count("epochs", epochs),
            batch_size=require_count("batch_size", batch_size),
            train_target=stop_at,
            test_target=test_target,
            grid=json.dumps(cells),
            selection_seeds=require_count("selection_seeds", selection_seeds) if len(cells) > 1 else 0,
            data="",
        )
        settings = {name: replace(shared, data=_digest(found)) for name, found in data.items()}
        require_count("seeds", seeds)
        require_count("topology", topology, minimum=0)
        workforce = Workforce(jobs, cluster)
        pairs = [
            Task(name, activation, factory, new_net, cells, (), settings[name], choosing=True)
            for name, (activation, factory) in product(data, factories.items())
        ]
        for task in pairs:
            _try_net(task, data[task.set])
        with self._file.claimed(), workforce:
            if len(cells) > 1:
                numbers = tuple(range(SELECTION_SEED, SELECTION_SEED + shared.selection_seeds))
                tasks = [replace(task, seeds=numbers) for task in pairs]
                self._run_missing(tasks, data, "choosing cells", workforce, progress)
            scales = {}
            if topology:
                for name, found in data.items():
                    points, labels = measured_samples(found)
                    scales[name] = calibrate(
                        points.flatten(1).double().numpy(), labels.numpy(), max_points=WATCHED_POINTS
                    )
            trials = self._file.read()
            final = [
                replace(
                    task,
                    cells=(_best_cell(trials, task),),
                    seeds=tuple(range(seeds)),
                    choosing=False,
                    watched=topology,
                    scale=scales.get(task.set),
                )
                for task in pairs
            ]
            self._run_missing(final, data, "trials", workforce, progress)

    def trials(self) -> tuple[Trial, ...]:
        """Everything that was run, sorted."""
        return tuple(self._file.read())

    def summary(
        self, targets: Iterable[float] = TARGETS, *, split: str = "train"
    ) -> tuple[StudyRow, ...]:
        """One row for each set, activation, reported cell and target, from the reported seeds alone.

        Targets beyond the ones at which the trials ended are left out, and with ``split="test"`` sets
        without test samples.
        """
        if split not in ("train", "test"):
            raise InputError(f"split = {split!r}", "'train' or 'test'", "pass one of them")
        rows = []
        for trials in _reported(self._file.read()):
            first = trials[0]
            limit = first.settings.train_target if split == "train" else first.settings.test_target
            if split == "test" and not all(trial.curve.test_accuracy for trial in trials):
                continue
            for target in targets:
                if limit is None or target > limit:
                    continue
                found = tuple(trial.curve.epochs_to(target, split) for trial in trials)
                rows.append(
                    StudyRow(
                        first.data, first.activation, *first.cell, target, len(found),
                        sum(e is not None for e in found), found, censored_median(found), split,
                        first.settings.epochs, first.settings.net,
                    )
                )  # fmt: skip
        return tuple(rows)

    def compare(
        self, baseline: str, targets: Iterable[float] = TARGETS, *, split: str = "train"
    ) -> tuple[StudyComparison, ...]:
        """Every activation against the baseline: ratio of medians, interval, log-rank test.

        The p-values of one target are corrected together, over all sets and activations (Holm, 1979).

        Raises:
            InputError: no trials of the baseline.
        """
        rows = self.summary(targets, split=split)
        if baseline not in {row.activation for row in rows}:
            names = dict.fromkeys(row.activation for row in rows)
            raise InputError(f"baseline {baseline!r}", f"one of {', '.join(names)}", "run it too")
        found: dict[float, list[StudyComparison]] = {}
        for row in rows:
            bases = [
                base for base in rows
                if (base.set, base.target, base.activation) == (row.set, row.target, baseline)
            ]  # fmt: skip
            for base in bases if row.activation != baseline else ():
                common = min(base.seeds, row.seeds)
                result = compare(
                    base.epochs[:common], row.epochs[:common], caps=(base.cap or 0, row.cap or 0)
                )
                found.setdefault(row.target, []).append(
                    StudyComparison(row.set, row.activation, baseline, row.target, split, result)
                )
        corrected = []
        for family in found.values():
            for item, p in zip(family, correct([i.result.p for i in family]), strict=True):
                corrected.append(replace(item, result=replace(item.result, p_holm=p)))
        return tuple(corrected)

    def _run_missing(
        self,
        tasks: list[Task],
        data: Mapping[str, LabelledData],
        label: str,
        workforce: Workforce,
        progress: bool,
    ) -> None:
        """Run the tasks of which a trial is missing; each is committed when it is done.

        A task is always run whole: its result is then the same bit for bit, whatever an interruption
        has left of it.
        """
        done = {_key(trial) for trial in self._file.read()}
        missing = [task for task in tasks if not _keys(task) <= done]
        results = workforce.run(run_task, [(task, data[task.set]) for task in missing])
        for trials in track(results, label, show=progress, total=len(missing)):
            self._file.add(trials)


def _key(trial: Trial) -> tuple[str, str, float, float, int, TrialSettings]:
    return trial.data, trial.activation, *trial.cell, trial.seed, trial.settings


def _keys(task: Task) -> set[tuple[str, str, float, float, int, TrialSettings]]:
    return {(task.set, task.activation, *cell, seed, task.settings) for cell, seed in task.nets()}


def _best_cell(trials: Iterable[Trial], task: Task) -> tuple[float, float]:
    if len(task.cells) == 1:
        return task.cells[0]
    curves = {
        cell: [
            trial.curve
            for trial in trials
            if not trial.reported
            and (trial.data, trial.activation, trial.settings, trial.cell)
            == (task.set, task.activation, task.settings, cell)
        ]
        for cell in task.cells
    }
    return min(task.cells, key=lambda cell: rank_cell(curves[cell]))


def _reported(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The reported trials, those of one set, activation, cell and settings together."""
    cells: dict[object, list[Trial]] = {}
    for trial in trials:
        if trial.reported:
            cells.setdefault((*_key(trial)[:4], trial.settings), []).append(trial)
    return list(cells.values())


def _grid(rates: Sequence[float], gains: Sequence[float]) -> tuple[tuple[float, float], ...]:
    cells = tuple((float(rate), float(gain)) for rate, gain in product(rates, gains))
    if not cells or not min(*rates, *gains) > 0:
        raise InputError(
            f"learning rates {list(rates)} x gains {list(gains)}",
            "at least one of each, all > 0",
            "pass e.g. learning_rates=(1e-3,), gains=(1.0,)",
        )
    return cells


def _try_net(task: Task, data: LabelledData) -> None:
    """Refuse a net that cannot be trained here and now, rather than in a process and later."""
    model = task.new_net(data, task.new_activation)
    with torch.no_grad():
        out = model.eval()(data.inputs[:2])
    classes = data.n_classes
    if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[1] < classes:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"net {task.settings.net} returning {shape} on set {task.set}",
            f"scores [n, at least {classes}]",
            "end it with a linear layer of one unit a class",
        )


def _name(net: NewNet) -> str:
    """It tells trials of two nets apart when they are resumed."""
    name = getattr(net, "name", None) or getattr(net, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InputError(f"net = {net}", "a function or object with a name", "define it with def")
    return name


def _mlp(data: LabelledData, activation: Callable[[], nn.Module], *, width: int, depth: int) -> nn.Module:
    size = data.inputs[0].numel()
    return mlp(size, data.n_classes, width=width, depth=depth, activation=activation)


def _as_data(name: str, given: LabelledData | tuple[Tensor, Tensor]) -> LabelledData:
    if isinstance(given, tuple):
        inputs, labels = given
        given = LabelledData(name, inputs, labels, inputs[:0], labels[:0])
    data = replace(given, name=name)
    if len(data.inputs) == 0 or len(data.inputs) != len(data.labels):
        raise InputError(
            f"set {name} with {len(data.inputs)} inputs and {len(data.labels)} labels",
            "as many of both, not none",
            "check the data",
        )
    if not bool(data.inputs.isfinite().all()):
        raise InputError(f"set {name} with NaN or infinite inputs", "finite numbers", "clean the data")
    return data


def _digest(data: LabelledData) -> str:
    """Tells two sets of one name apart."""
    found = hashlib.sha256()
    for tensor in (data.inputs, data.labels, data.test_inputs, data.test_labels):
        found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.contiguous().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _factories(
    activations: Sequence[str] | Mapping[str, NewActivation],
) -> dict[str, NewActivation]:
    if isinstance(activations, Mapping):
        return dict(activations)
    for name in activations:
        if name not in ACTIVATIONS:
            raise InputError(f"activation {name!r}", f"one of {', '.join(ACTIVATIONS)}", "pick one")
    return {name: ACTIVATIONS[name] for name in activations}
