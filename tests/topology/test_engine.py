"""The native engine: known complexes, independent oracles, invariances, threads, limits."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.superlevel import plain_islands
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from unknot import _native

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))
import fuzz

VARIANTS = _native.engine_info()["variants"]


@pytest.fixture(params=VARIANTS)
def variant(request):
    before = _native.engine_info()["variant"]
    _native.use_variant(request.param)
    yield request.param
    _native.use_variant(before)


def betti(a, max_dim=2):
    """Betti numbers of a boolean adjacency matrix; both representations must agree."""
    dense = _native.betti_rows(fuzz.pack(a), max_dim)
    assert _native.betti_csr(*fuzz.to_csr(a), max_dim) == dense
    return dense


def cycle(n):
    a = np.eye(n, dtype=bool)
    a[np.arange(n), (np.arange(n) + 1) % n] = True
    return a | a.T


def octahedron(k):
    """The flag sphere of dimension k - 1 on 2k vertices."""
    pair = np.arange(2 * k) // 2
    return (pair[:, None] != pair[None, :]) | np.eye(2 * k, dtype=bool)


def grid_torus(side):
    i, j = np.divmod(np.arange(side * side), side)
    di = (i[:, None] - i[None, :]) % side
    dj = (j[:, None] - j[None, :]) % side
    return sum(
        (di == s % side) & (dj == t % side)
        for s, t in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)]
    ).astype(bool)


def circle_points(n, radius=1.0):
    t = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(t), np.sin(t)], 1)


KNOWN = [
    ("no point", np.zeros((0, 0), bool), (0, 0, 0)),
    ("one point", np.ones((1, 1), bool), (1, 0, 0)),
    ("two points apart", np.eye(2, dtype=bool), (2, 0, 0)),
    ("an edge", np.ones((2, 2), bool), (1, 0, 0)),
    ("empty graph", np.eye(130, dtype=bool), (130, 0, 0)),
    ("complete graph", np.ones((130, 130), bool), (1, 0, 0)),
    ("triangle", cycle(3), (1, 0, 0)),
    ("square", cycle(4), (1, 1, 0)),
    ("long cycle", cycle(1000), (1, 1, 0)),
    ("octahedron", octahedron(3), (1, 0, 1)),
    ("flag 3-sphere", octahedron(4), (1, 0, 0)),
    ("flag 4-sphere", octahedron(5), (1, 0, 0)),
    ("torus", grid_torus(7), (1, 2, 1)),
    ("larger torus", grid_torus(12), (1, 2, 1)),
]


@pytest.mark.parametrize(("name", "a", "expected"), KNOWN, ids=[k[0] for k in KNOWN])
def test_known_complexes(variant, name, a, expected):
    assert betti(a) == expected
    assert betti(a, 1) == expected[:2]
    assert betti(a, 0) == expected[:1]


def test_more_tetrahedra_than_the_core_lists_are_taken_apart(variant):
    """42^4 = 3.1 million, in a join of four discrete sets, a wedge of 3-spheres; beside it 2-spheres."""
    part = np.concatenate([np.repeat(np.arange(4), 42), np.repeat(np.arange(4, 7), 3)])
    a = (part[:, None] != part[None, :]) & ((part[:, None] < 4) == (part[None, :] < 4))
    assert betti(a | np.eye(len(a), dtype=bool)) == (2, 0, 8)


def test_complete_bipartite_graph_has_the_loops_of_a_join(variant):
    part = np.arange(23) < 9
    a = (part[:, None] != part[None, :]) | np.eye(23, dtype=bool)
    assert betti(a) == (1, 8 * 13, 0)


def test_three_parts_join_to_a_bouquet_of_spheres(variant):
    part = np.repeat([0, 1, 2], [3, 4, 5])
    a = (part[:, None] != part[None, :]) | np.eye(12, dtype=bool)
    assert betti(a) == (1, 0, 2 * 3 * 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_circle_and_sphere_from_points(variant, dtype):
    circle = circle_points(900).astype(dtype)
    assert _native.betti_batch_points([circle], [0.1], 2) == [(1, 1, 0)]
    i = np.arange(800) + 0.5
    z, t = 1 - 2 * i / 800, np.pi * (1 + 5**0.5) * i  # Fibonacci sphere
    r = np.sqrt(1 - z * z)
    sphere = np.stack([r * np.cos(t), r * np.sin(t), z], 1).astype(dtype)
    assert _native.betti_batch_points([sphere], [0.35], 2) == [(1, 0, 1)]


def test_duplicates_change_nothing(variant):
    circle = circle_points(60)
    assert _native.betti_batch_points([np.repeat(circle, 13, axis=0)], [0.2], 2) == [(1, 1, 0)]
    assert _native.betti_batch_points([np.ones((300, 5))], [0.0], 2) == [(1, 0, 0)]


@pytest.mark.parametrize("d", [1, 2, 3, 5, 6, 7, 16, 17, 49, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbour_rule_is_the_same_on_every_path(variant, d, dtype):
    rng = np.random.default_rng(d)
    points = np.round(rng.normal(size=(150, d)), 1).astype(dtype)
    distances = fuzz.rips(points, 1)[1]
    for share in (0.001, 0.05, 0.5, 0.999):
        radius = float(np.quantile(distances, share, method="lower"))  # equal to a distance
        expected = fuzz.rips(points, radius)[0]
        assert (fuzz.unpack(_native.rows_from_points(points, radius)) == expected).all()
        assert (fuzz.unpack(_native.rows_from_points(points.astype(float), radius)) == expected).all()
        assert (fuzz.unpack(_native.rows_from_distances(distances, radius)[0]) == expected).all()
        single = distances.astype(np.float32)
        rows, _ = _native.rows_from_distances(single, radius)
        assert (fuzz.unpack(rows) == (single.astype(float) <= radius)).all()
        answer = _native.betti_rows(fuzz.pack(expected), 1)
        assert _native.betti_batch_points([points], [radius], 1) == [answer]


def test_scale_equal_to_a_distance_is_inside(variant):
    points = np.array([[0.0, 0.0], [0.1, 0.2], [0.3, 0.3]])
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        radius = float(cdist(points, points)[i, j])
        assert fuzz.unpack(_native.rows_from_points(points, radius))[i, j]
        below = np.nextafter(radius, 0)
        assert not fuzz.unpack(_native.rows_from_points(points, below))[i, j]


@pytest.mark.parametrize("exponent", [-1060, -900, -530, -70, -20, 20, 60, 500, 1010])
@pytest.mark.parametrize("d", [2, 20])
def test_extreme_magnitudes(variant, d, exponent):
    points = np.random.default_rng(0).integers(-200, 200, (90, d)) / 64  # exact in every unit
    radius = 1.5 if d == 2 else 11.5
    expected = fuzz.rips(points, radius)[0]
    assert 90 < expected.sum() < 8000
    far, reach = np.ldexp(points, exponent), float(np.ldexp(radius, exponent))
    assert (fuzz.unpack(_native.rows_from_points(far, reach)) == expected).all()
    if abs(exponent) < 100:
        single = far.astype(np.float32)
        assert (fuzz.unpack(_native.rows_from_points(single, reach)) == expected).all()
    answer = _native.betti_rows(fuzz.pack(expected), 1)
    assert _native.betti_batch_points([far], [reach], 1) == [answer]


def test_radius_zero_joins_equal_points_alone(variant):
    points = np.array([[0.0, 1.0], [5e-324, 1.0], [0.0, 1.0], [1e-200, 1.0], [-0.0, 1.0]])
    assert _native.betti_batch_points([points], [0.0], 0) == [(3,)]
    assert _native.betti_batch_points([points], [5e-324], 0) == [(2,)]
    assert _native.betti_batch_points([np.repeat(points, 200, axis=0)], [0.0], 0) == [(3,)]


def test_points_without_features_are_one_point(variant):
    assert _native.betti_batch_points([np.zeros((5, 0))], [0.0], 1) == [(1, 0)]
    # Of equal points those with the lowest numbers are the nearest: 0, 1 and 2, and 2 of 0 and 1 alone.
    nearest = np.eye(5, dtype=bool)
    nearest[:, :2] = nearest[:2, 2] = True
    assert (fuzz.from_csr(*_native.knn_edges(np.zeros((5, 0)), 2)) == (nearest | nearest.T)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 5, 64, 65, 150])
@pytest.mark.parametrize("threads", [1, 3])
def test_distances_are_surveyed_on_the_way_to_bits(variant, n, dtype, threads):
    d = np.random.default_rng(n).normal(size=(n, n)).astype(dtype)
    share = dtype(2**-10)
    apart = np.abs(d - d.T)
    excess = apart - share * np.maximum(np.abs(d), np.abs(d.T))
    expected = [x.max(initial=0) for x in (d, apart, excess, np.abs(d.diagonal()))]
    rows, survey = _native.rows_from_distances(d, 0.5, 2**-10, threads=threads)
    assert survey == (d.min(initial=0), *expected, True)
    # The lesser of the two counts, and a point is at its own side whatever the matrix says.
    assert (fuzz.unpack(rows) == ((np.minimum(d, d.T) <= 0.5) | np.eye(n, dtype=bool))).all()
    d = np.maximum(d, d.T)  # two whole tiles that are one the other's mirror image are surveyed once
    _, survey = _native.rows_from_distances(d, 0.5, 2**-10, threads=threads)
    assert survey == (d.min(initial=0), d.max(initial=0), 0, 0, np.abs(d.diagonal()).max(initial=0), True)
    for i in range(0, n, 7):
        for odd in (np.nan, np.inf, -np.inf):
            for place in ((i, n - 1), (n - 1, i), (i, i)):
                spoilt = d.copy()
                spoilt[place] = odd
                assert not _native.rows_from_distances(spoilt, 0.5, threads=threads)[1][-1]


def test_infinite_and_negative_radius(variant):
    points = np.random.default_rng(0).normal(size=(10, 9))
    assert fuzz.unpack(_native.rows_from_points(points, np.inf)).all()
    assert (fuzz.unpack(_native.rows_from_points(points, -1.0)) == np.eye(10, dtype=bool)).all()


def test_more_than_65536_features(variant):
    points = np.zeros((12, 70_000), np.float32)
    points[:, -2:] = circle_points(12)
    assert _native.betti_batch_points([points], [0.6], 1) == [(1, 1)]


def test_more_than_65536_points_in_a_sparse_graph():
    indptr, indices = _native.knn_edges(circle_points(70_000, 1e4), 2)
    assert len(indices) == 140_000
    assert _native.betti_csr(indptr, indices, 2) == (1, 1, 0)
    hop = _native.hop_csr(indptr, indices, 3, threads=2)
    assert len(hop[1]) == 70_000 * 6
    assert _native.betti_csr(*hop, 1) == (1, 1)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 65, 200])
@pytest.mark.parametrize("d", [1, 3, 20])
def test_knn_edges(variant, n, d):
    rng = np.random.default_rng(n)
    points = np.round(rng.normal(size=(n, d)), 1)  # many ties
    squared = fuzz.rips(points, 1)[2]
    np.fill_diagonal(squared, np.inf)
    for k in (1, 5, 250):
        a = np.eye(n, dtype=bool)
        near = np.argsort(squared, axis=1, kind="stable")[:, : max(0, min(k, n - 1))]
        a[np.arange(n)[:, None], near] = True
        graph = _native.knn_edges(points, k, threads=2)
        assert (fuzz.from_csr(*graph) == (a | a.T)).all()
        for hops in (0, 1, 2, 4):
            far = np.linalg.matrix_power((a | a.T).astype(float), hops) > 0
            assert (fuzz.unpack(_native.hop_rows(*graph, hops)) == far).all()
            assert (fuzz.from_csr(*_native.hop_csr(*graph, hops)) == far).all()


def nearest_by_rule(points, k):
    """The kNN graph in plain numpy: squared distances by the rule, ties by the lower number.

    In a unit near to the greatest number, as the rule does not depend on it.
    """
    n = len(points)
    exponent = np.frexp(np.abs(points).max())[1]
    squared = fuzz.rips(np.ldexp(points.astype(np.float64), -exponent), 1)[2]
    a = np.eye(n, dtype=bool)
    number = np.broadcast_to(np.arange(n), (n, n))
    order = np.lexsort((number, squared, np.eye(n, dtype=bool)))  # the point itself is last
    a[np.arange(n)[:, None], order[:, :k]] = True
    return a | a.T


def spread(rng, shape):
    """Points of sizes from 1e-30 to 1e30."""
    return rng.normal(size=shape) * 10.0 ** rng.uniform(-30, 30, (shape[0], 1))


def halves_repeated(rng, shape):
    points = np.maximum(rng.normal(size=shape), 0)
    points[::2] = points[0]
    return points


def stray(rng, shape):
    return rng.normal(size=shape) * np.where(rng.random((shape[0], 1)) < 0.1, 1e4, 1)


def scaled(size, rng, shape):
    return size * rng.normal(size=shape)


# Squares underflow below 1e-154 or so, and overflow above 1e154.
SIZES = (1e30, 1e-30, 1e-42, 1e-158, 1e-162, 1e-200, 1e-310, 1e150, 1e154, 1e300)
CLOUDS = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "grid": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "binary": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "one point": lambda rng, shape: np.full(shape, 0.1),
    "duplicates": halves_repeated,
    "stray": stray,
    "far away": lambda rng, shape: 1e6 + rng.normal(size=shape),
    "far away, close together": lambda rng, shape: 1e6 + 1e-9 * rng.integers(0, 9, shape),
    "neighbouring numbers": lambda rng, shape: 1 + 2.0**-52 * rng.integers(0, 9, shape),
    "nearly a grid": lambda rng, shape: rng.integers(0, 2, shape) + 1e-9 * rng.normal(size=shape),
    "spread": spread,
    **{f"{size:g}": functools.partial(scaled, size) for size in SIZES},
}


def check_knn(points, ks):
    before = _native.engine_info()["variant"]
    try:
        for k in ks:
            expected = nearest_by_rule(points, k)
            for name in VARIANTS:
                _native.use_variant(name)
                assert (fuzz.from_csr(*_native.knn_edges(points, k)) == expected).all()
    finally:
        _native.use_variant(before)


@given(
    st.sampled_from(sorted(CLOUDS)), st.integers(2, 200), st.sampled_from([1, 2, 3, 8, 16, 33, 50, 130]),
    st.floats(0, 1), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_knn_is_the_brute_force_answer_bit_for_bit(kind, n, d, share, dtype, seed):
    points = CLOUDS[kind](np.random.default_rng(seed), (n, d))
    points = points.clip(-1e38, 1e38).astype(dtype) if dtype == np.float32 else points
    check_knn(points, [1 + int(share * (n - 2))])


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize(("n", "d"), [(300, 3), (300, 16), (130, 256), (70, 1024)])
def test_knn_of_larger_clouds(kind, n, d):
    points = CLOUDS[kind](np.random.default_rng(n + d), (n, d))
    check_knn(points, [1, 14, n - 1])
    check_knn(points.clip(-1e38, 1e38).astype(np.float32), [14, 64, 65])


@pytest.mark.parametrize(
    "kind", ["gaussian", "grid", "duplicates", "far away, close together", "1e-158", "1e-200"]
)
@pytest.mark.parametrize(("n", "d"), [(1100, 2), (1300, 9), (1100, 100), (2200, 33)])
def test_knn_by_boxes_and_in_strips(kind, n, d):
    rng = np.random.default_rng(n)
    points = CLOUDS[kind](rng, (n, d))
    if d > 2:  # boxes far from one another
        points += points.std() * 20 * rng.integers(0, 4, (n, 1))
    check_knn(points, [14, 100])


def test_knn_batch_equals_the_steps(variant):
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 3)) for n in (3, 80, 700)]
    steps = [_native.betti_rows(_native.hop_rows(*_native.knn_edges(c, 6), 2), 1) for c in clouds]
    assert _native.betti_batch_knn(clouds, 6, 2, 1) == steps


def blobs(seed, n, d, parts, dtype):
    rng = np.random.default_rng(seed)
    centres = 12 * rng.normal(size=(parts, d)) / np.sqrt(d)
    return (rng.normal(size=(n, d)) + centres[np.arange(n) % parts]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "parts"), [(66, 1, 2), (200, 2, 5), (150, 24, 3), (120, 200, 1)])
def test_islands_are_those_of_the_definition(variant, n, d, parts, dtype):
    clouds = [blobs(seed, n, d, parts, dtype) for seed in range(3)]
    for k, z in ((2, 1.0), (6, 2.0), (15, 3.0)):
        found = _native.find_islands(clouds, k, z, threads=2)
        for cloud, (members, prominences, dimension) in zip(clouds, found, strict=True):
            expected = plain_islands(cloud, k, z)
            assert dimension == pytest.approx(expected[2], rel=1e-9)
            assert prominences == pytest.approx(expected[1], rel=1e-6, abs=1e-6)
            assert members.tolist() == expected[0]
            alone = _native.find_islands([cloud], k, z, threads=1)[0]
            assert (alone[0] == members).all() and (alone[1] == prominences).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "d", "parts"),
    [(2, 2, 1), (65, 1, 3), (300, 2, 4), (1100, 3, 9), (300, 33, 6), (200, 130, 3), (700, 40, 1)],
)
def test_spanning_trees_are_those_of_scipy(variant, n, d, parts, dtype):
    points = blobs(n + d, n, d, parts, dtype)
    distances = cdist(points.astype(np.float64), points.astype(np.float64))
    expected = minimum_spanning_tree(distances).tocoo()
    pairs = {tuple(sorted(pair)) for pair in zip(expected.row, expected.col, strict=True)}
    for k in (1, min(10, n - 1)):  # with lists of one neighbour almost all is searched
        near = _native.nearest(points, k)
        for threads in (1, 3):
            edges = _native.spanning_tree(points, near, threads=threads)
            assert {tuple(sorted(edge)) for edge in edges.tolist()} == pairs


def test_spanning_trees_with_ties_are_by_number(variant):
    """By Kruskal, over all pairs in the order of the rule."""
    rng = np.random.default_rng(0)
    for d in (1, 3, 40):
        points = np.unique(rng.integers(0, 4 if d > 1 else 99, (250, d)), axis=0).astype(float)
        points = rng.permutation(points)
        squared = fuzz.rips(points, 1)[2]
        i, j = np.triu_indices(len(points), 1)
        part = np.arange(len(points))
        pairs = set()
        for at in np.lexsort((j, i, squared[i, j])):
            a, b = part[i[at]], part[j[at]]
            if a != b:
                part[part == b] = a
                pairs.add((i[at], j[at]))
        edges = _native.spanning_tree(points, _native.nearest(points, 4))
        assert {tuple(sorted(edge)) for edge in edges.tolist()} == pairs


def test_no_tree_where_squares_leave_float64():
    points = np.random.default_rng(0).normal(size=(20, 3))
    near = _native.nearest(points, 5)
    for unit in (1e-200, 1e200):
        assert _native.spanning_tree(points * unit, near).shape == (0, 2)


def random_adjacency(seed, n, p):
    return fuzz.symmetric(np.random.default_rng(seed).random((n, n)) < p)


graphs = st.builds(random_adjacency, st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0, 1))


@given(graphs, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_numbering_does_not_matter(a, random):
    order = list(range(len(a)))
    random.shuffle(order)
    assert betti(a[np.ix_(order, order)]) == betti(a)


@given(graphs, graphs)
@settings(deadline=None)
def test_disjoint_unions_add(a, b):
    n, m = len(a), len(b)
    both = np.zeros((n + m, n + m), bool)
    both[:n, :n], both[n:, n:] = a, b
    assert betti(both) == tuple(np.add(betti(a), betti(b)))


@given(graphs)
@settings(deadline=None)
def test_components_are_those_of_scipy(a):
    expected = connected_components(csr_matrix(a))[0] if len(a) else 0
    assert betti(a, 0) == (expected,)
    assert betti(a, 2)[0] == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
@settings(deadline=None)
def test_euler_characteristic(seed, n):
    """Graphs with four parts have no simplex above dimension 3, whose rank numpy gives."""
    rng = np.random.default_rng(seed)
    part = rng.integers(0, 3, n)
    a = fuzz.symmetric((part[:, None] != part[None, :]) & (rng.random((n, n)) < rng.random()))
    open_ = (a & ~np.eye(n, dtype=bool)).astype(np.int64)
    edges = open_.sum() // 2
    triangles = (open_ @ open_ * open_).sum() // 6
    b0, b1, b2 = betti(a, 2)
    assert b0 - b1 + b2 == n - edges + triangles


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_isometries_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(-4, 5, (40, 3)).astype(float)
    radius = float(np.sqrt(rng.integers(1, 20)))
    signs = rng.choice([-1.0, 1.0], 3)
    moved = points[:, rng.permutation(3)] * signs + rng.integers(-50, 50, 3)
    here, there = _native.betti_batch_points([points, moved], [radius, radius], 2)
    assert here == there


@pytest.mark.parametrize("first", [0, 10_000_000])
def test_agrees_with_ripser_and_gudhi(first):
    before = _native.engine_info()["variant"]
    for i in range(first, first + 300):
        fuzz.run_case(1, i, VARIANTS)
    _native.use_variant(before)


def test_threads_do_not_matter():
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 9)) for n in (0, 1, 2, 40, 300, 300, 120, 77)]
    radii = [3.0] * len(clouds)
    one = _native.betti_batch_points(clouds, radii, 2, threads=1)
    for threads in (0, 2, 3, 16):
        assert _native.betti_batch_points(clouds, radii, 2, threads=threads) == one
    points = rng.normal(size=(1000, 3))
    rows = _native.rows_from_points(points, 0.5, threads=1)
    assert (_native.rows_from_points(points, 0.5, threads=3) == rows).all()


def adversarial():
    return _native.rows_from_distances(np.where(random_adjacency(0, 1200, 0.5), 1.0, 3.0), 2.0)[0]


def test_time_budget():
    rows, began = adversarial(), time.process_time()
    with pytest.raises(TimeoutError, match="time budget"):
        _native.betti_rows(rows, 2, time_budget_s=0.2)
    assert time.process_time() - began < 10


def test_time_budget_of_a_batch():
    cloud = np.random.default_rng(0).normal(size=(1200, 40))
    began = time.process_time()
    with pytest.raises(TimeoutError, match="time budget"):
        _native.betti_batch_points([cloud] * 4, [8.0] * 4, 2, threads=2, time_budget_s=0.2)
    assert time.process_time() - began < 10


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")
def test_interrupt_is_heard():
    rows = adversarial()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    # Set by hand, because a process started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            _native.betti_rows(rows, 2, time_budget_s=60)  # a TimeoutError when it is not heard
    finally:
        signal.signal(signal.SIGINT, before)


def test_memory_limit_is_refused_before_it_is_taken():
    points = np.zeros((20_000, 2))
    with pytest.raises(MemoryError, match="MiB"):
        _native.rows_from_points(points, 1.0, memory_limit=1 << 20)
    with pytest.raises(MemoryError, match="MiB"):
        _native.betti_batch_points([points], [1.0], 1, memory_limit=1 << 20)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _native.betti_rows(np.zeros((3, 2), np.uint64), 1),
        lambda: _native.betti_rows(np.zeros((3, 1), np.uint64), 3),
        lambda: _native.rows_from_points(np.zeros(3), 1.0),
        lambda: _native.rows_from_points(np.zeros((3, 2), int), 1.0),
        lambda: _native.rows_from_distances(np.zeros((3, 2)), 1.0),
        lambda: _native.betti_batch_points([np.zeros((3, 2))], [1.0, 2.0], 1),
        lambda: _native.betti_csr(np.array([0, 1]), np.array([0], np.int32), 1),
        lambda: _native.betti_csr(np.array([0, 1]), np.array([5], np.int32), 1),
        lambda: _native.betti_csr(np.array([0, 2]), np.array([5], np.int32), 1),
        lambda: _native.knn_edges(np.zeros((3, 2)), 0),
        lambda: _native.nearest(np.zeros((3, 2)), 3),
        lambda: _native.nearest(np.zeros((3, 2)), 0),
        lambda: _native.find_islands([np.zeros((3, 2))], 3, 1.0),
        lambda: _native.find_islands([np.zeros((3, 2))], 1, 1.0),
        lambda: _native.spanning_tree(np.zeros((3, 2)), np.zeros((2, 1), np.int32)),
        lambda: _native.spanning_tree(np.zeros((3, 2)), np.zeros((3, 0), np.int32)),
        lambda: _native.spanning_tree(np.zeros((3, 2)), np.full((3, 1), 3, np.int32)),
        lambda: _native.use_variant("abacus"),
    ],
)
def test_bad_input_is_one_line(call):
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert "\n" not in str(error.value)
