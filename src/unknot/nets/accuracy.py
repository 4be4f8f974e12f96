"""Which share of samples a model classifies rightly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.running import first_tensor


def class_scores(model: nn.Module, inputs: Tensor) -> Tensor:
    """What the model returns; of a container the first tensor with one row a sample, the logits."""
    output = model(inputs)
    found = output if isinstance(output, Tensor) else first_tensor(output, len(inputs))
    if found is None:
        raise InputError(
            f"an output of type {type(output).__name__} without scores",
            "a classifier that returns [n, classes]",
            "return logits",
        )
    return found


def measure_accuracy(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 4096
) -> float:
    """Share of samples classified rightly, in eval mode, where the model is left."""
    return count_right(model, inputs, labels, batch_size=batch_size) / len(inputs)


def count_right(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 4096) -> int:
    """How many samples are classified rightly, in eval mode, where the model is left."""
    model.eval()
    with torch.no_grad():
        return sum(
            int((predicted(class_scores(model, x)) == y).sum().item())
            for x, y in zip(torch.split(inputs, batch_size), torch.split(labels, batch_size), strict=True)
        )


def predicted(logits: Tensor) -> Tensor:
    """The class of the highest score, the first of equals: ``[..., classes] -> [...]``, int64."""
    if logits.shape[-1] == 2:  # argmax over so few takes longer than a layer of fifty units
        return (logits[..., 1] > logits[..., 0]).long()
    return logits.argmax(-1)


def share_right(output: Tensor, labels: Tensor | None) -> float | None:
    """Accuracy of scores ``[n, classes]``, or of logits ``[n]`` or ``[n, 1]`` of two classes."""
    if labels is None or output.ndim > 2 or int(labels.min()) < 0:
        return None
    scores = output[:, 0] if output.ndim == 2 and output.shape[1] == 1 else output
    if scores.ndim == 1:
        return float(((scores > 0) == labels).float().mean()) if int(labels.max()) < 2 else None
    return float((scores.argmax(1) == labels).float().mean()) if scores.shape[1] > labels.max() else None
