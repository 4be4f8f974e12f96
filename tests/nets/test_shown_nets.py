"""What costs and trainings draw, and say as tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import unknot as uk


def test_costs_of_one_model_and_of_two(drawn: Any) -> None:
    pytest.importorskip("pandas")
    before, after = nn.Linear(10, 8), nn.Linear(10, 2)
    found = uk.compare_cost(before, after, torch.randn(4, 10), repeats=2, batch_sizes=(1, 3))
    frame = found.to_frame()
    assert frame["what"].tolist() == [
        "parameters", "MACs per sample", "bytes", "peak activation memory, bytes",
        "latency at batch 1 in ms", "latency at batch 3 in ms",
    ]  # fmt: skip
    assert frame.loc[:2, "before"].tolist() == [88, 80, 352]
    assert frame.loc[:2, "after"].tolist() == [22, 20, 88]
    assert frame.loc[:2, "ratio"].tolist() == [0.25] * 3
    assert found.before.to_frame()["value"].tolist() == frame["before"].tolist()
    axes = found.plot()
    assert [bar.get_width() for bar in axes.patches] == frame["ratio"].tolist()
    assert found.verdict in repr(found) and "Cost on cpu, 1 thread, example of 4" in repr(found.before)


def test_what_was_nothing_has_no_ratio(drawn: Any) -> None:
    found = uk.compare_cost(nn.Identity(), nn.Identity(), torch.randn(4, 10), repeats=2)
    table = found._columns()
    assert table["before"][:3] == [0, 0, 0] and table["ratio"][:3] == [None] * 3
    assert [bar.get_width() for bar in found.plot().patches][:3] == [0, 0, 0]


def test_a_training(drawn: Any) -> None:
    pytest.importorskip("pandas")
    curve = uk.nets.TrainingCurve((0.5, 0.75), (0.7, 0.6))
    assert curve.to_frame().to_dict("list") == {
        "epoch": [1, 2], "train_accuracy": [0.5, 0.75], "loss": [0.7, 0.6],
    }  # fmt: skip
    (line,) = curve.plot().get_lines()
    assert line.get_xdata().tolist() == [1, 2] and line.get_ydata().tolist() == [0.5, 0.75]
    with pytest.raises(uk.InputError, match="a curve without rows"):
        uk.nets.TrainingCurve((), ()).plot()
