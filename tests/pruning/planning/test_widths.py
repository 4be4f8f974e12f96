"""Widths of least loss under an exact cost: against every choice there is, and their curves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unknot.nets.cost import count_macs
from unknot.nets.models import resnet
from unknot.pruning.planning.pool_curves import PoolLevel, interpolated
from unknot.pruning.planning.ranking import rank_units
from unknot.pruning.planning.speed.latency_model import LatencyModel
from unknot.pruning.planning.speed.width_cost import LatencyCost
from unknot.pruning.planning.widths import ProductCost, choose_widths
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.structure.pools import Structure, channels_of, find_structure


class Chain:
    """What a chain of layers costs: each pool's width times the next one's."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = widths

    def of(self, gone: Sequence[int]) -> float:
        kept = [n - g for n, g in zip(self.widths, gone, strict=True)]
        return float(sum(a * b for a, b in zip([3, *kept], [*kept, 10], strict=True)))

    def beside(self, pool: int) -> Sequence[int]:
        return [p for p in (pool - 1, pool, pool + 1) if 0 <= p < len(self.widths)]


def curve(units: int, steepness: float) -> NDArray[np.float64]:
    kept = [round(units * share) for share in (0.75, 0.5, 0.33, 0.2)]
    rows = [PoolLevel(0, ("a",), units, k, steepness * (units / k - 1) ** 2) for k in kept]
    return interpolated(rows)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_near_the_best_of_all_choices(share: float) -> None:
    widths, floors = (8, 12, 10), (2, 2, 2)
    losses = [curve(n, s) for n, s in zip(widths, (0.01, 0.1, 0.002), strict=True)]
    cost = Chain(widths)
    limit = (1 - share) * cost.of([0, 0, 0])
    gone = choose_widths(losses, cost, limit, steps=[1, 1, 1], floors=floors)
    allowed = itertools.product(*(range(n - f + 1) for n, f in zip(widths, floors, strict=True)))
    best = min(
        sum(float(x[g]) for x, g in zip(losses, choice, strict=True))
        for choice in allowed
        if cost.of(choice) <= limit
    )
    assert cost.of(gone) <= limit
    assert sum(float(x[g]) for x, g in zip(losses, gone, strict=True)) <= 1.1 * best


def test_widths_are_multiples_and_floors_give_way_only_where_they_must() -> None:
    widths = (64, 48)
    losses = [curve(n, 0.1) for n in widths]
    cost = Chain(widths)
    gone = choose_widths(losses, cost, 0.5 * cost.of([0, 0]), steps=[16, 8], floors=[13, 10])
    kept = [n - g for n, g in zip(widths, gone, strict=True)]
    assert kept[0] % 16 == 0 and kept[1] % 8 == 0
    gone = choose_widths(losses, cost, 0.2 * cost.of([0, 0]), steps=[1, 1], floors=[13, 10])
    assert all(n - g >= f for n, g, f in zip(widths, gone, (13, 10), strict=True))
    gone = choose_widths(losses, cost, 0.02 * cost.of([0, 0]), steps=[1, 1], floors=[13, 10])
    assert cost.of(gone) <= 0.02 * cost.of([0, 0])
    everything = choose_widths(losses, cost, 0.0, steps=[1, 1], floors=[13, 10])
    assert everything == [63, 47]  # one of each is left


def test_a_curve_goes_through_what_was_measured_and_never_falls() -> None:
    rows = [PoolLevel(0, ("a",), 40, k, e) for k, e in ((30, 0.01), (20, 0.008), (8, 0.3))]
    losses = interpolated(rows)
    assert len(losses) == 40 and losses[0] == pytest.approx(0.0, abs=1e-12)
    assert losses[10] == pytest.approx(0.01)
    assert losses[20] == pytest.approx(0.01)  # narrower is not better
    assert losses[32] == pytest.approx(0.3)
    assert (np.diff(losses) >= -1e-12).all()
    assert losses[36] > 0.3 * 1.2  # where nothing is known


@pytest.fixture(scope="module")
def net() -> tuple[torch.nn.Module, torch.Tensor, Structure]:
    torch.manual_seed(0)
    model = resnet(2, 5, widths=(12, 16), blocks=1).eval()
    example = torch.randn(2, 2, 12, 12)
    return model, example, find_structure(model, example)


@pytest.mark.parametrize("seed", range(3))
def test_the_costs_are_those_of_the_pruned_model(
    net: tuple[torch.nn.Module, torch.Tensor, Structure], seed: int
) -> None:
    model, example, structure = net
    ranked = [
        [c.unit for c in of] for of in rank_units(structure.pools, score_filters(model, criterion="l1"))
    ]
    rng = np.random.default_rng(seed)
    gone = [int(rng.integers(0, len(of))) for of in ranked]
    removed = channels_of(unit for of, n in zip(ranked, gone, strict=True) for unit in of[:n])
    slim = structure.graph.without(model, removed)
    whole = sum(p.numel() for p in model.parameters())
    macs, parameters = (
        ProductCost.macs(structure.graph, ranked),
        ProductCost.parameters(structure.graph, ranked, whole),
    )
    nothing = [0] * len(gone)
    saved = macs.of(nothing) - macs.of(gone)
    assert saved == pytest.approx(count_macs(model, example[:1]) - count_macs(slim, example[:1]))
    assert parameters.of(gone) == pytest.approx(sum(p.numel() for p in slim.parameters()))
    for p in range(len(ranked)):  # what is beside a pool is all that it changes the price of
        others = [q for q in range(len(ranked)) if q not in macs.beside(p)]
        for q in others:
            both, one, other = ([int(i in x) for i in range(len(ranked))] for x in ((p, q), (p,), (q,)))
            assert macs.of(both) + macs.of(nothing) == pytest.approx(macs.of(one) + macs.of(other))


def test_milliseconds_are_those_of_the_latency_model(
    net: tuple[torch.nn.Module, torch.Tensor, Structure],
) -> None:
    model, example, structure = net
    latency = LatencyModel.measure(model, structure, example, seconds=0.2)
    ranked = [[*pool.units] for pool in structure.pools]
    cost = LatencyCost(latency, ranked)
    for gone in ([0] * len(ranked), [1] * len(ranked), [len(of) // 2 for of in ranked]):
        removed = channels_of(unit for of, n in zip(ranked, gone, strict=True) for unit in of[:n])
        assert cost.of(gone) == pytest.approx(latency.milliseconds(removed))
