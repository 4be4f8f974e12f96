"""Profiles of models whose outputs do not fit: read in step they say what they say otherwise."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unknot as uk
from unknot.core.errors import InputError
from unknot.nets.models import cnn

SCALE = uk.Scale(k=6, hops=2)


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What makes every model too large, and every layer wide."""

    def patch() -> None:
        monkeypatch.setattr("unknot.nets.recording.recorder.PASS_BYTES", 1000)
        monkeypatch.setattr("unknot.nets.recording.lockstep.KEPT_BYTES", 0)

    return patch


def samples() -> tuple[Tensor, Tensor]:
    """Three patterns with noise."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    return torch.randn(3, 1, 16, 16)[labels] + torch.randn(60, 1, 16, 16) / 2, labels


@pytest.mark.parametrize("by", ["layer", "class"])
def test_profiles_read_in_step_are_those_of_plain_recordings(by: Any, in_step: Any) -> None:
    data = samples()
    torch.manual_seed(0)
    model = cnn(1, 3, batch_norm=True)
    plain = uk.measure(model, data, by=by, scale=SCALE, repeats=3, nulls=1, views=20)
    in_step()
    read = uk.measure(model, data, by=by, scale=SCALE, repeats=3, nulls=1, views=20)
    assert any("read in step" in note for note in read.notes)
    assert sum("read as distances" in row.note for row in read.rows) > len(read.rows) / 2
    for one, other in zip(read.rows, plain.rows, strict=True):
        same = ("layer", "call", "label", "n_points", "b0", "b1", "intervals", "islands", "scale")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    for a, b in zip(read.untangling, plain.untangling, strict=True):
        assert (a.layer, a.random, a.islands, a.members) == (b.layer, b.random, b.islands, b.members)
        assert (a.tangle, a.pieces, a.purity, a.shuffled) == (b.tangle, b.pieces, b.purity, b.shuffled)
        assert a.dimension == pytest.approx(b.dimension, rel=1e-3)
        assert a.tangle_interval == b.tangle_interval and a.islands_interval == b.islands_interval
    for view, whole in zip(read.views, plain.views, strict=True):
        assert (view.layer, view.labels) == (whole.layer, whole.labels)
        assert view.explained == pytest.approx(whole.explained, abs=1e-3)
    assert read.accuracy == plain.accuracy


class Bad(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan


def test_nan_is_refused_with_its_layer_and_the_model_comes_back(in_step: Any) -> None:
    in_step()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Bad(), nn.Flatten(), nn.Linear(784, 3))
    threads = threading.active_count()
    with pytest.raises(InputError, match="layer 2 with NaN or infinity"):
        uk.measure(model, samples(), by="layer", scale=SCALE)
    assert threading.active_count() == threads
    assert model.training and torch.is_grad_enabled() and not model[0]._forward_hooks


def test_tokens_are_calibrated_on_their_first_layer(in_step: Any) -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (40, 12))
    model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16), nn.Flatten(), nn.Linear(192, 2))
    labels = torch.arange(40) % 2
    plain = uk.measure(model, (ids, labels), by="layer", tokens="all")
    in_step()
    read = uk.measure(model, (ids, labels), by="layer", tokens="all")
    assert read.scale == plain.scale
    assert [row.b0 for row in read.rows] == [row.b0 for row in plain.rows]


def test_a_monitor_reads_in_step_too(in_step: Any) -> None:
    in_step()
    torch.manual_seed(0)
    model = cnn(1, 3)
    with uk.Monitor(model, samples(), by="layer", scale=SCALE) as monitor:
        monitor.record(1)
    profile = monitor.profile
    first = [row.b0 for row in profile.rows if row.epoch == 0]
    assert first and first == [row.b0 for row in profile.rows if row.epoch == 1]
