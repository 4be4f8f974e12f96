"""Parity: how far an exported file is from its model, on fresh inputs at several batch sizes."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors

PARITY_SIZES = (1, 2, 7, 64)
TRACED = 3  # samples of the traced batch: sizes 0 and 1 would be taken for constants
CHANGE = "a forward that fixes the batch size must change"


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the model on one batch of fresh inputs.

    Attributes:
        batch_size: samples.
        difference: largest absolute difference of the outputs.
        relative: the same over the largest absolute output of the model.
    """

    batch_size: int
    difference: float
    relative: float


def parity_of(
    batch_size: int, expected: Sequence[Tensor], outputs: Sequence[Tensor], tolerance: float
) -> Parity:
    """The parity of two lists of outputs; those that are no fractions must be equal.

    What is NaN in both, in the same place, agrees: fresh inputs may lie outside of what a model is made
    for.

    Raises:
        InputError: other shapes or types, a difference above ``tolerance`` of the largest output, or
            nothing finite to compare.
    """
    shapes = [tuple(t.shape) for t in expected], [tuple(t.shape) for t in outputs]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"an export that returns shapes {shapes[1]} at batch {batch_size}",
            f"{shapes[0]} as the model",
            CHANGE,
        )
    types = [[str(t.dtype) for t in tensors] for tensors in (expected, outputs)]
    if types[0] != types[1]:
        raise InputError(
            f"an export that returns {', '.join(types[1])}", f"{', '.join(types[0])} as the model",
            "no file was written; it cannot be exported as it is",
        )  # fmt: skip
    gaps = [_gaps(a, b) for a, b in zip(expected, outputs, strict=True)]
    difference = _largest(gaps)
    fractions = [a for a in expected if a.is_floating_point() and a.numel()]
    if fractions and not any(bool(a.isfinite().any()) for a in fractions):
        raise InputError(
            f"a model that returns no finite number at batch {batch_size}",
            "outputs that can be compared",
            "check its weights, or pass an example of typical values",
        )
    largest = _largest([a.abs()[a.isfinite()] for a in fractions])
    relative = difference / largest if largest else difference
    if not relative <= tolerance:  # nor NaN
        raise InputError(
            f"an export that differs from torch by {relative:.2g} of the largest output at batch "
            f"{batch_size}",
            f"at most {tolerance:g}",
            "no file was written; raise tolerance only if you know where the difference comes from",
        )
    return Parity(batch_size, difference, relative)


def _gaps(a: Tensor, b: Tensor) -> Tensor:
    """Absolute differences; infinity where what is no fraction differs."""
    if not a.is_floating_point() and not a.is_complex():
        return torch.where(a == b, 0.0, torch.inf)
    equal = (a == b) | (a.isnan() & b.isnan())
    return torch.where(equal, 0.0, (a - b).abs().double())


def _largest(tensors: Sequence[Tensor]) -> float:
    """Over all of them, and NaN where there is one; 0 of none."""
    parts = [t.double().flatten() for t in tensors]
    return float(torch.cat(parts).max()) if sum(map(len, parts)) else 0.0


def fresh(example: Inputs, size: int, generator: torch.Generator) -> Inputs:
    """Random samples like those of the example, none of which it holds."""
    return map_tensors(example, lambda tensor: _like(tensor, size, generator))


def _like(example: Tensor, size: int, generator: torch.Generator) -> Tensor:
    shape = (size, *example.shape[1:])
    if not example.is_floating_point():
        low, high = (int(end) for end in (example.min(), example.max())) if example.numel() else (0, 0)
        return torch.randint(low, high + 1, shape, generator=generator).to(example.dtype)
    spread = float(example.float().std()) if example.numel() > 1 else 0.0
    noise = torch.randn(shape, generator=generator, dtype=example.dtype)
    return float(example.float().mean()) + (spread or 1.0) * noise


def first_line(error: BaseException) -> str:
    """The type and the first line of an error, at most 200 characters."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Without an exporter's progress, advice and deprecation warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
