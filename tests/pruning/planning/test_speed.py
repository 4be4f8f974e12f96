"""What a pruned model is predicted to take, which widths are fast, and a limit that is met.

Times come from rules of the widths here, so that nothing hangs on the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from helpers import kinds
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.models import resnet
from unknot.nets.probe import Inputs
from unknot.pruning.planning.speed.aiming import meet_latency_by
from unknot.pruning.planning.speed.calls import Call, Store, watch_calls
from unknot.pruning.planning.speed.latency_model import LatencyModel, layer_times
from unknot.pruning.planning.speed.multiples import (
    FastMultiple,
    fast_multiples,
    smallest_fast,
    steps_for,
    waste_of,
)
from unknot.pruning.planning.speed.stopwatch import Pair, time_call
from unknot.pruning.planning.speed.surfaces import Surface, Timer, widths_of
from unknot.pruning.structure.layers import linear_layers
from unknot.pruning.structure.pools import channels_of, find_structure

KINDS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 8), (5, 6)),
    "linear of three axes": (nn.Linear(6, 8, bias=False), (5, 3, 6)),
    "1d": (nn.Conv1d(6, 8, 3, padding="same", dilation=2), (2, 6, 11)),
    "2d": (nn.Conv2d(6, 8, (3, 1), stride=(2, 1), padding=(1, 0)), (2, 6, 9, 7)),
    "3d": (nn.Conv3d(6, 8, 2, bias=False), (2, 6, 4, 5, 3)),
    "in groups": (nn.Conv2d(6, 8, 3, groups=2), (2, 6, 9, 7)),
    "one channel a group": (nn.Conv2d(6, 12, 3, groups=6), (2, 6, 9, 7)),
    "transposed": (nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1), (2, 6, 9, 7)),
    "transposed in groups": (nn.ConvTranspose1d(6, 8, 4, stride=3, groups=2), (2, 6, 9)),
}


SOME_KINDS = (
    "shuffle", "whole groups", "groups to twice the width", "depth multiplier", "several channels to one",
    "transposed, groups", "transposed, depthwise", "squeeze by linear layers", "weight norm",
    "multihead attention", "grouped queries", "lstm after convolutions", "two inputs", "tied embedding",
    "flattened maps",
)  # fmt: skip


class Mixed(nn.Module):
    """Depthwise, grouped, joined and flattened channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.left = nn.Conv2d(16, 8, 1)
        self.right = nn.Conv2d(16, 12, 3, padding=1)
        self.grouped = nn.Conv2d(20, 16, 3, padding=1, groups=4)
        self.hidden = nn.Linear(16 * 4, 24)
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        x = torch.relu(torch.cat([self.left(x), self.right(x)], 1))
        x = torch.relu(nn.functional.adaptive_avg_pool2d(self.grouped(x), 2))
        out: Tensor = self.out(torch.relu(self.hidden(x.flatten(1))))
        return out


def net_of(name: str) -> tuple[nn.Module, Inputs]:
    if name in SOME_KINDS:
        return kinds.KINDS[name].built(), kinds.KINDS[name].inputs()
    torch.manual_seed(0)
    model = resnet(3, 10, widths=(16, 32), blocks=1) if name == "resnet" else Mixed()
    return model.eval(), torch.randn(2, 3, 8, 8)


def by_rule(rule: Callable[[int, int], float]) -> Timer:
    def times(_call: Call, pairs: Sequence[Pair]) -> dict[Pair, float]:
        return {pair: rule(*pair) for pair in pairs}

    return times


