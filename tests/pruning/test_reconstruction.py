"""Refitting brings a pruned net nearer to the original, without labels and without touching it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.nets import Net, lived_in, map_of
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.models import cnn, resnet
from unknot.pruning.refitting.reconstruction import RefitReport, refit
from unknot.pruning.refitting.ridge import RIDGE, best_fit
from unknot.pruning.refitting.targets import Target
from unknot.pruning.removal import PruningPlan, plan_pruning, prune
from unknot.pruning.scoring.scores import FilterScore, FilterScores, score_filters
from unknot.pruning.structure.linear_maps import Rows, matrix

pytestmark = pytest.mark.numeric


def images(n: int, channels: int = 2, size: int = 12, seed: int = 0) -> Tensor:
    """Smooth random images: neighbouring pixels go together, as in photographs."""
    noise = torch.randn(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, size=size, mode="bilinear")


def settled(model: nn.Module, inputs: Tensor) -> nn.Module:
    """In eval mode, its batch normalisation having seen the inputs."""
    with torch.no_grad():
        for _ in range(30):
            model.train()(inputs)
    return model.eval()


def planned(model: nn.Module, inputs: Tensor, ratio: float = 0.5) -> PruningPlan:
    return plan_pruning(model, score_filters(model, criterion="random"), inputs[:2], ratio=ratio)


def error(found: nn.Module, wanted: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        a, b = found(inputs), wanted(inputs)
    return float((a - b).square().mean() / (b - b.mean(0)).square().mean())


MODELS: dict[str, Callable[[], nn.Module]] = {
    "chain": lambda: cnn(2, 5, widths=(12, 16)),
    "chain with norm": lambda: cnn(2, 5, widths=(12, 16), batch_norm=True),
    "resnet": lambda: resnet(2, 5, widths=(12, 16), blocks=1),
    "resnet without norm": lambda: resnet(2, 5, widths=(12, 16), batch_norm=False),
    "strided and dilated": lambda: nn.Sequential(
        nn.Conv2d(2, 16, (3, 5), padding="same", padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(16, 16, (3, 1), stride=(2, 1), padding=(0, 1), dilation=(2, 1)), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(5),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(5),
    ),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_refitting_lowers_the_error_on_fresh_samples(name: str) -> None:
    torch.manual_seed(0)
    inputs, fresh = images(300), images(300, seed=1)
    model = MODELS[name]()
    model(inputs)
    for parameter in model.parameters():
        if parameter.ndim == 0:  # a residual branch starts at strength 0
            nn.init.ones_(parameter)
    model = settled(model, inputs)
    plan = planned(model, inputs)
    raw, slim = prune(model, plan), prune(model, plan)
    report = refit(model, slim, plan, inputs)
    assert error(slim, model, fresh) < 0.35 * error(raw, model, fresh)
    assert {r.layer for r in report.rows} == {
        n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    assert all(r.after <= r.before for r in report.rows)
    assert report.output_before == pytest.approx(error(raw, model, inputs), rel=0.5)
    assert report.output_after == pytest.approx(error(slim, model, fresh), rel=0.5, abs=0.02)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_filters_that_are_combinations_of_the_kept_ones_are_restored(batch_norm: bool) -> None:
    """Between two convolutions without a fold in between, half of the channels are sums of others."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(2, 8, 3, bias=False), nn.Conv2d(8, 6, 3, bias=not batch_norm)]
    after = [nn.BatchNorm2d(6)] if batch_norm else []
    read = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]
    model = nn.Sequential(convolutions[0], nn.BatchNorm2d(8), convolutions[1], *after, *read)
    mixing = torch.randn(4, 4)
    with torch.no_grad():
        weight = convolutions[0].weight
        weight[4:] = torch.einsum("ij,jckl->ickl", mixing, weight[:4])
    inputs = torch.randn(200, 2, 8, 8)
    model = settled(model, inputs)
    rows = [FilterScore("0", i, float(i < 4), "mine") for i in range(8)]
    plan = plan_pruning(model, FilterScores(tuple(rows), "mine", False), inputs[:2], ratio=0.5)
    assert plan.removed == {"0": [4, 5, 6, 7]}
    raw, slim = prune(model, plan), prune(model, plan, refit=inputs)
    assert error(raw, model, torch.randn(50, 2, 8, 8)) > 0.05
    assert error(slim, model, torch.randn(50, 2, 8, 8)) < 1e-6


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_each_group_is_fitted_to_its_own_channels_alone(groups: int) -> None:
    """What another layer of the same kind computes is found again, with its constants."""
    torch.manual_seed(0)
    start, other = (nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=groups) for _ in range(2))
    x = torch.randn(80, 6, 9, 9)
    wanted = other(x).detach()
    layer, output = map_of(start, x)
    rows = Rows.draw(layer, output, 2000, len(x), torch.Generator().manual_seed(0))
    found = best_fit(
        rows.of_input(layer), Target.plain(rows.of_output(layer, wanted)), matrix(start), start.bias,
        groups=groups, held_out=rows.samples % 5 == 0, constant=True,
    )  # fmt: skip
    assert found.before > 0.1 and found.after < 1e-6
    assert found.weight is not None and found.bias is not None
    torch.testing.assert_close(found.weight, matrix(other), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.bias, other.bias.detach(), atol=1e-3, rtol=0)  # type: ignore[union-attr]


