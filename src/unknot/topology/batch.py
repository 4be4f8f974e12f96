"""Betti numbers of many clouds of samples, here or on a cluster, and of the subsamples of one cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_count
from unknot.core.workforce import Workforce
from unknot.topology.cloud import FloatArray, make_cloud
from unknot.topology.homology import BettiNumbers, count_lowered
from unknot.topology.scale import Scale, require_rule

# Clouds that travel to a cluster together: smaller parts would take longer to send than to count.
SENT_BYTES = 1 << 20
# Numbers held at once, over all subsamples: 256 MB of float64.
_BLOCK = 1 << 25

# Of the points, in a subsample for an interval.
SHARE = 0.8

Interval = tuple[int, int]


@dataclass(frozen=True)
class CloudCount:
    """Betti numbers of one cloud, with the scale that was used.

    Attributes:
        intervals: of each over subsamples; None where not asked for, or of one point alone.
    """

    betti: BettiNumbers
    intervals: tuple[Interval, ...] | None = None


@dataclass(frozen=True)
class CountSettings:
    """How clouds are counted.

    Attributes:
        scale: the neighbour rule for all clouds.
        max_dim: the highest Betti number: 0, 1 or 2.
        threads: inside the engine; 0 takes one a core.
        repeats: subsamples for the intervals; 0 for no intervals.
        seed: of the subsamples.
    """

    scale: Scale
    max_dim: int = 1
    threads: int = 0
    repeats: int = 0
    seed: int = 0


def count_clouds(
    clouds: Sequence[FloatArray], settings: CountSettings, workforce: Workforce | None = None
) -> list[CloudCount]:
    """Betti numbers of clouds of samples ``[n, ...]``, the duplicates of each dropped.

    Where a cloud has k distinct points or fewer, k is lowered to one less than their number, and the
    scale of the result says so. A single point (a constant layer) has b = (1, 0).

    Args:
        clouds: at least one sample each.
        workforce: whose cluster counts them; without a cluster the engine's threads do.

    Raises:
        InputError: NaN or infinity, no sample, a scale without a rule, a cluster that went.
    """
    if workforce is not None and workforce.cluster is not None:
        calls = [(part, settings) for part in sent_parts(clouds)]
        return [count for part in workforce.run(count_clouds, calls, ordered=True) for count in part]
    points = [make_cloud(cloud).points for cloud in clouds]
    how: Any = {"max_dim": settings.max_dim, "threads": settings.threads}
    counts = []
    for cloud, counted in zip(clouds, count_lowered(points, settings.scale, **how), strict=True):
        betti, intervals = counted, None
        if settings.repeats and betti.n_points > 1:
            intervals = betti_interval(
                cloud, betti.scale, repeats=settings.repeats, seed=settings.seed, progress=False, **how
            )
            betti = replace(betti, scale=_with_intervals(betti.scale, betti.n_points))
        counts.append(CloudCount(betti, intervals))
    return counts


def _with_intervals(scale: Scale, n_points: int) -> Scale:
    """The scale of a cloud, whose note tells where k was lowered in its subsamples."""
    size = _subsample_size(n_points, SHARE)
    if scale.k is None or scale.k < size:
        return scale
    note = f"intervals with k = {max(1, size - 1)}: few points in a subsample"
    return replace(scale, note=f"{scale.note}; {note}" if scale.note else note)


def sent_parts(clouds: Sequence[FloatArray]) -> Iterator[list[FloatArray]]:
    """The clouds in order, in parts of about `SENT_BYTES`, as they travel to a cluster."""
    part: list[FloatArray] = []
    for cloud in clouds:
        if part and sum(c.nbytes for c in part) + cloud.nbytes > SENT_BYTES:
            yield part
            part = []
        part.append(cloud)
    if part:
        yield part


def _subsample_size(n_points: int, share: float) -> int:
    return max(1, round(n_points * share))


def betti_interval(
    points: ArrayLike,
    scale: Scale,
    *,
    repeats: int = 20,
    share: float = SHARE,
    max_dim: int = 1,
    seed: int = 0,
    threads: int = 0,
    progress: ShowProgress = "auto",
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
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

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
    size = _subsample_size(n, share)
    rng = np.random.default_rng(require_count("seed", seed, minimum=0))
    picks = [np.arange(n)] + [np.sort(rng.choice(n, size, replace=False)) for _ in range(repeats)]
    # As many at once as there are threads: more would only hold up the bar.
    at_once = require_count("threads", threads, minimum=0) or os.cpu_count() or 1
    block = max(1, min(at_once, _BLOCK // (n * max(array.shape[1], 1))))
    blocks = [picks[:1], *(picks[i : i + block] for i in range(1, len(picks), block))]
    values: list[tuple[int, ...]] = []
    for picked in track(blocks, "counting subsamples", show=progress):
        counts = count_lowered([array[rows] for rows in picked], scale, max_dim=max_dim, threads=threads)
        values += [betti.values for betti in counts]
    return tuple((min(column), max(column)) for column in zip(*values, strict=True))
