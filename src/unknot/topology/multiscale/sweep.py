"""Sensitivity: the Betti numbers over a grid of scales, to see how much the chosen one decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_choice
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular, columns_of
from unknot.topology.calibration import HOPS, K_LADDER, RankedNeighbours, calibrate, class_clouds
from unknot.topology.cloud import FloatArray
from unknot.topology.graph import NeighborGraph, rips_graph
from unknot.topology.homology import betti_numbers
from unknot.topology.rules import KnnRule, RipsRule
from unknot.topology.scale import Scale, require_rule

# A quarter of the radius to four times it.
RADIUS_FACTORS = tuple(2.0 ** (step / 4) for step in range(-8, 9))


@dataclass(frozen=True)
class SensitivityRow:
    """One class cloud at one scale.

    Attributes:
        label: the class; None where the points have no labels.
        n_points: distinct points of the cloud.
        scale: the neighbour rule.
        b0, b1: Betti numbers.
    """

    label: int | None
    n_points: int
    scale: Scale
    b0: int
    b1: int


class SensitivityGrid(NamedTuple):
    """The values of one class as a heat map: one row a value of ``y``, one column a value of ``x``.

    Attributes:
        x: k, or the radius.
        y: hops, or empty text for the Rips rule, which has one row.
        values: float64 ``[len(y), len(x)]``; NaN where the class has k points or fewer.
        x_name, y_name: axis titles.
        chosen: (x, y) of the chosen scale, where it lies on the grid.
    """

    x: tuple[float, ...]
    y: tuple[int | str, ...]
    values: NDArray[np.float64]
    x_name: str
    y_name: str
    chosen: tuple[float, int | str] | None


@dataclass(frozen=True, repr=False)
class Sensitivity(Tabular):
    """Betti numbers of every class over a grid of scales, and the scale that was chosen.

    Attributes:
        rows: one record each class and scale.
        chosen: the scale that is used for everything else.
    """

    rows: tuple[SensitivityRow, ...]
    chosen: Scale

    def _columns(self) -> dict[str, list[Any]]:
        return columns_of(self.rows)

    def _title(self) -> str:
        n, classes = len(self.rows), len(self.labels())
        of = f" of {classes} classes" if classes > 1 else ""
        return f"Sensitivity: b0 and b1{of} in {n:,} rows; chosen: {self.chosen}"

    def labels(self) -> list[int | None]:
        """The classes, in their order; ``[None]`` without labels."""
        return list(dict.fromkeys(row.label for row in self.rows))

    def as_grid(self, label: int | None, number: Literal["b0", "b1"]) -> SensitivityGrid:
        """The values of ``number`` of class ``label``, ready for a heat map.

        Raises:
            InputError: no such class or number.
        """
        rows = [row for row in self.rows if row.label == label]
        if not rows:
            raise InputError(f"label = {label!r}", f"one of {self.labels()}", "list them with .labels()")
        require_choice("number", number, ("b0", "b1"))
        rule = require_rule(rows[0].scale)
        cells = {require_rule(row.scale).cell: float(getattr(row, number)) for row in rows}
        every = {require_rule(row.scale).cell for row in self.rows}
        x, y = sorted({x for x, _ in every}), sorted({y for _, y in every})
        values = np.array([[cells.get((a, b), np.nan) for a in x] for b in y])
        chosen = self.chosen.rule
        mark = chosen.cell if isinstance(chosen, type(rule)) and chosen.cell in every else None
        return SensitivityGrid(
            tuple(x), tuple(b or "" for b in y), values, *rule.axes, mark and (mark[0], mark[1] or "")
        )

    def plot(self, ax: Any = None, *, number: Literal["b0", "b1"] | None = None) -> Any:
        """Draw b0 and b1 over the scales: where they stay the same, the scale decides little.

        Over k and hops a heat map, a row a class and number of hops, with the chosen scale in a box; over
        radii a line a class, the chosen one dashed.

        Args:
            ax: matplotlib axes for one number; None makes new ones, for each number.
            number: "b0" or "b1" alone; None draws both, and in ``ax`` b0.

        Returns:
            The axes; an array of two where both are drawn.

        Raises:
            InputError: no rows, another number, matplotlib is not installed.
        """
        drawing.require_rows(self.rows, "a Sensitivity")
        numbers: tuple[Literal["b0", "b1"], ...] = ("b0", "b1") if ax is None else ("b0",)
        if number is not None:
            numbers = (number,)
        grids = [[self.as_grid(label, which) for label in self.labels()] for which in numbers]
        lines = len(grids[0]) * len(grids[0][0].y)
        height = 2.8 if grids[0][0].y == ("",) else 1.2 + 0.27 * lines
        axes = drawing.axes_for(ax, 4.6 * len(numbers), height, len(numbers))
        for panel, which, of_classes in zip(axes, numbers, grids, strict=True):
            draw = _draw_radii if of_classes[0].y == ("",) else _draw_ladder
            draw(panel, self.labels(), of_classes)
            panel.set_title(f"{which}; chosen: {self.chosen}", fontsize="medium")
        return drawing.one_or_all(axes)


def _class_name(label: int | None) -> str:
    return "all" if label is None else f"class {label}"


def _draw_ladder(axes: Any, labels: list[int | None], grids: list[SensitivityGrid]) -> None:
    names = [
        f"{_class_name(label)}, {hops} hop{'s' * (hops != 1)}"
        for label, grid in zip(labels, grids, strict=True)
        for hops in grid.y
    ]
    columns = [f"{k:.0f}" for k in grids[0].x]
    drawing.heat_map(axes, np.concatenate([grid.values for grid in grids]), columns, names)
    for number, grid in enumerate(grids):
        if grid.chosen is not None:
            row = number * len(grid.y) + grid.y.index(grid.chosen[1])
            drawing.box_cell(axes, grid.x.index(grid.chosen[0]), row)
    axes.set_xlabel("k, nearest neighbours")


def _draw_radii(axes: Any, labels: list[int | None], grids: list[SensitivityGrid]) -> None:
    for i, (label, grid) in enumerate(zip(labels, grids, strict=True)):
        style = {"color": drawing.colour(i), "marker": drawing.mark(i), "markersize": 4}
        axes.plot(grid.x, grid.values[0], label=_class_name(label), **style)
    if grids[0].chosen is not None:
        axes.axvline(grids[0].chosen[0], color=drawing.INK, linestyle="--", linewidth=1)
    drawing.log_axis(axes, "x")
    axes.set_xlabel("radius")
    values = np.concatenate([grid.values[0] for grid in grids])
    drawing.scale_counts(axes, "y", values[np.isfinite(values)].tolist())
    axes.legend(frameon=False, fontsize=drawing.SMALL)
    drawing.plain(axes)


def sensitivity(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    scale: Scale | None = None,
    max_points: int | None = None,
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> Sensitivity:
    """Measure b0 and b1 of every class over k and hops, or over radii where ``scale`` is a radius.

    Args:
        points: ``[n, ...]``, one row a sample.
        labels: ``[n]`` integers; without them the cloud is one class.
        scale: the chosen scale; None calibrates it on the same points.
        max_points: stratified subsample that is measured; None takes up to 10,000.
        seed: of the subsample.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Returns:
        A Sensitivity whose grid is `calibrate`'s ladder of k at 1, 2 and 3 hops, the chosen k and hops
        included; or, for a radius, 17 radii from a quarter of it to four times it. There is no row
        where a class has k points or fewer.

    Raises:
        InputError: what `calibrate` refuses, or a scale without k and without a radius > 0.
    """
    if scale is None:
        scale = calibrate(points, labels, max_points=max_points, seed=seed, progress=progress)
    rule = scale.rule
    if rule is None or rule == RipsRule(0):
        raise InputError(f"scale = {scale}", "k and hops, or a radius > 0", "pass Scale(k=14, hops=2)")
    graphs: list[tuple[int | None, Callable[[], NeighborGraph]]] = []
    for label, cloud in class_clouds(points, labels, max_points=max_points, seed=seed).items():
        over = _over_knn(cloud, rule) if isinstance(rule, KnnRule) else _over_radius(cloud, rule)
        graphs += [(label, graph) for graph in over]
    rows: list[SensitivityRow] = []
    for label, make in track(graphs, "trying scales", show=progress):
        graph = make()
        b0, b1 = betti_numbers(graph).values
        rows.append(SensitivityRow(label, graph.n_points, graph.scale, b0, b1))
    return Sensitivity(tuple(rows), scale)


def _over_knn(cloud: FloatArray, chosen: KnnRule) -> list[Callable[[], NeighborGraph]]:
    ladder = [k for k in sorted({*K_LADDER, chosen.k}) if k < len(cloud)]
    neighbours = RankedNeighbours(cloud, max(ladder, default=1))
    every = sorted({*HOPS, chosen.hops})
    return [partial(neighbours.graph, k, hops) for hops in every for k in ladder]


def _over_radius(cloud: FloatArray, chosen: RipsRule) -> list[Callable[[], NeighborGraph]]:
    return [partial(rips_graph, cloud, radius=chosen.radius * factor) for factor in RADIUS_FACTORS]
