"""Many MLPs trained at once: their parameters are the rows of one matrix, and one Adam moves them all.

Adam works on each number by itself and the loss of a stack is the sum of the losses of its nets, so every
net takes the steps that it would take alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS, init_by_gain
from unknot.nets.models import mlp


@dataclass(frozen=True)
class Net:
    """A `uk.nets.mlp` with two classes; ``gain`` multiplies the variance-preserving one."""

    inputs: int
    width: int
    depth: int
    activation: str
    gain: float = 1.0

    def module(self) -> nn.Sequential:
        factory = ACTIVATIONS[self.activation]
        return mlp(self.inputs, 2, width=self.width, depth=self.depth, activation=factory)


@dataclass(frozen=True)
class Trained:
    """Each net as it was after its most accurate epoch.

    Attributes:
        parameters: float32 ``[nets, p]``.
        accuracies: share of the training samples classified rightly.
        epochs: when that was, counted from 1.
    """

    parameters: Tensor
    accuracies: tuple[float, ...]
    epochs: tuple[int, ...]


def draw(net: Net, seeds: Sequence[int]) -> Tensor:
    """Fresh parameters ``[seeds, p]`` at the gain of the net."""
    activation = ACTIVATIONS[net.activation]()
    models = [init_by_gain(net.module(), activation, multiplier=net.gain, seed=seed) for seed in seeds]
    return torch.stack([nn.utils.parameters_to_vector(m.parameters()).detach() for m in models])


def layers(net: Net, parameters: Tensor, inputs: Tensor) -> list[Tensor]:
    """The output of each activation and of the read-out: ``[nets, n, width]``, ..., ``[nets, n, 2]``."""
    sizes = [net.inputs, *[net.width] * net.depth, 2]
    shapes = list(pairwise(sizes))
    pieces = iter(parameters.split([k for a, b in shapes for k in (a * b, b)], dim=1))
    activation = ACTIVATIONS[net.activation]()
    x = inputs.expand(len(parameters), *inputs.shape[-2:])
    found = []
    for i, (below, above) in enumerate(shapes):
        weight = next(pieces).unflatten(1, (above, below)).transpose(1, 2)
        x = torch.baddbmm(next(pieces).unsqueeze(1), x, weight)
        x = x if i == net.depth else activation(x)
        found.append(x)
    return found


def train_stack(
    net: Net,
    seeds: Sequence[int],
    rates: Sequence[float],
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    stop: bool = True,
    hope: float = 0.0,
) -> Trained:
    """Train one net a seed, each with its learning rate, until it has every point right.

    A seed draws the weights and, by a generator of its own, the order of the samples. Of epochs of equal
    accuracy the first counts; without ``stop`` all ``epochs`` are trained and the last counts. A stack
    none of whose nets is at ``hope`` after a third of the epochs is given up.
    """
    parameters = draw(net, seeds)
    best, accuracies, when = parameters.clone(), [0.0] * len(seeds), [0] * len(seeds)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    adam = _Adam(parameters, torch.tensor(rates).unsqueeze(1))
    active = list(range(len(seeds)))
    for epoch in range(1, epochs + 1):
        order = torch.stack([torch.randperm(len(inputs), generator=orders[i]) for i in active])
        for batch in order.split(batch_size, dim=1):
            adam.step(_gradient(net, adam.parameters, inputs[batch], labels[batch]))
        shares = accuracy(net, adam.parameters, inputs, labels)
        for i, row, share in zip(active, adam.parameters, shares, strict=True):
            if share > accuracies[i] or (share == accuracies[i] and not stop):
                accuracies[i], when[i], best[i] = share, epoch, row
        left = [j for j, i in enumerate(active) if accuracies[i] < 1 or not stop]
        if len(left) < len(active):
            active = [active[j] for j in left]
            adam.keep(left)
        if not active or (epoch == epochs // 3 and max(accuracies) < hope):
            break
    return Trained(best, tuple(accuracies), tuple(when))


def accuracy(net: Net, parameters: Tensor, inputs: Tensor, labels: Tensor) -> list[float]:
    """Share of the samples that each net classifies rightly."""
    with torch.no_grad():
        hits = layers(net, parameters, inputs)[-1].argmax(2) == labels
    return [float(share) for share in hits.double().mean(1)]


def _gradient(net: Net, parameters: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    leaf = parameters.detach().requires_grad_()
    logits = layers(net, leaf, inputs)[-1]
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
    return torch.autograd.grad(loss, leaf)[0]


class _Adam:
    """Adam (Kingma and Ba, 2015) with torch's defaults and one learning rate a row."""

    def __init__(self, parameters: Tensor, rates: Tensor) -> None:
        self.parameters, self.rates = parameters.clone(), rates
        self.mean, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        self.steps += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = self.square.sqrt().div_(math.sqrt(1 - 0.999**self.steps)).add_(1e-8)
        self.parameters -= self.rates / (1 - 0.9**self.steps) * self.mean / spread

    def keep(self, rows: list[int]) -> None:
        for name in ("parameters", "rates", "mean", "square"):
            setattr(self, name, getattr(self, name)[rows])
