"""What may go is found right or refused by name: a pruned network is the original, masked."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from helpers.masked import difference, masked_run
from helpers.nets import Net, lived_in
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.pruning.removal import plan_pruning, prune
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.structure.masking import masked_outputs
from unknot.pruning.structure.pools import channels_of, find_structure

pytestmark = pytest.mark.numeric

STEPS = (
    "conv", "up", "grouped", "depthwise", "norm", "groupnorm", "instancenorm", "prelu", "residual",
    "shortcut", "concat", "se", "twice",
)  # fmt: skip
INPUTS = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def pruned_and_masked(net: Net, seed: int = 0, ratio: float = 0.5) -> tuple[dict[str, list[int]], Net]:
    """The filters that went and the smaller net, after comparing it with the masked one."""
    scores = score_filters(net, criterion="random", seed=seed)
    plan = plan_pruning(net, scores, INPUTS, ratio=ratio)
    slim = prune(net, plan)
    with torch.no_grad():
        expected = net.masked(INPUTS, plan.removed)
        torch.testing.assert_close(slim(INPUTS), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            masked_outputs(net, plan.removed, INPUTS)[0], expected, rtol=1e-5, atol=1e-5
        )
    return plan.removed, slim  # type: ignore[return-value]


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_each_step_alone_is_pruned_and_equals_the_masked_net(step: str, flatten: bool) -> None:
    torch.manual_seed(1)
    net = lived_in(Net([step, "conv"], flatten=flatten))
    removed, slim = pruned_and_masked(net)  # type: ignore[arg-type]
    assert "layers.1_conv" in removed
    before, after = (sum(p.numel() for p in m.parameters()) for m in (net, slim))
    assert after < before


@given(st.lists(st.sampled_from(STEPS), max_size=5), st.booleans(), st.floats(0, 0.9), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_random_nets_equal_the_masked_net(
    steps: list[str], flatten: bool, ratio: float, seed: int
) -> None:
    torch.manual_seed(seed)
    net = lived_in(Net(steps, flatten=flatten), seed)
    pruned_and_masked(net, seed, ratio)  # type: ignore[arg-type]


def test_what_goes_together_goes_together() -> None:
    torch.manual_seed(0)
    pools = find_structure(lived_in(Net(["residual", "concat", "grouped", "groupnorm"])), INPUTS).pools
    found = {pool.layers: len(pool.units) for pool in pools}
    # The grouped convolution has 4 channels to a group, of which channel i of both groups go together:
    # 0-3 are the residual sum, 4-7 the appended ones.
    assert found[("layers.0_residual_a",)] == 5
    assert found[("layers.stem", "layers.0_residual_b", "layers.1_concat")] == 4
    # Of its own outputs, groups of two channels are normalised together and both groups keep as many.
    assert found[("layers.2_grouped",)] == 2


class Odd(nn.Module):
    """Convolution ``a``, something in between, convolution ``b``."""

    def __init__(self, between: Callable[[Tensor], Tensor] | nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 8, 3, padding=1)
        self.between = between
        self.b = nn.Conv2d(channels, 6, 3, padding=1)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.between(self.a(x))).mean((2, 3)))


class LastLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda x: x.flip(1), "its channels change their order, in Odd"),
        (lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2), "does not run"),
        (lambda x: x.softmax(1), "softmax is taken over its channels, in Odd"),
        (lambda x: x.flatten(1).reshape(-1, 8, 6, 6), "does not run"),
        (nn.LocalResponseNorm(3), "its channels lie along a map, in between"),
        (lambda x: x * (1.0 if x.shape[1] == 8 else 2.0), "something else than without them"),
    ],
)
def test_what_is_not_safe_is_refused_by_name(between: object, why: str) -> None:
    torch.manual_seed(0)
    model = lived_in(Odd(between))  # type: ignore[arg-type]
    structure = find_structure(model, INPUTS)
    assert why in structure.kept["a"]
    assert [p.layers for p in structure.pools if "b" in p.layers] == [("b",)]
    plan = plan_pruning(model, score_filters(model, criterion="l1"), INPUTS, ratio=0.5)
    assert list(plan.removed) == ["b"]
    with torch.no_grad():
        found = prune(model, plan)(INPUTS)
    assert torch.allclose(found, masked_outputs(model, plan.removed, INPUTS)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("between", "normalised"),
    [
        (nn.ChannelShuffle(2), []),
        (nn.GroupNorm(1, 8), ["between"]),
        (LastLayerNorm(8), ["between"]),
        (nn.ConvTranspose2d(8, 8, 3, padding=1, groups=2), []),
        (nn.Conv2d(8, 4, 3, padding=1, groups=4), []),
    ],
)
def test_what_lies_between_layers_goes_with_them(between: nn.Module, normalised: list[str]) -> None:
    torch.manual_seed(0)
    channels = getattr(between, "out_channels", 8)
    model = lived_in(Odd(between, channels))  # type: ignore[arg-type]
    plan = plan_pruning(model, score_filters(model, criterion="l1"), INPUTS, ratio=0.5)
    assert len(plan.removed["a"]) == 4 and len(plan.removed["b"]) == 3 and not plan.kept_layers
    assert plan.normalised == normalised
    expected, _ = masked_run(model, plan.removed, INPUTS)
    with torch.no_grad():
        assert difference([prune(model, plan)(INPUTS)], expected) < 1e-5


def test_a_fault_that_zero_weights_hide_is_found() -> None:
    model = lived_in(Odd(lambda x: x * (1.0 if x.shape[1] == 8 else 2.0)))
    nn.init.zeros_(model.b.weight)  # type: ignore[union-attr, arg-type]
    assert "a" in find_structure(model, INPUTS).kept


def test_channels_that_reach_the_output_stay() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    assert find_structure(model, INPUTS).kept == {"2": "its channels are the model's output"}


def test_a_layer_that_does_not_run_stays() -> None:
    model = lived_in(Odd(nn.Identity()))
    model.spare = nn.Conv2d(3, 3, 1)
    assert "no part" in find_structure(model, INPUTS).kept["spare"]


def test_ignored_layers_stay_with_all_that_share_their_channels() -> None:
    net = lived_in(Net(["residual", "conv"]))
    structure = find_structure(net, INPUTS, ["*stem"])
    assert set(structure.kept) == {"layers.stem", "layers.0_residual_b"}
    with pytest.raises(InputError, match="a glob that matches a layer"):
        find_structure(net, INPUTS, ["head*"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_sample_is_an_example_and_any_precision_will_do(dtype: torch.dtype) -> None:
    net = lived_in(Net(["norm", "conv"])).to(dtype)
    assert len(find_structure(net, INPUTS[:1]).pools) == 2


def test_the_model_is_untouched_and_frozen_parameters_stay_frozen() -> None:
    net = lived_in(Net(["norm", "residual", "conv"])).train()
    net.layers["2_conv"].weight.requires_grad_(False)  # type: ignore[index, union-attr, operator]
    before = copy.deepcopy(net.state_dict())
    plan = plan_pruning(net, score_filters(net, criterion="l1"), INPUTS, ratio=0.5)
    slim = prune(net, plan)
    assert net.training and slim.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    frozen = {name for name, p in slim.named_parameters() if not p.requires_grad}
    assert frozen == {"layers.2_conv.weight"}
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def test_a_model_that_does_not_take_the_example_is_told() -> None:
    net = Net(["conv"])
    with pytest.raises(
        InputError, match=r"a batch of shape \(2, 5, 6, 6\) .* expected samples that the model takes"
    ):
        find_structure(net, torch.randn(2, 5, 6, 6))


def test_units_name_each_channel_once() -> None:
    structure = find_structure(lived_in(Net(["shortcut", "se", "concat"])), INPUTS)
    channels = [c for pool in structure.pools for unit in pool.units for c in unit]
    assert len(channels) == len(set(channels))
    everything = channels_of(u for p in structure.pools for u in p.units)
    assert everything["layers.stem"] == [0, 1, 2, 3]
