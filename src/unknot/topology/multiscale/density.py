"""Islands: the pieces of a cloud over all density levels that stand out of the noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot import _native
from unknot.core.errors import InputError, require_count, require_positive
from unknot.core.memory import require_memory
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular, frame
from unknot.topology.cloud import FloatArray, check_points, group_equal_rows
from unknot.topology.homology import MOST_THREADS, check_clouds

# Prominences below this are mostly noise, and are left out of the total.
LEAST_PROMINENCE = 2.0
# Islands come to light with n: a good number where there is one.
ENOUGH_POINTS = 4000
PEAKS_DRAWN = 20


@dataclass(frozen=True, eq=False, repr=False)
class Islands(Tabular):
    """The pieces of a cloud that stand out of the noise, with what they were measured on.

    Attributes:
        count: how many islands there are.
        members: int64 ``[n]``, the island of each point given, duplicates included, in [0, count).
        prominences: float64 ``[m]`` with m >= count, falling: of every peak of density, in standard
            deviations of its noise; infinite for the highest peak of each component of the graph. The
            first ``count`` are those of the islands, in their order; the others are below z.
        total: the sum of the finite prominences >= 2: finer than the count, and without its steps.
        dimension: the intrinsic dimension of the cloud; 1e12 where all neighbours are equally far.
        n_points: how many distinct points were measured.
        k: nearest neighbours.
        z: the least prominence of an island.
        note: what to heed; empty where there is nothing.
    """

    count: int
    members: NDArray[np.int64]
    prominences: NDArray[np.float64]
    total: float
    dimension: float
    n_points: int
    k: int
    z: float
    note: str = ""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 ``[count]``: how many of the points given are on each island."""
        return np.bincount(self.members, minlength=self.count).astype(np.int64)

    def __repr__(self) -> str:
        sizes = [f"{size:,}" for size in self.sizes[:8]] + ["..."] * (self.count > 8)
        islands = f"{self.count} island{'s' * (self.count != 1)} of {' + '.join(sizes)} points"
        scale = f"total {self.total:.3g}, dimension {self.dimension:.3g}, k={self.k}, z={self.z:g}"
        return f"Islands({islands}, {scale}{self.note and f'; {self.note}'})"

    def to_frame(self) -> Any:
        """A pandas DataFrame of one row an island: ``size`` and ``prominence``.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(self._columns()).set_index("island")

    def _columns(self) -> dict[str, Any]:
        prominences = self.prominences[: self.count]
        return {"island": range(self.count), "size": self.sizes, "prominence": prominences}

    def _title(self) -> str:
        return repr(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw the highest peaks by prominence: islands stand out of the noise, whose peaks lie below z.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes. An infinite prominence is drawn at the upper edge.

        Raises:
            InputError: matplotlib is not installed.
        """
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        shown = self.prominences[: max(self.count, min(len(self.prominences), PEAKS_DRAWN))]
        finite = shown[np.isfinite(shown)]
        top = 1.15 * max(self.z, float(finite.max(initial=0.0)))
        at = np.arange(len(shown))
        heights = np.where(np.isfinite(shown), shown, top)
        for island, name, tone in ((True, "islands", drawing.KEPT), (False, "noise", drawing.SOFT)):
            of = (at < self.count) == island
            if of.any():
                axes.bar(at[of], heights[of], color=tone, label=name)
        for i in at[np.isinf(shown)]:
            axes.text(i, top, "∞", ha="center", va="bottom", color=drawing.INK)
        axes.axhline(self.z, color=drawing.INK, linestyle="--", linewidth=1)
        axes.set(xlabel="peaks of density", ylabel="prominence", xticks=[], ylim=(0, 1.1 * top))
        axes.set_title(f"{self.count:,} island{'s' * (self.count != 1)}", fontsize="medium")
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes


