"""The usages of folds that `images.py` compares: which activation stands where in the net."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.activations.folds import CentredAbs, HeldFlat, QFold, ZFold
from unknot.activations.gains import gain

Factory = Callable[[int], nn.Module]

# Activations that the library does not have; each takes and returns ``[n, c, ...]``.


class Tent(nn.Module):
    """relu(x) - 2 relu(x - t): up to ``turn``, then down; a fold on one side only."""

    def __init__(self, turn: float, slope: float = 1.0) -> None:
        super().__init__()
        self.turn, self.slope = turn, slope

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x.relu(), (x - self.turn).relu_(), alpha=-1 - self.slope)


class PairFold(nn.Module):
    """(x, y) -> (max, min) of neighbouring channels: folds the plane of a pair along its diagonal."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, ::2], x[:, 1::2]
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


class Ripple(nn.Module):
    """gelu(x) + depth sin(w x) / w: a fold that keeps GELU's growth."""

    def __init__(self, depth: float, frequency: float) -> None:
        super().__init__()
        self.depth, self.frequency = depth, frequency

    def forward(self, x: Tensor) -> Tensor:
        wave = torch.sin(x * self.frequency)
        return torch.add(F.gelu(x), wave, alpha=self.depth / self.frequency)


class Waves(nn.Module):
    """(sin(w x + p) - sin(p)) / w, frequencies and phases one a channel; at p = -pi / 4 it is `QFold`.

    ``held`` keeps the angle between the innermost turns, -pi / 2 and pi / 2: the control without a fold.
    """

    def __init__(
        self,
        channels: int,
        low: float,
        high: float,
        *,
        spread_phase: bool = False,
        learnable: bool = False,
        held: bool = False,
    ) -> None:
        super().__init__()
        self.held = held
        steps = torch.arange(channels) * 0.6180339887 % 1  # golden section: neighbours differ
        frequency = low * (high / low) ** torch.linspace(0, 1, channels)
        phase = 2 * math.pi * steps if spread_phase else torch.full((channels,), -math.pi / 4)
        for name, value in (("frequency", frequency), ("phase", phase)):
            if learnable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        w, p = (v.view([-1] + [1] * (x.dim() - 2)) for v in (self.frequency, self.phase))
        angle = x * w + p
        if self.held:
            angle = F.hardtanh(angle, -math.pi / 2, math.pi / 2)
        return (torch.sin(angle) - torch.sin(p)) / w

    def second_moment(self) -> float:
        z = torch.linspace(-6, 6, 2001).view(-1, 1)
        density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (12 / 2000)
        with torch.no_grad():
            return float((self.forward(z) ** 2 * density).sum(0).mean())


