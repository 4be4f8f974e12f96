"""The neighbour rule with its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unknot.core.errors import InputError


@dataclass(frozen=True)
class Scale:
    """The neighbour rule with its numbers, carried by every result.

    Attributes:
        k: nearest neighbours a point is joined to (kNN-hop rule), else None.
        hops: pairs at most this many steps apart are joined (kNN-hop rule), else None.
        radius: pairs at Euclidean distance <= radius are joined (Rips rule), else None.
        determined: False where `calibrate` found no scale at which the Betti numbers are stable.
        note: why it is undetermined, or how it was found.

    With neither k nor radius the graph was given edge by edge.
    """

    k: int | None = None
    hops: int | None = None
    radius: float | None = None
    determined: bool = True
    note: str = ""

    def __str__(self) -> str:
        if self.k is not None:
            rule = f"k={self.k}, hops={self.hops}"
        elif self.radius is not None:
            rule = f"radius={self.radius:g}"
        else:
            rule = "given edges"
        return rule if self.determined else f"{rule} (undetermined)"


def require_radius(radius: object) -> float:
    """``radius`` as a float, or an InputError unless it is a number >= 0."""
    if not isinstance(radius, (int, float, np.floating, np.integer)) or not radius >= 0:
        raise InputError(f"radius = {radius!r}", "a number >= 0", "pass e.g. radius=0.5")
    return float(radius)
