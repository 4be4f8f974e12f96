"""Study: epochs to a target accuracy for several activations, every one tuned alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError, MissingFile
from unknot.core.keywords import spelled_out
from unknot.core.showing.frames import Rows, html_table
from unknot.core.tables import Task as TaskKind
from unknot.core.workforce import Workforce
from unknot.nets.data import Data, LabelledData
from unknot.study.budget.options import BudgetKeywords, BudgetOptions
from unknot.study.budget.results import (
    BudgetComparisons,
    BudgetRows,
    SecondsRows,
    budget_rows,
    compare_budget_rows,
    seconds_rows,
)
from unknot.study.budget.trials import BudgetTrial
from unknot.study.budget.tuning import run_budgets_with
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
from unknot.study.task import WATCHED_POINTS, Task, measured_samples, rank_cell, run_missing, run_task
from unknot.study.trials import REGRESSION, SELECTION_SEED, Curve, Trial, TrialFile, Trials
from unknot.topology.calibration import calibrate
from unknot.topology.scale import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Study:
    """Trials in an SQLite file; a trial is committed when it is done and never done twice.

    >>> study = uk.Study("study.sqlite")                                       # doctest: +SKIP
    >>> study.run({"rings": (x, y)}, ["relu", "zfold"], seeds=5, epochs=60)    # doctest: +SKIP
    >>> study.summary()                                                        # doctest: +SKIP

    Args:
        path: the file; a missing one is created by the first `run`, and ends in ``.sqlite``,
            ``.sqlite3`` or ``.db``.

    Raises:
        InputError: the file is not a study, or a new one ends otherwise.
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
        progress: ShowProgress = "auto",
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
            progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

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
        progress: ShowProgress = "auto",
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
                run_missing(self._file, run_task, choosing, data, workforce, "choosing cells", progress)
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
            run_missing(self._file, run_task, reported, data, workforce, "trials", progress)

    def __repr__(self) -> str:
        by_budget = len(self._file.read_kind(BudgetTrial))
        more = f", {by_budget:,} by budget" if by_budget else ""
        return f"Study({str(self.path)!r}: {len(self._file.read()):,} trials{more})"

    def _repr_html_(self) -> str:
        rows: Rows[Any] = rows_of(self._file.read())
        rows = rows or budget_rows(self._file.read_kind(BudgetTrial))
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

    @spelled_out(BudgetOptions)
    def run_budgets(
        self,
        sets: Mapping[str, Data],
        activations: Sequence[str] | Mapping[str, NewActivation],
        *,
        jobs: int = 1,
        cluster: str | None = None,
        progress: ShowProgress = "auto",
        **options: Unpack[BudgetKeywords],
    ) -> None:
        """Train every missing trial that tells how good nets are after so many epochs or seconds.

        For each budget a cell of the grid is chosen by itself: on ``selection_seeds`` seeds of its own,
        by the median accuracy (or R^2), then by the median loss, on a fifth of the training samples that
        is kept apart (stratified, the same for all). Then ``seeds`` fresh ones are trained on all
        training samples and read on the test samples, on which nothing was chosen.

        Args:
            sets: {name: data}, each what `labelled_data` takes, with test samples:
                ``((inputs, labels), (test inputs, test labels))``.
            activations: built-in names, or {name: factory}.
            jobs: processes; each trains one activation on one set at a time. 1 where ``unit`` is seconds.
            cluster: as of `run`.
            progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.
            options: see `BudgetOptions`.

        Raises:
            InputError: as of `run`; no test samples, or too few training samples to choose by; several
                processes where seconds are counted.
        """
        told = BudgetOptions(**options)
        run_budgets_with(self._file, told, sets, activations, Workforce(jobs, cluster), progress=progress)

    def budgets(self, *, metric: Literal["score", "loss"] = "score") -> BudgetRows:
        """How good each activation is after each budget of `run_budgets`; no rows where none was run.

        Args:
            metric: "score": accuracy, or R^2 where the targets are numbers; "loss": cross entropy in
                nats, or the root of the mean squared error in the unit of the targets.

        Raises:
            MissingFile: there is no file yet.
        """
        return budget_rows(self._budget_trials(), metric)

    def compare_budgets(
        self, baseline: str, *, metric: Literal["score", "loss"] = "score"
    ) -> BudgetComparisons:
        """Every activation against the baseline after each budget: difference by seed, one-sided test.

        The p-values of one budget are corrected together, over all sets and activations (Holm, 1979).

        Args:
            baseline: name of the activation that the others are compared with.
            metric: as of `budgets`.

        Raises:
            InputError: no trials of the baseline.
        """
        return compare_budget_rows(self.budgets(metric=metric), baseline)

    def seconds_to(self, target: float, *, metric: Literal["score", "loss"] = "score") -> SecondsRows:
        """Wall clock to a target on test samples, the tuning counted, of what ran in seconds.

        After the time-to-result of AlgoPerf (Dahl et al., 2023): the seconds of all trainings that chose
        the cell, and the median of those of a training of the chosen one.

        Args:
            target: accuracy or R^2 to be reached; with ``metric="loss"`` the loss to fall to.
            metric: as of `budgets`.

        Raises:
            MissingFile: there is no file yet.
        """
        return seconds_rows(self._budget_trials(), target, metric)

    def _budget_trials(self) -> list[BudgetTrial]:
        self.trials()  # which says where there is no file
        return self._file.read_kind(BudgetTrial)


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