class Halves(nn.Module):
    """One activation on the first half of the channels, another on the second."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([self.first(a), self.second(b)], 1)

    def second_moment(self) -> float:
        return (gain(self.first) ** -2 + gain(self.second) ** -2) / 2


@dataclass(frozen=True)
class Usage:
    """Which activation stands where: after each convolution, and after the dense layer."""

    convolutions: tuple[Factory, ...]
    head: Factory
    fold_first: bool = False  # activation before the pooling
    dense_norm: bool = True  # batch normalisation of the dense layer, where there is any
    head_gain: float = 1.0  # of the dense layer's weights or of its batch normalisation


def plain(make: Callable[[], nn.Module]) -> Factory:
    return lambda width: make()


def everywhere(make: Factory, **options: bool | float) -> Usage:
    return Usage((make, make, make), make, **options)  # type: ignore[arg-type]


def head(
    make: Factory, convolutions: Callable[[], nn.Module] = nn.GELU, **options: bool | float
) -> Usage:
    inner = plain(convolutions)
    return Usage((inner, inner, inner), make, **options)  # type: ignore[arg-type]


def q(frequency: float) -> Factory:
    return lambda width: QFold(frequency)


def q_held(frequency: float) -> Factory:
    return lambda width: HeldFlat(QFold(frequency))


def learnt(frequency: float, held: bool = False) -> Factory:
    return lambda width: Waves(width, frequency, frequency, learnable=True, held=held)


def phases(width: int) -> nn.Module:
    return Waves(width, 1.0, 1.0, spread_phase=True)


gelu, relu = plain(nn.GELU), plain(nn.ReLU)
USAGES: dict[str, Usage] = {
    "relu": everywhere(relu),
    "gelu": everywhere(gelu),
    "silu": everywhere(plain(nn.SiLU)),
    "qfold": everywhere(q(1.0)),
    "qfold held": everywhere(q_held(1.0)),
    "qfold centred": everywhere(plain(lambda: QFold(centred=True))),
    "gelu, head qfold": head(q(1.0)),
    "gelu, head qfold held": head(q_held(1.0)),
    "gelu, head qfold 1.5": head(q(1.5)),
    "gelu, head qfold 2": head(q(2.0)),
    "gelu, head qfold 3": head(q(3.0)),
    "gelu, head qfold, BN scale 2": head(q(1.0), head_gain=2.0),
    "relu, head qfold": head(q(1.0), nn.ReLU),
    "silu, head qfold": head(q(1.0), nn.SiLU),
    "gelu, head zfold": head(plain(ZFold)),
    "gelu, head abs": head(plain(CentredAbs)),
    "gelu, head pair fold": head(plain(PairFold)),
    "gelu, head waves .5-3": head(lambda width: Waves(width, 0.5, 3.0, spread_phase=True)),
    "gelu, head waves 1-1": head(phases),
    "gelu, head waves learnt": head(learnt(1.0)),
    "gelu, head qfold without BN": head(q(1.0), dense_norm=False),
    "qfold .5": everywhere(q(0.5)),
    "qfold .7": everywhere(q(0.7)),
    "qfold 1.5": everywhere(q(1.5)),
    "qfold .5, head 1.5": Usage((q(0.5),) * 3, q(1.5)),
    "qfold .7, head 2": Usage((q(0.7),) * 3, q(2.0)),
    "qfold late": Usage((gelu, gelu, q(1.0)), q(1.0)),
    "qfold early": Usage((q(1.0), gelu, gelu), gelu),
    "qfold early and head": Usage((q(1.0), gelu, gelu), q(1.0)),
    "qfold before pooling": everywhere(q(1.0), fold_first=True),
    "qfold early, head 1.5": Usage((q(1.0), gelu, gelu), q(1.5)),
    "qfold 1.5 early, head 1.5": Usage((q(1.5), gelu, gelu), q(1.5)),
    "qfold early, head waves learnt": Usage((q(1.0), gelu, gelu), learnt(1.0)),
    "gelu, head waves learnt 1.5": head(learnt(1.5)),
    "waves learnt": everywhere(learnt(1.0)),
    "waves learnt .7": Usage((learnt(0.7),) * 3, learnt(1.0)),
    "waves learnt .7, held": Usage((learnt(0.7, True),) * 3, learnt(1.0, True)),
    "qfold before pooling, head 1.5": Usage((q(1.0),) * 3, q(1.5), fold_first=True),
    "qfold .7 before pooling, head 1.5": Usage((q(0.7),) * 3, q(1.5), fold_first=True),
    "qfold early and head, held": Usage((q_held(1.0), gelu, gelu), q_held(1.0)),
    "qfold in the branches": Usage((gelu, q(1.0), gelu), gelu),
    "qfold in the branches, held": Usage((gelu, q_held(1.0), gelu), gelu),
    "qfold early before pooling, head": Usage((q(1.0), gelu, gelu), q(1.0), fold_first=True),
    "halves, head 1.5": Usage((lambda width: Halves(nn.GELU(), QFold()),) * 3, q(1.5)),
    "halves early, head 1.5": Usage((lambda width: Halves(nn.GELU(), QFold()), gelu, gelu), q(1.5)),
    "qfold early, head 1.25": Usage((q(1.0), gelu, gelu), q(1.25)),
    "qfold early, head waves 1-1": Usage((q(1.0), gelu, gelu), phases),
    "waves 1-1 early and head": Usage((phases, gelu, gelu), phases),
    "halves early, head qfold": Usage((lambda width: Halves(nn.GELU(), QFold()), gelu, gelu), q(1.0)),
    "tent 1.5": everywhere(plain(lambda: Tent(1.5))),
    "tent 2": everywhere(plain(lambda: Tent(2.0))),
    "tent 3": everywhere(plain(lambda: Tent(3.0))),
    "tent 2, head qfold": Usage((plain(lambda: Tent(2.0)),) * 3, q(1.0)),
    "zfold 2": everywhere(plain(lambda: ZFold(turn=2.0))),
    "zfold learnt a channel": everywhere(lambda width: ZFold(0.1, 1.5, True, channels=width)),
    "pair fold": everywhere(plain(PairFold)),
    "pair fold, head qfold": Usage((plain(PairFold),) * 3, q(1.0)),
    "pair fold before pooling": Usage((plain(PairFold),) * 3, q(1.0), fold_first=True),
    "ripple .5": everywhere(plain(lambda: Ripple(0.5, 2.0))),
    "ripple 1": everywhere(plain(lambda: Ripple(1.0, 2.0))),
    "halves gelu, qfold": everywhere(lambda width: Halves(nn.GELU(), QFold())),
    "halves, head qfold": Usage((lambda width: Halves(nn.GELU(), QFold()),) * 3, q(1.0)),
}
