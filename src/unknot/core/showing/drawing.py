"""Axes, colours and the kinds of charts that results of all rooms share, in matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError, import_package
from unknot.core.showing.frames import cell_text

# Okabe and Ito, in the order in which neighbours differ most: those of the report, report.css.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b3f46", "#a89600",
)  # fmt: skip
MARKS = ("o", "s", "D", "P", "X", "^", "v", "<")
DASHES = ("-", "--", ":", "-.")
KEPT, GONE, INK, SOFT, LINE, CHOSEN = "#0072b2", "#d55e00", "#1b1f27", "#5b6472", "#dfe3e9", "#c2185b"
# Light at both ends: the numbers in the cells have to be read.
TINTS = ("#f4f7fb", "#bcd7f2", "#7ab3e8")
SMALL = 8  # points, of texts in a chart
MOST_CLASSES = 20  # in a legend
MOST_NAME = 32  # characters of a name at an axis
# Counts that span more than so many times are drawn over log(1 + v), where 0 has a place.
WIDE = 50


def axes_for(ax: Any, width: float, height: float, panels: int = 1) -> list[Any]:
    """``ax`` alone where it is given, else new axes side by side.

    Args:
        ax: matplotlib axes, or None.
        width, height: of a new figure, in inches.
        panels: how many new axes.

    Raises:
        InputError: matplotlib is not installed, or ``ax`` is no axes.
    """
    if ax is not None:
        if not isinstance(ax, import_package("matplotlib.axes", extra="plot").Axes):
            raise InputError(
                f"ax of type {type(ax).__name__}", "matplotlib axes", "pass e.g. plt.subplots()[1]"
            )
        return [ax]
    pyplot = import_package("matplotlib.pyplot", extra="plot")
    _, axes = pyplot.subplots(1, panels, figsize=(width, height), layout="constrained", squeeze=False)
    return list(axes[0])


def one_or_all(axes: Sequence[Any]) -> Any:
    """The axes that were drawn in: the only one, or an array of them, as pandas does."""
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def require_rows(rows: Sized, what: str) -> None:
    """Refuse to draw nothing."""
    if not len(rows):
        raise InputError(f"{what} without rows", "at least one to draw", "measure more")


def colour(i: int) -> str:
    """Of the i-th line; they come again after eight."""
    return COLOURS[i % len(COLOURS)]


def mark(i: int) -> str:
    """Of the i-th line; of two of one colour it differs."""
    return MARKS[(i + i // len(COLOURS)) % len(MARKS)]


def dash(i: int) -> str:
    """Of the i-th line."""
    return DASHES[i % len(DASHES)]


def short(name: object, most: int = MOST_NAME) -> str:
    """A name as matplotlib shows it literally: it reads formulas in dollars, and hides ``_names``."""
    text = " ".join(str(name).split())
    text = f" {text}" if text.startswith("_") else text
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[1 - most // 2 :]}"
    return text.replace("$", r"\$")


def is_wide(values: Sequence[float]) -> bool:
    """Whether counts span too much for a linear axis."""
    return bool(len(values)) and max(values) > WIDE * max(1, min(values))


def scale_counts(axes: Any, which: str, values: Sequence[float]) -> None:
    """Make an axis of counts, "x" or "y", logarithmic where it has to be, with a place for 0."""
    if not is_wide(values):
        whole_ticks(axes, which)
        return
    getattr(axes, f"set_{which}scale")("function", functions=(np.log1p, np.expm1))
    powers = [10**i * step for i in range(1 + int(math.log10(max(values)))) for step in (1, 3)]
    ticks = [0, *(tick for tick in powers if tick <= max(values))]
    getattr(axes, f"set_{which}ticks")(ticks, [f"{tick:,}" for tick in ticks])
    getattr(axes, f"{which}axis").minorticks_off()


def name_rows(axes: Any, names: Sequence[object]) -> None:
    """The names down the vertical axis, the first on top."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def plain(axes: Any) -> None:
    """Without the lines at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


def heat_map(
    axes: Any,
    values: NDArray[np.float64],
    columns: Sequence[object],
    rows: Sequence[object],
    texts: Sequence[Sequence[str]] | None = None,
) -> None:
    """Tinted cells with their numbers in them; NaN stays empty.

    Args:
        values: ``[len(rows), len(columns)]``, >= 0.
        columns, rows: names.
        texts: in place of the numbers.
    """
    colors = import_package("matplotlib.colors", extra="plot")
    known = values[np.isfinite(values)]
    tints = np.log1p(values) if is_wide(known.tolist()) else values
    top = float(np.nanmax(tints)) if len(known) else 1.0
    axes.imshow(
        tints, cmap=colors.LinearSegmentedColormap.from_list("tints", TINTS), vmin=0, vmax=top or 1.0,
        aspect="auto",
    )  # fmt: skip
    for i, j in np.argwhere(np.isfinite(values)):
        text = texts[i][j] if texts is not None else brief(values[i, j])
        axes.text(j, i, text, ha="center", va="center", fontsize=SMALL - 1, color=INK)
    axes.set_xticks(range(len(columns)), [short(name) for name in columns])
    name_rows(axes, rows)
    axes.tick_params(axis="both", length=0)


def brief(value: float) -> str:
    """A count in at most four characters, up to a million."""
    return f"{value:.0f}" if value < 1000 else f"{value / 1000:.2g}k" if value < 1e5 else f"{value:.0e}"


def box_cell(axes: Any, column: int, row: int) -> None:
    """Mark one cell of a heat map as chosen."""
    patches = import_package("matplotlib.patches", extra="plot")
    axes.add_patch(
        patches.Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=CHOSEN, linewidth=2, clip_on=False
        )
    )


def ratio_bars(axes: Any, names: Sequence[str], before: Sequence[float], after: Sequence[float]) -> None:
    """What is left of each quantity, as a share of what it was, with both numbers."""
    shares = [b / a if a else math.nan for a, b in zip(before, after, strict=True)]
    at = range(len(names))
    axes.barh(at, [0 if math.isnan(s) else s for s in shares], color=KEPT, height=0.6)
    for i, (a, b, s) in enumerate(zip(before, after, shares, strict=True)):
        text = f" {cell_text(a)} → {cell_text(b)}"
        axes.text(0 if math.isnan(s) else s, i, text, va="center", fontsize=SMALL, color=INK)
    name_rows(axes, names)
    axes.axvline(1, color=SOFT, linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.9 * max([1.0, *(s for s in shares if not math.isnan(s))]))
    percent_axis(axes, "x")
    axes.set_xlabel("left of what it was")
    plain(axes)


def stacked_bars(
    axes: Any, names: Sequence[str], parts: Mapping[str, tuple[Sequence[float], str]]
) -> None:
    """One bar a name, of parts one after another.

    Args:
        parts: {what: (one count a name, colour)}.
    """
    start = np.zeros(len(names))
    for what, (counts, tone) in parts.items():
        hatch = {"hatch": "////", "edgecolor": "white", "linewidth": 0} if tone == GONE else {}
        axes.barh(range(len(names)), counts, left=start, color=tone, height=0.6, label=what, **hatch)
        start = start + np.asarray(counts)
    name_rows(axes, names)
    axes.legend(frameon=False, fontsize=SMALL, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    whole_ticks(axes, "x")
    plain(axes)


def whole_ticks(axes: Any, which: str) -> None:
    """Ticks at whole numbers alone."""
    ticker = import_package("matplotlib.ticker", extra="plot")
    getattr(axes, f"{which}axis").set_major_locator(ticker.MaxNLocator(integer=True))


def log_axis(axes: Any, which: str) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 times the powers of ten."""
    ticker = import_package("matplotlib.ticker", extra="plot")
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())


