"""Scores, plans, and that a pruned network equals the original with its removed channels zeroed."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unknot.errors import InputError
from unknot.graph import Scale
from unknot.models import cnn, mlp
from unknot.pruning import PruningPlan, plan_pruning, prune
from unknot.scoring import FilterScores, score_filters


class Residual(nn.Module):
    """A stem and two residual blocks, the second with a strided shortcut; batch norm throughout."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.a1 = nn.Conv2d(width, width + 2, 3, padding=1)
        self.a2 = nn.Conv2d(width + 2, width, 3, padding=1)
        self.b1 = nn.Conv2d(width, 2 * width, 3, padding=1, stride=2)
        self.b2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.short = nn.Conv2d(width, 2 * width, 1, stride=2)
        self.out = nn.Linear(2 * width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.a2(self.a1(x).relu())).relu()
        x = (self.short(x) + self.b2(self.b1(x).relu())).relu()
        return self.out(x.mean((2, 3)))


class Mixed(nn.Module):
    """Concatenation, a depthwise convolution, and flatten before the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 5, 3, padding=1)
        self.c = nn.Conv2d(9, 6, 3, padding=1)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.out = nn.Linear(6 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        x = torch.cat([x, self.b(x).relu()], 1)
        x = torch.nn.functional.max_pool2d(self.depth(self.c(x)).relu(), 2)
        return self.out(x.flatten(1))


class Grouped(nn.Module):
    """A grouped convolution, whose neighbours must keep their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.b = nn.Conv2d(4, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.b(self.grouped(self.a(x)).relu()).relu())


FACTORIES = {
    "cnn": lambda: cnn(1, 3, widths=(4, 6, 5)),
    "cnn with norm": lambda: cnn(1, 3, widths=(4, 6), batch_norm=True),
    "residual": Residual,
    "mixed": Mixed,
    "grouped": Grouped,
}


