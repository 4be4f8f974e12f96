"""The reference nets of the studies and of the demo: a multilayer perceptron, a plain CNN, a ResNet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError, require_count, require_items


def mlp(
    inputs: int,
    classes: int,
    *,
    width: int = 50,
    depth: int = 6,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units and a linear read-out: ``[n, inputs] -> [n, classes]``.

    Modules are named ``linear1``, ``act1``, ..., ``out``; the input is flattened.

    Args:
        inputs: numbers a sample.
        classes: scores that it returns.
        width, depth: units a hidden layer, and hidden layers; 0 layers are a linear classifier.
        activation: what makes each activation function, e.g. ``uk.ZFold``.
    """
    for name, value in (("inputs", inputs), ("classes", classes), ("width", width)):
        require_count(name, value)
    activation = _factory(activation)
    require_count("depth", depth, minimum=0)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    size = inputs
    for i in range(1, depth + 1):
        layers[f"linear{i}"] = nn.Linear(size, width)
        layers[f"act{i}"] = activation()
        size = width
    layers["out"] = nn.Linear(size, classes)
    return nn.Sequential(layers)


def cnn(
    channels: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 32),
    activation: Callable[[], nn.Module] = nn.ReLU,
    batch_norm: bool = False,
) -> nn.Sequential:
    """3 x 3 convolutions, each followed by 2 x 2 max pooling, then a global mean and a read-out.

    ``[n, channels, h, w] -> [n, classes]``; h and w at least 2 ** len(widths). The pooling comes before
    the activation: for a monotone activation the order does not matter, a fold then sees a quarter of
    the elements. Modules are named ``conv1``, ``norm1``, ``pool1``, ``act1``, ..., ``out``.

    Args:
        channels: of the images.
        classes, activation: as of `mlp`.
        widths: filters of each convolution.
        batch_norm: whether batch normalisation follows each convolution.
    """
    for name, value in (("channels", channels), ("classes", classes)):
        require_count(name, value)
    activation, widths = _factory(activation), _widths(widths)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size = channels
    for i, width in enumerate(widths, start=1):
        layers[f"conv{i}"] = nn.Conv2d(size, width, 3, padding=1)
        if batch_norm:
            layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"act{i}"] = activation()
        size = width
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["out"] = nn.Linear(size, classes)
    return nn.Sequential(layers)


def _widths(widths: Any) -> tuple[int, ...]:
    words = "one number a stage", "pass e.g. (16, 32)"
    found = require_items("widths", widths, *words)
    if not found:
        raise InputError(f"widths = {widths!r}", *words)
    return tuple(require_count("widths", width) for width in found)


def _factory(activation: Any) -> Callable[[], nn.Module]:
    """``activation`` if it makes modules, as a class or a function without arguments does."""
    if not callable(activation) or isinstance(activation, nn.Module):
        raise InputError(
            f"activation = {activation!r}", "what makes a module", "pass a class, e.g. torch.nn.ReLU"
        )

    def new() -> nn.Module:
        made = activation()
        if not isinstance(made, nn.Module):
            raise InputError(
                f"activation that makes a {type(made).__name__}", "a torch.nn.Module", "return one"
            )
        return made

    return new


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al., 2016): ``[n, c, h, w] -> [n, width, h', w']``.

    Without batch normalisation the branch is multiplied by a learnt number that starts at 0 (SkipInit,
    De and Smith, 2020): a deep net then starts as a shallow one and trains without it.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        activation: Callable[[], nn.Module],
        batch_norm: bool,
    ) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.BatchNorm2d(width) if batch_norm else nn.Identity()

        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=not batch_norm)
        self.norm1, self.act1 = norm(), activation()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=not batch_norm)
        self.norm2, self.act2 = norm(), activation()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)
        self.strength = None if batch_norm else nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """The activation of branch plus shortcut."""
        branch = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        if self.strength is not None:
            branch = self.strength * branch
        out: Tensor = self.act2(branch + self.shortcut(x))
        return out


def resnet(
    channels: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
    activation: Callable[[], nn.Module] = nn.ReLU,
    batch_norm: bool = True,
) -> nn.Sequential:
    """A ResNet for small images: ``[n, channels, h, w] -> [n, classes]``.

    A 3 x 3 stem, then ``blocks`` residual blocks a width, each width after the first at half the size.
    Modules are named ``conv1``, ``norm1``, ``act1``, ``block1``, ..., ``mean``, ``flatten``, ``out``.
    ``widths=(64, 128, 256, 512), blocks=2`` is ResNet-18 with a stem for small images.

    Args:
        channels, classes, activation: as of `cnn`.
        widths: filters of each convolution of a stage.
        blocks: residual blocks a stage.
        batch_norm: batch normalisation; without it see `ResidualBlock`.
    """
    for name, value in (("channels", channels), ("classes", classes), ("blocks", blocks)):
        require_count(name, value)
    activation, widths = _factory(activation), _widths(widths)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size = widths[0]
    layers["conv1"] = nn.Conv2d(channels, size, 3, padding=1, bias=not batch_norm)
    if batch_norm:
        layers["norm1"] = nn.BatchNorm2d(size)
    layers["act1"] = activation()
    for i, width in enumerate(widths):
        for j in range(blocks):
            stride = 2 if i > 0 and j == 0 else 1
            block = ResidualBlock(size, width, stride, activation, batch_norm)
            layers[f"block{i * blocks + j + 1}"] = block
            size = width
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["out"] = nn.Linear(size, classes)
    return nn.Sequential(layers)
