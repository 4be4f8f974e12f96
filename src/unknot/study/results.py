"""What the trials of a study come to: epochs to target, comparisons, and both in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unknot.core.errors import InputError, require_choice, require_items, require_share
from unknot.core.showing import drawing
from unknot.core.showing.frames import Rows
from unknot.study.survival import (
    Comparison,
    censored_median,
    compare,
    correct,
    draw_strips,
    draw_survival,
    median_text,
    p_text,
    range_text,
    ratio_text,
    survival_curve,
)
from unknot.study.trials import Trial

TARGETS = (0.95, 0.99, 0.999)
"""The train accuracies that are usually reported."""

USUAL_TARGET = 0.99


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
        metric: what the target is of: "accuracy", or "R^2" where the targets of the data are numbers.
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
    metric: str = "accuracy"


class StudyRows(Rows[StudyRow]):
    """Epochs to target: a tuple of `StudyRow` that can be drawn."""

    def plot(
        self,
        ax: Any = None,
        *,
        target: float | None = None,
        split: Literal["train", "test"] = "train",
        kind: Literal["strip", "survival"] = "strip",
    ) -> Any:
        """Draw the epochs to one target: a mark a seed, or the share of seeds that are not there yet.

        A strip is one set and activation: a mark a seed, an upright line for the median, a thin one along
        the strip for its 95 % interval (by the sign test; six seeds or more), and what was not reached in
        a band of its own past every number.

        Args:
            ax: matplotlib axes; None makes new ones.
            target: accuracy; None: 99 % where it is among the rows, else the highest.
            split: "train" or "test": the samples whose accuracy counts.
            kind: "strip", or "survival" for Kaplan-Meier curves.

        Returns:
            The axes.

        Raises:
            InputError: no rows of this target and split, another kind, matplotlib is not installed.
        """
        require_choice("kind", kind, ("strip", "survival"))
        rows = self._at(target, split)
        (axes,) = drawing.axes_for(ax, 5.2, 1.4 + 0.4 * len(rows) if kind == "strip" else 3)
        names = list(dict.fromkeys(row.activation for row in self))
        sets = list(dict.fromkeys(row.set for row in self))
        texts = _row_names(rows)
        if kind == "strip":
            tones = [names.index(row.activation) for row in rows]
            caps = {row.cap for row in rows}
            shared = caps.pop() if len(caps) == 1 else None
            draw_strips(axes, texts, [row.epochs for row in rows], tones, shared)
        else:
            for row, text in zip(rows, texts, strict=True):
                i, j = names.index(row.activation), sets.index(row.set)
                style = {
                    "color": drawing.colour(i),
                    "linestyle": drawing.dash(j if len(sets) > 1 else i),
                    "label": drawing.short(text, 60),
                }
                draw_survival(axes, survival_curve(row.epochs, row.cap or _last(row)), **style)
            axes.legend(frameon=False, fontsize=drawing.SMALL)
        axes.set_title(f"epochs to {target_text(rows[0])}", fontsize="medium")
        return axes

    def _at(self, target: float | None, split: str) -> list[StudyRow]:
        require_choice("split", split, ("train", "test"))
        there = sorted({row.target for row in self if row.split == split})
        if target is None and there:
            target = USUAL_TARGET if USUAL_TARGET in there else there[-1]
        elif target is not None:
            target = require_share("target", target)
        rows = [row for row in self if row.split == split and row.target == target]
        if not rows:
            listed = ", ".join(f"{t:g}" for t in there)
            raise InputError(
                f"target = {target} on {split} samples",
                f"one of {listed}" if there else f"rows on {split} samples",
                "ask for one of these" if there else "run more trials, or ask for the other split",
            )
        return rows


def target_text(row: StudyRow) -> str:
    """What was to be reached: e.g. "99 % train accuracy"."""
    number = f"{100 * row.target:.4g} %" if row.metric == "accuracy" else f"{row.target:.4g}"
    return f"{number} {row.split} {row.metric}"


def _row_names(rows: Sequence[StudyRow]) -> list[str]:
    """Activations, with the set, the net or the cell where these tell rows apart."""
    sets = len({row.set for row in rows}) > 1
    names = [f"{row.set}, {row.activation}" if sets else row.activation for row in rows]
    return [
        f"{name} ({row.net + ', ' if row.net else ''}rate {row.learning_rate:g}, gain {row.gain:g})"
        if names.count(name) > 1
        else name
        for name, row in zip(names, rows, strict=True)
    ]


def _last(row: StudyRow) -> float:
    """In place of a cap that a row of an earlier version does not know."""
    return max((epochs for epochs in row.epochs if epochs is not None), default=1.0)


class StudyComparisons(Rows["StudyComparison"]):
    """Activations against a baseline: a tuple of `StudyComparison` that can be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the ratios of medians; beyond 1 fewer epochs than the baseline.

        Of five seeds or more with their 95 % intervals.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes. A lower bound is an arrow; what was not reached has no mark.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        drawing.require_rows(self, "a comparison")
        (axes,) = drawing.axes_for(ax, 5.2, 1.2 + 0.3 * len(self))
        many = len({(row.set, row.target, row.split) for row in self}) > 1
        where = [f"{row.set}, {100 * row.target:g} % {row.split}, " * many for row in self]
        for i, row in enumerate(self):
            result, tone = row.result, drawing.KEPT if (row.result.low or 0) > 1 else drawing.SOFT
            if result.ratio > 0:
                if result.low is not None and result.high is not None:
                    axes.plot([result.low, result.high], [i, i], color=tone, linewidth=2)
                axes.scatter(
                    [result.ratio], [i], color=tone, marker=">" if result.bound else "o", zorder=3
                )
        drawing.name_rows(axes, [f"{w}{row.activation}" for w, row in zip(where, self, strict=True)])
        axes.axvline(1, color=drawing.SOFT, linestyle="--", linewidth=1)
        drawing.log_axis(axes, "x")
        axes.set_xlabel(f"times fewer epochs than {drawing.short(self[0].baseline)}")
        drawing.plain(axes)
        return axes


