"""What a pruned network must compute: the original with removed channels zeroed where they are consumed.

This is the yardstick of `structure`, so it shares nothing with torch-pruning. The removed filters return
NaN, which every operation that treats channels one by one hands on: sums, products, concatenations,
activations, pooling, normalisation with fixed statistics, depthwise convolutions, reshapes. Where it
enters a layer that weighs channels against each other, it becomes the zero that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unknot.nets.running import as_it_was, float_tensors, hooked, hooked_before


def masked_outputs(
    model: nn.Module, removed: Mapping[str, Iterable[int]], inputs: Tensor
) -> list[Tensor]:
    """The floating-point tensors that ``model`` returns in eval mode without the ``removed`` channels.

    NaN in them means that removed channels reach the output, or an operation that mixes channels
    without being a convolution or a linear layer.

    Args:
        removed: {dotted name of a convolution or linear layer: its output channels}.
        inputs: ``[n, ...]``, on the model's device.
    """
    gone = {name: sorted(channels) for name, channels in removed.items()}
    modules = dict(model.named_modules())
    pruned = {name: module for name, module in modules.items() if gone.get(name)}
    consumers = {name: module for name, module in modules.items() if consumes(module)}

    def mark(name: str, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        channels = torch.tensor(gone[name], device=output.device)
        return output.index_fill(-1 if isinstance(module, nn.Linear) else 1, channels, torch.nan)

    with as_it_was(model), hooked_before(consumers, _zero_marked), hooked(pruned, mark):
        return [t.clone() for t in float_tensors(model(inputs))]


def consumes(module: nn.Module) -> bool:
    """Whether a layer weighs its input channels against each other: all but depthwise convolutions."""
    if isinstance(module, _ConvNd):
        return not is_depthwise(module)
    return isinstance(module, nn.Linear)


def is_depthwise(convolution: _ConvNd) -> bool:
    """One filter a channel, so that the two can only go together."""
    return 1 < convolution.groups == convolution.in_channels == convolution.out_channels


def _zero_marked(_name: str, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a consumer, in which a channel with a mark anywhere is zero everywhere."""
    if not inputs:
        return inputs  # called by keyword; the marks go on to the output, and the pruning is refused
    x, *rest = inputs
    # Padding and upsampling put unmarked values into marked channels, hence not entry by entry.
    channel = x.ndim - 1 - (len(module.kernel_size) if isinstance(module, _ConvNd) else 0)
    others = [d for d in range(x.ndim) if d != channel]
    marked = x.isnan().any(dim=others, keepdim=True) if others else x.isnan()
    return (x.masked_fill(marked, 0.0), *rest)
