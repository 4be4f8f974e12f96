"""What a plan keeps of the batch that it was made with: enough to make another of its kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from unknot.core.errors import InputError
from unknot.core.memory import memory_limit
from unknot.nets.probe import Inputs

REMEDY = "plan again with this model"


def describe(example: Inputs) -> list[dict[str, Any]]:
    """For each tensor of a batch its keyword (None: positional), and shape and dtype of a sample."""
    named = example.items() if isinstance(example, dict) else [
        (None, t) for t in (example if isinstance(example, tuple) else (example,))
    ]  # fmt: skip
    return [
        {"name": name, "shape": list(t.shape[1:]), "dtype": str(t.dtype).removeprefix("torch.")}
        for name, t in named
    ]


def make(described: Sequence[dict[str, Any]], samples: int = 2) -> Inputs:
    """A batch of that kind: normal values, and ones where whole numbers are due.

    Raises:
        InputError: the description, read from a file, is none, or the batch would not fit into memory.
    """
    tensors = []
    for part in described:
        try:
            name, shape, dtype = part["name"], tuple(part["shape"]), getattr(torch, part["dtype"])
            whole = isinstance(dtype, torch.dtype) and all(type(s) is int and s >= 0 for s in shape)
        except (TypeError, KeyError, AttributeError):
            whole = False
        if not whole or 16 * math.prod(shape) * samples > memory_limit():
            raise InputError(
                f"plan for samples {part}",
                "shape and dtype of one sample, which fits into memory",
                REMEDY,
            )
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(samples, *shape, generator=generator)
        tensors.append(
            (name, values.to(dtype) if dtype.is_floating_point else torch.ones_like(values).to(dtype))
        )
    if not tensors or any((name is None) != (tensors[0][0] is None) for name, _ in tensors):
        raise InputError(f"plan for samples {list(described)}", "those of a batch", REMEDY)
    if tensors[0][0] is not None:
        return dict(tensors)
    return tensors[0][1] if len(tensors) == 1 else tuple(t for _, t in tensors)
