"""Every fold as a function: its derivatives, and the ways in which PyTorch runs it."""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from unknot.activations import fused
from unknot.activations.folds import (
    CentredAbs,
    CentredReLU,
    HeldFlat,
    QFold,
    SmoothZFold,
    TriangleWave,
    ZFold,
)
from unknot.activations.functions import qfold, zfold
from unknot.core.errors import InputError
from unknot.nets.models import mlp

FOLDS: dict[str, Callable[[], nn.Module]] = {
    "zfold": ZFold,
    "zfold, milder": lambda: ZFold(0.5, 2.0),
    "zfold, learnable": lambda: ZFold(learnable=True),
    "zfold, channels": lambda: ZFold(learnable=True, channels=3),
    "smooth_zfold": SmoothZFold,
    "smooth_zfold, channels": lambda: SmoothZFold(0.7, 1.3, learnable=True, channels=3),
    "qfold": QFold,
    "qfold, 2": lambda: QFold(2.0),
    "qfold, centred": lambda: QFold(1.3, centred=True),
    "centred_abs": CentredAbs,
    "centred_relu": CentredReLU,
    "triangle_wave": lambda: TriangleWave(1.5),
    "held zfold": lambda: HeldFlat(ZFold()),
    "held qfold": lambda: HeldFlat(QFold()),
    "held smooth_zfold": lambda: HeldFlat(SmoothZFold()),
}
every_fold = pytest.mark.parametrize("new", FOLDS.values(), ids=FOLDS)
# Away from every kink of the folds above.
POINTS = torch.tensor([-5.3, -3.4, -2.2, -1.2, -0.4, 0.3, 0.8, 1.2, 2.7, 3.9, 5.2, 7.1])


def needed(name: str) -> Any:
    """This module; a skip where it is missing, a failure where nothing may skip."""
    if os.environ.get("UNKNOT_REQUIRE_ALL") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def batch(dtype: torch.dtype = torch.float32) -> Tensor:
    """[2, 3, 2] of points without kinks."""
    return POINTS.to(dtype).view(2, 3, 2)


@every_fold
def test_first_and_second_derivatives(new: Callable[[], nn.Module]) -> None:
    fold = new().double()
    x = batch(torch.float64).requires_grad_()
    names, values = zip(*fold.named_parameters(), strict=True) if list(fold.parameters()) else ((), ())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(fold, dict(zip(names, values, strict=True)), x)  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@every_fold
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_values_are_finite(new: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    x = torch.linspace(-30, 30, 84).view(4, 3, 7).to(dtype).requires_grad_()
    fold = new().to(dtype)
    y = fold(x)
    y.float().square().sum().backward()
    assert y.dtype == dtype and y.shape == x.shape and y.isfinite().all()
    assert x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all()
    exact = new().double()(x.detach().double())
    tolerance = 60 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.detach().double(), exact, rtol=tolerance, atol=tolerance)


@every_fold
def test_float32_parameters_keep_half_precision(new: Callable[[], nn.Module]) -> None:
    fold, x = new(), batch(torch.bfloat16)
    y = fold(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), fold(x.float()), atol=0.15, rtol=0.05)


@every_fold
def test_torchscript(new: Callable[[], nn.Module]) -> None:
    fold = new()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)
        scripted = torch.jit.script(fold)
    torch.testing.assert_close(scripted(batch()), fold(batch()))


