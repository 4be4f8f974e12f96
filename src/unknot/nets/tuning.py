"""Fine-tuning with early stop: the weights that do best on samples kept apart."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.errors import InputError, require_count
from unknot.nets.training import LabelledData, accuracy, class_scores, train

SHARE = 0.1  # of the training samples, kept apart


@dataclass(frozen=True)
class Tuning:
    """How fine-tuning went.

    Attributes:
        epochs: trained.
        best_epoch: whose weights the model has now; 0 where none was better than none.
        validation: accuracy on the samples kept apart, before the first epoch and after each; empty
            where there were none.
        n_validation: samples kept apart.
    """

    epochs: int
    best_epoch: int
    validation: tuple[float, ...]
    n_validation: int


class _Enough(Exception):
    """Ends `train` from its callback."""


def keep_apart(data: LabelledData, *, share: float = SHARE, seed: int = 0) -> LabelledData:
    """The training samples in two, stratified by class: what is left to train on, and as ``test_*`` the
    share kept apart, empty where a class has too few samples to spare one. The test samples are not
    touched.

    Args:
        share: of the training samples, in (0, 1).
        seed: of the choice.
    """
    if not 0 < share < 1:
        raise InputError(f"share = {share}", "a number in (0, 1)", "pass e.g. 0.1")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.labels), generator=generator)
    labels = data.labels.cpu()[order]
    apart = torch.zeros(len(labels), dtype=torch.bool)
    for label in set(labels.tolist()):
        at = (labels == label).nonzero().flatten()
        apart[at[: round(share * len(at))]] = True
    left, kept = (order[mask].sort().values.to(data.labels.device) for mask in (~apart, apart))
    return replace(
        data,
        inputs=data.inputs[left],
        labels=data.labels[left],
        test_inputs=data.inputs[kept],
        test_labels=data.labels[kept],
    )


def fine_tune(
    model: nn.Module,
    data: LabelledData,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    patience: int | None = 3,
    seed: int = 0,
    progress: str | None = None,
) -> Tuning:
    """Train in place with `train`, stop when it no longer helps, and take the best weights.

    Args:
        data: what `keep_apart` gave: trained on its samples, stopped by its ``test_*``.
        epochs: at most.
        patience: stop after so many epochs in a row without better accuracy on the samples kept apart
            (of equal ones the lower cross entropy is better). None: train ``epochs`` and keep the last.
        progress: label of the progress bar, none where None.
    """
    require_count("epochs", epochs, minimum=0)
    watched = patience is not None and len(data.test_labels) > 0
    if patience is not None:
        require_count("patience", patience)
    marks = [_mark(model, data.test_inputs, data.test_labels)] if watched and epochs else []
    best, weights = 0, copy.deepcopy(model.state_dict()) if marks else {}
    ran = 0

    def look(epoch: int) -> None:
        nonlocal best, weights, ran
        ran = epoch
        if not marks:
            return
        marks.append(_mark(model, data.test_inputs, data.test_labels))
        if marks[-1] > marks[best]:
            best, weights = epoch, copy.deepcopy(model.state_dict())
        elif patience is not None and epoch - best >= patience:
            raise _Enough

    try:
        train(
            model, data.inputs, data.labels, epochs=epochs, learning_rate=learning_rate, seed=seed,
            on_epoch=look, progress=progress,
        )  # fmt: skip
    except _Enough:
        model.eval()
    if marks:
        model.load_state_dict(weights)
    return Tuning(ran, best if marks else ran, tuple(a for a, _ in marks), len(data.test_labels))


def _mark(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy, and minus the cross entropy; the higher the better."""
    with torch.no_grad():
        share = accuracy(model, inputs, labels)
        batches = zip(torch.split(inputs, 4096), torch.split(labels, 4096), strict=True)
        loss = sum(float(F.cross_entropy(class_scores(model, x), y, reduction="sum")) for x, y in batches)
    return share, -loss
