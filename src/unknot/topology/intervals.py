"""betti_interval: how far the Betti numbers of a cloud move when a part of its points is left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from unknot.core.errors import InputError, require_count
from unknot.topology.cloud import make_cloud
from unknot.topology.homology import count_lowered
from unknot.topology.scale import Scale, require_rule

# Numbers held at once, over all subsamples: 256 MB of float64.
_BLOCK = 1 << 25

Interval = tuple[int, int]


def betti_interval(
    points: ArrayLike,
    scale: Scale,
    *,
    repeats: int = 20,
    share: float = 0.8,
    max_dim: int = 1,
    seed: int = 0,
    threads: int = 0,
) -> tuple[Interval, ...]:
    """The range of each Betti number over a cloud and its seeded subsamples without replacement.

    From the least to the greatest value: quantiles of so few would claim a precision that is not there.
    One further subsample falls outside the range of 20 with probability 2/21 at most. An error that all
    subsamples share, such as a bias of the scale or of the sampling, does not show.

    k, hops and radius stay as they are; docs/scale.md compares k in proportion to ``share``.

    Args:
        points: ``[n, ...]``, one row a sample; duplicates are dropped.
        scale: the neighbour rule; k is lowered to n - 1 where a subsample has n <= k points.
        repeats: subsamples, >= 1.
        share: of the points in each, in (0, 1].
        seed: of the subsamples.
        max_dim, threads: as of `betti_numbers_batch`.

    Returns:
        ``((low, high) of b0, of b1, ...)``, ``max_dim + 1`` pairs.

    Raises:
        InputError: no points, NaN, a share or a number of repeats out of range, a scale without a rule.
    """
    require_count("repeats", repeats)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError(f"share = {share!r}", "a number in (0, 1]", "pass e.g. share=0.8")
    require_rule(scale)
    array = make_cloud(points).points
    n = len(array)
    size = max(1, round(n * share))
    rng = np.random.default_rng(seed)
    picks = [np.arange(n)] + [np.sort(rng.choice(n, size, replace=False)) for _ in range(repeats)]
    block = max(1, _BLOCK // (n * max(array.shape[1], 1)))
    values: list[tuple[int, ...]] = []
    for picked in (picks[:1], *(picks[i : i + block] for i in range(1, len(picks), block))):
        counts = count_lowered([array[rows] for rows in picked], scale, max_dim=max_dim, threads=threads)
        values += [betti.values for betti in counts]
    return tuple((min(column), max(column)) for column in zip(*values, strict=True))