def islands(points: ArrayLike, k: int = 15, z: float = 3.0, *, threads: int = 0) -> Islands:
    """Count the pieces of a cloud over all levels of density at once: no scale, no labels.

    The density at a point is that of its k-th nearest neighbour at distance r: its logarithm is -m log r
    for m the intrinsic dimension (Levina and Bickel 2004, averaged as by MacKay and Ghahramani 2005), and
    its noise 1 / sqrt(k). Points are linked when either is among the k nearest of the other, or when k
    points have both among theirs (of which each has an r of at most 1.2 times the greater of the two): in
    high dimension the densest points are near to very many others and seldom to each other. Points enter
    the graph by falling density. A peak is born with a component, and where two components meet the lower
    peak ends (H0 of superlevel sets, as in ToMATo: Chazal, Guibas, Oudot and Skraba 2013); how far it
    rose above that meeting, in units of sqrt(2 / k), is its prominence. Islands are the components of the
    graph, and the peaks of prominence >= z.

    A point is on the island of its densest neighbour, if that is denser; a peak of prominence below z
    joins, where it ends, the island of the densest point it meets there. Of equal densities the lower
    number counts as denser. Prominences have no unit: they compare over layers of any width. They grow
    with n, so hold n when you compare, and take a few thousand points. One island means one cloud,
    overlapping pieces, or too few points.

    Args:
        points: ``[n, ...]``, one row a sample, float32 or float64 as given; of more than k distinct
            points. Of equal points one is measured.
        k: nearest neighbours, >= 2. With fewer than about 10 noise has more islands.
        z: the least prominence of an island, a number > 0. At 3 a cloud of mere noise has a second island
            in about one case in a hundred, whatever its dimension (docs/meaning.md).
        threads: of the engine; 0 takes one a core. The answer does not depend on it.

    Raises:
        InputError: k distinct points or fewer, NaN, k no whole number >= 2, z no number > 0, more memory
            than `memory_limit` allows.
    """
    return _find([check_points(points)], ["points"], k, z, threads)[0]


def islands_batch(
    clouds: NDArray[np.floating[Any]] | Iterable[ArrayLike],
    k: int = 15,
    z: float = 3.0,
    *,
    threads: int = 0,
) -> list[Islands]:
    """`islands` of many clouds, in the order given.

    Args:
        clouds: ``[b, n, d]``, or any iterable of ``[n_i, d_i]``.
        k, z: as of `islands`.
        threads: that share the clouds, inside the engine; 0 takes one a core.

    Raises:
        InputError: what `islands` refuses, one cloud instead of many.
    """
    arrays = list(check_clouds(clouds))
    return _find(arrays, [f"clouds[{i}]" for i in range(len(arrays))], k, z, threads)


def _find(arrays: list[FloatArray], names: list[str], k: int, z: float, threads: int) -> list[Islands]:
    k = require_count("k", k, minimum=2)
    z = require_positive("z", z, 3.0)
    threads = min(require_count("threads", threads, minimum=0), MOST_THREADS)
    distinct, groups = [], []
    for array, name in zip(arrays, names, strict=True):
        first, number = group_equal_rows(array)
        if len(first) <= k:
            few = len(first) < 3
            raise InputError(
                f"k = {k} with {len(first)} distinct point{'s' * (len(first) != 1)} in {name}",
                "more than k",
                "pass at least 3 that differ" if few else f"pass k <= {len(first) - 1}",
            )
        distinct.append(array if len(first) == len(array) else array[first])
        groups.append(number)
    # Neighbours, their graph, who has whom as a neighbour, the points once more as tiles.
    largest = max(distinct, key=lambda cloud: len(cloud) * (20 * k + 16 * cloud.shape[1]), default=None)
    if largest is not None:
        needed = len(largest) * (20 * k + 16 * largest.shape[1] + 100)
        require_memory(len(largest), needed, "the kNN graph")
    found = _native.find_islands(distinct, k, z, threads=threads)
    return [
        islands_of(members[number], prominences, dimension, (len(cloud), k, z))
        for (members, prominences, dimension), number, cloud in zip(found, groups, distinct, strict=True)
    ]


def islands_of(
    members: NDArray[np.int64],
    prominences: NDArray[np.float64],
    dimension: float,
    measured: tuple[int, int, float],
) -> Islands:
    """The result of what the engine found among (n distinct points, with k, and z)."""
    n, k, z = measured
    count = int((prominences >= z).sum())
    finite = prominences[np.isfinite(prominences)]
    total = math.fsum(finite[finite >= LEAST_PROMINENCE])
    notes = [f"few distinct points for k = {k}: take {3 * k} or more"] * (n < 3 * k)
    if count == 1 and n < ENOUGH_POINTS:
        notes.append(f"too few samples or one cloud: try n = {ENOUGH_POINTS:,}")
    elif count == 1:
        notes.append("one cloud, or pieces that overlap")
    return Islands(count, members, prominences, total, dimension, n, k, z, "; ".join(notes))
