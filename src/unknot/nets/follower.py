"""Follower: what the activation function or the pooling after each convolution returns."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

After = Literal["module", "activation", "pooling"]
_ACTIVATIONS = frozenset({
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_", "selu", "selu_",
    "celu", "celu_", "gelu", "silu", "mish", "tanh", "tanh_", "sigmoid", "sigmoid_", "hardtanh",
    "hardtanh_", "hardswish", "hardsigmoid", "softplus", "softsign", "sin",
})  # fmt: skip


class Follower:
    """Follows the output tensor of each convolution through normalisation and dropout.

    Calls of modules and of functions (``F.relu``) are both seen. A tensor that was added to another, or
    whose channels changed, is followed no further.

    Args:
        after: what to look for; "module" looks for nothing.
        wanted: the convolutions (layer, call) to look after; None for all.

    Attributes:
        origins: the (layer, call) of every convolution that ran.
        found: what followed it, where anything did, copied.
    """

    def __init__(self, after: After, wanted: Container[tuple[str, int]] | None = None) -> None:
        self.after = after
        self.wanted = wanted
        self.origins: set[tuple[str, int]] = set()
        self.found: dict[tuple[str, int], Tensor] = {}
        # The tensors themselves are kept, so that no number is given to a second one.
        self._followed: dict[int, tuple[tuple[str, int], Tensor]] = {}
        self._depth = 0  # of leaf modules that are running: their inner functions are their own

    def start(self, key: tuple[str, int], module: nn.Module, output: Tensor) -> None:
        """Follow ``output`` if ``module`` is a convolution."""
        wanted = self.wanted is None or key in self.wanted
        if self.after != "module" and wanted and isinstance(module, _ConvNd):
            self._begin(key, output)

    def _begin(self, key: tuple[str, int], output: Tensor) -> None:
        self.origins.add(key)
        self._followed[_identity(output)] = (key, output)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """See every call of a leaf module or of a function while the context lasts."""
        if self.after == "module":
            yield
            return
        with ExitStack() as stack:
            for module in model.modules():
                if next(module.children(), None) is None:
                    stack.callback(module.register_forward_pre_hook(self._enter).remove)
                    stack.callback(module.register_forward_hook(self._leave).remove)
            stack.enter_context(_Functions(self._call))
            yield
        self._followed.clear()

    def _enter(self, _module: nn.Module, _inputs: Any) -> None:
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if not isinstance(module, (_ConvNd, nn.Linear)) and inputs:
            self._step(inputs[0], output, _kind(module))

    def _call(self, name: str, inputs: Any, output: Any) -> None:
        if self._depth == 0 and inputs:
            if name in _ACTIVATIONS:
                self._step(inputs[0], output, "activation")
            elif "pool" in name:
                self._step(inputs[0], output, "pooling")
            elif name.endswith("_norm") or "dropout" in name:
                self._step(inputs[0], output, "passing")

    def _step(self, before: Any, output: Any, kind: str) -> None:
        if not (isinstance(before, Tensor) and isinstance(output, Tensor)):
            return
        key, _ = self._followed.get(_identity(before), (None, None))
        if key is None or output.shape[:2] != before.shape[:2]:
            return
        if kind != self.after:
            self._followed[_identity(output)] = (key, output)
        elif key not in self.found:
            self.found[key] = output.detach().clone()


class _Functions(TorchFunctionMode):
    def __init__(self, see: Callable[[str, Any, Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._see(getattr(func, "__name__", ""), args, result)
        return result


def _kind(module: nn.Module) -> str:
    name = type(module).__name__.lower()
    if "pool" in name:
        return "pooling"
    if "norm" in name or "dropout" in name or isinstance(module, nn.Identity):
        return "passing"
    return "activation"


def _identity(tensor: Tensor) -> int:
    """One number for a tensor and its detached views."""
    return tensor.data_ptr()
