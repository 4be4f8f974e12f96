"""Betti numbers of many clouds in one call; without torch, so that a process starts fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unknot.core.workforce import Workforce
from unknot.topology.cloud import FloatArray, make_cloud
from unknot.topology.homology import BettiNumbers, count_lowered
from unknot.topology.intervals import Interval, betti_interval
from unknot.topology.scale import Scale

# Clouds that travel to a cluster together: fewer would take longer on the way than on arrival.
SENT_BYTES = 1 << 20


@dataclass(frozen=True)
class CloudCount:
    """What was found of one cloud.

    Attributes:
        betti: its numbers; the scale is the one that was used.
        intervals: over subsamples, where they were asked for and there is more than one point.
    """

    betti: BettiNumbers
    intervals: tuple[Interval, ...] | None = None


@dataclass(frozen=True)
class CountSettings:
    """How clouds are counted.

    Attributes:
        scale: for all of them.
        max_dim: 1, or 2 for b2 as well.
        threads: inside the engine; 0 takes one a core.
        repeats, seed: of the subsamples for intervals; 0 repeats for none.
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

    Where k is not smaller than the number of distinct points of a cloud it is lowered to one less, and
    the scale of the result says so. A single point (a constant layer) has b = (1, 0).

    Args:
        clouds: at least one sample each.
        workforce: that counts them, if it is a cluster; on this machine the engine's threads do.

    Raises:
        InputError: NaN or infinity, no sample, a cluster that went.
    """
    if workforce is not None and workforce.remote:
        calls = [(part, settings) for part in _parts(clouds)]
        return [count for part in workforce.run(count_clouds, calls, ordered=True) for count in part]
    points = [make_cloud(cloud).points for cloud in clouds]
    betti = count_lowered(points, settings.scale, max_dim=settings.max_dim, threads=settings.threads)
    return [
        CloudCount(numbers, _intervals(cloud, numbers, settings))
        for cloud, numbers in zip(clouds, betti, strict=True)
    ]


def _parts(clouds: Sequence[FloatArray]) -> Iterator[list[FloatArray]]:
    """The clouds in order, some megabytes together."""
    part: list[FloatArray] = []
    for cloud in clouds:
        if part and sum(c.nbytes for c in part) + cloud.nbytes > SENT_BYTES:
            yield part
            part = []
        part.append(cloud)
    if part:
        yield part


def warm_up() -> None:
    """What a process of its own does first, so that the first clouds find it ready."""
    cloud = np.arange(8.0)[:, None]
    count_clouds([cloud], CountSettings(Scale(k=2, hops=1)))


def _intervals(
    cloud: FloatArray, betti: BettiNumbers, settings: CountSettings
) -> tuple[Interval, ...] | None:
    if not settings.repeats or betti.n_points < 2:
        return None
    return betti_interval(
        cloud, betti.scale, repeats=settings.repeats, max_dim=settings.max_dim, seed=settings.seed,
        threads=settings.threads,
    )  # fmt: skip
