"""The folds on float32 tensors of the CPU, each a single pass of the native engine.

A fold is many-to-one, so its derivative needs more than its result; keeping the input too would double
what a net keeps for backward. Here the result's lowest bit tells on which side of a turn the input lay
(native/folds.hpp): backward needs the result alone, which the next layer keeps anyway, as with ReLU.
The price is one unit in the last place of the result, and for `QFold` a derivative sqrt(1 - sin^2) that
is off by up to 1e-3 next to its zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unknot import _native
from unknot.core.errors import InputError

# Bound once: in a small net the checks are a sizeable part of an activation.
_threads = torch.get_num_threads
_recording = torch.is_grad_enabled
_transforms = torch._C._are_functorch_transforms_active
_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_batched = torch._C._functorch.is_legacy_batchedtensor  # of torch.autograd.grad(is_grads_batched=True)
_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._is_tracing
_compiling = torch.compiler.is_dynamo_compiling
_float32, _strided, _channels_last = torch.float32, torch.strided, torch.channels_last
_ONE_THREAD = 1 << 15  # elements; so torch does


def fits(x: Tensor) -> bool:
    """Whether ``x`` is a dense float32 tensor on the CPU, here and now, with nothing that looks on.

    Subclasses, transforms (vmap, grad, jvp), tracers and modes could not see the engine work.
    """
    return (
        type(x) is Tensor
        and x.is_cpu
        and x.dtype is _float32
        and not _compiling()
        and not _transforms()
        and not _modes()
        and not _tracing()
        and not _wrapped(x)
        and not x.is_neg()
        and x.layout is _strided
        and (x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=_channels_last)))
        and forward_ad._current_level < 0
    )


def _sides(y: Tensor) -> Tensor:
    """The bits that the engine left in a result, as booleans."""
    return (y.detach().view(torch.int32) & 1).bool()


def _fused(kernel: _native.Fold, derivative: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A fold as autograd knows it.

    Args:
        kernel: with the fold's numbers inside; sent through autograd they would cost as much as `fits`.
        derivative: of the fold, from its result; itself differentiable.
    """
    run, run_backward, empty_like = kernel.forward, kernel.backward, torch.empty_like

    class Fold(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y, n = empty_like(x), x.numel()
            run(x.data_ptr(), y.data_ptr(), n, _threads() if n > _ONE_THREAD else 1)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (y,) = ctx.saved_tensors
            if (
                _recording()  # a derivative of this derivative may follow
                or type(grad) is not Tensor
                or _transforms()
                or _modes()
                or _batched(grad)
                or grad.is_neg()
            ):
                return derivative(y) * grad
            out, n = empty_like(y), y.numel()
            # The strides are two tuples each time; most tensors need no look at them.
            if not (grad.is_contiguous() and y.is_contiguous()) and grad.stride() != y.stride():
                grad = empty_like(y).copy_(grad)
            threads = _threads() if n > _ONE_THREAD else 1
            run_backward(grad.data_ptr(), y.data_ptr(), out.data_ptr(), n, threads)
            return out

    # What autograd would call in its place only looks whether there is such a function.
    Fold._backward_cls.apply = Fold.backward  # type: ignore[attr-defined]
    # Function.apply only looks for transforms before it calls this; `fits` has looked.
    return super(torch.autograd.Function, Fold).apply


class _Steps(torch.autograd.Function):
    """The derivative of `_ZFold` from its result y: 1 or -slope, itself of derivative 0."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, slope: float) -> Tensor:
        return torch.where(_sides(y), -slope, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(grad), None


class _Cosine(torch.autograd.Function):
    """cos(w x - pi/4) of the result y of `qfold`; its derivative by y is -w sin / cos.

    The engine's backward then multiplies that by cos, which it computes in the same way, so that the two
    cancel to the last bits also next to a turn. From the fourth derivative on they no longer do.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, frequency: float, height: float, order: int) -> Tensor:
        ctx.save_for_backward(y)
        ctx.numbers = frequency, height, order
        sine = frequency * y - height
        magnitude = ((1 - sine) * (1 + sine)).clamp(min=1e-12).sqrt()
        return torch.where(_sides(y), -magnitude, magnitude)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (y,) = ctx.saved_tensors
        frequency, height, order = ctx.numbers
        if order == 3:
            raise InputError(
                "the fourth derivative of a QFold in float32", "at most the third", "compute in float64"
            )
        sine = frequency * y - height
        cosine = _cosine(y, frequency, height, order + 1)
        return grad * (-frequency * sine / cosine), None, None, None


_steps: Callable[[Tensor, float], Tensor] = _Steps.apply
_cosine: Callable[[Tensor, float, float, int], Tensor] = _Cosine.apply


@lru_cache(maxsize=256)
def zfold(slope: float, turn: float) -> Callable[[Tensor], Tensor]:
    """`unknot.activations.functions.zfold` of tensors that `fits`."""
    return _fused(_native.ZFold(slope, turn), lambda y: _steps(y, slope))


@lru_cache(maxsize=256)
def qfold(frequency: float, height: float) -> Callable[[Tensor], Tensor]:
    """`unknot.activations.functions.qfold` of tensors that `fits`: (sin(w x - pi/4) + height) / w."""
    return _fused(_native.QFold(frequency, height), lambda y: _cosine(y, frequency, height, 1))
