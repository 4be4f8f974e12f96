"""What a pruned net must compute, found by running the original one: independent of the package.

Removed channels are NaN where their layer returns them. Operations that treat channels one by one hand
it on. Where a convolution or a matrix product takes channels in, what is NaN is zero; what normalises,
averages or takes a softmax does so over what is left. Heads of an attention that are gone stay NaN until
a projection takes them in. NaN in the result means that removed channels reach the output.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
Convolutions = nn.modules.conv._ConvNd
Handler = Callable[..., Any]
HANDLERS: dict[Any, Handler] = {}


def masked_run(
    model: nn.Module, removed: Mapping[str, Iterable[int]], inputs: Any
) -> tuple[list[Tensor], set[str]]:
    """The floating-point tensors that ``model`` returns in eval mode, and by what it was normalised.

    Args:
        removed: {name: output channels}. A name is that of a layer that returns one tensor, of an
            ``nn.MultiheadAttention`` (rows of its projection in), or of a parameter (its rows).
        inputs: a tensor, or positional arguments as a tuple, or keyword ones as a dict.
    """
    model = copy.deepcopy(model).eval()
    modules = dict(model.named_modules())
    gone = {name: torch.tensor(sorted(channels)) for name, channels in removed.items()}
    gone = {name: channels for name, channels in gone.items() if len(channels)}
    called: set[str] = set()

    def mark(name: str, module: nn.Module, output: Tensor) -> Tensor:
        called.add(name)
        spatial = len(module.kernel_size) if isinstance(module, Convolutions) else 0
        return output.index_fill(output.ndim - 1 - spatial, gone[name], torch.nan)

    for name in gone:
        module = modules.get(name)
        if module is not None and not isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(lambda m, _, y, name=name: mark(name, m, y))
    outputs, normalised = _run(model, inputs)
    functional = gone.keys() - called  # weights that are used without a call of their layer
    if functional:
        with torch.no_grad():
            for name in functional:
                for rows in _rows(model, modules.get(name), name):
                    rows.index_fill_(0, gone[name], torch.nan)
        outputs, normalised = _run(model, inputs)
    return outputs, normalised


def call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def numbers(output: Any) -> list[Tensor]:
    """The floating-point tensors in whatever a model returns, in order."""
    if hasattr(output, "to_tuple"):  # of transformers, whose caches are no leaves
        output = output.to_tuple()
    return [t for t in tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]


def difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest of all outputs, each against the largest entry of what is expected."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(found, expected, strict=True)]
    if any(a.shape != b.shape or not bool(b.isfinite().all()) for a, b in pairs):
        return float("inf")
    errors = [float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs if b.numel()]
    return max((float("inf") if math.isnan(e) else e for e in errors), default=0.0)


def _rows(model: nn.Module, module: nn.Module | None, name: str) -> list[Tensor]:
    if isinstance(module, nn.MultiheadAttention):
        found = [module.in_proj_weight, module.in_proj_bias]
    elif module is not None:
        found = [module.weight, module.bias]
    else:
        found = [model.get_parameter(name)]
    return [t for t in found if t is not None]


def _run(model: nn.Module, inputs: Any) -> tuple[list[Tensor], set[str]]:
    # Both would compute a whole layer in one operation.
    mode, fast = _Marked(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    onednn, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        with (
            torch.random.fork_rng(devices=[]), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode,
        ):  # fmt: skip
            return [t.clone() for t in numbers(call(model, inputs))], mode.normalised
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.set_flags(_enabled=onednn)


class _Marked(TorchDispatchMode):
    """Takes NaN for a channel that is gone in the operations that look at several channels."""

    def __init__(self) -> None:
        super().__init__()
        self.normalised: set[str] = set()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func.overloadpacket)
        if handler is not None:
            leaves = [t for t in tree_leaves(args) if isinstance(t, Tensor) and t.is_floating_point()]
            if any(bool(t.isnan().any()) for t in leaves):
                found = handler(func, *args, **kwargs)
                if found is not None:
                    if handler in NORMALISE:
                        self.normalised.add(func.overloadpacket.__name__.removeprefix("native_"))
                    return found
        return func(*args, **kwargs)


def _of(*operations: str) -> Callable[[Handler], Handler]:
    """The handler of operations; it returns None where it has nothing to add."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update({getattr(aten, name): handler for name in operations if hasattr(aten, name)})
        return handler

    return register


