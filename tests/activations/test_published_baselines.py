"""Published rivals of the folds against their formulas, computed number by number."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from unknot.activations.baselines import EUAF
from unknot.activations.folds import ACTIVATIONS
from unknot.nets.data import LabelledData
from unknot.nets.models import mlp
from unknot.study.stacked_training import train_alone, train_stack

pytestmark = pytest.mark.numeric


def euaf(x: float, w: float = 1.0) -> float:
    """Zhang, Shen and Yang, JMLR 23(276), as the distance to the nearest even number."""
    return abs(w * x - 2 * round(w * x / 2)) if x >= 0 else x / (1 - x)


FORMULAS: dict[str, Callable[[float], float]] = {
    "sine": math.sin,
    "gcu": lambda x: x * math.cos(x),
    "cone": lambda x: x if x < 1 else 2 - x,
    "parabolic_cone": lambda x: 1 - (x - 1) ** 2,
    "euaf": euaf,
    "peuaf": euaf,
    "squared_leaky_relu": lambda x: x * x if x > 0 else x * x / 4,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str) -> None:
    x = torch.linspace(-7.3, 9.1, 657, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](float(v)) for v in x], dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS[name]().double()(x), expected)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(name: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 50).to(dtype).requires_grad_()
    y = ACTIVATIONS[name]()(x)  # a parameter stays in float32
    y.float().sum().backward()
    assert y.dtype == dtype
    assert x.grad is not None and x.grad.isfinite().all()


def test_frequency_of_euaf_is_trained() -> None:
    module = EUAF(1.7, learnable=True).double()
    assert repr(module) == "EUAF(frequency=1.7, learnable=True)"
    x = torch.tensor([-2.0, 0.3, 0.7, 2.6], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(module(x).tolist(), [euaf(v, 1.7) for v in x.tolist()])
    assert torch.autograd.gradcheck(module, x)
    assert not list(EUAF().parameters())
    (slope,) = torch.autograd.grad(module(x).sum(), module.frequency)  # type: ignore[arg-type]
    assert float(slope) == pytest.approx(0.3 - 0.7 + 2.6 * math.copysign(1, 1.7 * 2.6 - 4))


@pytest.mark.parametrize("name", ["gcu", "peuaf"])
def test_nets_train_as_a_stack_as_alone(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    y = (x.prod(1) > 0).long()
    data = LabelledData("quadrants", x, y, x[:50], y[:50])

    def models() -> list[nn.Module]:
        torch.manual_seed(1)
        return [mlp(2, 2, width=8, depth=2, activation=ACTIVATIONS[name]) for _ in range(2)]

    stacked = train_stack(models(), data, learning_rates=[1e-2, 3e-3], seeds=[0, 1], epochs=2)
    for curve, model, rate, seed in zip(stacked, models(), [1e-2, 3e-3], [0, 1], strict=True):
        alone = train_alone(model, data, learning_rate=rate, seed=seed, epochs=2)
        assert curve.train_accuracy == pytest.approx(alone.train_accuracy, abs=0.011)