def test_many_rows_of_few_samples_do_not_make_a_fit_certain() -> None:
    """2000 rows, but of 50 samples: with the least ridge alone no fit beats the old weights."""
    generator = torch.Generator().manual_seed(0)
    truth, start, x = (torch.randn(n, 30, generator=generator) for n in (8, 8, 50))
    truth = truth / 5
    wanted = x @ truth.T + 1 + torch.randn(50, 8, generator=generator)
    layer = nn.Linear(30, 8)
    with torch.no_grad():
        layer.weight.copy_(truth + start / 10)
        layer.bias.zero_()
    held_out = (torch.arange(50) % 5 == 0).repeat_interleave(40)
    entering, wanted = (t.repeat_interleave(40, dim=0) for t in (x, wanted))
    rows = entering, Target.plain(wanted)
    settings = {"groups": 1, "held_out": held_out, "constant": True}
    found = best_fit(*rows, layer.weight.detach(), layer.bias, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unknot.pruning.refitting.ridge.STRONGER", ())
        least = best_fit(*rows, layer.weight.detach(), layer.bias, **settings)
    assert least.weight is None and found.weight is not None
    assert found.after < 0.85 * least.after  # of a dozen seeds the worst is 0.69


@pytest.mark.parametrize("rows", [30, 300])
def test_the_fit_is_that_of_ridge_regression(rows: int) -> None:
    """More entries than rows, and fewer: against NumPy's least squares with the ridge as extra rows."""
    generator = torch.Generator().manual_seed(0)
    x, truth = (torch.randn(n, 60, generator=generator).double() for n in (rows, 4))
    layer = nn.Linear(60, 4, bias=False).double()
    wanted = x @ truth.T
    held_out = torch.arange(rows) % 5 == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unknot.pruning.refitting.ridge.STRONGER", ())
        old, fit = layer.weight.detach(), x[~held_out]
        found = best_fit(x, Target.plain(wanted), old, None, groups=1, held_out=held_out, constant=False)
    ridge = RIDGE * (60 / len(fit) if len(fit) > 240 else 1)
    extra = math.sqrt(ridge * float(fit.square().sum()) / 60) * torch.eye(60).double()
    missing = torch.cat([(wanted - x @ old.T)[~held_out], torch.zeros(60, 4).double()])
    change = np.linalg.lstsq(torch.cat([fit, extra]).numpy(), missing.numpy(), rcond=None)[0]
    assert found.weight is not None
    torch.testing.assert_close(found.weight, old + torch.from_numpy(change).T)


def test_nothing_but_the_pruned_model_changes() -> None:
    torch.manual_seed(0)
    model = settled(resnet(2, 3, widths=(6, 8)), images(50)).train()
    before = copy.deepcopy(model.state_dict())
    plan = planned(model, images(50))
    slim = prune(model, plan)
    shapes = {name: t.shape for name, t in slim.state_dict().items()}
    random = torch.random.get_rng_state()
    refit(model, slim, plan, images(50))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert {name: t.shape for name, t in slim.state_dict().items()} == shapes
    assert model.training and slim.training
    assert torch.equal(random, torch.random.get_rng_state())
    for m in (*model.modules(), *slim.modules()):
        assert not m._forward_hooks and not m._forward_pre_hooks


def test_labels_make_no_difference() -> None:
    torch.manual_seed(0)
    model = settled(cnn(2, 3, widths=(6, 8), batch_norm=True), images(60))
    plan = planned(model, images(60))
    results = [
        prune(model, plan, refit=loader).state_dict()
        for loader in (
            images(60), [images(60)], [(images(60), torch.arange(60) % 3)],
            [(images(60), torch.zeros(60).long())],
        )
    ]  # fmt: skip
    assert all(torch.allclose(r[k], results[0][k], atol=1e-5) for r in results for k in r)


def test_an_untouched_layer_keeps_its_weights_and_shared_ones_are_told() -> None:
    torch.manual_seed(0)
    model = lived_in(Net(["twice", "depthwise", "grouped", "conv"]))
    plan = planned(model, images(60, size=6))
    slim = prune(model, plan)
    before = copy.deepcopy(slim.state_dict())
    report = refit(model, slim, plan, images(60, size=6))
    assert report.notes == ("layers.0_twice is called several times",)
    first = next(r for r in report.rows if r.layer == "layers.stem")
    assert first.before == first.after < 1e-10
    changed = {k for k, t in slim.state_dict().items() if not torch.equal(t, before[k])}
    layers = ("layers.1_depthwise", "layers.2_grouped", "layers.3_conv", "out")
    assert changed <= {f"{layer}.{what}" for layer in layers for what in ("weight", "bias")}
    assert report.output_after <= report.output_before


def test_an_output_that_others_read_too_gets_no_constant_in_the_normalisation() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 8, 3, padding=1)
            self.b = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(self.a(x).relu())
            return self.out((self.norm(y).relu() + y).mean((2, 3)))

    torch.manual_seed(0)
    model = settled(Both(), images(80))
    plan = plan_pruning(model, score_filters(model, criterion="l1"), images(2), ratio=0.4, ignored=["b"])
    slim = prune(model, plan, refit=images(80))
    assert torch.equal(slim.norm.running_mean, model.norm.running_mean)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(slim.b.weight, prune(model, plan).b.weight)  # type: ignore[union-attr, arg-type]