def built(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = FACTORIES[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that matter
            nn.init.uniform_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight)
            nn.init.uniform_(module.bias)
    return model.eval()


def masked(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The original, each removed channel zeroed where it enters the layers that consume it.

    Done on the inputs of consumers, found by marking: an input channel of a consumer is removed when
    it no longer depends on anything kept. For the nets here the consumers are listed by hand.
    """
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    removed = plan.removed

    def zero_inputs(consumer: str, channels: list[int], spread: int = 1) -> None:
        weight = modules[consumer].weight.data
        for c in channels:
            weight[:, c * spread : (c + 1) * spread] = 0

    for consumer, sources in CONSUMERS[type(model)](model).items():
        offset = 0
        for source, width, spread in sources:
            zero_inputs(consumer, [offset + c for c in removed.get(source, [])], spread)
            offset += width
    return model


def _chain(model: nn.Module) -> dict[str, list[tuple[str, int, int]]]:
    convs = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    chain = {after: [(before, m.out_channels, 1)] for (before, m), (after, _) in pairwise(convs)}
    return chain | {"out": [(convs[-1][0], convs[-1][1].out_channels, 1)]}


CONSUMERS = {
    nn.Sequential: _chain,
    Residual: lambda m: {
        "a1": [("stem", 6, 1)], "a2": [("a1", 8, 1)], "b1": [("stem", 6, 1)], "short": [("stem", 6, 1)],
        "b2": [("b1", 12, 1)], "out": [("b2", 12, 1)],
    },
    Mixed: lambda m: {
        "b": [("a", 4, 1)], "c": [("a", 4, 1), ("b", 5, 1)], "out": [("depth", 6, 16)],
    },
    Grouped: lambda m: {"out": [("b", 6, 1)]},
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_pruned_equals_masked(name: str, ratio: float) -> None:
    model = built(name)
    inputs = torch.randn(4, 1, 8, 8)
    # Scores that depend on the index alone, so that layers which share channels agree.
    scores = score_filters(model, criterion=lambda _, conv: np.arange(conv.out_channels) % 5)
    plan = plan_pruning(model, scores, inputs, ratio=ratio)
    slim = prune(model, plan)
    assert plan.n_removed > 0
    with torch.no_grad():
        torch.testing.assert_close(slim(inputs), masked(model, plan)(inputs), rtol=1e-5, atol=1e-5)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, slim))
    assert after < before


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.floats(0, 0.9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_pruned_equals_masked_on_random_chains(widths: list[int], ratio: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = cnn(1, 2, widths=widths).eval()
    inputs = torch.randn(2, 1, 8, 8)
    plan = plan_pruning(model, score_filters(model, criterion="random", seed=seed), inputs, ratio=ratio)
    with torch.no_grad():
        torch.testing.assert_close(
            prune(model, plan)(inputs), masked(model, plan)(inputs), rtol=1e-5, atol=1e-5
        )


def test_layers_that_share_channels_lose_the_same_ones() -> None:
    model = built("residual")
    plan = plan_pruning(model, score_filters(model, criterion=lambda _, c: np.arange(c.out_channels)),
                        torch.randn(2, 1, 8, 8), ratio=0.5)  # fmt: skip
    assert plan.removed["stem"] == plan.removed["a2"] == [0, 1, 2]
    assert plan.removed["short"] == plan.removed["b2"]


def test_refusals_name_the_layer_and_the_reason() -> None:
    model = built("grouped")
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    assert set(plan.removed) == {"b"}
    assert "grouped convolution grouped" in plan.kept_layers["a"]
    assert "model's output" in plan.kept_layers["out"]


def test_betti_scores_carry_scale_and_sample_size_and_threshold_exactly() -> None:
    model = built("cnn with norm")
    inputs = torch.randn(80, 1, 8, 8)
    scores = score_filters(model, [(inputs, torch.zeros(80).long())], max_points=60)
    assert scores.remove_high
    assert [(r.layer, r.filter) for r in scores.rows[:5]] == [
        *[("conv1", i) for i in range(4)],
        ("conv2", 0),
    ]
    for row in scores.rows:
        assert row.betti is not None and row.score == sum(row.betti)
        assert row.scale is not None and row.scale.radius is not None
        assert row.n_points == 60
    threshold = float(np.median([r.score for r in scores.rows]))
    plan = plan_pruning(model, scores, inputs[:2], max_betti=threshold)
    above = {
        layer: [r.filter for r in rows if r.score > threshold]
        for layer, rows in scores.by_layer().items()
    }
    for layer, rows in scores.by_layer().items():
        expected = above[layer]
        if len(expected) == len(rows):  # one filter is left, the least tangled
            expected = [f for f in expected if f != min(rows, key=lambda r: r.score).filter]
        assert plan.removed.get(layer, []) == expected
    assert all(f"> {threshold:g}" in why for reasons in plan.reasons.values() for why in reasons)


def test_dead_filters_have_one_component_and_no_loop() -> None:
    model = built("cnn")
    nn.init.zeros_(model.conv1.weight[1:2])  # type: ignore[index, arg-type, union-attr]
    scores = score_filters(model, torch.randn(50, 1, 8, 8), scale=Scale(radius=0.5))
    dead = scores.by_layer()["conv1"][1]
    assert (dead.betti, dead.n_points) == ((1, 0), 1)


def test_no_layer_is_emptied() -> None:
    model = built("cnn")
    scores = score_filters(model, torch.randn(30, 1, 8, 8), scale=Scale(radius=1e-9))
    plan = plan_pruning(model, scores, torch.randn(2, 1, 8, 8), max_betti=0, min_filters=2)
    assert {name: plan.filters[name] - len(gone) for name, gone in plan.removed.items()} == {
        "conv1": 2, "conv2": 2, "conv3": 2,
    }  # fmt: skip


def test_original_is_untouched_and_frozen_parameters_stay_frozen() -> None:
    model = built("residual").train()
    model.a1.weight.requires_grad_(False)  # type: ignore[union-attr]
    before = copy.deepcopy(model.state_dict())
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    slim = prune(model, plan)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not slim.a1.weight.requires_grad  # type: ignore[union-attr]
    assert slim.a1.out_channels < model.a1.out_channels  # type: ignore[union-attr, operator]
    assert slim.a2.weight.requires_grad  # type: ignore[union-attr]


def test_json_round_trips(tmp_path: Path) -> None:
    model = built("cnn")
    scores = score_filters(model, torch.randn(30, 1, 8, 8))
    plan = plan_pruning(model, scores, torch.randn(2, 1, 8, 8), ratio=0.5)
    scores.to_json(tmp_path / "scores.json")
    plan.to_json(tmp_path / "plan.json")
    assert FilterScores.from_json(tmp_path / "scores.json") == scores
    assert PruningPlan.from_json(tmp_path / "plan.json") == plan
    with pytest.raises(InputError, match="a complete plan file"):
        PruningPlan.from_json(tmp_path / "scores.json")


def test_a_plan_for_another_model_is_refused() -> None:
    model = built("cnn")
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    with pytest.raises(InputError, match="the model that was planned for"):
        prune(cnn(1, 3, widths=(9, 9, 9)), plan)


SCORES = FilterScores((), "l1", remove_high=False)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: score_filters(m), "loader = None"),
        (lambda m, x: score_filters(m, criterion="magic"), "'betti', 'l1', 'random'"),
        (lambda m, x: score_filters(m, criterion=lambda _, c: np.ones(1)), "gave shape"),
        (lambda m, x: score_filters(mlp(2, 2), x), "without two-dimensional convolutions"),
        (lambda m, x: plan_pruning(m, SCORES, x), "exactly one budget"),
        (lambda m, x: plan_pruning(m, SCORES, x, ratio=1.0), "ratio = 1"),
        (lambda m, x: plan_pruning(m, SCORES, x, max_betti=3), "criterion='betti'"),
        (lambda m, x: score_filters(m, x * float("nan")), "finite outputs"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call(built("cnn"), torch.randn(10, 1, 8, 8))  # type: ignore[operator]
