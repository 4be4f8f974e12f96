"""What is kept of a net that was trained for a budget."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from unknot.study.trials import CLASSES, StoredTrial

METRICS = {True: ("accuracy", "cross entropy"), False: ("R^2", "RMSE")}


@dataclass(frozen=True)
class BudgetSettings:
    """What all trials of one kind of training share; trials of other settings are never mixed with them.

    Attributes:
        net: "mlp 3 x 64", or the name of the factory.
        at: when the training was read, the end of it last, in the unit.
        unit: "epochs" or "seconds".
        schedule: of the learning rate, "cosine" or "constant".
        batch_size: of the training.
        grid, selection_seeds: what a cell was chosen among, and on how many seeds.
        data: a digest of the samples.
        task: "classes" or "regression".
    """

    net: str
    at: tuple[float, ...]
    unit: str
    schedule: str
    batch_size: int
    grid: str
    selection_seeds: int
    data: str
    task: str

    def key(self) -> str:
        """All of them as one JSON text, under which the file keeps them."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def score_metric(self) -> str:
        """Name of what is the better the higher."""
        return METRICS[self.task == CLASSES][0]

    @property
    def loss_metric(self) -> str:
        """Name of what is the better the lower."""
        return METRICS[self.task == CLASSES][1]


@dataclass(frozen=True)
class BudgetCurve:
    """How good one net was on samples that it was not trained on, while it trained.

    Attributes:
        at: when it was to be read, in epochs or seconds; rising.
        times: when it was; of seconds those of training alone, up to a step later.
        scores: accuracy, or R^2; None where it had diverged.
        losses: mean cross entropy in nats, or the root of the mean squared error in the targets' unit.
    """

    at: tuple[float, ...]
    times: tuple[float, ...]
    scores: tuple[float | None, ...]
    losses: tuple[float | None, ...]

    def value(self, at: float, metric: str) -> float | None:
        """What was read at a budget, "score" or "loss"; None where the net had diverged before."""
        values = self.scores if metric == "score" else self.losses
        return values[self.at.index(at)] if at in self.at else None

    def spent(self, at: float) -> float:
        """Epochs or seconds that the training took until this budget was read, or it diverged."""
        return self.times[self.at.index(at)] if at in self.at else self.times[-1]


@dataclass(frozen=True)
class BudgetTrial(StoredTrial):
    """One net, trained once for a budget.

    Attributes:
        data, activation: names.
        learning_rate, gain: the cell.
        seed: of weights and order; `SELECTION_SEED` and above choose cells.
        settings: see `BudgetSettings`.
        curve: on test samples; of trials that choose cells on a part of the training samples that was
            kept apart.
    """

    TABLE: ClassVar[str] = "budget_trials"

    settings: BudgetSettings
    curve: BudgetCurve
