"""What a net is trained for: classes, or numbers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from unknot.nets.accuracy import class_loss, squared_loss
from unknot.study.stack import Loss


class Problem(Protocol):
    """How outputs of nets are trained and judged.

    Attributes:
        outputs: of a net, for each sample.
    """

    outputs: int

    @property
    def loss(self) -> Loss: ...

    def judge(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, float]:
        """The mean loss of some samples, and a score, higher is better.

        Args:
            outputs: ``[n, outputs]``.
            targets: of these samples.
            weights: of them, ``[n]``.
        """


class Classes:
    """One of ``outputs`` classes: cross entropy in nats, and the share classified rightly."""

    def __init__(self, n_classes: int) -> None:
        self.outputs = n_classes
        self.loss: Loss = class_loss

    def judge(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, float]:
        losses = class_loss(outputs, targets, reduction="none")
        right = (outputs.argmax(1) == targets).to(weights)
        return float(losses @ weights / weights.sum()), float(right @ weights / weights.sum())


class Numbers:
    """``outputs`` numbers of mean 0 and standard deviation 1: squared error, and R^2."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.loss: Loss = squared_loss

    def judge(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, float]:
        errors = weights @ (outputs - targets).square()
        middle = (weights @ targets) / weights.sum()
        spread = weights @ (targets - middle).square()
        loss = float(errors.sum() / weights.sum())
        return loss, float((1 - errors / spread.clamp(min=torch.finfo(spread.dtype).tiny)).mean())
