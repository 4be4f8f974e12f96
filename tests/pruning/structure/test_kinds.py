"""Every kind of net, pruned, is the net whose removed channels are masked; the right layers lose some.

The masked net is found by `helpers.masked`, which looks at operations and not at the package.
"""

from __future__ import annotations

import copy
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import KINDS, Detector, Kind
from helpers.masked import call, difference, masked_run, numbers
from torch import nn

from unknot.pruning.artifact import load_pruned, save_pruned
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters

TOLERANCE = 1e-5  # of the largest output
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def pruned(kind: Kind, **budget: float) -> tuple[nn.Module, PruningPlan, nn.Module]:
    model = kind.built()
    scores = score_filters(model, criterion="l1", linear=kind.linear)
    plan = plan_pruning(model, scores, kind.inputs(), **budget)  # type: ignore[arg-type]
    return model, plan, prune(model, plan)


def outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        return numbers(call(model, inputs))


@pytest.mark.parametrize(
    ("kind", "budget"),
    [
        pytest.param(kind, {what: share}, id=f"{name}, {what}")
        for name, kind in KINDS.items()
        for what, share in (("ratio", 0.5), ("macs", kind.macs))
        if share
    ],
)
def test_it_equals_the_masked_net(kind: Kind, budget: dict[str, float]) -> None:
    """On other samples than those that it was planned with, and in another number."""
    model, plan, slim = pruned(kind, **budget)
    assert plan.n_removed or not kind.loses
    if isinstance(model, Detector):  # the example has no box: here every place gives one
        model.threshold = slim.threshold = -1.0  # type: ignore[assignment]
    inputs = kind.inputs(4, seed=5)
    expected, normalised = masked_run(model, plan.removed, inputs)
    assert difference(outputs(slim, inputs), expected) < TOLERANCE
    assert sum(t.numel() for t in expected), "nothing was compared"
    assert kind.normalises or not normalised


@every_kind
def test_the_right_layers_lose_channels(kind: Kind) -> None:
    """Where half are asked for, each of them loses half, but for a group or a head that must stay."""
    model, plan, slim = pruned(kind, ratio=0.5)
    before, after = dict(model.named_modules()), dict(slim.named_modules())
    assert set(kind.loses) <= set(plan.removed), set(kind.loses) - set(plan.removed)
    assert not set(kind.keeps) & set(plan.removed)
    assert set(plan.kept_layers) | set(plan.removed) == set(plan.filters)
    for layer in kind.loses:
        whole, left = (sum(p.numel() for p in m[layer].parameters()) for m in (before, after))
        assert left < whole, layer
        assert 0.25 <= len(plan.removed[layer]) / plan.filters[layer] <= 0.5, layer
    for layer, why in plan.kept_layers.items():
        assert len(why) > 10, f"no reason for {layer}"


@every_kind
def test_no_tensor_grows_and_what_is_tied_stays_tied(kind: Kind) -> None:
    model, _, slim = pruned(kind, ratio=0.5)
    before, after = (dict(m.named_parameters(remove_duplicate=False)) for m in (model, slim))
    assert before.keys() == after.keys()
    assert all(after[n].numel() <= before[n].numel() for n in before)
    sizes = [sum(p.numel() for p in of.values()) for of in (after, before)]
    assert sizes[0] < sizes[1] or not kind.loses
    for name, parameter in before.items():
        twins = {n for n, p in before.items() if p is parameter}
        assert twins == {n for n, p in after.items() if p is after[name]}


@every_kind
def test_it_learns(kind: Kind) -> None:
    """A step of training runs, and every parameter that the original's step reaches is reached."""
    model, _, slim = pruned(kind, ratio=0.5)
    inputs = kind.inputs(4, seed=5)
    reached = []
    for each in (copy.deepcopy(model), slim):
        each.train()
        torch.manual_seed(0)
        sum(t.square().mean() for t in numbers(call(each, inputs))).backward()  # type: ignore[union-attr]
        reached.append({n for n, p in each.named_parameters() if p.grad is not None})
        torch.optim.SGD(each.parameters(), 0.01).step()
        assert all(bool(t.isfinite().all()) for t in numbers(call(each, inputs)))
    assert reached[0] == reached[1]


@every_kind
def test_it_is_saved_and_loaded(kind: Kind, tmp_path: Path) -> None:
    _, plan, slim = pruned(kind, ratio=0.5)
    save_pruned(slim, plan, tmp_path / "model", program=False)
    loaded = load_pruned(kind.make, tmp_path / "model")
    inputs = kind.inputs(4, seed=5)
    for found, expected in zip(outputs(loaded, inputs), outputs(slim, inputs), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("budget", ["ratio", "macs"])
def test_the_same_plan_comes_again(budget: str) -> None:
    """Nothing hangs on the order of a set, or on what was planned before."""
    for kind in ("cross stage", "vision transformer"):
        plans = [pruned(KINDS[kind], **{budget: 0.5})[1].removed for _ in range(2)]
        assert plans[0] == plans[1]


def test_planning_takes_in_proportion_to_the_layers_that_share_channels() -> None:
    """Python calls while a net of parallel branches is planned, of which there are four times as many.

    All of them share their channels. Whoever looks at every pair of them takes sixteen times as long.
    """
    calls(2)  # caches of torch
    few, many = calls(4), calls(16)
    assert many < 7 * few


def calls(blocks: int) -> int:
    """While a plan is made for ``blocks`` residual sums of three branches each, calls into C included."""
    torch.manual_seed(0)
    model, counted = Branched(blocks).eval(), [0]
    scores = score_filters(model, criterion="l1")

    def count(_frame: Any, event: str, _argument: Any) -> None:
        counted[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan_pruning(model, scores, torch.zeros(2, 3, 6, 6), ratio=0.5)
    finally:
        sys.setprofile(before)
    return counted[0]


class Branched(nn.Module):
    def __init__(self, blocks: int, width: int = 32) -> None:
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3)) for _ in range(blocks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branches in self.blocks:
            x = (x + sum(branch(x) for branch in branches)).relu()
        return self.out(x.mean((2, 3)))


def test_the_table_names_layers_that_exist() -> None:
    for name, kind in KINDS.items():
        layers = [n for n, _ in kind.built().named_modules()]
        assert {*kind.loses, *kind.keeps} <= set(layers), name
        assert not kind.linear or any(fnmatchcase(n, g) for g in kind.linear for n in layers)


class Standardised(nn.Conv2d):
    """A 1 x 1 convolution whose weights are standardised over the channels that it takes in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = nn.functional.batch_norm(rows, None, None, training=True)
        return nn.functional.conv2d(x, rows.reshape_as(self.weight), self.bias)


def test_standardised_weights_are_said_to_be_normalised_over_what_is_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), Standardised(8, 6, 1), nn.Conv2d(6, 3, 1))
    x = torch.randn(2, 2, 6, 6)
    plan = plan_pruning(model, score_filters(model, criterion="l1"), x, ratio=0.5)
    assert len(plan.removed["0"]) == 4
    assert plan.normalised == ["2"] and "1 normalisation" in plan.judged_by
    slim = prune(model, plan)
    left = [c for c in range(8) if c not in plan.removed["0"]]
    rows = model[2].weight[:, left, 0, 0]
    rows = (rows - rows.mean(1, keepdim=True)) / (rows.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    y = torch.einsum("oc,nchw->nohw", rows, model[0](x).relu()[:, left]) + model[2].bias[:, None, None]
    y[:, plan.removed["2"]] = 0.0
    torch.testing.assert_close(slim(x), model[3](y), rtol=1e-4, atol=1e-5)
