"""Study: epochs to a target accuracy for several activations, every one tuned alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from unknot.core.console import track
from unknot.core.errors import InputError, MissingFile
from unknot.core.showing.frames import html_table
from unknot.core.workforce import Workforce
from unknot.nets.data import Data, LabelledData, TaskKind
from unknot.study.options import (
    DEFAULTS,
    NewActivation,
    NewNet,
    StudyOptions,
    named_factories,
    named_sets,
    task_of,
)
from unknot.study.results import (
    TARGETS,
    StudyComparisons,
    StudyRows,
    compare_rows,
    rows_of,
    summarize_trials,
)
from unknot.study.task import WATCHED_POINTS, Task, measured_samples, rank_cell, run_task
from unknot.study.trials import REGRESSION, SELECTION_SEED, Curve, Trial, TrialFile, Trials, TrialSettings
from unknot.topology.calibration import calibrate
from unknot.topology.scale import Scale


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
        self._file = TrialFile(path)
        self.path = self._file.path

    def run(
        self,
        sets: Mapping[str, Data],
        activations: Sequence[str] | Mapping[str, NewActivation],
        *,
        seeds: int = DEFAULTS.seeds,
        epochs: int = DEFAULTS.epochs,
        learning_rates: Sequence[float] = DEFAULTS.learning_rates,
        gains: Sequence[float] = DEFAULTS.gains,
        selection_seeds: int = DEFAULTS.selection_seeds,
        net: NewNet | None = DEFAULTS.net,
        width: int = DEFAULTS.width,
        depth: int = DEFAULTS.depth,
        batch_size: int = DEFAULTS.batch_size,
        stop_at: float = DEFAULTS.stop_at,
        test_target: float | None = DEFAULTS.test_target,
        topology: int = DEFAULTS.topology,
        task: TaskKind = DEFAULTS.task,
        jobs: int = 1,
        cluster: str | None = None,
        progress: bool = False,
    ) -> None:
        """Train every missing trial: one net for each set, activation, learning rate, gain and seed.

        Every activation gets the same grid. Where the grid has more than one cell, each cell is run on
        ``selection_seeds`` seeds of its own, and ``seeds`` fresh ones are run on the best cell alone:
        the one whose seeds reach 99 % train accuracy most often, then soonest by median, then with the
        best final accuracy. Cells that can no longer win are given up early; the choice is the same.

        All nets of an activation train together as one stack (`unknot.study.stacked_training`); nets with
        buffers, such as those of batch normalisation, one after another.

        Args:
            sets: {name: data}, each what `labelled_data` takes: a pair ``(inputs [n, ...], labels [n])``
                has no test samples. Inputs are trained on as float32.
            activations: built-in names, or {name: factory}.
            seeds: reported ones.
            epochs: the cap; what has not reached a target by then is censored.
            learning_rates: of Adam; with ``gains`` the grid.
            gains: multiples of the variance-preserving gain of each activation.
            selection_seeds: seeds that choose a cell and are not reported.
            net: ``(data, factory) -> module``; None is an MLP of ``depth`` hidden layers of ``width``.
            width: units of a hidden layer of the MLP.
            depth: hidden layers of the MLP.
            batch_size: samples a step.
            stop_at: a trial ends once its train accuracy is this high,
            test_target: and its test accuracy this; None: the test accuracy does not count.
            topology: of so many seeds of each chosen cell Betti numbers are measured along the training,
                on at most 10,000 samples, at the scale that `calibrate` finds for them.
            task: "classes", "regression" (targets are numbers; scores are R^2 wherever accuracy is said),
                or "auto": by the labels, see `labelled_data`.
            jobs: processes; each trains one activation on one set at a time.
            cluster: address of a Dask scheduler whose workers train instead, while this process alone
                writes the file; see `Workforce`. None: this machine.
            progress: show a bar on stderr where that is a terminal.

        Raises:
            InputError: an unknown activation, bad numbers, data that cannot be trained on, a cluster that
                is not there or goes (what is done is in the file).
        """
        options = StudyOptions(
            seeds=seeds, epochs=epochs, learning_rates=learning_rates, gains=gains,
            selection_seeds=selection_seeds, net=net, width=width, depth=depth, batch_size=batch_size,
            stop_at=stop_at, test_target=test_target, topology=topology, task=task,
        )  # fmt: skip
        self.run_with(options, sets, activations, Workforce(jobs, cluster), progress=progress)

    def run_with(
        self,
        options: StudyOptions,
        sets: Mapping[str, Data],
        activations: Sequence[str] | Mapping[str, NewActivation],
        workforce: Workforce,
        *,
        progress: bool = False,
    ) -> None:
        """What `run` does, with its numbers in one object.

        Args:
            options: the grid, the nets and how they are trained.
            sets, activations, progress: as of `run`.
            workforce: the processes that train; closed at the end.

        Raises:
            InputError: as of `run`.
        """
        data = named_sets(sets, options.task)
        factories = named_factories(activations)
        settings = {name: options.settings(samples) for name, samples in data.items()}
        tasks = [
            Task(name, activation, new_activation, options, settings[name], options.cells, seeds=())
            for name, (activation, new_activation) in product(data, factories.items())
        ]
        for task in tasks:
            options.try_net(data[task.set], task.activation, task.new_activation)
            if options.topology and task_of(data[task.set]) == REGRESSION:
                raise InputError(
                    f"topology = {options.topology} on set {task.set}, whose targets are numbers",
                    "classes, whose Betti numbers can be counted",
                    "leave topology out",
                )
        with self._file.claimed(), workforce:
            if options.chooses:
                numbers = tuple(range(SELECTION_SEED, SELECTION_SEED + options.selection_seeds))
                choosing = [replace(task, seeds=numbers, choosing=True) for task in tasks]
                self._run_missing(choosing, data, "choosing cells", workforce, progress)
            scales = {name: _scale(samples) for name, samples in data.items() if options.topology}
            trials = self._file.read()
            reported = [
                replace(
                    task,
                    cells=(_best_cell(trials, task),),
                    seeds=tuple(range(options.seeds)),
                    scale=scales.get(task.set),
                )
                for task in tasks
            ]
            self._run_missing(reported, data, "trials", workforce, progress)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}: {len(self._file.read()):,} trials)"

    def _repr_html_(self) -> str:
        rows = rows_of(Trials(self._file.read()))
        return html_table(rows._columns() if rows else {}, repr(self))

    def to_frame(self) -> Any:
        """A pandas DataFrame of one row a trial, those that chose cells included: see `Trials.to_frame`.

        ``study.summary().to_frame()`` is that of the table.

        Raises:
            InputError: pandas is not installed.
        """
        return self.trials().to_frame()

    def plot(
        self,
        ax: Any = None,
        *,
        target: float | None = None,
        split: Literal["train", "test"] = "train",
        kind: Literal["strip", "survival"] = "strip",
    ) -> Any:
        """Draw the epochs to one target of the reported seeds, as `StudyRows.plot`.

        Args:
            ax: matplotlib axes; None makes new ones.
            target: accuracy; None: 99 % where the trials went so far, else what they were trained to.
            split, kind: as of `StudyRows.plot`.

        Returns:
            The axes.

        Raises:
            InputError: no trials, none of this target and split, matplotlib is not installed.
        """
        trials = self.trials()
        rows = rows_of(trials) if target is None else summarize_trials(trials, [target], split=split)
        return rows.plot(ax, target=target, split=split, kind=kind)

    def trials(self) -> Trials:
        """Everything that was run, sorted.

        Raises:
            MissingFile: there is no file yet.
        """
        if not self.path.exists():  # a name mistyped would pass for a study without trials
            raise MissingFile(
                f"study {self.path}, which is not there",
                "the file of a study that was run",
                "check the path, or call its run first",
            )
        return Trials(self._file.read())

    def summary(self, targets: Iterable[float] = TARGETS, *, split: str = "train") -> StudyRows:
        """One row for each set, activation, reported cell and target, from the reported seeds alone.

        Targets beyond the ones at which the trials ended are left out, and with ``split="test"`` sets
        without test samples.

        Args:
            targets: accuracies.
            split: "train" or "test": the samples whose accuracy counts.
        """
        return summarize_trials(self.trials(), targets, split=split)

    def compare(
        self, baseline: str, targets: Iterable[float] = TARGETS, *, split: str = "train"
    ) -> StudyComparisons:
        """Every activation against the baseline: ratio of medians, interval, log-rank test.

        The p-values of one target are corrected together, over all sets and activations (Holm, 1979).

        Args:
            baseline: name of the activation that the others are compared with.
            targets, split: as of `summary`.

        Raises:
            InputError: no trials of the baseline.
        """
        return compare_rows(self.summary(targets, split=split), baseline)

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
        done = {
            (trial.data, trial.activation, trial.cell, trial.seed, trial.settings)
            for trial in self._file.read()
        }
        missing = [task for task in tasks if not _keys(task) <= done]
        results = workforce.run(run_task, [(task, data[task.set]) for task in missing])
        for trials in track(results, label, show=progress, total=len(missing)):
            self._file.add(trials)


def _keys(task: Task) -> set[tuple[str, str, tuple[float, float], int, TrialSettings]]:
    return {(task.set, task.activation, cell, seed, task.settings) for cell, seed in task.nets()}


def _best_cell(trials: Iterable[Trial], task: Task) -> tuple[float, float]:
    if len(task.cells) == 1:
        return task.cells[0]
    curves: dict[tuple[float, float], list[Curve]] = {cell: [] for cell in task.cells}
    wanted = (task.set, task.activation, task.settings)
    for trial in trials:
        if not trial.reported and (trial.data, trial.activation, trial.settings) == wanted:
            curves[trial.cell].append(trial.curve)
    return min(task.cells, key=lambda cell: rank_cell(curves[cell]))


def _scale(data: LabelledData) -> Scale:
    points, labels = measured_samples(data)
    return calibrate(points.flatten(1).double().numpy(), labels.numpy(), max_points=WATCHED_POINTS)
