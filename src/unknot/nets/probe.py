"""Probe: the samples that a model is measured on, drawn from whatever loader the user has."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from unknot.core.errors import InputError, require_count

# One tensor, or the positional or the keyword arguments of the model.
Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
LABEL_KEYS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True, eq=False)
class Probe:
    """Samples in memory, with their classes where they are known.

    Attributes:
        inputs: ``[n, ...]``; or a tuple of such tensors, the positional arguments of the model; or a
            dict of them, its keyword arguments.
        labels: int64 ``[n]``, or None.
    """

    inputs: Inputs
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(tensors_of(self.inputs)[0])

    def batches(self, size: int) -> Iterator[Inputs]:
        """The inputs in runs of at most ``size`` samples."""
        for start in range(0, len(self), size):
            yield map_tensors(self.inputs, itemgetter(slice(start, start + size)))

    def points(self) -> Tensor | None:
        """The first floating-point input ``[n, ...]``; None where all are whole numbers (tokens)."""
        return next((t for t in tensors_of(self.inputs) if t.is_floating_point()), None)


def probe_samples(loader: Iterable[Any] | Tensor, *, max_points: int = 1000, seed: int = 0) -> Probe:
    """A seeded sample of a loader, stratified by class, in one pass and bounded memory.

    Args:
        loader: a tensor of inputs; or an iterable of batches, each a tensor, ``(inputs, labels)``, or a
            dict of tensors whose labels stand under "labels", "label", "targets", "target" or "y".
            ``inputs`` may itself be a tuple (positional arguments) or a dict (keyword arguments).
            Labels are whole numbers ``[n]``; other targets are left aside.
        max_points: at most this many samples in all; every class keeps its share, and at least one.
        seed: of the choice.

    Returns:
        A Probe in the loader's order. At most four times ``max_points`` samples are held on the way, and
        the random states of torch, numpy and Python are left as they were.

    Raises:
        InputError: no sample, batches of another type, samples of several shapes.
    """
    require_count("max_points", max_points, minimum=2)
    sieve = _Sieve(max_points, seed)
    with _randomness_kept():  # a DataLoader takes a seed from torch whenever it is iterated
        for batch in [loader] if isinstance(loader, Tensor) else _batches(loader):
            inputs, labels = _split(batch)
            sieve.add(inputs, labels)
    return sieve.probe()


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """The random states of torch, numpy and Python as they were, whatever a user's data set draws."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  augmentations draw from it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def _row(tensor: Tensor, number: int) -> Tensor:
    return tensor[number].clone()  # a view would keep its whole batch in memory


class _Sieve:
    """A uniform sample of each class without knowing how many samples will come.

    Every sample gets a random key; those with the smallest keys stay. One threshold for all classes
    keeps their shares, and the sample with the smallest key of a class stays whatever its key.
    """

    def __init__(self, max_points: int, seed: int) -> None:
        self.max_points = max_points
        self.rng = np.random.default_rng(seed)
        self.threshold = 1.0
        self.position = 0
        self.seen: defaultdict[int, int] = defaultdict(int)
        self.kept: defaultdict[int, list[tuple[float, int, Inputs]]] = defaultdict(list)
        self.labelled = False

    def add(self, inputs: Inputs, labels: Tensor | None) -> None:
        n = len(tensors_of(inputs)[0])
        # One batch without labels, and those of the others say nothing about the whole.
        self.labelled = labels is not None and (self.labelled or not self.position)
        classes = labels.tolist() if labels is not None else [0] * n
        for i, (label, key) in enumerate(zip(classes, self.rng.random(n).tolist(), strict=True)):
            self.seen[label] += 1
            rows = self.kept[label]
            if key < self.threshold or not rows or key < rows[0][0]:
                rows.append((key, self.position, map_tensors(inputs, partial(_row, number=i))))
            self.position += 1
        if sum(map(len, self.kept.values())) > 4 * self.max_points:
            keys = sorted(key for rows in self.kept.values() for key, *_ in rows)
            self.threshold = keys[2 * self.max_points]
            for rows in self.kept.values():
                rows.sort(key=lambda row: row[0])
                rows[1:] = [row for row in rows[1:] if row[0] < self.threshold]

    def probe(self) -> Probe:
        if not self.position:
            raise InputError("a loader without samples", "at least one batch", "check the data")
        share = min(1.0, self.max_points / self.position)
        chosen: list[tuple[int, Inputs, int]] = []
        for label, rows in self.kept.items():
            rows.sort(key=lambda row: row[0])
            size = max(1, int(self.seen[label] * share))
            chosen += [(position, row, label) for _, position, row in rows[:size]]
        chosen.sort(key=lambda sample: sample[0])
        labels = torch.tensor([label for *_, label in chosen]) if self.labelled else None
        return Probe(_stack([row for _, row, _ in chosen]), labels)


