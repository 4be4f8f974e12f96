"""The time of a call at any number of inputs and outputs, from some that were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unknot.pruning.planning.speed.calls import Call
from unknot.pruning.planning.speed.stopwatch import Pair, time_call

Timer: TypeAlias = Callable[[Call, Sequence[Pair]], Mapping[Pair, float]]  # milliseconds of each pair
INSIDE = (0.25, 0.5, 0.75)  # shares of both widths at which pairs are measured
SAMPLED = 3  # steps of which also the first channel is measured


@dataclass(frozen=True, eq=False)
class Line:
    """Time along one width, the other being whole.

    Attributes:
        widths: int64, ascending; the last is the whole.
        milliseconds: at these.
        jump: share of the time from one width to the next that comes with the first channel, the rest
            being in proportion: near 1 where kernels compute whole blocks of channels, there or not.
    """

    widths: NDArray[np.int64]
    milliseconds: NDArray[np.float64]
    jump: float

    def at(self, width: int) -> float:
        """Milliseconds at ``width``."""
        k = int(np.searchsorted(self.widths, width))
        k = min(k, len(self.widths) - 1)
        high, upper = int(self.widths[k]), float(self.milliseconds[k])
        if k == 0 or width >= high:
            return upper
        low, lower = int(self.widths[k - 1]), float(self.milliseconds[k - 1])
        part = self.jump + (1 - self.jump) * (width - low) / (high - low)
        return lower + (upper - lower) * part


@dataclass(frozen=True, eq=False)
class Surface:
    """Time of a call at any widths: the product of two lines, corrected by pairs in between.

    Attributes:
        call: with all of its channels.
        inputs, outputs: along either width.
        inner: shares of both widths, ascending, at which pairs were measured.
        correction: ``[inputs, outputs]`` at these, the log of the time over that of the product.
    """

    call: Call
    inputs: Line
    outputs: Line
    inner: tuple[tuple[float, ...], tuple[float, ...]]
    correction: NDArray[np.float64]

    @classmethod
    def measure(cls, call: Call, most: int, timer: Timer = time_call) -> Surface:
        """Time ``call`` at up to about ``most`` widths either way."""
        whole = call.inputs, call.outputs
        across = [] if call.narrow else widths_of(call.outputs, call.groups, most)
        # Where they only go together, all is along the inputs.
        along = widths_of(call.inputs, 1 if call.narrow else call.groups, most)
        odd_in, odd_out = _odd(along, call), _odd(across, call)
        ins, outs = (_inside(widths) for widths in (along, across))
        pairs = [(i, whole[1]) for i in (*along, *odd_in)] + [(whole[0], o) for o in (*across, *odd_out)]
        pairs += [(i, o) for i in ins for o in outs]
        times = timer(call, list(dict.fromkeys([*pairs, whole])))
        line_in = _line(along, odd_in, lambda i: times[i, whole[1]])
        if call.narrow:
            return cls(call, line_in, _flat(call.outputs, times[whole]), ((), ()), np.zeros((0, 0)))
        line_out = _line(across, odd_out, lambda o: times[whole[0], o])
        product = [[line_in.at(i) * line_out.at(o) / times[whole] for o in outs] for i in ins]
        measured = [[times[i, o] for o in outs] for i in ins]
        shares = tuple(i / whole[0] for i in ins), tuple(o / whole[1] for o in outs)
        correction = np.log(np.array(measured)) - np.log(np.array(product))
        return cls(call, line_in, line_out, shares, correction.reshape(len(ins), len(outs)))

    def at(self, inputs: int, outputs: int) -> float:
        """Milliseconds with so many inputs and outputs."""
        product = self.inputs.at(inputs) * self.outputs.at(outputs) / self.outputs.milliseconds[-1]
        if not self.correction.size:
            return float(product)
        ins = _weights(inputs / self.call.inputs, self.inner[0])
        outs = _weights(outputs / self.call.outputs, self.inner[1])
        return float(product) * math.exp(float(ins @ self.correction @ outs))


def widths_of(whole: int, groups: int, most: int) -> list[int]:
    """Multiples up to ``whole`` at which a width is measured, ``whole`` and the smallest among them."""
    n = whole // groups
    step = 2 ** min(3, max(0, int(math.log2(n)) - 3))  # of 64 or more every eighth
    while n / step > most:
        step *= 2
    return sorted({groups, *(groups * i for i in range(step, n + 1, step)), whole})


def _odd(widths: list[int], call: Call) -> list[int]:
    """The widths one above some of ``widths``; none where only every so many channels can go."""
    if call.groups > 1 and not call.narrow:
        return []
    wide = [a for a, b in pairwise(widths) if b - a > 1]
    chosen = np.linspace(0, len(wide) - 1, SAMPLED).round().astype(int) if wide else []
    return sorted({wide[k] + 1 for k in chosen})


def _inside(widths: list[int]) -> list[int]:
    """Measured widths near `INSIDE` of the whole."""
    found = {min(widths, key=lambda w: abs(w - share * widths[-1])) for share in INSIDE if widths}
    return sorted(w for w in found if w < widths[-1])


def _line(widths: list[int], odd: list[int], at: Callable[[int], float]) -> Line:
    times = np.array([at(w) for w in widths])
    line = Line(np.array(widths), times, 0.0)
    more = steps = 0.0  # above the proportion, of all that could be above it
    for width in odd:
        k = int(np.searchsorted(line.widths, width))
        step, share = times[k] - times[k - 1], 1 / (widths[k] - widths[k - 1])
        more += at(width) - times[k - 1] - share * step
        steps += (1 - share) * step
    return Line(line.widths, times, min(1.0, max(0.0, more / steps)) if steps > 0 else 0.0)


def _flat(width: int, milliseconds: float) -> Line:
    return Line(np.array([width]), np.array([milliseconds]), 0.0)


def _weights(share: float, inner: tuple[float, ...]) -> NDArray[np.float64]:
    """Of each of ``inner`` at ``share``, piecewise linear, none at the whole."""
    places = np.array([*inner, 1.0])
    return np.array([np.interp(share, places, row) for row in np.eye(len(places))[:-1]])
