"""Which widths are fast on this machine: found by timing, not assumed of a processor."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError
from unknot.core.showing.frames import Rows
from unknot.nets.probe import Inputs
from unknot.nets.running import as_example, copied, placed, unwrapped
from unknot.pruning.planning.speed.calls import Call, Calls, watch_calls
from unknot.pruning.planning.speed.stopwatch import Pair, cost_of, time_call
from unknot.pruning.structure.channels import ChannelGraph, Pool
from unknot.pruning.structure.pools import Structure

MULTIPLES = (1, 2, 4, 8, 16, 32)  # that are tried
LEVELS = 4  # multiples that a pool must at least have, so that its width can be chosen
NEAR = 0.015  # of the time: no larger multiple for so little
SECONDS = 8.0
OTHER = 0.75  # share of the other width that is there meanwhile
LINE = 8  # widths are measured at its multiples and one above, where a layer has enough


@dataclass(frozen=True)
class FastMultiple:
    """What was found for the layers that share channels.

    Attributes:
        layers: whose outputs they are.
        channels: of each of them.
        multiple: the smallest whose widths are fast, 1 where all are; of layers that were not timed what
            most others have.
        waste: {multiple tried: share of the time lost at its widths, in the mean, against the lower
            convex envelope of the times of all}; empty where nothing was timed.
        milliseconds: of all calls that these channels go into and come from, with half of them.
    """

    layers: tuple[str, ...]
    channels: int
    multiple: int
    waste: dict[int, float]
    milliseconds: float


class FastMultiples(Rows[FastMultiple]):
    """One row a pool, in the order of the structure; a table too."""

    def _title(self) -> str:
        return "Widths that are fast here: multiples of " + ", ".join(
            str(m) for m in sorted({row.multiple for row in self})
        )


def fast_multiples(
    model: nn.Module,
    structure: Structure,
    example: Inputs,
    *,
    seconds: float = SECONDS,
    progress: ShowProgress = "auto",
) -> FastMultiples:
    """Find the multiples at which widths are fast, for this example and the threads that torch now uses.

    The calls that a pool's channels come from and go into are timed at widths around half of them; a
    multiple is fast where the times at its widths lie on the lower convex envelope of all.

    Args:
        model: in eval mode on a copy, where it is.
        structure: what `find_structure` found in it.
        example: the batch whose forward pass is meant.
        seconds: to spend, about; calls that take longest come first. Enough for 64 images of a ResNet-18
            at 32 x 32; 16 of them tell the same in a quarter of the time.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: bad ``seconds``; an example that the model does not take.
    """
    if not seconds > 0:
        raise InputError(f"seconds = {seconds}", "a number > 0", f"pass e.g. {SECONDS:g}")
    working = copied(unwrapped(model)).eval()
    calls = watch_calls(working, placed(as_example(example), working))
    sides = [_sides(pool, structure.graph, calls.by_layer) for pool in structure.pools]
    times = _times([side for of_pool in sides for side in of_pool], calls, seconds, progress)
    found = [
        _found(pool, [side for _, side in of_pool], times)
        for pool, of_pool in zip(structure.pools, sides, strict=True)
    ]
    common = Counter(row.multiple for row in found if row.waste).most_common(1)
    multiple = common[0][0] if common else 1
    return FastMultiples(row if row.waste else replace(row, multiple=multiple) for row in found)


def steps_for(pools: Sequence[Pool], multiples: Sequence[FastMultiple]) -> tuple[int, ...]:
    """By how many units the width of each pool changes, so that layers keep fast widths.

    The found multiple, halved until the pool has at least four of them: a narrow pool that could only
    keep a half or all of its channels would lose more accuracy than a fast width is worth.

    Args:
        pools: of the structure.
        multiples: what `fast_multiples` found, one a pool.
    """
    steps = []
    for pool, found in zip(pools, multiples, strict=True):
        multiple = found.multiple
        while multiple > 1 and found.channels < LEVELS * multiple:
            multiple //= 2
        each = _channels_a_unit(pool)
        steps.append(multiple // math.gcd(multiple, each))
    return tuple(steps)


@dataclass(frozen=True)
class _Side:
    """The inputs or the outputs of a call."""

    call: Call
    outputs: bool

    @property
    def width(self) -> int:
        return self.call.outputs if self.outputs else self.call.inputs

    def pair(self, width: int) -> Pair:
        """With ``width`` on this side, and some of the channels on the other."""
        call = self.call
        if call.narrow:
            return (width * call.inputs // call.outputs if self.outputs else width), call.outputs
        other = call.inputs if self.outputs else call.outputs
        fewer = round(OTHER * other) // LINE * LINE if other > LEVELS * LINE else other
        return (fewer, width) if self.outputs else (width, fewer)

    def measure(self) -> NDArray[np.float64]:
        """Milliseconds at the widths of `_window`."""
        pairs = [self.pair(width) for width in _window(self.width)]
        times = time_call(self.call, list(dict.fromkeys(pairs)))
        return np.array([times[pair] for pair in pairs])


def _sides(
    pool: Pool, graph: ChannelGraph, calls: Mapping[str, Sequence[Call]]
) -> list[tuple[str, _Side]]:
    """The sides of calls, by layer, that are as wide as the layers of ``pool`` and have its channels."""
    width = graph.layers[pool.layers[0]]
    units = {graph.numbers[unit[0]] for unit in pool.units}
    sides = [(n, _Side(c, outputs=True)) for n in pool.layers for c in calls.get(n, ())]
    for name, taken in graph.inputs.items():
        if units & set(taken.tolist()):
            sides += [(name, _Side(call, outputs=False)) for call in calls.get(name, ())]
    return [(n, s) for n, s in sides if s.width == width and (s.call.groups == 1 or s.call.narrow)]


def _times(
    sides: Sequence[tuple[str, _Side]], calls: Calls, seconds: float, progress: ShowProgress
) -> dict[_Side, NDArray[np.float64]]:
    """The times of the different ``sides`` (by layer) within ``seconds``, the longest calls first."""
    longest: dict[_Side, float] = {}
    for name, side in sides:
        taken = max(1e-3, calls.milliseconds[name] / len(calls.by_layer[name]))
        longest[side] = max(taken, longest.get(side, 0.0))
    times: dict[_Side, NDArray[np.float64]] = {}
    begun = time.perf_counter()
    with step_bar("finding fast widths", len(longest), show=progress) as step:
        for side, taken in sorted(longest.items(), key=lambda item: -item[1]):
            step(f"{len(times) + 1} of {len(longest)}")
            left = seconds - (time.perf_counter() - begun)
            if not times or cost_of(len(_window(side.width)), taken) <= left:
                times[side] = side.measure()
    return times


def _window(width: int) -> list[int]:
    """Widths around the half: multiples of a power of two, and one above each."""
    line = max(1, min(LINE, 2 ** (max(1, width // 4).bit_length() - 1)))
    first, last = _ends(width)
    whole = range(first, last + 1, line)
    return sorted({*whole, *(w + 1 for w in whole if w + 1 <= last), last})


def _ends(width: int) -> tuple[int, int]:
    largest = max((m for m in MULTIPLES if LEVELS * m <= width), default=1)
    first = max(1, width // 2 // largest * largest)
    return first, min(width, first + 2 * largest)


def _found(
    pool: Pool, sides: Sequence[_Side], times: Mapping[_Side, NDArray[np.float64]]
) -> FastMultiple:
    """The multiple that the times of a pool's sides speak for."""
    measured = [side for side in sides if side in times]
    size = len(pool.units) * _channels_a_unit(pool)
    named = partial(FastMultiple, pool.layers, size)
    if not measured:
        return named(1, {}, 0.0)
    width = measured[0].width
    total = sum((times[side] for side in measured), np.zeros(len(_window(width))))
    waste = waste_of(_window(width), total)
    return named(smallest_fast(waste), waste, float(total[0]))


