"""How wide each pool should be: the least loss, as measured pool by pool, under an exact cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unknot.pruning.planning.pool_curves import PoolCurves
from unknot.pruning.planning.speed.latency_model import LatencyModel
from unknot.pruning.structure.channels import ChannelGraph, Unit, Units

FINEST = 64  # steps that a pool is cut in on the way down
EXCHANGES = (8, 4, 2, 1)  # steps at once
SWEEPS = 12  # over all pairs of pools, at most

Ranked = Sequence[Sequence[Unit]]  # the units of each pool, the first to go first


class WidthCost(Protocol):
    """What a model costs with so many units of each pool gone."""

    def of(self, gone: Sequence[int]) -> float:
        """The cost with ``gone[p]`` units of pool p gone, the first of its order."""
        ...

    def beside(self, pool: int) -> Sequence[int]:
        """The pools on whose widths the cost of this one's depends, itself among them."""
        ...


class ProductCost:
    """A sum of products of widths: multiply-accumulates, or parameters.

    Args:
        terms: (amount, the units along each axis); what is left of each axis multiplies.
        ranked: of each pool.
        number: {first channel of a unit: its number along the axes}.
    """

    def __init__(
        self, terms: Sequence[tuple[float, Sequence[Units]]], ranked: Ranked, graph: ChannelGraph
    ) -> None:
        numbers = [np.array([graph.numbers[unit[0]] for unit in units], int) for units in ranked]
        self._terms: list[tuple[float, list[dict[int, NDArray[np.float64]]]]] = []
        self._fixed = 0.0
        beside: defaultdict[int, set[int]] = defaultdict(set)
        for amount, axes in terms:
            factors = [self._lost(units, numbers, len(graph.units)) for units in axes]
            pools = {p for factor in factors for p in factor}
            if not pools:
                self._fixed += amount
                continue
            self._terms.append((amount, [factor for factor in factors if factor]))
            for p in pools:
                beside[p] |= pools
        self._beside = [sorted(beside[p] | {p}) for p in range(len(ranked))]

    @classmethod
    def macs(cls, graph: ChannelGraph, ranked: Ranked) -> ProductCost:
        return cls([(work.macs, work.factors) for work in graph.works], ranked, graph)

    @classmethod
    def parameters(cls, graph: ChannelGraph, ranked: Ranked, whole: float) -> ProductCost:
        """``whole``: of the model before."""
        terms: list[tuple[float, Sequence[Units]]] = [
            (float(c.size), tuple(c.axes.values())) for c in graph.cuts if c.trainable
        ]
        rest: tuple[float, Sequence[Units]] = (whole - sum(amount for amount, _ in terms), ())
        return cls([*terms, rest], ranked, graph)

    @staticmethod
    def _lost(units: Units, numbers: list[NDArray[Any]], n: int) -> dict[int, NDArray[np.float64]]:
        """{pool: the share of an axis that goes with so many of its units, ``[units + 1]``}."""
        counts = np.bincount(units[units >= 0].ravel(), minlength=n) / max(units.size, 1)
        lost = {p: np.concatenate([[0.0], np.cumsum(counts[own])]) for p, own in enumerate(numbers)}
        return {p: shares for p, shares in lost.items() if shares[-1] > 0}

    def of(self, gone: Sequence[int]) -> float:
        total = self._fixed
        for amount, factors in self._terms:
            left = amount
            for factor in factors:
                left *= 1.0 - sum(float(shares[gone[p]]) for p, shares in factor.items())
            total += left
        return total

    def beside(self, pool: int) -> Sequence[int]:
        return self._beside[pool]


@dataclass(frozen=True, eq=False)
class Guide:
    """What was measured of a model before its widths are chosen.

    Attributes:
        curves: what the output loses with each pool cut.
        steps: each of the structure's pools keeps a multiple of so many units, or all; None: as the
            options say.
        latency: predicts milliseconds; needed for a budget in them.
    """

    curves: PoolCurves
    steps: tuple[int, ...] | None = None
    latency: LatencyModel | None = None

    def spends(self, budget: str) -> bool:
        """Whether widths can be chosen by it under a budget of this name."""
        return budget in ("macs", "parameters") or (budget == "latency_ms" and self.latency is not None)


