from __future__ import annotations

import numpy as np
import pytest

from unknot.errors import InputError
from unknot.graph import knn_graph
from unknot.homology import betti_numbers
from unknot.scale import calibrate
from unknot.synthetic import make_shape


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_the_true_numbers_of_linked_rings(seed: int) -> None:
    shape = make_shape("rings", pairs=4, n=1200, seed=seed)
    scale = calibrate(shape.points, shape.labels, max_points=1200)
    assert scale.determined
    assert scale.k is not None and scale.hops is not None
    for label, true in shape.betti.items():
        graph = knn_graph(shape.points[shape.labels == label], k=scale.k, hops=scale.hops)
        assert betti_numbers(graph).values == true


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_says_undetermined_on_gaussian_noise(seed: int) -> None:
    scale = calibrate(np.random.default_rng(seed).normal(size=(400, 5)))
    assert not scale.determined
    assert "one blob" in scale.note
    assert (scale.k, scale.hops) == (14, 2)


def test_small_classes_lower_k() -> None:
    points = np.random.default_rng(0).normal(size=(12, 2))
    scale = calibrate(points, [0] * 6 + [1] * 6)
    assert scale.k is not None and scale.k <= 5


def test_one_point_classes_are_refused() -> None:
    with pytest.raises(InputError, match="one distinct point"):
        calibrate([[0.0], [1.0], [2.0]], [0, 0, 1])


def test_is_reproducible() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    first = calibrate(shape.points, shape.labels, max_points=500, seed=4)
    assert first == calibrate(shape.points, shape.labels, max_points=500, seed=4)
