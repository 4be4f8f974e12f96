"""Follower: which calls a tensor goes through that hand its channels on one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from unknot.nets.running import hooked, hooked_before

Kind = Literal["activation", "pooling", "passing"]
After = Literal["module", "activation", "pooling"]
Key: TypeAlias = tuple[str, int]  # layer, call
_ACTIVATIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "selu", "selu_",
    "celu", "celu_", "gelu", "silu", "mish", "tanh", "tanh_", "sigmoid", "sigmoid_", "hardtanh",
    "hardtanh_", "hardswish", "hardsigmoid", "softplus", "softsign", "sin",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Step:
    """One call that a followed tensor went into.

    Attributes:
        kind: "passing" is normalisation, dropout or nothing.
        module: the leaf module that was called; None for a function such as ``F.relu``.
        before, after: what went in and what came out, live, with equal numbers of samples and channels.
    """

    kind: Kind
    module: nn.Module | None
    before: Tensor
    after: Tensor


class Follower:
    """Follows tensors through the calls of leaf modules, and of functions outside of them.

    A tensor that was added to another, or whose channels changed in number, is followed no further.

    Args:
        see: gets the key of a followed tensor and each step that it takes, as it is taken; returns
            whether to follow what came out.
    """

    def __init__(self, see: Callable[[Key, Step], bool]) -> None:
        self._see = see
        # The tensors themselves are kept, so that no number is given to a second one.
        self._followed: dict[int, tuple[Key, Tensor]] = {}
        self._depth = 0  # of leaf modules that are running: their inner functions are their own

    def follow(self, key: Key, tensor: Tensor) -> None:
        """Follow ``tensor``, by the name ``key``."""
        self._followed[_identity(tensor)] = (key, tensor)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch the calls that ``model`` makes while the context lasts."""
        leaves = {n: m for n, m in model.named_modules() if next(m.children(), None) is None}
        with hooked_before(leaves, self._enter), hooked(leaves, self._leave), _Functions(self._call):
            yield
        self._followed.clear()

    def _enter(self, _name: str, _module: nn.Module, _inputs: Any) -> None:
        self._depth += 1

    def _leave(self, _name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if not isinstance(module, (_ConvNd, nn.Linear)):
            self._step(_kind_of_module(module), module, inputs, output)

    def _call(self, name: str, inputs: Any, output: Any) -> None:
        if self._depth:
            return
        kind = _kind_of_function(name)
        if kind is not None:
            self._step(kind, None, inputs, output)
        elif _in_place(name) and isinstance(output, Tensor):  # x += shortcut
            self._followed.pop(_identity(output), None)

    def _step(self, kind: Kind, module: nn.Module | None, inputs: Any, output: Any) -> None:
        before = inputs[0] if inputs else None
        if not (isinstance(before, Tensor) and isinstance(output, Tensor)):
            return
        key, _ = self._followed.get(_identity(before), (None, None))
        if key is None or output.shape[:2] != before.shape[:2]:
            return
        if self._see(key, Step(kind, module, before, output)):
            self.follow(key, output)


class _Functions(TorchFunctionMode):
    def __init__(self, see: Callable[[str, Any, Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._see(getattr(func, "__name__", ""), args, result)
        return result


def _kind_of_function(name: str) -> Kind | None:
    if name in _ACTIVATIONS:
        return "activation"
    if "pool" in name:
        return "pooling"
    return "passing" if name.endswith("_norm") or "dropout" in name else None


def _kind_of_module(module: nn.Module) -> Kind:
    name = type(module).__name__.lower()
    if "pool" in name:
        return "pooling"
    if "norm" in name or "dropout" in name or isinstance(module, nn.Identity):
        return "passing"
    return "activation"


def _in_place(name: str) -> bool:
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _identity(tensor: Tensor) -> int:
    """One number for a tensor and its detached views."""
    return tensor.data_ptr()
