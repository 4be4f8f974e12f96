from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from unknot.activations.folds import (
    ACTIVATIONS,
    CentredAbs,
    CentredReLU,
    HeldFlat,
    QFold,
    SmoothZFold,
    TriangleWave,
    ZFold,
)
from unknot.activations.gains import gain, init_by_gain, normal_mean
from unknot.activations.replacement import replace_activations
from unknot.core.errors import InputError
from unknot.nets.models import mlp
from unknot.nets.recording import capture

pytestmark = pytest.mark.numeric


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
        (QFold(2.0, centred=True), 2 / math.sqrt((1 - math.exp(-4.0)) / 2)),
        (lambda z: z.abs() - math.sqrt(2 / math.pi), 1.659),
    ],
)
def test_gain_known_values(activation: object, expected: float) -> None:
    assert gain(activation) == pytest.approx(expected, abs=6e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slope", "turn"), [(1.0, 1.0), (0.3, 0.5), (2.0, 3.0)])
def test_closed_form_gain_agrees_with_quadrature(slope: float, turn: float) -> None:
    fold = ZFold(slope, turn)
    assert gain(fold) == pytest.approx(gain(fold.forward), rel=1e-6)


EVERY = {
    **ACTIVATIONS,
    "zfold, milder": lambda: ZFold(0.3, 0.5),
    "zfold, learnable": lambda: ZFold(2.0, 3.0, learnable=True, channels=2),
    "smooth_zfold, steep": lambda: SmoothZFold(2.0, 0.5),
    "qfold, 2": lambda: QFold(2.0),
    "triangle_wave, fine": lambda: TriangleWave(0.3),
    "triangle_wave, wide": lambda: TriangleWave(7.0),
}


@pytest.mark.parametrize("name", EVERY)
def test_gain_agrees_with_an_independent_integral(name: str) -> None:
    activation = EVERY[name]().double()

    def square(z: float) -> float:
        with torch.no_grad():
            value = activation(torch.full((1, 2), z, dtype=torch.float64))[0, 0]
        return float(value) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    edges = np.arange(-9, 9.01, 0.3) if "fine" in name else np.arange(-9, 9.01, 0.5)
    moment = sum(quad(square, a, b, limit=200)[0] for a, b in pairwise(edges))
    assert gain(activation) == pytest.approx(1 / math.sqrt(moment), rel=1e-7)


def test_gain_finds_jumps_and_narrow_features() -> None:
    assert gain(lambda z: (z > 0.1234).double()) == pytest.approx(
        1 / math.sqrt(math.erfc(0.1234 / math.sqrt(2)) / 2), rel=1e-8
    )
    assert gain(TriangleWave(1e-6)) == pytest.approx(math.sqrt(3) * 1e6, rel=1e-6)


@pytest.mark.parametrize("frequency", [0.5, 1.0, 3.0])
def test_centred_qfold_is_lower_and_of_mean_zero(frequency: float) -> None:
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    plain, centred = QFold(frequency), QFold(frequency, centred=True)
    lower = math.sin(math.pi / 4) * (1 - math.exp(-(frequency**2) / 2)) / frequency
    torch.testing.assert_close(plain(x) - centred(x), torch.full_like(x, lower))
    mean = normal_mean(lambda z: centred(torch.from_numpy(z)).numpy())
    assert mean == pytest.approx(0, abs=1e-10)
    assert gain(centred) == pytest.approx(gain(centred.forward), rel=1e-9)
    assert centred.turns() == plain.turns()


def test_smooth_fold_is_the_formula_and_turns_where_it_says() -> None:
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    torch.testing.assert_close(SmoothZFold()(x), 2.5 * torch.tanh(x / 1.25) - x)
    torch.testing.assert_close(SmoothZFold(learnable=True).double()(x), SmoothZFold()(x))
    for fold in (SmoothZFold(), SmoothZFold(0.4, 2.0), QFold(1.7)):
        turns = torch.tensor(fold.turns(), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(fold(turns).sum(), turns)
        torch.testing.assert_close(slope, torch.zeros(2, dtype=torch.float64), atol=1e-7, rtol=0)


def test_triangle_wave_and_centred_folds() -> None:
    x = torch.tensor([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 3.5, 5.0])
    expected = torch.tensor([1.0, 0.0, -1.0, -0.5, 0.0, 0.5, 1.0, 0.0, -1.0, -0.5, 1.0])
    torch.testing.assert_close(TriangleWave()(x), expected)
    torch.testing.assert_close(CentredAbs()(x), x.abs() - math.sqrt(2 / math.pi))
    torch.testing.assert_close(CentredReLU()(x), x.relu() - 1 / math.sqrt(2 * math.pi))


def test_held_curves_are_the_fold_inside_and_flat_outside() -> None:
    x = torch.linspace(-9, 9, 501)
    torch.testing.assert_close(HeldFlat(ZFold(1.0, 2.0))(x), nn.Hardtanh(-2, 2)(x))
    for fold in (QFold(1.3), SmoothZFold(), TriangleWave(0.7)):
        low, high = fold.turns()
        inside = (x >= low) & (x <= high)
        held = HeldFlat(fold)(x)
        torch.testing.assert_close(held[inside], fold(x[inside]))
        assert held[x < low].unique().numel() == held[x > high].unique().numel() == 1


def test_channels_have_their_own_slope_and_turn() -> None:
    fold = ZFold(learnable=True, channels=2)
    with torch.no_grad():
        fold.slope.copy_(torch.tensor([0.0, 2.0]))  # type: ignore[union-attr, operator]
        fold.turn.copy_(torch.tensor([1.0, 0.5]))  # type: ignore[union-attr, operator]
    for shape in ((5, 2), (5, 2, 7), (5, 2, 3, 4)):
        x = 3 * torch.randn(shape)
        torch.testing.assert_close(fold(x)[:, 0], ZFold(0.0, 1.0)(x[:, 0]))
        torch.testing.assert_close(fold(x)[:, 1], ZFold(2.0, 0.5)(x[:, 1]))
    assert repr(fold) == "ZFold(slope=1, turn=0.75, learnable=True, channels=2)"


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


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(64, 32),
        nn.Conv1d(64, 32, 5),
        nn.Conv2d(32, 64, 3),
        nn.Conv2d(64, 32, 3, groups=8),
        nn.Conv2d(64, 64, 5, groups=64),
        nn.Conv3d(16, 16, 3),
        nn.ConvTranspose1d(64, 32, 5),
        nn.ConvTranspose2d(32, 64, 4, stride=2),
        nn.ConvTranspose2d(64, 64, 4, stride=2, groups=4),
        nn.ConvTranspose3d(8, 16, 3),
    ],
    ids=str,
)
def test_init_keeps_the_variance_through_every_kind_of_layer(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(layer, QFold(), nn.Flatten(), nn.Linear(1, 1))
    init_by_gain(model, QFold(), multiplier=0.6, seed=0)
    samples, *size = {2: (4000,), 3: (64, 20), 4: (16, 14, 14), 5: (4, 9, 9, 9)}[layer.weight.dim()]
    channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    x = torch.randn(samples, channels, *size)
    with torch.no_grad():
        out = layer(x)
    if "Transpose" in type(layer).__name__:  # at its rim fewer inputs meet
        out = out[(..., *[slice(4, -4) for _ in size])]
    expected = (0.6 * gain(QFold())) ** 2
    assert float(out.var()) == pytest.approx(expected, rel=0.15)


def test_init_is_seeded_and_scaled() -> None:
    a, b, c = (mlp(3, 2) for _ in range(3))
    init_by_gain(a, nn.ReLU(), seed=1)
    init_by_gain(b, nn.ReLU(), seed=1)
    init_by_gain(c, nn.ReLU(), seed=1, multiplier=2.0)
    assert torch.equal(a[1].weight, b[1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(2 * a[1].weight, c[1].weight)  # type: ignore[operator]
    torch.testing.assert_close(a[-1].weight, c[-1].weight)
    assert all((m.bias == 0).all() for m in a if isinstance(m, nn.Linear))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ZFold(slope=-1), "slope = -1"),
        (lambda: ZFold(turn=0), "turn = 0"),
        (lambda: ZFold(turn=float("nan")), "turn = nan"),
        (lambda: QFold(0), "frequency = 0"),
        (lambda: ZFold(channels=3), "learnable=True"),
        (lambda: ZFold(learnable=True, channels=0), "channels = 0"),
        (lambda: TriangleWave(-1.0), "turn = -1"),
        (lambda: HeldFlat(CentredAbs()), "take CentredReLU"),
        (lambda: HeldFlat(ZFold(learnable=True)), "does not learn"),
        (lambda: init_by_gain(nn.Sequential(nn.LazyLinear(3)), nn.ReLU()), "run the model once"),
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
    assert repr(QFold(2.0, centred=True)) == "QFold(frequency=2, centred=True)"
    assert not QFold(centred=True).state_dict()
    assert "learnable" in repr(ZFold(learnable=True))
    assert np.isclose(sum(p.numel() for p in ZFold(learnable=True).parameters()), 2)
