"""Betti numbers of the clique complex of a neighbour graph, and persistence diagrams."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from ripser import ripser
from scipy import sparse
from scipy.spatial.distance import pdist, squareform

from unknot.cloud import check_points
from unknot.errors import InputError
from unknot.graph import NeighborGraph, Scale, scale_graph


@dataclass(frozen=True)
class BettiNumbers:
    """Betti numbers over GF(2), with what they were measured on.

    Attributes:
        values: ``(b0, b1, ...)``: components, loops, voids.
        n_points: size of the cloud.
        scale: the neighbour rule.
    """

    values: tuple[int, ...]
    n_points: int
    scale: Scale

    @property
    def total(self) -> int:
        """The topological complexity: the sum of the Betti numbers (Naitzat et al., 2020)."""
        return sum(self.values)


def betti_numbers(graph: NeighborGraph, *, max_dim: int = 1) -> BettiNumbers:
    """b0 to b_max_dim of the flag (clique) complex of ``graph``, over GF(2).

    Args:
        graph: from `rips_graph`, `knn_graph` or `NeighborGraph.from_edges`.
        max_dim: 0, 1 or 2.

    Returns:
        Betti numbers of length ``max_dim + 1``. The empty graph has zeros.

    Computed by Ripser (Bauer, 2021) on the 0/1 graph: every edge enters at 1, and the classes that
    are alive at 1 are the homology of the flag complex.
    """
    if isinstance(max_dim, bool) or max_dim not in (0, 1, 2):
        raise InputError(f"max_dim = {max_dim!r}", "0, 1 or 2", "pass max_dim=1 for b0 and b1")
    n = graph.n_points
    edges = graph.edges()
    # Ripser refuses graphs of fewer than two points and diagrams without any edge.
    if len(edges) == 0:
        return BettiNumbers((n, 0, 0)[: max_dim + 1], n, graph.scale)
    adjacency = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    adjacency = (adjacency + adjacency.T).tocoo()
    diagrams = ripser(adjacency, distance_matrix=True, maxdim=max_dim, thresh=1.0)["dgms"]
    alive = tuple(int(np.isinf(diagram[:, 1]).sum()) for diagram in diagrams)
    return BettiNumbers(alive, n, graph.scale)


def betti_numbers_batch(
    clouds: NDArray[np.floating] | Iterable[ArrayLike],
    *,
    radius: float | None = None,
    k: int | None = None,
    hops: int = 1,
    max_dim: int = 1,
) -> list[BettiNumbers]:
    """Betti numbers of many clouds at one scale, in the order given.

    Args:
        clouds: ``[b, n, d]``, or any iterable of ``[n_i, d_i]``.
        radius: for the Rips rule, or
        k: for the kNN-hop rule. Exactly one of the two.
        hops: with k.
        max_dim: 0, 1 or 2.
    """
    if (radius is None) == (k is None):
        raise InputError(
            f"radius = {radius}, k = {k}", "exactly one rule", "pass radius=... or k=..., hops=..."
        )
    scale = Scale(radius=radius) if k is None else Scale(k=k, hops=hops)
    return [betti_numbers(scale_graph(cloud, scale), max_dim=max_dim) for cloud in clouds]


@dataclass(frozen=True, eq=False)
class PersistenceDiagram:
    """Birth and death of every homology class of a Rips filtration.

    Attributes:
        bars: one float64 array ``[m, 2]`` (birth, death; infinity for what never dies) a dimension.
        n_points: size of the cloud.
    """

    bars: tuple[NDArray[np.float64], ...]
    n_points: int

    def betti_at(self, radius: float) -> tuple[int, ...]:
        """The Betti numbers at one radius: bars with birth <= radius < death."""
        return tuple(int(((b[:, 0] <= radius) & (radius < b[:, 1])).sum()) for b in self.bars)


def persistence(
    points: ArrayLike, *, max_dim: int = 1, max_radius: float = math.inf
) -> PersistenceDiagram:
    """The persistence diagrams of the Rips filtration of ``points`` ``[n, d]``, over GF(2), by Ripser.

    Ripser works in float32: births and deaths are exact to about seven digits, so at a radius that
    equals a distance to the last bit it can differ from `betti_numbers`, which works in float64.
    """
    array = check_points(points)
    if array.shape[0] < 2:
        raise InputError(f"{array.shape[0]} point(s)", "at least 2", "pass more points")
    if isinstance(max_dim, bool) or max_dim not in (0, 1, 2):
        raise InputError(f"max_dim = {max_dim!r}", "0, 1 or 2", "pass max_dim=1 for b0 and b1")
    # Distances by scipy: given points, ripser warns of clouds with as many features as points.
    distances = squareform(pdist(array.astype(np.float64)))
    diagrams = ripser(distances, distance_matrix=True, maxdim=max_dim, thresh=max_radius)["dgms"]
    return PersistenceDiagram(tuple(np.asarray(d, dtype=np.float64) for d in diagrams), array.shape[0])
