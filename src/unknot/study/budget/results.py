"""What trials by budget come to: scores, differences to a baseline, and seconds to a target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unknot.core.errors import InputError, require_choice, require_number
from unknot.core.showing.frames import Rows
from unknot.study.budget.charts import draw_budgets, draw_differences, draw_seconds
from unknot.study.budget.pairs import Values, differences, greater_p, median_of
from unknot.study.budget.trials import BudgetTrial
from unknot.study.budget.tuning import chosen_by
from unknot.study.survival import censored_median, correct, median_interval, p_text

Metric = Literal["score", "loss"]


@dataclass(frozen=True)
class BudgetRow:
    """How good the chosen cell of one activation on one set is after one budget.

    Attributes:
        set, activation: names.
        learning_rate, gain: the cell that was chosen for this budget; gain multiplies the
            variance-preserving one.
        at: the budget.
        unit: "epochs" or "seconds".
        schedule: of the learning rate, "cosine" or "constant".
        metric: "accuracy" or "cross entropy" (nats), "R^2" or "RMSE" (in the unit of the targets).
        seeds: how many were run.
        scores: one a seed, of the metric; None where the net had diverged.
        median: of them, a net that diverged counting as worse than all others; None where that is the
            median.
        low, high: the 95 % interval of the median by the sign test; None of fewer than six seeds, and
            for an end that had diverged.
        split: "test": the samples on which it was read.
        net: that was trained.
    """

    set: str
    activation: str
    learning_rate: float
    gain: float
    at: float
    unit: str
    schedule: str
    metric: str
    seeds: int
    scores: tuple[float | None, ...]
    median: float | None
    low: float | None
    high: float | None
    split: str = "test"
    net: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Whether the metric is a score and no loss."""
        return self.metric in ("accuracy", "R^2")

    @property
    def worst(self) -> float:
        """What stands for a net that diverged."""
        return -math.inf if self.higher_is_better else math.inf


class BudgetRows(Rows[BudgetRow]):
    """Scores after budgets: a tuple of `BudgetRow` that can be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the scores over the budgets: a mark a seed, a line through the medians, their intervals.

        Args:
            ax: matplotlib axes; None makes new ones, one for each set and kind of training.

        Returns:
            The axes, or an array of them where there are several.

        Raises:
            InputError: no rows, several sets or kinds of training for one ``ax``, matplotlib is not
                installed.
        """
        return draw_budgets(ax, self)


@dataclass(frozen=True)
class BudgetComparison:
    """One activation against the baseline after one budget, seed by seed.

    Attributes:
        set, activation, baseline: names.
        at, unit, schedule, metric: as of `BudgetRow`.
        difference: median over the seeds of the activation's less the baseline's; None where it is not
            finite, because nets diverged.
        low, high: its 95 % interval by the sign test; None of fewer than six seeds.
        p: one-sided, of the activation being no better: exact, by signed ranks (Wilcoxon, 1945). Better
            is higher for a score, lower for a loss.
        p_holm: corrected for all comparisons after this budget (Holm, 1979).
    """

    set: str
    activation: str
    baseline: str
    at: float
    unit: str
    schedule: str
    metric: str
    difference: float | None
    low: float | None
    high: float | None
    p: float
    p_holm: float


class BudgetComparisons(Rows[BudgetComparison]):
    """Activations against a baseline after budgets: a tuple of `BudgetComparison` that can be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the differences with their intervals.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no rows, rows of several metrics, matplotlib is not installed.
        """
        return draw_differences(ax, self)


@dataclass(frozen=True)
class SecondsRow:
    """Seconds of this machine to a target on test samples, those of the tuning counted.

    Attributes:
        set, activation: names.
        at: the budget of seconds for which the cell was chosen, and after which a net was given up.
        schedule: of the learning rate, "cosine" or "constant".
        metric, target: what was to be reached.
        tuning: seconds of all trainings that chose the cell, one thread each.
        seeds, reached: how many were run, and reached the target.
        seconds: one a seed, of training alone; None when censored (not reached within the budget).
        median: over all seeds, counting a censored one as longer than the budget; None where the median
            itself is censored.
        total: ``tuning`` and ``median``; None where that is.
    """

    set: str
    activation: str
    at: float
    schedule: str
    metric: str
    target: float
    tuning: float
    seeds: int
    reached: int
    seconds: tuple[float | None, ...]
    median: float | None
    total: float | None