def waste_of(widths: Sequence[int], milliseconds: NDArray[np.float64]) -> dict[int, float]:
    """{multiple: the mean over its widths of the time above the lower convex envelope, as a share}.

    Widths in between take what the measured ones next to them do, in proportion.
    """
    every = np.arange(widths[0], widths[-1] + 1)
    times = np.interp(every, widths, milliseconds)
    above = times / _envelope(every, times) - 1
    waste = {}
    for multiple in MULTIPLES:
        at = every % multiple == 0
        if at.sum() >= 2:
            waste[multiple] = float(above[at].mean())
    return waste


def smallest_fast(waste: Mapping[int, float]) -> int:
    """The smallest multiple that wastes little more than the best."""
    best = min(waste.values(), default=0.0)
    return next((m for m in sorted(waste) if waste[m] <= best + NEAR), 1)


def _envelope(widths: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower convex envelope at each of ``widths``, ascending (the chain of Andrew, 1979)."""
    hull: list[int] = []
    for k in range(len(widths)):
        while len(hull) > 1:
            a, b = hull[-2:]
            turn = (widths[b] - widths[a]) * (times[k] - times[a])
            if turn > (times[b] - times[a]) * (widths[k] - widths[a]):
                break
            hull.pop()
        hull.append(k)
    return np.interp(widths, widths[hull], times[hull])


def _channels_a_unit(pool: Pool) -> int:
    """Channels of its first layer that a unit holds."""
    return sum(layer == pool.layers[0] for layer, _ in pool.units[0])
