"""The claimed Betti numbers are what homology measures, by an oracle that shares no code with unknot."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ripser import ripser
from scipy import sparse
from scipy.spatial import cKDTree

from unknot.core.errors import InputError
from unknot.topology.shapes import SHAPES, Shape, make_shape

SEEDS = (0, 1, 2)
HALVES = {"scatter": 300}
TRUE = {
    "discs": {0: (9, 0), 1: (1, 9)},
    "rings": {0: (9, 9), 1: (9, 9)},
    "spheres": {0: (9, 0, 9), 1: (18, 0, 9)},
    "links": {0: (40, 40), 1: (40, 40)},
    "checker": {0: (81, 40), 1: (81, 41)},
    "lattice": {0: (81, 0), 1: (81, 81)},
    "nested": {0: (48, 48), 1: (32, 32)},
}
TOTALS = {
    "discs": 19, "rings": 36, "spheres": 45, "links": 160,
    "checker": 243, "lattice": 243, "nested": 160, "scatter": 300,
}  # fmt: skip


def betti_of(adjacency: sparse.csr_matrix, max_dim: int) -> tuple[int, ...]:
    """Every edge enters at 1; what is born by then and does not die is the homology of the graph."""
    edges = adjacency.astype(bool).astype(float)
    edges.setdiag(0)
    edges.eliminate_zeros()
    bars = ripser(edges.tocoo(), distance_matrix=True, maxdim=max_dim, thresh=1.0)["dgms"]
    return tuple(int(np.isinf(bar[:, 1]).sum()) for bar in bars)


def rips(points: NDArray[np.float64], radius: float) -> sparse.csr_matrix:
    tree = cKDTree(points)
    return tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix").tocsr()


def two_hops(points: NDArray[np.float64], k: int) -> sparse.csr_matrix:
    n = len(points)
    nearest = cKDTree(points).query(points, k + 1)[1]
    steps = sparse.csr_matrix((np.ones(n * (k + 1)), nearest.ravel(), np.arange(n + 1) * (k + 1)))
    steps = steps + steps.T
    return steps @ steps


def measured(
    shape: Shape, graph: Callable[[NDArray[np.float64]], sparse.csr_matrix]
) -> dict[int, tuple[int, ...]]:
    return {
        label: betti_of(graph(shape.points[shape.labels == label]), len(true) - 1)
        for label, true in shape.betti.items()
    }


def least_n(name: str, seed: int = 0, **sizes: int) -> int:
    with pytest.raises(InputError, match="expected at least") as refused:
        make_shape(name, n=1, seed=seed, **sizes)
    return int(re.findall(r"at least (\d+) points", str(refused.value))[0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SHAPES)
def test_claimed_betti_numbers_are_measured(name: str, seed: int) -> None:
    for n in (None, least_n(name, seed)):
        shape = make_shape(name, n=n, seed=seed)
        assert measured(shape, lambda points: rips(points, shape.radius)) == dict(shape.betti)  # noqa: B023
    # The oracle can say no: in one cluster, or in none, nothing is left of the shape.
    assert measured(shape, lambda points: rips(points, shape.radius / 20)) != dict(shape.betti)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 10**6), st.data())
def test_any_sizes_at_the_least_n(name: str, seed: int, data: st.DataObject) -> None:
    sizes = {key: data.draw(st.integers(2, 7), label=key) for key in SHAPES[name].sizes}
    shape = make_shape(name, n=least_n(name, seed, **sizes), seed=seed, **sizes)
    assert measured(shape, lambda points: rips(points, shape.radius)) == dict(shape.betti)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_any_number_of_linked_pairs(pairs: int, seed: int) -> None:
    shape = make_shape("rings", pairs=pairs, n=120 * pairs, seed=seed)
    assert dict(shape.betti) == {0: (pairs, pairs), 1: (pairs, pairs)}
    assert shape.total == 4 * pairs
    assert shape.parameters == {"pairs": pairs}
    assert measured(shape, lambda points: rips(points, shape.radius)) == dict(shape.betti)


@pytest.mark.parametrize("seed", range(10))
def test_rings_show_their_topology_at_14_neighbours_and_2_hops(seed: int) -> None:
    shape = make_shape("rings", pairs=9, seed=seed)
    assert len(shape.points) == 4500
    assert measured(shape, lambda points: two_hops(points, 14)) == {0: (9, 9), 1: (9, 9)}


def test_rings_are_linked() -> None:
    """Gauss's integral over the two rings of a pair is their linking number, +1 or -1."""
    shape = make_shape("rings", pairs=1, n=800)
    curves = []
    for label in (0, 1):
        ring = shape.points[shape.labels == label]
        ring = ring - ring.mean(axis=0)
        across = [0, 1 if label == 0 else 2]
        ring = ring[np.argsort(np.arctan2(ring[:, across[1]], ring[:, across[0]]))]
        curves.append(ring + shape.points[shape.labels == label].mean(axis=0))
    steps = [np.roll(curve, -1, axis=0) - curve for curve in curves]
    apart = (curves[0] + steps[0] / 2)[:, None] - (curves[1] + steps[1] / 2)
    volume = np.einsum("abi,abi->ab", apart, np.cross(steps[0][:, None], steps[1]))
    linking = (volume / np.linalg.norm(apart, axis=2) ** 3).sum() / (4 * np.pi)
    assert abs(linking) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_form(name: str) -> None:
    shape = make_shape(name, seed=3)
    n, d = shape.points.shape
    assert n == SHAPES[name].n <= 10_000
    assert d == (3 if name in ("rings", "links", "spheres") else 2)
    assert (shape.points.dtype, shape.labels.dtype, shape.labels.shape) == (np.float64, np.int64, (n,))
    assert set(shape.labels.tolist()) == set(shape.betti) == {0, 1}
    assert shape.total == TOTALS[name]
    assert dict(shape.betti) == TRUE.get(name, dict(shape.betti))
    assert shape.parameters == SHAPES[name].sizes
    assert (shape.name, shape.seed, shape.noise) == (name, 3, 0.0)
    assert np.abs(shape.points.max(axis=0) + shape.points.min(axis=0)).max() < 0.05
    assert 1.15 < np.abs(shape.points).max() <= 1.2 + 1e-9
    assert np.ptp(shape.points, axis=0).min() > 1.2
    assert len(np.unique(shape.points, axis=0)) == n
    # Shuffled: neither class comes first.
    assert abs(shape.labels[: n // 2].mean() - shape.labels.mean()) < 0.05
    assert SHAPES[name].description
    assert "\n" not in SHAPES[name].description


@pytest.mark.parametrize("sampling", ["even", "random"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_same_seed_gives_the_same_bytes(name: str, sampling: str) -> None:
    def draw(seed: int) -> Shape:
        return make_shape(name, n=9001, seed=seed, noise=0.01, sampling=sampling)

    one, same, other = draw(5), draw(5), draw(6)
    assert one.points.shape[0] == 9001
    assert one.points.tobytes() == same.points.tobytes()
    assert one.labels.tobytes() == same.labels.tobytes()
    assert one.points.tobytes() != other.points.tobytes()
    assert one.total == other.total == TOTALS[name]


def test_scatter_has_another_geometry_for_every_seed() -> None:
    assert len({make_shape("scatter", seed=seed).radius for seed in range(4)}) == 4


@pytest.mark.parametrize("name", SHAPES)
def test_noise_is_gaussian_in_the_unit_of_the_points(name: str) -> None:
    clean, noisy = make_shape(name, seed=1), make_shape(name, seed=1, noise=0.02)
    moved = noisy.points - clean.points
    assert moved.std() == pytest.approx(0.02, rel=0.05)
    assert abs(moved.mean()) < 0.001
    assert noisy.noise == 0.02
    np.testing.assert_array_equal(noisy.labels, clean.labels)


def test_random_points_lie_on_the_shape_and_are_uniform() -> None:
    even = make_shape("spheres", units=1, seed=0)
    middle = even.points.mean(axis=0)
    assert np.abs(middle).max() < 0.01
    points = make_shape("spheres", units=1, n=20_000, sampling="random").points
    norms = np.linalg.norm(points, axis=1)
    on_the_outer = points[norms > 1.1]
    assert np.allclose(np.linalg.norm(on_the_outer, axis=1), 1.2)
    # Archimedes: heights on a sphere, and cubed norms in a ball, are uniform.
    for sample in (*(on_the_outer.T / 2.4 + 0.5), (norms[norms < 0.4] / 0.36) ** 3):
        grid = np.linspace(0, 1, 11)
        assert np.abs(np.histogram(sample, grid)[0] / len(sample) - 0.1).max() < 0.02


def test_parts_get_points_by_their_measure() -> None:
    shape = make_shape("nested", groups=1, rings=5, n=5000)
    # Radii 2, 4 and 6 against 3 and 5.
    assert (shape.labels == 0).sum() == pytest.approx(3000, abs=3)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ring", {}, "shape 'ring'.*discs.*did you mean rings"),
        ("zzz", {}, "shape 'zzz': expected one of discs, rings"),
        ("rings", {"pair": 3}, "pair = 3: expected sizes of 'rings' only: pairs; did you mean pairs"),
        ("rings", {"units": 3}, "units = 3: .*pairs"),
        ("rings", {"pairs": 0}, "pairs = 0: expected a whole number >= 1"),
        ("rings", {"pairs": 2.5}, "pairs = 2.5"),
        ("nested", {"rings": 1}, "rings = 1: expected a whole number >= 2"),
        ("rings", {"n": 0}, "n = 0: expected a whole number >= 1"),
        ("rings", {"n": -5}, "n = -5"),
        ("rings", {"n": 4500.0}, "n = 4500.0"),
        ("rings", {"n": True}, "n = True"),
        ("rings", {"n": 100}, r"n = 100: expected at least \d+ points for 'rings' with pairs=9"),
        ("rings", {"noise": -0.1}, "noise = -0.1: expected a finite number >= 0"),
        ("rings", {"noise": float("nan")}, "noise = nan"),
        ("rings", {"noise": float("inf")}, "noise = inf"),
        ("rings", {"noise": "loud"}, "noise = 'loud'"),
        ("rings", {"seed": -1}, "seed = -1: expected a whole number >= 0"),
        ("rings", {"seed": 0.5}, "seed = 0.5"),
        ("rings", {"sampling": "odd"}, "sampling = 'odd': expected 'even' or 'random'"),
    ],
)
def test_refusals_are_one_line(name: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        make_shape(name, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", SHAPES)
def test_the_least_n_is_the_least(name: str) -> None:
    n = least_n(name)
    assert len(make_shape(name, n=n).points) == n
    with pytest.raises(InputError, match=f"n = {n - 1}: expected at least {n}"):
        make_shape(name, n=n - 1)


def test_default_n_grows_with_the_sizes() -> None:
    shape = make_shape("rings", pairs=200)
    assert len(shape.points) == least_n("rings", pairs=200) > SHAPES["rings"].n
