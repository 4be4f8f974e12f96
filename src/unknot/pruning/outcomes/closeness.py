"""How close a pruned model's outputs are to the original's, where no labels say which are right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unknot.nets.accuracy import predicted
from unknot.nets.probe import Inputs, Probe
from unknot.nets.running import as_it_was, call_model, n_samples, named_scores, placed
from unknot.pruning.refitting.original import one_row_each

AT_ONCE = 64  # samples


@dataclass(frozen=True)
class Closeness:
    """Of two models' outputs for the same samples.

    Attributes:
        agreement: share of samples for which both give the same of their outputs the highest value; None
            where they do not return ``[n, c]``, one number a class.
        error: mean square of the difference over the variance of the original's; of a single sample,
            which has none, over their mean square.
    """

    agreement: float | None
    error: float


def compare_outputs(model: nn.Module, slim: nn.Module, inputs: Inputs) -> Closeness:
    """The closeness of ``slim`` to ``model`` on ``inputs``, in eval mode.

    With NaN the error is infinite, and the sample one on which they do not agree.
    """
    same, compared = 0, True
    difference, total, squares = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    for batch in Probe(inputs).batches(AT_ONCE):
        n = n_samples(batch)
        wanted, found = (_output(m, batch) for m in (model, slim))
        answers = [_answers(output, n) for output in (wanted, found)]
        if answers[0] is None or answers[1] is None:
            compared = False
        else:
            same += int(((answers[0] == answers[1]) & (answers[0] >= 0)).sum())
        rows, others = (one_row_each(output, n).double().cpu() for output in (wanted, found))
        difference = difference + (rows - others).square().mean(1).sum()
        total, squares = total + rows.sum(0), squares + rows.square().mean(1).sum()
    n = n_samples(inputs)
    power = squares / n
    variance = (power - (total / n).square().mean()).clamp_min(0) if n > 1 else power
    error = float(difference / n / (variance + 1e-30))
    return Closeness(same / n if compared else None, error if math.isfinite(error) else math.inf)


def _output(model: nn.Module, batch: Inputs) -> Any:
    with as_it_was(model):
        return call_model(model, placed(batch, model))


def _answers(output: Any, n: int) -> Tensor | None:
    """Which of a sample's outputs is the highest, ``[n]``; None where that says nothing."""
    scores = next((part for part in named_scores(output) if isinstance(part, Tensor)), None)
    if scores is None or scores.ndim != 2 or len(scores) != n or scores.shape[1] < 2:
        return None
    return predicted(scores)
