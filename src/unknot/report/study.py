"""The report's section on speed: survival curves, epochs to target, comparisons, Betti numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unknot.core.errors import InputError
from unknot.report.profile import View
from unknot.study.study import TARGETS, Study, StudyComparison, StudyRow
from unknot.study.survival import RankCorrelation, survival_curve
from unknot.study.untangling import UntanglingRow, prediction, untangling_rows

USUAL_BASELINE = "relu"


@dataclass(frozen=True)
class StudyResults:
    """What a page shows of a study.

    Attributes:
        rows: epochs to target, on train and on test samples.
        comparisons: with the baseline: ReLU where it was run, else the first activation.
        falls: of the Betti numbers, summed over layers.
        predicts: whether a fast fall goes with fast training; None where there are too few cells.
    """

    rows: tuple[StudyRow, ...]
    comparisons: tuple[StudyComparison, ...] = ()
    falls: tuple[UntanglingRow, ...] = ()
    predicts: RankCorrelation | None = None


def study_results(study: Study) -> StudyResults:
    """Everything at once; empty rows where nothing was run."""
    trials = study.trials()
    # The targets that the study trained for, beside the usual ones below them.
    on_train = sorted({*TARGETS, *(trial.settings.train_target for trial in trials)})
    on_test = sorted({t.settings.test_target for t in trials if t.settings.test_target is not None})
    rows = (*study.summary(on_train), *study.summary(on_test, split="test"))
    if not rows:
        return StudyResults(())
    names = [row.activation for row in rows]
    base = USUAL_BASELINE if USUAL_BASELINE in names else names[0]
    against = study.compare(base, on_train)
    if any(row.split == "test" and row.activation == base for row in rows):
        against += study.compare(base, on_test, split="test")
    predicts = None
    if any(trial.topology for trial in trials):
        try:
            predicts = prediction(trials)
        except InputError:
            predicts = None  # too few cells, or all alike
    falls = tuple(row for row in untangling_rows(trials) if row.layer == "all")
    return StudyResults(rows, against, falls, predicts)


def study_view(name: str, results: StudyResults) -> View:
    """What the template and the plots need."""
    found = {(c.set, c.activation, c.target, c.split): c for c in results.comparisons}
    against = [found.get((row.set, row.activation, row.target, row.split)) for row in results.rows]
    table = [
        (row, *_epochs_text(row), *_comparison_text(comparison))
        for row, comparison in zip(results.rows, against, strict=True)
    ]
    return {
        "name": name,
        "table": table,
        "baseline": results.comparisons[0].baseline if results.comparisons else None,
        "targets": list(dict.fromkeys((row.target, row.split) for row in results.rows)),
        "sets": list(dict.fromkeys(row.set for row in results.rows)),
        "survives": any(row.cap for row in results.rows),
        "falls": results.falls,
        "predicts": results.predicts,
        "plot": [_plotted(row) for row in results.rows],
    }


def _plotted(row: StudyRow) -> dict[str, Any]:
    curve = survival_curve(row.epochs, row.cap) if row.cap else None
    return {**asdict(row), "survival": None if curve is None else asdict(curve)}


def _epochs_text(row: StudyRow) -> tuple[str, str]:
    """Median and range in words; what was never reached has no number."""
    found = [epoch for epoch in row.epochs if epoch is not None]
    median = "not reached" if row.median is None else f"{row.median:.3g}"
    if not found:
        return median, ""
    highest = f"{max(found):.3g}" if len(found) == len(row.epochs) else "not reached"
    return median, f"[{min(found):.3g} to {highest}]"


def _comparison_text(comparison: StudyComparison | None) -> tuple[str, str]:
    if comparison is None:
        return "", ""
    result = comparison.result
    p = "< 0.001" if result.p_holm < 0.001 else f"{result.p_holm:.3f}"
    if not result.ratio:
        return "not reached", p
    bound = "≥ " if result.bound else ""
    return f"{bound}{result.ratio:.2f} [{result.low:.2f}, {result.high:.2f}]", p
