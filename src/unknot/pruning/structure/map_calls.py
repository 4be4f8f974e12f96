"""The convolutions and matrix products that layers make, seen as they are made.

A layer is what it does: a forward of its own may pad, or standardise its weights; and a layer's weights
may be used without calling it, as those of `nn.MultiheadAttention` are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from unknot.nets.running import hooked, hooked_before
from unknot.pruning.structure.layers import is_attention, weighs_by_columns, weight_and_bias
from unknot.pruning.structure.linear_maps import LinearMap

# Gets a layer's name, its map, and what came of it.
See: TypeAlias = Callable[[str, LinearMap, Tensor], None]
# Gets a layer's name and its map, before it is computed; may give the weight and bias to compute it with.
Before: TypeAlias = Callable[[str, LinearMap], tuple[Tensor, Tensor | None] | None]
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_ARGUMENTS: dict[Any, tuple[str, ...]] = {
    F.linear: _CONVOLUTION[:3],
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _CONVOLUTION),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _TRANSPOSED),
}
_attention: Any = F.multi_head_attention_forward
# It hands itself to a mode as a whole; this one does not, so that what it calls can be seen.
_open_attention: Any = FunctionType(
    _attention.__code__,
    {**_attention.__globals__, "has_torch_function": lambda _tensors: False},
    argdefs=_attention.__defaults__,
)


@contextmanager
def watching_maps(
    layers: Mapping[str, nn.Module], see: See, before: Before | None = None
) -> Iterator[MapCalls]:
    """See every convolution or matrix product that ``layers``, or others by their weights, make.

    A call belongs to the layer whose parameter it weighs by, else to the innermost that is running.
    """
    calls = MapCalls(layers, see, before)
    with hooked_before(layers, calls.enter), hooked(layers, calls.leave), calls:
        yield calls


class MapCalls(TorchFunctionMode):
    """What `watching_maps` sees with.

    Attributes:
        times: {layer: maps seen}.
        runs: {layer: times that it was called}.
        running: names of the layers that are running, the innermost last.
    """

    def __init__(self, layers: Mapping[str, nn.Module], see: See, before: Before | None) -> None:
        super().__init__()
        self.see, self.before = see, before
        self.times: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.running: list[str] = []
        self._attended: tuple[int, int] | None = None
        self._owners: defaultdict[int, list[str]] = defaultdict(list)
        for name, module in layers.items():
            weight = module._parameters.get("in_proj_weight" if is_attention(module) else "weight")
            self._owners[id(weight)].append(name)
        self._by_columns = {n for n, m in layers.items() if weighs_by_columns(m)}

    def enter(self, name: str, _module: nn.Module, _inputs: Any) -> None:
        """Before a layer is called."""
        self.runs[name] += 1
        self.running.append(name)

    def leave(self, _name: str, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        """After a layer was called."""
        self.running.pop()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is _attention:
            query = args[0] if args else (kwargs or {})["query"]
            self._attended = (len(query), query.shape[1] if query.ndim == 3 else 1)
            with self:
                result = _open_attention(*args, **(kwargs or {}))
            self._attended = None
            return result
        if function is torch.addmm and len(args) == 3 and not kwargs:
            return self._see_by_columns(*args)
        names = _ARGUMENTS.get(function) if isinstance(function, BuiltinFunctionType) else None
        given = dict(zip(names or (), args, strict=False)) | (kwargs or {})
        name = self._layer_of(given["weight"]) if names else None
        if name is None or given["weight"].ndim < 2:
            return function(*args, **(kwargs or {}))
        self.times[name] += 1
        with torch._C.DisableTorchFunction():  # other modes are not to take it for a call of the model
            layer = _linear_map(given, transposed=names is _TRANSPOSED)
        if self._attended and given["input"].ndim == 2:
            layer = replace(layer, folded=self._attended)
        new = self.before(name, layer) if self.before else None
        if new is not None:
            given["weight"], given["bias"] = new
        output = function(given.pop("input"), **given)
        self.see(name, layer, output)
        return output

    def _see_by_columns(self, bias: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        name = next((n for n in self._owners.get(id(weight), []) if n in self._by_columns), None)
        if name is None:
            return torch.addmm(bias, inputs, weight)
        self.times[name] += 1
        layer = LinearMap(inputs.detach(), weight.T, bias)
        new = self.before(name, layer) if self.before else None
        if new is not None:
            weight, bias = new[0], bias if new[1] is None else new[1]
        output = torch.addmm(bias, inputs, weight)
        self.see(name, layer, output)
        return output

    def _layer_of(self, weight: Tensor) -> str | None:
        owners = self._owners.get(id(weight), [])
        innermost = self.running[-1:]
        return next((name for name in (*innermost, *owners) if name in owners or not owners), None)


def _linear_map(given: Mapping[str, Any], *, transposed: bool) -> LinearMap:
    inputs, weight, bias = given["input"], given["weight"], given.get("bias")
    if weight.ndim == 2:
        return LinearMap(inputs.detach(), weight, bias)
    window = weight.shape[2:]
    stride, dilation = (_each(given.get(key, 1), len(window)) for key in ("stride", "dilation"))
    padding = given.get("padding", 0)
    if padding == "same":
        whole = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
        sides = [(w // 2, w - w // 2) for w in whole]
    else:
        sides = [(p, p) for p in _each(0 if padding == "valid" else padding, len(window))]
    return LinearMap(
        inputs=inputs.detach(),
        weight=weight,
        bias=bias,
        stride=stride,
        padding=tuple(p for side in reversed(sides) for p in side),
        dilation=dilation,
        groups=given.get("groups", 1),
        transposed=transposed,
    )


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * dimensions if len(values) == 1 else values


def set_weight(module: nn.Module, layer: LinearMap, weight: Tensor) -> bool:
    """Make ``weight [out, d]`` what a layer weighs by, also where a parametrization can be inverted.

    False, and nothing changed, where it is derived from its parameters in another way.
    """
    own, _ = weight_and_bias(module)
    if weighs_by_columns(module):
        own.data.copy_(weight.T)
        return True
    new = weight.reshape(layer.weight.shape).to(layer.weight)
    if isinstance(own, nn.Parameter):
        if own is layer.weight:
            own.data.copy_(new)
        return own is layer.weight
    if not parametrize.is_parametrized(module, "weight") or not torch.equal(own, layer.weight):
        return False
    steps: Any = module.parametrizations
    before = {name: value.clone() for name, value in steps["weight"].state_dict().items()}
    with suppress(Exception):  # whatever a parametrization that has no inverse raises
        module.weight = new
    now: Any = module.weight
    if bool(((now - new).abs() <= 1e-4 * new.abs().max()).all()):
        return True
    steps["weight"].load_state_dict(before)
    return False
