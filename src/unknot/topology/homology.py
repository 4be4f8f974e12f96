"""Betti numbers of the clique complex of a neighbour graph, and persistence diagrams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot import _native
from unknot.core.errors import InputError, require_count
from unknot.core.memory import LIMIT_VARIABLE, memory_limit
from unknot.topology.cloud import FloatArray, check_points
from unknot.topology.graph import NeighborGraph
from unknot.topology.rules import require_radius
from unknot.topology.scale import Scale, require_rule


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


def betti_numbers(
    graph: NeighborGraph, *, max_dim: int = 1, time_budget: float | None = None
) -> BettiNumbers:
    """b0 to b_max_dim of the flag (clique) complex of ``graph``, over GF(2).

    Args:
        graph: from `rips_graph`, `knn_graph` or `NeighborGraph.from_edges`.
        max_dim: 0, 1 or 2.
        time_budget: seconds after which to give up; None never gives up.

    Returns:
        Betti numbers of length ``max_dim + 1``. The empty graph has zeros.

    Raises:
        InputError: no graph, more memory than `memory_limit` allows.
        TimeoutError: the budget is spent.

    At one scale no filtration is needed: the graph is first made smaller without changing its homology,
    and linear algebra does the rest; see ``src/native/``.
    """
    if not isinstance(graph, NeighborGraph):
        raise InputError(
            f"a graph of type {type(graph).__name__}",
            "a NeighborGraph",
            "build one first: uk.rips_graph(points, radius=...) or uk.knn_graph(points, k=..., hops=...)",
        )
    limits = _limits(max_dim, time_budget)
    with _as_input_error(graph.n_points):
        if graph.rows is not None:
            values = _native.betti_rows(graph.rows, max_dim, **limits)
        else:
            assert graph.indptr is not None and graph.indices is not None
            values = _native.betti_csr(graph.indptr, graph.indices, max_dim, **limits)
    return BettiNumbers(values, graph.n_points, graph.scale)


def betti_numbers_batch(
    clouds: NDArray[np.floating[Any]] | Iterable[ArrayLike],
    *,
    scale: Scale | None = None,
    radius: float | None = None,
    k: int | None = None,
    hops: int | None = None,
    max_dim: int = 1,
    threads: int = 0,
    time_budget: float | None = None,
) -> list[BettiNumbers]:
    """Betti numbers of many clouds at one scale, in the order given.

    Args:
        clouds: ``[b, n, d]``, or any iterable of ``[n_i, d_i]``.
        scale: the neighbour rule, or
        radius: for the Rips rule, or
        k: for the kNN-hop rule. Exactly one of the three.
        hops: with k; 1 by default.
        max_dim: 0, 1 or 2.
        threads: that share the clouds, inside the engine; 0 takes one a core. The answer does not
            depend on it.
        time_budget: seconds for all clouds together.

    Raises:
        InputError: not exactly one rule, a cloud with k points or fewer, NaN, more memory than
            `memory_limit` allows.
        TimeoutError: the budget is spent.
    """
    if scale is not None and hops is not None and k is None:
        raise InputError(f"hops = {hops} with scale = {scale}", "one of them", "drop hops")
    spelled = Scale(k=k, hops=hops, radius=radius)
    if (scale is None) == (spelled.rule is None):
        raise InputError(
            "no neighbour rule" if scale is None else f"scale = {scale} with {spelled}",
            "exactly one rule",
            "pass scale=..., radius=... or k=..., hops=...",
        )
    scale = spelled if scale is None else scale
    rule = require_rule(scale)
    arrays = [check_points(cloud) for cloud in clouds]
    limits = _limits(max_dim, time_budget)
    threads = require_count("threads", threads, minimum=0)
    with _as_input_error(max(map(len, arrays), default=0)):
        counts = rule.count(arrays, max_dim, threads=threads, **limits)
    return [BettiNumbers(values, len(a), scale) for values, a in zip(counts, arrays, strict=True)]


def count_lowered(
    clouds: Sequence[FloatArray], scale: Scale, *, max_dim: int = 1, threads: int = 0
) -> list[BettiNumbers]:
    """`betti_numbers_batch`, with k lowered where a cloud has k points or fewer: `Scale.lowered_to`.

    Args:
        clouds: ``[n_i, d_i]``, at least one point each; one alone has b = (1, 0).
    """
    by_scale: dict[Scale, list[int]] = {scale: []}
    for i, cloud in enumerate(clouds):
        if len(cloud) > 1:
            by_scale.setdefault(scale.lowered_to(len(cloud)), []).append(i)
    betti = [BettiNumbers((1, 0, 0)[: max_dim + 1], 1, scale.lowered_to(1))] * len(clouds)
    for lowered, members in by_scale.items():
        chosen = (clouds[i] for i in members)
        counts = betti_numbers_batch(chosen, scale=lowered, max_dim=max_dim, threads=threads)
        for i, numbers in zip(members, counts, strict=True):
            betti[i] = numbers
    return betti


def _limits(max_dim: int, time_budget: float | None) -> dict[str, Any]:
    """The native keyword arguments of every computation, checked."""
    if isinstance(max_dim, bool) or max_dim not in (0, 1, 2):
        raise InputError(f"max_dim = {max_dim!r}", "0, 1 or 2", "pass max_dim=1 for b0 and b1")
    if time_budget is not None and not time_budget > 0:
        raise InputError(f"time_budget = {time_budget}", "seconds > 0", "pass e.g. time_budget=60")
    return {"time_budget_s": float(time_budget or 0), "memory_limit": memory_limit()}


@contextmanager
def _as_input_error(n_points: int) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"homology of {n_points} points ({error})",
            f"at most {memory_limit() / 1e9:.2g} GB",
            f"take a subsample, a smaller scale or max_dim, or raise {LIMIT_VARIABLE}",
        ) from None


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
    """The persistence diagrams of the Rips filtration of ``points``, over GF(2), by Ripser.

    Args:
        points: ``[n, d]``, n >= 2 (more dimensions are flattened).
        max_dim: the highest dimension of a bar: 0, 1 or 2.
        max_radius: where the filtration ends, >= 0 in the unit of the points; what has not died by then
            has death = infinity.

    Raises:
        InputError: a single point, NaN, another ``max_dim``, a ``max_radius`` that is no number >= 0.

    Ripser works in float32: births and deaths are exact to about seven digits, so at a radius that
    equals a distance to the last bit it can differ from `betti_numbers`, which works in float64.
    """
    # Here, because ripser brings scikit-learn and a plotting library: half a second.
    from ripser import ripser
    from scipy.spatial.distance import pdist, squareform

    array = check_points(points)
    if array.shape[0] < 2:
        raise InputError(f"{array.shape[0]} point(s)", "at least 2", "pass more points")
    _limits(max_dim, None)
    max_radius = require_radius("max_radius", max_radius)
    # Distances by scipy: given points, ripser warns of clouds with as many features as points.
    distances = squareform(pdist(array.astype(np.float64)))
    diagrams = ripser(distances, distance_matrix=True, maxdim=max_dim, thresh=max_radius)["dgms"]
    return PersistenceDiagram(tuple(np.asarray(d, dtype=np.float64) for d in diagrams), array.shape[0])
