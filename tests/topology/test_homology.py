"""Betti numbers against known spaces, GUDHI, Euler's formula and invariances."""

from __future__ import annotations

import math
from itertools import combinations

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from unknot.core.errors import InputError
from unknot.topology.graph import NeighborGraph, knn_graph, rips_graph, scale_graph
from unknot.topology.homology import (
    PersistenceDiagram,
    betti_numbers,
    betti_numbers_batch,
    count_lowered,
    persistence,
)
from unknot.topology.scale import Scale


def random_graph(n: int, density: float, seed: int) -> NeighborGraph:
    pairs = np.array(list(combinations(range(n), 2))).reshape(-1, 2)
    return NeighborGraph.from_edges(n, pairs[np.random.default_rng(seed).random(len(pairs)) < density])


def gudhi_betti(graph: NeighborGraph, max_dim: int) -> tuple[int, ...]:
    complex_ = gudhi.SimplexTree()
    for vertex in range(graph.n_points):
        complex_.insert([vertex])
    for i, j in graph.edges():
        complex_.insert([int(i), int(j)])
    complex_.expansion(max_dim + 1)
    # Without persistence_dim_max GUDHI leaves out the top dimension.
    complex_.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    return (*complex_.betti_numbers(), 0, 0, 0)[: max_dim + 1]


def cross_polytope(d: int) -> NeighborGraph:
    """The boundary of the d-dimensional cross-polytope: a flag sphere of dimension d - 1."""
    edges = [(i, j) for i, j in combinations(range(2 * d), 2) if i // 2 != j // 2]
    return NeighborGraph.from_edges(2 * d, edges)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (NeighborGraph.from_edges(0, []), (0, 0, 0)),
        (NeighborGraph.from_edges(1, []), (1, 0, 0)),
        (NeighborGraph.from_edges(2, []), (2, 0, 0)),
        (NeighborGraph.from_edges(2, [(0, 1)]), (1, 0, 0)),
        (NeighborGraph.from_edges(5, list(combinations(range(5), 2))), (1, 0, 0)),
        (NeighborGraph.from_edges(4, [(0, 1), (1, 2), (2, 3), (3, 0)]), (1, 1, 0)),
        (NeighborGraph.from_edges(6, [(i, j) for i in range(3) for j in range(3, 6)]), (1, 4, 0)),
        (cross_polytope(3), (1, 0, 1)),
        (cross_polytope(4), (1, 0, 0)),
    ],
    ids=["empty", "point", "two points", "edge", "complete", "square", "K33", "octahedron", "3-sphere"],
)
def test_known_spaces(graph: NeighborGraph, expected: tuple[int, ...]) -> None:
    for max_dim in (0, 1, 2):
        assert betti_numbers(graph, max_dim=max_dim).values == expected[: max_dim + 1]


def test_flat_torus() -> None:
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    a, b = (angle.ravel() for angle in np.meshgrid(turns, turns))
    points = np.stack([np.cos(a), np.sin(a), np.cos(b), np.sin(b)], axis=1)
    assert betti_numbers(rips_graph(points, radius=0.8), max_dim=2).values == (1, 2, 1)


@given(st.integers(1, 14), st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=120, deadline=None)
def test_agrees_with_gudhi_on_random_graphs(n: int, density: float, seed: int) -> None:
    graph = random_graph(n, density, seed)
    assert betti_numbers(graph, max_dim=2).values == gudhi_betti(graph, 2)


@given(st.integers(2, 40), st.integers(1, 6), st.floats(0.1, 2.0), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_agrees_with_gudhi_and_persistence_on_clouds(n: int, d: int, radius: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, d))
    graph = rips_graph(points, radius=radius)
    betti = betti_numbers(graph, max_dim=1).values
    assert betti == gudhi_betti(graph, 1)
    assert betti == persistence(points).betti_at(radius)


