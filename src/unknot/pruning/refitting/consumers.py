"""What consumes a layer's output: a normalisation, a sum, an activation alone; seen in one forward pass.

Calls of torch functions are known by the module that makes them, their function, and how many of these
there were before. A pruned model makes the same ones, but for modules that do otherwise with fewer heads,
so what is found here finds the same tensor there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model, hooked, hooked_before
from unknot.pruning.refitting.activations import Activation, activation_of
from unknot.pruning.structure.layers import all_layers
from unknot.pruning.structure.linear_maps import LinearMap
from unknot.pruning.structure.map_calls import watching_maps

# The innermost running module, the function, how many calls of it by this module came before.
Call: TypeAlias = tuple[str, str, int]
_ADDS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})
# What an activation may as well come before: the same values, and of bounds the greatest of several.
_PASSING = frozenset(
    {f"dropout{n}" for n in ("", "1d", "2d", "3d")}
    | {"flatten", "unflatten", "reshape", "view", "permute", "transpose", "movedim", "squeeze"}
    | {"unsqueeze", "contiguous", "pixel_shuffle", "channel_shuffle"}
)
_GREATEST = frozenset(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))


@dataclass(frozen=True)
class Sum:
    """A sum that alone consumes a layer's output, or the normalisation of it."""

    call: Call  # that adds
    other: Call  # that returned what is added to it, before the layer runs


@dataclass(frozen=True)
class Consumers:
    """What consumes the outputs of the layers that weigh their inputs and run once.

    Attributes:
        norms: {layer: the batch normalisation with running statistics that alone consumes its output}.
        sums: {layer: the sum that alone consumes its output, or that of its normalisation}.
        activations: {layer: the one that alone consumes its output, or that of its normalisation, or
            that of its sum where it has one}.
        pairs: {layer in ``sums``: the one that ran before and alone makes what is added to it}.
    """

    norms: dict[str, str]
    sums: dict[str, Sum]
    activations: dict[str, Activation] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)


