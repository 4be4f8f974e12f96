"""The masked net that the kinds are compared with, against nets that were cut by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.kinds import KINDS
from helpers.kinds_of_attention import Fused, HandMadeRms
from helpers.kinds_of_convolutions import FirstNorm, HandMadeNorm, ResponseNorm
from helpers.masked import call, difference, masked_run, numbers
from torch import Tensor, nn

GONE = [1, 2, 7, 12]
LEFT = [c for c in range(16) if c not in GONE]


def kept(module: nn.Module, dims: dict[str, int], left: list[int] = LEFT) -> None:
    """Cut parameters in place: {name: axis}."""
    for name, dim in dims.items():
        owner, _, own = name.rpartition(".")
        old = module.get_parameter(name).detach()
        setattr(module.get_submodule(owner), own, nn.Parameter(old.index_select(dim, torch.tensor(left))))


def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5, 0.5)
    return model.eval()


NORMS: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "layer norm": (FirstNorm, "layer_norm"),
    "by hand": (HandMadeNorm, "mean"),
    "group norm of one": (lambda c: nn.GroupNorm(1, c), "group_norm"),
}


@pytest.mark.parametrize(("norm", "operation"), NORMS.values(), ids=NORMS)
def test_a_normalisation_is_over_what_is_left(norm: Callable[[int], nn.Module], operation: str) -> None:
    def net(c: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, c, 3), norm(c), nn.ReLU(), nn.Conv2d(c, 2, 3))

    whole, cut = lively(net(16)), net(12)
    state = dict(whole.state_dict())
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        state[name] = state[name][LEFT]
    state["3.weight"] = state["3.weight"][:, LEFT]
    cut.load_state_dict(state)
    x = torch.randn(2, 3, 7, 7)
    expected, normalised = masked_run(whole, {"0": GONE}, x)
    assert difference([cut(x)], expected) < 1e-6
    assert normalised == {operation}


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, HandMadeRms])
def test_tokens_are_normalised_over_what_is_left(norm: Callable[[int], nn.Module]) -> None:
    class Net(nn.Module):
        """With a class token, which no layer returned."""

        def __init__(self) -> None:
            super().__init__()
            self.inp, self.token = nn.Linear(8, 16), nn.Parameter(torch.zeros(1, 1, 16))
            self.norm, self.out = norm(16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(len(x), 1, -1), self.inp(x)], 1)
            return self.out(self.norm(x)[:, :2])

    whole = lively(Net())
    cut = copy.deepcopy(whole)
    kept(cut, {"inp.weight": 0, "inp.bias": 0, "token": 2, "out.weight": 1, "norm.weight": 0})
    if isinstance(cut.norm, nn.LayerNorm):
        kept(cut, {"norm.bias": 0})
    if not isinstance(cut.norm, HandMadeRms):
        cut.norm.normalized_shape = (12,)
    x = torch.randn(2, 4, 8)
    assert difference([cut(x)], masked_run(whole, {"inp": GONE}, x)[0]) < 1e-6


def test_a_response_is_normalised_over_what_is_left() -> None:
    whole = lively(ResponseNorm())
    cut, left = copy.deepcopy(whole), list(range(5, 32))
    kept(cut, {"a.weight": 0, "a.bias": 0, "weight": 0, "bias": 0, "b.weight": 1}, left)
    x = torch.randn(2, 16, 5, 5)
    assert difference([cut(x)], masked_run(whole, {"a": range(5)}, x)[0]) < 1e-6


def test_a_head_that_is_gone_is_not_read() -> None:
    whole = lively(Fused("head_dim"))
    blind = copy.deepcopy(whole)
    with torch.no_grad():
        blind.proj.weight[:, 8:16] = 0
    rows = [third * 32 + i for third in range(3) for i in range(8, 16)]
    x = torch.randn(2, 6, 32)
    found, normalised = masked_run(whole, {"qkv": rows}, x)
    assert difference([blind(x)], found) < 1e-6 and not normalised


def test_a_part_of_each_head_is_gone_from_its_products() -> None:
    whole = lively(Fused("head_dim"))
    blind = copy.deepcopy(whole)
    part = list(range(3, 32, 8))
    with torch.no_grad():
        blind.qkv.weight[part] = blind.qkv.bias[part] = 0  # type: ignore[index]
        blind.proj.weight[:, part] = 0
    x = torch.randn(2, 6, 32)
    rows = [third * 32 + i for third in range(3) for i in part]
    assert difference([blind(x)], masked_run(whole, {"qkv": rows}, x)[0]) < 1e-6


@pytest.mark.parametrize("weights", [True, False])
def test_heads_of_an_attention_of_torch(weights: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=weights)[0]

    whole = lively(Net())
    blind = copy.deepcopy(whole)
    with torch.no_grad():
        blind.attention.out_proj.weight[:, 4:8] = 0
    rows = [third * 16 + i for third in range(3) for i in range(4, 8)]
    x = torch.randn(2, 6, 16)
    for name in ("attention", "attention.in_proj_weight"):
        assert difference([blind(x)], masked_run(whole, {name: rows}, x)[0]) < 1e-6


def test_depth_multipliers_and_margins() -> None:
    """Both filters of a channel go with it, and a margin wider than the kernel is no channel."""
    whole = lively(
        nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ZeroPad2d(3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 2, 1)
        )
    )
    blind = copy.deepcopy(whole)
    with torch.no_grad():
        blind[3].weight[:, 2:4] = 0
    x = torch.randn(2, 3, 5, 5)
    assert difference([blind(x)], masked_run(whole, {"0": [1]}, x)[0]) < 1e-6


def test_channels_that_reach_the_output_match_nothing() -> None:
    model = nn.Conv2d(3, 4, 1)
    found, _ = masked_run(model, {"": [1]}, torch.randn(1, 3, 2, 2))
    assert bool(found[0].isnan().any()) and difference(found, found) == float("inf")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_with_nothing_gone_it_is_the_net_itself(kind: Any) -> None:
    model, inputs = kind.built(), kind.inputs()
    found, normalised = masked_run(model, {}, inputs)
    with torch.no_grad():
        assert difference(found, numbers(call(model, inputs))) < 1e-5 and not normalised
