"""A limit in milliseconds met by the pruned model itself, whatever the prediction was worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import nn

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs
from unknot.nets.running import copied, n_samples, placed, unwrapped
from unknot.pruning.planning.speed.stopwatch import time_passes

P = TypeVar("P")
AIM = 0.98  # of the limit: measured again it is not to be above, nor far below
CLOSE = 0.95  # of the limit: near enough
TRIES = 6  # plans at most
SECONDS = 3.0  # of timing each


@dataclass(frozen=True, eq=False)
class Aimed(Generic[P]):
    """Where the search ended.

    Attributes:
        plan: as it was asked for.
        asked_ms: predicted milliseconds that it was asked for.
        measured_ms: median forward pass of its model, at most the limit.
        limit_ms: the limit.
        tries: plans that were measured.
        batch_size: samples of the example.
    """

    plan: P
    asked_ms: float
    measured_ms: float
    limit_ms: float
    tries: int
    batch_size: int

    @property
    def summary(self) -> str:
        """E.g. "4.9 ms for 1 sample, at most 5 asked"."""
        n = self.batch_size
        return (
            f"{self.measured_ms:.3g} ms for {n} sample{'s' * (n != 1)}, at most {self.limit_ms:g} asked"
        )


def meet_latency_by(
    plan_at: Callable[[float], P],
    model_of: Callable[[P], nn.Module],
    limit: float,
    example: Inputs,
    *,
    first: float | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    tries: int = TRIES,
) -> Aimed[P]:
    """Plan by predicted milliseconds until the pruned model takes at most ``limit`` and little less.

    Each plan's model is measured, and the next one asked for what the last was off by; a plan that was
    too slow and one that was fast enough bound what is asked for then. It ends at 95 % of the limit or
    more, where nothing lies between the two bounds, or after so many tries.

    Args:
        plan_at: the best plan whose predicted time is at most so many milliseconds; may raise InputError
            where there is none. Plans are compared by ``==``: one that comes again is not timed again.
        model_of: the model pruned by a plan, as it will be used.
        limit: milliseconds, above 0.
        example: the batch whose forward pass is meant.
        first: what to ask for first; None: the limit.
        measure: milliseconds of a model; None: the median of its passes, see `time_passes`.
        tries: plans at most; more only as long as none is fast enough, up to twice as many.

    Raises:
        InputError: no plan is fast enough.
    """

    def median(model: nn.Module) -> float:
        working = copied(unwrapped(model)).eval()
        return time_passes([working], placed(example, working), SECONDS)[0].median_ms

    timed = measure or median
    best: Aimed[P] | None = None
    low, high = 0.0, math.inf  # asked for: fast enough, too slow
    asked, known = first or limit, list[tuple[P, float]]()
    for number in range(1, 2 * tries + 1):
        try:
            plan = plan_at(asked)
        except InputError:
            if best is not None or high < math.inf:
                break
            raise
        taken = next((ms for other, ms in known if other == plan), math.nan)
        if math.isnan(taken):
            taken = timed(model_of(plan))
            known.append((plan, taken))
        if taken <= limit:
            low = max(low, asked)
            if best is None or taken > best.measured_ms:
                best = Aimed(plan, asked, taken, limit, number, n_samples(example))
            if taken >= CLOSE * limit:
                break
        else:
            high = min(high, asked)
        if best is not None and (number >= tries or high <= 1.005 * low):
            break
        asked = _next(asked * AIM * limit / taken, low, high)
    if best is None:
        raise InputError(
            f"latency_ms = {limit:g}",
            f"at least {min(ms for _, ms in known):.3g}, as fast as it got",
            "raise it, or pass a smaller example",
        )
    return best


def _next(proposed: float, low: float, high: float) -> float:
    """``proposed``, or the middle of the bounds where it lies outside."""
    if low < proposed < high:
        return proposed
    if high == math.inf:
        return low * 1.05
    return (low + high) / 2 if low else 0.9 * high
