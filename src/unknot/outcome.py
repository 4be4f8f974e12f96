"""shrink: score, plan, prune, tune; and PruningOutcome, the accuracy and cost before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unknot.cost import Cost, compare_cost
from unknot.files import read_record, write_record
from unknot.pruning import PruningPlan, plan_pruning, prune
from unknot.refit import RefitReport
from unknot.refit import refit as refit_model
from unknot.scoring import FilterScores, score_filters
from unknot.training import LabelledData, accuracy, train


@dataclass(frozen=True)
class PruningOutcome:
    """What pruning changed.

    Attributes:
        accuracy_before, accuracy_after: shares of test samples classified rightly.
        cost_before, cost_after: measured in turns on the same example.
        filters_before, filters_after: convolution filters in the model.
    """

    accuracy_before: float
    accuracy_after: float
    cost_before: Cost
    cost_after: Cost
    filters_before: int
    filters_after: int

    def summary(self) -> dict[str, float | int]:
        """Flat keys, each ``_before`` and ``_after``: accuracy, parameters, macs, latency_ms, filters."""
        flat: dict[str, float | int] = {}
        for when, cost in (("before", self.cost_before), ("after", self.cost_after)):
            flat[f"accuracy_{when}"] = getattr(self, f"accuracy_{when}")
            flat[f"parameters_{when}"] = cost.parameters
            flat[f"macs_{when}"] = cost.macs
            flat[f"latency_ms_{when}"] = cost.latency_ms
            flat[f"filters_{when}"] = getattr(self, f"filters_{when}")
        return flat

    def to_json(self, path: str | Path) -> None:
        """Write everything to ``path``, whole or not at all."""
        write_record(path, "outcome", asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> PruningOutcome:
        """Read what `to_json` wrote."""
        return read_record(path, "outcome", _parse)


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller model and how it came about."""

    model: nn.Module
    scores: FilterScores
    plan: PruningPlan
    outcome: PruningOutcome
    refit: RefitReport | None = None


def shrink(
    model: nn.Module,
    data: LabelledData,
    *,
    criterion: str = "betti",
    max_betti: float | None = None,
    ratio: float | None = None,
    macs: float | None = None,
    refit: bool = True,
    max_points: int = 400,
    tune_epochs: int = 0,
    learning_rate: float = 1e-3,
    repeats: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> Shrunk:
    """Score the filters of a trained ``model``, prune it, refit, fine-tune, and compare the two.

    Filters are scored on training samples, accuracy is that of the test samples, and cost that of a
    forward pass of up to 64 of them.

    Args:
        max_betti: the budget, see `plan_pruning`, or
        ratio: likewise, or
        macs: likewise.
        refit: mend the layers that lost inputs in closed form, without labels; see `refit`.
        tune_epochs: of fine-tuning with Adam at ``learning_rate``.
        repeats: timed forward passes of each model.
    """
    scores = score_filters(
        model,
        [(data.inputs, data.labels)],
        criterion=criterion,
        max_points=max_points,
        seed=seed,
        progress=progress,
    )
    plan = plan_pruning(model, scores, data.inputs[:2], max_betti=max_betti, ratio=ratio, macs=macs)
    slim = prune(model, plan)
    mended = None
    if refit and plan.n_removed:
        mended = refit_model(model, slim, plan, [(data.inputs, data.labels)], seed=seed)
    train(
        slim,
        data.inputs,
        data.labels,
        epochs=tune_epochs,
        learning_rate=learning_rate,
        seed=seed,
        progress="fine-tuning" if progress else None,
    )
    before, after = compare_cost((model, slim), data.test_inputs[:64], repeats=repeats)
    outcome = PruningOutcome(
        accuracy_before=accuracy(model, data.test_inputs, data.test_labels),
        accuracy_after=accuracy(slim, data.test_inputs, data.test_labels),
        cost_before=before,
        cost_after=after,
        filters_before=plan.n_filters,
        filters_after=plan.n_filters - plan.n_removed,
    )
    return Shrunk(slim, scores, plan, outcome, mended)


def _parse(record: dict[str, Any]) -> PruningOutcome:
    return PruningOutcome(
        **{
            **record,
            "cost_before": Cost(**record["cost_before"]),
            "cost_after": Cost(**record["cost_after"]),
        }
    )
