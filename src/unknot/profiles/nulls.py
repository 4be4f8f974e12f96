"""What a net shows without training: copies of it with random weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unknot.nets.running import copied, plain_name


def random_copy(model: nn.Module, seed: int) -> tuple[nn.Module, list[str]]:
    """A copy of ``model`` with random weights: as its modules draw them, or its own in random order.

    Every module that has a method ``reset_parameters``, as those of torch do, is drawn anew by it, a
    module after its children; statistics of normalisations are as in a new net. Parameters that no such
    method has set, and the buffers of normalisations without one, have their entries permuted.

    Args:
        model: any module; it and the random state stay as they were.
        seed: of the weights.

    Returns:
        The copy, and the names of the parameters and buffers whose entries were permuted.

    Raises:
        InputError: an attribute that can be neither copied nor shared.
    """
    copy = copied(model)
    devices = {p.device for p in copy.parameters() if p.device.type == "cuda"}
    permuted: set[str] = set()
    drawn: set[int] = set()
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in reversed(list(copy.named_modules())):
            for key, tensor in _left_alone(module).items():
                if id(tensor) not in drawn:
                    flat = tensor.flatten()
                    tensor.copy_(flat[torch.randperm(len(flat), device=flat.device)].view_as(tensor))
                    permuted.add(f"{name}.{key}" if name else key)
            drawn |= {id(p) for p in module.parameters(recurse=False)}
    every = [*copy.named_parameters(remove_duplicate=False), *copy.named_buffers()]
    return copy, [plain_name(name) for name, _ in every if name in permuted]


def _left_alone(module: nn.Module) -> dict[str, Tensor]:
    """Draw the tensors of its own that a module has a way to draw; the others, with their values."""
    own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    before = {key: tensor.detach().clone() for key, tensor in own.items()}
    for tensor in own.values():
        if tensor.is_floating_point():
            tensor.fill_(math.nan)  # tells what is set from what is left
    reset = getattr(module, "reset_parameters", None)
    try:
        if callable(reset):
            reset()
    except Exception:  # a method of that name that is another, or takes arguments
        reset = None
    left = {
        key: tensor
        for key, tensor in own.items()
        if not (callable(reset) and tensor.is_floating_point() and bool(tensor.isfinite().all()))
    }
    for key, tensor in left.items():
        tensor.copy_(before[key])
    statistics = getattr(module, "reset_running_stats", None)
    if callable(statistics):
        statistics()
    elif not callable(reset) and "norm" in type(module).__name__.lower():
        left |= {k: b for k, b in module.named_buffers(recurse=False) if b.is_floating_point()}
    return left
