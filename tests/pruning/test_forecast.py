"""How long shrinking will take: told before it starts, and more for more work."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
import torch
from torch import nn

import unknot as uk
from unknot.pruning.allocation.efforts import EFFORTS
from unknot.pruning.allocation.forecast import Ahead, duration_text, pass_seconds
from unknot.pruning.structure.pools import find_structure


def test_more_work_takes_longer() -> None:
    model, x = uk.nets.cnn(1, 3, widths=(8, 8)), torch.randn(4, 1, 8, 8)
    structure = find_structure(model, x)

    def seconds(effort: Any, **change: Any) -> float:
        asked = {"scored": 400, "fitted": 256, "cuts": True, **change}
        return Ahead(EFFORTS[effort], **asked).seconds(structure, 1e-3)

    assert seconds("fast") < seconds("balanced") < seconds("best")
    assert seconds("fast") == seconds("fast", cuts=False)
    assert seconds("balanced") > seconds("balanced", cuts=False)
    assert seconds("fast") < seconds("fast", polish=10) < seconds("fast", polish=100)
    assert seconds("fast") < seconds("fast", trained=1000)
    one, two, three = (seconds("fast", rounds=n) for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one) and two > one


class Slow(nn.Module):
    """A net whose pass takes as long as is slept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return x.flatten(1)


def test_a_pass_is_timed_whatever_its_work() -> None:
    model = Slow().train()
    assert pass_seconds(model, torch.randn(10, 3)) >= 0.005
    assert model.training


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "about 5 s"), (42, "about 40 s"), (89, "about 90 s"), (130, "about 2 minutes"),
        (3000, "about 50 minutes"), (9000, "about 2 hours"),
    ],
)  # fmt: skip
def test_no_more_digits_than_are_known(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_it_is_told_where_bars_are(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    torch.manual_seed(0)
    model, x = uk.nets.cnn(1, 3, widths=(8, 8)), torch.randn(40, 1, 8, 8)
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda t=terminal: t)
        uk.shrink(model, x, macs=0.3, effort="fast", repeats=1, progress=True)
        assert ("shrinking: about 5 s" in capsys.readouterr().err) == terminal