class SecondsRows(Rows[SecondsRow]):
    """Seconds to a target: a tuple of `SecondsRow` that can be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the seconds of tuning and of a training as bars; what was not reached has tuning alone.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        return draw_seconds(ax, self)


@dataclass(frozen=True)
class BudgetInWords:
    """A row as tables show it, empty where there is nothing to say.

    Attributes:
        row: the numbers.
        score: the median with its interval in brackets; of few seeds from the least to the most.
        difference: to the baseline, with its interval.
        p: one-sided, corrected.
    """

    row: BudgetRow
    score: str
    difference: str
    p: str


def budgets_in_words(
    rows: Sequence[BudgetRow], comparisons: Sequence[BudgetComparison] = ()
) -> list[BudgetInWords]:
    """The rows with what the comparisons say of each; of the baseline they say nothing."""
    found = {(c.set, c.activation, c.at, c.unit, c.schedule, c.metric): c for c in comparisons}
    texts = []
    for row in rows:
        score = "diverged" if row.median is None else f"{row.median:.4g}"
        known = [value for value in row.scores if value is not None]
        if row.low is not None or row.high is not None:
            score += _ends(row.low, row.high)
        elif len(known) > 1:
            score += f" ({min(known):.4g} to {max(known):.4g})"
        other = found.get((row.set, row.activation, row.at, row.unit, row.schedule, row.metric))
        apart = ""
        if other is not None:
            apart = "diverged" if other.difference is None else f"{other.difference:+.3g}"
            apart += "" if other.low is other.high is None else _ends(other.low, other.high, "+")
        texts.append(BudgetInWords(row, score, apart, "" if other is None else p_text(other.p_holm)))
    return texts


def _ends(low: float | None, high: float | None, sign: str = "") -> str:
    ends = ("diverged" if end is None else f"{end:{sign}.3g}" for end in (low, high))
    return f" [{', '.join(ends)}]"


def budget_rows(trials: Iterable[BudgetTrial], metric: Metric = "score") -> BudgetRows:
    """One row for each set, activation, budget and kind of training; see `Study.budgets`."""
    require_choice("metric", metric, ("score", "loss"))
    rows = []
    for (at, *_), seeds in _reported(trials).items():
        first, settings = seeds[0], seeds[0].settings
        name = settings.score_metric if metric == "score" else settings.loss_metric
        values = tuple(trial.curve.value(at, metric) for trial in seeds)
        row = BudgetRow(
            first.data, first.activation, *first.cell, at, settings.unit, settings.schedule, name,
            len(values), values, None, None, None, net=settings.net,
        )  # fmt: skip
        low, high = median_interval([row.worst if v is None else v for v in values])
        rows.append(replace(row, median=median_of(values, worst=row.worst), low=low, high=high))
    return BudgetRows(sorted(rows, key=lambda row: (row.unit, row.schedule, row.set, row.at)))


def compare_budget_rows(rows: Sequence[BudgetRow], baseline: str) -> BudgetComparisons:
    """Every row against the baseline's of its set and budget; see `Study.compare_budgets`."""
    names = dict.fromkeys(row.activation for row in rows)
    if not isinstance(baseline, str) or baseline not in names:
        raise InputError(f"baseline {baseline!r}", f"one of {', '.join(names)}", "run it too")
    families: dict[tuple[object, ...], list[BudgetComparison]] = {}
    for row in rows:
        family = (row.at, row.unit, row.schedule, row.metric)
        for base in rows:
            if row.activation == baseline or base.activation != baseline:
                continue
            if (base.set, base.net, base.at, base.unit, base.schedule, base.metric) == (
                row.set, row.net, *family,
            ):  # fmt: skip
                families.setdefault(family, []).append(_compared(base, row))
    corrected = []
    for items in families.values():
        for item, p in zip(items, correct([item.p for item in items]), strict=True):
            corrected.append(replace(item, p_holm=p))
    return BudgetComparisons(corrected)


def _compared(base: BudgetRow, row: BudgetRow) -> BudgetComparison:
    common = min(base.seeds, row.seeds)
    apart = differences(base.scores[:common], row.scores[:common], worst=row.worst)
    p = greater_p([d if row.higher_is_better else -d for d in apart])
    return BudgetComparison(
        row.set, row.activation, base.activation, row.at, row.unit, row.schedule, row.metric,
        median_of(apart, worst=row.worst), *median_interval(apart), p, p,
    )  # fmt: skip


def seconds_rows(trials: Sequence[BudgetTrial], target: float, metric: Metric = "score") -> SecondsRows:
    """One row for each set, activation and budget of seconds; see `Study.seconds_to`."""
    require_choice("metric", metric, ("score", "loss"))
    target = require_number("target", target, "a number", low=-1e300, high=1e300, example=0.9)
    rows = []
    for (at, *_), seeds in _reported(trials).items():
        first, settings = seeds[0], seeds[0].settings
        if settings.unit != "seconds":
            continue
        alike = [t for t in trials if (t.data, t.activation) == (first.data, first.activation)]
        tuning = sum(trial.curve.spent(at) for trial in chosen_by(alike, settings, at))
        times = tuple(_seconds_to(target, trial, at, metric) for trial in seeds)
        middle = censored_median(times)
        rows.append(
            SecondsRow(
                first.data, first.activation, at, settings.schedule,
                settings.score_metric if metric == "score" else settings.loss_metric, target, tuning,
                len(times), sum(t is not None for t in times), times, middle,
                None if middle is None else tuning + middle,
            )
        )  # fmt: skip
    return SecondsRows(sorted(rows, key=lambda row: (row.schedule, row.set, row.at)))


def _seconds_to(target: float, trial: BudgetTrial, at: float, metric: Metric) -> float | None:
    curve = trial.curve
    values: Values = curve.scores if metric == "score" else curve.losses
    for moment, taken, value in zip(curve.at, curve.times, values, strict=True):
        good = value is not None and (value >= target if metric == "score" else value <= target)
        if good and moment <= at:
            return taken
    return None


def _reported(trials: Iterable[BudgetTrial]) -> dict[tuple[Any, ...], list[BudgetTrial]]:
    """{(budget, set, activation, cell, settings whatever else was read): trials, one a seed}."""
    groups: dict[tuple[Any, ...], dict[int, BudgetTrial]] = {}
    for trial in trials:
        for at in trial.settings.at if trial.reported else ():
            alike = replace(trial.settings, at=(at,))
            key = (at, trial.data, trial.activation, trial.cell, alike)
            groups.setdefault(key, {}).setdefault(trial.seed, trial)
    return {key: [seeds[seed] for seed in sorted(seeds)] for key, seeds in groups.items()}
