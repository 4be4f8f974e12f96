"""Everything that a study found, gathered for those who show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unknot.core.errors import InputError
from unknot.study.budget.results import BudgetComparison, BudgetRow, compare_budget_rows
from unknot.study.results import StudyComparison, StudyRow, compare_rows, rows_of
from unknot.study.study import Study
from unknot.study.survival import RankCorrelation
from unknot.study.untangling import ALL_LAYERS, BettiFall, prediction, untangling_rows

USUAL_BASELINE = "relu"


@dataclass(frozen=True)
class StudyOverview:
    """What the command prints and a report shows.

    Attributes:
        rows: epochs to target, on train and then on test samples.
        comparisons: of these rows with the baseline's.
        untangling: the fall of the Betti numbers, of each layer and of all.
        predicts: whether a fast fall goes with fast training; None where there are too few cells.
        budgets: scores after budgets.
        budget_comparisons: of these with the baseline's.
    """

    rows: tuple[StudyRow, ...]
    comparisons: tuple[StudyComparison, ...] = ()
    untangling: tuple[BettiFall, ...] = ()
    predicts: RankCorrelation | None = None
    budgets: tuple[BudgetRow, ...] = ()
    budget_comparisons: tuple[BudgetComparison, ...] = ()

    @property
    def falls(self) -> tuple[BettiFall, ...]:
        """The fall of the Betti numbers summed over the layers."""
        return tuple(row for row in self.untangling if row.layer == ALL_LAYERS)


def study_overview(
    study: Study,
    *,
    baseline: str | None = None,
    targets: Sequence[float] | None = None,
    test_targets: Sequence[float] | None = None,
) -> StudyOverview:
    """Gather what a study found; no rows where nothing was run.

    Args:
        baseline: what the others are compared with; None: ReLU where it was run, else the first.
        targets: train accuracies; None: the usual ones, and those that the trials were trained to.
        test_targets: test accuracies; None: those that the trials were trained to.

    Raises:
        InputError: trials, but none of the baseline.
    """
    trials = study.trials()
    rows = rows_of(trials, targets, test_targets)
    budgets = study.budgets()
    if not rows and not budgets:
        return StudyOverview(())
    by_budget = compare_budget_rows(budgets, baseline or usual_baseline(budgets)) if budgets else ()
    if not rows:
        return StudyOverview((), budgets=budgets, budget_comparisons=by_budget)
    compared = compare_rows(rows, baseline or usual_baseline(rows))
    try:
        predicts = prediction(trials)
    except InputError:
        predicts = None  # too few cells, or all alike
    return StudyOverview(rows, compared, untangling_rows(trials), predicts, budgets, by_budget)


def usual_baseline(rows: Sequence[StudyRow] | Sequence[BudgetRow]) -> str:
    """ReLU where it is among them, else the first."""
    names = [row.activation for row in rows]
    return USUAL_BASELINE if USUAL_BASELINE in names else names[0]
