"""What convolutions and matrix products, which weigh channels against each other, do to labels."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from unknot.pruning.structure.tracing.facts import Product
from unknot.pruning.structure.tracing.labels import Factor, follows, spans
from unknot.pruning.structure.tracing.parts import Args, Kwargs, merged
from unknot.pruning.structure.tracing.tracer import Tracer


def convolution(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    x, weight, bias, *_, transposed, _padding, groups = args[:9]
    incoming, passing = None, []
    for whole in tracer.labels(x):
        spanned = spans(whole)
        split = len(spanned) > 1 and spanned & {0, 1}  # heads or maps: they go whole
        factor = tracer.collapse(whole, spanned - {min(spanned)}) if split else whole
        spanned = spans(factor)
        if spanned == {1} and (incoming is None or follows(incoming)):
            incoming = factor.ravel()
        elif spanned == {0}:
            passing.append(factor)
        else:
            tracer.freeze(factor, f"its channels lie along a map, in {tracer.module}")
    rows, columns = (labels_along(tracer, weight, axis) for axis in (0, 1))
    for factor in tracer.labels(weight):
        if len(spans(factor)) > 1 or spans(factor) - {0, 1}:
            tracer.freeze(factor, f"it makes up the weights of {tracer.module}")
    entering = np.zeros(x.shape[1], np.int64) if incoming is None else incoming
    outgoing, taken = (columns, rows) if transposed else (rows, columns)
    work = [rows, columns]
    if groups == 1:
        tracer.tie(taken, entering)
    else:
        outgoing = _grouped(tracer, entering, rows, columns, groups, transposed=transposed)
        work = [entering, columns] if transposed else [outgoing, columns]
    if isinstance(bias, Tensor):
        tracer.tie(outgoing, labels_along(tracer, bias, 0))
    _note_layer(tracer, entering, outgoing)
    taps = prod(weight.shape[2:])
    macs = (x.numel() * weight.shape[1] if transposed else out.numel() * weight.shape[1]) * taps
    tracer.facts.products.append(Product(macs, tuple(work)))
    shape = [1, -1] + [1] * (out.ndim - 2)
    tracer.set(out, [outgoing.reshape(shape), *passing])


def _grouped(
    tracer: Tracer, entering: Factor, rows: Factor, columns: Factor, groups: int, *, transposed: bool
) -> Factor:
    """``[out]``: whole groups go, or equally many channels of each, whichever leaves the finer choice.

    ``rows`` and ``columns`` are of the weight; ``[in, out / groups]`` where it is transposed, else
    ``[out, in / groups]``.
    """
    entering = entering.reshape(groups, -1)
    width = len(columns) if transposed else len(rows) // groups  # of a group's outputs
    if 1 in (entering.shape[1], width) or groups > max(entering.shape[1], width):
        first = tracer.collapse(entering, [1])
        outgoing = np.broadcast_to(first, (groups, width))
        tracer.tie(rows.reshape(groups, -1), first)
        tracer.freeze(columns, f"whole groups go, in {tracer.module}")
        tracer.own_size("groups", entering, 0)
        return outgoing.ravel()
    if transposed:
        tracer.tie(entering, rows.reshape(groups, -1))
        tracer.split(entering, [1])
        outgoing = np.broadcast_to(columns, (groups, width))
    else:
        tracer.tie(entering, columns[None])
        outgoing = rows.reshape(groups, -1)
        tracer.split(outgoing, [1])
    return outgoing.ravel()


def labels_along(tracer: Tracer, tensor: Tensor, axis: int) -> Factor:
    """``[size]``: labels along one axis alone, those of parameters before those of buffers."""
    factors = [f.ravel() for f in tracer.labels(tensor) if spans(f) == {axis}]
    factors.sort(key=follows)
    return factors[0] if factors else np.zeros(tensor.shape[axis], np.int64)


def _note_layer(tracer: Tracer, entering: Factor, outgoing: Factor) -> None:
    """What a layer takes in, and what it gives where its module is not called for it."""
    name = tracer.consumer_of(outgoing)
    if name is not None:
        tracer.facts.inputs.setdefault(name, []).append(entering)
        if name != tracer.stack[-1][0] and name in tracer.layers:
            tracer.facts.outputs.setdefault(name, []).append(outgoing)


def product(tracer: Tracer, func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """``[b, n, k] @ [b, k, m]``, or without b, and something added to it."""
    adds = func._schema.name in ("aten::addmm", "aten::baddbmm", "aten::addmv", "aten::addbmm")
    a, b = args[1:3] if adds else args[:2]
    batched = a.ndim == 3
    names = [["b", "n", "k"], ["b", "k", "m"]] if batched else [["n", "k"], ["k", "m"]]
    names = [axes[: t.ndim] for axes, t in zip(names, (a, b), strict=True)]
    found: list[dict[str, Factor]] = []
    for tensor, axes in zip((a, b), names, strict=True):
        of_axis: dict[str, Factor] = {}
        for whole in sorted(tracer.labels(tensor), key=follows):
            spanned = spans(whole)
            if len(spanned) > 1:  # heads: they go whole
                left = {0} if batched and 0 in spanned else spanned - {axes.index("k")}
                factor = tracer.collapse(whole, spanned - left)
            else:
                factor = whole
            (along,) = spans(factor)
            if axes[along] not in of_axis:
                of_axis[axes[along]] = factor.ravel()
            else:
                tracer.tie(of_axis[axes[along]], factor.ravel())
        found.append(of_axis)
    shared = {}
    for axis in ["b", "k"] if batched else ["k"]:
        pair = [of_axis.get(axis) for of_axis in found]
        if any(f is not None for f in pair):
            size = next(f.size for f in pair if f is not None)
            one, other = (np.zeros(size, np.int64) if f is None else f for f in pair)
            tracer.tie(one, other)
            shared[axis] = min((one, other), key=lambda f: (not f.any(), follows(f)))
    of_result: dict[str, Factor | None] = {
        "b": shared.get("b"), "n": found[0].get("n"), "m": found[1].get("m")
    }  # fmt: skip
    labels = []
    places = ["b", "n", "m"] if batched else [x for x, t in (("n", a), ("m", b)) if t.ndim == 2]
    for place, axis in enumerate(places):
        resulting = of_result[axis]
        if resulting is not None:
            shape = [1] * len(places)
            shape[place] = -1
            labels.append(resulting.reshape(shape))
    factors = [
        *(f for f in of_result.values() if f is not None),
        *([shared["k"]] if "k" in shared else []),
    ]
    if not batched and b.ndim == 2:
        ends = [(found[0].get("k"), a.shape[-1]), (found[1].get("m"), b.shape[-1])]
        _note_layer(tracer, *(np.zeros(size, np.int64) if f is None else f for f, size in ends))
    tracer.facts.products.append(Product(out.numel() * a.shape[-1], tuple(factors)))
    if adds:
        added = args[0]
        labels = merged(tracer, [labels, tracer.labels(added)], [out.shape, added.shape])
    tracer.set(out, labels)
