"""Nets of an estimator trained at once, each on its own part of the samples, held-out ones judging it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.estimators.problems import Problem
from unknot.nets.models import mlp
from unknot.nets.training import one_thread
from unknot.study.budget.task import SCHEDULES
from unknot.study.stack import Stack, fill_models

# How often held-out samples are asked during a training, and how often in vain before it ends.
READINGS, PATIENCE = 24, 8
# Nets of a stack at most: more leave no stack for another thread, fewer leave work to Python.
TOGETHER = 5


@dataclass(frozen=True)
class Cell:
    """What is chosen: an activation by name, the learning rate of Adam, and a multiple of its gain."""

    activation: str
    learning_rate: float
    gain: float


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs ``[n, features]``, targets as of the problem, weights ``[n]`` of mean 1; on the CPU."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Part:
    """Numbers of the samples that a net is trained on, and of those that judge it, maybe none."""

    trained: NDArray[np.int64]
    held_out: NDArray[np.int64]


@dataclass(frozen=True)
class Effort:
    """How long nets are trained.

    Attributes:
        width, depth: units of a hidden layer, and hidden layers.
        steps: of Adam, its rate falling to 0 along half a cosine.
        batch_size: samples a step.
    """

    width: int
    depth: int
    steps: int
    batch_size: int


@dataclass(frozen=True, eq=False)
class Trained:
    """One net with the weights that its held-out samples liked best, in eval mode.

    Attributes:
        cell: it was trained with.
        model: ``[n, features] -> [n, outputs]``.
        loss, score: of the held-out samples; NaN where there are none, infinite loss where it diverged.
        epochs: it was trained for by then.
    """

    cell: Cell
    model: nn.Module
    loss: float
    score: float
    epochs: float


@dataclass(frozen=True)
class NetShape:
    """Numbers that go into a net and come out, units of a hidden layer, and hidden layers."""

    inputs: int
    outputs: int
    width: int
    depth: int


def new_net(cell: Cell, shape: NetShape, seed: int) -> nn.Module:
    """``[n, inputs] -> [n, outputs]``, its weights drawn for the activation of the cell and its gain."""
    new = ACTIVATIONS[cell.activation]
    model = mlp(shape.inputs, shape.outputs, width=shape.width, depth=shape.depth, activation=new)
    return init_by_gain(model, new(), multiplier=cell.gain, seed=seed)


Tick = Callable[[float], None]


def no_tick(work: float) -> None:
    """Tells nobody what has been done."""


def train_nets(
    nets: Sequence[tuple[Cell, Part]],
    effort: Effort,
    *,
    samples: Samples,
    problem: Problem,
    jobs: int = 1,
    seed: int,
    tick: Tick = no_tick,
) -> list[Trained]:
    """Train one net for each cell and part; those of one activation as stacks.

    The result does not depend on ``jobs``.

    Args:
        nets: what each is trained with, and on.
        samples: all of them; a part tells which a net may see.
        jobs: threads; each trains one stack at a time.
        seed: of the weights and of the order of the samples.
        tick: told from time to time how many steps of one net have been made since.
    """
    runs = []
    for name in sorted({cell.activation for cell, _ in nets}):
        places = [i for i, (cell, _) in enumerate(nets) if cell.activation == name]
        for part in np.array_split(places, math.ceil(len(places) / TOGETHER)):
            some = part.tolist()
            runs.append((some, _Run([nets[i] for i in some], samples, problem)))
    with one_thread():  # of torch: the threads are those of the stacks
        done = Parallel(n_jobs=max(1, min(jobs, len(runs))), prefer="threads")(
            delayed(run.train)(effort, [seed + i for i in places], tick) for places, run in runs
        )
    trained: dict[int, Trained] = {}
    for (places, _), ones in zip(runs, done, strict=True):
        trained |= zip(places, ones, strict=True)
    return [trained[i] for i in range(len(nets))]


class _Run:
    """One stack and the best that each of its nets has been."""

    def __init__(self, nets: Sequence[tuple[Cell, Part]], samples: Samples, problem: Problem) -> None:
        self._cells, self._parts = [cell for cell, _ in nets], [part for _, part in nets]
        self._samples, self._problem = samples, problem

    def train(self, effort: Effort, seeds: Sequence[int], tick: Tick) -> list[Trained]:
        inputs = self._samples.inputs.shape[1]
        shape = NetShape(inputs, self._problem.outputs, effort.width, effort.depth)
        models = [new_net(cell, shape, seed) for cell, seed in zip(self._cells, seeds, strict=True)]
        rates = torch.tensor([cell.learning_rate for cell in self._cells])
        stack = Stack(models, rates.tolist(), loss=self._problem.loss)
        size = min(effort.batch_size, *(len(part.trained) for part in self._parts))
        orders = [_batches(part.trained, size, s) for part, s in zip(self._parts, seeds, strict=True)]
        best = [Trained(c, m, math.inf, math.nan, 0.0) for c, m in zip(self._cells, models, strict=True)]
        weights = stack.parameters.clone()
        waited = done = 0
        for step in sorted({math.ceil(effort.steps * i / READINGS) for i in range(1, READINGS + 1)}):
            for at in range(done, step):
                stack.rates = rates * SCHEDULES["cosine"](at / effort.steps)
                batch = torch.stack([next(order) for order in orders])
                samples = self._samples
                stack.step(samples.inputs[batch], samples.targets[batch], samples.weights[batch])
            tick((step - done) * len(models))
            done, waited = step, waited + 1
            for net in [net for net, fine in enumerate(stack.finite()) if fine]:
                loss, score = self._judged(stack, net)
                if loss < best[net].loss or math.isnan(loss):
                    epochs = step * size / len(self._parts[net].trained)
                    best[net] = replace(best[net], loss=loss, score=score, epochs=epochs)
                    weights[net], waited = stack.parameters[net], 0
            if waited >= PATIENCE:
                tick((effort.steps - step) * len(models))
                break
        fill_models([one.model for one in best], weights)
        return best

    def _judged(self, stack: Stack, net: int) -> tuple[float, float]:
        held_out = torch.from_numpy(self._parts[net].held_out)
        if len(held_out) == 0:
            return math.nan, math.nan
        samples = self._samples
        outputs = stack.outputs(samples.inputs[held_out], [net])[0]
        return self._problem.judge(outputs, samples.targets[held_out], samples.weights[held_out])


def _batches(numbers: NDArray[np.int64], size: int, seed: int) -> Iterator[Tensor]:
    """Batches of exactly ``size`` of the numbers, without end; each epoch in another order."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.from_numpy(numbers)
    while True:
        order = known[torch.randperm(len(known), generator=generator)]
        yield from torch.split(order[: len(order) // size * size], size)
