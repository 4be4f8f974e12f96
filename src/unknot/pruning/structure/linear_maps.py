"""A layer as a linear map: some rows of what it weighs, unfolded, and of what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unknot.pruning.structure.layers import (
    is_attention,
    is_linear,
    value_rows,
    weighs_by_columns,
    width_of,
)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A convolution or matrix product as it is called, whatever the attributes of its layer say.

    Attributes:
        inputs: what is weighed, ``[n, in, ...]``; of a linear layer ``[..., in]``.
        weight: ``[out, in / groups, ...]``, of a transposed convolution ``[in, out / groups, ...]``; not
            the parameter where the layer derives what it weighs by.
        bias: ``[out]``, or None.
        stride, dilation: one number a dimension of the window; none of a linear layer.
        padding: by the call itself, two numbers a dimension, the last dimension first.
        groups: into how many parts that do not meet the channels fall.
        transposed: whether it is a transposed convolution.
        folded: ``(t, n)`` where the rows of a linear layer are those of ``[t, n, ...]``, one after the
            other: so `nn.MultiheadAttention` has them.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    folded: tuple[int, int] | None = None

    @property
    def regular(self) -> bool:
        """Whether each output is one weighted sum of all input channels, plus a constant."""
        return not self.transposed and self.groups == 1

    @property
    def margins(self) -> tuple[int, ...]:
        """What the padding puts in front of the inputs, one number a dimension of the window."""
        return tuple(reversed(self.padding[::2]))

    @property
    def filters(self) -> Tensor:
        """``[out, in / groups, taps]``, one tap of a linear layer."""
        return _filters(self.weight, self.groups, self.transposed)

    def entries(self, tensor: Tensor) -> Tensor:
        """``[n, ..., c]`` of what went in or came out, one row a place."""
        if self.folded:
            return tensor.reshape(*self.folded, -1).transpose(0, 1)
        if not self.stride:
            return tensor if tensor.ndim > 1 else tensor[None]
        batched = tensor if tensor.ndim > len(self.stride) + 1 else tensor[None]
        return batched.movedim(1, -1)

    def outputs_by(self, weight: Tensor) -> Tensor:
        """What it returns if it weighs by ``weight [out, d]``, without bias; of a `regular` one."""
        weight = weight.reshape(self.weight.shape).to(self.weight)
        if not self.stride:
            return F.linear(self.inputs, weight)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        inputs, padding = self.inputs, self.margins
        if self.padding[::2] != self.padding[1::2]:
            inputs, padding = F.pad(inputs, self.padding), (0,) * len(padding)
        outputs: Tensor = convolve(inputs, weight, None, self.stride, padding, self.dilation)
        return outputs


@dataclass(frozen=True, eq=False)
class Rows:
    """Which outputs of a layer are looked at.

    Attributes:
        samples: int64 ``[r]``: of which sample each row is; its own number where that cannot be told.
        places: one int64 ``[r]`` for each dimension of the output but the channels.
        sizes: of these dimensions.
    """

    samples: Tensor
    places: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    @classmethod
    def draw(
        cls, layer: LinearMap, output: Tensor, at_most: int, n: int, generator: torch.Generator
    ) -> Rows:
        """About ``at_most`` places of what the layer returned for ``n`` samples, as many of each, and at
        least one: of each row along the first dimension, which need not be the samples."""
        first, *sizes = layer.entries(output).shape[:-1]
        within = int(torch.Size(sizes).numel())
        each = min(within, max(1, at_most // first))
        chosen = torch.stack([torch.randperm(within, generator=generator)[:each] for _ in range(first)])
        places = torch.unravel_index(chosen.flatten(), sizes) if sizes else ()
        index = (torch.arange(first).repeat_interleave(each), *places)
        if first != n and n in sizes and not layer.stride:
            return cls(places[sizes.index(n)], index, (first, *sizes))
        if first % n == 0:  # also where each sample has several rows, one after the other
            return cls(index[0] // (first // n), index, (first, *sizes))
        return cls(torch.arange(len(index[0])), index, (first, *sizes))

    def match(self, layer: LinearMap) -> bool:
        """Whether ``layer`` is called with inputs for such outputs."""
        sizes = layer.entries(layer.inputs).shape[:-1]
        known = 1 if layer.stride else len(sizes)  # a window makes others of the rest
        return len(sizes) == len(self.sizes) and tuple(sizes[:known]) == self.sizes[:known]

    def of_output(self, layer: LinearMap, output: Tensor) -> Tensor:
        """``[r, out]``."""
        return layer.entries(output)[self.places]

    def of_input(self, layer: LinearMap) -> Tensor:
        """``[r, d]``: the entries that the layer weighs for each row, group by group, as in `matrix`."""
        if not layer.stride:
            return layer.entries(layer.inputs)[self.places]
        entries = layer.entries(layer.inputs)  # padded they can be a hundred times as many
        window, sizes = layer.weight.shape[2:], entries.shape[1:-1]
        taps = torch.cartesian_prod(*(torch.arange(k) for k in window)).reshape(-1, len(window))
        columns = entries.new_empty(len(self.places[0]), entries.shape[-1], len(taps))
        for number, tap in enumerate(taps.tolist()):
            steps = zip(self.places[1:], layer.stride, tap, layer.dilation, layer.margins, strict=True)
            at = [place * stride + t * dilation - margin for place, stride, t, dilation, margin in steps]
            outside = [(p < 0) | (p >= size) for p, size in zip(at, sizes, strict=True)]
            index = (self.places[0], *(p.clamp(0, size - 1) for p, size in zip(at, sizes, strict=True)))
            column = entries[index]
            column[torch.stack(outside).any(0)] = 0.0
            columns[:, :, number] = column
        return columns.flatten(1)  # [r, c, taps] -> [r, c * taps]


def matrix(module: nn.Module) -> Tensor:
    """The weights of a layer's filters, ``[out, d]``, d being what one group weighs."""
    if is_attention(module):
        rows, first = value_rows(module)
        return rows.detach()[first:]
    weight: Any = module.weight
    if isinstance(module, _ConvNd):
        return _filters(weight, module.groups, module.transposed).flatten(1)
    if weighs_by_columns(module):
        weight = weight.T
    return weight.detach()  # type: ignore[no-any-return]


def _filters(weight: Tensor, groups: int, transposed: bool) -> Tensor:
    weight = weight.detach().flatten(2) if weight.ndim > 2 else weight.detach()[..., None]
    if transposed:  # [in, out / groups, taps]
        weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return weight


def by_sample(module: nn.Module, values: Tensor, n: int) -> Tensor:
    """``[n, c, ...]`` of what a convolution or a linear layer returned for ``n`` samples.

    The samples are along the first dimension, or it holds the rows of one after those of the other; else
    along another one. Where they cannot be told apart, each row stands for one: ``[rows, c, 1]``.
    """
    whole = len(module.kernel_size) + 2 if isinstance(module, _ConvNd) else 2
    if values.ndim < whole and values.shape[:2] != (n, width_of(module)):  # which has summed up places
        values = values[None]
    values = values.movedim(1, -1) if isinstance(module, _ConvNd) else values
    first, *others, width = values.shape
    if first != n and n in others and is_linear(module):
        return values.movedim(1 + others.index(n), 0).movedim(-1, 1)
    if first == n and others:
        return values.movedim(-1, 1)
    if first % n == 0:
        return values.reshape(n, -1, width).transpose(1, 2)
    return values.reshape(-1, width, 1)