@given(st.integers(1, 30), st.floats(0, 0.5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_components_agree_with_scipy_and_relabelling_changes_nothing(
    n: int, density: float, seed: int
) -> None:
    graph = random_graph(n, density, seed)
    edges = graph.edges()
    adjacency = sparse.coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    betti = betti_numbers(graph).values
    assert betti[0] == sparse.csgraph.connected_components(adjacency, directed=False)[0]
    order = np.random.default_rng(seed).permutation(n)
    assert betti_numbers(NeighborGraph.from_edges(n, order[edges])).values == betti


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_disjoint_unions_add(seed: int, other: int) -> None:
    a, b = random_graph(12, 0.4, seed), random_graph(9, 0.5, other)
    union = NeighborGraph.from_edges(21, np.concatenate([a.edges(), b.edges() + 12]))
    sums = tuple(
        x + y
        for x, y in zip(
            betti_numbers(a, max_dim=2).values, betti_numbers(b, max_dim=2).values, strict=True
        )
    )
    assert betti_numbers(union, max_dim=2).values == sums


def test_batch_keeps_the_order_and_takes_ragged_clouds() -> None:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    clouds = [circle, circle[:2] * 9, np.concatenate([circle, circle + 5])]
    assert [b.values for b in betti_numbers_batch(clouds, radius=0.3)] == [(1, 1), (2, 0), (2, 2)]
    assert [b.values for b in betti_numbers_batch(np.stack([circle, circle]), k=2)] == [(1, 1), (1, 1)]
    assert betti_numbers_batch([], radius=1.0) == []


def test_threads_change_nothing() -> None:
    clouds = np.random.default_rng(0).normal(size=(40, 60, 5))
    one, two = (betti_numbers_batch(clouds, radius=2.0, threads=threads) for threads in (1, 2))
    alone = [betti_numbers(rips_graph(cloud, radius=2.0)) for cloud in clouds]
    assert [b.values for b in one] == [b.values for b in two] == [b.values for b in alone]


def test_a_spent_budget_is_an_error_and_not_a_hang() -> None:
    graph = random_graph(1200, 0.5, 0)
    with pytest.raises(TimeoutError):
        betti_numbers(graph, max_dim=2, time_budget=0.2)


def test_results_carry_scale_and_size() -> None:
    betti = betti_numbers(knn_graph(np.random.default_rng(0).normal(size=(30, 2)), k=5, hops=2))
    assert (betti.n_points, betti.scale.k, betti.scale.hops, betti.scale.radius) == (30, 5, 2, None)
    assert betti.total == sum(betti.values)


def test_persistence_of_a_circle() -> None:
    turns = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    diagram = persistence(np.stack([np.cos(turns), np.sin(turns)], axis=1))
    birth, death = max(diagram.bars[1], key=lambda bar: bar[1] - bar[0])
    assert birth == pytest.approx(2 * np.sin(np.pi / 30), abs=1e-5)
    assert death == pytest.approx(np.sqrt(3), abs=1e-5)  # Adamaszek and Adams, 2017


def circle(n: int) -> np.ndarray:
    turns = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def test_results_of_a_batch_carry_scale_and_size() -> None:
    clouds = [circle(5), circle(12)]
    by_radius = betti_numbers_batch(clouds, radius=0.6)
    assert [(b.scale, b.n_points) for b in by_radius] == [(Scale(radius=0.6), 5), (Scale(radius=0.6), 12)]
    assert [b.values for b in by_radius] == [(5, 0), (1, 1)]
    one, two = (betti_numbers_batch(clouds, k=2, hops=hops, max_dim=2) for hops in (1, 2))
    assert [b.scale for b in one + two] == [Scale(k=2, hops=1)] * 2 + [Scale(k=2, hops=2)] * 2
    for counted, hops in ((one, 1), (two, 2)):
        alone = [betti_numbers(knn_graph(c, k=2, hops=hops), max_dim=2).values for c in clouds]
        assert [b.values for b in counted] == alone
    assert [b.values for b in two] != [b.values for b in one]
    assert betti_numbers_batch(clouds, k=2)[0].scale.hops == 1


@pytest.mark.parametrize("scale", [Scale(k=2, hops=2, note="why"), Scale(radius=0.6, determined=False)])
def test_a_batch_takes_a_scale(scale: Scale) -> None:
    clouds = [circle(5), circle(12)]
    counted = betti_numbers_batch(clouds, scale=scale)
    spelled = betti_numbers_batch(clouds, k=scale.k, hops=scale.hops, radius=scale.radius)
    assert [b.values for b in counted] == [b.values for b in spelled]
    assert all(b.scale is scale for b in counted)


def test_k_is_lowered_for_small_clouds_and_for_them_alone() -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 2)) for n in (30, 1, 5, 2, 5)]
    counted = count_lowered(clouds, Scale(k=5, hops=2, note="stable"), max_dim=2)
    assert [b.n_points for b in counted] == [30, 1, 5, 2, 5]
    assert [b.scale.k for b in counted] == [5, 1, 4, 1, 4]
    few = "k lowered: few distinct points"
    assert [b.scale.note for b in counted] == ["stable", "one distinct point: constant", few, few, few]
    assert counted[1].values == (1, 0, 0)
    for cloud, betti in zip(clouds, counted, strict=True):
        if len(cloud) > 1:
            assert betti == betti_numbers(scale_graph(cloud, betti.scale), max_dim=2)
    assert count_lowered([], Scale(k=5)) == []


