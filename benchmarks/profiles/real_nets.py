"""The nets that benchmarks/profiles/real_data.py measures: how they are built, trained and kept.

Five nets on three image sets, each with random weights, trained on the true labels, and trained in the
same way on shuffled labels. Every net sees 150,000 images, whatever its set and its accuracy: Adam under
one cycle of the learning rate with its peak at 0.003, batches of 128, no augmentation. That was fixed
before anything was measured, and no net was tuned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk

RAW = Path(__file__).parents[1] / "raw" / "real_data"
CONDITIONS = ("trained", "random", "shuffled")
SEEDS = (31, 32, 33)
SEEN, BATCH, PEAK = 150_000, 128, 3e-3  # images that a net is trained on, one after another
UNSEEN = 4_000  # images that no net is trained on, which all are measured on


class Patches(nn.Module):
    """Images ``[n, 1, 28, 28]`` as 16 tokens of 7 x 7 pixels, ``[n, 16, width]``, each with its place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(49, width)
        self.place = nn.Parameter(torch.randn(16, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Cut, project, add the place."""
        tokens: Tensor = self.project(F.unfold(x, 7, stride=7).transpose(1, 2))
        return tokens + self.place


class TokenMean(nn.Module):
    """``[n, t, d] -> [n, d]``."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the tokens."""
        return x.mean(dim=1)


def vit() -> nn.Sequential:
    """A vision transformer of three blocks of width 64: ``[n, 1, 28, 28] -> [n, 10]``."""
    net = nn.Sequential()
    net.add_module("patches", Patches(64))
    for i in (1, 2, 3):
        block = nn.TransformerEncoderLayer(
            64, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        net.add_module(f"block{i}", block)
    net.add_module("norm", nn.LayerNorm(64))
    net.add_module("mean", TokenMean())
    net.add_module("out", nn.Linear(64, 10))
    return net


def cnn(channels: int, classes: int) -> nn.Sequential:
    """Three convolutions with batch normalisation and pooling, the mean of the maps, a read-out."""
    return uk.nets.cnn(channels, classes, widths=(16, 32, 64), batch_norm=True)


@dataclass(frozen=True)
class Net:
    """A net, its image set, and the layers between input and output; the last is the penultimate."""

    title: str
    set: str
    build: Callable[[], nn.Module]
    layers: tuple[str, ...]

    @property
    def penultimate(self) -> str:
        return self.layers[-1]


CNN_LAYERS = ("act1", "act2", "act3", "flatten")
NETS = {
    "fm_cnn": Net("Fashion-MNIST, CNN", "fashion_mnist", lambda: cnn(1, 10), CNN_LAYERS),
    "fm_mlp": Net(
        "Fashion-MNIST, MLP",
        "fashion_mnist",
        lambda: uk.nets.mlp(784, 10, width=128, depth=3),
        ("act1", "act2", "act3"),
    ),
    "fm_vit": Net(
        "Fashion-MNIST, ViT", "fashion_mnist", vit, ("patches", "block1", "block2", "block3", "mean")
    ),
    "cifar_cnn": Net("CIFAR-10, CNN", "cifar10", lambda: cnn(3, 10), CNN_LAYERS),
    "cats_cnn": Net("cats vs dogs, CNN", "cats_vs_dogs", lambda: cnn(3, 2), CNN_LAYERS),
}
SETS = tuple(dict.fromkeys(net.set for net in NETS.values()))


@cache
def split(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images and labels to train on, and unseen ones.

    Unseen are the images of the test split; where it has fewer than 4,000 (cats vs dogs: 2,000), also
    images of the training split that no net is trained on. Cats and dogs are averaged down to 32 x 32.
    """
    parts = [uk.nets.load_images(name, split="train"), uk.nets.load_images(name, split="test")]
    (x, y), (tx, ty) = ((p.images, p.labels) for p in parts)
    if name == "cats_vs_dogs":
        x, tx = F.avg_pool2d(x, 2), F.avg_pool2d(tx, 2)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held, rest = order[: max(0, UNSEEN - len(tx))], order[max(0, UNSEEN - len(tx)) :]
    return (x[rest], y[rest]), (torch.cat([tx, x[held]]), torch.cat([ty, y[held]]))


def net_of(name: str, condition: str, seed: int) -> nn.Module:
    """The net in eval mode; trained, if it must be, and kept under benchmarks/raw."""
    torch.manual_seed(seed)
    model = NETS[name].build()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if condition != "random":
        path = RAW / f"{name}-{condition}-{seed}.pt"
        if not path.exists():
            (x, _), _ = split(NETS[name].set)
            descend(model, x, labels_of(name, condition, seed), seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def descend(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> None:
    """Train in place on ``SEEN`` images, in an order drawn anew each epoch."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK, fused=True)
    steps = SEEN // BATCH
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps)
    model.train()
    done = 0
    while done < steps:
        for rows in torch.randperm(len(x), generator=order).split(BATCH)[: steps - done]:
            if len(rows) < BATCH:
                continue
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            done += 1


def labels_of(name: str, condition: str, seed: int) -> Tensor:
    """The labels that a net was trained on, of the training images in their order."""
    (_, y), _ = split(NETS[name].set)
    if condition != "shuffled":
        return y
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]
