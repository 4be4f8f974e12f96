"""Nets that go on learning, batch of rows by batch of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unknot.estimators.descent import Samples, Trained
from unknot.estimators.problems import Problem
from unknot.nets.training import one_thread
from unknot.study.stack import Stack, fill_models

BATCH = 128
# Of the learning rate that a cell was chosen with, which fell to 0 while it was trained.
RATE = 0.1


class Stream:
    """Stacks of trained nets with their Adam, kept from one batch of rows to the next.

    Args:
        nets: they are changed in place.
        problem: they were trained for.
        seed: of the order of the rows.
    """

    def __init__(self, nets: Sequence[Trained], problem: Problem, seed: int) -> None:
        self._groups: list[tuple[list[Trained], Stack]] = []
        for name in sorted({net.cell.activation for net in nets}):
            group = [net for net in nets if net.cell.activation == name]
            rates = [RATE * net.cell.learning_rate for net in group]
            self._groups.append((group, Stack([n.model for n in group], rates, loss=problem.loss)))
        self._seed = seed

    def learn(self, samples: Samples) -> None:
        """One pass over these samples, each net in an order of its own."""
        with one_thread():
            for group, stack in self._groups:
                draw = torch.Generator().manual_seed(self._seed + stack.steps)
                orders = torch.stack([torch.randperm(len(samples), generator=draw) for _ in group])
                for batch in torch.split(orders, BATCH, dim=1):
                    stack.step(samples.inputs[batch], samples.targets[batch], samples.weights[batch])
                fill_models([net.model for net in group], stack.parameters)
