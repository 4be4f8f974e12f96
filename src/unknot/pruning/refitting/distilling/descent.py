"""Steps along gradients that get far in a hundred of them.

A gradient of a weight matrix has a few strong directions, and Adam goes along these. Here all its
directions count alike: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024),
with the size of a step that Liu et al., "Muon is scalable for LLM training" (2025), give it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Of the quintic whose repetition brings singular values near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
REPEATS = 5
MOMENTUM = 0.9
SPREAD = 0.99  # of Adam's mean of squares
SIZE = 0.2  # root mean square of a step at rate 1, as Adam's steps have it
MOST_WORK = 2**31  # entries times the smaller side of a matrix: more takes too long at every step


class Muon(torch.optim.Optimizer):
    """Muon on weights of two and more dimensions, which are matrices ``[out, rest]``; Adam on all else.

    Adam also on embeddings, of which a step sees some rows, on depthwise filters, which have nothing to
    do with each other, and on matrices too large for it.
    """

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter], rate: float) -> None:
        super().__init__(list(parameters), {"lr": rate})
        self.tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(self._change(parameter, parameter.grad), alpha=group["lr"])

    def _change(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
            state["square"], state["step"] = torch.zeros_like(parameter), 0
        mean, square = state["mean"], state["square"]
        state["step"] += 1
        if self._is_matrix(parameter):
            mean.mul_(MOMENTUM).add_(gradient)
            ahead = (gradient + MOMENTUM * mean).flatten(1)
            size: float = SIZE * max(ahead.shape) ** 0.5
            return size * orthogonal(ahead).view_as(parameter)
        mean.lerp_(gradient, 1 - MOMENTUM)
        square.lerp_(gradient.square(), 1 - SPREAD)
        spread: Tensor = (square / (1 - SPREAD ** state["step"])).sqrt() + 1e-8
        change: Tensor = mean / (1 - MOMENTUM ** state["step"]) / spread
        return change

    def _is_matrix(self, weight: Tensor) -> bool:
        if weight.ndim < 2 or id(weight) in self.tables or (weight.ndim > 2 and weight.shape[1] == 1):
            return False
        smaller = min(len(weight), weight[0].numel())
        return smaller > 1 and weight.numel() * smaller <= MOST_WORK


def orthogonal(matrix: Tensor) -> Tensor:
    """Near to ``U V^T`` of ``matrix = U S V^T``: its singular values brought to between .7 and 1.2."""
    a, b, c = QUINTIC
    x: Tensor = matrix.mT if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-30)
    for _ in range(REPEATS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if len(matrix) > matrix.shape[1] else x
