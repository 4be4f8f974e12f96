"""The layers that have filters: convolutions, and linear layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def prunable_layers(model: nn.Module, linear: Sequence[str] | None = None) -> dict[str, Layer]:
    """Every convolution by dotted name, and linear layers, in the model's order.

    Args:
        model: with one or the other.
        linear: globs of the linear layers; None: all but the last layer of the model.

    Raises:
        InputError: there is neither, or a glob matches no linear layer.
    """
    layers = all_layers(model)
    names = linear_among(model, layers)
    if linear is None:
        chosen = set(names) - set(list(layers)[-1:])
    else:
        chosen = set(match_globs("linear", linear, names, "linear layer"))
    found = {n: m for n, m in layers.items() if isinstance(m, _ConvNd) or n in chosen}
    if not found:
        kinds = "convolutions or inner linear layers" if linear is None else "convolutions"
        raise InputError(
            f"a {type(model).__name__} without {kinds}",
            "at least one layer whose outputs other layers take in",
            "pass the whole model, or name linear layers, e.g. linear=['*']" if names else
            "pruning removes outputs of nn.Conv2d, nn.Linear and their kin; pass a net of these",
        )  # fmt: skip
    return found


def all_layers(model: nn.Module) -> dict[str, Layer]:
    """Every convolution and linear layer by dotted name, in the model's order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}


def match_globs(option: str, globs: Sequence[str], names: Sequence[str], what: str) -> dict[str, str]:
    """{name: the last glob that it matches}.

    Raises:
        InputError: a glob matches none; ``option`` and ``what`` are for the message.
    """
    matching: dict[str, str] = {}
    globs = [globs] if isinstance(globs, str) else globs
    if not isinstance(globs, Iterable) or not all(isinstance(glob, str) for glob in globs):
        raise InputError(f"{option} = {globs!r}", f"globs of {what}s", f"pass e.g. {option}=['*']")
    for glob in globs:
        of_glob = [name for name in names if fnmatchcase(name, glob)]
        if not of_glob:
            remedy = f"try {', '.join(names[:5])}" if names else "it has none: leave it out"
            raise InputError(f"{option} = {glob!r}", f"a glob that matches a {what}", remedy)
        matching |= dict.fromkeys(of_glob, glob)
    return matching


def linear_layers(model: nn.Module, globs: Sequence[str] | None) -> list[str]:
    """The names of the linear layers that are pruned; arguments and errors as of `prunable_layers`."""
    return linear_among(model, prunable_layers(model, globs))


def linear_among(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are linear layers of the model."""
    modules = dict(model.named_modules())
    return [name for name in names if isinstance(modules.get(name), nn.Linear)]


def width_of(layer: nn.Module | None) -> int | None:
    """Output channels of a convolution or a linear layer; None of anything else."""
    if isinstance(layer, _ConvNd):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else None