def test_memory_limits_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = settled(cnn(2, 3, widths=(6, 8)), images(60))
    plan = planned(model, images(60))
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.004")
    report = refit(model, prune(model, plan), plan, images(60))
    assert 10 <= report.n_points < 60


def nan_inside(model: nn.Module) -> nn.Module:
    broken = copy.deepcopy(model)
    nn.init.constant_(broken.conv2.bias, math.nan)  # type: ignore[union-attr, arg-type]
    return broken


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, s, p, x: refit(m, s, p, x * math.nan), "samples with NaN or infinity"),
        (lambda m, s, p, x: refit(m, s, p, []), "a loader without samples"),
        (lambda m, s, p, x: refit(m, s, p, x[:4]), "4 samples to refit on"),
        (lambda m, s, p, x: refit(m, s, p, x, max_points=3), "max_points = 3"),
        (lambda m, s, p, x: refit(m, m, p, x), "layer conv1 of the pruned model"),
        (
            lambda m, s, p, x: refit(cnn(2, 3, widths=(9, 9)), s, p, x),
            "^layer conv1 of the model with 9 filters: expected 6 by the plan; pass the one that",
        ),
        (lambda m, s, p, x: refit(nan_inside(m), s, p, x), "layer conv2 with NaN"),
        (lambda m, s, p, x: refit(m, s, p, x[:, :1]), "batch of shape"),
        (lambda m, s, p, x: prune(m, p, refit=[]), "a loader without samples"),
    ],
)
def test_bad_input(
    call: Callable[[nn.Module, nn.Module, PruningPlan, Tensor], RefitReport], says: str
) -> None:
    torch.manual_seed(0)
    model = cnn(2, 3, widths=(6, 8)).eval()
    plan = planned(model, images(20))
    with pytest.raises(InputError, match=says) as caught:
        call(model, prune(model, plan), plan, images(20))
    assert "\n" not in str(caught.value)