def test_points_with_a_rule_are_a_graph_at_its_scale() -> None:
    points = circle(12)
    for rule in ({"radius": 0.6}, {"k": 2}, {"k": 2, "hops": 2}, {"scale": Scale(radius=0.6)}):
        scale = rule.get("scale", None) or Scale(**rule)  # type: ignore[arg-type]
        betti = betti_numbers(points, **rule)  # type: ignore[arg-type]
        assert betti == betti_numbers(scale_graph(points, scale))
        assert betti.scale == scale
    assert betti_numbers(points.tolist(), radius=0.6, max_dim=2).values == (1, 1, 0)


def test_no_number_of_hops_or_threads_is_too_great() -> None:
    cloud = circle(12)
    assert betti_numbers(knn_graph(cloud, k=2, hops=10**30)).values == (1, 0)
    assert betti_numbers(cloud, k=2, hops=10**30, time_budget=math.inf).values == (1, 0)
    assert betti_numbers_batch([cloud, cloud], radius=0.6, threads=10**30)[1].values == (1, 1)


def test_a_radius_is_never_lowered() -> None:
    scale = Scale(radius=0.5)
    counted = count_lowered([np.zeros((1, 2)), np.array([[0.0], [1.0]])], scale)
    assert [(b.values, b.scale) for b in counted] == [((1, 0), scale), ((2, 0), scale)]


def test_every_cloud_of_a_batch_has_more_points_than_k() -> None:
    assert betti_numbers_batch([circle(4), circle(9)], k=3)[0].values == (1, 0)
    with pytest.raises(InputError) as caught:
        betti_numbers_batch([circle(9), circle(4)], k=4)
    assert str(caught.value) == "k = 4 with a cloud of 4 points: expected more points than k; pass k <= 3"
    assert betti_numbers_batch([], k=5) == []


def test_without_a_budget_nothing_is_given_up() -> None:
    """The engine takes zero seconds for no limit."""
    from unknot.topology.homology import _limits

    assert _limits(1, None)["time_budget_s"] == 0.0
    assert _limits(1, 0.25)["time_budget_s"] == 0.25
    assert betti_numbers_batch([circle(9)], k=2, time_budget=60)[0].values == (1, 1)


def test_a_spent_budget_of_a_batch_is_an_error() -> None:
    clouds = np.random.default_rng(0).normal(size=(4, 400, 12))
    with pytest.raises(TimeoutError):
        betti_numbers_batch(clouds, radius=4.5, max_dim=2, threads=1, time_budget=1e-9)


