"""The layers that have filters: convolutions, and linear layers where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.errors import InputError

Layer: TypeAlias = _ConvNd | nn.Linear


def all_convolutions(model: nn.Module) -> dict[str, _ConvNd]:
    """Every convolution by dotted name: of one to three dimensions, transposed ones included.

    Raises:
        InputError: there is none.
    """
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, _ConvNd)}
    if not convolutions:
        raise InputError(
            f"a {type(model).__name__} without convolutions",
            "at least one nn.Conv2d",
            "pruning removes convolution filters; pass a convolution net",
        )
    return convolutions


def prunable_layers(model: nn.Module, linear: Sequence[str] = ()) -> dict[str, Layer]:
    """Every convolution by dotted name, and the linear layers that match the globs, in the model's order.

    Raises:
        InputError: there is none, or a glob matches no linear layer.
    """
    every = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen: set[str] = set()
    for glob in [linear] if isinstance(linear, str) else linear:
        matching = {name for name in every if fnmatchcase(name, glob)}
        if not matching:
            some = f"try {', '.join(list(every)[:5])}" if every else "it has none: leave it out"
            raise InputError(f"linear = {glob!r}", "a glob that matches a linear layer", some)
        chosen |= matching
    if not chosen:
        return dict(all_convolutions(model))
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, _ConvNd) or (isinstance(m, nn.Linear) and name in chosen)
    }


def linear_layers(model: nn.Module, globs: Sequence[str]) -> list[str]:
    """The names of the linear layers that match the globs.

    Raises:
        InputError: as of `prunable_layers`.
    """
    return [n for n, m in prunable_layers(model, globs).items() if isinstance(m, nn.Linear)]


def width_of(layer: nn.Module | None) -> int | None:
    """Output channels of a convolution or a linear layer; None of anything else."""
    if isinstance(layer, _ConvNd):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else None
