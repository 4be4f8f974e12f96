"""The gain of an activation, and weights drawn for it.

A gain of 1 / sqrt(E f(z)^2), z ~ N(0, 1), keeps the second moment of the pre-activations from layer to
layer (He et al., 2015, section 2.2; for ReLU it is He's sqrt(2)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from unknot.core.errors import InputError, require_count, require_positive
from unknot.nets.running import copied, require_module

Function: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
REACH = 12.0
"""Integrals end here: the normal density beyond is below 1e-31."""


@runtime_checkable
class HasSecondMoment(Protocol):
    """An activation that knows its E f(z)^2 in closed form."""

    def second_moment(self) -> float: ...


def gain(activation: Callable[[Tensor], Tensor]) -> float:
    """1 / sqrt(E f(z)^2) for z ~ N(0, 1): what keeps the second moment from layer to layer.

    Weights drawn with standard deviation gain / sqrt(fan_in) give pre-activations of the same second
    moment in every layer (He et al., 2015, section 2.2; for ReLU it is He's sqrt(2)).

    Closed form for the folds that have one; otherwise by adaptive quadrature in float64, which finds
    kinks and jumps by itself; good to nine digits.

    Args:
        activation: a function or module that works on each number by itself, float64 ``[m] -> [m]``.

    Raises:
        InputError: the function is zero or not finite on normal input.
    """
    if isinstance(activation, type) or not callable(activation):
        remedy = f"pass {activation.__name__}()" if isinstance(activation, type) else "pass uk.ZFold()"
        raise InputError(f"activation {activation!r}", "a function or module of a tensor", remedy)
    if isinstance(activation, HasSecondMoment):
        return 1 / math.sqrt(activation.second_moment())
    probe = activation
    if isinstance(activation, nn.Module):
        probe = copied(activation).cpu().double().eval()

    def values(z: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            with torch.no_grad():
                found = np.asarray(probe(torch.from_numpy(z)).numpy(), dtype=np.float64)
        except Exception as error:  # whatever the user's code raises
            text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
            raise InputError(
                f"activation {activation} ({text})", "a function of a tensor", "call it yourself first"
            ) from error
        if found.shape != z.shape:
            raise InputError(
                f"activation {activation} that makes {found.shape} of {z.shape}",
                "one number for each",
                "pass what works on each number by itself",
            )
        return found

    z = np.linspace(-3, 3, 13)
    if not np.allclose(values(z)[::2], values(z[::2]), equal_nan=True):
        raise InputError(
            f"activation {activation} that mixes the numbers",
            "a function of each number by itself",
            "pass one without normalisation and without chance",
        )
    moment = normal_mean(lambda z: values(z) ** 2)
    if not moment > 0 or not math.isfinite(moment):
        raise InputError(
            f"activation {activation} with E f(z)^2 = {moment}",
            "a positive finite second moment",
            "check the function for NaN or for being zero everywhere",
        )
    return 1 / math.sqrt(moment)


def normal_mean(function: Function, *, tolerance: float = 1e-11) -> float:
    """E function(z) for z ~ N(0, 1); the function takes and returns ``[m]``.

    Gauss-Legendre with 10 nodes against twice 10 on the halves: panels on which the two differ by
    more than their share of ``tolerance`` are halved, at most 40 times, so that a kink costs a few
    hundred values. Gauss-Hermite would be wrong by 1e-3 there.
    """
    nodes, weights = np.polynomial.legendre.leggauss(10)

    def integrals(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> NDArray[np.float64]:
        half = (highs - lows)[:, None] / 2
        z = lows[:, None] + half * (nodes + 1)
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return np.asarray((function(z.ravel()).reshape(z.shape) * density * half) @ weights)

    edges = np.linspace(-REACH, REACH, 49)
    lows, highs = edges[:-1], edges[1:]
    coarse, total = integrals(lows, highs), 0.0
    if not np.isfinite(coarse).all():
        return math.nan
    for depth in range(40):
        middles = (lows + highs) / 2
        lower, upper = integrals(lows, middles), integrals(middles, highs)
        fine = lower + upper
        open_ = np.abs(fine - coarse) > tolerance
        if depth == 39 or not open_.any():
            return total + float(fine.sum())
        total += float(fine[~open_].sum())
        lows, highs = (
            np.concatenate([lows[open_], middles[open_]]),
            np.concatenate([middles[open_], highs[open_]]),
        )
        coarse = np.concatenate([lower[open_], upper[open_]])
    raise AssertionError("the last round returns")


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def init_by_gain(
    model: nn.Module,
    activation: Callable[[Tensor], Tensor],
    *,
    multiplier: float = 1.0,
    seed: int | None = None,
) -> nn.Module:
    """Draw the weights of every linear and convolution layer but the last for ``activation``.

    Hidden weights ~ N(0, (multiplier * gain(activation))^2 / fan_in), last layer ~ N(0, 1 / fan_in),
    biases 0. The first layer gets the gain too, as is usual for ReLU. Fan in is the number of inputs
    that an output sums: those of its group in a grouped convolution, and on average kernel / stride
    of them in a transposed one.

    Args:
        model: changed in place; the last of its layers in ``modules()`` is taken for its output.
        activation: whose `gain` the hidden weights get.
        multiplier: 1 keeps the second moment from layer to layer.
        seed: of the draw; None takes torch's generator.

    Returns:
        ``model``.

    Raises:
        InputError: no layers with weights, a lazy one without a shape, or a multiplier that is not > 0.
    """
    require_module(model)
    require_positive("gain", multiplier)
    if seed is not None:
        require_count("seed", seed, minimum=0)
    layers = [m for m in model.modules() if isinstance(m, _WEIGHTED)]
    if not layers:
        raise InputError("a model without linear or convolution layers", "at least one", "add one")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise InputError(
            "a lazy layer without a shape", "layers with weights", "run the model once first"
        )
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    factor = multiplier * gain(activation)
    for layer in layers:
        std = (1.0 if layer is layers[-1] else factor) / math.sqrt(fan_in(layer))
        # Drawn on the CPU, so that a seed gives the same weights on every device.
        drawn = torch.empty(layer.weight.shape, dtype=layer.weight.dtype)
        _set_weight(layer, nn.init.normal_(drawn, std=std, generator=generator))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def _set_weight(layer: nn.Module, drawn: Tensor) -> None:
    """Through its parametrization where it has one; with orthogonal weights it is not what was drawn."""
    weight = layer._parameters.get("weight")
    if weight is None and not is_parametrized(layer, "weight"):
        raise InputError(
            f"{type(layer).__name__} whose weight is computed by a hook",
            "a weight that is a parameter",
            "use torch.nn.utils.parametrizations",
        )
    with torch.no_grad():
        if weight is not None:
            weight.copy_(drawn)
            return
        try:
            layer.weight = drawn.to(layer.weight)  # type: ignore[arg-type]
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{type(layer).__name__} with a parametrization ({error})",
                "one that takes a weight",
                "give it a right_inverse",
            ) from None


def fan_in(layer: nn.Module) -> float:
    """How many inputs an output of a linear or convolution layer sums, on average."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, _TRANSPOSED):  # [in, out / groups, *kernel]
        kernel = math.prod(weight.shape[2:]) / math.prod(layer.stride)
        return max(1.0, layer.in_channels // layer.groups * kernel)
    return float(math.prod(weight.shape[1:]))
