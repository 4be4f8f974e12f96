"""Layers read in step: what plain recording and SciPy say of the same model, and what a thread may do."""

from __future__ import annotations

import _thread
import threading
import time
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.follower import OUTPUT
from unknot.nets.models import cnn, resnet
from unknot.nets.probe import Probe
from unknot.nets.recording import (
    LayerDistances,
    LayerOutput,
    LayerShape,
    Recording,
    as_points,
    capture,
)
from unknot.nets.recording.embedding import count_doubtful
from unknot.nets.recording.sweeps import GROUPS, Pause, Section, plan_sections


@pytest.fixture(autouse=True)
def keep_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of the size that a test can afford are read as distances too."""
    monkeypatch.setattr("unknot.nets.recording.lockstep.KEPT_BYTES", 0)


class Tokens(nn.Module):
    """Attention over patches, a residual sum in place, a layer called twice, and a dict to come out."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.norm = nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.again = nn.Linear(32, 32)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor, shift: Tensor) -> dict[str, Tensor]:
        x = self.patch(images).flatten(2).transpose(1, 2) + shift[:, None]
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        x += F.relu(self.again(x), inplace=True)
        x = self.drop(self.again(x))
        return {"hidden": x, "logits": self.head(x.mean(1))}


def in_step(
    model: nn.Module, inputs: Any, blocks: int, batch_size: int = 7, *, layers: Any = "*"
) -> list[LayerOutput | LayerDistances]:
    """All layers in one section of so many blocks."""
    recording = Recording(model, Probe(inputs), tokens="all", layers=layers)
    pauses = recording._lockstep.pauses()
    assert pauses is not None
    return list(recording._lockstep.read(Section(pauses, blocks, batch_size)))


def require_same(read: list[LayerOutput | LayerDistances], plain: tuple[LayerOutput, ...]) -> int:
    """Values alike, distances within their bound of SciPy's; how many layers came as distances."""
    wide = 0
    assert [(r.layer, r.call) for r in read if r.layer != OUTPUT] == [(p.layer, p.call) for p in plain]
    for one, other in zip(read, plain, strict=False):
        if isinstance(one, LayerOutput):
            torch.testing.assert_close(one.values, other.values)
            continue
        wide += 1
        points = other.numpy().astype(np.float64)
        exact = cdist(points, points, "sqeuclidean")
        bound = one.unit * (one.reach[:, None] + one.reach[None]) ** 2
        # The model itself rounds otherwise in batches of another size.
        assert (np.abs(one.squares - exact) <= bound + 1e-5 * exact.max()).all()
        assert (one.squares == one.squares.T).all()
    return wide


@pytest.mark.parametrize("blocks", [1, 3, 5, 7])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_residual_nets_in_step_are_as_recorded(blocks: int, batch_norm: bool) -> None:
    torch.manual_seed(0)
    relu = [nn.ReLU, lambda: nn.ReLU(inplace=True)][blocks % 2]
    model = resnet(3, 4, widths=(8, 16), batch_norm=batch_norm, activation=relu)
    images = torch.randn(40, 3, 16, 16)
    plain = capture(model, images)[1:]
    assert require_same(in_step(model, images, blocks), plain) > 5


@pytest.mark.parametrize("blocks", [1, 3])
def test_tokens_dicts_and_repeated_calls_in_step(blocks: int) -> None:
    torch.manual_seed(0)
    inputs = {"images": torch.randn(30, 3, 16, 16), "shift": torch.randn(30, 32)}
    model = Tokens()
    plain = capture(model, inputs)[1:]
    read = in_step(model, inputs, blocks)
    assert require_same(read, plain) > 3
    assert [r.call for r in read if r.layer == "again"] == [0, 1]
    last = read[-1]
    assert isinstance(last, LayerOutput) and last.layer == OUTPUT
    assert model.training


def test_equal_samples_are_at_distance_0_and_others_are_not() -> None:
    torch.manual_seed(0)
    images = torch.randn(24, 3, 16, 16)
    images[9] = images[2]
    images[20] = images[2]
    images[21] = images[2] + 1e-6
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(inplace=True))
    for blocks in (1, 3):
        for layer in in_step(model, images, blocks, 4):
            assert isinstance(layer, LayerDistances)
            zeros = np.argwhere(layer.squares == 0)
            expected = {(i, i) for i in range(24)} | {(i, j) for i in (2, 9, 20) for j in (2, 9, 20)}
            assert {(int(i), int(j)) for i, j in zeros} == expected