@dataclass(frozen=True)
class StudyComparison:
    """One activation against the baseline, on one set and target.

    Attributes:
        set, activation, baseline: names.
        target: accuracy.
        split: "train" or "test": on which accuracy was read.
        result: how many times fewer epochs, with interval and p-value.
    """

    set: str
    activation: str
    baseline: str
    target: float
    split: str
    result: Comparison


@dataclass(frozen=True)
class RowInWords:
    """A row as tables show it: what is not a number is said in words, and what is missing is empty.

    Attributes:
        row: the numbers.
        median, range: of the epochs.
        ratio: times fewer epochs than the baseline, with its interval.
        p: of the log-rank test, corrected.
    """

    row: StudyRow
    median: str
    range: str
    ratio: str
    p: str


def summarize_trials(
    trials: Iterable[Trial], targets: Iterable[float], *, split: str = "train"
) -> StudyRows:
    """One row for each set, activation, reported cell and target; see `Study.summary`."""
    require_choice("split", split, ("train", "test"))
    items = require_items("targets", targets, "several accuracies", "pass e.g. [0.99]")
    targets, rows = tuple(require_share("target", target) for target in items), []
    for seeds in _reported(trials):
        first = seeds[0]
        limit = first.settings.train_target if split == "train" else first.settings.test_target
        if split == "test" and not all(trial.curve.test_accuracy for trial in seeds):
            continue
        for target in targets:
            if limit is None or target > limit:
                continue
            epochs = tuple(trial.curve.epochs_to(target, split) for trial in seeds)
            rows.append(
                StudyRow(
                    first.data, first.activation, *first.cell, target, len(epochs),
                    sum(e is not None for e in epochs), epochs, censored_median(epochs), split,
                    first.settings.epochs, first.settings.net, first.settings.metric,
                )
            )  # fmt: skip
    return StudyRows(rows)


def rows_of(
    trials: Sequence[Trial],
    targets: Iterable[float] | None = None,
    test_targets: Iterable[float] | None = None,
) -> StudyRows:
    """Epochs to target on train and then on test samples.

    Args:
        targets: train accuracies; None: the usual ones, and those that the trials were trained to.
        test_targets: test accuracies; None: those that the trials were trained to.
    """
    settings = [trial.settings for trial in trials]
    if targets is None:
        targets = sorted({*TARGETS, *(s.train_target for s in settings)})
    if test_targets is None:
        test_targets = sorted({s.test_target for s in settings if s.test_target is not None})
    on_test = summarize_trials(trials, test_targets, split="test")
    return StudyRows((*summarize_trials(trials, targets), *on_test))


def compare_rows(rows: Sequence[StudyRow], baseline: str) -> StudyComparisons:
    """Every row against the baseline's of its set, target and split; see `Study.compare`."""
    names = dict.fromkeys(row.activation for row in rows)
    if not isinstance(baseline, str) or baseline not in names:
        raise InputError(f"baseline {baseline!r}", f"one of {', '.join(names)}", "run it too")
    families: dict[tuple[float, str], list[StudyComparison]] = {}
    for row in rows:
        if row.activation == baseline:
            continue
        cell = (row.set, row.target, row.split, baseline)
        for base in rows:
            if (base.set, base.target, base.split, base.activation) != cell:
                continue
            common = min(base.seeds, row.seeds)
            caps = (base.cap or 0, row.cap or 0)
            result = compare(base.epochs[:common], row.epochs[:common], caps=caps)
            families.setdefault((row.target, row.split), []).append(
                StudyComparison(row.set, row.activation, baseline, row.target, row.split, result)
            )
    corrected = []
    for family in families.values():
        for item, p in zip(family, correct([i.result.p for i in family]), strict=True):
            corrected.append(replace(item, result=replace(item.result, p_holm=p)))
    return StudyComparisons(corrected)


def rows_in_words(
    rows: Sequence[StudyRow], comparisons: Sequence[StudyComparison] = ()
) -> list[RowInWords]:
    """The rows with what the comparisons say of each; of the baseline they say nothing."""
    results = {(c.set, c.activation, c.target, c.split): c.result for c in comparisons}
    texts = []
    for row in rows:
        result = results.get((row.set, row.activation, row.target, row.split))
        ratio, p = ("", "") if result is None else (ratio_text(result), p_text(result.p_holm))
        middle = median_text(row.epochs, row.cap)
        texts.append(RowInWords(row, middle, range_text(row.epochs), ratio, p))
    return texts


def _reported(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The reported trials, those of one set, activation, cell and settings together."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        if trial.reported:
            key = (trial.data, trial.activation, trial.cell, trial.settings)
            groups.setdefault(key, []).append(trial)
    return list(groups.values())
