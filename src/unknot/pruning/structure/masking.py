"""What a pruned network must compute: the original with removed channels zeroed where they are consumed.

This is the yardstick of `pools`, so it shares nothing with the tracer. The removed filters return NaN,
which every operation that treats channels one by one hands on: sums, products, concatenations,
activations, pooling, normalisation with fixed statistics, depthwise convolutions, reshapes, whole heads
of an attention. Where it enters a product that weighs channels against each other, it becomes the zero
that it stands for; means, variances and norms over channels are those of the channels that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model, float_tensors, hooked, hooked_before
from unknot.pruning.structure.layers import is_attention, value_rows
from unknot.pruning.structure.surgery import weight_norms


@dataclass(frozen=True, eq=False)
class Run:
    """What a model computed.

    Attributes:
        outputs: the floating-point tensors that it returned.
        layers: {layer: what each of its calls returned, channels last}, in the order of the first calls.
    """

    outputs: list[Tensor]
    layers: dict[str, list[Tensor]]


def masked_outputs(
    model: nn.Module, removed: Mapping[str, Iterable[int]], inputs: Inputs
) -> list[Tensor]:
    """The floating-point tensors that ``model`` returns in eval mode without the ``removed`` channels.

    NaN in them means that removed channels reach the output, or an operation that mixes channels
    and for which nothing says what it would be without some.

    Args:
        removed: {dotted name of a convolution or linear layer: its output channels}.
        inputs: a batch, on the model's device.
    """
    return masked_run(model, removed, inputs, ()).outputs


def masked_run(
    model: nn.Module, removed: Mapping[str, Iterable[int]], inputs: Inputs, layers: Iterable[str]
) -> Run:
    """`masked_outputs` with what ``layers`` return on the way."""
    gone = {name: sorted(channels) for name, channels in removed.items()}
    modules = dict(model.named_modules())
    pruned = {name: module for name, module in modules.items() if gone.get(name)}
    weighing = {n: m for n, m in modules.items() if isinstance(m, (_ConvNd, nn.Linear))}
    recurrent = {n: m for n, m in modules.items() if isinstance(m, (nn.RNNBase, nn.RNNCellBase))}
    held: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def mark_weights(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        # Lest weights that are computed from others be normalised over columns that are gone.
        if args and isinstance(args[0], Tensor) and _computes_weights(module):
            held[name] = _mark_columns(module, _marked(args[0], _channel_axis(module, args[0])))

    def restore(name: str, _module: nn.Module, _args: Any, _output: Any) -> None:
        for parameter, values in held.pop(name, []):
            parameter.data.copy_(values)

    def mark(name: str, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        channels = torch.tensor(gone[name], device=output.device)
        return output.index_fill(_axis_made(module, args, output), channels, torch.nan)

    # Some modules use the parameters of layers that they do not call; attention has its values in others.
    rows = {m.weight: gone[n] for n, m in pruned.items() if isinstance(m, nn.Linear)}
    for name in [n for n, m in pruned.items() if is_attention(m)]:
        weight, first = value_rows(pruned.pop(name))
        rows[weight] = [first + channel for channel in gone[name]]

    def zero(_name: str, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not args or not isinstance(args[0], Tensor):
            return args
        x, *rest = args
        return (x.masked_fill(_marked(x, x.ndim - 1), 0.0), *rest)

    with (
        sdpa_kernel(SDPBackend.MATH),  # attention as the products and the softmax that it is made of
        hooked_before(weighing, mark_weights), hooked_before(recurrent, zero),
        hooked(weighing, restore), hooked(pruned, mark), _rows_marked(rows),
    ):  # fmt: skip
        return recorded_run(model, inputs, layers, _Masking())  # type: ignore[no-untyped-call]


def recorded_run(
    model: nn.Module, inputs: Inputs, layers: Iterable[str], mode: TorchDispatchMode | None = None
) -> Run:
    """What the model in eval mode returns, and its ``layers`` on the way."""
    chosen = set(layers)
    modules = {name: module for name, module in model.named_modules() if name in chosen}
    of_layer: dict[str, list[Tensor]] = {}

    def see(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            of_layer.setdefault(name, []).append(
                output.movedim(_axis_made(module, args, output), -1).clone()
            )

    with ExitStack() as stack:
        stack.enter_context(as_it_was(model))
        stack.enter_context(hooked(modules, see))
        if mode is not None:
            stack.enter_context(mode)
        outputs = [t.clone() for t in float_tensors(call_model(model, inputs))]
    return Run(outputs, of_layer)


@contextmanager
def _rows_marked(rows: Mapping[Tensor, list[int]]) -> Iterator[None]:
    held = {weight: weight.detach().clone() for weight in rows}
    try:
        for weight, numbers in rows.items():
            weight.data[numbers] = torch.nan
        yield
    finally:
        for weight, values in held.items():
            weight.data.copy_(values)


def _channel_axis(module: nn.Module, x: Tensor) -> int:
    """Of what enters a layer."""
    return max(0, x.ndim - 1 - (len(module.kernel_size) if isinstance(module, _ConvNd) else 0))


def _axis_made(module: nn.Module, args: Any, output: Tensor) -> int:
    """Of what leaves a layer; a convolution's own forward may have summed up places."""
    axis = _channel_axis(module, output)
    batched = not args or not isinstance(args[0], Tensor) or _channel_axis(module, args[0]) > 0
    return min(1, output.ndim - 1) if isinstance(module, _ConvNd) and batched else axis


