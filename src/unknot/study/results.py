"""What the trials of a study come to: epochs to target, comparisons, and both in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from unknot.core.errors import InputError, require_choice, require_items, require_share
from unknot.study.survival import (
    Comparison,
    censored_median,
    compare,
    correct,
    median_text,
    p_text,
    range_text,
    ratio_text,
)
from unknot.study.trials import Trial

TARGETS = (0.95, 0.99, 0.999)
"""The train accuracies that are usually reported."""


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
) -> tuple[StudyRow, ...]:
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
                    first.settings.epochs, first.settings.net,
                )
            )  # fmt: skip
    return tuple(rows)


def compare_rows(rows: Sequence[StudyRow], baseline: str) -> tuple[StudyComparison, ...]:
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
    return tuple(corrected)


def rows_in_words(
    rows: Sequence[StudyRow], comparisons: Sequence[StudyComparison] = ()
) -> list[RowInWords]:
    """The rows with what the comparisons say of each; of the baseline they say nothing."""
    results = {(c.set, c.activation, c.target, c.split): c.result for c in comparisons}
    texts = []
    for row in rows:
        result = results.get((row.set, row.activation, row.target, row.split))
        ratio, p = ("", "") if result is None else (ratio_text(result), p_text(result.p_holm))
        texts.append(RowInWords(row, median_text(row.epochs), range_text(row.epochs), ratio, p))
    return texts


def _reported(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The reported trials, those of one set, activation, cell and settings together."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        if trial.reported:
            key = (trial.data, trial.activation, trial.cell, trial.settings)
            groups.setdefault(key, []).append(trial)
    return list(groups.values())
