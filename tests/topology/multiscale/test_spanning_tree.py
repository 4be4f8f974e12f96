"""Tangle: against SciPy's tree, scikit-learn's neighbours and averages over random trees."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import unknot as uk
from unknot.core.errors import InputError
from unknot.topology import Tangle, make_shape
from unknot.topology.multiscale.spanning_tree import tangle


def labelled(
    seed: int, n: int, d: int, classes: int, apart: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Overlapping Gaussian classes of unlike sizes."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, n, p=shares)
    centres = apart * rng.normal(size=(classes, d)) / math.sqrt(d)
    return rng.normal(size=(n, d)) + centres[labels], labels


def between(points: NDArray[Any], labels: NDArray[Any]) -> int:
    """Edges between classes of SciPy's tree, of distinct points."""
    tree = minimum_spanning_tree(cdist(points.astype(np.float64), points.astype(np.float64))).tocoo()
    return int((labels[tree.row] != labels[tree.col]).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "d", "classes", "apart"),
    [(80, 1, 2, 1.0), (400, 2, 5, 4.0), (1200, 3, 3, 20.0), (500, 60, 4, 6.0)],
)
def test_tree_and_neighbours_are_those_of_others(
    n: int, d: int, classes: int, apart: float, dtype: type
) -> None:
    points, labels = labelled(n, n, d, classes, apart)
    points = points.astype(dtype)
    found = tangle(points, labels)
    cut = between(points, labels)
    expected = n - 1 - sum(s * (s - 1) for s in np.bincount(labels)) / n
    assert found.tangle == pytest.approx((cut - (classes - 1)) / (expected - (classes - 1)), rel=1e-12)
    assert (found.pieces, found.n_points, found.classes, found.note) == (cut + 1, n, classes, "")
    near = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(return_distance=False)
    assert found.purity == pytest.approx((labels[near] == labels[:, None]).mean(), abs=1e-12)
    assert tangle(points, labels, threads=1) == tangle(points, labels, threads=3) == found


def test_classes_of_one_piece_each_have_no_tangle() -> None:
    points, labels = labelled(0, 300, 5, 4, 200.0)
    found = uk.tangle(points, labels * 7 - 3)
    assert isinstance(found, Tangle)
    assert (found.tangle, found.pieces, found.purity) == (0.0, 4, 1.0)


@pytest.mark.parametrize("kind", [str, bytes, object, bool, "datetime64[D]"])
def test_labels_may_be_whatever_has_an_order(kind: Any) -> None:
    points, labels = labelled(1, 60, 3, 2, 1.0)
    names = np.array(["1970-01-02", "2001-02-03"]) if kind == "datetime64[D]" else np.array(["b", "a"])
    given = labels.astype(bool) if kind is bool else names[labels].astype(kind)
    assert tangle(points, given) == tangle(points, labels)
    assert tangle(points, given.tolist()) == tangle(points, labels)


