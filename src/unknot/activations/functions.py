"""Folds as functions of tensors: many-to-one maps of the line, built of PyTorch's own operations.

Built so, each has PyTorch's own derivatives of every order and goes through ``vmap``, ``torch.compile``,
TorchScript and ONNX like any other expression. The forms are those with the fewest passes over memory;
where a plain float32 tensor of the CPU comes in, the native engine takes one
(`unknot.activations.fused`), with derivatives up to the third.
"""

from __future__ import annotations

import math
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._jit_internal import is_scripting  # torch.jit.is_scripting, for type checkers

from unknot.activations import fused

Parameter = Union[float, Tensor]  # noqa: UP007 (TorchScript does not read ``float | Tensor``)


def zfold(x: Tensor, slope: Parameter = 1.0, turn: Parameter = 1.0) -> Tensor:
    """f(x) = x - (1 + slope) * softshrink(x, turn): +1 inside [-turn, turn], -slope outside.

    Args:
        x: floating point, any shape; the result is like it.
        slope, turn: numbers, or tensors that broadcast to ``x`` and receive gradients; of a tensor
            ``turn`` the magnitude counts.
    """
    # Nested, because TorchScript skips only what stands below a question of its own.
    if not is_scripting():  # noqa: SIM102
        if type(slope) is float and type(turn) is float and fused.fits(x):
            return fused.zfold(slope, turn)(x)
    if isinstance(turn, Tensor):
        # softshrink takes no tensor for its bound, and clamp is slow with one.
        bound = turn.abs().to(x.dtype)  # else float32 parameters would widen half precision
        shrunk = torch.relu(x - bound) - torch.relu(-bound - x)
    else:
        shrunk = F.softshrink(x, turn)
    if isinstance(slope, Tensor):
        return torch.addcmul(x, shrunk, -(1 + slope).to(x.dtype))
    # One pass forward, one backward; a subtraction with alpha would negate the gradient in another.
    return torch.add(x, shrunk, alpha=-(1.0 + slope))


def smooth_zfold(x: Tensor, slope: Parameter = 1.0, turn: Parameter = 1.0) -> Tensor:
    """f(x) = (1 + slope) c tanh(x / c) - slope x with c = 1.25 turn: 2.5 tanh(x / 1.25) - x by default.

    Derivative 1 at 0 and -slope far away, as `zfold`; it turns at c artanh(1 / sqrt(1 + slope)), 1.10
    by default.

    Args:
        x, slope, turn: as of `zfold`.
    """
    if isinstance(slope, float) and isinstance(turn, float):
        wave = torch.tanh(x * (0.8 / turn)).mul((1.0 + slope) * 1.25 * turn)
        return torch.add(wave, x, alpha=-slope)
    a = slope.to(x.dtype) if isinstance(slope, Tensor) else torch.full((), slope).to(x)
    t = turn.to(x.dtype) if isinstance(turn, Tensor) else torch.full((), turn).to(x)
    width = 1.25 * t.abs()
    return (1 + a) * width * torch.tanh(x / width) - a * x


def qfold(x: Tensor, frequency: float = 1.0, centred: bool = False) -> Tensor:
    """The quarter-phase fold f(x) = (sin(w x - pi/4) + sin(pi/4)) / w, w = ``frequency``. f(0) = 0.

    Args:
        x: floating point, any shape; the result is like it.
        frequency: w > 0, in radians a unit of ``x``.
        centred: lower it to mean zero on N(0, 1): sin(pi/4) exp(-w^2 / 2) in place of sin(pi/4).
    """
    phase = math.pi / 4
    height = math.sin(phase)
    if centred:
        height *= math.exp(-0.5 * frequency * frequency)
    if not is_scripting():  # noqa: SIM102
        if fused.fits(x):
            return fused.qfold(frequency, height)(x)
    angle = x - phase if frequency == 1.0 else (x * frequency).sub_(phase)
    # In place on a tensor that nothing else holds: sin keeps its input for backward, not its output.
    wave = torch.sin(angle).add_(height)
    return wave if frequency == 1.0 else wave.mul_(1.0 / frequency)


def centred_abs(x: Tensor) -> Tensor:
    """f(x) = |x| - sqrt(2 / pi): the even fold, of mean zero on N(0, 1). Derivative -1 at 0."""
    # A leaky ReLU of slope -1 is |x|, with one pass backward where abs needs two.
    return F.leaky_relu(x, -1.0).sub_(math.sqrt(2 / math.pi))


def triangle_wave(x: Tensor, turn: float = 1.0) -> Tensor:
    """The odd triangle wave of period 4 turn: x inside [-turn, turn], then down, up, ... for ever."""
    return F.leaky_relu(torch.remainder(x - turn, 4 * turn).sub_(2 * turn), -1.0).sub_(turn)


def centred_relu(x: Tensor) -> Tensor:
    """f(x) = max(x, 0) - 1 / sqrt(2 pi): `centred_abs` held flat on one side of its turn."""
    return torch.relu(x) - 1 / math.sqrt(2 * math.pi)
