"""The nets that the benchmarks on images train; every weight drawn by the trial's seed and gain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from image_trials import Size, Trial
from torch import Tensor, nn
from usages import USAGES, Factory, PairFold, Usage, Waves

from unknot.activations.gains import fan_in, gain
from unknot.nets.models import ResidualBlock, resnet


def build(trial: Trial, size: Size, channels: int, side: int, classes: int) -> nn.Sequential:
    """The net of a trial, its weights drawn by the trial's seed and gain."""
    usage = USAGES[trial.activation]
    if trial.net == "resnet":
        return residual(usage, channels, classes)
    if trial.net == "fixup":
        return fixup(trial, channels, classes)
    generator = torch.Generator().manual_seed(trial.seed)
    layers: list[nn.Module] = []
    before: nn.Module | None = None  # the activation whose outputs a layer reads

    def draw(layer: nn.Conv2d | nn.Linear, activation: nn.Module, factor: float) -> nn.Module:
        std = factor * scale(activation) / math.sqrt(fan_in(layer))
        nn.init.normal_(layer.weight, std=std, generator=generator)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return layer

    width = channels
    for make, new in zip(usage.convolutions, size.widths, strict=True):
        activation = make(new)
        layers.append(draw(nn.Conv2d(width, new, 3, padding=1), before or activation, trial.gain))
        if trial.batch_norm:
            layers.append(nn.BatchNorm2d(new))
        pool = nn.MaxPool2d(2)
        layers += [activation, pool] if usage.fold_first else [pool, activation]
        before, width, side = activation, new, side // 2
    assert before is not None
    activation = usage.head(size.dense)
    normed = trial.batch_norm and usage.dense_norm
    dense = nn.Linear(width * side * side, size.dense)
    layers += [nn.Flatten(), draw(dense, before, trial.gain * (1 if normed else usage.head_gain))]
    if normed:
        layers.append(nn.BatchNorm1d(size.dense))
        nn.init.constant_(layers[-1].weight, usage.head_gain)
    out = nn.Linear(size.dense, classes)
    nn.init.normal_(out.weight, std=1 / math.sqrt(size.dense), generator=generator)
    nn.init.zeros_(out.bias)
    return nn.Sequential(*layers, activation, out)


def residual(usage: Usage, channels: int, classes: int) -> nn.Sequential:
    """A ResNet (8-16-32) as PyTorch draws it: usages of the stem, inside the branches, after the sums."""
    model = resnet(channels, classes, widths=(8, 16, 32))
    stem, inside, after = usage.convolutions
    model.act1 = stem(8)
    for part in model.children():
        if isinstance(part, ResidualBlock):
            part.act1, part.act2 = inside(part.conv1.out_channels), after(part.conv2.out_channels)
    return model


class FixupBlock(nn.Module):
    """x + m conv(f(conv(f(x)))), with a scalar bias before each convolution and activation.

    The last convolution starts at zero (Zhang, Dauphin and Ma, 2019, arXiv 1901.09321). The activation
    comes first, so that none folds the sum itself.
    """

    def __init__(self, narrow: int, wide: int, stride: int, activation: Factory) -> None:
        super().__init__()
        self.act1, self.act2 = activation(narrow), activation(wide)
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.biases = nn.Parameter(torch.zeros(4))
        self.multiplier = nn.Parameter(torch.ones(()))
        self.stride, self.added = stride, wide - narrow

    def forward(self, x: Tensor) -> Tensor:
        before1, after1, before2, after2 = self.biases
        y = self.conv1(self.act1(x + before1) + after1)
        y = self.conv2(self.act2(y + before2) + after2) * self.multiplier
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        return F.pad(x, (0, 0, 0, 0, 0, self.added)) + y


def fixup(trial: Trial, channels: int, classes: int) -> nn.Sequential:
    """A ResNet (8-16-32, two blocks a stage, the first convolution of stride 2) without normalisation.

    The first convolution of each of L branches is drawn for its activation and divided by sqrt(L), which
    for branches of two layers is Fixup's L^(-1 / (2 m - 2)); their last ones and the read-out are zero.
    """
    activation = USAGES[trial.activation].convolutions[0]
    generator = torch.Generator().manual_seed(trial.seed)
    widths = (8, 8, 16, 16, 32, 32)
    stem = nn.Conv2d(channels, widths[0], 3, stride=2, padding=1)
    blocks = [
        FixupBlock(narrow, wide, wide // narrow, activation)
        for narrow, wide in zip((widths[0], *widths), widths, strict=False)
    ]
    out = nn.Linear(widths[-1], classes)
    factor = trial.gain * scale(activation(1))
    with torch.no_grad():
        for conv, size in [(stem, factor), *((b.conv1, factor / math.sqrt(len(blocks))) for b in blocks)]:
            conv.weight.normal_(std=size / math.sqrt(fan_in(conv)), generator=generator)
        for zero in (stem.bias, out.weight, out.bias, *(block.conv2.weight for block in blocks)):
            assert zero is not None
            zero.zero_()
    end = (activation(widths[-1]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), out)
    return nn.Sequential(stem, *blocks, *end)


_SCALES: dict[str, float] = {}


def scale(activation: nn.Module) -> float:
    """Its gain, found once; of a fold of pairs, which keeps the moments, 1."""
    if isinstance(activation, PairFold):
        return 1.0
    key = repr(activation) + repr([v for v in vars(activation).values() if isinstance(v, float)])
    if isinstance(activation, Waves) or key not in _SCALES:
        _SCALES[key] = gain(activation)
    return _SCALES[key]
