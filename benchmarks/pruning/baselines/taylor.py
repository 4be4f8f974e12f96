"""Taylor: the channels whose removal changes the loss least, to first order.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (arXiv 1906.10771): a gate of value
1 on every channel after its batch normalisation; importance is the square of the loss's gradient at the
gate, which is the sum of gradient times activation, averaged over batches. Uses the labels of the
calibration images. Afterwards the statistics of the batch normalisation are measured anew: batches
of 8, 32 and 512 lost 23.8, 25.1 and 29.3 points, those of 32 without that 36.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import unknot as uk

from .wiring import Scores, Task, copied

BATCH = 8


def scores(task: Task, batch: int = BATCH) -> Scores:
    model = copied(task.model)
    gates = {
        wire.name: torch.ones(len(task.layer(wire.name).weight), requires_grad=True)
        for wire in task.wires
        if wire.writes
    }

    def gated(gate: Tensor) -> Any:
        return lambda module, given, output: output * gate[:, None, None]

    for wire in task.wires:
        if wire.writes:
            task.layer(wire.norm or wire.name, model).register_forward_hook(gated(gates[wire.name]))
    found = {name: torch.zeros(len(gate)) for name, gate in gates.items()}
    for images, labels in zip(task.images.split(batch), task.labels.split(batch), strict=True):
        loss = nn.functional.cross_entropy(model(images), labels)
        for name, slope in zip(gates, torch.autograd.grad(loss, list(gates.values())), strict=True):
            found[name] += slope.square()
    return found


def prune(task: Task) -> nn.Module:
    return task.recalibrated(prune_only(task))


def prune_only(task: Task) -> nn.Module:
    """Without any repair."""
    return uk.prune(task.model, task.plan(scores(task)))
