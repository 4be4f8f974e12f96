from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from unknot.activations.folds import ZFold
from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.nets import timing
from unknot.nets.cost import (
    Cost,
    CostComparison,
    compare_cost,
    count_macs,
    measure_cost,
    peak_activation_bytes,
)
from unknot.nets.timing import Latency, Speed, latency_of, speed_of, time_in_turns


def test_counts_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 5)
    )
    cost = measure_cost(model, torch.randn(2, 3, 4, 4), repeats=3)
    assert cost.parameters == 8 * 27 + 8 + 16 + 128 * 5 + 5
    assert cost.macs == 8 * 27 * 16 + 128 * 5 == count_macs(model, torch.randn(2, 3, 4, 4))
    # The buffers: running mean and variance, and an int64 counter.
    assert cost.bytes == 4 * (cost.parameters + 16) + 8
    assert cost.latency_ms > 0
    assert (cost.batch_size, cost.device) == (2, "cpu")
    assert [latency.batch_size for latency in cost.latencies] == [1, 64]
    assert all(latency.median_ms > 0 and latency.repeats == 3 for latency in cost.latencies)
    # Most at a time: the convolution's output and the normalised one, with eval mode's empty statistics.
    assert cost.activation_bytes == 4 * 2 * (2 * 8 * 16)


def test_the_latency_of_the_example_is_that_of_its_batch_size() -> None:
    cost = measure_cost(nn.Linear(4, 4), torch.randn(64, 4), repeats=5, batch_sizes=(64, 7))
    assert [latency.batch_size for latency in cost.latencies] == [7, 64]
    assert (cost.latency_ms, cost.latency_iqr_ms) == (
        cost.latencies[1].median_ms,
        cost.latencies[1].iqr_ms,
    )
    assert measure_cost(nn.Linear(4, 4), torch.randn(3, 4), repeats=1, batch_sizes=()).latencies == ()


def test_a_cost_comes_back_from_its_record() -> None:
    cost = measure_cost(nn.Linear(4, 4), torch.randn(3, 4), repeats=1)
    assert typed(Cost, asdict(cost)) == cost
    old = {k: v for k, v in asdict(cost).items() if k not in ("latencies", "activation_bytes")}
    assert typed(Cost, old).macs == cost.macs  # written by an earlier version


class Steps(nn.Module):
    """Operations whose memory is known: floats of 4 bytes, 1,000 a tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = x + 1  # 1
        b = a.view(10, -1).relu_()  # the same memory
        c = b * 2  # 2
        del a, b  # 1
        d = torch.cat([c, c])  # 3
        del c  # 2
        return d.sum()


def test_activation_memory_by_hand() -> None:
    x = torch.randn(1000)
    with torch.no_grad():
        assert peak_activation_bytes(Steps(), x) == 4 * 3000
        assert peak_activation_bytes(nn.Identity(), x) == 0
        # Parameters and input are no activations.
        assert peak_activation_bytes(nn.Linear(1000, 10), x) == 4 * 10
        assert peak_activation_bytes(nn.Sequential(*[nn.Linear(1000, 1000)] * 3), x) == 4 * 2000


def test_counting_takes_any_precision_and_needs_no_preparation() -> None:
    """A net in training mode, with gradients, and an example of another type than its weights."""
    model = nn.Sequential(nn.Linear(10, 20), nn.Dropout(0.5), nn.Linear(20, 5)).train()
    x = torch.randn(3, 10)
    with torch.no_grad():
        expected = peak_activation_bytes(model.eval(), x)
    assert expected == 4 * 3 * (20 + 5)
    for example in (x, x.double(), x.half()):
        assert peak_activation_bytes(model.train(), example) == expected
        assert count_macs(model, example) == 10 * 20 + 20 * 5 == count_macs(model, example[:1])
    assert model.training
    assert count_macs(model.bfloat16(), x) == 10 * 20 + 20 * 5
    assert peak_activation_bytes(model, x) == expected // 2
    with pytest.raises(InputError, match=r"a batch of shape \(3, 11\)"):
        count_macs(model, torch.randn(3, 11))


class Token(nn.Module):
    """A parameter, spread over the samples, enters a module."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.fc = nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc(self.token.expand(len(x), -1, -1))


def test_counting_takes_parameters_that_enter_a_module() -> None:
    model = Token()
    model.fc.bias.requires_grad_(False)
    assert count_macs(model, torch.randn(2, 3, 4)) == 6 * 4
    assert [p.requires_grad for p in model.parameters()] == [True, True, False]


