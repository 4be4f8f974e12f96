"""Which units go, so that a budget is met and the smaller model computes what the masked one does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

from torch import nn

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors
from unknot.pruning.planning.budget import (
    REMEDY,
    UNITS,
    Met,
    meet_latency,
    meet_share,
    require_share,
    size_of,
)
from unknot.pruning.planning.by_layer import why_nothing_goes
from unknot.pruning.planning.options import PlanOptions
from unknot.pruning.planning.pool_curves import interpolated
from unknot.pruning.planning.ranking import Candidate, rank_units, remove_first
from unknot.pruning.planning.speed.aiming import meet_latency_by
from unknot.pruning.planning.speed.latency_model import LatencyModel
from unknot.pruning.planning.speed.width_cost import LatencyCost
from unknot.pruning.planning.widths import Guide, ProductCost, WidthCost, choose_widths
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.pools import (
    Pool,
    Structure,
    channels_of,
    disagreement,
)
from unknot.pruning.structure.trials import Deadline, Fault, in_single_precision

NEAR = 0.02  # of a share of MACs or parameters: near enough
PASSED_OVER = 8  # units at most


@dataclass(frozen=True, eq=False)
class Chooser:
    """Picks the units that go."""

    model: nn.Module
    scores: FilterScores
    example: Inputs
    structure: Structure
    options: PlanOptions
    filters: dict[str, int]
    deadline: Deadline
    guide: Guide | None = None

    def settle(self) -> tuple[list[Candidate], str, dict[str, str]]:
        """What goes and does no harm, the budget in words, and {layer: why it keeps everything}."""
        pools, kept = list(self.structure.pools), dict(self.structure.kept)
        while True:
            chosen, summary = self._choose(pools, kept)
            fault = self._fault(chosen)
            if fault is None:
                return chosen, summary, kept
            # `find_structure` tried other channels of these pools, on other parameters.
            faulty = [pool for pool in pools if self._fault([c for c in chosen if c.pool is pool])]
            for pool in faulty or list(pools):
                kept |= dict.fromkeys(pool.layers, fault.why)
                pools.remove(pool)

    def _fault(self, chosen: list[Candidate]) -> Fault | None:
        removed = channels_of(c.unit for c in chosen)
        if not removed:
            return None
        self.deadline.check(f"layer {next(iter(removed))}")
        model, example = self._compared
        return disagreement(self.structure.graph, model, removed, example)

    @cached_property
    def _compared(self) -> tuple[nn.Module, Inputs]:
        return in_single_precision(self.model, map_tensors(self.example, lambda t: t[:2]))

    def _choose(self, pools: list[Pool], kept: dict[str, str]) -> tuple[list[Candidate], str]:
        ranked = rank_units(pools, self.scores)
        ((name, amount),) = self.options.budget.given.items()
        if name == "max_betti":
            above = [c.with_threshold(amount) for pool in ranked for c in pool if c.exceeds(amount)]
            return self._first(above, len(above)), f"Betti numbers above {amount:g}"
        if self.guide and self.guide.spends(name) and pools:
            return self._by_guide(self.guide, name, amount, ranked)
        allocation = self.options.allocation
        by_macs = self.scores.comparable if allocation == "auto" else allocation == "macs"
        if by_macs:
            order = self._by_score_per_mac(ranked)
        else:  # a prefix of this takes the same share of every pool
            order = sorted((c for pool in ranked for c in pool), key=lambda c: c.place)
        if name == "ratio":
            if by_macs:
                chosen = self._first(order, int(len(order) * amount))
            else:
                chosen = self._first([c for p in ranked for c in p[: int(len(p) * amount)]], len(order))
            n, whole = sum(len(c.unit) for c in chosen), sum(self.filters.values())
            return chosen, f"{n / max(whole, 1):.1%} of {whole:,} filters, {amount:.1%} asked"
        if name == "latency_ms":
            met = meet_latency(amount, partial(self._pruned, order), len(order), self.example)
        elif amount > 0 and not pools:
            raise InputError(
                f"{name} = {amount}: {why_nothing_goes(kept, self.filters)}",
                "a model with filters that may go",
                REMEDY,
            )
        else:
            order, met = self._nearest(name, amount, order)
            met = replace(met, summary=self._summary(name, amount, order, met.steps))
        return self._first(order, met.steps), met.summary

    def _by_guide(
        self, guide: Guide, name: str, amount: float, ranked: list[list[Candidate]]
    ) -> tuple[list[Candidate], str]:
        """What goes so that the measured losses add up to least, under the budget."""
        number = {id(pool): i for i, pool in enumerate(self.structure.pools)}
        rows = guide.curves.by_pool()
        ranked = [of_pool for of_pool in ranked if number[id(of_pool[0].pool)] in rows]
        pools = [number[id(of_pool[0].pool)] for of_pool in ranked]
        losses = [interpolated(rows[n]) for n in pools]
        floors = [max(rows[n][-1].kept, self.options.min_filters) for n in pools]
        steps = [guide.steps[n] if guide.steps else self.options.multiple for n in pools]
        units = [[c.unit for c in of_pool] for of_pool in ranked]

        timed = name == "latency_ms"

        def narrow(cost: WidthCost, limit: float) -> list[Candidate]:
            gone = choose_widths(losses, cost, limit, steps=steps, floors=floors, nearest=not timed)
            return [c for of_pool, n in zip(ranked, gone, strict=True) for c in of_pool[:n]]

        if timed:
            return self._in_time(guide, amount, LatencyCost(self._latency_of(guide), units), narrow)
        whole = size_of(name, self.model, self.example)
        graph = self.structure.graph
        cost = (
            ProductCost.macs(graph, units)
            if name == "macs"
            else ProductCost.parameters(graph, units, whole)
        )
        nothing = cost.of([0] * len(units))
        chosen = narrow(cost, nothing - amount * whole)
        size = graph.macs_without if name == "macs" else graph.parameters_without
        every = [c for of_pool in ranked for c in of_pool]

        def share(gone: list[Candidate]) -> float:
            return (size({}) - size(channels_of(c.unit for c in gone))) / whole

        if share(chosen) < amount - NEAR:  # else rounding is what forbids it
            require_share(name, amount, share(self._first(every, len(every))), self._limits(every))
        return self._first(chosen, len(chosen)), self._summary(name, amount, chosen, len(chosen))

    def _in_time(
        self,
        guide: Guide,
        limit: float,
        cost: LatencyCost,
        narrow: Callable[[WidthCost, float], list[Candidate]],
    ) -> tuple[list[Candidate], str]:
        """What goes so that a pass of the smaller model itself takes at most ``limit`` ms."""
        least = math.inf

        def plan_at(predicted: float) -> list[Candidate]:
            nonlocal least
            chosen = narrow(cost, predicted)
            least = min(least, self._latency_of(guide).milliseconds(channels_of(c.unit for c in chosen)))
            if least > predicted:
                raise InputError(
                    f"latency_ms = {limit:g}",
                    f"at least about {least:.3g}, with all gone that may go",
                    "raise it, or pass a smaller example",
                )
            return chosen

        aimed = meet_latency_by(
            plan_at, lambda chosen: self._pruned(chosen, len(chosen)), limit, self.example
        )
        return self._first(aimed.plan, len(aimed.plan)), aimed.summary

    def _latency_of(self, guide: Guide) -> LatencyModel:
        assert guide.latency is not None
        return guide.latency

    def _nearest(self, name: str, amount: float, order: list[Candidate]) -> tuple[list[Candidate], Met]:
        """The order and the step that meet a share; units too large for its rest are passed over."""
        whole = size_of(name, self.model, self.example)
        share = self._sizes(name, order, whole)
        best = order, meet_share(name, amount, share, len(order), self._limits(order))
        error = abs(share(best[1].steps) - amount)
        steps = best[1].steps
        for _ in range(PASSED_OVER):
            if error <= NEAR:
                break
            steps -= share(steps) > amount
            order = [*order[:steps], *order[steps + 1 :]]
            share = self._sizes(name, order, whole)
            if share(len(order)) < amount:
                break
            met = meet_share(name, amount, share, len(order))
            steps = met.steps
            if abs(share(steps) - amount) < error:
                best, error = (order, met), abs(share(steps) - amount)
        return best

    def _sizes(self, name: str, order: list[Candidate], whole: float) -> Callable[[int], float]:
        """The share of "macs" or "parameters" that goes with so many steps of ``order``."""
        graph = self.structure.graph
        size = graph.macs_without if name == "macs" else graph.parameters_without
        nothing = size({})

        def share(steps: int) -> float:
            removed = channels_of(c.unit for c in self._first(order, steps))
            return (nothing - size(removed)) / whole

        return share

    def _summary(self, name: str, amount: float, order: list[Candidate], steps: int) -> str:
        """The budget in words, of the models themselves."""
        whole, rest = (
            size_of(name, model, self.example) for model in (self.model, self._pruned(order, steps))
        )
        return f"{1 - rest / whole:.1%} of {whole:,} {UNITS[name]}, {amount:.1%} asked"

    def _pruned(self, order: list[Candidate], steps: int) -> nn.Module:
        self.deadline.tell(f"without {steps:,} channels")
        removed = channels_of(c.unit for c in self._first(order, steps))
        return self.structure.graph.without(self.model, removed)

    def _first(self, order: list[Candidate], steps: int) -> list[Candidate]:
        at_least = max(1, self.options.min_filters)
        return remove_first(order[:steps], self.structure.graph.layers, at_least, self.options.multiple)

    def _limits(self, order: list[Candidate]) -> str:
        """The options that keep back some of ``order``, in words; empty where none does."""
        given = {"min_filters": self.options.min_filters, "round_to": self.options.multiple}
        every = remove_first(order, self.structure.graph.layers, 1, 1)
        if len(self._first(order, len(order))) == len(every):
            return ""
        return " and ".join(f"{name} = {value}" for name, value in given.items() if value > 1)

    def _by_score_per_mac(self, ranked: list[list[Candidate]]) -> list[Candidate]:
        """Over all pools, the least importance for the MACs that go with it first."""
        graph = self.structure.graph
        whole = graph.macs_without({})
        price = {}
        for pool in ranked:
            half = pool[: max(1, len(pool) // 2)]
            rest = graph.macs_without(channels_of(c.unit for c in half))
            price[id(pool[0].pool)] = max(1.0, whole - rest) / len(half)
        every = [c for pool in ranked for c in pool]
        return sorted(every, key=lambda c: (c.importance / price[id(c.pool)], c.place))
