"""The layers that have filters: convolutions, linear layers, and the values of attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.errors import InputError
from unknot.pruning.structure.attention import NarrowAttention

Layer: TypeAlias = nn.Module  # a convolution, or one that `is_linear` or `is_attention`


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, that of GPT-2 among them."""
    return isinstance(module, nn.Linear) or weighs_by_columns(module)


def weighs_by_columns(module: nn.Module) -> bool:
    """Whether it is the ``Conv1D`` of transformers: a linear layer whose weight is ``[in, out]``."""
    if type(module).__name__ != "Conv1D" or not hasattr(module, "nf"):
        return False
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 2


def is_attention(module: nn.Module | None) -> bool:
    """Whether it is a multi-head attention of torch, whose filters are the channels of its values.

    They are ``[heads x width of a head]``, in this order; what enters ``out_proj`` are its outputs.
    """
    return type(module) in (nn.MultiheadAttention, NarrowAttention)


def weight_and_bias(layer: Layer) -> tuple[Any, Any]:
    """What a layer weighs its inputs by; of an attention that of all three, None where they are apart."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.in_proj_weight, layer.in_proj_bias
    return layer.weight, layer.bias


def value_rows(attention: nn.Module) -> tuple[Tensor, int]:
    """The parameter whose last rows make an attention's values, and the first of these rows."""
    assert isinstance(attention, nn.MultiheadAttention)
    packed = attention.in_proj_weight
    weight: Any = attention.v_proj_weight if packed is None else packed
    return weight, len(weight) - attention.out_proj.in_features


def prunable_layers(model: nn.Module, linear: Sequence[str] | None = None) -> dict[str, Layer]:
    """Every convolution by dotted name, linear layers and attention among them, in the model's order.

    Args:
        model: with one or the other.
        linear: globs of the linear layers and of attention; None: all but the last layer of the model.

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
            "pass the whole model, or name linear layers, e.g. linear=['*'] or --linear '*'" if names else
            "pruning removes outputs of nn.Conv2d, nn.Linear and their kin; pass a net of these",
        )  # fmt: skip
    return found


def all_layers(model: nn.Module) -> dict[str, Layer]:
    """Every convolution, linear layer and attention by dotted name, in the model's order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd) or is_linear(module) or is_attention(module)
    }


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
    """Those of ``names`` that are linear layers or attention of the model."""
    layers = all_layers(model)
    return [name for name in names if name in layers and not isinstance(layers[name], _ConvNd)]


def width_of(layer: nn.Module | None) -> int | None:
    """Output channels of a layer or an embedding; None of anything else."""
    if isinstance(layer, _ConvNd):
        return layer.out_channels
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim
    if isinstance(layer, nn.MultiheadAttention) and is_attention(layer):
        return layer.out_proj.in_features
    if isinstance(layer, nn.Module) and weighs_by_columns(layer):
        return int(weight_and_bias(layer)[0].shape[1])
    return layer.out_features if isinstance(layer, nn.Linear) else None