def _marked(x: Tensor, axis: int) -> Tensor:
    """bool, ``x`` with all axes but one of size 1: channels with a mark anywhere."""
    # Padding and upsampling put unmarked values into marked channels, hence not entry by entry.
    others = [d for d in range(x.ndim) if d != axis]
    return x.isnan().any(dim=others, keepdim=True) if others else x.isnan()


def _computes_weights(module: nn.Module) -> bool:
    """Whether the weights that a layer uses may be another tensor than its parameter."""
    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    # A weight norm's lengths are scaled with what is left of its directions: the weights stay.
    plain = type(module) in known or getattr(module, "transposed", False)
    return not plain and not weight_norms(module)


def _mark_columns(module: nn.Module, marked: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mark those columns of the module's weights that weigh marked channels; gives what they held."""
    columns = marked.flatten()
    held: list[tuple[Tensor, Tensor]] = []
    for parameter in module.parameters():
        if parameter.ndim > 1 and parameter.shape[1] == len(columns) > 1 and bool(columns.any()):
            held.append((parameter, parameter.detach().clone()))
            parameter.data[:, columns] = torch.nan
    return held


class _Masking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations in which a mark stands for a channel that is not there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = _RULES.get(func._schema.name.removeprefix("aten::"))
        if rule is not None and any(map(_has_marks, tree_leaves(args))):
            return rule(func, *args, **kwargs)
        return func(*args, **kwargs)


def _has_marks(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any())


def _convolution(func: Any, x: Tensor, weight: Tensor, *rest: Any) -> Any:
    transposed, groups = rest[4], rest[6]
    alone = x.shape[1] == groups > 1  # each filter sees one channel, with which it goes
    if not alone:
        x = x.masked_fill(_marked(x, 1), 0.0)
        if groups == 1 and not transposed:
            weight = weight.masked_fill(_marked(weight, 1), 0.0)
    return func(x, weight, *rest)


def _product(func: Any, *args: Any, **kwargs: Any) -> Any:
    """``a @ b``: columns of a and rows of b that are marked in either are zero, unless all are."""
    *added, a, b = args[:3] if "add" in func._schema.name else args[:2]
    rest = args[len(added) + 2 :]
    if b.ndim < 2:
        return func(*args, **kwargs)
    # Rows of a and columns of b that are marked throughout hand their marks on, so heads that are gone.
    one, other = a.isnan(), b.isnan()
    gone = (one & ~one.all(-1, keepdim=True)).any(-2)  # [..., k]
    gone = gone | (other & ~other.all(-2, keepdim=True)).any(-1)
    a = a.masked_fill(gone.unsqueeze(-2), 0.0)
    b = b.masked_fill(gone.unsqueeze(-1), 0.0)
    return func(*added, a, b, *rest, **kwargs)


def _axes(x: Tensor, dim: Any) -> list[int]:
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(x.ndim))
    return [d % x.ndim for d in (dim if isinstance(dim, (list, tuple)) else [dim])]


