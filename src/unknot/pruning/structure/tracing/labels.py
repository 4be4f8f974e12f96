"""Labels: which channels the entries of a tensor belong to.

An *atom* is one index of one axis of a parameter, the smallest thing that can be cut away. A *factor* is
an integer array that spreads over a tensor by broadcasting: along an axis that it spans, each entry is
labelled with the atom that it goes with. Convolutions give tensors one factor ``[1, c, 1, 1]``; a view
that splits channels into heads turns it into ``[1, h, d, 1, 1]``, a flattening into ``[1, c * h * w]``.

Atoms are positive. 0 labels entries that stay. Negative atoms are indices of buffers, which follow what
they meet but hold nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Factor: TypeAlias = NDArray[np.int64]
Labels: TypeAlias = tuple[Factor, ...]


def spans(factor: Factor) -> set[int]:
    """The axes along which a factor's labels differ."""
    return {d for d, size in enumerate(factor.shape) if size > 1}


def follows(factor: Factor) -> bool:
    """Whether its atoms are of buffers."""
    return bool((factor < 0).any())


def at_first(factor: Factor, axes: Iterable[int]) -> Factor:
    """The factor at the first index of ``axes``, which stay with size 1."""
    index = [slice(None)] * factor.ndim
    for axis in axes:
        index[axis] = slice(0, 1)
    return factor[tuple(index)]


def aligned(factor: Factor, ndim: int) -> Factor:
    """With axes of size 1 put in front, as broadcasting does."""
    return factor.reshape((1,) * (ndim - factor.ndim) + factor.shape)


def moved(factor: Factor, axes: Sequence[int]) -> Factor:
    """Axis ``axes[i]`` becomes axis i; -1 stands for a new axis of size 1, missing ones are of size 1."""
    kept = [a for a in axes if a >= 0]
    rest = [a for a in range(factor.ndim) if a not in kept]
    shape = [factor.shape[a] if a >= 0 else 1 for a in axes]
    turned: Factor = factor.transpose(kept + rest).reshape(shape)
    return turned


def viewed(factor: Factor, old: Sequence[int], new: Sequence[int]) -> Factor:
    """The factor of a tensor of shape ``old`` once it is viewed as ``new``, both of the same size."""
    middle: list[int] = []  # the factor, spread over those groups of axes that it must be spread over
    target: list[int] = []
    for old_axes, new_axes in _groups(old, new):
        sizes = [factor.shape[a] for a in old_axes]
        if all(size == 1 for size in sizes):
            middle += sizes
            target += [1] * len(new_axes)
        else:
            middle += [old[a] for a in old_axes]
            target += [new[a] for a in new_axes]
    return squeezed(np.broadcast_to(factor, middle).reshape(target))


def squeezed(factor: Factor) -> Factor:
    """Of size 1 along the axes along which all labels are the same."""
    for axis in spans(factor):
        first = at_first(factor, [axis])
        if (factor == first).all():
            factor = first
    return factor


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes of the two shapes that hold equally many entries."""
    i = j = 0
    while i < len(old) or j < len(new):
        rows, columns = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(rows), j + len(columns)
        # An axis of size 1 on one side alone is a group of its own.
        if rows and columns and old[rows[0]] != new[columns[0]]:
            if old[rows[0]] == 1:
                columns, j = [], j - 1
            elif new[columns[0]] == 1:
                rows, i = [], i - 1
        while rows and columns and (a := _size(old, rows)) != (b := _size(new, columns)):
            if a < b:
                rows.append(i)
                i += 1
            else:
                columns.append(j)
                j += 1
        yield rows, columns


def _size(shape: Sequence[int], axes: Iterable[int]) -> int:
    return prod(shape[a] for a in axes)
