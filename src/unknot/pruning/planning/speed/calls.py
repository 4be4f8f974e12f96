"""The convolutions and matrix products that a model makes, and the same with fewer channels."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.nets.probe import Inputs, tensors_of
from unknot.nets.running import as_it_was, call_model
from unknot.nets.timing import steady_memory
from unknot.pruning.structure.layers import all_layers
from unknot.pruning.structure.linear_maps import LinearMap
from unknot.pruning.structure.map_calls import watching_maps

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
PASSES = 5  # of which a layer's fastest counts


@dataclass(frozen=True)
class Call:
    """One convolution or matrix product as a layer makes it; equal ones take equally long.

    Attributes:
        others: sizes of the input without its channels: the samples first.
        inputs, outputs: channels.
        window: of the weights; none of a matrix product.
        stride, padding, dilation, output_padding: one number a dimension of the window.
        groups: into how many parts that do not meet the channels fall.
        transposed: whether it is a transposed convolution.
        bias: whether a constant is added.
        channels_last: whether the input has its channels last in memory.
        dtype: of input and weights.
        device: where they are.
    """

    others: tuple[int, ...]
    inputs: int
    outputs: int
    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    bias: bool = False
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @classmethod
    def of(cls, layer: LinearMap, output: Tensor) -> Call:
        """That which ``layer`` is, by what came of it."""
        inputs, weight = layer.inputs, layer.weight
        common: dict[str, Any] = {
            "bias": layer.bias is not None, "dtype": inputs.dtype, "device": str(inputs.device),
        }  # fmt: skip
        if not layer.stride:
            return cls(tuple(inputs.shape[:-1]), inputs.shape[-1], output.shape[-1], **common)
        window = tuple(weight.shape[2:])
        batched = inputs if inputs.ndim > len(window) + 1 else inputs[None]
        sizes = tuple(batched.shape[2:])
        padding = tuple(layer.padding[::-2])
        strides = zip(sizes, window, layer.stride, padding, layer.dilation, output.shape[-len(window):],
                      strict=True)  # fmt: skip
        lacking = tuple(o - ((n - 1) * s - 2 * p + d * (w - 1) + 1) for n, w, s, p, d, o in strides)
        last = batched.movedim(1, -1)
        return cls(
            others=(len(batched), *sizes),
            inputs=batched.shape[1],
            outputs=weight.shape[1] * layer.groups if layer.transposed else len(weight),
            window=window,
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            output_padding=lacking if layer.transposed else (),
            groups=layer.groups,
            transposed=layer.transposed,
            channels_last=last.is_contiguous() and not batched.is_contiguous(),
            **common,
        )

    @property
    def narrow(self) -> bool:
        """Whether each group takes in a single channel, so that inputs and outputs only go together."""
        return self.groups > 1 and self.groups == self.inputs

    @property
    def elements(self) -> int:
        """Numbers that come of it, had it a stride of 1."""
        return math.prod(self.others) * self.outputs // math.prod(self.stride)

    def possible(self, inputs: int, outputs: int) -> tuple[int, int, int]:
        """Such numbers of inputs and outputs, as near as groups allow, and the number of groups."""
        inputs, outputs = max(1, min(inputs, self.inputs)), max(1, min(outputs, self.outputs))
        if self.narrow:
            return inputs, inputs * (self.outputs // self.inputs), inputs
        groups = self.groups
        return max(1, inputs // groups) * groups, max(1, outputs // groups) * groups, groups

    def prepare(self, store: Store, inputs: int, outputs: int) -> Callable[[], Tensor]:
        """What makes the call with so many channels; input and weights are parts of ``store``."""
        inputs, outputs, groups = self.possible(inputs, outputs)
        bias = store.bias[:outputs] if self.bias else None
        if not self.window:
            x = _part(store.inputs, (*self.others, inputs))
            weight = _part(store.weight, (outputs, inputs))
            return lambda: F.linear(x, weight, bias)
        samples, *sizes = self.others
        if self.channels_last:
            x = _part(store.inputs, (samples, *sizes, inputs)).movedim(-1, 1)
        else:
            x = _part(store.inputs, (samples, inputs, *sizes))
        rows, columns = (inputs, outputs // groups) if self.transposed else (outputs, inputs // groups)
        if self.channels_last:
            weight = _part(store.weight, (rows, *self.window, columns)).movedim(-1, 1)
        else:
            weight = _part(store.weight, (rows, columns, *self.window))
        function: Any = (_TRANSPOSED if self.transposed else _CONVOLUTIONS)[len(self.window) - 1]
        options: dict[str, Any] = {
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": groups,
        }  # fmt: skip
        if self.transposed:
            options["output_padding"] = self.output_padding
        return lambda: function(x, weight, bias, **options)


class Store:
    """Random numbers for the input and the weights of a call, of which narrower ones take a part."""

    def __init__(self, call: Call) -> None:
        def numbers(size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(call.device, call.dtype)

        generator = torch.Generator().manual_seed(0)
        taps = math.prod(call.window)
        self.inputs = numbers(math.prod(call.others) * call.inputs)
        self.weight = numbers(call.inputs * call.outputs // call.groups * taps)
        self.bias = numbers(call.outputs)


def _part(numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    return numbers[: math.prod(shape)].view(shape)


@dataclass(frozen=True)
class Calls:
    """What the layers of a model call in one pass.

    Attributes:
        by_layer: {layer: its calls, in order}.
        milliseconds: {layer: of all its calls, among those of the others}.
    """

    by_layer: dict[str, tuple[Call, ...]]
    milliseconds: dict[str, float]


def watch_calls(model: nn.Module, example: Inputs) -> Calls:
    """The convolutions and matrix products that ``model`` makes of ``example``, which is on its device.

    Raises:
        InputError: the model does not take the example.
    """
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    times: defaultdict[str, list[float]] = defaultdict(list)
    cuda = tensors_of(example)[0].device.type == "cuda"
    begun = 0.0

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(_name: str, _layer: LinearMap) -> None:
        nonlocal begun
        begun = now()

    def after(name: str, layer: LinearMap, output: Tensor) -> None:
        of_pass[name] += 1e3 * (now() - begun)
        if first:
            calls[name].append(Call.of(layer, output))

    with as_it_was(model), steady_memory():
        for turn in range(PASSES + 1):  # the first only warms up
            first, of_pass = turn == 0, defaultdict[str, float](float)
            with watching_maps(all_layers(model), after, before):
                call_model(model, example)
            for name, taken in of_pass.items() if turn else ():
                times[name].append(taken)
    fastest = {name: min(taken) for name, taken in times.items()}
    return Calls({name: tuple(of_layer) for name, of_layer in calls.items()}, fastest)
