"""Epochs to a target as strips: one mark a seed, those that did not arrive in a band of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unknot.core.showing import drawing
from unknot.study.survival import Times, censored_median, median_interval

SPREAD = 0.33  # of a strip's height, to either side


def draw_strips(axes: Any, names: Sequence[str], times: Sequence[Times], tones: Sequence[int]) -> None:
    """One strip a name, from the top.

    Args:
        names: of the strips.
        times: of each, one a seed; None where it was not reached.
        tones: the number of each strip's colour.
    """
    reached = [t for of_strip in times for t in of_strip if t is not None]
    drawing.scale_counts(axes, "x", reached)
    top = max(reached, default=1.0) or 1.0
    wide = drawing.is_wide(reached)
    # Past every number, as wide as a sixth of them.
    band = [float(np.expm1(np.log1p(top) * f)) if wide else top * f for f in (1.07, 1.25)]
    censored = any(t is None for of_strip in times for t in of_strip)
    for row, (of_strip, tone) in enumerate(zip(times, tones, strict=True)):
        n = len(of_strip)
        heights = row + (np.linspace(-SPREAD, SPREAD, n) if n > 1 else np.zeros(n))
        style = {"s": 26, "edgecolors": drawing.colour(tone), "clip_on": False, "zorder": 3}
        there = [(t, height) for t, height in zip(of_strip, heights, strict=True) if t is not None]
        missed = [height for t, height in zip(of_strip, heights, strict=True) if t is None]
        if there:
            filled = {"facecolors": drawing.colour(tone), "marker": drawing.mark(tone)}
            axes.scatter(*zip(*there, strict=True), **style, **filled)
        if missed:
            hollow = {"facecolors": "none", "marker": ">"}
            axes.scatter([sum(band) / 2] * len(missed), missed, **style, **hollow)
        _draw_median(axes, row, of_strip, band[0])
    drawing.name_rows(axes, names)
    axes.set_xlim(0, band[1] if censored else band[0])
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= band[0]])
    axes.set_xlabel("epochs")
    if censored:
        axes.axvspan(*band, color=drawing.LINE, zorder=0)
        axes.text(sum(band) / 2, -0.55, "not reached", ha="center", va="bottom", fontsize=drawing.SMALL)
    drawing.plain(axes)


def _draw_median(axes: Any, row: int, times: Times, past: float) -> None:
    """An upright line, and along the strip the interval; an end that was not reached is at ``past``."""
    middle, interval = censored_median(times), median_interval(times)
    if middle is not None:
        axes.vlines(middle, row - 0.4, row + 0.4, color=drawing.INK, linewidth=2, zorder=4)
    if interval is not None and interval[0] is not None:
        ends = [past if end is None else end for end in interval]
        axes.hlines(row, *ends, color=drawing.INK, linewidth=1, zorder=2)
