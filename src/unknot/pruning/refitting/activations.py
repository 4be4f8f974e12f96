"""What activations make of a layer's output, so that others see only part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("relu", "relu_"), (0.0, inf)),
    "relu6": (0.0, 6.0),
    "hardsigmoid": (-3.0, 3.0),
}
# {function: names of its bounds, and what they are where it gets none}
_CLAMPS: dict[str, tuple[tuple[str, str], tuple[float, float]]] = {
    **dict.fromkeys(("hardtanh", "hardtanh_"), (("min_val", "max_val"), (-1.0, 1.0))),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), (("min", "max"), (-inf, inf))),
    **dict.fromkeys(("clamp_min", "clamp_min_"), (("min", ""), (-inf, inf))),
}
_CURVES: dict[str, Callable[..., Tensor]] = {
    "gelu": F.gelu, "silu": F.silu, "hardswish": F.hardswish, "mish": F.mish, "elu": F.elu,
    "celu": F.celu, "selu": F.selu, "softplus": F.softplus, "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh,
}  # fmt: skip
_STEP = 1e-2  # over which slopes are taken


@dataclass(frozen=True)
class Activation:
    """What is done to each value before others take it in.

    Attributes:
        low, high: the bounds that it is held within.
        curve: the function that it goes through; None of a ReLU or clamp.
    """

    low: float = -inf
    high: float = inf
    curve: Callable[[Tensor], Tensor] | None = None

    def of(self, values: Tensor) -> Tensor:
        """What others take in, up to a factor and a constant."""
        return values.clamp(self.low, self.high) if self.curve is None else self.curve(values)

    def nearest(self, found: Tensor, values: Tensor) -> Tensor:
        """Near to ``found``, what others can hardly tell from ``values``; both ``[r, out]``.

        Of bounds the square of the distance to it is at least the error within them, and equal to it
        where ``values`` are cut off: what comes nearer has a smaller error (majorisation, as for the
        ReLU in Zhang et al., "Accelerating very deep convolutional networks", TPAMI 2016). Of a curve
        it is a step down the slope of the error, of the length that the greatest slope allows.
        """
        if self.curve is None:
            wanted = torch.where(values <= self.low, found.clamp(max=self.low), values)
            return torch.where(values >= self.high, found.clamp(min=self.high), wanted)
        missing = self.curve(found) - self.curve(values)
        gap = found - values
        apart = gap.abs() > _STEP
        # Where the slope at ``found`` is nearly 0, that of the way to ``values`` still leads there.
        way = torch.where(apart, missing / torch.where(apart, gap, 1.0), 0.0)
        slope = self._slope(found)
        slope = torch.where(way.abs() > slope.abs(), way, slope)
        return found - slope * missing / self._steepest

    def _slope(self, values: Tensor) -> Tensor:
        assert self.curve is not None
        return (self.curve(values + _STEP) - self.curve(values - _STEP)) / (2 * _STEP)

    @cached_property
    def _steepest(self) -> float:
        """The square of the greatest slope; more than 1 would make the steps short for a few values."""
        return min(1.0, float(self._slope(torch.linspace(-8, 8, 1601)).square().max()))


def activation_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """That of a call of a torch function; None where it is none."""
    if name in _BOUNDS:
        return Activation(*_BOUNDS[name])
    rest = [*args[1:], *kwargs.values()]
    if any(isinstance(value, Tensor) for value in rest):
        return None
    curve = _CURVES.get(name.removesuffix("_"))
    if curve is not None:
        options = {key: value for key, value in kwargs.items() if key not in ("inplace", "input")}
        return Activation(curve=partial(_apply, curve, args[1:], options))
    if name not in _CLAMPS:
        return None
    names, default = _CLAMPS[name]
    ends = []
    for place, (key, end) in enumerate(zip(names, default, strict=True), start=1):
        value = args[place] if key and len(args) > place else kwargs.get(key)
        ends.append(end if value is None else float(value))
    return Activation(ends[0], ends[1])


def _apply(
    curve: Callable[..., Tensor], args: tuple[Any, ...], options: dict[str, Any], x: Tensor
) -> Tensor:
    """On a copy, whatever ``args`` say of doing it in place."""
    return curve(x.clone(), *args, **options)