def point_axes(ax: Any, dimension: int) -> Any:
    """``ax``, or new axes for points: in space from three dimensions on."""
    if ax is not None or dimension < 3:
        return axes_for(ax, 3.6, 3.4)[0]
    pyplot = import_package("matplotlib.pyplot", extra="plot")
    return pyplot.figure(figsize=(4.2, 3.6)).add_subplot(projection="3d")


def scatter(axes: Any, points: NDArray[np.floating[Any]], labels: NDArray[np.int64] | None) -> None:
    """Points ``[n, d]``, d >= 2: as many coordinates as the axes have, a colour and mark a class."""
    flat = axes.name != "3d"
    shown = points[:, : 2 if flat else 3]
    classes = [None] if labels is None else np.unique(labels)
    for i, label in enumerate(classes):
        of = shown if label is None else shown[labels == label]
        style = {"s": 4, "color": colour(i), "marker": mark(i)}
        axes.scatter(*of.T, label=None if label is None else f"class {label}", **style)
    axes.set(**{f"{axis}label": f"x{i}" for i, axis in enumerate("xyz"[: shown.shape[1]])})
    axes.set_aspect("equal")
    if labels is not None and len(classes) <= MOST_CLASSES:
        axes.legend(markerscale=2, loc="upper left", frameon=False, fontsize=SMALL)


def percent_axis(axes: Any, which: str) -> None:
    """Shares as percentages."""
    ticker = import_package("matplotlib.ticker", extra="plot")
    getattr(axes, f"{which}axis").set_major_formatter(ticker.PercentFormatter(1.0, decimals=None))