@_of("convolution")
def _convolution(func: Any, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    """A channel that is NaN anywhere is zero everywhere; what takes in nothing else is NaN."""
    gone = x.isnan().transpose(0, 1).flatten(1).any(1)
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = func(x.masked_fill(gone.view(shape), 0.0), weight, *rest)
    groups = rest[-1]
    empty = gone.view(groups, -1).all(1).repeat_interleave(y.shape[1] // groups)
    return y.masked_fill(empty.view(shape), torch.nan)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``[..., n, k] @ [..., k, m]``: rows and columns that are NaN stay so, others of ``k`` are zero."""
    rows, columns = a.isnan().all(-1, keepdim=True), b.isnan().all(-2, keepdim=True)
    inner = (a.isnan() & ~rows).any(-2) | (b.isnan() & ~columns).any(-1)
    a = a.masked_fill(rows | inner.unsqueeze(-2), 0.0)
    b = b.masked_fill(columns | inner.unsqueeze(-1), 0.0)
    return (a @ b).masked_fill(rows | columns, torch.nan)


@_of("mm", "bmm")
def _matrix_product(_: Any, a: Tensor, b: Tensor) -> Tensor:
    return _product(a, b)


@_of("addmm", "baddbmm")
def _added_product(
    _: Any, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    product = alpha * _product(a, b)
    return product + beta * c if beta else product


@_of("mv", "dot")
def _vector_product(_: Any, a: Tensor, b: Tensor) -> Tensor:
    product = _product(a if a.ndim == 2 else a[None], b[:, None]).squeeze(-1)
    return product if a.ndim == 2 else product.squeeze(0)


def _centred(x: Tensor, gone: Tensor, dims: list[int], *, centre: bool = True) -> tuple[Tensor, Tensor]:
    """``x`` less its mean, and the mean of its square, over what is not gone."""
    count = (~gone).expand_as(x).sum(dims, keepdim=True)
    mean = x.masked_fill(gone, 0.0).sum(dims, keepdim=True) / count if centre else torch.zeros(())
    x = (x - mean).masked_fill(gone, 0.0)
    return x, x.square().sum(dims, keepdim=True) / count


def _last_gone(x: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
    """Of the last axes, and which places are gone as a whole (heads)."""
    nan, last = x.isnan(), list(range(x.ndim - ndim, x.ndim))
    whole = nan.all(last, keepdim=True) if last else nan  # type: ignore[call-overload]
    first = list(range(x.ndim - ndim))
    gone = (nan & ~whole).any(first, keepdim=True) if first else nan  # type: ignore[call-overload]
    return gone, whole


@_of("native_layer_norm")
def _layer_norm(
    _: Any, x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    gone, whole = _last_gone(x, len(shape))
    y, var = _centred(x, gone | whole, list(range(x.ndim - len(shape), x.ndim)))
    y = y / (var + eps).sqrt()
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).masked_fill(gone | whole, torch.nan)
    return y, var, var


@_of("_fused_rms_norm")
def _rms_norm(
    _: Any, x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    gone, whole = _last_gone(x, len(shape))
    y, square = _centred(x, gone | whole, list(range(x.ndim - len(shape), x.ndim)), centre=False)
    y = y / (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt()
    return (y if weight is None else y * weight).masked_fill(gone | whole, torch.nan), square


@_of("native_group_norm")
def _group_norm(
    _: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, places: int,
    groups: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    z = x.reshape(n, groups, c // groups, places)
    gone = z.isnan().any(3, keepdim=True).any(0, keepdim=True)
    y, var = _centred(z, gone, [2, 3])
    y = (y / (var + eps).sqrt()).masked_fill(gone, torch.nan).view(x.shape)
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape), var, var


def _partly(x: Tensor, dims: Any, keepdim: bool) -> tuple[list[int], Tensor | None]:
    """The axes of a reduction; where all is NaN, or None where no result is of some NaN and some not."""
    axes = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
    nan = x.isnan()
    whole = nan.all(axes, keepdim=keepdim)  # type: ignore[call-overload]
    return axes, whole if bool((nan.any(axes, keepdim=keepdim) & ~whole).any()) else None  # type: ignore[call-overload]


@_of("mean")
def _mean(_: Any, x: Tensor, dims: Any = None, keepdim: bool = False, **__: Any) -> Tensor | None:
    axes, whole = _partly(x, dims, keepdim)
    return None if whole is None else x.nanmean(axes, keepdim=keepdim)


@_of("sum")
def _sum(_: Any, x: Tensor, dims: Any = None, keepdim: bool = False, **__: Any) -> Tensor | None:
    axes, whole = _partly(x, dims, keepdim)
    return None if whole is None else x.nansum(axes, keepdim=keepdim).masked_fill(whole, torch.nan)


@_of("linalg_vector_norm")
def _norm(
    func: Any, x: Tensor, order: float = 2, dims: Any = None, keepdim: bool = False, **__: Any
) -> Any:
    axes, whole = _partly(x, dims, keepdim)
    return (
        None
        if whole is None
        else func(x.nan_to_num(0.0), order, axes, keepdim).masked_fill(whole, torch.nan)
    )


@_of("var", "std", "var_mean", "std_mean")
def _variance(
    func: Any, x: Tensor, dims: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> Any:
    axes, whole = _partly(x, dims, keepdim)
    if whole is None:
        return None
    count = (~x.isnan()).sum(axes, keepdim=True)
    _, var = _centred(x, x.isnan(), axes)
    var = var * count / (count - (1 if correction is None else correction))
    name, mean = func.overloadpacket.__name__, x.nanmean(axes, keepdim=keepdim)
    spread = var.sqrt() if name.startswith("std") else var
    spread = (spread if keepdim else spread.squeeze(axes)).masked_fill(whole, torch.nan)
    return (spread, mean) if name.endswith("mean") else spread


@_of("amax", "amin", "max", "min")
def _extreme(func: Any, x: Tensor, dims: Any = None, keepdim: bool = False) -> Any:
    if isinstance(dims, Tensor):
        return None  # of two tensors, entry by entry
    _, whole = _partly(x, dims, keepdim)
    if whole is None:
        return None
    low = "max" in func.overloadpacket.__name__
    x = x.nan_to_num(-torch.inf if low else torch.inf, torch.inf, -torch.inf)
    found = func(x, *(() if dims is None else (dims, keepdim)))
    if isinstance(found, Tensor):
        return found.masked_fill(whole, torch.nan)
    return found[0].masked_fill(whole, torch.nan), found[1]


@_of("_softmax", "_safe_softmax", "_log_softmax")
def _softmax(func: Any, x: Tensor, dim: int, *rest: Any) -> Tensor | None:
    _, whole = _partly(x, dim, True)
    if whole is None:
        return None
    y = func(x.masked_fill(x.isnan(), -torch.inf), dim, *rest)
    return y.masked_fill(x.isnan(), torch.nan)


@_of("cat")
def _appended(func: Any, tensors: list[Tensor], dim: int = 0) -> Tensor | None:
    """A class token, in front of channels that are gone, is gone there too."""
    parts = [t.isnan().all(dim, keepdim=True) for t in tensors if t.ndim == tensors[-1].ndim]
    parts = [p for p in parts if not bool(p.all())]
    if not any(bool(p.any()) for p in parts):
        return None
    return func(tensors, dim).masked_fill(torch.stack(parts).any(0), torch.nan)


@_of("constant_pad_nd")
def _padded(func: Any, x: Tensor, pad: list[int], value: float = 0) -> Tensor | None:
    """As are the margins of channels that are gone."""
    dims = [x.ndim - 1 - i // 2 for i in range(0, len(pad), 2) if pad[i] or pad[i + 1]]
    gone = x.isnan().all(dims, keepdim=True) if dims else None  # type: ignore[call-overload]
    if gone is None or bool(gone.all()):
        return None
    return func(x, pad, value).masked_fill(gone, torch.nan)


NORMALISE = (_layer_norm, _rms_norm, _group_norm, _mean, _norm, _variance, _softmax)
