"""Recipe: all that decides how a model is shrunk, checked before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from unknot.core.errors import InputError, require_count
from unknot.pruning.allocation.efforts import EFFORTS, EffortName
from unknot.pruning.planning.budget import Budget
from unknot.pruning.planning.options import PlanOptions
from unknot.pruning.scoring.criteria import DEFAULT, Criterion, find_criterion

AnyCriterion: TypeAlias = str | Criterion | Callable[[str, Any], ArrayLike]


def default_criterion(budget: Budget) -> str:
    """Of `score_filters`; "betti" where the budget is a Betti number."""
    return DEFAULT if budget.max_betti is None else "betti"


@dataclass(frozen=True)
class Recipe(PlanOptions):
    """How a model is shrunk: a `Budget`, and the keywords of `shrink` with their defaults and checks.

    Raises:
        InputError: an option out of its range, or two that do not go together.
    """

    criterion: AnyCriterion = DEFAULT
    linear: Sequence[str] | None = None
    max_points: int = 400
    rounds: int = 1
    refit: bool = True
    effort: EffortName = "balanced"
    polish: int = 0
    finetune: int = 0
    learning_rate: float = 1e-3
    patience: int | None = 3
    seed: int = 0
    latency_batch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        name, criterion = find_criterion(self.criterion)
        self.require_threshold_of(name, gives_betti=criterion.gives_betti)
        if self.effort not in EFFORTS:
            raise InputError(
                f"effort = {self.effort!r}", f"one of {', '.join(EFFORTS)}", "pass 'balanced'"
            )
        require_count("rounds", self.rounds)
        require_count("max_points", self.max_points, minimum=2)
        require_count("latency_batch", self.latency_batch)
        require_count("polish", self.polish, minimum=0)
        require_count("finetune", self.finetune, minimum=0)
        require_count("seed", self.seed, minimum=0)
        if self.patience is not None:
            require_count("patience", self.patience)
        if not isinstance(self.learning_rate, Real) or not self.learning_rate > 0:
            raise InputError(f"learning_rate = {self.learning_rate!r}", "a number > 0", "pass e.g. 1e-3")
        if self.rounds > 1 and self.budget.max_betti is not None:
            raise InputError(
                f"{self.rounds} rounds with max_betti = {self.budget.max_betti:g}",
                "one round, or a budget that is a share or a time",
                "pass e.g. macs=0.5",
            )
