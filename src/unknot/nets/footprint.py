"""The memory that a forward pass takes beyond weights and input."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def peak_activation_bytes(model: nn.Module, example: Tensor) -> int:
    """The most that the tensors made during ``model(example)`` hold at one time, without gradients.

    On a GPU what the allocator reports, workspaces included. On the CPU every operation's results are
    followed until they are freed: the same number on every machine, but without what a kernel takes for
    itself, and with the fused folds counted as the operations that they stand for.
    """
    if example.is_cuda:
        torch.cuda.synchronize(example.device)
        torch.cuda.reset_peak_memory_stats(example.device)
        held = torch.cuda.memory_allocated(example.device)
        result = model(example)
        peak = int(torch.cuda.max_memory_allocated(example.device)) - held
        del result
        return peak
    known = [example, *model.parameters(), *model.buffers()]
    with _Following(t.untyped_storage() for t in known if t.layout is torch.strided) as following:
        model(example)
    return int(following.peak)


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, each until it is freed."""

    def __init__(self, known: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        # By address of the storage itself; an address is free again when its storage is dead.
        self.seen: dict[int, Any] = {storage._cdata: storage for storage in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor) and value.layout is torch.strided:
                self._see(value.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self.seen:
            return
        self.now += size

        def freed(_reference: Any) -> None:
            self.now -= size
            del self.seen[address]

        self.seen[address] = weakref.ref(storage, freed)
