"""Scores over budgets, differences and seconds, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unknot.core.errors import InputError
from unknot.core.showing import drawing


def draw_budgets(ax: Any, rows: Sequence[Any]) -> Any:
    """`BudgetRow` over their budgets, one panel a set and kind of training."""
    drawing.require_rows(rows, "a study by budget")
    kinds = list(dict.fromkeys((row.set, row.unit, row.schedule, row.metric, row.net) for row in rows))
    if ax is not None and len(kinds) > 1:
        raise InputError(
            f"one pair of axes for {len(kinds)} sets or kinds of training",
            "as many as these",
            "leave ax out",
        )
    panels = drawing.axes_for(ax, 4.4 * len(kinds), 3, panels=len(kinds))
    names = list(dict.fromkeys(row.activation for row in rows))
    for axes, kind in zip(panels, kinds, strict=True):
        of_kind = [r for r in rows if (r.set, r.unit, r.schedule, r.metric, r.net) == kind]
        for i, name in enumerate(names):
            line = sorted((r for r in of_kind if r.activation == name), key=lambda r: r.at)
            _draw_line(axes, i, name, line)
        drawing.log_axis(axes, "x")
        axes.set_xticks(sorted({r.at for r in of_kind}))
        axes.set(xlabel=kind[1], ylabel=f"test {kind[3]}")
        if kind[3] == "accuracy":
            drawing.percent_axis(axes, "y")
        axes.set_title(f"{drawing.short(kind[0])}, {kind[2]} rate", fontsize="medium")
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
    return drawing.one_or_all(panels)


def _draw_line(axes: Any, number: int, name: str, line: Sequence[Any]) -> None:
    """The medians of one activation, their intervals, and the seeds."""
    tone = drawing.colour(number)
    known = [row for row in line if row.median is not None]
    if not known:
        return
    style = {"color": tone, "linestyle": drawing.dash(number), "marker": drawing.mark(number)}
    axes.plot([r.at for r in known], [r.median for r in known], label=drawing.short(name), **style)
    for row in line:
        seeds = [score for score in row.scores if score is not None]
        axes.scatter([row.at] * len(seeds), seeds, s=9, color=tone, alpha=0.35, linewidths=0)
        if row.low is not None and row.high is not None:
            axes.vlines(row.at, row.low, row.high, color=tone, linewidth=1)


def draw_differences(ax: Any, rows: Sequence[Any]) -> Any:
    """`BudgetComparison` from the top, about 0."""
    drawing.require_rows(rows, "a comparison")
    metrics = list(dict.fromkeys(row.metric for row in rows))
    if len(metrics) > 1:
        raise InputError(f"differences in {' and '.join(metrics)}", "one metric", "draw them one by one")
    (axes,) = drawing.axes_for(ax, 5.2, 1.2 + 0.3 * len(rows))
    for i, row in enumerate(rows):
        tone = drawing.KEPT if row.p_holm <= 0.05 else drawing.SOFT
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [i, i], color=tone, linewidth=2)
        if row.difference is not None:
            axes.scatter([row.difference], [i], color=tone, zorder=3)
    sets = len({row.set for row in rows}) > 1
    drawing.name_rows(
        axes, [f"{row.set}, " * sets + f"{row.activation}, {row.at:g} {row.unit}" for row in rows]
    )
    axes.axvline(0, color=drawing.SOFT, linestyle="--", linewidth=1)
    axes.set_xlabel(f"test {metrics[0]} less that of {drawing.short(rows[0].baseline)}")
    drawing.plain(axes)
    return axes


def draw_seconds(ax: Any, rows: Sequence[Any]) -> Any:
    """`SecondsRow` from the top: the seconds of tuning, then those of a training."""
    drawing.require_rows(rows, "seconds to a target")
    (axes,) = drawing.axes_for(ax, 5.2, 1.2 + 0.3 * len(rows))
    sets = len({row.set for row in rows}) > 1
    parts = {
        "tuning": ([row.tuning for row in rows], drawing.SOFT),
        "training, median": ([row.median or 0 for row in rows], drawing.KEPT),
    }
    names = [f"{row.set}, " * sets + f"{row.activation}, {row.at:g} s" for row in rows]
    drawing.stacked_bars(axes, names, parts)
    for i, row in enumerate(rows):
        if row.median is None:
            axes.text(row.tuning, i, " not reached", va="center", fontsize=drawing.SMALL)
    axes.set_xlabel(f"seconds to {rows[0].target:g} test {rows[0].metric}")
    return axes
