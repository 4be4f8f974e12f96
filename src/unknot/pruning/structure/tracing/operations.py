"""What operations that compute do to labels: entry by entry, sums, normalisations, `products`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from unknot.nets.running import float_tensors
from unknot.pruning.structure.tracing.facts import Product
from unknot.pruning.structure.tracing.labels import follows, moved, spans
from unknot.pruning.structure.tracing.moves import MOVES, freeze_all, same
from unknot.pruning.structure.tracing.parts import Args, Kwargs, argument, equal_parts, merged
from unknot.pruning.structure.tracing.products import convolution, labels_along, product
from unknot.pruning.structure.tracing.tracer import Rule, Tracer


def pointwise(tracer: Tracer, _func: Any, args: Args, kwargs: Kwargs, out: Any) -> None:
    tensors = [t for t in tree_leaves([args, kwargs]) if isinstance(t, Tensor) and t.ndim]
    labels = merged(tracer, [tracer.labels(t) for t in tensors], [t.shape for t in tensors])
    for result in out if isinstance(out, (tuple, list)) else [out]:
        if isinstance(result, Tensor) and result.ndim:
            tracer.set(result, labels)


def gated(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """Its first half times the sigmoid of the second."""
    axis = argument(func, args, kwargs, "dim") % out.ndim
    labels = []
    for factor in tracer.labels(args[0]):
        if factor.shape[axis] > 1:
            equal_parts(tracer, factor, axis, out.shape[axis])
            half, gate = np.split(factor, 2, axis)
            tracer.tie(half, gate)
            labels.append(half)
        else:
            labels.append(factor)
    tracer.set(out, labels)


def written(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """``copy_``: one tensor takes the values of another, which it may be a part of a third for."""
    target, source = args[0], args[1]
    if tracer.labels(target) and not all(map(follows, tracer.labels(target))):
        pointwise(tracer, func, (target, source), {}, out)
    elif target._is_view():
        freeze_all(tracer, tracer.labels(source), "it is written into a part of another tensor")
    elif source.shape == target.shape:
        tracer.set(target, tracer.labels(source))
    else:
        freeze_all(tracer, tracer.labels(source), "it is written into another tensor")


def unknown(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Nothing is known: what enters stays."""
    name = func._schema.name.removeprefix("aten::")
    for tensor in tree_leaves([args, kwargs]):
        if isinstance(tensor, Tensor):
            freeze_all(tracer, tracer.labels(tensor), f"the operation {name} is not followed")
    for tensor in tree_leaves(out):
        if isinstance(tensor, Tensor):
            tracer.set(tensor, ())


def reduction(what: str) -> Rule:
    """Over some axes or all: a "sum", a "mean" over what is left, or one for which channels "stay"."""

    def rule(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Any) -> None:
        x = args[0]
        try:
            given = argument(func, args, kwargs, "dim")
        except KeyError:
            given = None
        every = given is None or (isinstance(given, (list, tuple)) and not given)
        axes = set(range(x.ndim)) if every else {a % x.ndim for a in _listed(given)}
        for result in out if isinstance(out, (tuple, list)) else [out]:
            keeps = isinstance(result, Tensor) and result.ndim == x.ndim
        labels = []
        for factor in tracer.labels(x):
            over = spans(factor) & axes
            if over == spans(factor):
                if what == "stay":
                    why = f"{func._schema.name.removeprefix('aten::')} is taken over its channels"
                    tracer.freeze(factor, f"{why}, in {tracer.module}")
                elif what == "mean":
                    tracer.facts.normalised.append((factor.ravel(), tracer.module))
                continue
            rest = tracer.collapse(factor, over)
            labels.append(rest if keeps else moved(rest, [a for a in range(x.ndim) if a not in axes]))
        for result in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(result, Tensor) and result.ndim:
                tracer.set(result, labels)

    return rule