@dataclass
class _Search:
    """Counts of units gone, and the moves that make them better."""

    losses: Sequence[NDArray[np.float64]]
    cost: WidthCost
    limit: float
    steps: Sequence[int]
    most: list[int]
    gone: list[int] = field(default_factory=list)
    now: float = 0.0

    def descend(self) -> None:
        """Remove, from whole pools on, what loses least for what it saves, until the limit is met."""
        pools = range(len(self.losses))
        self.gone = [0] * len(self.losses)
        self.now = self.cost.of(self.gone)
        prices = [self._price(p) for p in pools]
        while self.now > self.limit:
            cheapest = min(pools, key=prices.__getitem__)
            if prices[cheapest] == np.inf:
                return
            self._to(cheapest, self._down(cheapest))
            for p in self.cost.beside(cheapest):
                prices[p] = self._price(p)

    def exchange(self) -> None:
        """Cut one pool further and give another what that saves, while it makes the loss less."""
        for times in EXCHANGES:
            for _ in range(SWEEPS):
                moved = [self._exchanged(p, times) for p in range(len(self.losses))]
                if not any(moved):
                    break

    def fill(self) -> None:
        """Give back what the limit leaves room for, where it helps most."""
        while True:
            best: tuple[float, int, int] | None = None
            for p in range(len(self.losses)):
                less = self._up(p)
                if less < self.gone[p] and (cost := self._with(p, less)) <= self.limit:
                    gain = (self._loss(p) - self._loss(p, less)) / max(cost - self.now, 1e-12)
                    best = max(best or (0.0, -1, 0), (gain, p, less))
            if best is None or best[1] < 0:
                return
            self._to(best[1], best[2])

    def approach(self) -> None:
        """Give back what is over the limit by less than the rest is below it, if anything is."""
        over = []
        for p in range(len(self.losses)):
            less = self._up(p)
            if less < self.gone[p]:
                over.append((self._with(p, less) - self.limit, p, less))
        if over and 0 < min(over)[0] < self.limit - self.now:
            self._to(*min(over)[1:])

    def _exchanged(self, taken: int, times: int) -> bool:
        more = self.gone[taken]
        for _ in range(times):
            more = self._down(taken, more)
        worse = self._loss(taken, more) - self._loss(taken)
        if more == self.gone[taken]:
            return False
        before = self.gone[taken]
        for given in range(len(self.losses)):
            less = self.gone[given]
            if given == taken or not less:
                continue
            for _ in range(times):
                less = self._up(given, less)
            if self._loss(given) - self._loss(given, less) <= worse + 1e-12:
                continue
            old = self.gone[given]
            self.gone[taken], self.gone[given] = more, less
            cost = self.cost.of(self.gone)
            if cost <= max(self.limit, self.now):
                self.now = cost
                return True
            self.gone[taken], self.gone[given] = before, old
        return False

    def _price(self, p: int) -> float:
        more = self._down(p)
        if more == self.gone[p]:
            return np.inf
        saved = self.now - self._with(p, more)
        return float((self._loss(p, more) - self._loss(p) + 1e-9) / saved) if saved > 0 else np.inf

    def _loss(self, p: int, gone: int | None = None) -> float:
        return float(self.losses[p][self.gone[p] if gone is None else gone])

    def _with(self, p: int, gone: int) -> float:
        before, self.gone[p] = self.gone[p], gone
        cost = self.cost.of(self.gone)
        self.gone[p] = before
        return cost

    def _to(self, p: int, gone: int) -> None:
        self.gone[p] = gone
        self.now = self.cost.of(self.gone)

    def _down(self, p: int, gone: int | None = None) -> int:
        """So many gone after the next step; as before where no further one may go."""
        gone = self.gone[p] if gone is None else gone
        n, step = len(self.losses[p]), self.steps[p]
        kept = (n - gone - 1) // step * step
        more = n - kept
        return more if kept > 0 and more <= self.most[p] else gone

    def _up(self, p: int, gone: int | None = None) -> int:
        gone = self.gone[p] if gone is None else gone
        n, step = len(self.losses[p]), self.steps[p]
        return max(0, n - ((n - gone) // step + 1) * step)


def choose_widths(
    losses: Sequence[NDArray[np.float64]],
    cost: WidthCost,
    limit: float,
    *,
    steps: Sequence[int],
    floors: Sequence[int],
    nearest: bool = False,
) -> list[int]:
    """How many units of each pool go, so that the cost is at most ``limit`` and the summed loss least.

    From whole pools down, the least loss for what is saved first; then exchanges between pairs of pools,
    until none helps; then what fits is given back.

    Args:
        losses: of each pool, with so many of its units gone, ``[units]``; see `interpolated`.
        cost: of all widths together.
        limit: in its unit.
        steps: each pool keeps a multiple of so many units, or all.
        floors: units that each pool keeps, at least; as few as need be where the limit is not met else.
        nearest: whether the cost may be above the limit by less than it would be below it.

    Returns:
        Units gone; where even the floors cost more than ``limit`` and nothing is left to go, those.
    """
    for lower in (1.0, 0.5, 0.25, 0.0):
        most = [len(x) - max(1, round(lower * floor)) for x, floor in zip(losses, floors, strict=True)]
        search = _Search(losses, cost, limit, _coarse(losses, steps), most)
        search.descend()
        if search.now <= limit:
            break
    for at_once in (_coarse(losses, steps), list(steps)):
        search.steps = at_once
        search.exchange()
    search.fill()
    if nearest:
        search.approach()
    return search.gone


def _coarse(losses: Sequence[NDArray[np.float64]], steps: Sequence[int]) -> list[int]:
    """Steps in which even wide pools take few."""
    return [
        step * max(1, len(of_pool) // (FINEST * step))
        for of_pool, step in zip(losses, steps, strict=True)
    ]


class AnyCost:
    """Any function of {pool: units gone} as a `WidthCost`."""

    def __init__(self, function: Callable[[Sequence[int]], float], pools: int) -> None:
        self._function, self._pools = function, range(pools)

    def of(self, gone: Sequence[int]) -> float:
        return self._function(gone)

    def beside(self, pool: int) -> Sequence[int]:
        return self._pools
