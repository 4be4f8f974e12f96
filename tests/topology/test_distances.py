"""Matrices of distances: what is rounding, what is refused, dense and sparse, in every unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ripser import ripser
from scipy import sparse

from unknot.core.errors import InputError
from unknot.topology.graph import NeighborGraph, rips_graph
from unknot.topology.homology import betti_numbers

UNITS = (1e-300, 1e-12, 1e-9, 1.0, 1e9, 1e300)
SINGLE = (1e-30, 1e-9, 1.0, 1e30)


def circle_distances(n: int = 40) -> NDArray[np.float64]:
    turns = np.linspace(0, 2 * np.pi, n, endpoint=False)
    steps = np.abs(turns[:, None] - turns)
    return 2 * np.sin(np.minimum(steps, 2 * np.pi - steps) / 2)


def count(distances: Any, radius: float) -> tuple[int, ...]:
    return betti_numbers(rips_graph(distances=distances, radius=radius)).values


def refusal(distances: Any, radius: float = 0.3) -> str:
    with pytest.raises(InputError) as caught:
        rips_graph(distances=distances, radius=radius)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosine_distances_are_taken_with_their_rounding(dtype: type) -> None:
    x = np.random.default_rng(0).normal(size=(40, 7)).astype(dtype)
    x /= np.linalg.norm(x, axis=1)[:, None]
    distances = 1 - x @ x.T
    assert distances.min() < 0 and distances.diagonal().any()
    clean = np.maximum(distances, 0)
    np.fill_diagonal(clean, 0)
    radii = np.quantile(clean, [0.05, 0.1, 0.2, 0.3])
    for radius in radii:
        diagrams = ripser(clean, distance_matrix=True, maxdim=1)["dgms"]
        # Half way to the next distance, so that rounding to float32 in ripser decides nothing.
        above = clean[clean > radius].min()
        middle = float((clean[clean <= radius].max() + above) / 2)
        expected = tuple(int(((d[:, 0] <= middle) & (middle < d[:, 1])).sum()) for d in diagrams)
        assert count(distances, middle) == expected


@pytest.mark.parametrize(
    ("unit", "dtype"), [(u, np.float64) for u in UNITS] + [(u, np.float32) for u in SINGLE]
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_a_matrix_and_its_transpose_are_one(unit: float, dtype: type, form: Any) -> None:
    distances = circle_distances()
    near = np.where(distances < 0.5, distances, 0) if form is not np.asarray else distances
    clean = (near * unit).astype(dtype)
    assert count(form(clean), 0.3 * unit) == count(form(clean.T), 0.3 * unit) == (1, 1)
    rounded = clean * (1 + np.triu(np.full_like(clean, 8 * np.finfo(dtype).eps)))
    assert (rounded != rounded.T).any()
    tie = float(rounded[0, 1])  # between 0 and 1; from 1 to 0 it is less
    for radius in (0.3 * unit, float(clean[0, 1]), tie):
        assert count(form(rounded), radius) == count(form(rounded.T), radius)
    assert count(form(rounded), 0.3 * unit) == (1, 1)
    askew = clean.copy()
    askew[0, 1] *= 1.5
    first, other = (refusal(form(a), 0.3 * unit) for a in (askew, askew.T))
    assert "expected a symmetric matrix; pass (D + D.T) / 2" in first
    assert first.startswith("entry [0, 1] = ") and " with entry [1, 0] = " in first
    assert other.startswith(("entry [0, 1] = ", "entry [1, 0] = "))
    mended = form((askew + askew.T) / 2)
    assert count(mended, 0.3 * unit) == (1, 1)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_no_distance_is_refused_in_every_unit(unit: float) -> None:
    distances = circle_distances() * unit
    for form in (np.asarray, sparse.csr_array):
        negative = distances.copy()
        negative[3, 5] = negative[5, 3] = -0.1 * unit
        said = refusal(form(negative), 0.3 * unit)
        assert said.startswith(f"entry [3, 5] = {-0.1 * unit:.6g}: expected distances, numbers >= 0; ")
        similar = np.exp(-circle_distances()) * unit
        said = refusal(form(similar), 0.3 * unit)
        assert said.startswith(
            f"entry [0, 0] = {unit:.6g}: expected 0, the distance of a point from itself"
        )


def test_a_far_point_hides_no_asymmetry() -> None:
    distances = np.pad(circle_distances(), (0, 1), constant_values=1e9)
    distances[-1, -1] = 0
    assert count(distances, 0.3) == (2, 1)
    distances[0, 1] = 0.1
    assert "entry [0, 1] = 0.1 with" in refusal(distances)


def test_of_a_sparse_matrix_what_is_stored_can_join() -> None:
    distances = circle_distances()
    stored = sparse.csr_array(np.where(distances < 0.5, distances, 0))
    assert count(stored, 0.3) == (1, 1)
    assert count(stored, 10.0) == (1, 1)  # the pairs that are not stored are farther than any radius
    assert rips_graph(distances=stored, radius=0.3).scale.radius == 0.3
    zero = sparse.coo_array(([0.0, 0.0], ([0, 1], [1, 0])), shape=(3, 3))  # equal points, stored
    assert count(zero, 0.0) == (2, 0)
    said = refusal(sparse.triu(stored))
    assert "entry [0, 1] = 0.156918 with entry [1, 0] = nothing" in said and "D.maximum(D.T)" in said
    upper = sparse.csr_array(sparse.triu(stored))
    assert count(upper.maximum(upper.T), 0.3) == (1, 1)
    assert "[n, n]" in refusal(sparse.csr_array((3, 4)))
    assert count(sparse.csr_array((0, 0)), 1.0) == (0, 0)


def test_an_adjacency_joins_what_it_holds_once_or_twice_alike() -> None:
    near = sparse.csr_array(np.where(circle_distances() < 0.3, circle_distances(), 0))
    upper = sparse.triu(near)
    for matrix in (near, near.T, upper, upper.T, near != 0, near.toarray(), near.astype(np.float32)):
        assert betti_numbers(NeighborGraph.from_sparse(matrix)).values == (1, 1)
    cancelled = sparse.coo_array(([1.0, -1.0, 2.0], ([0, 0, 1], [1, 1, 2])), shape=(3, 3))
    assert NeighborGraph.from_sparse(cancelled).edges().tolist() == [[1, 2]]


@pytest.mark.parametrize("unit", UNITS)
def test_an_adjacency_with_two_numbers_for_a_pair_is_refused(unit: float) -> None:
    matrix = np.zeros((3, 3))
    matrix[0, 1], matrix[1, 0] = unit, 1.5 * unit
    with pytest.raises(InputError, match=r"entry \[0, 1\] = .* with entry \[1, 0\] = .*symmetric"):
        NeighborGraph.from_sparse(sparse.csr_array(matrix))


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (None, "matrix of type object: expected an array of real numbers"),
        ([1, 2], r"matrix of shape \(2, 1\): expected a square one"),
        (sparse.csr_array([[0, np.nan], [np.nan, 0]]), r"stored numbers\[0, 0\] = nan"),
        (sparse.csr_array([[0, 1j], [1j, 0]]), "stored numbers of type complex128"),
    ],
)
def test_no_adjacency(matrix: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        NeighborGraph.from_sparse(matrix)
