"""A layer as a linear map: some rows of what enters it, unfolded, and of what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True, eq=False)
class Rows:
    """Which outputs of a layer are looked at.

    Attributes:
        samples: int64 ``[r]``, ascending.
        places: one int64 ``[r]`` for each further dimension of the output but the channels.
    """

    samples: Tensor
    places: tuple[Tensor, ...]

    @classmethod
    def draw(cls, module: nn.Module, shape: torch.Size, at_most: int, generator: torch.Generator) -> Rows:
        """About ``at_most`` places of outputs of ``shape``, as many of each sample, at least one."""
        sizes = shape[1:-1] if isinstance(module, nn.Linear) else shape[2:]
        n, places = shape[0], int(torch.Size(sizes).numel())
        each = min(places, max(1, at_most // n))
        chosen = torch.stack([torch.randperm(places, generator=generator)[:each] for _ in range(n)])
        coordinates = torch.unravel_index(chosen.flatten(), sizes) if len(sizes) else ()
        return cls(torch.arange(n).repeat_interleave(each), tuple(coordinates))

    def of_output(self, module: nn.Module, output: Tensor) -> Tensor:
        """``[r, out]``."""
        return self._pick(module, output, self.places)

    def of_input(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """``[r, d]``: the entries that the module weighs for each row, group by group, as in `matrix`."""
        if isinstance(module, nn.Linear):
            return self._pick(module, inputs, self.places)
        assert isinstance(module, _ConvNd)
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        padded = F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
        taps = torch.cartesian_prod(*(torch.arange(k) for k in module.kernel_size))
        columns = []
        for tap in taps.reshape(-1, len(module.kernel_size)).tolist():
            steps = zip(self.places, module.stride, tap, module.dilation, strict=True)
            places = tuple(place * stride + t * dilation for place, stride, t, dilation in steps)
            columns.append(self._pick(module, padded, places))
        return torch.stack(columns, dim=2).flatten(1)  # [r, c, taps] -> [r, c * taps]

    def _pick(self, module: nn.Module, tensor: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        """``[r, c]``: all channels at each row's place."""
        channels = () if isinstance(module, nn.Linear) else (slice(None),)
        index: tuple[Any, ...] = (self.samples, *channels, *places)
        return tensor[index]


def is_linear_map(module: nn.Module) -> bool:
    """Whether each output is one weighted sum of all input channels, plus a constant."""
    if isinstance(module, _ConvNd):
        return not module.transposed and module.groups == 1
    return type(module) is nn.Linear


def weighs_inputs(module: nn.Module) -> bool:
    """Whether each output is one weighted sum of input channels, all or its group's, plus a constant."""
    return is_linear_map(module) or (isinstance(module, _ConvNd) and not module.transposed)


def groups_of(module: nn.Module) -> int:
    """Into how many parts that do not meet the channels of a layer fall."""
    return module.groups if isinstance(module, _ConvNd) else 1


def filter_weights(module: nn.Module) -> Tensor:
    """``[out, in / groups, taps]``, of transposed convolutions and linear layers (one tap) too."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    weight = weight.detach().flatten(2) if weight.ndim > 2 else weight.detach()[..., None]
    if isinstance(module, _ConvNd) and module.transposed:  # [in, out / groups, taps]
        weight = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return weight


def matrix(module: nn.Module) -> Tensor:
    """`filter_weights` as ``[out, d]``, d being what one group weighs."""
    return filter_weights(module).flatten(1)


def channels_second(module: nn.Module, values: Tensor) -> Tensor:
    """``[n, c, ...]`` of what a layer returned, which is ``[n, ..., c]`` where it is linear."""
    if not isinstance(module, nn.Linear):
        return values
    return values.movedim(-1, 1) if values.ndim > 2 else values[..., None]
