"""Small nets of the families that people prune, with what makes each of them hard."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(channels: int, width: int, size: int = 3, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, padding=size // 2, **options)  # type: ignore[arg-type]


class Dense(nn.Module):
    """DenseNet: every layer reads what all before it returned; a 1 x 1 transition halves the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 6 * i) for i in range(3))
        self.convs = nn.ModuleList(conv(8 + 6 * i, 6, bias=False) for i in range(3))
        self.norm, self.transition = nn.BatchNorm2d(26), conv(26, 12, 1, bias=False)
        self.last, self.out = nn.BatchNorm2d(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for norm, layer in zip(self.norms, self.convs, strict=True):
            maps.append(layer(norm(torch.cat(maps, 1)).relu()))
        y = F.avg_pool2d(self.transition(self.norm(torch.cat(maps, 1)).relu()), 2)
        return self.out(self.last(y).relu().mean((2, 3)))


class Shuffle(nn.Module):
    """ShuffleNetV2: half of the channels pass by, then the halves are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = conv(3, 12), nn.BatchNorm2d(12)
        self.a, self.depthwise, self.b = conv(6, 10, 1), conv(10, 10, groups=10), conv(10, 6, 1)
        self.last, self.out = conv(12, 16, 1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x)).relu()
        left, right = x.chunk(2, dim=1)
        right = self.b(self.depthwise(self.a(right).relu())).relu()
        n, c, h, w = x.shape
        x = torch.cat([left, right], 1).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.out(self.last(x).relu().mean((2, 3)))


class Squeeze(nn.Module):
    """Squeeze and excitation with linear layers on flattened means, as in SENet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 12), nn.BatchNorm2d(12)
        self.squeeze, self.excite = nn.Linear(12, 6), nn.Linear(6, 12)
        self.last, self.out = conv(12, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return self.out(self.last(x * gate[:, :, None, None]).relu().mean((2, 3)))


class Hourglass(nn.Module):
    """U-Net: strided down, transposed up (one of the two depthwise), a skip that is appended."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 8), nn.Conv2d(8, 12, 2, stride=2)
        self.up = nn.ConvTranspose2d(12, 10, 2, stride=2)
        self.smooth = nn.ConvTranspose2d(10, 10, 3, padding=1, groups=10)
        self.last, self.out = conv(18, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stem(x).relu()
        y = self.smooth(self.up(self.down(skip).relu()).relu())
        return self.out(self.last(torch.cat([skip, y], 1)).relu().mean((2, 3)))


class Shared(nn.Module):
    """One convolution and its normalisation on two scales of the image, and a tied pair of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm = conv(3, 10), nn.BatchNorm2d(10)
        self.a, self.b = conv(10, 8), conv(10, 8)
        self.b.weight = self.a.weight
        self.last, self.out = conv(16, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.norm(self.both(x)).relu()
        coarse = F.interpolate(self.norm(self.both(F.avg_pool2d(x, 2))).relu(), scale_factor=2)
        y = torch.cat([self.a(fine), self.b(coarse)], 1).relu()
        return self.out(self.last(y).relu().mean((2, 3)))


class Grouped(nn.Module):
    """ResNeXt: a grouped convolution, to as many and to twice as many channels, round a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12)
        self.a, self.groups, self.b = conv(12, 16, 1), conv(16, 16, groups=4), conv(16, 12, 1)
        self.wider, self.out = conv(12, 24, groups=3), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.b(self.groups(self.a(x.relu()).relu()).relu())
        return self.out(self.wider((x + y).relu()).relu().mean((2, 3)))


FAMILIES: dict[str, type[nn.Module]] = {
    "dense": Dense, "shuffle": Shuffle, "squeeze": Squeeze, "hourglass": Hourglass, "shared": Shared,
    "grouped": Grouped,
}  # fmt: skip

SMALL: dict[str, Any] = {"hidden_sizes": [16, 32], "depths": [1, 2], "num_labels": 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "ResNet": {**SMALL, "embedding_size": 8, "layer_type": "bottleneck"},
    "MobileNetV2": {"depth_multiplier": 0.1, "image_size": 32, "num_labels": 3},
    # A scale of 1e-6 on every branch, the default, would hide what is done to it.
    "ConvNext": {**SMALL, "num_stages": 2, "layer_scale_init_value": 1.0},
    "RegNet": {**SMALL, "embedding_size": 8, "groups_width": 4},
    "EfficientNet": {
        "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128, "num_labels": 3,
    },
}  # fmt: skip


def hugging_face(name: str) -> nn.Module:
    """An image classifier of transformers from a small config: ``[n, 3, 32, 32] -> logits [n, 3]``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = getattr(t, f"{name}ForImageClassification")(getattr(t, f"{name}Config")(**CONFIGS[name]))
    assert isinstance(made, nn.Module)
    return made
