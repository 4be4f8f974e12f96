"""Folding activation functions as modules, and the built-in activations by name.

A homeomorphism cannot change topology; a many-to-one map can. A fold sends several points to one
value, so that one layer can merge what a monotone activation needs many layers to bring together
(the principle of Kochar, Vengalil and Sinha, arXiv 2109.01572).

Every module takes any shape, keeps the dtype of its input and works in half precision.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.activations.baselines import EUAF, GCU, Cone, ParabolicCone, Sine, SquaredLeakyReLU
from unknot.activations.functions import (
    centred_abs,
    centred_relu,
    qfold,
    smooth_zfold,
    triangle_wave,
    zfold,
)
from unknot.core.errors import InputError, require_count, require_number, require_positive


def _require(name: str, value: float, *, positive: bool) -> float:
    if positive:
        return require_positive(name, value)
    high = sys.float_info.max
    return require_number(name, value, "a finite number >= 0", low=0, high=high, example=1)


class _Turning(nn.Module):
    """A fold with a slope and a turn: two numbers, or two parameters, one or one a channel each."""

    def __init__(
        self,
        slope: float = 1.0,
        turn: float = 1.0,
        learnable: bool = False,
        *,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        slope = _require("slope", slope, positive=False)
        turn = _require("turn", turn, positive=True)
        if channels is not None:
            require_count("channels", channels)
            if not learnable:
                raise InputError(
                    f"channels = {channels} of a fold that does not learn",
                    "channels with learnable=True",
                    "pass learnable=True or leave channels out",
                )
        self.learnable = learnable
        self.channels = channels
        shape = () if channels is None else (channels,)
        self.slope = nn.Parameter(torch.full(shape, slope)) if learnable else slope
        self.turn = nn.Parameter(torch.full(shape, turn)) if learnable else turn

    def pairs(self) -> list[tuple[float, float]]:
        """(slope, turn) of every channel, one pair where they share."""
        if isinstance(self.slope, Tensor) and isinstance(self.turn, Tensor):
            slopes, turns = self.slope.detach().flatten(), self.turn.detach().abs().flatten()
            return list(zip(slopes.tolist(), turns.tolist(), strict=True))
        return [(self.slope, self.turn)]  # type: ignore[list-item]

    def extra_repr(self) -> str:
        pairs = self.pairs()
        slope, turn = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        text = f"slope={slope:g}, turn={turn:g}" + (", learnable=True" if self.learnable else "")
        return text if self.channels is None else f"{text}, channels={self.channels}"


def _spread(value: Tensor, x: Tensor) -> Tensor:
    """One value a channel (axis 1), shaped to broadcast to ``x``."""
    return value.view([-1] + [1] * (x.dim() - 2))


class ZFold(_Turning):
    """f(x) = x - (1 + slope) * softshrink(x, turn): +1 inside [-turn, turn], -slope outside.

    Three points share a value, and the function is odd, hence zero-mean on symmetric input. At
    slope = 1 its derivative is +1 or -1 almost everywhere: nothing dies and nothing saturates. At
    slope = 0 it is hardtanh, the control without a fold.

    No second derivative: it is 0 almost everywhere. Do not use it where the loss differentiates twice,
    e.g. in physics-informed nets.

    Args:
        slope: a >= 0, the descent outside of the turns.
        turn: t > 0, where it turns, in units of the pre-activation.
        learnable: make both parameters of the module, one value each a layer.
        channels: with ``learnable``, one value each a channel; the channels of the input ``[n, c, ...]``
            are on axis 1.

    Shape: any; the dtype of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.channels is None:
            return zfold(x, self.slope, self.turn)
        return zfold(x, _spread(self.slope, x), _spread(self.turn, x))  # type: ignore[arg-type]

    def second_moment(self) -> float:
        """E f(z)^2 for z ~ N(0, 1), closed form; the mean over the channels."""
        return math.fsum(_zfold_moment(a, t) for a, t in self.pairs()) / len(self.pairs())

    def turns(self) -> tuple[float, float]:
        """Where it turns, (-turn, turn); of the first channel where each has its own."""
        return -self.pairs()[0][1], self.pairs()[0][1]


