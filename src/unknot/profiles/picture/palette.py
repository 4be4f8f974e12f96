"""Colours of classes, the same in every picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from unknot.core.showing.drawing import COLOURS

# The page has these twenty too (templates/report.css).
PALETTE = (
    *COLOURS,
    "#7b3fa0", "#8c1d18", "#7fc97f", "#f4a582", "#1b4f8a", "#b3a2d6", "#5a3a22", "#00a0a8",
    "#e7298a", "#9aa3ad", "#4d7c0f", "#d9b99b",
)  # fmt: skip
# Beyond these nobody looks a colour up: no legend.
MOST_NAMED = len(PALETTE)


def class_colours(numbers: Sequence[int], groups: Sequence[int]) -> list[str]:
    """A colour, "#0072b2", for each class of a picture, in its order.

    Args:
        numbers: the place of each class among all of the data: it has the same colour everywhere.
        groups: of `colour_groups`; where there are more classes than names, hues go once around.
    """
    if len(numbers) <= MOST_NAMED:
        return [PALETTE[number % MOST_NAMED] for number in numbers]
    most = max(groups) + 1
    return [_hue(group / most, 0.42 + 0.18 * (group % 2)) for group in groups]


def _hue(hue: float, lightness: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, 0.6))
