"""The MLPs of `jmlr.py`: trained as a stack to their most accurate epoch; what their layers return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import unknot as uk
from unknot.activations.folds import ACTIVATIONS
from unknot.study.stacked_training import Progress


@dataclass(frozen=True)
class Net:
    """A `uk.nets.mlp` with two classes; ``gain`` multiplies the variance-preserving one."""

    inputs: int
    width: int
    depth: int
    activation: str
    gain: float = 1.0

    def draw(self, seed: int) -> nn.Module:
        """The net with fresh weights."""
        new = ACTIVATIONS[self.activation]
        model = uk.nets.mlp(self.inputs, 2, width=self.width, depth=self.depth, activation=new)
        return uk.activations.init_by_gain(model, new(), multiplier=self.gain, seed=seed)


@dataclass(frozen=True)
class Trained:
    """Each net as it was after its most accurate epoch.

    Attributes:
        models: the nets, in eval mode.
        accuracies: share of the training samples classified rightly.
        epochs: when that was, counted from 1.
    """

    models: tuple[nn.Module, ...]
    accuracies: tuple[float, ...]
    epochs: tuple[int, ...]


def layers(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The output of each activation and of the read-out: ``[n, width]``, ..., ``[n, 2]``."""
    outputs = []
    with torch.no_grad():
        for name, layer in model.named_children():
            inputs = layer(inputs)
            if name.startswith("act") or name == "out":
                outputs.append(inputs)
    return outputs


def train_to_best(
    net: Net,
    seeds: Sequence[int],
    rates: Sequence[float],
    data: uk.nets.LabelledData,
    *,
    epochs: int,
    batch_size: int = 128,
    stop: bool = True,
    hope: float = 0.0,
) -> Trained:
    """Train one net a seed, each with its learning rate, until it has every point right.

    A seed draws the weights and the order of the samples. Of epochs of equal accuracy the first counts;
    without ``stop`` all ``epochs`` are trained and the last counts. A stack none of whose nets is at
    ``hope`` after a third of the epochs is given up.
    """
    models = [net.draw(seed) for seed in seeds]
    accuracies, when = [0.0] * len(seeds), [0] * len(seeds)
    weights: list[Tensor] = [nn.utils.parameters_to_vector(m.parameters()).detach() for m in models]

    def keep_best(progress: Progress) -> None:
        for i in progress.running:
            accuracy = progress.train_accuracy[i][-1]
            if accuracy > accuracies[i] or (accuracy == accuracies[i] and not stop):
                accuracies[i], when[i] = accuracy, round(progress.epoch)
                weights[i] = progress.parameters[i].clone()

    def give_up(progress: Progress) -> list[int]:
        hopeless = round(progress.epoch) == epochs // 3 and max(accuracies) < hope
        return progress.running if hopeless else []

    uk.study.train_stack(
        models, data.without_test(), learning_rates=rates, seeds=seeds, epochs=epochs,
        batch_size=batch_size, read_at=after_each_epoch, on_checkpoint=keep_best, give_up=give_up,
        is_done=lambda train, test: stop and train == 1,
    )  # fmt: skip
    with torch.no_grad():
        for model, vector in zip(models, weights, strict=True):
            nn.utils.vector_to_parameters(vector, model.parameters())
    return Trained(tuple(models), tuple(accuracies), tuple(when))


def after_each_epoch(steps_an_epoch: int, epochs: int) -> range:
    return range(steps_an_epoch, steps_an_epoch * epochs + 1, steps_an_epoch)
