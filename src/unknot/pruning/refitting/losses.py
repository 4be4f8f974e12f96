"""How far the outputs of a pruned model are from the original's, as one number."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unknot.core.errors import InputError
from unknot.nets.accuracy import class_scores
from unknot.pruning.refitting.original import one_row_each
from unknot.pruning.refitting.targets import relative_error

Loss = Literal["kl", "error"]


def loss_for(asked: Literal["auto", "kl", "error"], output: Any, n: int, *, classes: bool) -> Loss:
    """Which loss to take of what a model returned for ``n`` samples.

    Args:
        asked: "auto": "kl" where the model tells ``classes`` apart and returns scores of them.
        output: ``[n, c]`` or a container; see `class_scores`.
        n: samples.
        classes: whether there are labels of classes.

    Raises:
        InputError: "kl" is asked for, and the output has no scores.
    """
    if asked == "error" or (asked == "auto" and not classes):
        return "error"
    try:
        class_scores(output, n)
    except InputError:
        if asked == "kl":
            raise
        return "error"
    return "kl"


def comparable(kind: Loss, output: Any, n: int) -> Tensor:
    """What of an output for ``n`` samples the loss is of: class scores ``[n, c]``, or all, ``[n, d]``."""
    return class_scores(output, n) if kind == "kl" else one_row_each(output, n)


def output_loss(kind: Loss, wanted: Tensor, outputs: Tensor) -> float:
    """ "kl": KL(original || pruned) of class probabilities, nats a sample, mean over the samples; of one
    logit those of two classes. "error": see `relative_error`. Infinity for outputs with NaN.
    """
    if not bool(outputs.isfinite().all()):
        return float("inf")
    if kind == "error":
        return relative_error(outputs, wanted)
    was, now = (_log_probabilities(t.double()) for t in (wanted, outputs))
    return max(0.0, float((was.exp() * (was - now)).sum(1).mean()))


def _log_probabilities(scores: Tensor) -> Tensor:
    if scores.shape[1] == 1:  # the logit of class 1
        scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
    return F.log_softmax(scores, dim=1)
