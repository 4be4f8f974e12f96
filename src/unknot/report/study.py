"""The report's section on speed: epochs to target, scores by budget, comparisons, Betti numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from unknot.report.profile import View
from unknot.study.budget.results import BudgetRow, budgets_in_words
from unknot.study.overview import StudyOverview
from unknot.study.results import StudyRow, rows_in_words
from unknot.study.survival import survival_curve
from unknot.study.untangling import fall_text, prediction_text


def study_view(name: str, overview: StudyOverview) -> View:
    """What the template and the plots need."""
    rows, comparisons = overview.rows, overview.comparisons
    return {
        "name": name,
        "table": rows_in_words(rows, comparisons),
        "baseline": comparisons[0].baseline if comparisons else None,
        "targets": list(dict.fromkeys((row.target, row.split) for row in rows)),
        "sets": list(dict.fromkeys(row.set for row in rows)),
        "survives": any(row.cap for row in rows),
        "falls": [(row, fall_text(row)) for row in overview.falls],
        "prediction": None if overview.predicts is None else prediction_text(overview.predicts),
        "plot": [_plotted(row) for row in rows],
        **_budget_view(overview),
    }


def _budget_view(overview: StudyOverview) -> View:
    """Scores by budget: a table, and one plot for each set and kind of training."""
    kinds: dict[tuple[str, ...], list[BudgetRow]] = {}
    for row in overview.budgets:
        kinds.setdefault((row.set, row.unit, row.schedule, row.metric, row.net), []).append(row)
    compared = overview.budget_comparisons
    return {
        "budgets": budgets_in_words(overview.budgets, compared),
        "budget_baseline": compared[0].baseline if compared else None,
        "budget_kinds": [rows[0] for rows in kinds.values()],
        "budget_plot": [[asdict(row) for row in rows] for rows in kinds.values()],
    }


def _plotted(row: StudyRow) -> dict[str, Any]:
    curve = survival_curve(row.epochs, row.cap) if row.cap else None
    return {**asdict(row), "survival": None if curve is None else asdict(curve)}