def _batches(loader: object) -> Iterable[Any]:
    if isinstance(loader, (Mapping, str, bytes)) or not isinstance(loader, Iterable):
        raise InputError(f"a loader of type {type(loader).__name__}", "an iterable of batches",
                         "wrap one batch in a list")  # fmt: skip
    return loader


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of a batch, in order."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, dict) else inputs


def map_tensors(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """``function`` of each tensor of a batch."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {name: function(t) for name, t in inputs.items()}
    return tuple(function(t) for t in inputs)


def _stack(rows: list[Inputs]) -> Inputs:
    shapes = {tuple(tuple(t.shape) for t in tensors_of(row)) for row in rows}
    if len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        raise InputError(
            f"samples of shapes {one[0]} and {other[0]}", "one shape for all", "pad or resize them"
        )
    columns = map(torch.stack, zip(*map(tensors_of, rows), strict=True))
    return map_tensors(rows[0], lambda _: next(columns))


def _split(batch: Any) -> tuple[Inputs, Tensor | None]:
    labels: Any = None
    inputs = batch
    if isinstance(batch, (tuple, list)) and batch:
        inputs, labels = batch[0], batch[1] if len(batch) > 1 else None
    elif isinstance(batch, Mapping):
        label_key = next((key for key in LABEL_KEYS if key in batch), None)
        labels = None if label_key is None else batch[label_key]
        inputs = {key: value for key, value in batch.items() if key != label_key}
    inputs = _checked(inputs, batch)
    return inputs, None if labels is None else _class_labels(labels, len(tensors_of(inputs)[0]))


def _checked(inputs: Any, batch: Any) -> Inputs:
    """Inputs whose tensors all have one row a sample; what is no tensor in a dict is left out."""
    if isinstance(inputs, Mapping):
        inputs = {str(key): value for key, value in inputs.items() if isinstance(value, Tensor)}
    elif isinstance(inputs, (tuple, list)):
        inputs = tuple(inputs)
    tensors = tensors_of(inputs) if isinstance(inputs, (Tensor, tuple, dict)) else ()
    if not tensors or not all(isinstance(t, Tensor) and t.ndim > 0 for t in tensors):
        raise InputError(
            f"a batch of type {type(batch).__name__}",
            "a tensor, (inputs, labels) with one label a sample, or a dict of tensors",
            "wrap the loader so that it yields one of these",
        )
    if len({len(t) for t in tensors}) > 1:
        raise InputError(
            f"a batch of inputs with {', '.join(str(len(t)) for t in tensors)} rows",
            "one row a sample in each",
            "drop what is not per sample",
        )
    return inputs  # type: ignore[no-any-return]


def _class_labels(labels: Any, n: int) -> Tensor | None:
    """int64 ``[n]``; None for targets that are no classes (regression, masks, one-hot rows)."""
    classes = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    if classes.shape == (n, 1):
        classes = classes[:, 0]
    whole = not classes.is_floating_point() or bool((classes == classes.round()).all())
    return classes.long().cpu() if classes.shape == (n,) and whole else None