@every_fold
def test_compiles_as_one_graph(new: Callable[[], nn.Module]) -> None:
    fold, x = new(), batch()
    compiled = torch.compile(fold, fullgraph=True, backend="aot_eager")
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(ours).square().sum().backward()
    fold(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(compiled(x), fold(x))


@every_fold
def test_onnx(new: Callable[[], nn.Module], tmp_path: Path) -> None:
    runtime, _ = needed("onnxruntime"), needed("onnxscript")
    fold, x = new().eval(), batch()
    with warnings.catch_warnings():
        # Of the exporter's own parts, not of the model.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(fold, (x,), str(tmp_path / "fold.onnx"), dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "fold.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), fold(x).detach(), atol=1e-6, rtol=1e-6)


@every_fold
def test_stacked_models_train_under_vmap(new: Callable[[], nn.Module]) -> None:
    """One step of three stacked models is that of each alone."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 3), new(), nn.Linear(3, 2)) for _ in range(3)]
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    x, labels = torch.randn(3, 8, 4), torch.randint(0, 2, (3, 8))

    def loss(parameters: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(models[0], (parameters, buffers), x), labels)

    stacked = vmap(grad(loss))(parameters, x, labels)
    for i, model in enumerate(models):
        F.cross_entropy(model(x[i]), labels[i]).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stacked[name][i], parameter.grad, atol=1e-4, rtol=1e-3)


# ---- the engine's one pass ---------------------------------------------------------------------

FUSED = [
    zfold, partial(zfold, slope=0.7, turn=1.3),
    qfold, partial(qfold, frequency=1.7), partial(qfold, frequency=1.3, centred=True),
]  # fmt: skip


@pytest.mark.parametrize("fold", FUSED)
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 600_001])
def test_engine_agrees_with_double_precision(fold: Callable[[Tensor], Tensor], n: int) -> None:
    torch.manual_seed(n)
    x = (4 * torch.randn(n)).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    g = torch.randn(n)
    y, exact = fold(x), fold(exact_x)
    assert "Fold" in type(y.grad_fn).__name__ and "Fold" not in type(exact.grad_fn).__name__
    torch.testing.assert_close(y.double(), exact, atol=2e-6, rtol=2e-6)
    (ours,) = torch.autograd.grad(y, x, g)
    (right,) = torch.autograd.grad(exact, exact_x, g.double())
    # sqrt(1 - sin^2) next to its zeros: rarely off, and never by much.
    torch.testing.assert_close(ours.double(), right, atol=1e-2, rtol=0)
    assert (ours - right).abs().sum() <= 1e-4 * n


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_engine_is_the_same_on_any_number_of_threads(threads: int) -> None:
    x = torch.randn(1_500_001)
    one = qfold(x)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(qfold(x), one)
    finally:
        torch.set_num_threads(before)


def test_engine_far_out_and_not_finite() -> None:
    x = torch.tensor([1e4, -3e5, 2.5e7, float("inf"), float("-inf"), float("nan"), 3e38, 0.0, -0.0])
    y = zfold(x)
    torch.testing.assert_close(y[[0, 1, 2, 6, 7, 8]], zfold(x[[0, 1, 2, 6, 7, 8]].double()).float())
    torch.testing.assert_close(y[3:6], -x[3:6], equal_nan=True)
    finite = x[:3]
    angle = (finite - torch.tensor(torch.pi / 4)).double()  # the angle that float32 has
    torch.testing.assert_close(qfold(finite).double(), angle.sin() + 0.5**0.5, atol=1e-6, rtol=0)
    low = (finite - torch.tensor(torch.pi / 4)).double().sin() + 0.5**0.5 * math.exp(-0.5)
    torch.testing.assert_close(qfold(finite, centred=True).double(), low, atol=1e-6, rtol=0)
    assert qfold(x[3:6]).isnan().all()


@pytest.mark.parametrize("fold", FUSED)
def test_engine_has_second_derivatives(fold: Callable[[Tensor], Tensor]) -> None:
    def third_power_of_slope(x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(fold(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad((slope**3).sum(), x, create_graph=True)
        return curvature

    x = torch.tensor([-3.0, -0.3, 0.2, 1.0, 2.9, 3.5])
    ours = third_power_of_slope(x.clone().requires_grad_())
    right = third_power_of_slope(x.double().requires_grad_())
    torch.testing.assert_close(ours.double(), right, atol=1e-4, rtol=1e-4)


def derivatives(fold: Callable[[Tensor], Tensor], x: Tensor, order: int) -> list[Tensor]:
    """The first ``order`` derivatives of a function of each number by itself."""
    found, y = [], fold(x)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y.detach().double())
    return found


@every_fold
def test_second_derivatives_in_single_precision(new: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(40_000, 3)).requires_grad_()  # the channels of some folds on axis 1
    right = derivatives(new().double(), x.detach().double().requires_grad_(), 2)[1]
    ours = derivatives(new(), x, 2)[1]
    torch.testing.assert_close(ours, right, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_qfold_beside_its_turns(centred: bool) -> None:
    """There 1 - sin^2 is lost in rounding; the second derivative is not, nor is the third."""
    turn = 3 * torch.pi / 4 / 1.7
    x = (turn + torch.linspace(-2e-3, 2e-3, 4001)).requires_grad_()
    fold = partial(qfold, frequency=1.7, centred=centred)
    assert fused.fits(x)
    exact_x = x.detach().double().requires_grad_()
    (_, second, third), (_, right, right_third) = derivatives(fold, x, 3), derivatives(fold, exact_x, 3)
    torch.testing.assert_close(second, right, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(third, right_third, atol=1e-2, rtol=0)
    (last,) = torch.autograd.grad(
        torch.autograd.grad(fold(x).sum(), x, create_graph=True)[0].sum(), x
    )  # without a graph of its own, as in training
    torch.testing.assert_close(last.double(), right, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="fourth derivative of a QFold in float32"):
        derivatives(fold, x, 4)
    assert derivatives(fold, exact_x, 4)[3].isfinite().all()


@pytest.mark.parametrize("fold", FUSED)
def test_engine_takes_any_layout_of_the_gradient(fold: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, 4, 5)
    for layout in (x, x.to(memory_format=torch.channels_last), x.transpose(1, 3)):
        ours = layout.detach().requires_grad_()
        y = fold(ours)
        (a,) = torch.autograd.grad(y.sum(), ours, retain_graph=True)  # of stride 0
        turned = y.transpose(0, 3)
        (b,) = torch.autograd.grad(turned, ours, torch.ones(turned.shape))
        torch.testing.assert_close(a, b)
        assert y.stride() == ours.stride()


def test_engine_keeps_only_the_result() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.randn(10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = [zfold(x), qfold(x)]
    assert [t.data_ptr() for t in kept] == [y.data_ptr() for y in results]


def test_result_changed_in_place_is_refused_in_backward() -> None:
    y = zfold(torch.randn(5, requires_grad=True))
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_engine_stands_back_where_it_would_not_be_seen() -> None:
    x = torch.randn(6)
    assert fused.fits(x)
    others = (x.double(), x.half(), x[::2], nn.Parameter(x), x.to("meta"), x.to_sparse())
    assert not any(map(fused.fits, others))
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        zfold(x)
    assert torch.ops.aten.softshrink.default in seen
    with torch.autograd.forward_ad.dual_level(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)  # torch's own use
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones(6))
        tangent = torch.autograd.forward_ad.unpack_dual(zfold(dual)).tangent
    torch.testing.assert_close(tangent, torch.where(x.abs() <= 1, 1.0, -1.0))


def test_many_gradients_at_once() -> None:
    x = torch.randn(5, requires_grad=True)
    for fold in FUSED:
        y = fold(x)
        (jacobian,) = torch.autograd.grad(y, x, torch.eye(5), is_grads_batched=True, retain_graph=True)
        (slopes,) = torch.autograd.grad(y, x, torch.ones(5))
        torch.testing.assert_close(jacobian, torch.diag(slopes), atol=1e-5, rtol=1e-5)


def test_a_training_step_keeps_as_much_as_with_relu() -> None:
    def kept_bytes(activation: Callable[[], nn.Module]) -> int:
        model, storages = mlp(3, 2, activation=activation), {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = F.cross_entropy(model(torch.randn(64, 3)), torch.zeros(64, dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
        return sum(storages.values())

    centred = partial(QFold, centred=True)
    assert kept_bytes(ZFold) == kept_bytes(QFold) == kept_bytes(centred) == kept_bytes(nn.ReLU)