@pytest.mark.parametrize("factor", [1e-30, 1e-10, 1e15, 1e30])
def test_any_unit_has_the_distances_of_that_unit(factor: float) -> None:
    torch.manual_seed(0)
    images = torch.randn(20, 3, 12, 12)
    (plain,) = in_step(nn.Sequential(nn.Conv2d(3, 16, 3, bias=False)), images, 1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False))
    torch.manual_seed(0)
    points = capture(model, images * factor)[1].numpy().astype(np.float64) / factor
    (layer,) = in_step(model, images * factor, 1)
    assert isinstance(layer, LayerDistances) and isinstance(plain, LayerDistances)
    exact = cdist(points, points, "sqeuclidean")
    np.testing.assert_allclose(layer.squares / factor**2, exact, rtol=1e-4, atol=1e-9)


def test_half_precision_and_channels_last_are_read_as_what_they_hold() -> None:
    torch.manual_seed(0)
    images = torch.randn(20, 8, 12, 12)
    for model, given in (
        (nn.Sequential(nn.Conv2d(8, 16, 3)).bfloat16(), images),
        (nn.Sequential(nn.Conv2d(8, 16, 3)), images.to(memory_format=torch.channels_last)),
        (nn.Sequential(nn.Conv2d(8, 16, 3)).double(), images.double()),
    ):
        assert require_same(in_step(model, given, 3), capture(model, given)[1:]) == 1


def test_nan_stays_nan() -> None:
    images = torch.zeros(10, 3, 12, 12)
    images[4, 0, 0, 0] = torch.nan
    (layer,) = in_step(nn.Sequential(nn.Conv2d(3, 8, 3)), images, 1)
    assert isinstance(layer, LayerDistances) and np.isnan(layer.squares[4, 5])


class Fork(nn.Module):
    """Which layers run hangs on the samples; a large one makes it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 64), nn.Linear(64, 64)
        self.fail: type[BaseException] = ValueError

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if bool((x > 100).any()):
            raise self.fail("too large")
        z: Tensor = self.second(y) if bool((x < 9).all()) else y
        return z


def test_a_layer_that_runs_for_some_batches_only_is_refused() -> None:
    x = torch.zeros(20, 4)
    x[13] = 9
    threads = threading.active_count()
    with pytest.raises(InputError, match=r"layer second, call 0, that ran for 1\d of 20 samples"):
        in_step(Fork(), x, 1, 4)
    assert threading.active_count() == threads


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_model_raises_comes_out_and_no_thread_stays(error: type[BaseException]) -> None:
    x = torch.zeros(20, 4)
    x[13] = 101
    model = Fork().train()
    model.fail = error
    threads = threading.active_count()
    with pytest.raises(InputError if error is ValueError else error, match="too large"):
        in_step(model, x, 3, 4)
    assert threading.active_count() == threads
    assert model.training and torch.is_grad_enabled() and not model.first._forward_hooks


def test_an_interruption_ends_every_thread() -> None:
    """Of the main thread, while a batch is at work in another."""
    x = torch.zeros(20, 4)
    x[13] = 101
    model = Fork().train()
    model.fail = _Interrupting
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        in_step(model, x, 3, 4)
    assert threading.active_count() == threads
    assert model.training and torch.is_grad_enabled() and not model.first._forward_hooks


class _Interrupting(ValueError):
    """Interrupts the main thread, as Ctrl-C does, when it is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        _thread.interrupt_main()
        time.sleep(0.2)


def test_a_reading_that_is_left_leaves_the_model_as_it_was() -> None:
    model = Fork().train()
    recording = Recording(model, Probe(torch.zeros(20, 4)))
    pauses = recording._lockstep.pauses()
    assert pauses is not None
    threads = threading.active_count()
    reading = recording._lockstep.read(Section(pauses, 1, 4))
    next(reading)
    assert threading.active_count() == threads + 5 and not model.training
    reading.close()
    assert threading.active_count() == threads
    assert model.training and torch.is_grad_enabled() and not model.first._forward_hooks


