from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from unknot.activations import ACTIVATIONS, QFold, ZFold, gain, init_by_gain, replace_activations
from unknot.capture import capture
from unknot.errors import InputError
from unknot.models import mlp


@pytest.mark.parametrize(("slope", "turn"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0)])
def test_zfold_is_the_formula(slope: float, turn: float) -> None:
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    expected = (1 + slope) * x.clamp(-turn, turn) - slope * x
    torch.testing.assert_close(ZFold(slope, turn)(x), expected)
    torch.testing.assert_close(ZFold(slope, turn, learnable=True).double()(x), expected)


def test_zfold_folds_three_points_onto_one_and_hardtanh_does_not() -> None:
    x = torch.tensor([-1.5, -0.5 + 1e-9, 2.5])
    torch.testing.assert_close(ZFold()(torch.tensor([-2.5, 0.5, 1.5])), torch.tensor([0.5, 0.5, 0.5]))
    torch.testing.assert_close(ZFold(slope=0.0)(x), nn.Hardtanh()(x))


def test_gradients_are_checked_numerically() -> None:
    x = torch.tensor([-3.0, -0.4, 0.2, 2.0], dtype=torch.float64, requires_grad=True)
    for module in (ZFold(), ZFold(0.7, 1.3, learnable=True).double(), QFold(2.0)):
        assert torch.autograd.gradcheck(module, x)
    learnable = ZFold(learnable=True)
    learnable(torch.tensor([-3.0, 0.2, 4.0])).square().sum().backward()
    assert all(p.grad is not None and p.grad != 0 for p in learnable.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    assert ZFold()(torch.ones(3, dtype=dtype)).dtype == dtype
    assert QFold()(torch.ones(3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (nn.ReLU(), math.sqrt(2)),  # He et al., 2015
        (nn.Identity(), 1.0),
        (ZFold(), 1.7317),
        (ZFold(slope=0.5), 1.607),
        (QFold(1.0), 1 / math.sqrt(1 - math.exp(-0.5))),
        (QFold(2.0), 2 / math.sqrt(1 - math.exp(-2.0))),
        (lambda z: z.abs() - math.sqrt(2 / math.pi), 1.659),
    ],
)
def test_gain_known_values(activation: object, expected: float) -> None:
    assert gain(activation) == pytest.approx(expected, abs=6e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slope", "turn"), [(1.0, 1.0), (0.3, 0.5), (2.0, 3.0)])
def test_closed_form_gain_agrees_with_quadrature(slope: float, turn: float) -> None:
    fold = ZFold(slope, turn)
    assert gain(fold) == pytest.approx(gain(fold.forward), rel=1e-6)


def test_gain_refuses_what_has_no_second_moment() -> None:
    with pytest.raises(InputError, match="second moment"):
        gain(lambda z: z * 0)
    with pytest.raises(InputError, match="second moment"):
        gain(lambda z: z / 0)


@pytest.mark.parametrize("name", ["relu", "gelu", "zfold", "qfold"])
def test_init_by_gain_keeps_the_second_moment(name: str) -> None:
    new = ACTIVATIONS[name]
    model = init_by_gain(mlp(400, 2, width=400, depth=2, activation=new), new(), seed=0)
    with torch.no_grad():
        model.linear1.weight /= gain(new())  # type: ignore[union-attr, operator]
    first, second = capture(model, torch.randn(300, 400), layers="linear*")[1:]
    assert first.values.square().mean() == pytest.approx(1.0, abs=0.1)
    assert second.values.square().mean() == pytest.approx(1.0, abs=0.1)


def test_init_is_seeded_and_scaled() -> None:
    a, b, c = (mlp(3, 2) for _ in range(3))
    init_by_gain(a, nn.ReLU(), seed=1)
    init_by_gain(b, nn.ReLU(), seed=1)
    init_by_gain(c, nn.ReLU(), seed=1, multiplier=2.0)
    assert torch.equal(a[1].weight, b[1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(2 * a[1].weight, c[1].weight)  # type: ignore[operator]
    torch.testing.assert_close(a[-1].weight, c[-1].weight)
    assert all((m.bias == 0).all() for m in a if isinstance(m, nn.Linear))


def test_replace_leaves_the_original_and_keeps_sharing_and_weights() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(nn.Linear(2, 2), shared, nn.GELU()))
    new = replace_activations(model, ZFold)
    assert isinstance(model[1], nn.ReLU)
    assert isinstance(new[1], ZFold)  # type: ignore[index]
    assert new[1] is new[2][1]  # type: ignore[index]
    assert isinstance(new[2][2], nn.GELU)  # type: ignore[index]
    assert torch.equal(new[0].weight, model[0].weight)  # type: ignore[index]
    both = replace_activations(model, ZFold, where=(nn.ReLU, nn.GELU))
    assert isinstance(both[2][2], ZFold)  # type: ignore[index]
    assert isinstance(replace_activations(nn.ReLU(), ZFold), ZFold)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ZFold(slope=-1), "slope = -1"),
        (lambda: ZFold(turn=0), "turn = 0"),
        (lambda: ZFold(turn=float("nan")), "turn = nan"),
        (lambda: QFold(0), "frequency = 0"),
        (lambda: replace_activations(nn.Sequential(nn.Linear(1, 1)), ZFold), "it holds Linear"),
        (lambda: init_by_gain(nn.Sequential(nn.ReLU()), nn.ReLU()), "at least one"),
        (lambda: init_by_gain(mlp(1, 2), nn.ReLU(), multiplier=0), "gain = 0"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()  # type: ignore[operator]


def test_repr_tells_the_parameters() -> None:
    assert repr(ZFold(0.5, 2.0)) == "ZFold(slope=0.5, turn=2)"
    assert repr(QFold(2.0)) == "QFold(frequency=2)"
    assert "learnable" in repr(ZFold(learnable=True))
    assert np.isclose(sum(p.numel() for p in ZFold(learnable=True).parameters()), 2)
