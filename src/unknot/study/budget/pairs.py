"""What pairs of seeds say: differences, their median and a one-sided test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

Values = Sequence[float | None]


def median_of(values: Values, *, worst: float) -> float | None:
    """The median with None as ``worst`` (infinite); None where that is what it comes to."""
    middle = float(np.median([worst if v is None else v for v in values]))
    return middle if math.isfinite(middle) else None


def differences(baseline: Values, other: Values, *, worst: float) -> list[float]:
    """other - baseline, pair by pair; None is ``worst`` (infinite), and two of these are equal."""
    return [
        0.0 if a is None and b is None else (worst if b is None else b) - (worst if a is None else a)
        for a, b in zip(baseline, other, strict=True)
    ]


def greater_p(values: Sequence[float]) -> float:
    """The chance of signed ranks as high as these if every sign were tossed (Wilcoxon, 1945).

    One-sided and exact, also with ties; zeros are left out. 1 where nothing is left.
    """
    kept = np.array([value for value in values if value != 0])
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0) or 1.0
    sizes = np.round(np.abs(kept) / largest, 9)  # 0.93 - 0.9 and 0.88 - 0.85 are as large
    ranks = np.round(2 * stats.rankdata(sizes)).astype(int)  # of ties the mean rank: halves
    ways = np.zeros(1 + int(ranks.sum()))  # of the signs, by the sum of the ranks that are positive
    ways[0] = 1.0
    for rank in ranks:
        ways[rank:] = (ways[rank:] + ways[: len(ways) - rank]) / 2
        ways[:rank] /= 2
    return float(min(1.0, ways[int(ranks[kept > 0].sum()) :].sum()))
