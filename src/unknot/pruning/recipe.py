"""Recipe: all that decides how a model is shrunk, checked before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from unknot.core.errors import InputError, require_count
from unknot.nets.cost import count_macs, measure_cost
from unknot.pruning.planning.budget import REPEATS, Budget
from unknot.pruning.planning.plan import Allocation, PruningPlan, require_plan_options
from unknot.pruning.scoring.criteria import find_criterion


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
        find_criterion(self.criterion)
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


class RoundBudgets:
    """A budget in equal parts: after round k of n, k / n of it is spent, and after the last all.

    Args:
        budget: of the whole.
        rounds: n.
        model, example: the original and the batch that its cost is measured on.
    """

    def __init__(self, budget: Budget, rounds: int, model: nn.Module, example: Tensor) -> None:
        ((self.name, self.amount),) = budget.given.items()
        self.budget, self.rounds, self.example = budget, rounds, example
        self.whole = self._size(model) if rounds > 1 else 0.0

    def of(self, number: int, slim: nn.Module, plan: PruningPlan | None) -> Budget:
        """What round ``number``, from 1, may take from what the rounds before it left.

        Args:
            slim: the model as it is now.
            plan: all that went before; None in the first round.
        """
        if self.rounds == 1:
            return self.budget
        part = self.amount * number / self.rounds
        if self.name == "latency_ms":
            rest = max(0.0, self.whole - self.amount)
            return Budget(latency_ms=self.amount + rest * (1 - number / self.rounds))
        if self.name == "ratio":
            return Budget(ratio=part if plan is None else _ratio_left(plan, part))
        share = max(0.0, 1 - (1 - part) * self.whole / self._size(slim))
        return Budget(macs=share) if self.name == "macs" else Budget(parameters=share)

    def told(self, slim: nn.Module, plan: PruningPlan) -> str:
        """What came of the whole budget, in words."""
        if self.rounds == 1:
            return plan.budget
        if self.name == "latency_ms":
            return f"{plan.budget}, in {self.rounds} rounds"
        if self.name == "ratio":
            gone, what = plan.n_removed / plan.n_filters, f"{plan.n_filters:,} filters"
        else:
            unit = "MACs" if self.name == "macs" else "parameters"
            gone, what = 1 - self._size(slim) / self.whole, f"{self.whole:,.0f} {unit}"
        return f"{gone:.1%} of {what}, {self.amount:.1%} asked, in {self.rounds} rounds"

    def _size(self, model: nn.Module) -> float:
        if self.name == "macs":
            return count_macs(model, self.example[:1])
        if self.name == "latency_ms":
            return measure_cost(model, self.example, repeats=REPEATS, batch_sizes=()).latency_ms
        return sum(p.numel() for p in model.parameters())


def combine_plans(first: PruningPlan, then: PruningPlan, number: int) -> PruningPlan:
    """One plan of the original for ``first`` and a second plan of what ``first`` leaves.

    Args:
        number: of the second's round, for its reasons.
    """
    removed, reasons = dict(first.removed), dict(first.reasons)
    for layer, filters in then.removed.items():
        gone = first.removed.get(layer, [])
        left = [i for i in range(first.filters[layer]) if i not in set(gone)]
        told = dict(zip(gone, first.reasons.get(layer, []), strict=True))
        for i, reason in zip(filters, then.reasons[layer], strict=True):
            told[left[i]] = f"round {number}: {reason}"
        removed[layer] = sorted(told)
        reasons[layer] = [told[i] for i in removed[layer]]
    kept = {
        layer: w for layer, w in (first.kept_layers | then.kept_layers).items() if layer not in removed
    }
    return replace(first, removed=removed, reasons=reasons, kept_layers=kept, budget=then.budget)


def _ratio_left(plan: PruningPlan, part: float) -> float:
    """The smallest ratio of what is left that makes up for ``part`` of what there was, over all layers.

    A ratio takes whole filters of each layer, rounded down, so the ratios of the rounds do not multiply.
    """
    layers = [layer for layer in plan.filters if layer not in plan.kept_layers]
    left = {layer: plan.filters[layer] - len(plan.removed.get(layer, ())) for layer in layers}
    needed = sum(int(plan.filters[x] * part) - len(plan.removed.get(x, ())) for x in layers)
    # Just above j / n, where a layer of n filters gives up one more.
    steps = sorted({0.0} | {j / n + 1e-9 for n in left.values() for j in range(1, n)})
    reached = (r for r in steps if sum(int(n * r) for n in left.values()) >= needed)
    return next(reached, steps[-1])
