"""Costs of channels against least squares done by hand; sums and normalisations found by watching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.nets import map_of
from torch import Tensor, nn

import unknot as uk
from unknot.nets.models import cnn, resnet
from unknot.nets.probe import probe_samples
from unknot.pruning.refitting.consumers import Consumers, Sum, find_consumers
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.scoring.criteria import Evidence
from unknot.pruning.scoring.surgeon import RIDGE, removal_costs
from unknot.pruning.structure.layers import prunable_layers
from unknot.pruning.structure.linear_maps import Rows

pytestmark = pytest.mark.numeric


def channels_in_front(model: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    """What enters a layer."""
    found: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _m, args: found.append(args[0]))
    with torch.no_grad():
        model(inputs)
    hook.remove()
    return found[0]


def left_unexplained(x: np.ndarray, wanted: np.ndarray, kept: list[int]) -> float:
    """Relative squared error of ``wanted`` by least squares, as the ridge has it, on some columns."""
    x, wanted = x - x.mean(0), wanted - wanted.mean(0)
    power = (wanted**2).sum()
    rows = np.sqrt(RIDGE * (x**2).mean() * len(x)) * np.eye(x.shape[1])
    # The ridge of the covariance as extra rows, which the wanted outputs have too.
    padded = np.vstack([x, rows])
    outputs = np.vstack([wanted, rows @ np.linalg.lstsq(x, wanted, rcond=None)[0]])
    fit = np.linalg.lstsq(padded[:, kept], outputs, rcond=None)[0]
    missing = ((outputs - padded[:, kept] @ fit) ** 2).sum()
    return float(missing / (power + ((outputs[len(x) :]) ** 2).sum()))


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()


def test_costs_add_up_to_the_error_of_least_squares() -> None:
    model, inputs = small_net(), torch.randn(300, 2, 8, 8)
    costs = removal_costs(
        Evidence(model, prunable_layers(model, ()), probe_samples(inputs, max_points=300))
    )
    x = channels_in_front(model, "4", inputs).double().numpy()
    wanted = x @ model[4].weight.detach().double().numpy().T
    order = sorted(range(6), key=lambda i: costs["0", i])
    total = 0.0
    for gone in range(1, 6):
        # Costs never fall along the order, so they bound the error, and give the first exactly.
        total += costs["0", order[gone - 1]]
        error = left_unexplained(x, wanted, sorted(order[gone:]))
        assert error <= total * 1.001 + 1e-9
        if gone == 1:
            assert error == pytest.approx(total, rel=1e-3)
            others = [left_unexplained(x, wanted, [i for i in range(6) if i != j]) for j in range(6)]
            assert error == pytest.approx(min(others), rel=1e-3)


def test_a_mixture_of_other_channels_costs_nothing_and_all_of_its_parts_something() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.Conv2d(4, 3, 3)).eval()
    weight = model[0].weight.data
    weight[2:] = 0.0
    weight[2] = 0.5 * weight[0] + 2.0 * weight[1]
    weight[3, 0] = 0.01  # two inputs, so any two independent filters make up the rest
    costs = removal_costs(
        Evidence(
            model, prunable_layers(model, ()), probe_samples(torch.randn(64, 2, 9, 9), max_points=64)
        )
    )
    cheap = sorted(costs["0", i] for i in range(4))
    assert cheap[1] < 0.05 < cheap[2]


def test_what_the_taps_share_is_used_for_wide_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(8, 8, 8), batch_norm=True).eval()
    probe = probe_samples(torch.randn(64, 1, 16, 16), max_points=64)
    exact = removal_costs(Evidence(model, prunable_layers(model, ()), probe))
    monkeypatch.setattr("unknot.pruning.scoring.surgeon.ENTRIES", 16)
    close = removal_costs(Evidence(model, prunable_layers(model, ()), probe))
    assert exact.keys() == close.keys()
    for layer in ("conv1", "conv2"):  # the reader of conv3 is the linear layer, small enough
        a, b = ([found[layer, i] for i in range(8)] for found in (exact, close))
        assert a != b
        assert np.corrcoef(a, b)[0, 1] > 0.8
    assert [exact["conv3", i] for i in range(8)] == [close["conv3", i] for i in range(8)]


class Uneven(nn.Module):
    """Readers of every kind, and channels that are read twice."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.up(self.grouped(self.deep(self.stem(x)).relu()).relu()).relu())
        return out


