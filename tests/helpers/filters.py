"""Convolution nets whose layers filters of every kind stand in, and the scores of one layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.pruning.scoring.scores import FilterScores


class Functional(nn.Module):
    """Everything between the convolutions is a function, some of it in place."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.a(x), inplace=True), 2)
        y = self.b(x).relu_()
        z = self.c(y)
        z += y  # in place: what follows belongs to the sum
        return self.out(z.relu().mean((2, 3)))


class Grouped(nn.Module):
    """Grouped, depthwise and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 4, 3, padding=1, groups=2)
        self.depth = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depth(self.grouped(self.a(x).relu()).relu()).relu()
        return self.out(self.up(x).relu().mean((2, 3)))


class ChannelsLast(nn.Module):
    """A normalisation over the last axis between a convolution and its activation, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(1, 5, 3), nn.LayerNorm(5), nn.GELU()
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.norm(self.conv(x).permute(0, 2, 3, 1))).mean((1, 2)))


def line() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.ConvTranspose1d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def solid() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (lambda: uk.nets.cnn(1, 3, widths=(6, 5)), (1, 8, 8)),
    "cnn with norm": (lambda: uk.nets.cnn(1, 3, widths=(6, 5), batch_norm=True), (1, 8, 8)),
    "resnet": (lambda: uk.nets.resnet(1, 3, widths=(4, 6)), (1, 8, 8)),
    "functional": (Functional, (1, 8, 8)),
    "grouped": (Grouped, (1, 8, 8)),
    "channels last": (ChannelsLast, (1, 7, 7)),
    "line": (line, (1, 9)),
    "solid": (solid, (1, 5, 5, 5)),
}


def built(name: str, n: int = 40, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A model in eval mode with statistics that matter, inputs and labels."""
    torch.manual_seed(seed)
    make, shape = MODELS[name]
    model = make()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.eval(), torch.randn(n, *shape), torch.arange(n) % 3


def scores_of(scores: FilterScores, layer: str) -> np.ndarray[Any, Any]:
    return np.array([row.score for row in scores.by_layer()[layer]])


def plain_scores(scores: FilterScores, layer: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The scores of a layer, and which of its filters are not redundant."""
    keep = np.array([not row.redundant for row in scores.by_layer()[layer]])
    return scores_of(scores, layer), keep
