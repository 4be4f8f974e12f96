"""A small training loop for classifiers whose data fit in memory: studies, fine-tuning, the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.console import track
from unknot.core.errors import InputError, require_count
from unknot.nets.running import first_tensor


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Samples in memory, with a test split that nothing is trained or measured on.

    Attributes:
        name: of the data set.
        inputs, labels: float32 ``[n, ...]`` and int64 ``[n]``, for training and measuring.
        test_inputs, test_labels: likewise, disjoint.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    @property
    def n_classes(self) -> int:
        return int(torch.cat([self.labels, self.test_labels]).max()) + 1

    def without_test(self) -> LabelledData:
        return replace(self, test_inputs=self.test_inputs[:0], test_labels=self.test_labels[:0])

    def limited(self, most: int, seed: int = 0) -> LabelledData:
        """At most so many samples for training and as many for testing, drawn at random."""
        require_count("most", most)
        generator = torch.Generator().manual_seed(seed)
        train = torch.randperm(len(self.inputs), generator=generator)[:most]
        test = torch.randperm(len(self.test_inputs), generator=generator)[:most]
        return LabelledData(
            self.name, self.inputs[train], self.labels[train],
            self.test_inputs[test], self.test_labels[test],
        )  # fmt: skip


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
        accuracies.append(accuracy(model, inputs, labels))
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


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 4096) -> float:
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
