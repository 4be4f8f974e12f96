"""The nets of the pruning benchmarks: what they are trained on, how, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from unknot.nets.images import load_images
from unknot.nets.models import cnn, resnet

SETS = ("fashion_mnist", "cifar10", "cats_vs_dogs")
NETS = ("cnn", "resnet")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Size:
    """What a net costs: images that it is trained on, epochs, widths, test images."""

    images: int = 5_000
    epochs: int = 8
    tests: int = 4_000
    cnn: tuple[int, ...] = (32, 64, 64)
    resnet: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    batch: int = 64


@dataclass(frozen=True, eq=False)
class Split:
    """What one seed trains on, and the test images that all seeds share."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    flips: bool


@cache
def _images(name: str, part: str) -> tuple[Tensor, Tensor]:
    data = load_images(name, split=part)  # type: ignore[arg-type]
    images = F.avg_pool2d(data.images, 2) if name == "cats_vs_dogs" else data.images
    return images, data.labels


def split(name: str, seed: int, size: Size) -> Split:
    images, labels = _images(name, "train")
    tests, test_labels = _images(name, "test")
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: size.images]
    some = torch.randperm(len(tests), generator=torch.Generator().manual_seed(0))[: size.tests]
    found = (images[rows], labels[rows], tests[some], test_labels[some])
    return Split(*(t.to(DEVICE) for t in found), flips=name != "fashion_mnist")


def untrained(net: str, data: Split, seed: int, size: Size) -> nn.Module:
    torch.manual_seed(seed)
    channels, classes = data.images.shape[1], int(data.labels.max()) + 1
    if net == "cnn":
        return cnn(channels, classes, widths=size.cnn, batch_norm=True).to(DEVICE)
    return resnet(channels, classes, widths=size.resnet, blocks=size.blocks).to(DEVICE)


def trained(folder: Path, name: str, net: str, seed: int, size: Size, data: Split) -> nn.Module:
    """The original of a seed: kept in ``folder`` once it is trained."""
    model = untrained(net, data, seed, size)
    path = folder / f"{name}-{net}-{seed}.safetensors"
    if path.exists():
        load_model(model, path)
        return model.eval()
    fit(model, data, size.epochs, 4e-3, seed, size)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(path) + ".part")
    Path(str(path) + ".part").rename(path)
    return model


def fit(model: nn.Module, data: Split, epochs: int, rate: float, seed: int, size: Size) -> nn.Module:
    """Adam, its rate rising for a fifth of the steps and then falling to nothing; left in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(data.images) // size.batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    # Channels last halves the time of small convolutions; the numbers agree up to rounding.
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for _ in range(epochs):
        order = torch.randperm(len(data.images), generator=generator)
        for batch in order[: steps // epochs * size.batch].to(DEVICE).split(size.batch):
            x = data.images[batch].contiguous(memory_format=torch.channels_last)
            if data.flips:
                flipped = torch.rand(len(x), generator=generator).to(DEVICE) < 0.5
                x = torch.where(flipped[:, None, None, None], x.flip(3), x)
            loss = F.cross_entropy(model(x), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def test_accuracy(model: nn.Module, data: Split) -> float:
    with torch.no_grad():
        size = 250 if DEVICE.type == "cpu" else 4000  # small enough for the cache
        parts = zip(data.test_images.split(size), data.test_labels.split(size), strict=True)
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in parts) / len(data.test_labels)