class Calls(TorchFunctionMode):
    """Sees the calls of ``model`` that return tensors: ``see(call, args, kwargs, result)``.

    What runs under `paused` is not seen.
    """

    def __init__(
        self, model: nn.Module, see: Callable[[Call, tuple[Any, ...], dict[str, Any], Any], None]
    ) -> None:
        super().__init__()
        self.model, self.see, self.off = model, see, False
        self.before: Counter[tuple[str, str]] = Counter()
        self.running: list[str] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the model runs."""
        modules = dict(self.model.named_modules())

        def enter(name: str, *_: object) -> None:
            self.running.append(name)

        def leave(*_: object) -> None:
            self.running.pop()

        with hooked_before(modules, enter), hooked(modules, leave), self:
            yield

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        several = isinstance(result, (tuple, list)) and any(isinstance(r, Tensor) for r in result)
        if (several or isinstance(result, Tensor)) and not self.off:
            self.off = True  # the calls of ``see`` are none of the model's
            key = (self.running[-1] if self.running else "", getattr(function, "__name__", ""))
            self.see((*key, self.before[key]), args, kwargs or {}, result)
            self.before[key] += 1
            self.off = False
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        before, self.off = self.off, True
        yield
        self.off = before


def find_consumers(model: nn.Module, inputs: Inputs) -> Consumers:
    """Run ``model`` once in eval mode on a small batch and see what consumes what."""
    seen = _Seen()
    layers = all_layers(model)
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and isinstance(module.running_mean, Tensor)
    }
    calls = Calls(model, seen.call)
    with hooked(norms, seen.norm), as_it_was(model), calls.watching(), watching_maps(layers, seen.layer):
        seen.end(call_model(model, inputs))
    return seen.consumers()


@dataclass
class _Seen:
    """Versions of tensors are known by the number, in ``calls``, of the call that made them."""

    calls: list[Call] = field(default_factory=list)
    # {id of a tensor: call that made or changed it}
    origins: dict[int, int] = field(default_factory=dict)
    held: list[Any] = field(default_factory=list)  # so that no other tensor gets its id
    uses: Counter[int] = field(default_factory=Counter)  # {call: times that its result is consumed}
    adds: list[tuple[int, int, int]] = field(default_factory=list)  # call and its two summands
    # {call: one that consumes its result, and its activation, or whether it may only come before bounds}
    steps: dict[int, tuple[int, Activation | bool]] = field(default_factory=dict)
    layers: dict[str, list[int]] = field(default_factory=dict)  # calls that a layer's results come from
    norms: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # what is consumed and returned

    def call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        number, (_, name, _) = len(self.calls), call
        self.calls.append(call)
        tensors = [a for a in tree_leaves([*args, *kwargs.values()]) if isinstance(a, Tensor)]
        sources = [self.origins.get(id(t), -1) for t in tensors]
        self.uses.update(sources)
        if not isinstance(result, Tensor):
            return
        both = len(args) == len(tensors) == 2 and not kwargs
        if name in _ADDS and both and tensors[0].shape == tensors[1].shape:
            self.adds.append((number, sources[0], sources[1]))
        activation = activation_of(name, args, kwargs)
        if len(tensors) == 1 and (activation or name in _PASSING | _GREATEST):
            self.steps[sources[0]] = number, activation or name in _GREATEST
        self.held.append(result)
        self.origins[id(result)] = number

    def layer(self, name: str, _layer: LinearMap, output: Tensor) -> None:
        self.layers.setdefault(name, []).append(self.origins.get(id(output), -1))

    def norm(self, name: str, _module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # The hook sees its input after the call; an input changed in place is the output itself.
        source = self.origins.get(id(args[0]), -1) if args else -1
        self.norms.setdefault(name, []).append((source, self.origins.get(id(output), -1)))

    def end(self, output: Any) -> None:
        """What the model returns is consumed by others."""
        self.uses.update(
            self.origins.get(id(t), -1) for t in tree_leaves(output) if isinstance(t, Tensor)
        )

    def consumers(self) -> Consumers:
        normed = {
            calls[0][0]: (name, calls[0][1]) for name, calls in self.norms.items() if len(calls) == 1
        }
        norms, sums, activations = {}, {}, {}
        ends: dict[int, str] = {}  # {call: the layer whose output, maybe normalised, it returns}
        for layer, calls in self.layers.items():
            result = end = calls[0]
            if len(calls) > 1 or result < 0 or self.uses[result] != 1:
                continue
            if result in normed:
                norms[layer], end = normed[result]
            ends[end] = layer
            for call, a, b in self.adds:
                other = b if a == end else a
                if end in (a, b) and a != b and 0 <= other < result and self.uses[end] == 1:
                    sums[layer] = Sum(self.calls[call], self.calls[other])
                    end = call
                    break
            if (found := self._activation(end)) is not None:
                activations[layer] = found
        numbers = {call: number for number, call in enumerate(self.calls)}
        alone = {end: layer for end, layer in ends.items() if self.uses[end] == 1}
        others = {layer: alone.get(numbers[found.other]) for layer, found in sums.items()}
        pairs = {layer: other for layer, other in others.items() if other is not None}
        return Consumers(norms, sums, activations, pairs)

    def _activation(self, call: int) -> Activation | None:
        """The one that alone consumes what a call returned."""
        greatest = False
        while self.uses[call] == 1 and call in self.steps:
            call, step = self.steps[call]
            if isinstance(step, Activation):
                return None if greatest and step.curve else step
            greatest |= step
        return None


def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(factor, constant), both ``[c]``, of a batch normalisation in eval mode."""
    assert isinstance(norm, _BatchNorm) and norm.running_var is not None
    assert norm.running_mean is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach()
    constant = -norm.running_mean * factor
    if norm.bias is not None:
        constant = constant + norm.bias.detach()
    return factor, constant
