"""What a ReLU or a clamp cuts off need not be met."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.pruning.refitting.activations import Activation
from unknot.pruning.refitting.consumers import find_consumers
from unknot.pruning.refitting.ridge import best_fit
from unknot.pruning.refitting.targets import Target

pytestmark = pytest.mark.numeric


def target(values: Tensor, low: float, high: float, scale: Tensor | None = None) -> Target:
    scale = torch.ones_like(values[0]) if scale is None else scale
    full = torch.full_like(scale, 1.0)
    return Target(values, scale, 0.3 * full, full, Activation(low, high))


@pytest.mark.parametrize(("low", "high"), [(0.0, inf), (-1.0, 1.0), (-inf, 0.5), (-inf, inf)])
def test_what_comes_nearer_to_the_nearest_outputs_has_a_smaller_error(low: float, high: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values, outputs, others = (2 * torch.randn(400, 5, generator=generator) for _ in range(3))
    wanted = target(values, low, high, torch.tensor([1.0, -1.0, 0.5, -2.0, 3.0]))
    nearest = wanted.nearest(outputs)

    def bound(found: Tensor) -> float:
        return float(((found - nearest) * wanted.scale).square().mean())

    plain = float(((outputs - wanted.outputs()) * wanted.scale).square().mean())
    assert wanted.error(others) <= bound(others) + 1e-6
    assert wanted.error(outputs) <= bound(outputs) + 1e-6
    assert wanted.error(wanted.outputs()) < 1e-10
    if (low, high) == (-inf, inf):
        torch.testing.assert_close(nearest, wanted.outputs())
    else:
        assert bound(outputs) < 0.95 * plain


@pytest.mark.parametrize("rows", [60, 900])  # fewer than entries, and more
def test_a_relu_lets_the_fit_forget_what_it_cuts_off(rows: int) -> None:
    """Below zero the targets are noise that no weights make; above they are what some weights make."""
    generator = torch.Generator().manual_seed(0)
    x, truth = (torch.randn(n, 40, generator=generator) for n in (rows, 6))
    made = x @ truth.T
    noise = 9 * torch.rand(made.shape, generator=generator)
    values = torch.where(made > 0, made, made - noise)
    settings = {"groups": 1, "held_out": torch.arange(rows) % 5 == 0, "constant": True}
    start, wanted = 0.2 * truth, target(values, 0.0, inf)
    found = best_fit(x, wanted, start, None, **settings)
    plain = best_fit(x, Target.plain(values), start, None, **settings)
    assert found.weight is not None and plain.weight is not None and plain.bias is not None
    assert found.after < found.before
    held = wanted.rows(torch.arange(rows) % 5 == 0)
    of_plain = held.error(x[::5] @ plain.weight.T + plain.bias) / wanted.power()
    assert found.after < (0.3 if rows > 100 else 0.97) * of_plain


class Cut(nn.Module):
    """Two convolutions, a normalisation and what ``cut`` makes of it."""

    def __init__(self, cut: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.cut = nn.BatchNorm2d(4), cut

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.cut(self.norm(self.a(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("cut", "bounds"),
    [
        (nn.ReLU(), (0.0, inf)),
        (nn.ReLU(inplace=True), (0.0, inf)),
        (F.relu, (0.0, inf)),
        (torch.relu, (0.0, inf)),
        (lambda x: x.relu_(), (0.0, inf)),
        (nn.ReLU6(), (0.0, 6.0)),
        (nn.Hardtanh(-2, 3), (-2.0, 3.0)),
        (lambda x: x.clamp(min=0), (0.0, inf)),
        (lambda x: x.clamp(-1, 2), (-1.0, 2.0)),
        (lambda x: torch.clamp(x, max=0.5), (-inf, 0.5)),
        (lambda x: x.clamp_min(1), (1.0, inf)),
        (nn.Hardsigmoid(), (-3.0, 3.0)),
        (lambda x: F.max_pool2d(x, 2).relu(), (0.0, inf)),
        (nn.Sequential(nn.Dropout(), nn.AdaptiveMaxPool2d(4), nn.PixelShuffle(2), nn.ReLU(),
                       nn.PixelUnshuffle(2)), (0.0, inf)),
        (lambda x: x + x.relu(), None),
        (lambda x: F.avg_pool2d(x, 2).relu(), None),
        (lambda x: torch.cat([part.sigmoid() for part in x.chunk(2, 1)], 1) + x.relu(), None),
        (lambda x: torch.clamp(x, min=torch.zeros(()), max=None), None),
    ],
)  # fmt: skip
def test_the_bounds_of_what_alone_takes_it_in(
    cut: Callable[[Tensor], Tensor], bounds: tuple[float, float] | None
) -> None:
    found = find_consumers(Cut(cut).eval(), torch.randn(2, 2, 8, 8))
    assert found.norms == {"a": "norm"}
    assert found.activations == ({} if bounds is None else {"a": Activation(*bounds)})


def test_what_the_model_returns_is_not_cut_off() -> None:
    class Returned(Cut):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            seen = self.a(x)
            return seen, self.b(seen.relu())

    assert find_consumers(Returned(F.relu).eval(), torch.randn(2, 2, 8, 8)).activations == {}


def test_a_sum_is_cut_off_as_a_whole() -> None:
    class Block(Cut):
        def forward(self, x: Tensor) -> Tensor:
            stream = self.a(x).relu()
            return (self.norm(self.b(stream)) + stream).relu()  # type: ignore[no-any-return]

    found = find_consumers(Block(F.relu).eval(), torch.randn(2, 2, 8, 8))
    assert set(found.sums) == {"b"} and found.activations == dict.fromkeys("ab", Activation(0.0))
    assert found.pairs == {}


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.GELU(), "tanh gelu": nn.GELU(approximate="tanh"), "silu": nn.SiLU(inplace=True),
    "hardswish": F.hardswish, "mish": nn.Mish(), "elu": lambda x: F.elu(x, 0.5, True),
    "leaky": nn.LeakyReLU(0.1), "softplus": nn.Softplus(beta=2), "sigmoid": torch.sigmoid,
    "tanh": lambda x: x.tanh(), "silu in place": lambda x: F.silu(x, inplace=True),
}  # fmt: skip


@pytest.mark.parametrize("name", CURVES)
def test_steps_towards_what_a_curve_makes_of_it(name: str) -> None:
    found = find_consumers(Cut(CURVES[name]).eval(), torch.randn(2, 2, 8, 8))
    activation = found.activations["a"]
    generator = torch.Generator().manual_seed(0)
    values, outputs = (2 * torch.randn(500, 3, generator=generator) for _ in range(2))
    before = values.clone()
    torch.testing.assert_close(activation.of(values), CURVES[name](before.clone()))
    assert torch.equal(values, before)

    def error(outputs: Tensor) -> float:
        return float((activation.of(outputs) - activation.of(values)).square().mean())

    errors = [error(outputs)]
    for _ in range(8):
        outputs = activation.nearest(outputs, values)
        errors.append(error(outputs))
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.05 * errors[0]
    torch.testing.assert_close(activation.nearest(values, values), values)


def test_the_greatest_of_what_is_bent_is_not_the_bent_greatest() -> None:
    found = find_consumers(Cut(lambda x: F.silu(F.max_pool2d(x, 2))).eval(), torch.randn(2, 2, 8, 8))
    assert found.activations == {}
