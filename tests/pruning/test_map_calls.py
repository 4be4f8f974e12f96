"""A layer is what it does: padding of its own, derived weights, subclasses, weights used from outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.nets import map_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.linear_maps import LinearMap, Rows, by_sample, matrix
from unknot.pruning.structure.map_calls import set_weight, watching_maps

pytestmark = pytest.mark.numeric


class SameConv2d(nn.Conv2d):
    """As TensorFlow pads: more at the end than at the start, as much as the stride needs."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            whole = max((-(-size // s) - 1) * s + k - size, 0)
            pad += [whole // 2, whole - whole // 2]
        return F.conv2d(F.pad(x, pad), self.weight, self.bias, self.stride)


class StandardisedConv2d(nn.Conv2d):
    """Weights of mean 0 and variance 1 in each filter, as of normaliser-free nets."""

    def standardised(self) -> Tensor:
        flat = self.weight.flatten(1)
        scaled = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return scaled.reshape(self.weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.standardised(), self.bias, self.stride, self.padding)


class ScaledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class ByHandLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class TwiceLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(-x).abs()


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded by itself": (lambda: SameConv2d(4, 6, 3, stride=2), (5, 4, 8, 9)),
    "padded by its call": (lambda: nn.Conv2d(4, 6, (2, 5), padding="same", dilation=2), (5, 4, 8, 9)),
    "reflecting": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="reflect"), (5, 4, 9)),
    "standardised": (lambda: StandardisedConv2d(4, 6, 3, padding=1), (5, 4, 7, 7)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, stride=(1, 2)), (5, 4, 7, 7)),
    "volumes": (lambda: nn.Conv3d(4, 6, 2, padding=(0, 1, 2)), (5, 4, 4, 3, 3)),
    "one sample without a batch": (lambda: nn.Conv2d(4, 6, 3), (4, 7, 7)),
    "linear": (lambda: nn.Linear(4, 6), (5, 4)),
    "on tokens": (lambda: nn.Linear(4, 6), (5, 3, 4)),
    "on one vector": (lambda: nn.Linear(4, 6), (4,)),
    "a subclass that scales": (lambda: ScaledLinear(4, 6), (5, 4)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), (5, 4, 7, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_of_what_enters_times_the_weights_are_rows_of_what_comes_out(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    call, output = map_of(make(), torch.randn(shape))
    rows = Rows.draw(call, output, 60, shape[0], torch.Generator().manual_seed(0))
    x = rows.of_input(call).reshape(len(rows.samples), call.groups, -1)
    weights = call.filters.flatten(1).reshape(call.groups, -1, x.shape[2])
    assert call.bias is not None
    found = torch.einsum("rgd,god->rgo", x, weights).flatten(1) + call.bias
    torch.testing.assert_close(found, rows.of_output(call, output), atol=1e-4, rtol=1e-4)


def test_the_rows_of_a_layer_know_their_samples_wherever_these_are() -> None:
    layer = nn.Linear(4, 6)
    for shape, samples in [((5, 3, 4), 0), ((3, 5, 4), 1), ((10, 3, 4), None), ((7, 4), None)]:
        call, output = map_of(layer, torch.randn(shape))
        rows = Rows.draw(call, output, 1000, 5, torch.Generator())
        if samples is not None:
            assert torch.equal(rows.samples, rows.places[samples])
        elif shape[0] == 10:  # two rows a sample
            assert torch.equal(rows.samples, rows.places[0] // 2)
        else:
            assert torch.equal(rows.samples, torch.arange(7))


def test_what_a_layer_returned_is_taken_apart_by_sample() -> None:
    values = torch.arange(30.0).reshape(5, 3, 2)  # [n, t, c]
    expected = values.transpose(1, 2)
    linear = nn.Linear(1, 2)
    assert torch.equal(by_sample(linear, values, 5), expected)
    assert torch.equal(by_sample(linear, values.transpose(0, 1), 5), expected)  # time first
    assert torch.equal(by_sample(linear, values.flatten(0, 1), 5), expected)  # rows of all samples
    assert torch.equal(by_sample(linear, values[:, 0], 5), values[:, 0, :, None])
    assert by_sample(linear, values[:3, 0], 5).shape == (3, 2, 1)
    maps = torch.arange(240.0).reshape(10, 2, 3, 4)
    folded = by_sample(nn.Conv2d(1, 2, 1), maps, 5)
    assert torch.equal(folded, maps.reshape(5, 2, 2, 12).transpose(1, 2).flatten(2))


def sums(model: nn.Module, x: Tensor) -> dict[str, tuple[int, int]]:
    """{layer: maps seen, calls seen}."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    with torch.no_grad(), watching_maps(layers, lambda *_: None) as seen:
        model(x)
    return {name: (seen.times[name], seen.runs[name]) for name in layers}


def test_weights_that_are_used_without_their_layer_are_seen() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.hand, self.odd, self.two = nn.Linear(4, 4), ByHandLinear(4, 4), TwiceLinear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.attention(x, x, x)
            return self.two(self.odd(F.linear(y, self.hand.weight)))

    model, x = Net().eval(), torch.randn(3, 5, 4)
    expected = model(x)
    assert sums(model, x) == {
        "attention.out_proj": (1, 0), "hand": (1, 0), "odd": (0, 1), "two": (2, 1),
    }  # fmt: skip
    seen: dict[str, Tensor] = {}

    def see(name: str, _call: LinearMap, output: Tensor) -> None:
        seen[name] = output

    layers = {"out": model.attention.out_proj, "hand": model.hand}
    with torch.no_grad(), watching_maps(layers, see):
        torch.testing.assert_close(model(x), expected)
    attended = model.attention(x, x, x)[0]
    torch.testing.assert_close(seen["out"].reshape(5, 3, 4).transpose(0, 1), attended)
    torch.testing.assert_close(seen["hand"], F.linear(attended, model.hand.weight))


@pytest.mark.parametrize("kind", ["plain", "weight norm"])
def test_weights_can_be_set_where_the_layer_weighs_by_them(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    layer = layer if kind == "plain" else parametrizations.weight_norm(layer)
    x, new = torch.randn(2, 3, 6, 6), torch.randn(5, 27)
    call, _ = map_of(layer, x)
    assert set_weight(layer, call, new)
    torch.testing.assert_close(layer(x), F.conv2d(x, new.reshape(5, 3, 3, 3), layer.bias))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


DERIVED: dict[str, Callable[[], nn.Module]] = {
    "standardised": lambda: StandardisedConv2d(3, 5, 3),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(5, 5)),
    "spectral": lambda: parametrizations.spectral_norm(nn.Linear(5, 5)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(5, 5)),
    "no inverse": lambda: parametrize.register_parametrization(nn.Linear(5, 5), "weight", Doubled()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", DERIVED)
def test_weights_that_cannot_be_set_stay(name: str) -> None:
    layer = DERIVED[name]()
    torch.manual_seed(0)
    layer.eval()
    x = torch.randn(4, 3, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(4, 5)
    before, expected = {k: v.clone() for k, v in layer.state_dict().items()}, layer(x)
    call, _ = map_of(layer, x)
    assert not set_weight(layer, call, torch.randn(call.filters.flatten(1).shape))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert torch.equal(layer(x), expected)


MIDDLES: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "padded by itself": (lambda width: SameConv2d(width, 16, 3, stride=2), ""),
    "weight norm": (lambda width: parametrizations.weight_norm(nn.Conv2d(width, 16, 3)), ""),
    "standardised": (
        lambda width: StandardisedConv2d(width, 16, 3),
        "2 has weights that are derived from its parameters",
    ),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_layers_with_a_forward_of_their_own_are_refitted_or_named(name: str) -> None:
    """Half of the filters in front are gone; what is left of each parameter stays."""
    torch.manual_seed(0)
    make, note = MIDDLES[name]
    model, slim = (
        nn.Sequential(
            SameConv2d(3, width, 3), nn.ReLU(), make(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3),
        ).eval()
        for width in (16, 8)
    )  # fmt: skip
    with torch.no_grad():
        for whole, part in zip(model.parameters(), slim.parameters(), strict=True):
            part.copy_(whole[tuple(map(slice, part.shape))])
    plan = PruningPlan({"0": list(range(8, 16))}, {}, {}, {"0": 16}, "mine", (3, 9, 9))
    inputs = F.interpolate(torch.randn(200, 3, 4, 4), size=9, mode="bilinear")
    with torch.no_grad():
        wanted, raw = model(inputs), slim(inputs)
        report = refit(model, slim, plan, inputs)
        errors = [float((y - wanted).square().mean() / wanted.var()) for y in (raw, slim(inputs))]
    assert errors[1] < 0.35 * errors[0]
    assert [r.layer for r in report.rows] == (["0", "6"] if note else ["0", "2", "6"])
    assert report.notes == ((note,) if note else ())


def test_tied_and_unseen_layers_stay_as_they_are_and_are_named() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.reads = nn.Conv2d(3, 8, 3), ByHandLinear(8, 8)
            self.once, self.again = nn.Linear(8, 8), nn.Linear(8, 8)
            self.again.weight = self.once.weight
            self.two, self.head = TwiceLinear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.reads(self.conv(x).relu().mean((2, 3))).relu()
            return self.head(self.two(self.again(self.once(y).relu())))

    model, inputs = Net().eval(), torch.randn(60, 3, 7, 7)
    plan = PruningPlan({}, {}, {}, {"conv": 8}, "mine", (3, 7, 7))
    slim = prune(model, plan)
    report = refit(model, slim, plan, inputs)
    assert set(report.notes) == {
        "reads makes no convolution or matrix product by itself",
        "once shares its weights with again",
        "again shares its weights with once",
        "two is called several times",
    }
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), slim.parameters(), strict=True))


def test_scores_are_of_the_weights_that_a_layer_weighs_by() -> None:
    torch.manual_seed(0)
    layer = StandardisedConv2d(3, 6, 3)
    model, x = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(54, 2)), torch.randn(20, 3, 5, 5)
    effective = layer.standardised().detach().flatten(1).double()
    scores = score_filters(model, x, criterion="l1", linear=())
    found = np.array([row.score for row in scores.rows])
    np.testing.assert_allclose(found, effective.abs().sum(1).numpy(), rtol=1e-5)
    medians = [row.score for row in score_filters(model, x, criterion="fpgm", linear=()).rows]
    np.testing.assert_allclose(medians, torch.cdist(effective, effective).sum(1).numpy(), rtol=1e-5)


class Attending(nn.Module):
    """Residual sums around an attention, and a sum behind it into which a layer goes alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, width), nn.Linear(width, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner, self.back, self.out = nn.Linear(8, width), nn.Linear(width, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.narrow(F.relu(self.wide(x)))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.out(x + self.back(F.relu(self.inner(x))))


def test_a_refit_is_the_same_whatever_an_attention_calls() -> None:
    torch.manual_seed(0)
    model = Attending(32).eval()
    halves = [Attending(16).eval(), narrow_all(Attending(16).eval())]
    removed = {layer: list(range(16, 32)) for layer in ("wide", "inner")}
    plan = PruningPlan(removed, {}, {}, {}, "mine", ())
    x = torch.randn(120, 5, 8)
    reports = []
    for slim in halves:
        with torch.no_grad():
            for whole, part in zip(model.parameters(), slim.parameters(), strict=True):
                part.copy_(whole[tuple(map(slice, part.shape))])
        reports.append(refit(model, slim, plan, x))
    rows = {row.layer: row for row in reports[0].rows}
    assert rows["attention.out_proj"].after < rows["attention.out_proj"].before
    assert reports[0].output_after < 0.5 * reports[0].output_before
    for one, other in zip(*(slim.parameters() for slim in halves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_filters_of_a_transposed_convolution_are_its_outputs(groups: int) -> None:
    """Their L1 norms are the answers to one unit in each input channel, added up."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, 4, 3, groups=groups, bias=False)
    with torch.no_grad():
        answers = layer(torch.eye(6)[:, :, None, None])
    call, _ = map_of(layer, torch.randn(2, 6, 5, 5))
    for weights in (matrix(layer), call.filters.flatten(1)):
        torch.testing.assert_close(weights.abs().sum(1), answers.abs().sum((0, 2, 3)))


def test_a_transposed_convolution_stays_and_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, groups=2)).eval()
    plan = PruningPlan({}, {}, {}, {"0": 6}, "mine", (2, 6, 6))
    report = refit(model, prune(model, plan), plan, torch.randn(20, 2, 6, 6))
    assert report.notes == ("2 is a transposed convolution",)