def by_work(call: Call, pairs: Sequence[Pair]) -> dict[Pair, float]:
    """In proportion to the multiply-accumulates, each group alone."""
    if call.narrow:
        return {pair: work(call, pair[0], pair[0] * call.outputs // call.inputs) for pair in pairs}
    return {pair: work(call, *pair) for pair in pairs}


def work(call: Call, inputs: int, outputs: int) -> float:
    groups = inputs if call.narrow else call.groups
    return 1e-6 * call.elements / call.outputs * inputs * outputs / groups * math.prod(call.window)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_made_again_with_any_number_of_channels(kind: str) -> None:
    layer, shape = KINDS[kind]
    x = torch.randn(shape)
    ((call,),) = watch_calls(nn.Sequential(layer), x).by_layer.values()
    store = Store(call)
    made = call.prepare(store, call.inputs, call.outputs)()
    assert made.shape == layer(x).shape
    fewer = call.prepare(store, call.inputs // 2 + 1, call.outputs // 2 + 1)()
    axis = 1 if call.window else -1
    assert fewer.shape[axis] == call.possible(call.inputs // 2 + 1, call.outputs // 2 + 1)[1]
    assert fewer.shape[axis] < made.shape[axis]


def test_a_call_has_the_layout_in_memory_that_its_input_has() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    x = torch.randn(2, 4, 9, 9)
    assert not any(c.channels_last for (c,) in watch_calls(model, x).by_layer.values())
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calls = watch_calls(model, x.to(memory_format=torch.channels_last)).by_layer
    assert all(call.channels_last for (call,) in calls.values())
    made = calls["0"][0].prepare(Store(calls["0"][0]), 4, 6)()
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_equal_layers_make_the_same_call_and_shared_ones_several() -> None:
    shared = nn.Linear(6, 6)
    calls = watch_calls(nn.Sequential(shared, nn.Linear(6, 6), nn.ReLU(), shared), torch.zeros(2, 6))
    assert [len(of_layer) for of_layer in calls.by_layer.values()] == [2, 1]
    assert len({call for of_layer in calls.by_layer.values() for call in of_layer}) == 1


def test_pairs_are_timed() -> None:
    times = time_call(Call((4,), 6, 8), [(6, 8), (3, 8), (1, 1)])
    assert list(times) == [(6, 8), (3, 8), (1, 1)]
    assert all(taken > 0 for taken in times.values())


def test_a_product_of_both_widths_is_known_everywhere() -> None:
    surface = Surface.measure(Call((4,), 96, 64), 16, by_rule(lambda i, o: 1e-3 * i * o))
    for i, o in [(96, 64), (95, 1), (1, 63), (33, 34), (48, 32), (7, 5)]:
        assert surface.at(i, o) == pytest.approx(1e-3 * i * o)


def test_blocks_of_channels_take_what_whole_ones_do() -> None:
    """Of 16, with a part that does not shrink: also in between."""

    def rule(i: int, o: int) -> float:
        return 2.0 + (16 * math.ceil(i / 16)) * (16 * math.ceil(o / 16)) / 500

    surface = Surface.measure(Call((4,), 128, 128), 64, by_rule(rule))
    pairs = [(i, o) for i in range(24, 129, 7) for o in range(24, 129, 5)]
    errors = [abs(surface.at(i, o) / rule(i, o) - 1) for i, o in pairs]
    assert max(errors) < 0.2
    assert np.mean(errors) < 0.04


def test_no_more_widths_are_measured_than_asked_for() -> None:
    assert widths_of(64, 1, 64) == [1, *range(8, 65, 8)]
    assert widths_of(512, 1, 8) == [1, *range(64, 513, 64)]
    assert widths_of(20, 1, 64) == [1, *range(2, 21, 2)]
    assert widths_of(24, 6, 4) == [6, 12, 18, 24]
    assert widths_of(3, 1, 64) == [1, 2, 3]


@pytest.mark.parametrize("net", ["resnet", "mixed", *SOME_KINDS])
def test_the_widths_predicted_are_those_of_the_pruned_model(net: str) -> None:
    """A time in proportion to the work is predicted exactly where every width is right."""
    model, x = net_of(net)
    linear = linear_layers(model, None)
    structure = find_structure(model, x, linear=linear)
    assert structure.pools
    graph, calls = structure.graph, watch_calls(model, x)
    surfaces = {c: Surface.measure(c, 64, by_work) for of in calls.by_layer.values() for c in of}
    layers = layer_times(calls, surfaces, graph)
    predictor = LatencyModel(graph, layers, (1.0, 0.0), 0.0, 2, "cpu", 1)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        removed = channels_of(
            u for p in structure.pools for u in p.units[rng.integers(1, len(p.units)) :]
        )
        slim = watch_calls(graph.without(model, removed), x).by_layer
        true = {name: sum(work(c, c.inputs, c.outputs) for c in of) for name, of in slim.items()}
        where = {row.layer: row.after_ms for row in predictor.where(removed)}
        assert where.pop("all else") == 1.0
        assert where == pytest.approx(true)
        assert predictor.milliseconds(removed) == pytest.approx(1 + sum(true.values()))


def test_a_model_is_measured() -> None:
    model, x = resnet(3, 10, widths=(8, 16), blocks=1).eval(), torch.randn(3, 3, 8, 8)
    structure = find_structure(model, x)
    predictor = LatencyModel.measure(model, structure, x, seconds=0.1)
    where = predictor.where()
    names = {name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert {row.layer for row in where} == {*names, "all else"}
    assert sum(row.share for row in where) == pytest.approx(1)
    assert predictor.milliseconds({}) == pytest.approx(sum(row.after_ms for row in where))
    assert all(row.before_ms == row.after_ms for row in where)
    assert predictor.batch_size == 3
    assert "batch 3, " in repr(predictor)
    assert repr(where).startswith("Where the time goes: ")
    with pytest.raises(InputError, match="seconds = 0: expected a number > 0"):
        LatencyModel.measure(model, structure, x, seconds=0)


@pytest.mark.parametrize("block", [1, 8, 16, 32])
def test_the_multiple_of_the_blocks_is_found(block: int) -> None:
    widths = sorted([*range(64, 129, 8), *range(65, 129, 8)])
    times = np.array([1 + block * math.ceil(w / block) / 10 for w in widths])
    waste = waste_of(widths, times)
    assert smallest_fast(waste) == block
    assert all(waste[m] > waste[block] for m in waste if m < block)


def test_a_width_slower_than_a_larger_one_is_none_that_is_fast() -> None:
    """As of a kernel for an odd number of blocks of 16."""
    widths = [*range(256, 321, 8)]
    times = np.array([w / 10 * (1.3 if w % 32 else 1.0) for w in widths])
    assert smallest_fast(waste_of(widths, times)) == 32


def test_every_pool_gets_a_multiple_and_steps_keep_narrow_ones_free() -> None:
    model, x = resnet(3, 10, widths=(8, 16), blocks=1).eval(), torch.randn(2, 3, 8, 8)
    pools = find_structure(model, x).pools
    found = fast_multiples(model, find_structure(model, x), x, seconds=5)
    assert [row.layers for row in found] == [pool.layers for pool in pools]
    assert all(row.multiple in row.waste for row in found)
    assert repr(found).startswith("Widths that are fast here: multiples of ")
    hurried = fast_multiples(model, find_structure(model, x), x, seconds=1e-9)
    timed = [row for row in hurried if row.waste]
    assert 0 < len(timed) < len(hurried)
    assert {row.multiple for row in hurried} == {timed[0].multiple}
    of_32 = [FastMultiple(p.layers, len(p.units), 32, {}, 1.0) for p in pools]
    assert steps_for(pools, of_32) == tuple(len(pool.units) // 4 for pool in pools)
    of_2 = [FastMultiple(p.layers, len(p.units), 2, {}, 1.0) for p in pools]
    assert steps_for(pools, of_2) == (2,) * len(pools)


def aim(true: Callable[[int], float], predicted: Callable[[int], float], limit: float) -> list[int]:
    """Widths whose time was measured; the last is the one that was found."""
    measured: list[int] = []

    def plan_at(milliseconds: float) -> int:
        fitting = [w for w in range(1, 101) if predicted(w) <= milliseconds]
        if not fitting:
            raise InputError("too little", "more", "raise it")
        return max(fitting)

    def measure(model: nn.Module) -> float:
        assert isinstance(model, nn.Linear)
        measured.append(model.out_features)
        return true(model.out_features)

    met = meet_latency_by(plan_at, lambda w: nn.Linear(1, w), limit, torch.zeros(3, 1), measure=measure)
    assert met.measured_ms == true(met.plan) <= limit
    assert len(measured) == len(set(measured))
    assert met.summary == f"{met.measured_ms:.3g} ms for 3 samples, at most {limit:g} asked"
    return [*measured, met.plan]


@pytest.mark.parametrize("off", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_a_wrong_prediction_is_corrected(off: float) -> None:
    tried = aim(lambda w: 1 + 0.09 * w, lambda w: off * (1 + 0.09 * w), 5.0)
    assert 0.95 * 5 <= 1 + 0.09 * tried[-1] <= 5
    assert len(tried) <= 6


def test_a_prediction_without_its_constant_part_is_corrected() -> None:
    tried = aim(lambda w: 3 + 0.07 * w, lambda w: 0.1 * w, 5.0)
    assert 0.95 * 5 <= 3 + 0.07 * tried[-1] <= 5


def test_between_widths_far_apart_the_one_below_the_limit_is_taken() -> None:
    tried = aim(lambda w: 10.0 if w > 40 else 4.0, lambda w: 0.1 * w, 5.0)
    assert tried[-1] <= 40
    assert len(tried) <= 8


def test_a_limit_that_no_plan_reaches_is_refused() -> None:
    with pytest.raises(InputError, match=r"latency_ms = 5: expected at least 9.1, as fast as it got"):
        aim(lambda w: 9 + 0.1 * w, lambda w: 0.1 * w, 5.0)
    with pytest.raises(InputError, match="too little"):
        aim(lambda w: w, lambda w: 9.0 + w, 5.0)


def test_a_limit_is_met_by_the_clock_too() -> None:
    """Of a minute, which any model meets, in training mode or not: it stays as it is."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    met = meet_latency_by(lambda _: 4, lambda _: model, 6e4, torch.zeros(1, 3), tries=1)
    assert met.plan == 4
    assert 0 < met.measured_ms < 6e4
    assert model.training
