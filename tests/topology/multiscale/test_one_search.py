"""A cloud and parts of it from one search for neighbours: bit for bit what each says alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unknot import _native
from unknot.topology.multiscale import untangling
from unknot.topology.multiscale.density import islands
from unknot.topology.multiscale.spanning_tree import tangle
from unknot.topology.multiscale.untangling import UntanglingSettings, untangle_clouds

Points = NDArray[np.floating[Any]]
SIZES = [(90, 1), (130, 2), (300, 30), (700, 200), (1100, 3), (1100, 40), (2100, 100)]


@pytest.fixture(params=_native.engine_info()["variants"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.use_variant(request.param)
    yield request.param
    _native.use_variant(_native.engine_info()["variants"][-1])


def pieces(n: int, d: int, apart: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(n + d)
    labels = rng.integers(0, 6, n)
    return rng.normal(size=(n, d)) + apart * rng.normal(size=(6, d))[labels], labels


def draw(n: int, size: int, count: int = 3) -> NDArray[np.int32]:
    rng = np.random.default_rng(size)
    parts = [np.sort(rng.choice(n, size, replace=False)) for _ in range(count)]
    return np.array(parts, np.int32).reshape(count, size)


def pairs(edges: NDArray[np.int32]) -> set[tuple[int, int]]:
    return {(min(a, b), max(a, b)) for a, b in edges.tolist()}


def require_same(points: Points, parts: NDArray[np.int32], k: int) -> None:
    found = _native.untangle(points, parts, k, 2.0, nearest=10, tree=True, threads=2)
    assert len(found) == len(parts) + 1
    for ((members, prominences, dimension), edges, near), rows in zip(
        found, [np.arange(len(points)), *parts], strict=True
    ):
        own = np.ascontiguousarray(points[rows])
        alone = _native.find_islands([own], k, 2.0)[0]
        assert members.tolist() == alone[0].tolist()
        assert (prominences.tolist(), dimension) == (alone[1].tolist(), alone[2])
        lists = _native.nearest(own, 10)
        assert np.sort(near).tolist() == np.sort(lists).tolist()
        assert pairs(edges) == pairs(_native.spanning_tree(own, lists))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("apart", [0.0, 1.0, 40.0])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_halves_are_measured_as_if_alone(n: int, d: int, apart: float, dtype: type) -> None:
    points, _ = pieces(n, d, apart)
    require_same(points.astype(dtype), draw(n, n // 2), k=15)


@pytest.mark.parametrize("size", [12, 40])
def test_small_parts_need_more_than_the_lists(variant: str, size: int) -> None:
    """Of 60 neighbours about 2 and 8 are in a part."""
    points, _ = pieces(320, 20, 3.0)
    require_same(points, draw(320, size), k=9)


def test_ties_are_by_number(variant: str) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3)
    wide = np.kron(grid, np.ones((1, 8), np.float32))
    order = np.random.default_rng(0).permutation(len(grid))
    for points in (grid[order], wide[order].astype(np.float32)):
        require_same(points, draw(len(points), len(points) // 2), k=15)


def test_no_part_is_the_whole_alone(variant: str) -> None:
    points, _ = pieces(200, 5, 3.0)
    require_same(points, np.empty((0, 100), np.int32), k=15)


@pytest.mark.parametrize("exponent", [-1000, 600])
def test_squares_beyond_float64_are_left_to_each_alone(exponent: int) -> None:
    points, labels = pieces(120, 3, 3.0)
    far = np.ldexp(points, exponent)
    assert _native.untangle(far, draw(120, 60), 15, 3.0, nearest=10, tree=True) == []
    settings = UntanglingSettings(repeats=4)
    (there,), (here,) = (untangle_clouds([p], labels, settings) for p in (far, points))
    assert there.tangle == here.tangle and there.intervals.tangle == here.intervals.tangle
    assert there.intervals.total == pytest.approx(here.intervals.total)


@pytest.mark.parametrize("labelled", [True, False])
def test_one_search_says_what_separate_ones_say(monkeypatch: pytest.MonkeyPatch, labelled: bool) -> None:
    points, labels = pieces(301, 12, 2.0)
    labels = labels if labelled else labels * 0
    settings = UntanglingSettings(shuffles=5, seed=3)
    (once,) = untangle_clouds([points], labels, settings)
    monkeypatch.setattr(untangling, "_measured_at_once", lambda *_: None)
    (one_by_one,) = untangle_clouds([points], labels, settings)
    assert (once.tangle, once.intervals, once.shuffled, once.note) == (
        one_by_one.tangle, one_by_one.intervals, one_by_one.shuffled, one_by_one.note,
    )  # fmt: skip
    alone = islands(points)
    assert once.islands is not None
    assert once.islands.members.tolist() == alone.members.tolist()
    assert once.islands.prominences.tolist() == alone.prominences.tolist()
    assert once.tangle == (tangle(points, labels) if labelled else None)


@pytest.mark.parametrize(
    ("parts", "k", "nearest", "message"),
    [
        ([[0, 1, 2, 3]], 4, 1, "k=4, nearest=1"),
        ([[0, 1, 2, 3]], 1, 1, "k=1"),
        ([[0, 1, 2, 3]], 2, 4, "nearest=4"),
        ([[0, 1, 2, 20]], 2, 1, "parts hold 20"),
        ([[0, 2, 1, 3]], 2, 1, "parts hold 1"),
        ([[0, 1, 1, 3]], 2, 1, "parts hold 1"),
        ([[0, 1, 2, 3], [-1, 1, 2, 3]], 2, 1, "parts hold -1"),
    ],
)
def test_parts_are_checked(parts: list[list[int]], k: int, nearest: int, message: str) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=message):
        _native.untangle(points, np.array(parts, np.int32), k, 3.0, nearest=nearest, tree=False)
