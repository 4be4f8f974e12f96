"""Betti numbers of the clique complex of a neighbour graph, and persistence diagrams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot import _native
from unknot.core.errors import InputError, require_count
from unknot.core.memory import LIMIT_VARIABLE, memory_limit
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.topology.cloud import FloatArray, as_array, check_points
from unknot.topology.distances import pairwise_distances
from unknot.topology.graph import NeighborGraph
from unknot.topology.rules import require_radius
from unknot.topology.scale import Scale, require_rule

MOST_THREADS = 1024


@dataclass(frozen=True, repr=False)
class BettiNumbers(Tabular):
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

    def __repr__(self) -> str:
        betti = ", ".join(f"b{i}={value}" for i, value in enumerate(self.values))
        return f"BettiNumbers({betti}; {self.n_points:,} points, {self.scale})"

    def _columns(self) -> dict[str, list[Any]]:
        n = len(self.values)
        return {
            "dimension": list(range(n)),
            "betti": list(self.values),
            "n_points": [self.n_points] * n,
            "scale": [str(self.scale)] * n,
        }

    def plot(self, ax: Any = None) -> Any:
        """Draw one bar a dimension.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: matplotlib is not installed.
        """
        (axes,) = drawing.axes_for(ax, 3, 2.4)
        bars = axes.bar([f"b{i}" for i in range(len(self.values))], self.values, color=drawing.KEPT)
        axes.bar_label(bars)
        axes.set_title(f"{self.n_points:,} points, {self.scale}", fontsize="medium")
        drawing.scale_counts(axes, "y", self.values)
        drawing.plain(axes)
        return axes


def betti_numbers(
    graph: NeighborGraph | ArrayLike,
    *,
    scale: Scale | None = None,
    radius: float | None = None,
    k: int | None = None,
    hops: int | None = None,
    max_dim: int = 1,
    time_budget: float | None = None,
) -> BettiNumbers:
    """b0 to b_max_dim of the flag (clique) complex of ``graph``, over GF(2).

    Args:
        graph: from `rips_graph`, `knn_graph` or `NeighborGraph.from_edges`; or points ``[n, d]``, with
        scale, radius, k, hops: the neighbour rule that joins them, as of `betti_numbers_batch`.
        max_dim: 0, 1 or 2.
        time_budget: seconds after which to give up; None never gives up.

    Returns:
        Betti numbers of length ``max_dim + 1``. The empty graph has zeros.

    Raises:
        InputError: points without a rule or a graph with one, more memory than `memory_limit` allows.
        TimeoutError: the budget is spent.

    At one scale no filtration is needed: the graph is first made smaller without changing its homology,
    and linear algebra does the rest; see ``src/native/``.
    """
    given = {"scale": scale, "radius": radius, "k": k, "hops": hops}
    rules = [f"{name} = {value}" for name, value in given.items() if value is not None]
    if not isinstance(graph, NeighborGraph):
        if not rules:
            raise InputError(
                f"a graph of type {type(graph).__name__}",
                "a NeighborGraph, or points with a scale",
                "of points: uk.betti_numbers(uk.rips_graph(points, radius=...)) "
                "or uk.betti_numbers(uk.knn_graph(points, k=..., hops=...))",
            )
        points = check_points(graph)
        return betti_numbers_batch(
            [points],
            scale=scale,
            radius=radius,
            k=k,
            hops=hops,
            max_dim=max_dim,
            time_budget=time_budget,
        )[0]
    if rules:
        raise InputError(
            f"{rules[0]} with a graph at {graph.scale}", "one of them", f"drop {rules[0].split()[0]}"
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
        InputError: not exactly one rule, one cloud instead of many, a cloud with k points or fewer, NaN,
            more memory than `memory_limit` allows.
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
    arrays = list(check_clouds(clouds))
    limits = _limits(max_dim, time_budget)
    threads = min(require_count("threads", threads, minimum=0), MOST_THREADS)
    with _as_input_error(max(map(len, arrays), default=0)):
        counts = rule.count(arrays, max_dim, threads=threads, **limits)
    return [BettiNumbers(values, len(a), scale) for values, a in zip(counts, arrays, strict=True)]


def check_clouds(clouds: object) -> Iterator[FloatArray]:
    """Each cloud as `check_points` gives it; one cloud alone is refused, rows being no clouds."""
    remedy = "of one cloud pass [points]"
    if not isinstance(clouds, Iterable) or isinstance(clouds, (str, bytes, Mapping)):
        what = f"clouds of type {type(clouds).__name__}"
        raise InputError(what, "an array [b, n, d], or a list of arrays [n, d]", remedy)
    shape = getattr(clouds, "shape", None)
    if isinstance(shape, tuple) and len(shape) < 3:
        raise InputError(f"clouds of shape {shape}", "[b, n, d], or a list of arrays [n, d]", remedy)
    for i, cloud in enumerate(clouds):
        name = f"clouds[{i}]"
        array = as_array(cloud, name)
        if array.ndim == 1 and array.size:
            value = f"{name} of shape {array.shape}"
            raise InputError(value, "an array [n, d]", f"{remedy}, and numbers on a line as x[:, None]")
        yield check_points(array if array.ndim else cloud, name)


def count_lowered(
    clouds: Sequence[FloatArray], scale: Scale, *, max_dim: int = 1, threads: int = 0
) -> list[BettiNumbers]:
    """`betti_numbers_batch`, with k lowered where a cloud has k points or fewer: `Scale.lowered_to`.

    Args:
        clouds: ``[n_i, d_i]``, at least one point each; one alone has b = (1, 0).
    """
    require_dim(max_dim)
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


def require_dim(max_dim: object) -> None:
    """An InputError unless ``max_dim`` is a dimension that the engine counts."""
    whole = isinstance(max_dim, (int, np.integer)) and not isinstance(max_dim, bool)
    if not whole or max_dim not in (0, 1, 2):
        raise InputError(f"max_dim = {max_dim!r}", "0, 1 or 2", "pass max_dim=1 for b0 and b1")


def _limits(max_dim: int, time_budget: float | None) -> dict[str, Any]:
    """The native keyword arguments of every computation, checked."""
    require_dim(max_dim)
    number = isinstance(time_budget, (int, float, np.integer, np.floating))
    if time_budget is not None and not (number and time_budget > 0):
        raise InputError(f"time_budget = {time_budget!r}", "seconds > 0", "pass e.g. time_budget=60")
    return {"time_budget_s": float(min(time_budget or 0, 1e300)), "memory_limit": memory_limit()}


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


@dataclass(frozen=True, eq=False, repr=False)
class PersistenceDiagram(Tabular):
    """Birth and death of every homology class of a Rips filtration.

    Attributes:
        bars: one float64 array ``[m, 2]`` (birth, death; infinity for what never dies) a dimension.
        n_points: size of the cloud.
    """

    bars: tuple[NDArray[np.float64], ...]
    n_points: int

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(bars):,} of H{i}" for i, bars in enumerate(self.bars))
        return f"PersistenceDiagram(bars: {counts}; {self.n_points:,} points)"

    def _columns(self) -> dict[str, Any]:
        every = np.concatenate([np.empty((0, 2)), *self.bars])
        lengths = [len(bars) for bars in self.bars]
        dimension = np.repeat(np.arange(len(self.bars)), lengths)
        return {"dimension": dimension, "birth": every[:, 0], "death": every[:, 1]}

    def plot(self, ax: Any = None) -> Any:
        """Draw the diagram: a mark a bar, the farther from the diagonal the longer it lives.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes. What never dies is drawn on the dashed line at the top.

        Raises:
            InputError: matplotlib is not installed.
        """
        (axes,) = drawing.axes_for(ax, 3.6, 3.4)
        every = np.concatenate([np.zeros((1, 2)), *self.bars])
        top = 1.1 * float(every[np.isfinite(every)].max()) or 1.0
        axes.plot([0, top], [0, top], color=drawing.SOFT, linewidth=1)
        axes.axhline(top, color=drawing.SOFT, linestyle="--", linewidth=1)
        for i, bars in enumerate(self.bars):
            deaths = np.where(np.isfinite(bars[:, 1]), bars[:, 1], top)
            style = {"s": 16, "color": drawing.colour(i), "marker": drawing.mark(i)}
            axes.scatter(bars[:, 0], deaths, label=f"H{i}", clip_on=False, zorder=3, **style)
        axes.set(xlabel="birth", ylabel="death (dashed: never)", xlim=(0, top), ylim=(0, top))
        axes.legend(frameon=False, fontsize=drawing.SMALL, loc="lower right")
        drawing.plain(axes)
        return axes

    def betti_at(self, radius: float) -> tuple[int, ...]:
        """The Betti numbers at one radius: bars with birth <= radius < death.

        Raises:
            InputError: a radius that is no number.
        """
        if not (isinstance(radius, (int, float)) and radius < 0):
            radius = require_radius("radius", radius)
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
        InputError: a single point, NaN, another ``max_dim``, a ``max_radius`` that is no number >= 0,
            points farther from each other than float64 can hold.

    Births and deaths are distances in float64, of any unit. Where more than 16 million distances differ
    (some 5,800 points), neighbouring ones are taken for equal, in steps of at most 1e-7 of their number.
    """
    # Here, because ripser brings scikit-learn and a plotting library: half a second.
    from ripser import ripser
    from scipy.spatial.distance import squareform

    array = check_points(points)
    if array.shape[0] < 2:
        raise InputError(f"{array.shape[0]} point(s)", "at least 2", "pass more points")
    _limits(max_dim, None)
    max_radius = require_radius("max_radius", max_radius)
    # Ripser works in float32. The diagrams depend on the order of the distances alone: it gets their
    # ranks, which float32 holds up to 2^24, and the bars get the distances back.
    radii, ranks = np.unique(np.append(0.0, pairwise_distances(array)), return_inverse=True)
    most = math.inf if max_radius >= radii[-1] else np.searchsorted(radii, max_radius, "right") - 1
    matrix = squareform(ranks[1:].astype(np.float32))
    diagrams = ripser(matrix, distance_matrix=True, maxdim=max_dim, thresh=most)["dgms"]
    bars = (
        np.where(np.isinf(d), math.inf, radii[np.minimum(d, len(radii) - 1).astype(np.int64)])
        for d in diagrams
    )
    return PersistenceDiagram(tuple(bars), array.shape[0])