def _left(x: Tensor, dim: Any, keep: bool, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``value(x with 0 for marks, how many are left)``, both over ``dim``; marked where none is."""
    axes = _axes(x, dim)
    count = (~x.isnan()).sum(axes, keepdim=True)
    result = value(x.nan_to_num(0.0), count).masked_fill(count == 0, torch.nan)
    return result if keep else result.squeeze(axes)


def _mean(_func: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    axes = _axes(x, dim)
    return _left(x, dim, keepdim, lambda v, n: v.sum(axes, keepdim=True) / n)


def _sum(_func: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    axes = _axes(x, dim)
    return _left(x, dim, keepdim, lambda v, _n: v.sum(axes, keepdim=True))


def _norm(
    func: Any, x: Tensor, order: float = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    axes = _axes(x, dim)
    if order != 2:
        return func(x, order, dim, keepdim)  # type: ignore[no-any-return]
    return _left(x, dim, keepdim, lambda v, _n: v.square().sum(axes, keepdim=True).sqrt())


def _moments(x: Tensor, dim: Any, correction: float) -> tuple[Tensor, Tensor]:
    """Mean and variance over ``dim`` of what is left, axes kept."""
    axes = _axes(x, dim)
    mean = _mean(None, x, dim, True)
    squares = (x - mean).square()
    variance = _left(squares, dim, True, lambda v, n: v.sum(axes, keepdim=True) / (n - correction))
    return mean, variance


def _variance(
    func: Any, x: Tensor, dim: Any = None, *, correction: Any = 1, keepdim: bool = False
) -> Any:
    mean, variance = _moments(x, dim, 1 if correction is None else correction)
    name = func._schema.name.removeprefix("aten::")
    spread = variance.sqrt() if name.startswith("std") else variance
    results = [spread, mean] if name.endswith("_mean") else [spread]
    results = results if keepdim else [t.squeeze(_axes(x, dim)) for t in results]
    return tuple(results) if len(results) > 1 else results[0]


def _layer_norm(_func: Any, x: Tensor, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    mean, variance = _moments(x, list(range(x.ndim - len(shape), x.ndim)), 0)
    scale = (variance + eps).rsqrt()
    y = (x - mean) * scale
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias), mean, scale


def _group_norm(_func: Any, x: Tensor, weight: Any, bias: Any, *rest: Any) -> Any:
    n, _, _, groups, eps = rest
    mean, variance = _moments(x.reshape(n, groups, -1), [2], 0)
    scale = (variance + eps).rsqrt()
    y = ((x.reshape(n, groups, -1) - mean) * scale).reshape(x.shape)
    return _affine(y, weight, bias), mean[..., 0], scale[..., 0]


def _batch_norm(func: Any, x: Tensor, weight: Any, bias: Any, *rest: Any) -> Any:
    """In training mode, of weights that are standardised."""
    training, eps = rest[2], rest[4]
    if not training:
        return func(x, weight, bias, *rest)
    mean, variance = _moments(x, [d for d in range(x.ndim) if d != 1], 0)
    scale = (variance + eps).rsqrt()
    return _affine((x - mean) * scale, weight, bias), mean.flatten(), scale.flatten()


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Times a weight and plus a bias of the second axis, where there are."""
    shape = [1, y.shape[1]] + [1] * (y.ndim - 2)
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _pad(func: Any, x: Tensor, widths: Any, *rest: Any) -> Any:
    """What is marked as far as the padded axes reach is marked beyond."""
    padded = func(x, widths, *rest)
    axes = [x.ndim - 1 - i for i in range(len(widths) // 2)]
    return padded.masked_fill(_every(x, axes), torch.nan)


def _cat(func: Any, tensors: list[Tensor], dim: int = 0) -> Any:
    """A channel that is gone from one part, e.g. from all patches, is gone from the others."""
    ndim, axis = tensors[0].ndim, dim % tensors[0].ndim
    for other in range(ndim):
        if other != axis and all(t.ndim == ndim and t.numel() for t in tensors):
            rest = [d for d in range(ndim) if d != other]
            gone = torch.stack([_every(t, rest) for t in tensors]).any(0)
            if not bool(gone.all()):
                tensors = [t.masked_fill(gone, torch.nan) for t in tensors]
    return func(tensors, dim)


def _every(x: Tensor, axes: list[int]) -> Tensor:
    """bool: where ``x`` is marked all along ``axes``, which are kept."""
    marked = x.isnan()
    for axis in axes:
        marked = marked.all(axis, keepdim=True)
    return marked


_RULES: dict[str, Callable[..., Any]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _product),
    "mean": _mean,
    "sum": _sum,
    "linalg_vector_norm": _norm,
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "constant_pad_nd": _pad,
    "cat": _cat,
}
