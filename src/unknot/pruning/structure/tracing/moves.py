"""What operations that move entries do to labels: views, permutations, picks, pads; those of `parts`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unknot.pruning.structure.tracing.labels import Labels, aligned, moved, spans, viewed
from unknot.pruning.structure.tracing.parts import (
    Args,
    Kwargs,
    argument,
    cat,
    select,
    slice_,
    split,
    stack,
    unbind,
)
from unknot.pruning.structure.tracing.tracer import Rule, Tracer


def same(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
    """Each result has the entries of the first argument, at their places."""
    for result in out if isinstance(out, (tuple, list)) else [out]:
        if result.shape == args[0].shape:
            tracer.set(result, tracer.labels(args[0]))
        else:
            freeze_all(tracer, tracer.labels(args[0]), "it is laid out anew")


def turned(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """Flipped or rolled along some axes."""
    axes = {a % out.ndim for a in argument(func, args, kwargs, "dims")} or set(range(out.ndim))
    labels = []
    for factor in tracer.labels(args[0]):
        if spans(factor) & axes:
            tracer.freeze(factor, f"its channels change their order, in {tracer.module}")
        else:
            labels.append(factor)
    tracer.set(out, labels)


def view(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    old = args[0]
    if out.numel() == 0:
        freeze_all(tracer, tracer.labels(old), "an empty tensor is reshaped")
        return
    labels = [viewed(f, old.shape, out.shape) for f in tracer.labels(old)]
    for factor in labels:
        tracer.split(factor)
    tracer.set(out, labels)
    note_sizes(tracer, out)


def note_sizes(tracer: Tracer, out: Tensor) -> None:
    """The sizes of a result that the call was given as numbers of a module."""
    numbers = tracer.numbers.followed()
    for axis, size in enumerate(out.shape):
        factors = [f for f in tracer.labels(out) if f.shape[axis] > 1]
        if not factors:
            continue
        # By place where as many numbers were given as there are axes, else by value.
        near = numbers[axis : axis + 1] if len(numbers) == out.ndim else numbers
        for number in near:
            if number == size:
                for factor in factors:
                    tracer.size(number, factor, axis)


def permute(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    axes = [a % out.ndim for a in args[1]]
    tracer.set(out, [moved(f, axes) for f in tracer.labels(args[0])])


def transpose(tracer: Tracer, func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    axes = list(range(out.ndim))
    if out.ndim > 1:
        a, b = (args[1], args[2]) if len(args) > 2 else (0, 1)  # aten::t has none
        axes[a], axes[b] = axes[b], axes[a]
    tracer.set(out, [moved(f, axes) for f in tracer.labels(args[0])])


def reshaped_alike(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """Axes of size 1 come or go."""
    tracer.set(out, [viewed(f, args[0].shape, out.shape) for f in tracer.labels(args[0])])


def expand(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    old = args[0]
    grown = [
        axis
        for axis, size in enumerate(out.shape)
        if size > 1 and (axis < out.ndim - old.ndim or old.shape[axis - (out.ndim - old.ndim)] == 1)
    ]
    labels = [aligned(f, out.ndim) for f in tracer.labels(old)]
    tracer.set(out, [*labels, *tracer.fresh(out.shape, grown)])
    note_sizes(tracer, out)


def repeat(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    old, times = args[0], list(args[1])
    sizes = [1] * (out.ndim - old.ndim) + list(old.shape)
    grown = [a for a, n in enumerate(times) if n > 1 and sizes[a] == 1]
    labels = []
    for factor in tracer.labels(old):
        f = aligned(factor, out.ndim)
        labels.append(np.tile(f, [n if f.shape[a] > 1 else 1 for a, n in enumerate(times)]))
    tracer.set(out, [*labels, *tracer.fresh(out.shape, grown)])
    note_sizes(tracer, out)


def made(tracer: Tracer, _func: Any, _args: Args, _kwargs: Kwargs, out: Any) -> None:
    """A tensor of no other's values, whose size follows what it meets."""
    if isinstance(out, Tensor):
        tracer.set(out, tracer.fresh(out.shape))
        note_sizes(tracer, out)


