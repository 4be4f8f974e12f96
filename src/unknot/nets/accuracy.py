"""What a classifier answers, how many of its answers are right, and its loss: for everything that asks.

Scores are ``[n, classes]``; a single column is the logit of class 1 against class 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_count
from unknot.nets.probe import Inputs, Probe, as_inputs, as_labels, map_tensors, tensors_of
from unknot.nets.running import (
    as_it_was,
    call_model,
    named_scores,
    placed,
    require_module,
    score_tensor,
    unwrapped,
)

# Steps of autograd that leave each number as it is.
_VIEWS = {
    "Squeeze", "Unsqueeze", "View", "UnsafeView", "ReshapeAlias", "Select", "Slice", "Alias", "Permute",
    "Transpose", "T", "Clone", "ToCopy",
}  # fmt: skip


def class_scores(output: Any, n: int) -> Tensor:
    """The scores ``[n, classes]`` in what a classifier returned for ``n`` samples.

    Args:
        output: scores ``[n, classes]``, or one logit of two classes a sample, ``[n]`` or ``[n, 1]``; of
            one sample these without the axis of the samples too; or
            a container (tuple, dict, dataclass) that holds such under the key or attribute "logits",
            else "scores", else as its first floating-point tensor of ``n`` rows.

    Raises:
        InputError: it holds none, e.g. maps ``[n, c, h, w]`` or scores of each token ``[n, t, c]``.
    """
    scores = score_tensor(output, n)
    if scores is None and n == 1:  # the model has squeezed the axis away
        tensors = (part for part in named_scores(output) if isinstance(part, Tensor))
        squeezed = next((t for t in tensors if t.is_floating_point() and t.ndim < 2), None)
        scores = None if squeezed is None else squeezed.reshape(1, -1)
    if scores is None or scores.ndim > 2 or scores.shape[-1] == 0:
        shaped = output if scores is None else scores
        shape = f"shape {tuple(shaped.shape)}" if isinstance(shaped, Tensor) else type(output).__name__
        raise InputError(
            f"an output of {shape} without scores" if scores is None else f"scores of {shape}",
            f"a classifier that returns [n, classes], or [n] of one logit, for n = {n} samples",
            "return logits",
        )
    return scores[:, None] if scores.ndim == 1 else scores


def model_scores(model: nn.Module, inputs: Inputs) -> Tensor:
    """The scores ``[n, classes]`` that a model gives ``inputs``, on its device and in its precision."""
    n = len(Probe(inputs))
    return class_scores(call_model(model, placed(inputs, model)), n)


def ends_in_sigmoid(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the model turns its one logit into a probability, as autograd tells from two samples.

    False where it does not tell, e.g. for a model that runs without gradients.
    """

    def tracked(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        return copy.requires_grad_().clone() if copy.is_floating_point() else copy

    model, two = unwrapped(model, scripted=True), next(Probe(inputs).batches(2))
    try:
        with as_it_was(model), torch.enable_grad():
            output = call_model(model, map_tensors(placed(two, model), tracked))
            scores = class_scores(output, len(Probe(two)))
    except InputError:  # it takes no gradients, or gives no scores: others will say so
        return False
    step = scores.grad_fn if scores.shape[-1] == 1 else None
    while step is not None:
        name = step.name().rstrip("0123456789").removesuffix("Backward")
        if name not in _VIEWS:
            return name == "Sigmoid"
        step = step.next_functions[0][0]
    return False


def _require_logits(model: nn.Module, inputs: Inputs) -> None:
    if ends_in_sigmoid(model, inputs):
        raise InputError(
            "a model that ends in a sigmoid",
            "a logit, of which > 0 is class 1, as its one output",
            "return what enters the sigmoid",
        )


def fit_labels(labels: Tensor, scores: Tensor) -> Tensor:
    """Whole numbers or booleans ``[n]`` as int64, on the device of the scores ``[any, classes]``.

    Raises:
        InputError: targets that are no classes (float or ``[n, k]``), or a label that has no score.
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        what, remedy = _no_classes(labels)
        raise InputError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype}{what}".replace("torch.", ""),
            "one class a sample, int64 [n]",
            remedy,
        )
    classes = max(scores.shape[-1], 2)  # one logit tells two classes apart
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        low, high = int(labels.min()), int(labels.max())
        remedy = "pass the labels that the model was trained on"
        if (low, high) == (1, classes):
            remedy = "where they count from 1, pass labels - 1"
        elif low == -1 and bool((labels.abs() == 1).all()):
            remedy = "where they are signs, pass (labels > 0).long()"
        elif low < 0 and high < classes:
            remedy = "leave out the samples without a class"
        raise InputError(
            f"labels from {low} to {high} with {classes} classes", f"labels in [0, {classes})", remedy
        )
    return labels.to(scores.device, torch.int64)


def _no_classes(labels: Tensor) -> tuple[str, str]:
    """What targets are that are no class numbers, and what to do about them."""
    if labels.ndim == 2 and labels.shape[1] > 1 and bool(((labels != 0).sum(1) == 1).all()):
        return ", one-hot rows", "pass labels.argmax(1)"
    if not labels.is_floating_point():
        return "", "pass class numbers 0, 1, 2, ...; several labels a sample are not supported"
    if not bool(labels.isfinite().all()):
        return " with NaN or infinity", "leave out the samples without a class"
    if bool((labels == labels.round()).all()):
        return "", "pass labels.long(), class numbers 0, 1, 2, ..."
    return " with fractions", "pass class numbers 0, 1, 2, ...; regression is not supported"


def require_classifier(
    model: nn.Module, inputs: Inputs, labels: Tensor, names: Sequence[str] = ()
) -> None:
    """Refuse, before any training, a model and labels that do not fit; the model is left in eval mode.

    Args:
        model: gives ``inputs`` scores.
        inputs, labels: of the samples.
        names: of the classes, where these were numbered by their names: then the model has no others.
    """
    require_module(model, scripted=True)
    model.eval()
    with torch.no_grad():
        scores = model_scores(model, next(Probe(inputs).batches(2)))
    fit_labels(labels, scores)
    classes = max(scores.shape[-1], 2)
    if names and len(names) != classes:
        raise InputError(
            f"labels of {len(names)} name{'s' * (len(names) != 1)} with {classes} classes",
            "a name for each class of the model",
            "pass the numbers that the model was trained on",
        )
    _require_logits(model, inputs)


def predicted(scores: Tensor) -> Tensor:
    """The class of the highest score, the first of equals; -1 where one is NaN.

    ``[..., classes] -> [...]``, int64.
    """
    if scores.shape[-1] == 1:
        highest = scores[..., 0]
        best = highest > 0
    elif scores.shape[-1] == 2:  # max over so few takes longer than a layer of fifty units
        first, second = scores.unbind(-1)
        highest, best = torch.maximum(first, second), second > first
    else:
        highest, best = scores.max(-1)
    return best.long().masked_fill_(highest.isnan(), -1)


Reduction: TypeAlias = Literal["mean", "sum", "none"]


def class_loss(scores: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Cross entropy in nats, binary where there is one logit; half precision in float32.

    Scores ``[n, classes]`` are of `class_scores`, labels ``[n]`` of `fit_labels` or known to fit.
    """
    labels = labels.to(scores.device)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if scores.shape[-1] == 1:
        targets = labels.to(scores.dtype)
        return F.binary_cross_entropy_with_logits(scores[..., 0], targets, reduction=reduction)
    return F.cross_entropy(scores, labels.long(), reduction=reduction)


def squared_loss(outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Squared error, of outputs ``[n, k]`` summed over k; targets ``[n, k]``, or ``[n]`` where k is 1."""
    errors = (outputs - targets.to(outputs).view(outputs.shape)).square().sum(1)
    return errors if reduction == "none" else getattr(errors, reduction)()


def measure_accuracy(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    batch_size: int | None = None,
    progress: ShowProgress = "auto",
) -> float:
    """Share of samples classified rightly, in eval mode, where the model is left.

    A sample with NaN among its scores is not classified rightly; a warning says how many there are.

    Args:
        model: a classifier, see `class_scores`.
        inputs: an array ``[n, ...]``, a tuple of such (positional arguments) or a dict (keywords); each
            batch is moved to the model's device and precision.
        labels: whole numbers or booleans, ``[n]`` or ``[n, 1]``.
        batch_size: samples run at once; None: 16 to 256, fewer of larger ones.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: no model, no sample, an output without scores, a probability instead of a logit,
            labels that do not fit it.
    """
    require_module(model, scripted=True)
    if batch_size is not None:
        require_count("batch_size", batch_size)
    samples, classes = as_inputs(inputs), as_labels(labels)
    n = len(Probe(samples))
    if n == 0:
        raise InputError("the accuracy on 0 samples", "at least one", "pass samples with labels")
    right, unknown = _tally(model, samples, classes, batch_size, progress)
    _require_logits(model, samples)
    if unknown:
        warnings.warn(f"{unknown} of {n} samples have NaN among their scores: wrong", stacklevel=2)
    return right / n


def count_right(
    model: nn.Module, inputs: Inputs, labels: Tensor, *, batch_size: int | None = None
) -> int:
    """How many samples are classified rightly; arguments and errors as of `measure_accuracy`."""
    return _tally(model, inputs, labels, batch_size)[0]


def _tally(
    model: nn.Module,
    inputs: Inputs,
    labels: Tensor,
    batch_size: int | None,
    progress: ShowProgress = False,
) -> tuple[int, int]:
    """How many samples are classified rightly, and how many not at all, with NaN among their scores."""
    probe = Probe(inputs)
    if labels.shape[:1] != (len(probe),):
        n_labels = len(labels) if labels.ndim else "no"
        raise InputError(f"{len(probe)} inputs and {n_labels} labels", "as many of both", "check")
    # What a net makes of its inputs is many times as large: of thousands of images it is gigabytes.
    numbers = sum(t[:1].numel() for t in tensors_of(probe.inputs))
    batch_size = batch_size or min(256, max(16, 2**18 // max(1, numbers)))
    model.eval()
    right = unknown = 0
    batches = zip(probe.batches(batch_size), torch.split(labels, batch_size), strict=True)
    total = -(-len(probe) // batch_size)
    with torch.no_grad():
        for x, y in track(batches, "measuring accuracy", show=progress, total=total):
            scores = model_scores(model, x)
            found = predicted(scores)
            right += int((found == fit_labels(y, scores)).sum())
            unknown += int((found < 0).sum())
    return right, unknown


def share_right(output: Any, labels: Tensor | None) -> float | None:
    """Share of samples classified rightly, of what a model returned for all of them.

    None where the question has no answer: no labels, no scores, or labels that do not fit them.
    """
    if labels is None:
        return None
    try:
        return _count(class_scores(output, len(labels)), labels) / len(labels)
    except InputError:
        return None


def _count(scores: Tensor, labels: Tensor) -> int:
    return int((predicted(scores) == fit_labels(labels, scores)).sum())
