from __future__ import annotations

import math
from itertools import product
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from unknot.errors import InputError
from unknot.graph import Scale, knn_graph, scale_graph
from unknot.homology import betti_numbers
from unknot.scale import K_LADDER, RankedNeighbours, Run, calibrate, class_clouds
from unknot.synthetic import SHAPES, Shape, make_shape

RULES: tuple[Literal["knn", "radius"], ...] = ("knn", "radius")


def found(shape: Shape, scale: Scale, points: NDArray[np.float64] | None = None) -> dict[int, object]:
    points = shape.points if points is None else points
    return {
        label: betti_numbers(
            scale_graph(points[shape.labels == label], scale), max_dim=len(true) - 1
        ).values
        for label, true in shape.betti.items()
    }


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SHAPES)
def test_finds_the_true_numbers_of_every_shape(name: str, rule: Literal["knn", "radius"]) -> None:
    shape = make_shape(name, seed=107)
    scale = calibrate(shape.points, shape.labels, rule=rule)
    assert scale.determined
    assert (scale.k is None) == (rule == "radius")
    assert found(shape, scale) == dict(shape.betti)


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_true_numbers_of_noisy_random_rings(seed: int) -> None:
    radius = make_shape("rings", pairs=3, n=1500).radius
    shape = make_shape("rings", pairs=3, n=1500, noise=0.05 * radius, sampling="random", seed=seed)
    scale = calibrate(shape.points, shape.labels)
    assert scale.determined
    assert found(shape, scale) == dict(shape.betti)


@pytest.mark.parametrize("rule", RULES)
def test_an_embedding_in_fifty_dimensions_changes_nothing(rule: Literal["knn", "radius"]) -> None:
    shape = make_shape("discs", seed=1)
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(50, 50)))[0][:2]
    points = shape.points @ axes + 0.02 * shape.radius * rng.normal(size=(len(shape.points), 50))
    scale = calibrate(points, shape.labels, rule=rule)
    assert scale.determined
    assert found(shape, scale, points) == dict(shape.betti)


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_unlike_density(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, 1100)
    radii = np.where(np.arange(1100) < 1000, 1.0, 2.5)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    points += 0.08 * rng.normal(size=points.shape)
    scale = calibrate(points, radii > 2)
    assert scale.determined
    for part in (points[:1000], points[1000:]):
        assert betti_numbers(scale_graph(part, scale)).values == (1, 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("d", "n"), [*product((2, 3, 10, 50), (200, 500))])
def test_says_undetermined_on_noise(d: int, n: int, rule: Literal["knn", "radius"]) -> None:
    for seed in range(3):
        rng = np.random.default_rng([seed, d, n])
        for cloud in (rng.normal(size=(n, d)), rng.random((n, d))):
            scale = calibrate(cloud, rule=rule)
            assert not scale.determined
            assert (scale.k, scale.hops, scale.radius) == (14, 2, None)
            assert f"n = {n}" in scale.note


def test_one_solid_disc_a_class_is_not_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    radii, angles = np.sqrt(rng.random(800)), rng.uniform(0, 2 * np.pi, 800)
    disc = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    labels = np.arange(800) % 2
    disc[labels == 1] += 3
    scale = calibrate(disc, labels)
    assert not scale.determined
    assert "one blob a class" in scale.note


def test_too_few_points_for_the_shape_are_undetermined() -> None:
    shape = make_shape("checker", seed=0)
    scale = calibrate(shape.points, shape.labels, max_points=1000)
    assert not scale.determined


def test_max_dim_counts_voids() -> None:
    shape = make_shape("spheres", units=1, n=800, seed=0)
    scale = calibrate(shape.points, shape.labels, max_dim=2)
    assert scale.determined
    assert found(shape, scale) == dict(shape.betti)


def test_the_unit_of_the_points_does_not_matter() -> None:
    shape = make_shape("rings", pairs=2, n=800, seed=0)
    one, other = (calibrate(shape.points * unit, shape.labels) for unit in (1.0, 2.0**20))
    assert one == other
    one, other = (calibrate(shape.points * unit, shape.labels, rule="radius") for unit in (1.0, 2.0**20))
    assert one.radius is not None and other.radius == pytest.approx(one.radius * 2**20)


