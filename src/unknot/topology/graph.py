"""NeighborGraph: which points are joined, at which scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unknot.core.errors import InputError, require_count
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.topology.cloud import as_array, check_points
from unknot.topology.distances import joined_pairs, near_pairs, near_rows
from unknot.topology.rules import KnnRule, RipsRule
from unknot.topology.scale import Scale, require_rule

_SET_BITS = np.array([byte.bit_count() for byte in range(256)])


@dataclass(frozen=True, eq=False, repr=False)
class NeighborGraph(Tabular):
    """An undirected graph on n points, as packed rows or as neighbour lists.

    Attributes:
        n_points: vertices.
        scale: the rule that joined them.
        rows: uint64 ``[n, ceil(n / 64)]``; bit j % 64 of ``rows[i, j // 64]`` is set when i and j are
            joined or i == j. Symmetric; bits past n are zero. None for neighbour lists.
        indptr, indices: int64 ``[n + 1]`` and int32 ``[2 m]``, the neighbours of i ascending in
            ``indices[indptr[i]:indptr[i + 1]]``, i itself not among them. None for packed rows.
    """

    n_points: int
    scale: Scale = Scale()  # noqa: RUF009 (frozen)
    rows: NDArray[np.uint64] | None = None
    indptr: NDArray[np.int64] | None = None
    indices: NDArray[np.int32] | None = None

    @classmethod
    def from_edges(cls, n_points: int, edges: ArrayLike) -> NeighborGraph:
        """The graph of given edges.

        Args:
            n_points: vertices, >= 0.
            edges: whole numbers ``[m, 2]`` in [0, n_points), a pair a row; order and repeats do not
                matter.

        Raises:
            InputError: another shape or type, or a point that does not exist.
        """
        n = require_count("n_points", n_points, minimum=0)
        pairs = as_array(edges, "edges")
        if pairs.size == 0:
            pairs = np.empty((0, 2), dtype=np.int64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise InputError(
                f"edges of shape {pairs.shape} and type {pairs.dtype}",
                "whole numbers [m, 2]",
                "pass one pair of point numbers a row",
            )
        if pairs.size and not (pairs.min() >= 0 and pairs.max() < n):
            raise InputError(
                f"edges between {pairs.min()} and {pairs.max()}",
                f"point numbers in [0, {n})",
                "raise n_points or drop the edges",
            )
        pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
        both = np.concatenate([pairs, pairs[:, ::-1]])
        weights = np.ones(len(both), dtype=np.int8)
        lists = sparse.csr_array((weights, (both[:, 0], both[:, 1])), shape=(n, n))
        lists.sum_duplicates()
        return cls(n, indptr=lists.indptr.astype(np.int64), indices=lists.indices.astype(np.int32))

    @classmethod
    def from_sparse(cls, matrix: Any) -> NeighborGraph:
        """From a square scipy sparse matrix or array; every stored non-zero joins its two points.

        Args:
            matrix: an adjacency ``[n, n]``: both entries of a pair, alike, or one of them.

        Raises:
            InputError: not square, NaN or infinity inside, or two numbers for one pair that differ by
                more than rounding.
        """
        return cls.from_edges(*joined_pairs(matrix))

    def __repr__(self) -> str:
        return f"NeighborGraph({self.n_points:,} points, {self.n_edges:,} edges, {self.scale})"

    def _columns(self) -> dict[str, Any]:
        edges = self.edges()
        return {"i": edges[:, 0], "j": edges[:, 1]}

    def _repr_html_(self) -> str:
        degrees = self.degrees()
        spread = f"; {degrees.min():,} to {degrees.max():,} neighbours a point" if len(degrees) else ""
        return f"<p>{self!r}{spread}</p>"  # edges by the million say nothing

    def degrees(self) -> NDArray[np.int64]:
        """int64 ``[n]``: how many neighbours each point has."""
        if self.rows is None:
            assert self.indptr is not None
            return np.diff(self.indptr)
        bits: NDArray[np.int64] = _SET_BITS[self.rows.view(np.uint8)].sum(axis=1)
        return bits - 1

    def plot(self, ax: Any = None) -> Any:
        """Draw how many points have how many neighbours: few points with none, and few with all.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no points, matplotlib is not installed.
        """
        degrees = self.degrees()
        drawing.require_rows(degrees, "a graph")
        (axes,) = drawing.axes_for(ax, 4, 2.6)
        axes.hist(degrees, bins=min(40, int(np.ptp(degrees)) + 1), color=drawing.KEPT)
        axes.set(xlabel="neighbours", ylabel="points")
        drawing.whole_ticks(axes, "x")
        axes.set_title(f"{self.n_edges:,} edges, {self.scale}", fontsize="medium")
        drawing.plain(axes)
        return axes

    @property
    def n_edges(self) -> int:
        """How many pairs are joined."""
        if self.rows is None:
            return 0 if self.indices is None else len(self.indices) // 2
        return int((_SET_BITS[self.rows.view(np.uint8)].sum() - self.n_points) // 2)

    def edges(self) -> NDArray[np.int64]:
        """int64 ``[m, 2]``: each joined pair once, lower number first, in lexicographic order."""
        if self.rows is None:
            assert self.indptr is not None and self.indices is not None
            i = np.repeat(np.arange(self.n_points), np.diff(self.indptr))
            pairs = np.stack([i, self.indices.astype(np.int64)], axis=1)
            return pairs[pairs[:, 0] < pairs[:, 1]]
        n = self.n_points
        block = max(1, (1 << 24) // max(n, 1))  # unpacked bits take 8 times the packed memory
        pairs_of_blocks = [np.empty((0, 2), dtype=np.int64)]
        for start in range(0, n, block):
            packed = self.rows[start : start + block].view(np.uint8)
            i, j = np.nonzero(np.unpackbits(packed, axis=1, bitorder="little")[:, :n])
            i += start
            pairs_of_blocks.append(np.stack([i, j], axis=1)[i < j])
        return np.concatenate(pairs_of_blocks)


def rips_graph(
    points: ArrayLike | None = None, *, radius: float, distances: ArrayLike | None = None
) -> NeighborGraph:
    """Join every pair of points at Euclidean distance <= ``radius``.

    Args:
        points: ``[n, d]`` (more dimensions are flattened), float32 or float64 as given.
        radius: in the unit of the points, >= 0.
        distances: instead of points, a symmetric ``[n, n]`` matrix; of a scipy sparse one only the
            distances that are stored can join.

    Distances of points are added up in float64 in the order of the features, and ties count as
    joined: the same points give the same graph whatever their type, and whatever their unit. A matrix
    may have rounding errors: numbers just below zero or on the diagonal, which count as zero, and of
    d_ij and d_ji, if they differ in the sixth digit or later, the lesser counts.

    Raises:
        InputError: both or neither of points and distances, NaN, a negative radius, a matrix that
            is not square, symmetric, non-negative and zero on the diagonal.
    """
    rule = RipsRule(radius)
    if (points is None) == (distances is None):
        raise InputError(
            "points and distances" if points is not None else "neither points nor distances",
            "exactly one of them",
            "pass rips_graph(points, radius=...) or rips_graph(distances=D, radius=...)",
        )
    if points is not None:
        return scale_graph(points, Scale(radius=rule.radius))
    scale = Scale(radius=rule.radius)
    if sparse.issparse(distances):
        return replace(NeighborGraph.from_edges(*near_pairs(distances, rule.radius)), scale=scale)
    rows = near_rows(distances if distances is not None else (), rule.radius)
    return NeighborGraph(len(rows), scale, rows=rows)


def knn_graph(points: ArrayLike, *, k: int, hops: int = 1) -> NeighborGraph:
    """The kNN-hop graph: join pairs at most ``hops`` steps apart in the k-nearest-neighbour graph.

    The k-nearest-neighbour graph is symmetrised: i and j are joined when either is among the k
    nearest of the other, the point itself not counted. Of points at the same distance the one with
    the lower index is the nearer. The rule has no unit, so one setting is comparable between layers
    (Naitzat, Zhitnikov and Lim, JMLR 2020, section 5.2).

    Args:
        points: ``[n, d]`` with n > k.
        k: nearest neighbours, >= 1.
        hops: steps, >= 1.

    Raises:
        InputError: n <= k, NaN, k or hops no whole number >= 1, more memory than `memory_limit` allows.
    """
    return scale_graph(points, Scale(**vars(KnnRule(k, hops))))


def scale_graph(points: ArrayLike, scale: Scale) -> NeighborGraph:
    """`rips_graph` or `knn_graph` of ``points`` ``[n, d]``, whichever is the rule of ``scale``."""
    rule, array = require_rule(scale), check_points(points)
    return NeighborGraph(len(array), scale, *rule.join(array))
