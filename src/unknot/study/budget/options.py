"""What a study by budget is told, in one frozen object with a twin for type checkers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from unknot.core.errors import InputError, require_choice
from unknot.core.tables import Task
from unknot.nets.data import LabelledData
from unknot.study.budget.trials import BudgetSettings
from unknot.study.options import NetOptions, NewNet, digest_of, numbers_of, task_of

Unit = Literal["epochs", "seconds"]
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class BudgetOptions(NetOptions):
    """How nets are tuned and trained to see how good they are after each budget.

    Args:
        seeds, learning_rates, gains, selection_seeds, net, width, depth, batch_size, task: as of
            `StudyOptions`.
        at: the budgets, in the unit; fractions may be among them.
        unit: "epochs", or "seconds" of this machine's wall clock, each net alone on one thread.
        schedule: "cosine": each budget is a training of its own, whose learning rate falls to 0 over it;
            "constant": one training is read at every budget.

    Raises:
        InputError: numbers that make no study, or a net without a name.
    """

    learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2)
    gains: Sequence[float] = (0.3, 0.6, 1.0)
    width: int = 64
    depth: int = 3
    at: Sequence[float] = (4, 8, 16)
    unit: Unit = "epochs"
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        budgets = sorted(set(numbers_of("at", self.at)))
        if not budgets or budgets[0] <= 0:
            raise InputError(f"at = {self.at!r}", "at least one budget, all > 0", "pass e.g. at=(4, 8)")
        object.__setattr__(self, "at", tuple(budgets))
        require_choice("unit", self.unit, ("epochs", "seconds"))
        require_choice("schedule", self.schedule, ("cosine", "constant"))

    def settings(self, data: LabelledData) -> tuple[BudgetSettings, ...]:
        """What is written down with each trial on these data: of each training that is to be done."""
        trainings = [tuple(self.at)] if self.schedule == "constant" else [(at,) for at in self.at]
        return tuple(
            BudgetSettings(
                net=self.net_name,
                at=at,
                unit=self.unit,
                schedule=self.schedule,
                batch_size=self.batch_size,
                grid=json.dumps(self.cells),
                selection_seeds=self.selection_seeds if self.chooses else 0,
                data=digest_of(data),
                task=task_of(data),
            )
            for at in trainings
        )


class BudgetKeywords(TypedDict, total=False):
    """`BudgetOptions` as keywords."""

    seeds: int
    learning_rates: Sequence[float]
    gains: Sequence[float]
    selection_seeds: int
    net: NewNet | None
    width: int
    depth: int
    batch_size: int
    task: Task
    at: Sequence[float]
    unit: Unit
    schedule: Schedule


BUDGET_DEFAULTS = BudgetOptions()