@pytest.mark.parametrize("order", range(3))
def test_the_order_and_names_of_points_and_classes_do_not_matter(order: int) -> None:
    shape = make_shape("rings", pairs=2, n=800, seed=0)
    rows = np.random.default_rng(order).permutation(800)
    assert calibrate(shape.points[rows], 7 - shape.labels[rows]) == calibrate(shape.points, shape.labels)


def test_is_reproducible() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    first = calibrate(shape.points, shape.labels, max_points=500, seed=4)
    assert first == calibrate(shape.points, shape.labels, max_points=500, seed=4)


def test_the_note_tells_the_stable_range() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    scale = calibrate(shape.points, shape.labels)
    assert scale.note.startswith("stable for k = ")
    assert "at 1 hop, " in scale.note and "at 2 hops" in scale.note and "n = 900" in scale.note


def test_a_run_is_measured_on_a_log_scale() -> None:
    run = Run(((1, 1),), (5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0))
    assert run.width == math.log(4)
    assert run.middle == 10


@pytest.mark.parametrize("d", [2, 3, 784])
def test_one_search_gives_the_graphs_of_every_k(d: int) -> None:
    rng = np.random.default_rng(d)
    # Whole numbers, so that there are ties.
    points = np.unique(rng.integers(0, 12, (150, d)), axis=0).astype(np.float64)
    neighbours = RankedNeighbours(points, max(K_LADDER))
    for k, hops in product((1, 4, 17, 42), (1, 2, 3)):
        one, other = neighbours.graph(k, hops), knn_graph(points, k=k, hops=hops)
        assert one.rows is not None and other.rows is not None
        np.testing.assert_array_equal(one.rows, other.rows)


def test_small_classes_are_measured_with_all_their_points() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    few = shape.points[:3] + 9
    scale = calibrate(np.concatenate([shape.points, few, few[:1] + 9]), [*shape.labels, 7, 7, 7, 8])
    alone = calibrate(shape.points, shape.labels)
    assert scale.determined
    assert (scale.k, scale.hops) == (alone.k, alone.hops)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (5, 4), (12, 11), (15, 14)])
@pytest.mark.parametrize("rule", RULES)
def test_tiny_clouds_are_undetermined(n: int, k: int, rule: Literal["knn", "radius"]) -> None:
    scale = calibrate(np.arange(n)[:, None] ** 2.0, rule=rule)
    assert (scale.k, scale.hops, scale.determined) == (k, 2, False)


@pytest.mark.parametrize(("unit", "rule"), [(1e-250, "knn"), (1e-250, "radius"), (1e250, "radius")])
def test_distances_beyond_float64_are_undetermined(unit: float, rule: Literal["knn", "radius"]) -> None:
    points = unit * np.random.default_rng(0).normal(size=(60, 2))
    assert not calibrate(points, rule=rule).determined


def test_duplicates_count_once() -> None:
    shape = make_shape("rings", pairs=2, n=600, seed=0)
    twice = np.concatenate([shape.points, shape.points])
    assert calibrate(twice, np.tile(shape.labels, 2)) == calibrate(shape.points, shape.labels)


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        ([[1.0, 2.0]] * 9, None, "one distinct point a class: expected at least 2"),
        ([[1.0, 2.0]] * 4 + [[0.0, 0.0]], [0, 0, 0, 0, 1], "one distinct point a class"),
        ([[0.0], [math.nan]], None, "nan.*finite"),
        (np.empty((0, 3)), None, "0 rows"),
        ([[0.0], [1.0]], [0], "labels of shape"),
        ([["a"], ["b"]], None, "an array of real numbers"),
    ],
)
def test_bad_points_are_refused(points: object, labels: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        calibrate(points, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [{"rule": "rips"}, {"max_points": 1}, {"max_points": 2.5}, {"max_dim": 3}, {"max_dim": -1}],
)
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(InputError, match=f"{next(iter(arguments))} = "):
        calibrate(points, **arguments)  # type: ignore[arg-type]


def test_class_clouds_are_by_label() -> None:
    clouds = class_clouds([[0.0], [1.0], [1.0], [2.0]], [3, 5, 5, 3])
    assert {label: cloud.ravel().tolist() for label, cloud in clouds.items()} == {3: [0, 2], 5: [1]}
    assert list(class_clouds([[0.0], [1.0]])) == [None]