def index(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """``x[i, j]`` with tensors: the axes picked from stay, others move."""
    old, indices = args[0], list(args[1])
    picked: list[int] = []
    places: list[int] = []  # of the result's axes: an axis of ``old``, -1 for those of the indices
    axis, first = 0, None
    shapes = []
    for i in indices:
        if i is None:
            places.append(axis)
            axis += 1
            continue
        n = i.ndim if i.dtype in (torch.bool, torch.uint8) else 1
        shapes.append((1,) if n > 1 or i.dtype == torch.bool else tuple(i.shape))
        picked += range(axis, axis + n)
        first = len(places) if first is None else first
        axis += n
    places += range(axis, old.ndim)
    together = picked == list(range(picked[0], picked[-1] + 1)) if picked else True
    new = max(map(len, shapes), default=0)
    at = (first or 0) if together else 0
    places[at:at] = [-1] * new
    labels = []
    for factor in tracer.labels(old):
        if spans(factor) & set(picked) or len(places) != out.ndim:
            tracer.freeze(factor, f"its channels are picked by number, in {tracer.module}")
        else:
            labels.append(moved(factor, places))
    tracer.set(out, labels)


def pad(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """Entries before and behind; they stay."""
    widths = list(args[1])
    labels = []
    for factor in tracer.labels(args[0]):
        around = [(0, 0)] * factor.ndim
        for i in range(0, len(widths), 2):
            axis = factor.ndim - 1 - i // 2
            if factor.shape[axis] > 1:
                around[axis] = (widths[i], widths[i + 1])
        if any(before < 0 or behind < 0 for before, behind in around):
            tracer.freeze(factor, f"it is cropped at a fixed place, in {tracer.module}")
        else:
            labels.append(np.pad(np.maximum(factor, 0) if any(map(any, around)) else factor, around))
    tracer.set(out, labels)


def spatial(first: int) -> Rule:
    """Operations whose result has the axes of the input, those from ``first`` on (negative) resized."""

    def rule(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
        results = out if isinstance(out, (tuple, list)) else [out]
        labels = []
        for factor in tracer.labels(args[0]):
            beyond = {axis for axis in spans(factor) if axis >= factor.ndim + first}
            if beyond == spans(factor):
                tracer.freeze(factor, f"its channels lie along a map, in {tracer.module}")
            else:
                labels.append(tracer.collapse(factor, beyond))
        for result in results:
            if isinstance(result, Tensor):
                tracer.set(result, labels)

    return rule


def pixel_shuffle(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    old, r = args[0], args[1]
    *lead, _c, _h, _w = old.shape
    n = len(lead)
    labels = []
    for factor in tracer.labels(old):
        if spans(factor) == {n}:
            parted = factor.reshape(*factor.shape[:n], -1, r * r, 1, 1)
            tracer.split(parted, [n])
            whole = tracer.collapse(parted, [n + 1])
            labels.append(whole.reshape(*factor.shape[:n], -1, 1, 1))
        else:
            tracer.freeze(factor, f"it is mixed with places of a map, in {tracer.module}")
    tracer.set(out, labels)


def channel_shuffle(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """The second axis in groups, of which each gives a channel in turn; they lose equally many."""
    labels = []
    for factor in tracer.labels(args[0]):
        if spans(factor) == {1}:
            parted = factor.reshape(args[1], -1)
            tracer.split(parted, [1])
            labels.append(parted.T.reshape(factor.shape))
        else:
            tracer.freeze(factor, f"it is mixed with places of a map, in {tracer.module}")
    tracer.set(out, labels)


def unfold(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """``[n, c, h, w] -> [n, c * taps, places]``."""
    taps = prod(args[1])
    labels = []
    for factor in tracer.labels(args[0]):
        if factor.ndim == 4 and spans(factor) == {1}:
            labels.append(np.repeat(factor, taps, axis=1).reshape(1, -1, 1))
        else:
            tracer.freeze(factor, f"it is mixed with places of a map, in {tracer.module}")
    tracer.set(out, labels)


def windows(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """Along one axis, each with its entries along a new last one."""
    axis = args[1] % args[0].ndim
    labels = []
    for factor in tracer.labels(args[0]):
        if axis in spans(factor):
            tracer.freeze(factor, f"its channels are put into windows, in {tracer.module}")
        else:
            labels.append(factor[..., None])
    tracer.set(out, labels)


def pixel_unshuffle(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    old, axis, squared = args[0], args[0].ndim - 3, args[1] ** 2
    labels = []
    for factor in tracer.labels(old):
        if any(a > axis for a in spans(factor)):
            tracer.freeze(factor, f"it is mixed with places of a map, in {tracer.module}")
        else:
            labels.append(factor.repeat(squared, axis) if axis in spans(factor) else factor)
    tracer.set(out, labels)


def freeze_all(tracer: Tracer, labels: Labels, why: str) -> None:
    for factor in labels:
        tracer.freeze(factor, f"{why}, in {tracer.module}")


_MOVES: dict[str, Rule] = {
    "view _unsafe_view reshape _reshape_alias unflatten flatten": view,
    "permute": permute,
    "transpose t numpy_T": transpose,
    "squeeze unsqueeze": reshaped_alike,
    "expand expand_as": expand,
    "repeat": repeat,
    "select": select,
    "unbind": unbind,
    "slice": slice_,
    "split split_with_sizes chunk split_with_sizes_copy": split,
    "cat": cat,
    "stack": stack,
    "index _unsafe_index": index,
    "constant_pad_nd": pad,
    "reflection_pad1d replication_pad1d upsample_nearest1d upsample_linear1d "
    "_upsample_nearest_exact1d max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d "
    "max_pool1d_with_indices": spatial(-1),
    "reflection_pad2d replication_pad2d avg_pool2d max_pool2d_with_indices max_pool2d "
    "_adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d "
    "upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "_upsample_nearest_exact2d grid_sampler_2d mkldnn_max_pool2d max_unpool2d": spatial(-2),
    "reflection_pad3d replication_pad3d avg_pool3d max_pool3d_with_indices _adaptive_avg_pool3d "
    "adaptive_avg_pool3d adaptive_max_pool3d upsample_nearest3d upsample_trilinear3d "
    "_upsample_nearest_exact3d": spatial(-3),
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "unfold": windows,
    "channel_shuffle native_channel_shuffle": channel_shuffle,
    "im2col": unfold,
    "clone detach alias _to_copy contiguous lift_fresh lift dropout native_dropout positive bernoulli "
    "as_strided tril triu": same,
    "flip roll": turned,
    "zeros ones empty full arange linspace rand randn randint zeros_like ones_like empty_like full_like "
    "rand_like randn_like randint_like new_zeros new_ones new_empty new_full scalar_tensor eye "
    "empty_strided new_empty_strided randperm": made,
}  # fmt: skip
MOVES: dict[str, Rule] = {
    f"aten::{name}": rule for names, rule in _MOVES.items() for name in names.split()
}
