"""Recipe: all that decides how a model is shrunk, checked before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unknot.core.errors import InputError, require_count
from unknot.pruning.planning.budget import Budget
from unknot.pruning.planning.plan import Allocation, require_plan_options
from unknot.pruning.scoring.scores import CRITERIA


@dataclass(frozen=True)
class Recipe:
    """How a model is shrunk.

    Attributes:
        budget: how much goes.
        criterion: of `score_filters`, what goes first.
        linear: of `score_filters`, globs of linear layers to prune beside the convolutions.
        allocation, ignored, min_filters, round_to: of `plan_pruning`.
        rounds: of pruning, refitting and fine-tuning, each for an equal part of the budget.
        refit: mend the layers that lost inputs in closed form, without labels; see `refit`.
        max_points: samples that filters are scored on.
        tune_epochs: of fine-tuning with Adam at ``learning_rate``, at most, in each round.
        patience: stop fine-tuning after so many epochs without better accuracy on a tenth of the
            training samples, which are kept apart for that, and take the best weights; None trains on
            all samples for all epochs.
        seed: of everything random.
    """

    budget: Budget
    criterion: str = "betti"
    allocation: Allocation = "auto"
    ignored: Sequence[str] = ()
    min_filters: int = 1
    round_to: int = 1
    rounds: int = 1
    refit: bool = True
    max_points: int = 400
    tune_epochs: int = 0
    learning_rate: float = 1e-3
    patience: int | None = None
    seed: int = 0
    linear: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise InputError(f"criterion = {self.criterion!r}", ", ".join(CRITERIA), "pick one")
        require_plan_options(
            self.budget, self.criterion, self.allocation, self.min_filters, self.round_to
        )
        require_count("rounds", self.rounds)
        require_count("max_points", self.max_points, minimum=2)
        require_count("tune_epochs", self.tune_epochs, minimum=0)
        if self.patience is not None:
            require_count("patience", self.patience)
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate = {self.learning_rate}", "a number > 0", "pass e.g. 1e-3")
        if self.rounds > 1 and self.budget.max_betti is not None:
            raise InputError(
                f"{self.rounds} rounds with max_betti = {self.budget.max_betti:g}",
                "one round, or a budget that is a share or a time",
                "pass e.g. macs=0.5",
            )
