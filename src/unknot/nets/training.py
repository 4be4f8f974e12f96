"""A small training loop for classifiers whose data fit in memory: studies, fine-tuning, the demo."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.console import track
from unknot.core.errors import InputError, require_count
from unknot.nets.accuracy import class_scores, measure_accuracy
from unknot.nets.data import LabelledData


@dataclass(frozen=True)
class TrainingCurve:
    """Accuracy after each epoch; the first entry is epoch 1.

    Attributes:
        train_accuracy: share of the training samples classified rightly, in eval mode, after the
            epoch.
        loss: mean cross entropy of the epoch's batches, in nats.
    """

    train_accuracy: tuple[float, ...]
    loss: tuple[float, ...]

    def epochs_to(self, target: float) -> int | None:
        """The first epoch after which train accuracy is at least ``target``; None if there is none."""
        return epochs_to(self.train_accuracy, target)


def epochs_to(accuracies: Sequence[float], target: float) -> int | None:
    """The first epoch, counted from 1, with at least ``target``; None where it is never reached."""
    return next((i for i, a in enumerate(accuracies, start=1) if a >= target), None)


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    stop_at: float | None = None,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
    progress: str | None = None,
) -> TrainingCurve:
    """Train a classifier in place with Adam and cross entropy.

    Args:
        model: ``[n, ...] -> [n, classes]``; left in eval mode.
        inputs: float ``[n, ...]``, already on the model's device.
        labels: int64 ``[n]``.
        stop_at: end after the first epoch with this train accuracy.
        seed: of the order of the samples.
        on_epoch: called with 1, 2, ... after each epoch, the model in eval mode.
        progress: label of a progress bar on stderr, none where None.

    Raises:
        InputError: bad numbers, or a loss that is no longer finite (named with its epoch).
    """
    require_count("epochs", epochs, minimum=0)
    require_count("batch_size", batch_size)
    if not learning_rate > 0:
        raise InputError(f"learning_rate = {learning_rate}", "a number > 0", "pass e.g. 1e-3")
    if len(inputs) != len(labels) or len(inputs) == 0:
        raise InputError(
            f"{len(inputs)} inputs and {len(labels)} labels", "as many of both, not none", "check"
        )
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    accuracies: list[float] = []
    losses: list[float] = []
    for epoch in track(range(1, epochs + 1), progress or "", show=progress is not None):
        model.train()
        total, batches = 0.0, 0
        for batch in torch.split(torch.randperm(len(inputs), generator=order), batch_size):
            if len(batch) == 1 < len(inputs):
                continue  # batch normalisation has no variance of one sample
            loss = F.cross_entropy(class_scores(model, inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, batches = total + loss.item(), batches + 1
        losses.append(total / max(batches, 1))
        if not losses[-1] < float("inf"):
            raise InputError(
                f"loss = {losses[-1]} in epoch {epoch}", "a finite loss", "lower the learning rate"
            )
        accuracies.append(measure_accuracy(model, inputs, labels))
        if on_epoch is not None:
            on_epoch(epoch)
        if stop_at is not None and accuracies[-1] >= stop_at:
            break
    model.eval()
    return TrainingCurve(tuple(accuracies), tuple(losses))


def train_first(model: nn.Module, data: LabelledData, epochs: int, seed: int) -> None:
    """The training that the command's ``--train`` asks for, with a progress bar."""
    train(model, data.inputs, data.labels, epochs=epochs, seed=seed, progress="training")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: small nets gain nothing from more, and results do not depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
        share = measure_accuracy(model, inputs, labels)
        batches = zip(torch.split(inputs, 4096), torch.split(labels, 4096), strict=True)
        loss = sum(float(F.cross_entropy(class_scores(model, x), y, reduction="sum")) for x, y in batches)
    return share, -loss
