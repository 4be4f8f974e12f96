from __future__ import annotations

import pytest
import torch
from torch import nn

from unknot.cost import compare_cost, measure_cost
from unknot.errors import InputError


def test_counts_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 5)
    )
    cost = measure_cost(model, torch.randn(2, 3, 4, 4), repeats=3)
    assert cost.parameters == 8 * 27 + 8 + 16 + 128 * 5 + 5
    assert cost.macs == 2 * (8 * 27 * 16 + 128 * 5)
    # The buffers: running mean and variance, and an int64 counter.
    assert cost.bytes == 4 * (cost.parameters + 16) + 8
    assert cost.latency_ms > 0
    assert (cost.batch_size, cost.device) == (2, "cpu")


def test_the_model_is_untouched() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    measure_cost(model, torch.randn(4, 2), repeats=2)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_comparison_keeps_the_order() -> None:
    small, large = nn.Linear(4, 2), nn.Linear(4, 64)
    costs = compare_cost((large, small), torch.randn(3, 4), repeats=2)
    assert [c.parameters for c in costs] == [64 * 5, 2 * 5]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        measure_cost(nn.Linear(2, 2), torch.empty(0, 2))
    with pytest.raises(InputError, match="repeats = 0"):
        measure_cost(nn.Linear(2, 2), torch.ones(1, 2), repeats=0)
