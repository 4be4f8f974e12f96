"""Layers whose own forward squeezes their channels away, sums up places, or moves channels elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.pruning.structure.masking import masked_outputs

MOVED = "its channels are not where those of such a layer are"
CRITERIA = ("elder-surgeon", "taylor", "bn", "betti", "l1")


class Toeplitz(nn.Conv1d):
    """A matrix product whose weights depend on the difference of the indices alone, as PESTO has it."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__(1, 1, n + m - 1, padding=m - 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(-2)).squeeze(-2)


class Squeezed(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


class Alone(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten()


class Averaged(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(-1)


class ChannelsLast(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(1, 2)


class Gated(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return F.glu(super().forward(x), dim=1)


class Column(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 1)


def around(odd: nn.Module, *after: nn.Module) -> nn.Sequential:
    """Two convolutions, ``[n, 6, 16]``, in front of the layer."""
    return nn.Sequential(
        nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 6, 1), nn.ReLU(), odd, *after
    )


NETS = {
    "toeplitz": lambda: around(nn.Flatten(), Toeplitz(96, 12), nn.Softmax(-1)),
    "squeezed": lambda: around(Squeezed(6, 1, 16), nn.Linear(1, 7), nn.ReLU(), nn.Linear(7, 3)),
    "alone": lambda: around(Alone(6, 1, 16), Column(), nn.Linear(1, 7), nn.ReLU(), nn.Linear(7, 3)),
    "averaged": lambda: around(Averaged(6, 9, 3), nn.ReLU(), nn.Linear(9, 4)),
    "last": lambda: around(ChannelsLast(6, 9, 3), nn.ReLU(), nn.Flatten(), nn.Linear(126, 4)),
    "last, as many places": lambda: around(
        ChannelsLast(6, 14, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 4)
    ),
    "gated": lambda: around(Gated(6, 10, 3), nn.Flatten(), nn.Linear(70, 4)),
}
KEPT = {"toeplitz": ("5", MOVED), "alone": ("4", MOVED), "last": ("4", MOVED), "gated": ("4", MOVED)}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[name]()
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0, 0.4)
    return net.eval()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_layer_whose_channels_are_elsewhere_stops_nothing(name: str, criterion: str) -> None:
    net = made(name)
    x = torch.randn(39, 2, 16, generator=torch.Generator().manual_seed(1))  # in batches of 32 and 7
    labels = torch.arange(39) % 3
    scores = uk.score_filters(net, [(x, labels)], criterion=criterion)
    plan = uk.plan_pruning(net, scores, x[:2], macs=0.3)
    assert plan.n_removed
    if name in KEPT:
        layer, why = KEPT[name]
        assert plan.kept_layers[layer] == why and layer not in plan.removed
    slim = uk.prune(net, plan)
    (expected,) = masked_outputs(net, plan.removed, x)
    with torch.no_grad():
        torch.testing.assert_close(slim(x), expected)
    uk.pruning.refit(net, slim, plan, x)


def test_channels_that_were_averaged_over_places_are_scored_and_go() -> None:
    net = made("averaged")
    x = torch.randn(39, 2, 16, generator=torch.Generator().manual_seed(1))
    scores = uk.score_filters(net, x, criterion="elder")
    assert len(scores.by_layer()["4"]) == 9
    plan = uk.plan_pruning(net, scores, x[:2], ratio=0.4)
    assert len(plan.removed["4"]) == 3


def test_a_layer_without_scores_says_so() -> None:
    net = nn.Sequential(ChannelsLast(2, 9, 3), nn.ReLU(), nn.Linear(9, 5), nn.Flatten(), nn.Linear(70, 3))
    x = torch.randn(20, 2, 16)
    scores = uk.score_filters(net, x, criterion="betti")
    assert "0" not in scores.by_layer()
    plan = uk.plan_pruning(net, scores, x[:2], ratio=0.4)
    assert plan.kept_layers["0"]
