from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.topology.batch import CountSettings, betti_interval, count_clouds
from unknot.topology.calibration import K_LADDER, calibrate
from unknot.topology.graph import knn_graph, rips_graph, scale_graph
from unknot.topology.homology import betti_numbers, betti_numbers_batch
from unknot.topology.multiscale.sweep import Sensitivity, sensitivity
from unknot.topology.scale import Scale
from unknot.topology.shapes import make_shape

RINGS = make_shape("rings", pairs=2, n=600, seed=0)
FIRST = RINGS.points[RINGS.labels == 0]


def test_measures_every_class_over_k_and_hops() -> None:
    scan = sensitivity(RINGS.points, RINGS.labels)
    assert scan.chosen == calibrate(RINGS.points, RINGS.labels)
    assert scan.labels() == [0, 1]
    assert len(scan.rows) == 2 * 3 * len(K_LADDER)
    for row in scan.rows[::7]:
        assert row.scale.k is not None and row.scale.hops is not None
        cloud = RINGS.points[RINGS.labels == row.label]
        graph = knn_graph(cloud, k=row.scale.k, hops=row.scale.hops)
        assert (row.b0, row.b1) == betti_numbers(graph).values
        assert row.n_points == len(cloud)


def test_the_grid_is_ready_to_draw() -> None:
    scan = sensitivity(RINGS.points, RINGS.labels, scale=Scale(k=13, hops=4))
    grid = scan.as_grid(1, "b1")
    assert grid.x == tuple(sorted({*K_LADDER, 13}))
    assert grid.y == (1, 2, 3, 4)
    assert (grid.x_name, grid.y_name, grid.chosen) == ("k", "hops", (13, 4))
    assert grid.values.shape == (4, len(K_LADDER) + 1)
    row = next(r for r in scan.rows if r.label == 1 and r.scale == Scale(k=20, hops=2))
    assert grid.values[1, grid.x.index(20)] == row.b1


def test_a_radius_is_measured_over_radii() -> None:
    scale = calibrate(RINGS.points, RINGS.labels, rule="radius")
    assert scale.radius is not None
    scan = sensitivity(RINGS.points, RINGS.labels, scale=scale)
    grid = scan.as_grid(0, "b0")
    assert grid.values.shape == (1, 17)
    assert (grid.x_name, grid.y_name, grid.chosen) == ("radius", "", (scale.radius, ""))
    assert (grid.x[0], grid.x[-1]) == (scale.radius / 4, scale.radius * 4)
    assert grid.values[0, 3] == betti_numbers(rips_graph(FIRST, radius=grid.x[3])).values[0]


def test_cells_without_enough_points_are_empty() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    scan = sensitivity(points, [0] * 10 + [1] * 19 + [2])
    values = scan.as_grid(0, "b0").values
    assert values.shape == (3, 9)  # k = 4 to 17 of the class of 19
    np.testing.assert_array_equal(np.isnan(values), [[False] * 5 + [True] * 4] * 3)
    assert not scan.chosen.determined
    assert scan.labels() == [0, 1]


def test_survives_a_journey_through_json() -> None:
    scan = sensitivity(RINGS.points)
    assert scan.labels() == [None]
    assert typed(Sensitivity, json.loads(json.dumps(asdict(scan)))) == scan