class SmoothZFold(_Turning):
    """f(x) = (1 + slope) c tanh(x / c) - slope x with c = 1.25 turn: `ZFold` without kinks.

    2.5 tanh(x / 1.25) - x by default; at slope = 0 a tanh.

    Args:
        slope: a >= 0, the descent far outside of the turns.
        turn: t > 0, where a `ZFold` of like shape turns, in units of the pre-activation.
        learnable, channels: as of `ZFold`.

    Shape: any; the dtype of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.channels is None:
            return smooth_zfold(x, self.slope, self.turn)
        return smooth_zfold(x, _spread(self.slope, x), _spread(self.turn, x))  # type: ignore[arg-type]

    def turns(self) -> tuple[float, float]:
        """Where its slope is 0, low and high; infinite at slope 0. Of the first of several channels."""
        slope, turn = self.pairs()[0]
        where = 1.25 * turn * math.atanh(1 / math.sqrt(1 + slope)) if slope else math.inf
        return -where, where


class QFold(nn.Module):
    """The quarter-phase fold f(x) = (sin(w x - pi/4) + sin(pi/4)) / w, w = ``frequency``.

    The odd fold (sin) and the even fold (1 - cos) in equal parts. f(0) = 0; centred it is
    (sin(w x - pi/4) + sin(pi/4) exp(-w^2 / 2)) / w, of mean zero on N(0, 1) and below 0 at 0.

    Args:
        frequency: w > 0, in radians a unit of pre-activation; 1 suits tables and images, 2 MLPs on
            strongly entangled data.
        centred: of mean zero on N(0, 1).

    Shape: any; the dtype of the input.
    """

    def __init__(self, frequency: float = 1.0, *, centred: bool = False) -> None:
        super().__init__()
        self.frequency = _require("frequency", frequency, positive=True)
        self.centred = bool(centred)

    def forward(self, x: Tensor) -> Tensor:
        return qfold(x, self.frequency, self.centred)

    def second_moment(self) -> float:
        """E f(z)^2 for z ~ N(0, 1): (1 - exp(-w^2 / 2)) / w^2; centred, (1 - exp(-w^2)) / (2 w^2)."""
        w2 = self.frequency**2
        return -math.expm1(-w2) / (2 * w2) if self.centred else -math.expm1(-w2 / 2) / w2

    def turns(self) -> tuple[float, float]:
        """The two turns nearest to 0, low and high: -pi / 4 and 3 pi / 4 over the frequency."""
        return -math.pi / 4 / self.frequency, 3 * math.pi / 4 / self.frequency

    def extra_repr(self) -> str:
        return f"frequency={self.frequency:g}" + (", centred=True" if self.centred else "")


class CentredAbs(nn.Module):
    """f(x) = |x| - sqrt(2 / pi), the simplest even fold; of mean zero on N(0, 1).

    No second derivative: it is 0 almost everywhere. Do not use it where the loss differentiates twice,
    e.g. in physics-informed nets.
    """

    def forward(self, x: Tensor) -> Tensor:
        return centred_abs(x)

    def second_moment(self) -> float:
        """E f(z)^2 = 1 - 2 / pi for z ~ N(0, 1)."""
        return 1 - 2 / math.pi


class CentredReLU(nn.Module):
    """f(x) = max(x, 0) - 1 / sqrt(2 pi): the control of `CentredAbs`, flat on one side of its turn."""

    def forward(self, x: Tensor) -> Tensor:
        return centred_relu(x)

    def second_moment(self) -> float:
        """E f(z)^2 = 1 / 2 - 1 / (2 pi) for z ~ N(0, 1)."""
        return 0.5 - 0.5 / math.pi


class TriangleWave(nn.Module):
    """The odd triangle wave of period 4 ``turn``: x inside [-turn, turn], then down, up, ... for ever.

    `ZFold` of slope 1 that keeps folding; its values stay in [-turn, turn].

    No second derivative: it is 0 almost everywhere. Do not use it where the loss differentiates twice,
    e.g. in physics-informed nets.

    Args:
        turn: t > 0, where it first turns, in units of the pre-activation.

    Shape: any; the dtype of the input.
    """

    def __init__(self, turn: float = 1.0) -> None:
        super().__init__()
        self.turn = _require("turn", turn, positive=True)

    def forward(self, x: Tensor) -> Tensor:
        return triangle_wave(x, self.turn)

    def second_moment(self) -> float:
        """E f(z)^2 for z ~ N(0, 1): f^2 is x^2 repeated with period 2 ``turn``, by its Fourier series."""
        if self.turn > 10:
            return 1.0  # no normal number comes that far, and the terms would cancel
        waves = [math.pi * k / self.turn for k in range(1, 33)]  # later ones are below 1e-20
        terms = [(-1) ** k * math.exp(-w * w / 2) / k**2 for k, w in enumerate(waves, start=1)]
        return self.turn**2 * (1 / 3 + 4 / math.pi**2 * math.fsum(terms))

    def turns(self) -> tuple[float, float]:
        """The two turns nearest to 0: (-turn, turn)."""
        return -self.turn, self.turn

    def extra_repr(self) -> str:
        return f"turn={self.turn:g}"


class HeldFlat(nn.Module):
    """A fold's curve between its two innermost turns, held flat beyond: the control without a fold.

    f(clamp(x, low, high)), low and high where ``fold`` turns. Of `ZFold` it is hardtanh.

    Args:
        fold: a `ZFold`, `SmoothZFold`, `QFold` or `TriangleWave` that does not learn.

    Raises:
        InputError: another module.
    """

    def __init__(self, fold: nn.Module) -> None:
        super().__init__()
        if not isinstance(fold, (ZFold, SmoothZFold, QFold, TriangleWave)) or getattr(
            fold, "learnable", False
        ):
            raise InputError(
                f"fold = {fold}",
                "a ZFold, SmoothZFold, QFold or TriangleWave that does not learn",
                "for CentredAbs take CentredReLU",
            )
        self.fold = fold
        self.low, self.high = fold.turns()

    def forward(self, x: Tensor) -> Tensor:
        held: Tensor = self.fold(F.hardtanh(x, self.low, self.high))  # clamp costs twice as much
        return held


def _zfold_moment(a: float, t: float) -> float:
    inside = math.erf(t / math.sqrt(2))  # P(|z| <= t)
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    clipped = inside - 2 * t * density + t * t * (1 - inside)  # E clamp(z, -t, t)^2
    return (1 + a) ** 2 * clipped - 2 * a * (1 + a) * inside + a * a


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "sine": Sine,
    "gcu": GCU,
    "cone": Cone,
    "parabolic_cone": ParabolicCone,
    "euaf": EUAF,
    "peuaf": lambda: EUAF(learnable=True),
    "squared_leaky_relu": SquaredLeakyReLU,
    "zfold": ZFold,
    "smooth_zfold": SmoothZFold,
    "qfold": QFold,
    "qfold2": lambda: QFold(2.0),
    "qfold_centred": lambda: QFold(centred=True),
    "qfold2_centred": lambda: QFold(2.0, centred=True),
    "centred_abs": CentredAbs,
    "triangle_wave": TriangleWave,
    "zfold_held": lambda: HeldFlat(ZFold()),
    "smooth_zfold_held": lambda: HeldFlat(SmoothZFold()),
    "qfold_held": lambda: HeldFlat(QFold()),
    "qfold2_held": lambda: HeldFlat(QFold(2.0)),
    "centred_relu": CentredReLU,
}
"""Built-in names of activations, for the command line and studies; the last five are controls."""
