"""Betti numbers of many clouds of samples in one call, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unknot.core.workforce import Workforce
from unknot.topology.cloud import FloatArray, make_cloud
from unknot.topology.homology import BettiNumbers, count_lowered
from unknot.topology.intervals import Interval, betti_interval
from unknot.topology.scale import Scale

# Clouds that travel to a cluster together: smaller parts would take longer to send than to count.
SENT_BYTES = 1 << 20


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
        calls = [(part, settings) for part in _parts(clouds)]
        return [count for part in workforce.run(count_clouds, calls, ordered=True) for count in part]
    points = [make_cloud(cloud).points for cloud in clouds]
    how: Any = {"max_dim": settings.max_dim, "threads": settings.threads}
    counts = []
    for cloud, betti in zip(clouds, count_lowered(points, settings.scale, **how), strict=True):
        intervals = None
        if settings.repeats and betti.n_points > 1:
            intervals = betti_interval(
                cloud, betti.scale, repeats=settings.repeats, seed=settings.seed, **how
            )
        counts.append(CloudCount(betti, intervals))
    return counts


def _parts(clouds: Sequence[FloatArray]) -> Iterator[list[FloatArray]]:
    """The clouds in order, in parts of about `SENT_BYTES`."""
    part: list[FloatArray] = []
    for cloud in clouds:
        if part and sum(c.nbytes for c in part) + cloud.nbytes > SENT_BYTES:
            yield part
            part = []
        part.append(cloud)
    if part:
        yield part


def warm_up() -> None:
    """Load the engine in a new process, so that the first clouds need not wait for it."""
    cloud = np.arange(8.0)[:, None]
    count_clouds([cloud], CountSettings(Scale(k=2, hops=1)))
