"""PlanOptions: how much goes, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unknot.core.errors import InputError, require_count
from unknot.pruning.planning.budget import Budget
from unknot.pruning.structure.channels import SECONDS

Allocation = Literal["auto", "uniform", "macs"]


@dataclass(frozen=True)
class PlanOptions:
    """How much goes, and from where: the keywords of `plan_pruning`.

    Raises:
        InputError: another allocation, bad counts.
    """

    budget: Budget
    allocation: Allocation = "auto"
    ignored: Sequence[str] = ()
    min_filters: int = 1
    round_to: int | None = None
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.allocation not in ("auto", "uniform", "macs"):
            raise InputError(
                f"allocation = {self.allocation!r}", "'auto', 'uniform' or 'macs'", "pass 'auto'"
            )
        require_count("min_filters", self.min_filters, minimum=0)
        if self.round_to is not None:
            require_count("round_to", self.round_to)
        if not self.seconds > 0:
            raise InputError(f"seconds = {self.seconds}", "a number > 0", "pass e.g. 120")

    @property
    def multiple(self) -> int:
        """What the filters of each layer are a multiple of."""
        return self.round_to or 1

    def require_threshold_of(self, criterion: str, *, gives_betti: bool) -> None:
        """Refuse a Betti threshold for scores that are no Betti numbers."""
        threshold = self.budget.max_betti
        if threshold is not None and not gives_betti:
            raise InputError(
                f"max_betti = {threshold} with criterion {criterion!r}",
                "the criterion 'betti'",
                "score with criterion='betti', or pass ratio=0.5",
            )