def test_more_memory_than_allowed_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(300, 0.5, 0)
    cloud = np.random.default_rng(0).normal(size=(300, 4))
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.00001")
    says = (
        r"homology of 300 points \(.+\): expected at most 1e-05 GB; "
        r"take a subsample, a smaller scale or max_dim, or raise UNKNOT_MEMORY_GB$"
    )
    with pytest.raises(InputError, match=says):
        betti_numbers(graph, max_dim=2)
    with pytest.raises(InputError, match=says):
        betti_numbers_batch([cloud[:5], cloud, cloud[:7]], radius=2.0)
    with pytest.raises(InputError, match=says):
        betti_numbers_batch([cloud[:9], cloud], k=8, hops=2)


def test_a_bar_counts_from_its_birth_until_before_its_death() -> None:
    bars = (np.array([[0.0, np.inf], [0.0, 1.0]]), np.array([[1.0, 2.0]]))
    diagram = PersistenceDiagram(bars, 3)
    radii = (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
    assert [diagram.betti_at(r) for r in radii] == [(0, 0), (2, 0), (2, 0), (1, 1), (1, 1), (1, 0)]


def test_persistence_goes_as_far_as_asked() -> None:
    octahedron = np.concatenate([np.eye(3), -np.eye(3)])
    assert len(persistence(octahedron).bars) == 2
    whole = persistence(octahedron, max_dim=2)
    assert [len(b) for b in whole.bars] == [6, 0, 1] and whole.n_points == 6
    assert whole.bars[2][0] == pytest.approx([np.sqrt(2), 2.0])
    assert whole.bars[2].dtype == np.float64
    near = persistence(octahedron, max_dim=2, max_radius=1.5)
    assert near.bars[2][0] == pytest.approx([np.sqrt(2), np.inf])
    pair = persistence([[0.0, 0.0], [3.0, 4.0]])
    assert sorted(pair.bars[0].ravel()) == pytest.approx([0, 0, 5, np.inf])
    with pytest.raises(InputError, match="max_dim = 3"):
        persistence(octahedron, max_dim=3)


ONE_RULE = "expected exactly one rule; pass scale=..., radius=... or k=..., hops=..."
DIMENSIONS = "expected 0, 1 or 2; pass max_dim=1 for b0 and b1"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: betti_numbers(cross_polytope(2), max_dim=3), f"max_dim = 3: {DIMENSIONS}"),
        (lambda: betti_numbers(cross_polytope(2), max_dim=-1), f"max_dim = -1: {DIMENSIONS}"),
        (lambda: betti_numbers(cross_polytope(2), max_dim=True), f"max_dim = True: {DIMENSIONS}"),
        (lambda: betti_numbers_batch([np.eye(2)]), f"no neighbour rule: {ONE_RULE}"),
        (
            lambda: betti_numbers_batch([np.eye(2)], radius=1.0, k=1),
            "k = 1 with radius = 1.0: expected exactly one rule; pass radius=... or k=..., hops=...",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], scale=Scale(radius=1.0), k=1),
            f"scale = radius=1 with k=1, hops=1: {ONE_RULE}",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], scale=Scale(k=4), hops=2),
            "hops = 2 with scale = k=4, hops=1: expected one of them; drop hops",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], radius=1.0, hops=2),
            "hops = 2 without k: expected both or neither; drop hops",
        ),
        (
            lambda: betti_numbers(np.eye(2)),
            "a graph of type ndarray: expected a NeighborGraph, or points with a scale; of points: "
            "uk.betti_numbers(uk.rips_graph(points, radius=...)) "
            "or uk.betti_numbers(uk.knn_graph(points, k=..., hops=...))",
        ),
        (
            lambda: betti_numbers(cross_polytope(2), radius=0.5),
            "radius = 0.5 with a graph at given edges: expected one of them; drop radius",
        ),
        (
            lambda: betti_numbers(np.eye(2), radius=0.5, k=1),
            "k = 1 with radius = 0.5: expected exactly one rule; pass radius=... or k=..., hops=...",
        ),
        (
            lambda: betti_numbers(np.eye(2), hops=2),
            "hops = 2 without k: expected both or neither; pass e.g. k=14",
        ),
        (
            lambda: betti_numbers_batch(np.eye(2), radius=1.0),
            "clouds of shape (2, 2): expected [b, n, d], or a list of arrays [n, d]; "
            "of one cloud pass [points]",
        ),
        (
            lambda: betti_numbers_batch([[0.0, 1.0], [2.0, 1.0]], radius=1.0),
            "clouds[0] of shape (2,): expected an array [n, d]; of one cloud pass [points], "
            "and numbers on a line as x[:, None]",
        ),
        (
            lambda: betti_numbers_batch(3, radius=1.0),  # type: ignore[arg-type]
            "clouds of type int: expected an array [b, n, d], or a list of arrays [n, d]; "
            "of one cloud pass [points]",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2), [[0.0, np.inf]]], radius=1.0),
            "clouds[1][0, 1] = inf: expected finite numbers only; "
            "drop or repair the rows with NaN or infinity",
        ),
        (
            lambda: betti_numbers(cross_polytope(2), max_dim=1.0),  # type: ignore[arg-type]
            f"max_dim = 1.0: {DIMENSIONS}",
        ),
        (
            lambda: betti_numbers(cross_polytope(2), time_budget="1"),  # type: ignore[arg-type]
            "time_budget = '1': expected seconds > 0; pass e.g. time_budget=60",
        ),
        (
            lambda: persistence(np.eye(2)).betti_at(float("nan")),
            "radius = nan: expected a number >= 0; pass e.g. radius=0.5",
        ),
        (
            lambda: persistence([[1.5e308], [-1.5e308]]),
            "distance of points 0 and 1: expected at most 1.8e308, where float64 ends; "
            "divide the points by a number, e.g. 1e10",
        ),
        (
            lambda: persistence(np.eye(2), max_radius=-1),
            "max_radius = -1: expected a number >= 0; pass e.g. max_radius=0.5",
        ),
        (
            lambda: persistence(np.eye(2), max_radius=float("nan")),
            "max_radius = nan: expected a number >= 0; pass e.g. max_radius=0.5",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], scale=Scale()),
            "scale = given edges: expected a radius, or k and hops; pass Scale(k=14, hops=2)",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], scale="k14"),  # type: ignore[arg-type]
            "scale = 'k14': expected a Scale; pass Scale(k=14, hops=2)",
        ),
        (
            lambda: betti_numbers_batch([np.ones((1, 2))], k=1),
            "k = 1 with a cloud of 1 points: expected more points than k; pass at least 2 points",
        ),
        (
            lambda: betti_numbers_batch([np.eye(2)], k=2),
            "k = 2 with a cloud of 2 points: expected more points than k; pass k <= 1",
        ),
        (
            lambda: betti_numbers_batch([np.eye(3)], k=0),
            "k = 0: expected a whole number >= 1; pass e.g. k=1",
        ),
        (
            lambda: betti_numbers_batch([np.eye(3)], k=1, hops=0),
            "hops = 0: expected a whole number >= 1; pass e.g. hops=1",
        ),
        (
            lambda: betti_numbers_batch([np.eye(3)], k=1, threads=-1),
            "threads = -1: expected a whole number >= 0; pass e.g. threads=1",
        ),
        (
            lambda: betti_numbers(cross_polytope(2), time_budget=0),
            "time_budget = 0: expected seconds > 0; pass e.g. time_budget=60",
        ),
        (
            lambda: betti_numbers(cross_polytope(2), time_budget=float("nan")),
            "time_budget = nan: expected seconds > 0; pass e.g. time_budget=60",
        ),
        (lambda: persistence([[0.0, 0.0]]), "1 point(s): expected at least 2; pass more points"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert str(caught.value) == says