class Keeping(nn.Module):
    """Hands a shortcut on by an attribute: a batch that pauses finds that of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        y: Tensor = self.second(self.first(x)) + self.kept
        return y


def test_a_model_that_keeps_something_for_a_later_call_is_not_run_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(2000, 4)
    model = nn.Sequential(Keeping(), nn.Linear(4, 4))
    recording = Recording(model, Probe(x))
    assert recording._lockstep.pauses() is None
    assert Recording(nn.Sequential(nn.Linear(4, 4)), Probe(x))._lockstep.pauses() is not None
    monkeypatch.setattr("unknot.nets.recording.recorder.PASS_BYTES", 40_000)
    split = Recording(model, Probe(x), distances=True)
    for one, other in zip(split.readings(), capture(model, x), strict=False):
        assert isinstance(one, LayerOutput)
        torch.testing.assert_close(one.values, other.values)


@pytest.mark.parametrize("blocks", GROUPS)
def test_every_two_blocks_meet(blocks: int) -> None:
    """In planes once, and all groups are of one size."""
    meetings = Counter(pair for group in GROUPS[blocks] for pair in combinations(group, 2))
    assert set(meetings) == set(combinations(range(blocks), 2))
    assert set(meetings.values()) <= {1} or blocks == 5
    assert len({len(group) for group in GROUPS[blocks]}) == 1
    assert {i for group in GROUPS[blocks] for i in group} == set(range(blocks))


def layer_shape(name: str, numbers: int) -> Any:

    return LayerShape(name, 0, (numbers,), torch.float32)


def test_sections_take_the_fewest_steps_that_fit() -> None:
    """Two layers that hold much, then many that hold little: one number of blocks costs more."""
    early = [Pause(layer_shape(f"early{i}", 10**6), 8e6, 8e6, i + 1.0, True) for i in range(2)]
    late = [Pause(layer_shape(f"late{i}", 10**5), 1e6, 1e6, i + 3.0, True) for i in range(30)]

    (whole,) = plan_sections([*early, *late], 1000, 64, 20e9)
    assert (whole.blocks, whole.runs, whole.passes) == (1, 1, ((0,),))
    first, second = plan_sections([*early, *late], 1000, 64, 5e9)
    assert (len(first.pauses), first.blocks, second.blocks) == (2, 5, 1)
    assert first.runs == 2.4
    with pytest.raises(InputError, match="layer early0: 1000 samples .* lower max_points"):
        plan_sections([*early, *late], 1000, 64, 0.5e9)


def test_the_memory_limit_holds_and_every_layer_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, with what one plain run has of them."""
    torch.manual_seed(0)
    model, images = resnet(3, 4, widths=(16, 32, 64)), torch.randn(60, 3, 32, 32)
    plain = capture(model, images)
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.008")
    recording = Recording(model, Probe(images), tokens="all", distances=True)
    assert [section.blocks for section in recording._sections] == [7]
    lines: list[str] = []
    read = list(recording.readings(lines.append))
    assert len(lines) == recording.steps
    assert "pass 2 of 7" in str(lines)
    assert require_same(read, plain) > 5
    assert sum("read in step" in note for note in recording.notes) == len(recording._sections)


def test_sections_follow_each_other() -> None:
    torch.manual_seed(0)
    model, images = resnet(3, 4, widths=(8, 16)), torch.randn(30, 3, 16, 16)
    recording = Recording(model, Probe(images), tokens="all")
    pauses = recording._lockstep.pauses()
    assert pauses is not None
    sections = Section(pauses[:4], 7, 3), Section(pauses[4:9], 1, 8), Section(pauses[9:], 3, 8)
    read = [layer for section in sections for layer in recording._lockstep.read(section)]
    assert require_same(read, capture(model, images)[1:]) > 5


def test_what_fits_in_one_plain_run_is_recorded_plainly() -> None:
    recording = Recording(cnn(1, 2), Probe(torch.randn(20, 1, 8, 8)), distances=True)
    assert all(isinstance(r, LayerOutput) for r in recording.readings())
    assert not any("in step" in note for note in recording.notes)


def test_points_lie_as_far_apart_as_the_samples() -> None:
    torch.manual_seed(0)
    images = torch.randn(50, 3, 16, 16)
    images[9] = images[2]
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(inplace=True))
    exact = capture(model, images)[1:]
    for layer, plain in zip(in_step(model, images, 1), exact, strict=True):
        assert isinstance(layer, LayerDistances)
        points = as_points(layer, (5,))
        of_points = cdist(points.numpy(), points.numpy(), "sqeuclidean")
        of_samples = cdist(plain.numpy(), plain.numpy(), "sqeuclidean")
        np.testing.assert_allclose(of_points, of_samples, rtol=1e-5, atol=1e-9)
        assert (points.values[9] == points.values[2]).all()
        assert points.note.startswith("read as distances, whose squares are good to 7e-05")


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_points_of_few_dimensions(rank: int) -> None:
    """Distances that are far from general: all equal samples, a line, a space."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, rank)) if rank else np.zeros((30, 1))
    squares = cdist(points, points, "sqeuclidean")
    layer = LayerDistances("wide", 0, squares, np.linalg.norm(points, axis=1), 3e-5)
    found = as_points(layer).numpy()
    np.testing.assert_allclose(cdist(found, found, "sqeuclidean"), squares, rtol=1e-4, atol=1e-7)


def test_which_neighbours_the_bound_leaves_open_is_counted() -> None:
    """On a line the nearest of 1 is 0 by less than the bound; those of the ends are sure."""
    line = np.array([[0.0], [1.0], [2.0001], [3.0]])
    squares = cdist(line, line, "sqeuclidean")
    layer = LayerDistances("wide", 0, squares, np.abs(line[:, 0] - 1.5), 1e-3)
    assert [count_doubtful(layer, k) for k in (1, 2, 3)] == [2, 0, 0]
    exact = LayerDistances("wide", 0, squares, np.abs(line[:, 0] - 1.5), 1e-6)
    assert count_doubtful(exact, 1) == 0