def test_ten_hops_stand_after_two() -> None:
    cloud = np.random.default_rng(0).normal(size=(30, 2))
    assert sensitivity(cloud, scale=Scale(k=4, hops=10)).as_grid(None, "b0").y == (1, 2, 3, 10)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sensitivity(FIRST, scale=Scale()), "scale = given edges: expected k and hops"),
        (lambda: sensitivity(FIRST, scale=Scale(radius=0.0)), "a radius > 0"),
        (lambda: sensitivity([[0.0], [0.0]]), "one distinct point"),
        (lambda: sensitivity(FIRST).as_grid(4, "b0"), r"label = 4: expected one of \[None\]"),
        (lambda: sensitivity(FIRST).as_grid(None, "b2"), "number = 'b2': expected 'b0' or 'b1'"),  # type: ignore[arg-type]
        (lambda: betti_interval(FIRST, Scale()), "scale = given edges"),
        (lambda: betti_interval(FIRST, Scale(radius=1.0), repeats=0), "repeats = 0"),
        (lambda: betti_interval(FIRST, Scale(radius=1.0), share=0.0), "share = 0.0"),
        (lambda: betti_interval(FIRST, Scale(radius=1.0), share=1.5), "share = 1.5"),
        (lambda: betti_interval(FIRST, Scale(radius=1.0), max_dim=3), "max_dim = 3"),
        (lambda: betti_interval(np.empty((0, 2)), Scale(radius=1.0)), "0 rows"),
        (lambda: betti_interval([[np.inf]], Scale(radius=1.0)), "finite"),
    ],
)
def test_bad_input_is_refused(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()


@pytest.mark.parametrize("scale", [Scale(k=12, hops=2), Scale(radius=0.3)])
def test_an_interval_is_a_point_where_nothing_moves(scale: Scale) -> None:
    assert betti_interval(FIRST, scale) == ((2, 2), (2, 2))


def test_an_interval_holds_the_number_of_the_whole_cloud_and_of_its_subsamples() -> None:
    cloud = np.random.default_rng(0).normal(size=(300, 3))
    scale = Scale(k=5, hops=1)
    interval = betti_interval(cloud, scale, repeats=20, seed=3)
    whole = betti_numbers(scale_graph(cloud, scale)).values
    assert all(low <= value <= high for (low, high), value in zip(interval, whole, strict=True))
    assert interval[1][0] < interval[1][1]
    rng = np.random.default_rng(99)
    fresh = [cloud[rng.choice(300, 240, replace=False)] for _ in range(100)]
    outside = sum(
        not interval[1][0] <= betti.values[1] <= interval[1][1]
        for betti in betti_numbers_batch(fresh, k=5)
    )
    assert outside <= 25  # 2 of 21 are expected at most; the whole cloud makes it fewer


def test_k_is_held() -> None:
    # Every fifth point left out of a ring of 40: with k = 2 at one hop it stays one closed ring only
    # where the neighbours on both sides still count.
    angles = 2 * np.pi * np.arange(40) / 40
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert betti_interval(ring, Scale(k=8, hops=1), share=0.8) == ((1, 1), (1, 1))
    assert betti_interval(ring, Scale(k=8, hops=1), share=0.8, max_dim=0) == ((1, 1),)


def test_the_scale_says_where_k_is_lowered() -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 2)) for n in (30, 11, 10, 6, 1)]
    counted = count_clouds(clouds, CountSettings(Scale(k=9, hops=1, note="stable"), repeats=3))
    few = "k lowered: few distinct points"
    assert [(c.betti.scale.k, c.betti.scale.note) for c in counted] == [
        (9, "stable"),
        (9, "stable; intervals with k = 8: few points in a subsample"),
        (9, "stable; intervals with k = 7: few points in a subsample"),
        (5, f"{few}; intervals with k = 4: few points in a subsample"),
        (1, "one distinct point: constant"),
    ]
    alone = count_clouds(clouds, CountSettings(Scale(k=9, hops=1, note="stable")))
    assert [c.betti.scale.note for c in alone[:3]] == ["stable"] * 3
    by_radius = count_clouds(clouds, CountSettings(Scale(radius=1.0), repeats=3))
    assert all(c.betti.scale == Scale(radius=1.0) for c in by_radius)


def test_intervals_are_seeded_and_independent_of_threads() -> None:
    cloud = np.random.default_rng(0).normal(size=(200, 3))
    scale = Scale(k=5, hops=1)
    one = betti_interval(cloud, scale, seed=1, threads=1)
    assert one == betti_interval(cloud, scale, seed=1, threads=2)
    assert any(betti_interval(cloud, scale, seed=s) != one for s in range(2, 6))


@pytest.mark.parametrize("scale", [Scale(k=14, hops=2), Scale(radius=0.1)])
def test_small_clouds_have_intervals(scale: Scale) -> None:
    assert betti_interval([[1.0, 2.0]] * 5, scale) == ((1, 1), (0, 0))
    assert betti_interval([[0.0], [0.05]], scale, share=0.5) == ((1, 1), (0, 0))
    assert betti_interval(np.arange(10)[:, None] / 100, scale, max_dim=2) == ((1, 1), (0, 0), (0, 0))