def test_repr() -> None:
    points = np.array([[0.0], [1.0], [10.0], [10.0]])
    assert (
        repr(tangle(points[:3], [0, 0, 1])) == "Tangle(0, 2 pieces, purity 0.333, 3 points of 2 classes)"
    )
    assert repr(tangle(points, [0, 0, 1, 1])).endswith(
        "4 points of 2 classes; 1 of 4 points equal another)"
    )


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
def test_random_labels_have_tangle_one_on_average(shares: tuple[float, ...]) -> None:
    """The expectation is exact for the given sizes: 300 relabellings, 4 standard errors."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(120, 4))
    points[:30] = points[30:60]  # equal pairs too
    labels = np.repeat(np.arange(len(shares)), [round(120 * share) for share in shares])
    values = [tangle(points, rng.permutation(labels), threads=1).tangle for _ in range(300)]
    assert abs(np.mean(values) - 1) < 4 * np.std(values) / math.sqrt(300)
    assert np.std(values) < 0.3


def test_a_chessboard_is_more_tangled_than_chance() -> None:
    rows, columns = np.divmod(np.arange(400), 20)
    points = np.c_[rows, columns] + 0.01 * np.random.default_rng(0).normal(size=(400, 2))
    found = tangle(points, (rows + columns) % 2)
    assert (found.pieces, found.tangle) == (400, pytest.approx(398 / 199))


def test_shapes_fall_into_their_parts_and_noise_tangles_them() -> None:
    shape = make_shape("discs", holes=9)
    assert tangle(shape.points, shape.labels).pieces == 10  # nine discs, each in a hole of one plate
    noisy = [tangle(make_shape("discs", noise=s).points, shape.labels).tangle for s in (0.02, 0.1, 0.4)]
    assert 0 <= noisy[0] < noisy[1] < noisy[2]


@pytest.mark.parametrize("d", [2, 40])
def test_order_place_pose_and_unit_do_not_matter(d: int) -> None:
    points, labels = labelled(3, 400, d, 3, 3.0)
    found = tangle(points, labels)
    assert 0.02 < found.tangle < 0.98
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    units = (1e-300, 1e-40, 1e160, 1e300)
    for moved in (points @ turn, points + 1, *(points * unit for unit in units)):
        assert tangle(moved, labels) == found
    order = rng.permutation(400)
    assert tangle(points[order], labels[order]) == found
    assert tangle(points.astype(np.float32) * np.float32(1e30), labels) == tangle(
        points.astype(np.float32), labels
    )


def test_many_units_at_once() -> None:
    """Three blobs whose squared distances no float64 holds together: the trees of each, and two links."""
    blob, labels = labelled(0, 60, 3, 2, 2.0)
    points = np.concatenate([blob * 1e-200, blob + 1e3, blob * 1e200 + 1e203])
    found = tangle(points, np.concatenate([labels] * 3))
    inside = 3 * between(blob, labels)
    assert inside <= found.pieces - 1 <= inside + 2
    assert found.purity == pytest.approx(tangle(blob, labels).purity)


def random_tree_between(labels: list[int], rng: np.random.Generator) -> int:
    """Edges between classes of a random tree on these points: each joins one of those before."""
    order = rng.permutation(labels)
    return sum(order[i] != order[rng.integers(i)] for i in range(1, len(order)))


def test_equal_points_are_joined_at_random_on_average() -> None:
    """Three places with several points each: the mean over 4,000 random ways to join them."""
    places = {0.0: [0, 0, 1], 1.0: [1], 5.0: [0, 1, 1, 1, 2]}
    points = np.array([[x] for x, labels in places.items() for _ in labels])
    labels = np.array([label for group in places.values() for label in group])
    found = tangle(points, labels)
    rng = np.random.default_rng(0)
    groups = list(places.values())
    counts = [
        sum(random_tree_between(group, rng) for group in groups)
        + sum(rng.choice(a) != rng.choice(b) for a, b in pairwise(groups))
        for _ in range(4000)
    ]
    expected = 8 - sum(s * (s - 1) for s in np.bincount(labels)) / 9
    cut = found.tangle * (expected - 2) + 2
    assert abs(cut - np.mean(counts)) < 4 * np.std(counts) / math.sqrt(4000)
    assert found.pieces == round(cut) + 1
    assert found.note == "6 of 9 points equal another"
    order = rng.permutation(9)
    assert tangle(points[order], labels[order]).tangle == pytest.approx(found.tangle, rel=1e-12)


def test_a_constant_layer_tells_nothing_of_the_labels() -> None:
    found = tangle(np.ones((90, 5)), np.arange(90) % 3)
    assert found.tangle == pytest.approx(1.0, rel=1e-12)
    assert (found.pieces, found.n_points) == (61, 90)


def test_few_points() -> None:
    found = tangle([[0.0], [1.0], [10.0]], [0, 0, 1])
    assert (found.tangle, found.pieces) == (0.0, 2)
    assert found.purity == pytest.approx(1 / 3)
    assert tangle([[0.0], [9.0], [10.0]], [0, 0, 1]).tangle == 0.0  # one edge, between 9 and 10
    assert tangle([[0.0], [5.0], [10.0]], [0, 1, 0]).tangle == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.eye(4), [0, 0, 0, 0], "labels of one class: expected two classes or more"),
        (np.eye(4), [0, 1, 2, 3], "labels of 4 classes for 4 points"),
        (np.eye(4), [0, 1, 1], r"labels of shape \(3,\)"),
        (np.eye(4), [0.5, 1, 1, 1], "whole numbers"),
        (np.eye(4), np.array(["a", 1, "b", "b"], object), "labels of several types"),
        (np.eye(4), ["a", "b"], r"labels of shape \(2,\)"),
        (np.array([[np.inf], [0.0]]), [0, 1], "finite numbers only"),
        (np.empty((0, 3)), np.empty(0, int), "no labels"),
    ],
)
def test_bad_input_is_one_line(points: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        tangle(points, labels)
    assert "\n" not in str(error.value)


def test_more_memory_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.0001")
    with pytest.raises(InputError, match="the spanning tree of 2000 points"):
        tangle(np.zeros((2000, 3)), np.arange(2000) % 2)
