"""Islands and tangle of many clouds: against one call each, half by half, permutation by permutation."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import unknot as uk
from unknot.core.errors import InputError
from unknot.core.memory import LIMIT_VARIABLE
from unknot.topology.batch import CountSettings, count_clouds
from unknot.topology.multiscale.density import Islands, islands
from unknot.topology.multiscale.spanning_tree import tangle
from unknot.topology.multiscale.untangling import (
    CloudSettings,
    UntanglingSettings,
    measure_clouds,
    untangle_clouds,
)


def three_pieces(n: int = 300, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Three Gaussian pieces of two classes, of which two overlap."""
    rng = np.random.default_rng(seed)
    piece = np.arange(n) % 3
    centres = np.array([[0.0, 0, 0], [2, 0, 0], [30, 0, 0]])
    return rng.normal(size=(n, 3)) + centres[piece], (piece == 1).astype(np.int64)


def halves(n: int, repeats: int, seed: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return [rng.choice(n, n // 2, replace=False) for _ in range(repeats)]


def same(one: Islands, other: Islands) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_cloud_is_what_islands_and_tangle_say_of_it(dtype: type) -> None:
    points, labels = three_pieces()
    clouds = [points.astype(dtype), points[:, :1].astype(dtype), points.reshape(-1, 3, 1).astype(dtype)]
    for found, cloud in zip(untangle_clouds(clouds, labels, UntanglingSettings()), clouds, strict=True):
        assert found.islands is not None and same(found.islands, islands(cloud))
        assert found.tangle == tangle(cloud, labels)
    other = untangle_clouds(clouds[:1], labels, UntanglingSettings(k=10, z=4.0, repeats=0))[0]
    assert other.islands is not None and same(other.islands, islands(clouds[0], 10, 4.0))
    assert other.intervals.islands is None and other.shuffled is None


def test_intervals_are_the_number_and_the_spread_of_halves_about_their_mean() -> None:
    points, labels = three_pieces(301)
    (found,) = untangle_clouds([points], labels, UntanglingSettings(repeats=7, seed=4))
    parts = [(islands(points[rows]), tangle(points[rows], labels[rows])) for rows in halves(301, 7, 4)]
    whole = islands(points), tangle(points, labels)
    for name, which in (("total", 0), ("tangle", 1), ("purity", 1)):
        values = [getattr(part[which], name) for part in parts]
        value, mean = getattr(whole[which], name), sum(values) / len(values)
        low, high = value + min(values) - mean, value + max(values) - mean
        high = min(high, 1.0) if name == "purity" else high
        assert getattr(found.intervals, name) == pytest.approx((max(0.0, low), high)), name
        assert name == "total" or low < value < high
    counts = [part[0].count for part in parts]
    low, high = (whole[0].count + end(counts) - sum(counts) / 7 for end in (min, max))
    assert found.intervals.islands == (max(1, math.floor(low)), math.ceil(high))


def test_counts_are_rounded_outward() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 2))
    points[:200, 0] += 4.0  # two pieces that just part
    (found,) = untangle_clouds([points], None, UntanglingSettings(repeats=20))
    counts = [islands(points[rows]).count for rows in halves(400, 20, 0)]
    assert found.islands is not None and found.islands.count == 2 and set(counts) == {1, 2}
    assert 1 < sum(counts) / 20 < 2  # so the ends are 2 + 1 - mean in (1, 2) and 2 + 2 - mean in (2, 3)
    assert found.intervals.islands == (1, 3)


def test_halves_of_one_sample_spread_as_fresh_samples_do() -> None:
    rng = np.random.default_rng(0)

    def sample() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = rng.integers(0, 2, 300)
        return rng.normal(size=(300, 2)) + 2 * labels[:, None], labels

    settings = UntanglingSettings(repeats=20)
    fresh = [(tangle(*one), one) for one in (sample() for _ in range(60))]
    for name in ("tangle", "purity"):
        spread = np.std([getattr(found, name) for found, _ in fresh])
        widths = []
        for _, (points, labels) in fresh[:8]:
            span = getattr(untangle_clouds([points], labels, settings)[0].intervals, name)
            widths.append(span[1] - span[0])
        # The range of 20 normal numbers is 3.7 standard deviations on average.
        assert 0.7 < np.mean(widths) / 3.735 / spread < 1.4, name


@pytest.mark.parametrize("equal", [False, True])
def test_shuffled_labels_give_the_tangle_of_each_permutation(equal: bool) -> None:
    points, labels = three_pieces()
    points = np.round(points) if equal else points
    assert (len(np.unique(points, axis=0)) < len(points)) is equal
    (found,) = untangle_clouds([points], labels, UntanglingSettings(shuffles=20, repeats=0, seed=3))
    rng = np.random.default_rng(3)
    values = [tangle(points, rng.permutation(labels)).tangle for _ in range(20)]
    assert found.shuffled == pytest.approx((min(values), max(values)))
    assert found.shuffled is not None and found.shuffled[0] < 1 < found.shuffled[1]
    assert found.tangle is not None and found.tangle.tangle < found.shuffled[0]


@pytest.mark.parametrize(
    ("cloud", "labels", "has", "note"),
    [
        ("constant", True, (False, False), "all points are equal: no islands, no tangle"),
        ("few", True, (False, True), "no islands: 9 distinct points, k = 15 takes more"),
        ("plain", None, (True, False), "no tangle: no labels"),
        ("plain", False, (True, False), "no tangle: labels of one class"),
        ("plain", "each", (True, False), "no tangle: classes of one point each"),
        ("one", True, (False, False), "all points are equal: no islands, no tangle"),
    ],
)
def test_what_cannot_be_measured_is_none_with_a_note(
    cloud: str, labels: Any, has: tuple[bool, bool], note: str
) -> None:
    points, two = three_pieces(90)
    clouds = {
        "constant": points * 0 + 3, "few": np.arange(90.0)[:, None] % 9, "plain": points,
        "one": points[:1],
    }  # fmt: skip
    array = clouds[cloud]
    kinds = {None: None, True: two, False: two * 0, "each": np.arange(90)}
    given = None if labels is None else kinds[labels][: len(array)]
    (found,) = untangle_clouds([array], given, UntanglingSettings(shuffles=2))
    assert (found.islands is not None, found.tangle is not None) == has
    assert note in found.note.split("; ")
    spans = found.intervals
    assert ((spans.islands is not None, spans.tangle is not None), found.shuffled is not None) == (
        has,
        has[1],
    )


def test_halves_of_too_few_points_give_no_interval_and_say_so() -> None:
    points, labels = three_pieces(24)
    (found,) = untangle_clouds([points], labels, UntanglingSettings())
    assert found.islands is not None and found.intervals.islands is None
    assert "no interval of islands: too few points in half of them" in found.note
    assert found.intervals.purity is not None


def test_what_memory_does_not_allow_is_none_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels = three_pieces()
    monkeypatch.setenv(LIMIT_VARIABLE, "0.00005")
    (found,) = untangle_clouds([points], labels, UntanglingSettings())
    assert found.islands is None and found.tangle is None
    assert "no islands: the kNN graph of 300 points" in found.note
    assert "no tangle: the spanning tree of 300 points" in found.note


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error(value: float) -> None:
    points, labels = three_pieces()
    points[7, 1] = value
    with pytest.raises(InputError, match=r"points\[7, 1\]"):
        untangle_clouds([points], labels, UntanglingSettings())


@pytest.mark.parametrize(
    "change",
    [{"k": 1}, {"z": 0}, {"repeats": -1}, {"shuffles": 1.5}, {"threads": -1}, {"seed": True}],
)
def test_settings_are_checked(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(InputError, match=f"^{name} = "):
        UntanglingSettings(**change)


def test_labels_of_another_length_are_refused() -> None:
    points, labels = three_pieces()
    with pytest.raises(InputError, match=r"labels of shape \(299,\)"):
        untangle_clouds([points], labels[1:], UntanglingSettings())


def test_betti_numbers_of_classes_stand_beside_the_numbers_of_the_whole() -> None:
    points, labels = three_pieces()
    groups = tuple(np.flatnonzero(labels == label) for label in (0, 1))
    counting, untangling = CountSettings(uk.Scale(k=8, hops=1)), UntanglingSettings(repeats=2)
    clouds = [points, points[:, :2]]
    counts, found = measure_clouds(clouds, CloudSettings(counting, groups, untangling, labels))
    parts = [cloud[group] for cloud in clouds for group in groups]
    assert counts == count_clouds(parts, counting)
    alone = untangle_clouds(clouds, labels, untangling)
    assert [(f.tangle, f.intervals) for f in found] == [(a.tangle, a.intervals) for a in alone]
    assert measure_clouds(clouds, CloudSettings(counting)) == (count_clouds(clouds, counting), [])
    assert measure_clouds(clouds, CloudSettings(None, groups, untangling, labels))[0] == []
