"""Betti numbers against known spaces, GUDHI, Euler's formula and invariances."""

from __future__ import annotations

from itertools import combinations

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from unknot.errors import InputError
from unknot.graph import NeighborGraph, knn_graph, rips_graph
from unknot.homology import betti_numbers, betti_numbers_batch, persistence


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
    found = betti_numbers(graph, max_dim=1).values
    assert found == gudhi_betti(graph, 1)
    assert found == persistence(points).betti_at(radius)


@given(st.integers(1, 30), st.floats(0, 0.5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_components_agree_with_scipy_and_relabelling_changes_nothing(
    n: int, density: float, seed: int
) -> None:
    graph = random_graph(n, density, seed)
    edges = graph.edges()
    adjacency = sparse.coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    found = betti_numbers(graph).values
    assert found[0] == sparse.csgraph.connected_components(adjacency, directed=False)[0]
    order = np.random.default_rng(seed).permutation(n)
    assert betti_numbers(NeighborGraph.from_edges(n, order[edges])).values == found


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
    found = betti_numbers(knn_graph(np.random.default_rng(0).normal(size=(30, 2)), k=5, hops=2))
    assert (found.n_points, found.scale.k, found.scale.hops, found.scale.radius) == (30, 5, 2, None)
    assert found.total == sum(found.values)


def test_persistence_of_a_circle() -> None:
    turns = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    diagram = persistence(np.stack([np.cos(turns), np.sin(turns)], axis=1))
    birth, death = max(diagram.bars[1], key=lambda bar: bar[1] - bar[0])
    assert birth == pytest.approx(2 * np.sin(np.pi / 30), abs=1e-5)
    assert death == pytest.approx(np.sqrt(3), abs=1e-5)  # Adamaszek and Adams, 2017


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: betti_numbers(cross_polytope(2), max_dim=3), "max_dim = 3"),
        (lambda: betti_numbers(cross_polytope(2), max_dim=True), "max_dim = True"),
        (lambda: betti_numbers_batch([np.eye(2)]), "exactly one rule"),
        (lambda: betti_numbers_batch([np.eye(2)], radius=1.0, k=1), "exactly one rule"),
        (lambda: betti_numbers_batch([np.eye(2)], k=2), "more points than k"),
        (lambda: betti_numbers(cross_polytope(2), time_budget=0), "time_budget = 0"),
        (lambda: persistence([[0.0, 0.0]]), "at least 2"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()  # type: ignore[operator]