def test_activation_memory_is_the_same_every_time_and_halves_with_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), ZFold(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(8, 1, 9, 9)
    with torch.no_grad():
        model(x)
        found = {peak_activation_bytes(model, x) for _ in range(3)}
        assert found == {2 * peak_activation_bytes(model, x[:4])}


def test_the_model_is_untouched() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    measure_cost(model, torch.randn(4, 2), repeats=2)
    count_macs(model, torch.randn(4, 2))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_comparison_keeps_the_order() -> None:
    small, large = nn.Linear(4, 2), nn.Linear(4, 64)
    found = compare_cost(large, small, torch.randn(3, 4), repeats=20)
    assert (found.before.parameters, found.after.parameters) == (64 * 5, 2 * 5)
    assert [speed.batch_size for speed in found.speeds] == [1, 64]
    assert all(0 < speed.low <= speed.ratio <= speed.high for speed in found.speeds)
    few = compare_cost(large, small, torch.randn(3, 4), repeats=1, batch_sizes=())
    assert [speed.batch_size for speed in few.speeds] == [3]
    assert not few.speeds[0].faster  # one round shows nothing


def test_a_smaller_network_that_is_not_faster_is_said_to_be_so() -> None:
    before = Cost(100, 1000, 400, 1.0, 0.1, 64, "cpu", 2)
    after = Cost(50, 250, 200, 1.1, 0.1, 64, "cpu", 2)
    speeds = (Speed(1, 1.1, 0.9, 1.3), Speed(64, 0.5, 0.4, 0.6))
    verdict = CostComparison(before, after, speeds).verdict
    assert "on cpu, 2 threads: at batch 1 it is not faster: 1.10 of the time [0.90 to 1.30]" in verdict
    assert "at batch 64 it takes 0.50 of the time" in verdict
    assert "It has 25% of the multiply-accumulates, but" in verdict
    assert "but" not in CostComparison(before, after, speeds[1:]).verdict
    wide = CostComparison(before, after, (Speed(1, 0.84, 0.17, 3.04),)).verdict
    assert "at batch 1 the timings scatter too much to tell: 0.84 of the time [0.17 to 3.04]" in wide
    assert "but" not in wide
    few = CostComparison(before, after, (speed_of(1, [1.0] * 3, [0.97] * 3),)).verdict
    assert few.endswith(": at batch 1 there are too few timed passes to tell: 0.97 of the time.")


def test_the_interval_of_a_speed_is_the_sign_tests() -> None:
    before = [1.0] * 20
    after = [0.5 + 0.01 * i for i in range(20)]
    speed = speed_of(1, before, after)
    # P(Bin(20, 1/2) <= 5) = 0.0207, so the 6th smallest and largest bound the median.
    assert (speed.low, speed.ratio, speed.high) == (0.55, pytest.approx(0.595), 0.64)
    few = speed_of(1, [1.0, 1.0], [0.1, 0.1])
    assert not few.faster and few.high == math.inf


def test_quartiles_of_a_latency() -> None:
    assert latency_of(3, [1.0, 2.0, 3.0]) == Latency(3, 2.0, 2.0, 3)
    assert latency_of(3, [4.0]) == Latency(3, 4.0, 0.0, 1)


def test_calls_take_turns_and_stop_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    calls = [lambda: called.append("a"), lambda: called.append("b")]
    taken = time_in_turns(calls, repeats=20)
    assert called == ["a", "b"] * 23  # three rounds to warm up
    assert [len(times) for times in taken] == [20, 20]
    monkeypatch.setattr(timing, "LIMIT_S", 0.0)
    assert [len(times) for times in time_in_turns(calls, repeats=20)] == [6, 6]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_time_and_memory_are_the_devices() -> None:
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 8)).cuda()
    cost = measure_cost(model, torch.randn(64, 512), repeats=5)  # moved to the model
    assert cost.device.startswith("cuda") and cost.latency_ms > 0
    assert cost.activation_bytes is not None and cost.activation_bytes >= 4 * 64 * 512


def test_bad_input() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        measure_cost(nn.Linear(2, 2), torch.empty(0, 2))
    with pytest.raises(InputError, match="repeats = 0"):
        measure_cost(nn.Linear(2, 2), torch.ones(1, 2), repeats=0)
    with pytest.raises(InputError, match="batch_sizes = 0"):
        measure_cost(nn.Linear(2, 2), torch.ones(1, 2), batch_sizes=(0,))
    with pytest.raises(InputError, match="type str"):
        measure_cost(nn.Linear(2, 2), "photo.png")  # type: ignore[arg-type]
