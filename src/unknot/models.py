"""The reference nets of the studies and of the demo: a multilayer perceptron and a plain CNN."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from unknot.errors import require_count


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
    """
    for name, value in (("inputs", inputs), ("classes", classes), ("width", width)):
        require_count(name, value)
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
    """
    for name, value in (("channels", channels), ("classes", classes)):
        require_count(name, value)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size = channels
    for i, width in enumerate(widths, start=1):
        layers[f"conv{i}"] = nn.Conv2d(size, require_count("widths", width), 3, padding=1)
        if batch_norm:
            layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"act{i}"] = activation()
        size = width
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["out"] = nn.Linear(size, classes)
    return nn.Sequential(layers)
