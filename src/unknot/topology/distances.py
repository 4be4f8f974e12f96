"""Distances that no unit spoils, and what a matrix must be to hold distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unknot import _native
from unknot.core.errors import InputError
from unknot.topology.cloud import FloatArray, check_points, real_rows, require_finite

# Between these a squared distance has lost nothing to under- or overflow of its parts.
SURE_SQUARES = (2.0**-900, 2.0**1000)
# What may be rounding: of the greatest distance as many times the spacing of its numbers, as where
# great numbers cancel; and between d_ij and d_ji a share of themselves, as where digits were printed.
ROUNDINGS, SHARE = 32, 1e-5
# Numbers held at once: half a megabyte, which stays in cache.
_BLOCK = 1 << 16


def squared_distances(
    points: FloatArray, rows: NDArray[np.integer[Any]], columns: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Squared distances of pairs of points, as ``mantissa * 2.0**exponent``.

    Added up in float64 in the order of the features, as in the engine, so that ties are ties there too.

    Returns:
        mantissa: float64 in [0.5, 1), or 0.
        exponent: int32, even less than any other where the mantissa is 0.
    """
    mantissa, exponent = np.empty(len(rows)), np.empty(len(rows), np.int32)
    block = max(1, _BLOCK // max(points.shape[1], 1))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        x, y = points[rows[part]].astype(np.float64), points[columns[part]].astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            # The features first: numpy adds whole rows to one another, in their order.
            squares = (np.ascontiguousarray((x - y).T) ** 2).sum(axis=0)
        mantissa[part], exponent[part] = np.frexp(squares)
        odd = np.flatnonzero(~((squares > SURE_SQUARES[0]) & (squares < SURE_SQUARES[1])))
        if odd.size:
            again = _squares_in_own_unit(x[odd], y[odd])
            mantissa[part][odd], exponent[part][odd] = again
    return mantissa, exponent


def _squares_in_own_unit(x: FloatArray, y: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The same for each pair in a unit, a power of two, in which its greatest difference is near 1."""
    with np.errstate(over="ignore"):
        wide = np.isinf(x - y).any(axis=1)
    share = np.where(wide, 0.25, 1.0)[:, None]
    steps = np.ascontiguousarray((x * share - y * share).T)
    unit = np.frexp(np.abs(steps).max(axis=0, initial=0.0))[1]
    with np.errstate(under="ignore"):
        mantissa, exponent = np.frexp((np.ldexp(steps, -unit) ** 2).sum(axis=0))
    exponent = exponent + 2 * unit + np.where(wide, 4, 0)
    return mantissa, np.where(mantissa == 0, -(1 << 20), exponent).astype(np.int32)


def square_roots(mantissa: FloatArray, exponent: NDArray[np.int32]) -> NDArray[np.float64]:
    """Square roots of what `squared_distances` gives; infinite where float64 ends."""
    odd = exponent % 2
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(np.sqrt(np.ldexp(mantissa, odd)), (exponent - odd) // 2))


def median_distance(mantissa: FloatArray, exponent: NDArray[np.int32]) -> float:
    """The root of the median of what `squared_distances` gives; infinite where float64 ends."""
    unit = np.partition(exponent, len(exponent) // 2)[len(exponent) // 2] // 2 * 2
    with np.errstate(over="ignore", under="ignore"):
        median = np.median(np.ldexp(mantissa, exponent - unit))
        return float(np.ldexp(np.sqrt(median), unit // 2))


def pairwise_distances(points: FloatArray) -> NDArray[np.float64]:
    """The Euclidean distances of all pairs, as ``scipy.spatial.distance.pdist`` orders them.

    Raises:
        InputError: two points are farther from each other than float64 can hold.
    """
    from scipy.spatial.distance import pdist

    with np.errstate(over="ignore", under="ignore"):
        distances = pdist(points.astype(np.float64))
        odd = ~((distances > SURE_SQUARES[0] ** 0.5) & (distances < SURE_SQUARES[1] ** 0.5))
    if odd.any():
        i, j = (ends[odd] for ends in np.triu_indices(len(points), 1))
        distances[odd] = square_roots(*squared_distances(points, i, j))
        if np.isinf(distances).any():
            at = int(np.argmax(np.isinf(distances[odd])))
            raise InputError(
                f"distance of points {i[at]} and {j[at]}",
                "at most 1.8e308, where float64 ends",
                "divide the points by a number, e.g. 1e10",
            )
    return np.asarray(distances)


class Entries(NamedTuple):
    """Entries of a matrix.

    Attributes:
        n: rows and columns of the matrix.
        i, j: row and column of each, int64 ``[m]``.
        values: float ``[m]``.
        opposite: the value at (j, i); NaN where none is stored.
    """

    n: int
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    values: FloatArray
    opposite: FloatArray

    def survey(self) -> Survey:
        """As the engine does it for whole matrices."""
        apart = np.nan_to_num(np.abs(self.values - self.opposite), posinf=np.inf)
        diagonal = np.abs(self.values[self.i == self.j])
        greatest = (float(x.max(initial=0)) for x in (self.values, apart, self.excess(), diagonal))
        return Survey(float(self.values.min(initial=0)), *greatest)

    def refuse_asymmetry(self, at: int) -> None:
        """Name the entry and its opposite."""
        mirrored = Entries(self.n, self.j, self.i, self.opposite, self.values)
        raise InputError(
            f"{self.name(at)} with {mirrored.name(at)}",
            "a symmetric matrix",
            "symmetrise it, e.g. D.maximum(D.T)" if np.isnan(self.opposite[at]) else "pass (D + D.T) / 2",
        )

    def excess(self) -> FloatArray:
        """By how much each differs from its opposite, less `SHARE` of the two; 0 where there is none."""
        with np.errstate(over="ignore"):
            apart = np.abs(self.values - self.opposite)
        excess = apart - SHARE * np.maximum(np.abs(self.values), np.abs(self.opposite))
        return np.where(np.isnan(excess), 0.0, excess)

    def name(self, at: int) -> str:
        """Where an entry stands, and what it is."""
        value = "nothing" if np.isnan(self.values[at]) else f"{self.values[at]:.6g}"
        return f"entry [{self.i[at]}, {self.j[at]}] = {value}"


class Survey(NamedTuple):
    """What tells distances from other numbers.

    Attributes:
        least, greatest: of all entries and 0.
        asymmetry: the greatest abs(d_ij - d_ji).
        excess: the greatest by which that is more than `SHARE` of the two.
        diagonal: the greatest abs(d_ii).
    """

    least: float
    greatest: float
    asymmetry: float
    excess: float
    diagonal: float

    def require_distances(self, dtype: np.dtype[Any], entries: Callable[[], Entries]) -> None:
        """Refuse, by naming the worst of ``entries()``, what is more than rounding in ``dtype``."""
        rounding = ROUNDINGS * float(np.finfo(dtype).eps) * max(self.greatest, -self.least)
        if max(-self.least, self.diagonal, self.excess) <= rounding:
            return
        e = entries()
        if -self.least > rounding:
            remedy = "np.maximum(D, 0) if it is rounding; turn similarities S into S.max() - S"
            raise InputError(e.name(int(e.values.argmin())), "distances, numbers >= 0", remedy)
        if self.diagonal > rounding:
            at = int(np.where(e.i == e.j, np.abs(e.values), -1.0).argmax())
            remedy = "pass distances and not similarities, or set the diagonal to 0"
            raise InputError(e.name(at), "0, the distance of a point from itself", remedy)
        e.refuse_asymmetry(int(e.excess().argmax()))


def near_rows(distances: ArrayLike, radius: float) -> NDArray[np.uint64]:
    """The packed rows, as of a `NeighborGraph`, of the pairs at a distance <= ``radius`` in ``[n, n]``.

    What rounding does, see `ROUNDINGS`, is mended: numbers below 0 and on the
    diagonal stand for 0, and of d_ij and d_ji the lesser counts.

    Raises:
        InputError: NaN or infinity, not square, negative, not zero on the diagonal or not symmetric
            beyond that.
    """
    matrix = real_rows(distances, "distances")
    n = _side(matrix.shape)

    def entries() -> Entries:
        i, j = np.divmod(np.arange(matrix.size), n)
        return Entries(n, i, j, matrix.ravel(), matrix.T.ravel())

    # One look at each entry: the matrix of 2,000 points is 32 MB, longer read than checked.
    rows, (*survey, finite) = _native.rows_from_distances(matrix, radius, SHARE)
    if not finite:
        require_finite(matrix, "distances")
    Survey(*survey).require_distances(matrix.dtype, entries)
    return rows


def near_pairs(matrix: Any, radius: float) -> tuple[int, NDArray[np.int64]]:
    """n, and the pairs ``[m, 2]`` with a stored distance <= ``radius`` in a sparse ``[n, n]`` matrix.

    What is not stored is no distance: such a pair is not joined. The rest is as in `near_rows`.
    """
    e = _stored_entries(matrix)
    lone = np.flatnonzero(np.isnan(e.opposite))
    if lone.size:
        e.refuse_asymmetry(int(lone[0]))
    e.survey().require_distances(e.values.dtype, lambda: e)
    return e.n, np.stack([e.i, e.j], axis=1)[np.minimum(e.values, e.opposite) <= radius]


def joined_pairs(matrix: Any) -> tuple[int, NDArray[np.int64]]:
    """n, and the pairs ``[m, 2]`` of the entries other than 0 of a sparse ``[n, n]`` adjacency.

    Raises:
        InputError: not square, NaN or infinity, or two numbers for one pair.
    """
    e = _stored_entries(matrix)
    e.survey()._replace(least=0.0, diagonal=0.0).require_distances(e.values.dtype, lambda: e)
    return e.n, np.stack([e.i, e.j], axis=1)[e.values != 0]


def _stored_entries(matrix: Any) -> Entries:
    """Of a sparse matrix, by row and column."""
    if not sparse.issparse(matrix):
        matrix = check_points(matrix, name="matrix")
    n = _side(matrix.shape)
    csr = sparse.csr_array(matrix, copy=True)
    csr.sum_duplicates()
    coo = csr.tocoo()
    values = check_points(coo.data, name="stored numbers")[:, 0]
    i, j = coo.row.astype(np.int64), coo.col.astype(np.int64)
    there, back = i * n + j, j * n + i
    place = np.searchsorted(there, back)
    stored = np.append(there, -1)[place] == back
    return Entries(n, i, j, values, np.where(stored, np.append(values, np.nan)[place], np.nan))


def _side(shape: tuple[int, ...]) -> int:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"matrix of shape {shape}", "a square one, [n, n]", "pass n rows of n entries")
    return int(shape[0])
