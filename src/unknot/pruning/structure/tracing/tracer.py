"""One run of a model in which labels follow its channels through every operation.

Operations are seen where torch dispatches them, below all that users write: whatever Python a model runs,
few are left. What each does to labels is said in the modules beside this one; what is known about atoms
is gathered here: which can only go together (`ties`), which stay (`frozen`), which rectangles must remain
rectangles (`splits`), and which sizes the model keeps in attributes of its modules (`sizes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unknot.core.errors import InputError
from unknot.pruning.structure.layers import all_layers, is_attention, value_rows, weighs_by_columns
from unknot.pruning.structure.tracing.facts import Facts, Followed, Size, Split
from unknot.pruning.structure.tracing.labels import Factor, Labels, at_first, follows, spans

LABELS = "_unknot_labels"  # the attribute of a tensor that holds them
Rule: TypeAlias = Callable[["Tracer", Any, tuple[Any, ...], dict[str, Any], Any], None]


class TraceTooLong(InputError):
    """A model that was not followed in time."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the channels of one run.

    Args:
        model: a copy that may be changed.
        layers: dotted names of those whose outputs matter.
        rules: {operation, e.g. "aten::view": what it does to labels}.
        facts: what earlier runs told, added to.
        seconds: after which the trace is given up.
        tell: called with the name of each module that runs.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Collection[str],
        rules: dict[str, Rule],
        facts: Facts,
        seconds: float,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model, self.layers, self.rules, self.facts = model, layers, rules, facts
        self.consumers = set(all_layers(model))
        self.names: dict[int, str] = {}  # {id of a parameter or buffer: its name}
        self.buffers: set[int] = set()
        for name, parameter in model.named_parameters():
            self.names[id(parameter)] = name
        for name, buffer in model.named_buffers():
            self.names.setdefault(id(buffer), name)
            self.buffers.add(id(buffer))
        self.weights: dict[int, str] = {}  # {first atom of a consumer's rows: the consumer}
        self.stack: list[tuple[str, nn.Module]] = [("", model)]
        self.paused = 0
        self.numbers = _Numbers()
        self.end, self.seconds, self.tell = time.monotonic() + seconds, seconds, tell

    # --- labels of tensors

    def labels(self, tensor: Tensor) -> Labels:
        """The factors of a tensor; of a parameter or buffer, one for each of its axes."""
        known = getattr(tensor, LABELS, None)
        if known is None:
            known = self._own_atoms(tensor) if id(tensor) in self.names else ()
            setattr(tensor, LABELS, known)
        return known

    def set(self, tensor: Tensor, labels: Iterable[Factor]) -> None:
        setattr(tensor, LABELS, tuple(f for f in labels if f.size > 1))

    def _own_atoms(self, tensor: Tensor) -> Labels:
        name = self.names[id(tensor)]
        if not tensor.is_floating_point():
            return ()
        if name not in self.facts.axes:
            starts = []
            for size in tensor.shape:
                starts.append(self.facts.n_atoms + 1 if size > 1 else 0)
                self.facts.n_atoms += size if size > 1 else 0
            self.facts.axes[name] = tuple(starts)
            self.facts.shapes[name] = tuple(tensor.shape)
            layer, _, key = name.rpartition(".")
            if key == "weight" and layer in self.consumers:
                self.weights[starts[self._output_axis(layer)]] = layer
        sign = -1 if id(tensor) in self.buffers else 1
        factors = []
        for axis, start in enumerate(self.facts.axes[name]):
            if start:
                shape = [1] * tensor.ndim
                shape[axis] = tensor.shape[axis]
                factors.append(sign * np.arange(start, start + tensor.shape[axis]).reshape(shape))
        return tuple(factors)

    def _output_axis(self, layer: str) -> int:
        """The axis of a layer's weight along which its outputs are."""
        module = self.model.get_submodule(layer)
        return int(weighs_by_columns(module) or getattr(module, "transposed", False))

    def fresh(self, shape: Sequence[int], axes: Iterable[int] | None = None) -> list[Factor]:
        """Atoms of no parameter for axes whose size follows what they meet."""
        factors = []
        for axis in range(len(shape)) if axes is None else axes:
            if shape[axis] > 1:
                first = self.facts.n_atoms + 1
                self.facts.n_atoms += shape[axis]
                sizes = [1] * len(shape)
                sizes[axis] = shape[axis]
                factors.append(-np.arange(first, first + shape[axis]).reshape(sizes))
        return factors

    # --- what is known about atoms

    @property
    def module(self) -> str:
        """The module that runs, for messages."""
        return self.stack[-1][0] or type(self.model).__name__

    def tie(self, a: Factor, b: Factor) -> None:
        """Entry by entry of two factors, which broadcast: either both go or none."""
        if a is b:
            return
        a, b = (f.ravel() for f in np.broadcast_arrays(a, b))
        both = (a > 0) & (b > 0)
        if both.any():
            self.facts.ties.append((a[both], b[both]))
        for one, other in ((a, b), (b, a)):
            stays = (one > 0) & (other == 0)
            if stays.any():
                self.freeze(one[stays], f"its channels meet others that stay, in {self.module}")
            led = (one < 0) & (other != 0)
            if led.any():
                self.facts.follows.append((-one[led], other[led]))

    def freeze(self, factor: Factor, why: str) -> None:
        strong = np.unique(factor[factor > 0])
        if strong.size:
            self.facts.frozen.append((strong, why))

    def collapse(self, factor: Factor, axes: Iterable[int]) -> Factor:
        """The factor once all that lies along ``axes`` can only go together."""
        first = at_first(factor, axes)
        if first.shape != factor.shape:
            self.tie(factor, first)
        return first

    def split(self, factor: Factor, axes: Iterable[int] | None = None) -> None:
        """Where a factor spans several axes, what is left of it must be a rectangle."""
        spanned = sorted(spans(factor))
        if len(spanned) > 1 and not follows(factor):
            allowed = spanned if axes is None else [a for a in axes if a in spanned]
            self.facts.splits.append(
                Split(factor.squeeze(), tuple(spanned.index(a) for a in allowed), self.stack[-1][0])
            )

    def size(self, number: object, factor: Factor, axis: int) -> None:
        """Note that a number, where it is followed, counts what ``factor`` has along ``axis``."""
        if isinstance(number, Followed) and factor.shape[axis] > 1:
            self.facts.sizes.append(
                Size(
                    number.module, number.attribute, number.position, factor, axis, number.scale
                )
            )  # fmt: skip

    def own_size(self, attribute: str, factor: Factor, axis: int, position: int | None = None) -> None:
        """The same for a number that the running module is known to hold."""
        if factor.shape[axis] > 1:
            self.facts.sizes.append(Size(self.stack[-1][0], attribute, position, factor, axis))

    # --- the run

    def run(self, call: Callable[[], Any]) -> Any:
        """What ``call``, a call of the model under `as_it_was`, returns, its channels followed."""
        with ExitStack() as stack:
            for name, module in self.model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; its operations are seen
                    continue
                stack.callback(module.register_forward_pre_hook(partial(self._enter, name)).remove)
                stack.callback(module.register_forward_hook(partial(self._leave, name)).remove)
            stack.enter_context(self._attributes_followed())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # in parts that are seen
            stack.enter_context(self.numbers)
            stack.enter_context(self)
            return call()

    def _enter(self, name: str, module: nn.Module, _args: Any) -> None:
        self.stack.append((name, module))
        self.paused += is_opaque(module)
        self.tell(self.module)

    def _leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        self.paused -= is_opaque(module)
        if not self.paused:
            if is_opaque(module):
                self.rules["module"](self, module, args, {}, output)
            if name in self.layers and is_attention(module):
                weight, first = value_rows(module)
                self.facts.outputs.setdefault(name, []).append(self.along(weight, 0)[first:])
            elif name in self.layers and isinstance(output, Tensor):
                axis = min(1, output.ndim - 1) if isinstance(module, _ConvNd) else output.ndim - 1
                self.facts.outputs.setdefault(name, []).append(self.along(output, axis))
        self.stack.pop()

    def consumer_of(self, outgoing: Factor) -> str | None:
        """The convolution or linear layer whose weights give these outputs, called as a module or not."""
        running = self.stack[-1][0]
        return running if running in self.consumers else self.weights.get(int(outgoing[0]))

    def along(self, tensor: Tensor, axis: int) -> Factor:
        """``[size]``: the atoms along one axis; 0 where there are none, or not of this axis alone."""
        for factor in self.labels(tensor):
            if spans(factor) == {axis} and not follows(factor):
                return factor.ravel()
        return np.zeros(tensor.shape[axis], np.int64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.paused:
            if time.monotonic() > self.end:
                raise TraceTooLong(
                    f"a model that is not followed within {self.seconds:g} s, at {self.module}",
                    "a smaller example, or more time",
                    "pass fewer or smaller samples, or raise seconds",
                )
            self._see(func, args, kwargs, result)
        return result

    def _see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        name = func._schema.name
        rule = self.rules.get(name) or self.rules.get(name.removesuffix("_"))
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = self.rules["pointwise"]
        touched = [
            f.ravel()
            for t in tree_leaves([args, kwargs])
            if isinstance(t, Tensor)
            for f in self.labels(t)
        ]
        if touched:
            self.facts.touched.setdefault(self.stack[-1][0], []).extend(touched)
        (rule or self.rules["unknown"])(self, func, args, kwargs, result)

    @contextmanager
    def _attributes_followed(self) -> Iterator[None]:
        """While inside, whole numbers that modules hold know where they come from."""
        held: list[tuple[dict[str, Any], str, Any]] = []
        for name, module in self.model.named_modules():
            if type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.Unflatten):
                continue
            for key, value in list(vars(module).items()):
                if type(value) is int and value > 1:
                    held.append((vars(module), key, value))
                    vars(module)[key] = Followed.of(value, name, key, None)
                elif type(value) in (list, tuple) and value and all(type(v) is int for v in value):
                    held.append((vars(module), key, value))
                    vars(module)[key] = type(value)(
                        Followed.of(v, name, key, i) for i, v in enumerate(value)
                    )
        try:
            yield
        finally:
            for attributes, key, value in held:
                attributes[key] = value


class _Numbers(TorchFunctionMode):
    """The whole numbers that the innermost call of a torch function was given, as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[int]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls.append(list(_whole_numbers([*args, *kwargs.values()])))
        try:
            return function(*args, **kwargs)
        finally:
            self.calls.pop()

    def followed(self) -> list[int]:
        """All whole numbers of the call, in order."""
        return self.calls[-1] if self.calls else []


def _whole_numbers(values: Iterable[Any]) -> Iterator[int]:
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _whole_numbers(value)
        elif isinstance(value, slice):
            yield from _whole_numbers([value.start, value.stop])


def is_opaque(module: nn.Module) -> bool:
    """Whether a module is taken as a whole: recurrent layers."""
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase))
