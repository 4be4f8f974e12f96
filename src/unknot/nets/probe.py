"""Probe: the samples that a model is measured on, drawn from whatever loader the user has."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unknot.core.errors import InputError, require_count

# One tensor, or the positional or the keyword arguments of the model.
Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
LABEL_KEYS = ("labels", "label", "targets", "target", "y")
LOADED = 256  # samples of a data set that are put together at once
NAMES_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Probe:
    """Samples in memory, with their classes where they are known.

    Attributes:
        inputs: ``[n, ...]``; or a tuple of such tensors, the positional arguments of the model; or a
            dict of them, its keyword arguments.
        labels: int64 ``[n]``, or None.
        names: of the classes 0, 1, ... where the labels were names; else empty.
        notes: what the loader held besides, and why it was left aside.
        seen: how many samples the loader gave; None where nobody counted.
    """

    inputs: Inputs
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seen: int | None = None

    def __len__(self) -> int:
        return len(tensors_of(self.inputs)[0])

    def batches(self, size: int) -> Iterator[Inputs]:
        """The inputs in runs of at most ``size`` samples."""
        for start in range(0, len(self), size):
            yield map_tensors(self.inputs, itemgetter(slice(start, start + size)))

    def points(self) -> Tensor | None:
        """The first floating-point input ``[n, ...]``; None where all are whole numbers (tokens)."""
        return next((t for t in tensors_of(self.inputs) if t.is_floating_point()), None)


def probe_samples(loader: Any, *, max_points: int = 1000, seed: int = 0, named: bool = False) -> Probe:
    """A seeded sample of a loader, stratified by class, in one pass and bounded memory.

    Args:
        loader: an iterable of batches, each an array, ``(inputs, labels)``, or a dict of arrays whose
            labels stand under "labels", "label", "targets", "target" or "y"; a torch data set; or all
            samples at once: an array, a tuple ``(inputs, labels)``, or a table of pandas with the
            labels in a column of such a name. Of a tuple ``(train, test)`` the first part is taken.
            An array is a tensor, or what numpy makes an array of numbers of. ``inputs`` may itself be a
            tuple (positional arguments) or a dict (keyword arguments). Labels are whole numbers ``[n]``;
            other targets are left aside, and ``notes`` say so.
        max_points: at most this many samples in all; every class keeps its share, and at least one.
        seed: of the choice.
        named: take names for labels too, numbered in alphabetical order.

    Returns:
        A Probe in the loader's order. At most four times ``max_points`` samples are held on the way, and
        the random states of torch, numpy and Python are left as they were.

    Raises:
        InputError: no sample, batches of another type, samples of several shapes, a loader that fails.
    """
    require_count("max_points", max_points, minimum=2)
    sieve = _Sieve(max_points, require_count("seed", seed, minimum=0), named)
    batches, note = open_loader(loader)
    with _randomness_kept():  # a DataLoader takes a seed from torch whenever it is iterated
        for batch in _each(batches):
            sieve.add(*_split(batch))
    return sieve.probe([note] if note else [])


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

    def __init__(self, max_points: int, seed: int, named: bool) -> None:
        self.max_points, self.named = max_points, named
        self.notes: dict[str, None] = {}
        self.rng = np.random.default_rng(seed)
        self.threshold = 1.0
        self.position = 0
        self.seen: defaultdict[Any, int] = defaultdict(int)
        self.kept: defaultdict[Any, list[tuple[float, int, Inputs]]] = defaultdict(list)
        self.labelled = False

    def add(self, inputs: Inputs, labels: list[Any] | str) -> None:
        n = len(tensors_of(inputs)[0])
        if isinstance(labels, list) and isinstance((labels or [0])[0], str) and not self.named:
            labels = f"targets that are names, e.g. {labels[0]!r}, are no class numbers: left aside"
        if isinstance(labels, str):
            self.notes[labels] = None
        # One batch without labels, and those of the others say nothing about the whole.
        self.labelled = isinstance(labels, list) and (self.labelled or not self.position)
        classes = labels if isinstance(labels, list) else [0] * n
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

    def probe(self, notes: list[str]) -> Probe:
        if not self.position:
            raise InputError("a loader without samples", "at least one batch", "check the data")
        share = min(1.0, self.max_points / self.position)
        chosen: list[tuple[int, Inputs, Any]] = []
        for label, rows in self.kept.items():
            rows.sort(key=lambda row: row[0])
            size = max(1, int(self.seen[label] * share))
            chosen += [(position, row, label) for _, position, row in rows[:size]]
        chosen.sort(key=lambda sample: sample[0])
        inputs = _stack([row for _, row, _ in chosen])
        notes += filter(None, self.notes)
        if not self.labelled:
            return Probe(inputs, notes=tuple(notes), seen=self.position)
        names = sorted({label for label in self.kept if isinstance(label, str)})
        if names and len(names) < len(self.kept):
            other = next(label for label in self.kept if not isinstance(label, str))
            raise InputError(
                f"labels {names[0]!r} and {other}", "numbers or names, not both", "pass one kind"
            )
        number = {name: i for i, name in enumerate(names)}
        labels = torch.tensor([number.get(label, label) for *_, label in chosen])
        if names:
            shown = ", ".join(f"{i} is {name}" for i, name in enumerate(names[:NAMES_SHOWN]))
            notes.append(f"classes by name: {shown}{', ...' if len(names) > NAMES_SHOWN else ''}")
        return Probe(inputs, labels, tuple(names), tuple(notes), self.position)


def open_loader(loader: Any) -> tuple[Iterable[Any], str]:
    """The batches of whatever holds samples, as of `probe_samples`, and what is left out of it."""
    note = ""
    if (
        isinstance(loader, tuple)
        and len(loader) == 2
        and not (is_array(loader[0]) or is_array(loader[1]))
    ):
        loader, note = loader[0], "of the two parts (train, test) the second was left out"
    inputs = getattr(loader, "inputs", getattr(loader, "images", None))
    labels = getattr(loader, "labels", None)
    if is_dataclass(loader) and isinstance(labels, Tensor):  # ours: LabelledData, ImageData, Probe
        left_out = len(getattr(loader, "test_labels", ()))
        if left_out:
            note = f"the {left_out} test samples were left out"
        loader = (inputs, labels)
    if hasattr(loader, "columns") and hasattr(loader, "to_numpy"):  # a table of pandas
        key = next((key for key in LABEL_KEYS if key in loader.columns), None)
        loader = loader if key is None else (loader.drop(columns=key), loader[key])
    if isinstance(loader, Dataset):
        return DataLoader(loader, batch_size=LOADED), note
    if is_array(loader) or _is_pair(loader):
        return [loader], note
    if isinstance(loader, (Mapping, str, bytes)) or not isinstance(loader, Iterable):
        raise InputError(f"a loader of type {type(loader).__name__}", "an iterable of batches",
                         "wrap one batch in a list")  # fmt: skip
    return loader, note


def _is_pair(loader: Any) -> bool:
    """Whether it is one batch ``(inputs, labels)``; a list of two arrays may be that or two batches."""
    if isinstance(loader, tuple):
        return len(loader) == 2 and is_array(loader[1])
    if not (isinstance(loader, list) and len(loader) == 2 and all(map(_has_shape, loader))):
        return False
    shapes = [tuple(part.shape) for part in loader]
    return len(shapes[0]) > 1 and shapes[1] == shapes[0][:1]


def _each(batches: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever the user's data set raises
        text = (str(error).strip().splitlines() or [""])[-1][:120]
        raise InputError(
            f"a loader that fails ({type(error).__name__}: {text})",
            "batches, or a data set of which torch makes them",
            "iterate over it once yourself",
        ) from error


def _has_shape(values: Any) -> bool:
    return isinstance(values, (Tensor, np.ndarray)) or (
        hasattr(values, "__array__") and not isinstance(values, type)
    )


def is_array(values: Any) -> bool:
    """Whether it is a tensor, what numpy takes for an array, or numbers or names in lists."""
    if not isinstance(values, (list, tuple)):
        return _has_shape(values)
    first, tuples = values, False
    while isinstance(first, (list, tuple)) and len(first):
        first, tuples = first[0], tuples or isinstance(first, tuple)
    return isinstance(first, (int, float, str, np.generic)) and not (tuples and _is_ragged(values))


def _is_ragged(values: Any) -> bool:
    """A tuple with rows of several lengths is (inputs, labels), or holds such."""
    try:
        np.asarray(values)
    except ValueError:
        return True
    return False


def as_tensor(values: Any, name: str) -> Tensor:
    """An array of numbers as a tensor of its type, lists of fractions as float32; a tensor as it is.

    Raises:
        InputError: no numbers, ragged rows, complex or sparse.
    """
    if isinstance(values, Tensor):
        if values.layout is not torch.strided or values.is_complex() or values.is_meta:
            kind = str(values.layout if values.layout is not torch.strided else values.dtype)
            raise InputError(
                f"{name}: a tensor of {'no values' if values.is_meta else kind.replace('torch.', '')}",
                "a dense tensor of real numbers",
                "convert it",
            )
        return values
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):
        array = np.asarray(None)  # ragged rows
    if array.dtype.kind not in "fiub":
        kind = type(array.flat[0]).__name__ if array.dtype == object and array.size else str(array.dtype)
        raise InputError(
            f"{name} of type {kind}",
            "numbers, all rows of one length",
            "encode them, labels as 0, 1, 2, ...",
        )
    native = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    if isinstance(values, (list, tuple)) and array.dtype == np.float64:
        native = np.dtype(np.float32)  # as torch reads lists
    return torch.from_numpy(np.array(array, dtype=native, order="C"))


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


def as_labels(values: Any) -> Tensor:
    """Labels as a tensor ``[n]``, also of a column ``[n, 1]`` of whole numbers; see `as_tensor`."""
    labels = as_tensor(values, "labels")
    column = labels.ndim == 2 and labels.shape[1] == 1 and not labels.is_floating_point()
    return labels[:, 0] if column else labels


def _split(batch: Any) -> tuple[Inputs, list[Any] | str]:
    """Inputs, and a label of each; or why they are no classes, empty where there are none."""
    labels: Any = None
    inputs = batch
    if isinstance(batch, (tuple, list)) and batch and not is_array(batch):
        inputs, labels = batch[0], batch[1] if len(batch) > 1 else None
    elif isinstance(batch, tuple) and len(batch) == 2:  # of lists of numbers
        inputs, labels = batch
    elif isinstance(batch, Mapping):
        label_key = next((key for key in LABEL_KEYS if key in batch), None)
        labels = None if label_key is None else batch[label_key]
        inputs = {key: value for key, value in batch.items() if key != label_key}
    inputs = as_inputs(inputs, batch)
    return inputs, "" if labels is None else _class_labels(labels, tensors_of(inputs)[0].shape)


def as_inputs(inputs: Any, batch: Any = None) -> Inputs:
    """Inputs whose arrays all have one row a sample; what is no array in a dict is left out.

    Raises:
        InputError: no array in it, or different numbers of rows.
    """
    if isinstance(inputs, Mapping):
        arrays = {str(key): value for key, value in inputs.items() if _has_shape(value)}
        inputs = {
            key: as_tensor(value, f"input {key}")
            for key, value in arrays.items()
            if isinstance(value, Tensor) or np.asarray(value).dtype.kind in "fiub"
        }
    elif is_array(inputs):
        inputs = as_tensor(inputs, "inputs")
    elif isinstance(inputs, (tuple, list)) and all(map(is_array, inputs)):
        inputs = tuple(as_tensor(value, "inputs") for value in inputs)
    tensors = tensors_of(inputs) if isinstance(inputs, (Tensor, tuple, dict)) else ()
    if not tensors or not all(isinstance(t, Tensor) and t.ndim > 0 for t in tensors):
        raise InputError(
            f"a batch of type {type(inputs if batch is None else batch).__name__}",
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


def _class_labels(labels: Any, shape: torch.Size) -> list[Any] | str:
    """Whole numbers or names, one a sample; or what they are else (regression, masks, one-hot rows)."""
    n = shape[0]
    try:
        values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    except (ValueError, TypeError, RuntimeError):  # ragged, or of a type that numpy lacks
        values = np.asarray(None)
    if values.ndim == 0 and isinstance(labels, (Tensor, int, float, str, np.generic)):
        raise InputError(
            f"a batch of one label and inputs of shape {tuple(shape)}",
            "one label a row of the inputs",
            "put samples together into batches, e.g. by a DataLoader with a batch_size",
        )
    values = values[:, 0] if values.shape == (n, 1) else values
    if values.ndim == 1 and len(values) % max(n, 1):  # a multiple may be of the tokens of each sample
        raise InputError(f"{len(values)} labels for {n} samples", "one a sample", "pass those of these")
    if values.shape != (n,):
        hot = (
            values.ndim == 2
            and values.dtype.kind in "fiub"
            and bool((np.sort(values)[:, :-1] == 0).all())
        )
        kind = "that look one-hot: pass labels.argmax(1)" if hot else "that are no classes"
        return f"targets of shape {list(values.shape)} for {n} samples {kind}, left aside"
    if values.dtype.kind == "U" or (values.dtype == object and all(isinstance(v, str) for v in values)):
        return [str(value) for value in values]
    if values.dtype.kind not in "fiub":
        return f"targets of type {values.dtype} that are no classes, left aside"
    if not np.isfinite(values).all():
        return "targets with NaN or infinity, left aside"
    if (values != np.round(values)).any() or (np.abs(values.astype(np.float64)) > 2.0**53).any():
        return "targets that are no whole numbers below 2^53, left aside"
    return values.astype(np.int64).tolist()  # type: ignore[no-any-return]
