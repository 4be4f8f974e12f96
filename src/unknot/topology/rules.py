"""The two neighbour rules: which points are joined, how a batch is counted, how many points it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unknot import _native
from unknot.core.errors import InputError, require_count
from unknot.core.memory import require_memory
from unknot.topology.cloud import FloatArray

# Above this many points kNN-hop graphs are kept as neighbour lists: the packed rows of 8,192 points
# take 8 MB, those of 60,000 take 450 MB.
DENSE_POINTS = 8192


class Neighbours(NamedTuple):
    """Which points are joined, as packed rows or as neighbour lists; see `NeighborGraph`."""

    rows: NDArray[np.uint64] | None = None
    indptr: NDArray[np.int64] | None = None
    indices: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class KnnRule:
    """Join pairs at most ``hops`` steps apart in the symmetrised k-nearest-neighbour graph.

    Attributes:
        k: nearest neighbours that a point is joined to, >= 1.
        hops: steps, >= 1.

    Raises:
        InputError: one of them is no whole number >= 1.
    """

    axes: ClassVar = ("k", "hops")
    k: int
    hops: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", require_count("k", self.k))
        object.__setattr__(self, "hops", require_count("hops", self.hops))

    def __str__(self) -> str:
        return f"k={self.k}, hops={self.hops}"

    @property
    def cell(self) -> tuple[float, int]:
        """Where the rule stands on a grid over ``axes``."""
        return self.k, self.hops

    def require_points(self, n_points: int) -> None:
        """Refuse a cloud in which no point has k others."""
        if n_points <= self.k:
            remedy = f"pass k <= {n_points - 1}" if n_points > 1 else "pass at least 2 points"
            value = f"k = {self.k} with a cloud of {n_points} points"
            raise InputError(value, "more points than k", remedy)

    def join(self, points: FloatArray) -> Neighbours:
        """The neighbours of each of ``points`` ``[n, d]``, n > k."""
        n = len(points)
        self.require_points(n)
        require_memory(n, estimate_memory(n, k=self.k, hops=self.hops) // 4, "a kNN-hop graph")
        indptr, indices = _native.knn_edges(points, self.k)
        return expand_hops(indptr, indices, self.hops, DENSE_POINTS)

    def count(
        self, clouds: Sequence[FloatArray], max_dim: int, *, threads: int, **limits: Any
    ) -> list[tuple[int, ...]]:
        """Betti numbers of clouds, by the engine's threads.

        Args:
            clouds: ``[n_i, d_i]``, n_i > k, float32 or float64 as `check_points` gives them.
            max_dim: 0, 1 or 2.
            threads: of the engine; 0 takes one a core.
            limits: of time and memory, as the engine takes them.
        """
        self.require_points(min(map(len, clouds), default=self.k + 1))
        hops = min(self.hops, max(map(len, clouds), default=1))  # more lead nowhere
        return _native.betti_batch_knn(clouds, self.k, hops, max_dim, threads=threads, **limits)


def require_radius(name: str, value: object) -> float:
    """``value`` as a float, or an InputError unless it is a number >= 0."""
    real = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    if not real or not value >= 0:  # type: ignore[operator]
        raise InputError(f"{name} = {value!r}", "a number >= 0", f"pass e.g. {name}=0.5")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise InputError(
            f"{name} of more than 300 digits", "at most 1.8e308", f"pass {name}=math.inf to join all"
        ) from None


@dataclass(frozen=True)
class RipsRule:
    """Join pairs at Euclidean distance <= ``radius``, a number >= 0 in the unit of the points.

    Raises:
        InputError: the radius is no such number.
    """

    axes: ClassVar = ("radius", "")
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", require_radius("radius", self.radius))

    def __str__(self) -> str:
        return f"radius={self.radius:g}"

    @property
    def cell(self) -> tuple[float, int]:
        """Where the rule stands on a grid over ``axes``, of which it has one."""
        return self.radius, 0

    def join(self, points: FloatArray) -> Neighbours:
        """The neighbours of each of ``points`` ``[n, d]``."""
        n = len(points)
        require_memory(n, estimate_memory(n) // 4, "a dense neighbour graph")
        return Neighbours(_native.rows_from_points(points, self.radius))

    def count(
        self, clouds: Sequence[FloatArray], max_dim: int, *, threads: int, **limits: Any
    ) -> list[tuple[int, ...]]:
        """Betti numbers of clouds, by the engine's threads.

        Args:
            clouds: ``[n_i, d_i]``, float32 or float64 as `check_points` gives them.
            max_dim: 0, 1 or 2.
            threads: of the engine; 0 takes one a core.
            limits: of time and memory, as the engine takes them.
        """
        radii = [self.radius] * len(clouds)
        return _native.betti_batch_points(clouds, radii, max_dim, threads=threads, **limits)


Rule: TypeAlias = KnnRule | RipsRule


def expand_hops(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], hops: int, dense_points: int
) -> Neighbours:
    """Pairs at most ``hops`` steps apart in the graph of these neighbour lists.

    Args:
        dense_points: up to so many points the result is packed rows, above it neighbour lists.
    """
    hops = min(hops, len(indptr))  # more lead nowhere
    if len(indptr) - 1 <= dense_points:
        return Neighbours(rows=_native.hop_rows(indptr, indices, hops))
    if hops > 1:
        indptr, indices = _native.hop_csr(indptr, indices, hops)
    return Neighbours(indptr=indptr, indices=indices)


def estimate_memory(n_points: int, *, k: int | None = None, hops: int = 1) -> int:
    """An upper bound, in bytes, of what a neighbour graph and its b0 and b1 take at once.

    Args:
        n_points: of the cloud.
        k: of a kNN-hop graph; without it the graph is a Rips graph, dense at worst.
        hops: with k.

    A dense graph is n rows of n bits; where nothing can be collapsed the engine works on four such
    matrices at once. Neighbour lists take 4 bytes an entry, at most (2 k)^hops entries a point, twice
    while the hops are expanded. b2 can take more: give it a time budget.
    """
    n = require_count("n_points", n_points, minimum=0)
    dense = 4 * n * math.ceil(n / 64) * 8
    if k is None or n <= DENSE_POINTS:
        return dense
    steps = min(require_count("hops", hops), n.bit_length())  # so many reach all points
    neighbours = min(n, int((2 * require_count("k", k)) ** steps))
    return min(dense, 4 * n * neighbours * 4)
