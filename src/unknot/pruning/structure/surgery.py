"""A smaller copy of a model: parameters and buffers without some indices, numbers that fit them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _WeightNorm

from unknot.nets.running import copied
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import weighs_by_columns


@dataclass(frozen=True, eq=False)
class Cut:
    """What one parameter or buffer loses.

    Attributes:
        name: dotted; one of several for a tensor that modules share.
        axes: {axis: the number of the unit that each index goes with, -1 for those that stay}.
        size: entries before.
        trainable: whether it is a parameter.
    """

    name: str
    axes: dict[int, NDArray[np.int64]]
    size: int
    trainable: bool


@dataclass(frozen=True, eq=False)
class NewSize:
    """A number in a module that counts what is left of a tensor along ``axis``; see `Size`."""

    module: str
    attribute: str
    position: int | None
    units: NDArray[np.int64]
    axis: int
    scale: Fraction

    def count(self, gone: NDArray[np.bool_]) -> int | None:
        """The number once the units in ``gone`` are; None where it would be none."""
        left = np.moveaxis(~gone[self.units], self.axis, 0)
        value = Fraction(int(left.reshape(len(left), -1).any(1).sum())) / self.scale
        return value.numerator if value.denominator == 1 else None


def cut(
    model: nn.Module, cuts: Iterable[Cut], sizes: Iterable[NewSize], gone: NDArray[np.bool_]
) -> nn.Module:
    """A copy of ``model`` without the units in ``gone``, bool ``[units + 1]``, the last False."""
    cuts = [c for c in cuts if any(gone[units].any() for units in c.axes.values())]
    owners = {c.name.rsplit(".", i)[0] for c in cuts for i in (1, 2)}  # also of an attention's projection
    slim = narrow_all(copied(model), owners)
    holders = _holders(slim)
    modules = dict(slim.named_modules())
    changed: set[str] = set()
    norms = {n: [_norm(*pair) for pair in weight_norms(m)] for n, m in modules.items()}
    directions = {id(v): (n, i) for n, m in modules.items() for i, (_, v) in enumerate(weight_norms(m))}
    with torch.no_grad():
        for lost in cuts:
            owner, _, key = lost.name.rpartition(".")
            tensor: Tensor = getattr(modules[owner], key)
            smaller = tensor.detach()
            for axis, units in lost.axes.items():
                stays = np.flatnonzero(~gone[units])
                if len(stays) < len(units):
                    kept = torch.from_numpy(stays).to(smaller.device)
                    smaller = smaller.index_select(axis, kept)
                    name, i = directions.get(id(tensor), ("", -1))
                    if i >= 0 and norms[name][i].shape[axis] > 1:
                        norms[name][i] = norms[name][i].index_select(axis, kept)
            if smaller.shape != tensor.shape:
                changed |= _put(holders[id(tensor)], tensor, smaller)
        for name, before in norms.items():  # so that the weights themselves stay
            for (length, direction), old in zip(weight_norms(modules[name]), before, strict=True):
                length.mul_((_norm(length, direction) / old).view_as(length))
    for size in sizes:
        value = size.count(gone)
        if value is not None and gone[size.units].any():
            _set_number(modules[size.module], size.attribute, size.position, value)
    for name in changed:
        _fit_numbers(modules[name])
    return slim


def weight_norms(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The lengths and directions that a module's weights are made of, where a weight norm makes them."""
    found: list[tuple[Tensor, Tensor]] = []
    steps: Any = getattr(module, "parametrizations", None)
    parametrized: Any
    for parametrized in steps.values() if isinstance(steps, nn.ModuleDict) else ():
        if any(isinstance(p, _WeightNorm) for p in parametrized):
            found.append((parametrized.original0, parametrized.original1))
    length, direction = (getattr(module, key, None) for key in ("weight_g", "weight_v"))
    if isinstance(length, Tensor) and isinstance(direction, Tensor):
        found.append((length, direction))
    return found


def _norm(length: Tensor, direction: Tensor) -> Tensor:
    """The norm of a direction along the axes along which it has one length; 1 in place of 0."""
    of_filters = length.ndim == direction.ndim  # else of all of it
    axes = [d for d, size in enumerate(length.shape) if size == 1] if of_filters else []
    norm: Tensor = torch.linalg.vector_norm(direction.detach(), dim=axes or None, keepdim=True)
    return norm.where(norm > 0, 1.0)


def _holders(model: nn.Module) -> dict[int, list[tuple[str, nn.Module, str]]]:
    """{id of a parameter or buffer: the modules that hold it, with its key there}."""
    holders: defaultdict[int, list[tuple[str, nn.Module, str]]] = defaultdict(list)
    for name, module in model.named_modules():
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    holders[id(tensor)].append((name, module, key))
    return holders


def _put(places: Iterable[tuple[str, nn.Module, str]], old: Tensor, new: Tensor) -> set[str]:
    """Put a tensor wherever ``old`` is held; gives the names of those modules."""
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    names = set()
    for name, module, key in places:
        setattr(module, key, new)
        names.add(name)
    return names


def _set_number(module: nn.Module, attribute: str, position: int | None, value: int) -> None:
    if position is None:
        setattr(module, attribute, value)
        return
    values = list(getattr(module, attribute))
    values[position] = value
    setattr(module, attribute, type(getattr(module, attribute))(values))


def _fit_numbers(module: nn.Module) -> None:
    """The numbers by which torch's layers describe themselves, as their tensors now are."""
    numbers: Mapping[str, Any] = {}
    weight = getattr(module, "weight_v", getattr(module, "weight", None))
    if isinstance(module, _NormBase):
        weight = weight if isinstance(weight, Tensor) else module.running_mean
        numbers = {"num_features": len(weight)} if isinstance(weight, Tensor) else {}
    elif not isinstance(weight, Tensor):
        return
    elif isinstance(module, _ConvNd):
        rows, columns = weight.shape[:2]
        wide = columns * module.groups
        ins, outs = (rows, wide) if module.transposed else (wide, rows)
        numbers = {"in_channels": ins, "out_channels": outs}
    elif isinstance(module, nn.Linear):
        numbers = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    elif weighs_by_columns(module):
        numbers = {"nx": weight.shape[0], "nf": weight.shape[1]}
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        numbers = {"normalized_shape": tuple(weight.shape)}
    elif isinstance(module, nn.GroupNorm):
        numbers = {"num_channels": len(weight)}
    elif isinstance(module, nn.PReLU):
        numbers = {"num_parameters": weight.numel()}
    elif isinstance(module, nn.Embedding):
        numbers = {"num_embeddings": weight.shape[0], "embedding_dim": weight.shape[1]}
    for name, value in numbers.items():
        setattr(module, name, value)