def along(what: str) -> Rule:
    """Entries of one axis weighed against each other, the shape kept: softmax, sorting, sums so far."""

    def rule(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Any) -> None:
        x = args[0]
        axis = argument(func, args, kwargs, "dim") % max(x.ndim, 1)
        labels = []
        for factor in tracer.labels(x):
            if spans(factor) == {axis}:
                tracer.freeze(factor, f"{what} is taken over its channels, in {tracer.module}")
            else:
                labels.append(tracer.collapse(factor, spans(factor) & {axis}))
        for result in out if isinstance(out, (tuple, list)) else [out]:
            tracer.set(result, labels)

    return rule


def _listed(axes: Any) -> Sequence[int]:
    return axes if isinstance(axes, (list, tuple)) else [axes]


# --- normalisations


def batch_norm(tracer: Tracer, func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
    """Each channel, the second axis, by itself."""
    x = args[0]
    result = out[0] if isinstance(out, (tuple, list)) else out
    shape = [1, -1] + [1] * (x.ndim - 2)
    own = [t for t in args[1:5] if isinstance(t, Tensor) and t.shape == x.shape[1:2]]
    columns = [[f.reshape(shape)] for t in own for f in tracer.labels(t)]  # of one axis each
    shapes = [x.shape, *[(x.shape[1], *shape[2:])] * len(columns)]
    labels = merged(tracer, [tracer.labels(x), *columns], shapes)
    for factor in labels:  # of weights that are standardised: over the input channels that are left
        if spans(factor) - {1} and not follows(factor):
            tracer.facts.normalised.append((factor.ravel(), tracer.module))
    tracer.set(result, labels)


def layer_norm(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
    """The last axes together: over what is left of them."""
    x, shape = args[0], list(args[1])
    result = out[0] if isinstance(out, (tuple, list)) else out
    first = x.ndim - len(shape)
    own = [t for t in args[2:4] if isinstance(t, Tensor)]
    labels = merged(
        tracer, [tracer.labels(x), *map(tracer.labels, own)], [x.shape, *(t.shape for t in own)]
    )
    for factor in labels:
        over = {a for a in spans(factor) if a >= first}
        if over and not follows(factor):
            if over != spans(factor):
                tracer.freeze(factor, f"it is normalised in a shape not followed, in {tracer.module}")
            tracer.facts.normalised.append((factor.ravel(), tracer.module))
            for axis in over:
                if isinstance(tracer.stack[-1][1], nn.LayerNorm):
                    tracer.own_size("normalized_shape", factor, axis, axis - first)
    tracer.set(result, labels)


def group_norm(tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Groups go whole, one group of all channels over what is left of it."""
    x = args[0]
    groups = int(argument(func, args, kwargs, "group"))
    own = [t for t in args[1:3] if isinstance(t, Tensor)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    labels = merged(
        tracer,
        [tracer.labels(x), *([f.reshape(shape) for f in tracer.labels(t)] for t in own)],
        [x.shape] + [(x.shape[1], *shape[2:])] * len(own),
    )
    for factor in labels:
        if 1 in spans(factor) and not follows(factor):
            if spans(factor) != {1}:
                tracer.freeze(factor, f"it is normalised in a shape not followed, in {tracer.module}")
            elif groups == 1:
                tracer.facts.normalised.append((factor.ravel(), tracer.module))
            else:
                parted = factor.reshape(groups, -1)
                tracer.split(parted, [0])
                tracer.collapse(parted, [1])
                if isinstance(tracer.stack[-1][1], nn.GroupNorm):
                    tracer.own_size("num_groups", parted, 0)
                    tracer.own_size("num_channels", factor, 1)
                for number in tracer.numbers.followed():
                    if number == groups:
                        tracer.size(number, parted, 0)
    tracer.set(out[0], labels)


def weight_norm(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
    """``g * v / |v|``, the norm over all axes of v but one."""
    v, g = args[0], args[1]
    tracer.set(out[0], merged(tracer, [tracer.labels(v), tracer.labels(g)], [v.shape, g.shape]))


# --- the others


def embedding(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    """Rows of a table ``[rows, d]``, by number."""
    labels = []
    for factor in tracer.labels(args[0]):
        if spans(factor) == {1}:
            labels.append(factor.reshape([1] * (out.ndim - 1) + [-1]))
        else:
            tracer.freeze(factor, f"its rows are picked by number, in {tracer.module}")
    tracer.set(out, labels)


def index_select(tracer: Tracer, _func: Any, args: Args, _kwargs: Kwargs, out: Tensor) -> None:
    axis = args[1] % args[0].ndim
    labels = []
    for factor in tracer.labels(args[0]):
        if axis in spans(factor):
            tracer.freeze(factor, f"its channels are picked by number, in {tracer.module}")
        else:
            labels.append(factor)
    tracer.set(out, labels)


def opaque(tracer: Tracer, func: Any, args: Args, _kwargs: Kwargs, out: Any) -> None:
    """A module taken as a whole. Recurrent layers can take in fewer channels; all else stays."""
    tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
    name = tracer.stack[-1][0]
    if isinstance(func, (nn.RNNBase, nn.RNNCellBase)) and tensors:
        x, *states = tensors
        entering = labels_along(tracer, x, x.ndim - 1)
        for factor in tracer.labels(x):
            if spans(factor) != {x.ndim - 1}:
                tracer.freeze(factor, f"it is what {name} runs along")
        for weight_name, weight in func.named_parameters():
            takes_in = weight_name in _FIRST_WEIGHTS
            if takes_in:
                tracer.tie(labels_along(tracer, weight, 1), entering)
            if weight.ndim == 2:
                macs = x.numel() // x.shape[-1] * weight.numel()
                tracer.facts.products.append(Product(macs, (entering,) if takes_in else ()))
        tracer.own_size("input_size", entering.reshape(1, -1), 1)
        tensors = states
    for tensor in tensors:
        freeze_all(tracer, tracer.labels(tensor), f"{name} is not looked into")
    for tensor in float_tensors(out):
        tracer.set(tensor, ())


_FIRST_WEIGHTS = ("weight_ih_l0", "weight_ih_l0_reverse", "weight_ih")


def is_output(tracer: Tracer, output: Any, why: str) -> None:
    """What a model returns stays."""
    for tensor in float_tensors(output):
        for factor in tracer.labels(tensor):
            tracer.freeze(factor, why)


_OPERATIONS: dict[str, Rule] = {
    "hardswish hardsigmoid softplus leaky_relu elu gelu mish log_sigmoid_forward rrelu_with_noise "
    "where masked_fill lerp native_dropout addcmul hardtanh silu _prelu_kernel prelu": pointwise,
    "zero fill uniform normal random bernoulli exponential": same,
    "glu": gated,
    "copy": written,
    "sum nansum linalg_vector_norm norm": reduction("sum"),
    "mean nanmean var std var_mean std_mean": reduction("mean"),
    "amax amin max min argmax argmin prod all any logsumexp median": reduction("stay"),
    "_softmax _safe_softmax softmax _log_softmax log_softmax": along("softmax"),
    "cumsum cumprod sort topk argsort": along("an order or running sum"),
    "convolution _convolution mkldnn_convolution": convolution,
    "mm addmm bmm baddbmm mv": product,
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm miopen_batch_norm batch_norm _batch_norm_impl_index "
    "_batch_norm_with_update": batch_norm,
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
    "_weight_norm_interface": weight_norm,
    "embedding": embedding,
    "index_select": index_select,
    "size stride sym_size numel is_same_size _local_scalar_dense equal is_nonzero item": lambda *_: None,
}
RULES: dict[str, Rule] = {
    **MOVES,
    **{f"aten::{name}": rule for names, rule in _OPERATIONS.items() for name in names.split()},
    "pointwise": pointwise,
    "unknown": unknown,
    "module": opaque,
}
