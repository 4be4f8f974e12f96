"""Timing of calls that take turns, so that whatever else the machine does is spread over all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

FEWEST = 6  # rounds, of which the sign test gives an interval
LIMIT_S = 5.0  # after which no more than these are begun
WARM_S = 1.0  # after which the calls are warm, if each was made once
# Of blocks that glibc takes from its heap once one of nearly 32 MiB was freed; so many are kept ready.
BLOCK_BYTES = 2**25 - 2**16
BLOCKS = 16


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass.

    Attributes:
        batch_size: samples in the batch.
        median_ms, iqr_ms: over the repeats, in milliseconds.
        repeats: timed passes; fewer than asked for where they took over five seconds.
    """

    batch_size: int
    median_ms: float
    iqr_ms: float
    repeats: int


@dataclass(frozen=True)
class Speed:
    """How the times of two networks compare, round by round.

    Attributes:
        batch_size: samples in the batch.
        ratio: median over the rounds of the second's time over the first's.
        low, high: the ends of its 95 % interval (of the sign test, any distribution); 0 and
            infinity of fewer than six rounds, which give none.
    """

    batch_size: int
    ratio: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """Whether the interval lies below 1."""
        return self.high < 1

    @property
    def undecided(self) -> bool:
        """Whether the interval holds both no gain and one of a tenth or more."""
        return self.low < 0.9 and self.high >= 1

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{self.ratio:.2f} of the time"
        return f"{self.ratio:.2f} of the time [{self.low:.2f} to {self.high:.2f}]"


def time_in_turns(
    calls: Sequence[Callable[[], object]], *, repeats: int, cuda: bool = False
) -> list[list[float]]:
    """Milliseconds that each call took, one list a call, after a tenth of the rounds to warm up.

    With ``cuda`` the calls queue work on a GPU, and its own events time them.
    """
    timed = _timed_on_gpu if cuda else _timed
    milliseconds: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    with steady_memory():
        first = -(repeats // 10) - 1
        for turn in range(first, repeats):
            taken = time.perf_counter() - start
            if turn >= FEWEST and taken > LIMIT_S:
                break
            if first < turn < 0 and taken > WARM_S:
                continue
            for call, times in zip(calls, milliseconds, strict=True):
                elapsed = timed(call)
                if turn >= 0:
                    times.append(elapsed)
    return milliseconds


@contextmanager
def steady_memory() -> Iterator[None]:
    """Let the allocator keep what is freed, as if the process had run for long: times are the same again.

    What is free at the end of its heap glibc gives back to the system, beyond twice the largest block
    freed so far; each pass then gets it anew, page by page, and takes up to twice as long, depending on
    what the process did before. Half a GiB of free memory, which only counts once it is used, is kept
    here by a block behind it.
    """
    torch.empty(BLOCK_BYTES, dtype=torch.uint8)
    try:
        blocks = [torch.empty(BLOCK_BYTES - 2**20, dtype=torch.uint8) for _ in range(BLOCKS)]
    except RuntimeError:  # the memory of the process is limited
        blocks = [torch.empty(0)]
    behind = blocks.pop()
    del blocks
    yield
    del behind


def latency_of(batch_size: int, times: Sequence[float]) -> Latency:
    """Median and interquartile range."""
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    return Latency(batch_size, statistics.median(times), high - low, len(times))


def speed_of(batch_size: int, before: Sequence[float], after: Sequence[float]) -> Speed:
    """The second's times over the first's, both in the order in which they took turns."""
    ratios = sorted(b / a for a, b in zip(before, after, strict=True))
    n = len(ratios)
    k = median_rank(n)
    low, high = (ratios[k], ratios[n - 1 - k]) if k >= 0 else (0.0, math.inf)
    return Speed(batch_size, statistics.median(ratios), low, high)


def median_rank(n: int) -> int:
    """The k (from 0) whose smallest and largest of n values hold the median with 95 %; -1 of too few.

    By the sign test: it lies between them unless k or fewer fall on one side of it.
    """
    tails = [math.fsum(math.comb(n, i) for i in range(k + 1)) / 2.0**n for k in range(n // 2)]
    return max((k for k, tail in enumerate(tails) if tail <= 0.025), default=-1)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _timed_on_gpu(call: Callable[[], object]) -> float:
    new: Any = torch.cuda.Event
    start, end = new(enable_timing=True), new(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
