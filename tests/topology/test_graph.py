from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from sklearn.neighbors import NearestNeighbors

from unknot.core.errors import InputError
from unknot.topology.graph import NeighborGraph, knn_graph, rips_graph, scale_graph
from unknot.topology.rules import estimate_memory
from unknot.topology.scale import Scale


def edge_set(graph: NeighborGraph) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in graph.edges()}


def grid(side: int, dimension: int) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(float(side))] * dimension)
    return np.stack([a.ravel() for a in axes], axis=1)


@given(
    st.integers(0, 150), st.integers(1, 5), st.floats(0, 3), st.sampled_from([np.float32, np.float64]),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rips_agrees_with_scipy(n: int, d: int, radius: float, dtype: type, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)
    expected = set()
    if n > 1:
        joined = squareform(pdist(points.astype(np.float64))) <= radius
        expected = {(int(i), int(j)) for i, j in np.argwhere(joined) if i < j}
    graph = rips_graph(points, radius=radius)
    assert edge_set(graph) == expected
    assert graph.n_edges == len(expected)
    assert graph.n_points == n


@pytest.mark.parametrize("squared", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_count_as_joined_in_every_path(squared: int, dtype: type) -> None:
    points = grid(4, 3).astype(dtype)
    radius = math.sqrt(squared)
    exact = ((points[:, None] - points[None]) ** 2).sum(axis=2) <= squared
    expected = {(int(i), int(j)) for i, j in np.argwhere(exact) if i < j}
    distances = squareform(pdist(points.astype(np.float64)))
    assert edge_set(rips_graph(points, radius=radius)) == expected
    assert edge_set(rips_graph(distances=distances, radius=radius)) == expected


@given(st.integers(2, 120), st.integers(1, 4), st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_knn_hops_agree_with_scikit_learn_and_shortest_paths(
    n: int, d: int, k: int, hops: int, seed: int
) -> None:
    k = min(k, n - 1)
    points = np.random.default_rng(seed).normal(size=(n, d))
    adjacency = NearestNeighbors(n_neighbors=k).fit(points).kneighbors_graph(mode="connectivity")
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    steps = sparse.csgraph.shortest_path(adjacency, unweighted=True)
    expected = {(int(i), int(j)) for i, j in np.argwhere(steps <= hops) if i < j}
    assert edge_set(knn_graph(points, k=k, hops=hops)) == expected


def test_knn_breaks_ties_by_index() -> None:
    # All corners of the square are equally far from the middle: 0 and 1 are its two nearest.
    points = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]
    assert {(0, 4), (1, 4)} <= edge_set(knn_graph(points, k=2))
    nearest_of_middle = {pair for pair in edge_set(knn_graph(points, k=1)) if 4 in pair}
    assert (0, 4) in nearest_of_middle


def test_rows_are_symmetric_closed_and_clean_past_n() -> None:
    graph = rips_graph(np.random.default_rng(0).normal(size=(70, 2)), radius=0.5)
    assert graph.rows is not None
    bits = np.unpackbits(graph.rows.view(np.uint8), axis=1, bitorder="little")
    assert graph.rows.shape == (70, 2)
    assert not bits[:, 70:].any()
    assert (bits[:, :70] == bits[:, :70].T).all()
    assert bits[:, :70].diagonal().all()


def test_from_edges_and_from_sparse_are_the_same_graph() -> None:
    edges = [(0, 1), (3, 2), (1, 0), (2, 2)]
    graph = NeighborGraph.from_edges(5, edges)
    assert edge_set(graph) == {(0, 1), (2, 3)}
    matrix = sparse.coo_array((np.ones(2), ([0, 2], [1, 3])), shape=(5, 5))
    assert edge_set(NeighborGraph.from_sparse(matrix)) == edge_set(graph)
    assert graph.n_edges == 2
    assert NeighborGraph.from_edges(0, []).n_points == 0


@pytest.mark.parametrize("scale", [Scale(k=2, hops=2, note="why"), Scale(radius=1.5)])
def test_a_graph_at_a_scale_is_that_of_its_rule(scale: Scale) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    graph = scale_graph(points, scale)
    assert graph.scale is scale
    knn = scale.k is not None and scale.hops is not None
    alone = knn_graph(points, k=2, hops=2) if knn else rips_graph(points, radius=1.5)
    assert edge_set(graph) == edge_set(alone)


def test_given_edges_are_no_rule() -> None:
    with pytest.raises(InputError, match="a radius, or k and hops"):
        scale_graph(np.eye(4), Scale())


def test_more_features_than_16_bits_count() -> None:
    points = np.zeros((3, 70_000), dtype=np.float32)
    points[1, 65_536] = 1.0
    points[2, 69_999] = 3.0
    assert edge_set(rips_graph(points, radius=1.0)) == {(0, 1)}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rips_graph(np.eye(2), radius=-1), "radius = -1"),
        (lambda: rips_graph(np.eye(2), radius=float("nan")), "radius = nan"),
        (lambda: rips_graph(radius=1), "exactly one of them"),
        (lambda: rips_graph(np.eye(2), radius=1, distances=np.eye(2)), "exactly one of them"),
        (lambda: rips_graph(distances=np.ones((2, 3)), radius=1), r"\[n, n\]"),
        (lambda: rips_graph(distances=[[0, 1], [2, 0]], radius=1), "symmetric"),
        (
            lambda: knn_graph(np.eye(3), k=3),
            r"k = 3 with a cloud of 3 points: expected more points than k; pass k <= 2$",
        ),
        (lambda: knn_graph(np.eye(3), k=0), "k = 0"),
        (lambda: knn_graph(np.eye(3), k=1, hops=0), "hops = 0"),
        (lambda: knn_graph(np.eye(3), k=True), "k = True"),
        (lambda: NeighborGraph.from_edges(3, [(0, 3)]), r"in \[0, 3\)"),
        (lambda: NeighborGraph.from_edges(3, [(0.5, 1)]), "whole numbers"),
        (lambda: NeighborGraph.from_sparse(sparse.eye_array(2, 3)), "square"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()  # type: ignore[operator]


def test_large_knn_graphs_are_neighbour_lists_and_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(300, 3))
    dense = knn_graph(points, k=5, hops=3)
    monkeypatch.setattr("unknot.topology.rules.DENSE_POINTS", 100)
    lists = knn_graph(points, k=5, hops=3)
    assert dense.rows is not None and lists.rows is None
    assert edge_set(lists) == edge_set(dense)
    assert lists.n_edges == dense.n_edges


def test_memory_is_known_and_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert estimate_memory(8000) >= 8000 * 8000 // 8
    assert estimate_memory(60_000, k=14, hops=2) < estimate_memory(60_000)
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.0001")
    with pytest.raises(InputError, match=r"a dense neighbour graph of 2000 points.*UNKNOT_MEMORY_GB"):
        rips_graph(np.zeros((2000, 1)), radius=1)
    with pytest.raises(InputError, match=r"a kNN-hop graph of 2000 points"):
        knn_graph(np.arange(2000.0)[:, None], k=3)
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "much")
    with pytest.raises(InputError, match="UNKNOT_MEMORY_GB=much"):
        rips_graph(np.eye(3), radius=1)
