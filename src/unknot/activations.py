"""Folding activation functions, their gain, and putting them into a model.

A homeomorphism cannot change topology; a many-to-one map can. A fold sends several points to one
value, so that one layer can merge what a monotone activation needs many layers to bring together
(the principle of Kochar, Vengalil and Sinha, arXiv 2109.01572).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.errors import InputError


class ZFold(nn.Module):
    """f(x) = x - (1 + slope) * softshrink(x, turn): +1 inside [-turn, turn], -slope outside.

    Three points share a value, and the function is odd, hence zero-mean on symmetric input. At
    slope = 1 its derivative is +1 or -1 almost everywhere: nothing dies and nothing saturates. At
    slope = 0 it is hardtanh, the control without a fold.

    Args:
        slope: a >= 0, the descent outside of the turns.
        turn: t > 0, where it turns, in units of the pre-activation.
        learnable: make both parameters of the module, one value each a layer.

    Shape: any; the dtype of the input.
    """

    slope: float | Tensor
    turn: float | Tensor

    def __init__(self, slope: float = 1.0, turn: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        if not slope >= 0 or not math.isfinite(slope):
            raise InputError(f"slope = {slope}", "a finite number >= 0", "pass e.g. slope=1.0")
        if not turn > 0 or not math.isfinite(turn):
            raise InputError(f"turn = {turn}", "a finite number > 0", "pass e.g. turn=1.0")
        self.learnable = learnable
        self.slope = nn.Parameter(torch.tensor(float(slope))) if learnable else float(slope)
        self.turn = nn.Parameter(torch.tensor(float(turn))) if learnable else float(turn)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.turn, Tensor):
            # softshrink takes no tensor for its bound; x minus its clamped self is the same.
            shrunk = x - torch.clamp(x, -self.turn, self.turn)
        else:
            shrunk = F.softshrink(x, self.turn)
        return x - (1 + self.slope) * shrunk

    def extra_repr(self) -> str:
        slope, turn = (float(v.detach()) if isinstance(v, Tensor) else v for v in (self.slope, self.turn))
        return f"slope={slope:g}, turn={turn:g}" + (", learnable=True" if self.learnable else "")


class QFold(nn.Module):
    """The quarter-phase fold f(x) = (sin(w x - pi/4) + sin(pi/4)) / w, w = ``frequency``.

    The odd fold (sin) and the even fold (1 - cos) in equal parts. f(0) = 0.

    Args:
        frequency: w > 0, in radians a unit of pre-activation; 1 suits convolution nets, 2 MLPs on
            strongly entangled data.
    """

    def __init__(self, frequency: float = 1.0) -> None:
        super().__init__()
        if not frequency > 0 or not math.isfinite(frequency):
            raise InputError(f"frequency = {frequency}", "a finite number > 0", "pass e.g. frequency=1.0")
        self.frequency = float(frequency)

    def forward(self, x: Tensor) -> Tensor:
        phase = math.pi / 4
        return (torch.sin(self.frequency * x - phase) + math.sin(phase)) / self.frequency

    def extra_repr(self) -> str:
        return f"frequency={self.frequency:g}"


def gain(activation: Callable[[Tensor], Tensor]) -> float:
    """1 / sqrt(E f(z)^2) for z ~ N(0, 1): what keeps the second moment from layer to layer.

    Weights drawn with standard deviation gain / sqrt(fan_in) give pre-activations of the same second
    moment in every layer (He et al., 2015, section 2.2; for ReLU it is He's sqrt(2)).

    Closed form for ZFold; otherwise by the trapezoidal rule on [-12, 12] with 48,001 nodes in
    float64, good to six digits for the piecewise smooth functions that are used as activations.

    Raises:
        InputError: the function is zero or not finite on normal input.
    """
    if isinstance(activation, ZFold):
        with torch.no_grad():
            return _zfold_gain(float(activation.slope), float(activation.turn))
    z = torch.linspace(-12.0, 12.0, 48_001, dtype=torch.float64)
    probe = activation
    if isinstance(activation, nn.Module):
        probe = copy.deepcopy(activation).double().eval()
    with torch.no_grad():
        squares = probe(z).square() * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    moment = float(torch.trapezoid(squares, z))
    if not moment > 0 or not math.isfinite(moment):
        raise InputError(
            f"activation {activation} with E f(z)^2 = {moment}",
            "a positive finite second moment",
            "check the function for NaN or for being zero everywhere",
        )
    return 1 / math.sqrt(moment)


def _zfold_gain(a: float, t: float) -> float:
    inside = math.erf(t / math.sqrt(2))  # P(|z| <= t)
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    clipped = inside - 2 * t * density + t * t * (1 - inside)  # E clamp(z, -t, t)^2
    moment = (1 + a) ** 2 * clipped - 2 * a * (1 + a) * inside + a * a
    return 1 / math.sqrt(moment)


def init_by_gain(
    model: nn.Module,
    activation: Callable[[Tensor], Tensor],
    *,
    multiplier: float = 1.0,
    seed: int | None = None,
) -> nn.Module:
    """Draw the weights of every linear and convolution layer but the last for ``activation``.

    Hidden weights ~ N(0, (multiplier * gain(activation))^2 / fan_in), last layer ~ N(0, 1 / fan_in),
    biases 0. The first layer gets the gain too, as is usual for ReLU. Changes ``model`` and returns it.

    Args:
        multiplier: 1 keeps the second moment from layer to layer.
        seed: of the draw; None takes torch's generator.
    """
    if not multiplier > 0 or not math.isfinite(multiplier):
        raise InputError(f"gain = {multiplier}", "a finite number > 0", "pass e.g. 1.0")
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    if not layers:
        raise InputError("a model without linear or convolution layers", "at least one", "add one")
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    factor = multiplier * gain(activation)
    for layer in layers:
        fan_in = int(np.prod(layer.weight.shape[1:]))
        std = (1.0 if layer is layers[-1] else factor) / math.sqrt(fan_in)
        nn.init.normal_(layer.weight, std=std, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def replace_activations(
    model: nn.Module,
    new: Callable[[], nn.Module],
    *,
    where: type[nn.Module] | tuple[type[nn.Module], ...] = nn.ReLU,
) -> nn.Module:
    """A copy of ``model`` with every module of type ``where`` replaced by a fresh ``new()``.

    Weights are kept. Activations that are called as functions (``F.relu``) are not modules and stay.

    Raises:
        InputError: nothing of that type in the model.
    """
    model = copy.deepcopy(model)
    if isinstance(model, where):
        return new()
    replaced: dict[nn.Module, nn.Module] = {}  # a module used in two places stays one module
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, where):
                if child not in replaced:
                    replaced[child] = new().train(child.training)
                setattr(parent, name, replaced[child])
    if not replaced:
        kinds = sorted({type(m).__name__ for m in model.modules()} - {type(model).__name__})
        names = where.__name__ if isinstance(where, type) else [w.__name__ for w in where]
        raise InputError(
            f"where = {names}",
            "a module type that occurs in the model",
            f"it holds {', '.join(kinds) or 'no modules'}",
        )
    return model


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "zfold": ZFold,
    "qfold": QFold,
}
"""Built-in names of activations, for the command line and studies."""
