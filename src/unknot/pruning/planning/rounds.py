"""A budget spent in rounds, and their plans as one."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from unknot.nets.probe import Inputs
from unknot.pruning.planning.budget import UNITS, Budget, size_of
from unknot.pruning.planning.plan import PruningPlan


class RoundBudgets:
    """A budget in equal parts: after round k of n, k / n of it is spent, and after the last all.

    The whole is that of ``model``, on the batch ``example``.
    """

    def __init__(self, budget: Budget, rounds: int, model: nn.Module, example: Inputs) -> None:
        ((self.name, self.amount),) = budget.given.items()
        self.budget, self.rounds, self.example = budget, rounds, example
        self.whole = size_of(self.name, model, example) if rounds > 1 else 0.0

    def for_round(self, number: int, slim: nn.Module, plan: PruningPlan | None) -> Budget:
        """What round ``number``, from 1, may take from ``slim``, which the rounds before it left.

        ``plan`` is of all that went before; None in the first round.
        """
        if self.rounds == 1:
            return self.budget
        part = self.amount * number / self.rounds
        if self.name == "latency_ms":
            rest = max(0.0, self.whole - self.amount)
            return Budget(latency_ms=self.amount + rest * (1 - number / self.rounds))
        if self.name == "ratio":
            return Budget(ratio=part if plan is None else _ratio_left(plan, part))
        size = size_of(self.name, slim, self.example)
        return Budget(**{self.name: max(0.0, 1 - (1 - part) * self.whole / size)})

    def describe(self, slim: nn.Module, plan: PruningPlan) -> str:
        """What came of the whole budget, in words."""
        if self.rounds == 1:
            return plan.budget
        if self.name == "latency_ms":
            return f"{plan.budget}, in {self.rounds} rounds"
        if self.name == "ratio":
            share, whole = plan.n_removed / plan.n_filters, f"{plan.n_filters:,} filters"
        else:
            share = 1 - size_of(self.name, slim, self.example) / self.whole
            whole = f"{self.whole:,.0f} {UNITS[self.name]}"
        return f"{share:.1%} of {whole}, {self.amount:.1%} asked, in {self.rounds} rounds"


def combine_plans(first: PruningPlan, then: PruningPlan, number: int) -> PruningPlan:
    """One plan of the original for ``first`` and, in round ``number``, a plan of what that leaves."""
    removed, reasons = dict(first.removed), dict(first.reasons)
    for layer, filters in then.removed.items():
        before = first.removed.get(layer, [])
        remaining = [i for i in range(first.filters[layer]) if i not in set(before)]
        reason_of = dict(zip(before, first.reasons.get(layer, []), strict=True))
        for i, reason in zip(filters, then.reasons[layer], strict=True):
            reason_of[remaining[i]] = f"round {number}: {reason}"
        removed[layer] = sorted(reason_of)
        reasons[layer] = [reason_of[i] for i in removed[layer]]
    kept = {
        layer: w for layer, w in (first.kept_layers | then.kept_layers).items() if layer not in removed
    }
    normalised = list(dict.fromkeys([*first.normalised, *then.normalised]))
    return replace(
        first, removed=removed, reasons=reasons, kept_layers=kept, budget=then.budget,
        filters=then.filters | first.filters, normalised=normalised, choices=then.choices,
    )  # fmt: skip


def _ratio_left(plan: PruningPlan, part: float) -> float:
    """The smallest ratio of what is left that makes up for ``part`` of what there was, over all layers.

    A ratio takes whole filters of each layer, rounded down, so the ratios of the rounds do not multiply.
    """
    layers = [layer for layer in plan.filters if layer not in plan.kept_layers]
    remaining = {layer: plan.filters[layer] - len(plan.removed.get(layer, ())) for layer in layers}
    needed = sum(int(plan.filters[x] * part) - len(plan.removed.get(x, ())) for x in layers)
    # Just above j / n, where a layer of n filters gives up one more.
    steps = sorted({0.0} | {j / n + 1e-9 for n in remaining.values() for j in range(1, n)})
    reached = (r for r in steps if sum(int(n * r) for n in remaining.values()) >= needed)
    return next(reached, steps[-1])
