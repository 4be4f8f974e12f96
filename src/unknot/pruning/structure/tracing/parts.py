"""What taking tensors apart and putting them together does to labels: slices, splits, joins, sums."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from unknot.pruning.structure.tracing.labels import (
    Factor,
    Labels,
    aligned,
    at_first,
    follows,
    moved,
    spans,
)
from unknot.pruning.structure.tracing.tracer import Tracer

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def argument(func: Any, args: Args, kwargs: Kwargs, name: str) -> Any:
    """An argument of an operation by the name that its schema has for it."""
    for i, declared in enumerate(func._schema.arguments):
        if declared.name == name:
            if i < len(args):
                return args[i]
            return kwargs.get(name, declared.default_value)
    raise KeyError(name)


def select(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    old = args[0]
    axis = argument(func, args, kwargs, "dim") % old.ndim
    index = argument(func, args, kwargs, "index") % old.shape[axis]
    tracer.set(out, _selected(tracer, tracer.labels(old), axis, index))


def unbind(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Sequence[Tensor]) -> None:
    old = args[0]
    axis = (args[1] if len(args) > 1 else 0) % old.ndim
    for index, part in enumerate(out):
        tracer.set(part, _selected(tracer, tracer.labels(old), axis, index))


def _selected(tracer: Tracer, labels: Labels, axis: int, index: int) -> list[Factor]:
    chosen = []
    for factor in labels:
        if spans(factor) == {axis}:
            tracer.freeze(factor, f"one of its channels is picked by its number, in {tracer.module}")
            continue
        part = factor.take([index if factor.shape[axis] > 1 else 0], axis)
        chosen.append(moved(part, [a for a in range(factor.ndim) if a != axis]))
    return chosen


def slice_(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    old = args[0]
    axis, start, end, step = (
        argument(func, args, kwargs, name) for name in ("dim", "start", "end", "step")
    )
    axis, size = axis % old.ndim, old.shape[axis % old.ndim]
    start, end, _ = slice(start, end).indices(size)
    labels = []
    for factor in tracer.labels(old):
        if factor.shape[axis] > 1 and out.shape[axis] < size:
            _part_of(tracer, factor, axis, start, end, step)
            labels.append(factor[(slice(None),) * axis + (slice(start, end, step),)])
        else:
            labels.append(factor)
    tracer.set(out, labels)


def _part_of(tracer: Tracer, factor: Factor, axis: int, start: int, end: int, step: int) -> None:
    """What makes a slice of channels remain the slice of those channels."""
    size, length = factor.shape[axis], end - start
    numbers = [n for n in tracer.numbers.followed() if type(n) is not int]
    bounds = [b for b in {start, end} if 0 < b < size]
    if step == 1 and bounds and all(any(int(n) == b for n in numbers) for b in bounds):
        for number in numbers:
            if int(number) in bounds:
                tracer.size(number, factor.take(range(int(number)), axis), axis)
    elif step > 1 and start < step and end == size and size % step == 0:
        parted = factor.reshape(*factor.shape[:axis], size // step, step, *factor.shape[axis + 1 :])
        tracer.split(parted, [a for a in range(parted.ndim) if a != axis + 1])
    elif step == 1 and length > 0 and size % length == 0 and start % length == 0:
        equal_parts(tracer, factor, axis, length)
    else:
        tracer.freeze(factor, f"it is sliced at a fixed place, in {tracer.module}")


def equal_parts(tracer: Tracer, factor: Factor, axis: int, length: int) -> None:
    """Parts of ``length`` along an axis lose equally many."""
    shape = list(factor.shape)
    shape[axis : axis + 1] = [shape[axis] // length, length]
    parted = factor.reshape(shape)
    if length > 1:
        tracer.split(parted, [a for a in range(parted.ndim) if a != axis])
    else:
        tracer.freeze(factor, f"it is split into single channels, in {tracer.module}")


def split(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Sequence[Tensor]) -> None:
    """Also with sizes: parts of equal size lose equally many, others by the sizes that a module holds."""
    old = args[0]
    axis = argument(func, args, kwargs, "dim") % old.ndim
    sizes = [part.shape[axis] for part in out]
    numbers = [n for n in tracer.numbers.followed() if type(n) is not int]
    ends = np.cumsum([0, *sizes])
    labels: list[list[Factor]] = [[] for _ in out]
    for factor in tracer.labels(old):
        if factor.shape[axis] == 1:
            for of_part in labels:
                of_part.append(factor)
            continue
        parts = [factor[(slice(None),) * axis + (slice(a, b),)] for a, b in pairwise(ends)]
        listed = len(numbers) == len(sizes) and list(map(int, numbers)) == sizes
        if listed and len(sizes) > 1:
            for number, part in zip(numbers, parts, strict=True):
                tracer.size(number, part, axis)
        elif len(set(sizes)) == 1:
            equal_parts(tracer, factor, axis, sizes[0])
            for number in numbers:
                if int(number) == sizes[0]:
                    tracer.size(number, parts[0], axis)
        elif len(sizes) > 1:
            tracer.freeze(factor, f"it is split into parts of fixed sizes, in {tracer.module}")
        for of_part, part in zip(labels, parts, strict=True):
            of_part.append(part)
    for part, factors in zip(out, labels, strict=True):
        tracer.set(part, factors)


def cat(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    # A tensor [0] may stand in a list with others, by an old custom.
    tensors = [t for t in args[0] if t.ndim == out.ndim and t.numel()]
    axis = argument(func, args, kwargs, "dim") % out.ndim
    along, across = [], []
    for tensor in tensors:
        factors = [f for f in tracer.labels(tensor) if f.shape[axis] > 1]
        across.append([f for f in tracer.labels(tensor) if f.shape[axis] == 1])
        strong = [f for f in factors if not follows(f)] or factors
        if id(tensor) in tracer.buffers:  # e.g. a bias of zeros between two that are learnt
            strong = [abs(f) for f in strong]
        for factor in strong[1:]:
            tracer.freeze(factor, f"it is joined with others, in {tracer.module}")
        along.append(strong[0] if strong else None)
    labels = merged(tracer, across, [t.shape for t in tensors], skip=axis)
    if any(f is not None for f in along):
        spanned = set().union(*(spans(f) for f in along if f is not None)) - {axis}
        parts = []
        for tensor, own in zip(tensors, along, strict=True):
            shape = [tensor.shape[a] if a in spanned or a == axis else 1 for a in range(out.ndim)]
            parts.append(np.broadcast_to(0 if own is None else own, shape))
        whole = np.concatenate(parts, axis)
        if (whole > 0).any():
            whole = np.maximum(whole, 0)
        tracer.split(whole)
        labels.append(whole)
    tracer.set(out, labels)


def stack(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    axis = argument(func, args, kwargs, "dim") % out.ndim
    labels = merged(tracer, [list(tracer.labels(t)) for t in args[0]], [t.shape for t in args[0]])
    tracer.set(out, [np.expand_dims(f, axis) for f in labels])


def merged(
    tracer: Tracer,
    labels: Sequence[Sequence[Factor]],
    shapes: Sequence[Sequence[int]],
    skip: int | None = None,
) -> list[Factor]:
    """The factors of tensors that are combined entry by entry; those that share an axis are tied.

    What has no label along an axis along which others have some keeps them all.
    """
    ndim = max(map(len, shapes), default=0)
    fitted = [[aligned(f, ndim) for f in factors] for factors in labels]
    result: list[Factor] = []
    followers: list[Factor] = []
    for factors in fitted:
        for factor in factors:
            if follows(factor):
                followers.append(factor)
                continue
            for i, other in enumerate(result):
                if spans(factor) & spans(other):
                    result[i] = _tied(tracer, other, factor)
                    break
            else:
                result.append(factor)
    for factors, shape in zip(fitted, shapes, strict=True):
        covered = set().union(*map(spans, factors)) if factors else set()
        for axis, size in enumerate((1,) * (ndim - len(shape)) + tuple(shape)):
            if size > 1 and axis not in covered and axis != skip:
                for factor in result:
                    if factor.shape[axis] > 1:
                        tracer.freeze(factor, f"it meets something of a fixed size, in {tracer.module}")
    return result + _loose(tracer, followers, result)


def _tied(tracer: Tracer, a: Factor, b: Factor) -> Factor:
    """One factor for two that share axes: over these alone where they differ in the others."""
    tracer.tie(a, b)
    if a.shape == b.shape:
        return np.where(a == 0, b, a) if (a == 0).any() else a
    return at_first(a, spans(a) - spans(b))


def _loose(tracer: Tracer, followers: Sequence[Factor], strong: Sequence[Factor]) -> list[Factor]:
    """Those followers that meet no factor; the others follow what they meet."""
    loose: list[Factor] = []
    for follower in followers:
        for other in [*strong, *loose]:
            if spans(follower) & spans(other):
                tracer.tie(follower, other)
                break
        else:
            loose.append(follower)
    return loose
