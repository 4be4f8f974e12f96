"""What surrounds a run of a model: what torch holds for a thread, its calls, and what they keep alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unknot.nets.probe import Inputs, tensors_of
from unknot.nets.running import float_tensors


class Calls(TorchFunctionMode):
    """Does something before every call of torch, and sees what it returns."""

    def __init__(self, before: Callable[[], None], watch: Alive | None) -> None:
        super().__init__()
        self._before, self._watch = before, watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._before()
        result = func(*args, **(kwargs or {}))
        if self._watch is not None:
            self._watch.see(result)
        return result


class Alive:
    """How much of what torch returned for a batch is still held, beside the model and the batch."""

    def __init__(self, model: nn.Module, batch: Inputs) -> None:
        self._there = (*model.parameters(), *model.buffers(), *tensors_of(batch))
        self._kept = {t.untyped_storage().data_ptr() for t in self._there}
        self._seen: list[weakref.ref[Tensor]] = []
        self._most = self._steps = 0

    def see(self, result: Any) -> None:
        for tensor in float_tensors(result):
            if tensor.untyped_storage().data_ptr() not in self._kept:
                self._seen.append(weakref.ref(tensor))
                self._steps += tensor.numel()
        self._most = max(self._most, self._now())

    def take(self) -> tuple[int, int, int]:
        """Bytes now, bytes at most since the last call, and numbers returned from the beginning."""
        now = self._now()
        most, self._most = max(self._most, now), now
        return now, most, self._steps

    def _now(self) -> int:
        alive = [(ref, tensor) for ref in self._seen if (tensor := ref()) is not None]
        self._seen = [ref for ref, _ in alive]
        storages = (tensor.untyped_storage() for _, tensor in alive)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class Surroundings:
    """What torch holds for each thread, of the one that asks."""

    def __init__(self) -> None:
        self._autocast = [
            (kind, torch.get_autocast_dtype(kind))
            for kind in ("cpu", "cuda")
            if torch.is_autocast_enabled(kind)
        ]
        self._device = torch.get_default_device()
        self._cuda = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._inference = torch.is_inference_mode_enabled()

    @contextmanager
    def entered(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode() if self._inference else torch.no_grad())
            for kind, dtype in self._autocast:
                stack.enter_context(torch.autocast(kind, dtype))
            if self._device.type != "cpu":
                stack.enter_context(self._device)
            if self._cuda is not None:
                stack.enter_context(torch.cuda.device(self._cuda))
            yield
