"""A small training loop for classifiers whose data fit in memory: studies, fine-tuning, the demo."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_count, require_number, require_positive, require_share
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.nets.accuracy import (
    class_loss,
    count_right,
    fit_labels,
    model_scores,
    predicted,
    require_classifier,
)
from unknot.nets.data import Data, LabelledData, labelled_data
from unknot.nets.probe import as_inputs, as_labels
from unknot.nets.running import require_module

Epoch = TypeVar("Epoch", int, float)


@dataclass(frozen=True, repr=False)
class TrainingCurve(Tabular):
    """Accuracy after each epoch; the first entry is epoch 1.

    Attributes:
        train_accuracy: share of the training samples classified rightly, in eval mode, after the
            epoch.
        loss: mean cross entropy of the epoch's batches, in nats.
    """

    train_accuracy: tuple[float, ...]
    loss: tuple[float, ...]

    def _columns(self) -> dict[str, Sequence[float]]:
        epochs = range(1, 1 + len(self.loss))
        return {"epoch": epochs, "train_accuracy": self.train_accuracy, "loss": self.loss}

    def _title(self) -> str:
        return f"TrainingCurve of {len(self.loss):,} epoch{'s' * (len(self.loss) != 1)}"

    def plot(self, ax: Any = None) -> Any:
        """Draw the train accuracy after each epoch.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no epochs, matplotlib is not installed.
        """
        drawing.require_rows(self.loss, "a curve")
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        axes.plot(range(1, 1 + len(self.loss)), self.train_accuracy, color=drawing.KEPT)
        axes.set(xlabel="epoch", ylabel="train accuracy")
        drawing.percent_axis(axes, "y")
        drawing.whole_ticks(axes, "x")
        drawing.plain(axes)
        return axes

    def epochs_to(self, target: float) -> int | None:
        """The first epoch after which train accuracy is at least ``target``; None if there is none."""
        require_number("target", target, "a number", low=-math.inf, high=math.inf, example=0.99)
        return epochs_to(target, self.train_accuracy, count(1))


def epochs_to(target: float, accuracies: Iterable[float], epochs: Iterable[Epoch]) -> Epoch | None:
    """The first of ``epochs`` whose accuracy is at least ``target``; None where there is none."""
    reached = (epoch for accuracy, epoch in zip(accuracies, epochs, strict=False) if accuracy >= target)
    return next(reached, None)


def batches_an_epoch(n: int, batch_size: int) -> int:
    """Batches of an epoch of ``n`` samples, without a last one of a single sample if there are others."""
    # Batch normalisation has no variance of one sample.
    require_count("batch_size", batch_size)
    return max(1, math.ceil(n / batch_size) - (n > 1 and n % batch_size == 1))


def descend(
    model: nn.Module,
    data: LabelledData,
    *,
    learning_rate: float,
    batch_size: int,
    seed: int,
    loss_of: Callable[[Tensor, Tensor], Tensor] = class_loss,
    factor: Callable[[], float] = lambda: 1.0,
) -> Iterator[Tensor]:
    """Adam, one step and its loss at a time, without end; in the mode of the model.

    The order of the training samples is drawn anew each epoch.

    Args:
        loss_of: (outputs, targets) -> the mean loss of a batch.
        factor: of the learning rate, asked before each step.
    """
    order = torch.Generator().manual_seed(seed)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            "a model without parameters that learn", "at least one", "call model.requires_grad_()"
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    batches = batches_an_epoch(len(data.inputs), batch_size)
    while True:
        permutation = torch.randperm(len(data.inputs), generator=order)
        for batch in torch.split(permutation, batch_size)[:batches]:
            loss = loss_of(model_scores(model, data.inputs[batch]), data.labels[batch])
            optimizer.param_groups[0]["lr"] = learning_rate * factor()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield loss.detach()


def train(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    stop_at: float | None = None,
    seed: int = 0,
    on_epoch: Callable[[int], object] = lambda epoch: None,
    progress: str | None = "auto",
) -> TrainingCurve:
    """Train a classifier in place with Adam and cross entropy, binary where it has one logit.

    Args:
        model: ``[n, ...] -> [n, classes]``, or ``[n]`` or ``[n, 1]`` of one logit, on its own or in
            a container, there under "logits", else "scores", else first; left in eval mode.
        inputs: an array ``[n, ...]``; each batch is moved to the model's device and precision.
        labels: whole numbers or booleans, ``[n]`` or ``[n, 1]``.
        epochs: at most.
        learning_rate: of Adam, > 0.
        batch_size: samples a step; a last batch of one sample is left out where there are others.
        stop_at: end after the first epoch with this train accuracy, in [0, 1]; None: train all
            ``epochs``.
        seed: of the order of the samples.
        on_epoch: called with 1, 2, ... after each epoch, the model in eval mode; where it returns True,
            training ends.
        progress: label of a progress bar on stderr where that is a terminal; "auto" is "training", from
            two seconds on; None is none.

    Returns:
        Accuracy and loss after each epoch that was trained.

    Raises:
        InputError: bad numbers, a model without parameters that learn, labels that do not fit its
            scores, a probability instead of a logit, or a loss that is no longer finite (named with
            its epoch).
    """
    require_module(model, scripted=True)
    require_count("epochs", epochs, minimum=0)
    require_positive("learning_rate", learning_rate, 1e-3)
    require_count("seed", seed, minimum=0)
    if stop_at is not None:
        require_share("stop_at", stop_at)
    if not callable(on_epoch):
        raise InputError(f"on_epoch = {on_epoch!r}", "a function of the epoch", "pass e.g. print")
    inputs, labels = _one_tensor(inputs), as_labels(labels)
    if labels.shape[:1] != inputs.shape[:1] or len(inputs) == 0:
        n_labels = len(labels) if labels.ndim else "no"
        raise InputError(
            f"{len(inputs)} inputs and {n_labels} labels",
            "as many of both, not none",
            "pass one label for each input",
        )
    if epochs:
        require_classifier(model, inputs, labels)
    batches = batches_an_epoch(len(inputs), batch_size)
    data = LabelledData("", inputs, labels, inputs[:0], labels[:0])
    steps = descend(model, data, learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    accuracies: list[float] = []
    losses: list[float] = []
    show: ShowProgress = "auto" if progress == "auto" else progress is not None
    label = "training" if progress in (None, "auto") else str(progress)
    for epoch in track(range(1, epochs + 1), label, show=show):
        model.train()
        losses.append(sum(loss.item() for loss in islice(steps, batches)) / batches)
        if not losses[-1] < math.inf:
            raise InputError(
                f"loss = {losses[-1]} in epoch {epoch}", "a finite loss", "lower the learning rate"
            )
        accuracies.append(count_right(model, inputs, labels) / len(inputs))
        stopped = on_epoch(epoch) is True
        if stopped or (stop_at is not None and accuracies[-1] >= stop_at):
            break
    model.eval()
    return TrainingCurve(tuple(accuracies), tuple(losses))


def _one_tensor(inputs: Any) -> Tensor:
    samples = as_inputs(inputs)
    if not isinstance(samples, Tensor):
        raise InputError(f"inputs of {len(samples)} arrays", "one", "wrap the model so that it takes one")
    return samples


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


def fine_tune(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    patience: int | None = 3,
    seed: int = 0,
    progress: str | None = "auto",
) -> Tuning:
    """Train in place with `train`, stop when it no longer helps, and take the best weights.

    Args:
        data: what `keep_apart` gave, or what `labelled_data` takes: trained on its samples, stopped by
            its ``test_*``.
        model, epochs, learning_rate, seed, progress: as of `train`.
        patience: stop after so many epochs in a row without better accuracy on the samples kept apart
            (of equal ones the lower cross entropy is better). None: train all ``epochs`` and keep the
            last weights.
    """
    require_module(model, scripted=True)
    data = labelled_data(data)
    require_count("epochs", epochs, minimum=0)
    if patience is not None:
        require_count("patience", patience)
    watched = patience is not None and len(data.test_labels) > 0 and epochs > 0
    if watched:
        require_classifier(model, data.test_inputs, data.test_labels)
    marks = [_mark(model, data.test_inputs, data.test_labels)] if watched else []
    best, weights = 0, copy.deepcopy(model.state_dict()) if watched else {}

    def judge(epoch: int) -> bool:
        """Keep the best weights; whether patience is at its end."""
        nonlocal best, weights
        if not marks or patience is None:
            return False
        marks.append(_mark(model, data.test_inputs, data.test_labels))
        if marks[-1] > marks[best]:
            best, weights = epoch, copy.deepcopy(model.state_dict())
        return epoch - best >= patience

    curve = train(
        model, data.inputs, data.labels, epochs=epochs, learning_rate=learning_rate, seed=seed,
        on_epoch=judge, progress=progress,
    )  # fmt: skip
    if marks:
        model.load_state_dict(weights)
    trained, accuracies = len(curve.loss), tuple(accuracy for accuracy, _ in marks)
    return Tuning(trained, best if marks else trained, accuracies, len(data.test_labels))


def _mark(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy, and minus the cross entropy, in eval mode; the higher the better."""
    model.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for x, y in zip(torch.split(inputs, 4096), torch.split(labels, 4096), strict=True):
            scores = model_scores(model, x)
            classes = fit_labels(y, scores)
            right += int((predicted(scores) == classes).sum())
            loss += float(class_loss(scores, classes, reduction="sum"))
    return right / len(labels), -loss