@pytest.mark.parametrize(("groups", "together", "apart"), [(2, (0, 4), (1, 5)), (4, (0, 1), (2, 3))])
def test_grouped_and_transposed_readers_and_channels_that_go_together(
    groups: int, together: tuple[int, int], apart: tuple[int, int]
) -> None:
    """Of wide groups one filter of each goes at a time, of narrow ones a whole group."""
    torch.manual_seed(0)
    model = Uneven(groups).eval()
    costs = removal_costs(
        Evidence(
            model, prunable_layers(model, ()), probe_samples(torch.randn(20, 3, 8, 8), max_points=20)
        )
    )
    assert all(0 < cost <= 8 for cost in costs.values())
    assert [costs["stem", i] for i in range(8)] == [costs["deep", i] for i in range(8)]
    assert len({costs["up", i] for i in range(6)}) == 6
    a, b, c, d = (costs["grouped", i] for i in together + apart)
    assert a == b != c == d


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_model_stays_as_it_is(kind: torch.dtype) -> None:
    model = resnet(1, 3, widths=(4, 8)).to(kind).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.randn(30, 1, 12, 12, dtype=kind)
    first = removal_costs(
        Evidence(model, prunable_layers(model, ()), probe_samples(inputs, max_points=30), seed=3)
    )
    assert (
        removal_costs(
            Evidence(model, prunable_layers(model, ()), probe_samples(inputs, max_points=30), seed=3)
        )
        == first
    )
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_are_compared_so_that_the_idle_one_gives_more() -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(12, 12, 12), batch_norm=True).eval()
    weight = model.conv2.weight.data  # its filters are mixtures of three
    weight[3:] = torch.einsum("ij,jklm->iklm", torch.rand(9, 3), weight[:3])
    model.norm2.weight.data.fill_(1.0)
    model.norm2.bias.data.fill_(5.0)  # no ReLU cuts anything off
    inputs = torch.randn(128, 1, 16, 16)
    scores = uk.score_filters(model, inputs, criterion="surgeon")
    assert scores.comparable
    model.pool2 = nn.AvgPool2d(2)
    scores = uk.score_filters(model, inputs, criterion="surgeon")
    plan = uk.plan_pruning(model, scores, inputs[:2], ratio=0.3)
    uniform = uk.plan_pruning(model, scores, inputs[:2], ratio=0.3, allocation="uniform")
    assert {layer: len(gone) for layer, gone in uniform.removed.items()} == {
        "conv1": 3, "conv2": 3, "conv3": 3
    }  # fmt: skip
    assert len(plan.removed["conv2"]) >= 7


def test_the_elder_rule_takes_one_of_two_that_go_together() -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(6, 6), batch_norm=True).eval()
    inputs = torch.randn(64, 1, 12, 12)
    scores = {
        name: uk.score_filters(model, inputs, criterion=name) for name in ("surgeon", "elder-surgeon")
    }
    for plain, elder in zip(scores["surgeon"].rows, scores["elder-surgeon"].rows, strict=True):
        assert plain.redundant or 0 <= elder.score <= plain.score * (1 + 1e-12)


class Sums(nn.Module):
    """A sum by ``+``, one in place after a normalisation, and one whose summand others read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = self.b(x) + x
        y = self.norm(self.c(x))
        y += x
        z = self.d(y)
        out: Tensor = torch.cat([z + y, z], 1)
        return out


def test_sums_are_found_where_the_layer_can_make_up_for_them() -> None:
    readers = find_consumers(Sums().eval(), torch.randn(2, 4, 5, 5))
    assert readers.norms == {"c": "norm"}
    assert set(readers.sums) == {"b", "c"}  # of ``d`` the concatenation reads the same channels
    assert all(isinstance(found, Sum) and found.other != found.call for found in readers.sums.values())


class Shortcut(nn.Module):
    """The branch sees all of the input, the shortcut what the stem makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 1)
        self.short, self.branch = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)
        self.norm = nn.BatchNorm2d(5)
        self.out = nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        total = self.short(self.stem(x).sigmoid()) + self.norm(self.branch(x))
        out: Tensor = self.out(total.relu())
        return out


def test_a_layer_makes_up_for_what_its_sum_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, inputs = Shortcut().eval(), torch.randn(64, 4, 6, 6)
    model.stem.weight.data = torch.eye(4).reshape(4, 4, 1, 1)
    model.short.weight.data[:, 3] += 3.0
    scores = uk.score_filters(model, criterion=lambda _, c: 3.0 - np.arange(c.out_channels))
    plan = uk.plan_pruning(model, scores, inputs[:2], ratio=0.25, ignored=["short", "branch"])
    assert plan.removed == {"stem": [3]}
    slim = uk.prune(model, plan)
    together = refit(model, slim, plan, inputs)
    with torch.no_grad():  # the branch no longer returns what it returned
        assert not torch.allclose(slim.get_submodule("branch")(inputs), model.branch(inputs), atol=0.1)
    monkeypatch.setattr(
        "unknot.pruning.refitting.original.find_consumers",
        lambda *_: Consumers({"branch": "norm"}, {}),
    )
    apart = refit(model, uk.prune(model, plan), plan, inputs)
    assert together.output_after < 0.1 * apart.output_after
    assert {row.layer for row in together.rows} >= {"short", "branch", "out"}


def test_rows_are_where_the_outputs_are() -> None:
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    x = torch.randn(4, 2, 7, 7)
    seen, output = map_of(layer, x)
    rows = Rows.draw(seen, output, 40, len(x), torch.Generator().manual_seed(0))
    found = rows.of_input(seen) @ layer.weight.flatten(1).T + layer.bias
    assert torch.allclose(found, rows.of_output(seen, layer(x)), atol=1e-5)


def test_nan_is_refused_by_layer_name() -> None:
    model = cnn(1, 2, widths=(4, 4))
    model.conv1.weight.data[0] = torch.nan
    with pytest.raises(uk.InputError, match="NaN"):
        uk.score_filters(model, torch.randn(8, 1, 8, 8), criterion="surgeon")
