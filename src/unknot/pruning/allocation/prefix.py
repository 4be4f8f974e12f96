"""What layers return in front of a cut, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model
from unknot.pruning.structure.layers import is_attention, weight_and_bias

Shapes: TypeAlias = list[tuple[int, ...]]
# Where nearly all the work is; a model's calls of these come in the same order however wide it is.
_COSTLY = frozenset({F.linear, F.conv1d, F.conv2d, F.conv3d})


class Prefix:
    """What a model's convolutions and matrix products give on some samples, in the order of its calls.

    Args:
        model: run once in eval mode, left as it was.
        inputs: the samples.
        layers: {dotted name: layer}, by whose weights calls are known.
        most: bytes that may be held, the first results first.

    Attributes:
        outputs: what the model returned.
    """

    def __init__(
        self, model: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module], most: int
    ) -> None:
        self._owners = {id(weight_and_bias(m)[0]): n for n, m in layers.items() if not is_attention(m)}
        self._results: list[tuple[str | None, Shapes, Tensor | None]] = []
        self._room = most
        with as_it_was(model), _Calls(self._record):
            self.outputs = call_model(model, inputs)

    @contextmanager
    def until(self, affected: Iterable[str]) -> Iterator[None]:
        """While a cut model runs on the same samples: calls in front of the first layer of ``affected``
        give what the whole model's gave."""
        affected = set(affected)
        known = [name for name, _, _ in self._results]
        # A call without an owner may be of any layer.
        first = next((i for i, name in enumerate(known) if name is None or name in affected), len(known))

        def replay(number: int, shapes: Shapes, _weight: Any, run: Callable[[], Tensor]) -> Tensor:
            nonlocal first
            if number < first:
                _, before, result = self._results[number]
                if before == shapes and result is not None:
                    return result.clone()  # what follows may change it in place
                if before != shapes:  # other calls than those that were seen
                    first = number
            return run()

        with _Calls(replay):
            yield

    def _record(self, _number: int, shapes: Shapes, weight: Any, run: Callable[[], Tensor]) -> Tensor:
        result = run()
        self._room -= result.nbytes
        kept = result.detach().clone() if self._room >= 0 else None
        self._results.append((self._owners.get(id(weight)), shapes, kept))
        return result


class _Calls(TorchFunctionMode):
    """Hands each costly call to a function, with its number and the shapes of what goes in."""

    def __init__(self, see: Callable[[int, Shapes, Any, Callable[[], Tensor]], Tensor]) -> None:
        super().__init__()
        self._see, self._number = see, -1

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in _COSTLY:
            return function(*args, **kwargs)
        self._number += 1
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        shapes = [tuple(t.shape) for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        return self._see(self._number, shapes, weight, lambda: function(*args, **kwargs))
