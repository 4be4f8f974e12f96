"""What a pruned model learns from the original's outputs: how far it is, and how it gets nearer.

In the line of Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015), and Ba and
Caruana, "Do deep nets really need to be deep?" (NeurIPS 2014), whose regression on logits this is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.core.memory import memory_limit
from unknot.nets.probe import Inputs, Probe, map_tensors
from unknot.nets.running import call_model, float_tensors, hooked, is_leaf, n_samples, placed

# Entries at most, of each tensor that a model returns, that are compared: of large maps, some cells.
COLUMNS = 2**14
AT_ONCE = 256  # samples at most
WARM_UP = 0.3  # of the steps
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Compared:
    """What is compared of all that two models return for a sample.

    Attributes:
        columns: of each tensor that holds a row a sample, its entries that are compared; None: all.
        weights: ``[d]`` of these entries of all tensors, so that the weighted squares add up to the mean
            over the tensors of their mean square error over the variance of the original's.
        scores: whether it is one tensor of class scores, as far as can be told without labels.
    """

    columns: tuple[Tensor | None, ...]
    weights: Tensor
    scores: bool = False

    def read(self, output: Any, n: int) -> Tensor:
        """These entries, ``[n, d]``, of what a model returned, in float32 at least."""
        parts = _rows(output, n)
        if len(parts) != len(self.columns):
            raise _unlike(f"{len(parts)} tensors a sample", f"{len(self.columns)}")
        parts = [p if c is None else p[:, c] for p, c in zip(parts, self.columns, strict=True)]
        rows = torch.cat([p.float() if p.dtype in HALVES else p for p in parts], dim=1)
        if rows.shape[1] != len(self.weights):
            raise _unlike(f"{rows.shape[1]} numbers a sample", f"{len(self.weights)}")
        return rows

    def outputs(self, model: nn.Module, inputs: Inputs, at_once: int) -> Tensor:
        """What ``model`` returns for all samples, ``[n, d]``, run in batches without gradients."""
        with torch.no_grad():
            batches = Probe(inputs).batches(at_once)
            return torch.cat(
                [self.read(call_model(model, placed(x, model)), n_samples(x)) for x in batches]
            )

    def error(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Mean square of the difference over the variance of the original's, a mean over tensors."""
        away = torch.where(self.weights > 0, outputs - wanted, 0.0)  # else an infinity of both is NaN
        return (away.square() * self.weights).sum(1).mean()

    def divergence(self, outputs: Tensor, wanted: Tensor) -> float:
        """KL(original || pruned) of class scores, in nats."""
        was, now = F.log_softmax(wanted.double(), 1), F.log_softmax(outputs.double(), 1)
        return float((was.exp() * (was - now)).sum(1).mean())


def compare_outputs(model: nn.Module, inputs: Inputs, at_once: int, seed: int) -> tuple[Compared, Tensor]:
    """What is to be compared, and what the original returns of it for all samples, ``[n, d]``."""
    two = map_tensors(inputs, lambda t: t[:2])
    parts = _rows(call_model(model, placed(two, model)), n_samples(two))
    generator = torch.Generator().manual_seed(seed)
    columns = tuple(
        torch.randperm(p.shape[1], generator=generator)[:COLUMNS].sort()[0].to(p.device)
        if p.shape[1] > COLUMNS
        else None
        for p in parts
    )
    widths = [min(p.shape[1], COLUMNS) for p in parts]
    compared = Compared(columns, parts[0].new_zeros(sum(widths), dtype=torch.float32))
    wanted = compared.outputs(model, inputs, at_once)
    weights = torch.cat([_weights(part) for part in torch.split(wanted, widths, dim=1)]) / len(widths)
    alone = parts[0].ndim == 2 and len(parts) == 1 and 2 <= parts[0].shape[1] <= COLUMNS
    return replace(compared, weights=weights, scores=alone and not _are_shares(wanted)), wanted


def _weights(wanted: Tensor) -> Tensor:
    """Of each column: nothing of what is constant, or no number."""
    finite = wanted.isfinite().all(0)
    values = wanted[:, finite]
    if not values.numel():
        return torch.zeros_like(wanted[0])
    variance = (values - values.mean(0)).square().mean()
    if not variance > 1e-12 * values.square().mean():
        return torch.zeros_like(wanted[0])
    return finite.to(wanted) / (variance * finite.sum())


def _are_shares(rows: Tensor) -> bool:
    """Whether they are probabilities, of which a softmax makes nothing that is meant."""
    return bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() < 1e-3).all())


def _rows(output: Any, n: int) -> list[Tensor]:
    """Each floating-point tensor of an output that has a row a sample, as ``[n, d]``."""
    parts = [t for t in float_tensors(output) if t.ndim and len(t) == n and t.numel()]
    if not parts:
        raise InputError(
            f"an output of type {type(output).__name__} without a row a sample",
            f"a tensor [{n}, ...], or a container of some, for {n} samples",
            "return one row a sample",
        )
    return [t if t.ndim == 2 else t.reshape(n, -1) for t in parts]


def _unlike(found: str, expected: str) -> InputError:
    return InputError(
        f"a pruned model that returns {found}", f"{expected}, as the original", "pass its own original"
    )


def samples_at_once(model: nn.Module, inputs: Inputs) -> int:
    """As many samples as a training step of the model leaves room for, by what its modules return."""
    sizes = [0]

    def see(_name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        sizes.extend(t.numel() * t.element_size() for t in float_tensors(output))

    two = map_tensors(inputs, lambda t: t[:2])
    with hooked({name: module for name, module in model.named_modules() if is_leaf(module)}, see):
        call_model(model, placed(two, model))
    needed = 3 * sum(sizes) / n_samples(two)  # values, their gradients, and what lies between modules
    return int(max(1, min(AT_ONCE, memory_limit() / 4 / max(needed, 1))))


@contextmanager
def learning(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The floating-point parameters, all learning, those of half precision in float32.

    Afterwards they have their type, place, gradients and flags as before, and the values of the end.
    """
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    buffers = [b for b in model.buffers() if b.dtype in HALVES]
    held = [(t, t.data, t.requires_grad, t.grad) for t in (*parameters, *buffers)]
    try:
        for tensor, data, _, _ in held:
            tensor.grad = None
            if tensor.dtype in HALVES:
                tensor.data = data.float()
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad(), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            yield parameters
    finally:
        for tensor, data, learns, gradient in held:
            if tensor.dtype != data.dtype:
                data.copy_(tensor.data)
                tensor.data = data
            tensor.requires_grad_(learns)
            tensor.grad = gradient


def one_cycle(steps: int) -> Callable[[int], float]:
    """The share of the learning rate at each step from 0 on: up, and then down to nothing."""
    rise = WARM_UP * steps

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rise) / (steps - rise)))

    return share
