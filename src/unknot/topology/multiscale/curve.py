"""The Betti numbers of a cloud over a grid of radii."""

from __future__ import annotations

import time
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_count
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.topology.cloud import check_points, group_equal_rows
from unknot.topology.graph import rips_graph
from unknot.topology.homology import betti_numbers, require_dim
from unknot.topology.multiscale.spanning_tree import longest_edge
from unknot.topology.rules import require_radius

RADII = 50
# Of the radius at which the cloud becomes one piece: what happens beyond is mostly the shape as a whole.
REACH = 2.0


@dataclass(frozen=True, eq=False, repr=False)
class BettiCurve(Tabular):
    """Betti numbers at each of several radii.

    Attributes:
        radii: float64 ``[m]``, rising, in the unit of the points.
        values: int64 ``[m, max_dim + 1]``: b0, b1, ... at each radius.
        n_points: how many points were measured, duplicates included.
    """

    radii: NDArray[np.float64]
    values: NDArray[np.int64]
    n_points: int

    def __repr__(self) -> str:
        ends = f"radii {self.radii[0]:.4g} to {self.radii[-1]:.4g}"
        most = ", ".join(f"b{d} up to {column.max():,}" for d, column in enumerate(self.values.T))
        return f"BettiCurve({len(self.radii)} {ends}, {most}, {self.n_points:,} points)"

    def to_frame(self) -> Any:
        """A pandas DataFrame of one row a radius (the index), with columns b0, b1, ...

        Raises:
            InputError: pandas is not installed.
        """
        return super().to_frame().set_index("radius")

    def _columns(self) -> dict[str, Any]:
        return {"radius": self.radii, **{f"b{d}": column for d, column in enumerate(self.values.T)}}

    def _title(self) -> str:
        return repr(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw one step curve a dimension, and return the matplotlib axes.

        Args:
            ax: axes to draw into; None makes new ones.

        Raises:
            InputError: matplotlib is not installed.
        """
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        for d, column in enumerate(self.values.T):
            style = {"color": drawing.colour(d), "linestyle": drawing.dash(d)}
            axes.step(self.radii, column, where="post", label=f"b{d}", **style)
        axes.set(xlabel="radius", ylabel="Betti number", ylim=(0, None))
        drawing.scale_counts(axes, "y", self.values.ravel().tolist())
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes


def betti_curve(
    points: ArrayLike,
    radii: ArrayLike | int = RADII,
    *,
    max_dim: int = 1,
    time_budget: float | None = None,
    progress: ShowProgress = "auto",
) -> BettiCurve:
    """The Betti numbers of the Rips complexes of ``points`` at each of ``radii``.

    What `persistence` tells at each radius by ``betti_at``, but counted radius by radius by the engine,
    without a filtration: sooner for a grid of radii, and in less memory.

    Args:
        points: ``[n, ...]``, one row a sample.
        radii: ``[m]`` numbers >= 0, in any order; or how many, >= 2: that many, evenly from 0 to twice
            the radius at which the cloud becomes one piece.
        max_dim: 0, 1 or 2.
        time_budget: seconds after which to give up; None never gives up.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: no point, NaN, no radius or one that is no number >= 0, a number of radii below 2,
            points that are all equal without radii, more memory than `memory_limit` allows.
        TimeoutError: the budget is spent.
    """
    array = check_points(points)
    require_dim(max_dim)
    if isinstance(radii, (Integral, bool)):
        grid = np.linspace(0, REACH * _one_piece(array), require_count("radii", radii, minimum=2))
    else:
        given = np.asarray(radii, dtype=object).ravel()
        if not given.size:
            raise InputError("radii = []", "at least one radius", "pass e.g. radii=50")
        grid = np.unique([require_radius(f"radii[{i}]", radius) for i, radius in enumerate(given)])
    end = None if time_budget is None else time.monotonic() + time_budget
    values = []
    for radius in track(grid.tolist(), "counting at each radius", show=progress):
        left = None if end is None else max(end - time.monotonic(), 1e-9)
        graph = rips_graph(array, radius=radius)
        values.append(betti_numbers(graph, max_dim=max_dim, time_budget=left).values)
    return BettiCurve(grid, np.array(values, dtype=np.int64), len(array))


def _one_piece(array: NDArray[np.floating[Any]]) -> float:
    """The radius at which the points are one piece."""
    distinct = array[group_equal_rows(array)[0]]
    if len(distinct) < 2:
        raise InputError(
            f"{len(array)} equal point{'s' * (len(array) != 1)}", "two that differ", "pass radii=[...]"
        )
    return longest_edge(distinct)
