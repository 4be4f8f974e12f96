"""Labelled samples in memory, with a split that nothing is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset

from unknot.core.errors import InputError, require_choice, require_count, require_share
from unknot.core.memory import LIMIT_VARIABLE, memory_limit
from unknot.core.tables import FEW_NUMBERS, Task
from unknot.nets.images import ImageData
from unknot.nets.probe import (
    LABEL_KEYS,
    NAMES_SHOWN,
    Probe,
    as_labels,
    as_tensor,
    is_array,
    open_loader,
    probe_samples,
    tensors_of,
)


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Samples in memory, with a test split that nothing is trained or measured on.

    Attributes:
        name: of the data set.
        inputs, labels: float32 ``[n, ...]`` and int64 ``[n]``, for training and measuring. In a study
            labels may be floats: numbers to come close to.
        test_inputs, test_labels: likewise, disjoint.
        names: of the classes 0, 1, ... where the labels were names; else empty.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    names: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """The highest label of both splits, plus one: the outputs that a net needs.

        1 where the labels are floats.
        """
        if self.labels.is_floating_point():
            return 1
        return int(torch.cat([self.labels, self.test_labels]).max()) + 1

    def without_test(self) -> LabelledData:
        """The training samples alone: ``test_*`` are empty."""
        return replace(self, test_inputs=self.test_inputs[:0], test_labels=self.test_labels[:0])

    def limited(self, most: int, seed: int = 0) -> LabelledData:
        """At most ``most`` samples for training and as many for testing, drawn at random by ``seed``."""
        require_count("most", most)
        require_count("seed", seed, minimum=0)
        generator = torch.Generator().manual_seed(seed)
        train = torch.randperm(len(self.inputs), generator=generator)[:most]
        test = torch.randperm(len(self.test_inputs), generator=generator)[:most]
        return replace(
            self,
            inputs=self.inputs[train],
            labels=self.labels[train],
            test_inputs=self.test_inputs[test],
            test_labels=self.test_labels[test],
        )


# An iterable of batches, arrays (inputs, labels), or a tuple (train, test) of two of these.
Data: TypeAlias = LabelledData | ImageData | Iterable[Any] | tuple[Any, Any]
ALL = 2**40  # more samples than fit into any memory


def labelled_data(data: Data, *, task: Task = "classes") -> LabelledData:
    """Labelled samples in memory, from whatever holds them.

    Args:
        data: an iterable of batches ``(inputs, labels)`` or of dicts, a torch data set or a table of
            pandas, see `probe_samples`; a tuple ``(inputs, labels)`` of arrays or tensors ``[n, ...]``
            and ``[n]``; an `ImageData`; a tuple ``(train, test)`` of two of these; or a `LabelledData`,
            which is returned as it is. Labels are whole numbers, taken as they are, or names, which are
            numbered in alphabetical order, those of a categorical of pandas in the order of its
            categories; ``names`` keeps which is which.
        task: "classes"; "regression": labels are numbers to come close to, ``[n]``, and become float32;
            "auto": these where they are floats of more than 20 values with fractions, else classes.

    Returns:
        With ``test_*`` empty where there is one part only.

    Raises:
        InputError: another type, no samples, labels that are missing, negative or of another length, a
            test part with names that the training part lacks,
            inputs of several tensors, parts of different shapes, more than fits into memory, or with
            "auto" floats that may be either.
    """
    require_choice("task", task, ("auto", "classes", "regression"))
    if task != "classes":
        data, regression = _with_targets(data, task)
        if regression is not None:
            return regression
    if isinstance(data, LabelledData):
        _require_whole(data.inputs, data.labels)
        _require_whole(data.test_inputs, data.test_labels)
        return data
    is_split = isinstance(data, tuple) and len(data) == 2 and not is_array(data[0])
    train, test = data if is_split else (data, None)  # type: ignore[misc]
    inputs, labels, names = _samples(train)
    test_inputs, test_labels = inputs[:0], labels[:0]
    if is_split:
        test_inputs, test_labels, test_names = _samples(test)
        test_labels = renumber(test_labels, test_names, names)
    _require_alike(inputs, test_inputs)
    return LabelledData(getattr(data, "name", "data"), inputs, labels, test_inputs, test_labels, names)


def _require_alike(inputs: Tensor, test_inputs: Tensor) -> None:
    if test_inputs.shape[1:] != inputs.shape[1:]:
        raise InputError(
            f"training samples {list(inputs.shape[1:])} and test samples {list(test_inputs.shape[1:])}",
            "samples of one shape",
            "pass two parts of the same data",
        )


def _with_targets(data: Any, task: Task) -> tuple[Any, LabelledData | None]:
    """Data whose loaders have been read, and as labelled by numbers where that is the task."""
    if isinstance(data, LabelledData):
        test = (data.test_inputs, data.test_labels)
        given: tuple[Any, ...] = ((data.inputs, data.labels), *[test] * (len(test[0]) > 0))
    else:
        is_split = isinstance(data, tuple) and len(data) == 2 and not is_array(data[0])
        given = tuple(map(_with_loader_read, data if is_split else (data,)))
        data = given if is_split else given[0]
    targets = [_numbers(part) for part in given]
    if task == "auto" and not _are_numbers(targets):
        return data, None
    parts: list[Tensor] = []
    for part, numbers in zip(given, targets, strict=True):
        if numbers is None:
            what = "targets that are no numbers", "(inputs [n, ...], numbers [n])"
            raise InputError(*what, "pass task='classes'")
        inputs = torch.cat([as_tensor(x, "data") for x, _ in _pairs(part)])
        _require_labels(inputs, numbers, task="regression")
        parts += [inputs, numbers.float()]
    x, y, *held_out = parts
    test_x, test_y = held_out or (x[:0], y[:0])
    _require_alike(x, test_x)
    return data, LabelledData(getattr(data, "name", "data"), x, y, test_x, test_y)


def _with_loader_read(part: Any) -> Any:
    """The batches of a loader in a list; all else as it is."""
    whole = is_array(part) or (isinstance(part, tuple) and len(part) == 2 and is_array(part[0]))
    if whole or isinstance(part, (LabelledData, ImageData, Mapping, str, bytes)):
        return part
    readable = isinstance(part, (Iterable, Dataset))
    return list(_within_memory(open_loader(part)[0])) if readable else part


def _pairs(part: Any) -> list[Any]:
    """(inputs, targets) of each batch; None for one that is no such pair."""
    batches = part if isinstance(part, list) else open_loader(part)[0]
    return [b[:2] if isinstance(b, (tuple, list)) and len(b) > 1 else None for b in batches]


def _numbers(part: Any) -> Tensor | None:
    """The targets ``[n]`` of one part; None where they are no numbers."""
    try:
        targets = [as_tensor(pair[1], "labels") for pair in _pairs(part)]
    except (InputError, TypeError):  # whoever reads them as classes says what they are
        return None
    alone = bool(targets) and all(t.ndim == 1 or (t.ndim == 2 and t.shape[1] == 1) for t in targets)
    return torch.cat([t.flatten() for t in targets]) if alone else None


def _are_numbers(targets: Sequence[Tensor | None]) -> bool:
    """Whether targets are numbers to come close to and no classes; what may be either is refused."""
    known = [t.double() for t in targets if t is not None and t.is_floating_point()]
    values = torch.cat([*known, torch.zeros(0)])
    if len(known) < len(targets) or not bool(values.isfinite().all()):
        return False
    whole, different = bool((values == values.round()).all()), len(set(values.tolist()))
    if whole == (different <= FEW_NUMBERS):
        return not whole
    raise InputError(
        f"{different} different labels that are floats {'without' if whole else 'with'} fractions",
        "classes as whole numbers, or many numbers with fractions",
        "say which they are: task='classes' or task='regression'",
    )


def renumber(labels: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Labels that number ``names``, as those of the other part number theirs.

    Raises:
        InputError: one part has names and the other numbers, or a name that the other lacks.
    """
    if tuple(names) == tuple(wanted):
        return labels
    lacking = [name for name in names if name not in wanted]
    if lacking or not names:
        what = (
            f"test samples of class {lacking[0]!r}" if lacking else "test samples with numbers as labels"
        )
        raise InputError(
            what,
            f"classes of the training samples, {', '.join(map(repr, wanted[:NAMES_SHOWN])) or 'numbers'}",
            "pass two parts of the same data",
        )
    return torch.tensor([wanted.index(name) for name in names])[labels]


def number_names(labels: Any) -> tuple[Any, tuple[str, ...]]:
    """Labels that are names as 0, 1, 2, ... and the names in that order; others as they are, and none.

    The order is that of the categories of a categorical of pandas, else the alphabetical one.
    """
    if isinstance(labels, Tensor):
        return labels, ()
    try:
        array = np.asarray(labels)
    except (ValueError, TypeError, RuntimeError):  # ragged rows: as_tensor will say so
        return labels, ()
    values = array.ravel().tolist() if array.dtype.kind in "OU" else []
    if values and array.dtype.kind == "O" and all(type(v) is int for v in values):
        return array.astype(np.int64), ()  # of the types of pandas that know missing values
    if not values or not all(isinstance(value, str) for value in values):
        return labels, ()
    categories = getattr(getattr(labels, "dtype", None), "categories", None)
    names = tuple(sorted(set(values)) if categories is None else map(str, categories))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[value] for value in values]).reshape(array.shape), names


def all_samples(part: Any) -> Probe:
    """All inputs of one part in memory, with their labels where it has any.

    Args:
        part: one part as of `labelled_data`; or without labels: batches of inputs, or an array
            ``[n, ...]``. Inputs may be tuples or dicts, see `probe_samples`.

    Raises:
        InputError: another type, no samples, targets that are no classes, labels that are negative
            or of another length, or more than fits into memory.
    """
    if isinstance(part, ImageData):
        return Probe(part.images, part.labels)
    names: tuple[str, ...] = ()
    if hasattr(part, "columns") and set(LABEL_KEYS) & set(part.columns):
        (part,) = open_loader(part)[0]  # (inputs, labels)
    if isinstance(part, tuple) and len(part) == 2 and is_array(part[0]):
        given, names = number_names(part[1])
        inputs, labels = as_tensor(part[0], "data"), as_labels(as_tensor(given, "labels"))
        _require_labels(inputs, labels)
        part = [(inputs, labels)]
    elif is_array(part):
        part = [as_tensor(part, "data")]
    if not isinstance(part, (Iterable, Dataset)) or isinstance(part, (str, bytes, Mapping)):
        raise _no_data(part)
    probe = probe_samples(_within_memory(open_loader(part)[0]), max_points=ALL, named=True)
    if probe.labels is None and probe.notes:
        raise InputError(
            f"data without class labels ({probe.notes[0]})",
            "(inputs, labels) with one whole number a sample",
            "add labels, or pass the inputs alone where labels are not needed: [inputs]",
        )
    if probe.labels is not None:
        _require_labels(tensors_of(probe.inputs)[0], probe.labels)
    return replace(probe, names=names or probe.names)


def _no_data(part: Any) -> InputError:
    return InputError(
        f"data of type {type(part).__name__}",
        "batches (inputs, labels), arrays (inputs, labels), or a tuple (train, test) of two of these",
        "pass e.g. a DataLoader",
    )


def _samples(part: Any) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """All inputs and labels of one part, and the names of the classes where they have some."""
    table = hasattr(part, "columns") and set(LABEL_KEYS) & set(part.columns)
    pair = isinstance(part, tuple) and len(part) == 2 and is_array(part[0])
    if is_array(part) and not (table or pair):
        raise _no_data(part)
    probe = all_samples(part)
    if probe.labels is None:
        raise InputError(
            "data without class labels",
            "(inputs, labels) with one whole number a sample",
            "add labels; shrink, score_filters, plan_pruning and prune do without",
        )
    inputs, *others = tensors_of(probe.inputs)
    if others:
        raise InputError(
            f"samples of {1 + len(others)} tensors",
            "one tensor of inputs a sample",
            "wrap the model so that it takes one; shrink takes several",
        )
    return inputs, probe.labels, probe.names


def _require_labels(inputs: Tensor, labels: Tensor, task: Task = "classes") -> None:
    if inputs.ndim == 0 or labels.shape != inputs.shape[:1]:
        raise InputError(
            f"inputs of shape {list(inputs.shape)} and labels of shape {list(labels.shape)}",
            "[n, ...] and [n]",
            "pass one label a sample",
        )
    if labels.is_floating_point() and not bool(labels.isfinite().all()):
        kind = "whole numbers" if task == "classes" else "numbers"
        raise InputError("labels with NaN or infinity", kind, "leave such samples out")
    if task == "classes" and len(labels) and int(labels.min()) < 0:
        raise InputError(f"label {int(labels.min())}", "labels 0, 1, 2, ...", "leave such samples out")


def _require_whole(inputs: Any, labels: Any) -> None:
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise InputError(
            f"a LabelledData of {type(inputs).__name__} and {type(labels).__name__}",
            "tensors",
            "let labelled_data make it from (inputs, labels)",
        )
    _require_labels(inputs, labels)
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"labels of type {labels.dtype}".replace("torch.", ""), "whole numbers", "pass labels.long()"
        )


def _within_memory(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, refused once they are more than can be held while they are put together."""
    limit, taken = memory_limit() // 3, 0
    for batch in batches:
        taken += sum(t.nbytes for t in tree_leaves(batch) if isinstance(t, Tensor))
        if taken > limit:
            raise InputError(
                f"data of more than {limit / 1e9:.2g} GB",
                "samples that fit into memory",
                f"pass a subset, or raise {LIMIT_VARIABLE}",
            )
        yield batch


SHARE = 0.1  # of the training samples, kept apart


def keep_apart(
    data: Data, *, share: float = SHARE, seed: int = 0, task: Task = "classes"
) -> LabelledData:
    """The training samples in two, stratified by class: what is left to train on, and as ``test_*`` the
    share kept apart, empty where a class has too few samples to spare one.

    Args:
        data: what `labelled_data` takes; its own test samples are left aside.
        share: of the training samples, in (0, 1).
        seed: of the choice.
        task: as of `labelled_data`; targets that are numbers are stratified by their tenths.
    """
    data = labelled_data(data, task=task)
    if not 0 < require_share("share", share, 0.1) < 1:
        raise InputError(f"share = {share}", "a number in (0, 1)", "pass e.g. 0.1")
    require_count("seed", seed, minimum=0)
    strata = data.labels
    if strata.is_floating_point():
        strata = strata.argsort(stable=True).argsort() * 10 // max(len(strata), 1)
    training, held_out = parts_of(strata, share, seed)
    return replace(
        data,
        inputs=data.inputs[training],
        labels=data.labels[training],
        test_inputs=data.inputs[held_out],
        test_labels=data.labels[held_out],
    )


def parts_of(labels: Tensor, share: float = SHARE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The places in ``labels [n]`` of a share of each class, the second, and of all others, the first."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels.cpu()[order]
    apart = torch.zeros(len(shuffled), dtype=torch.bool)
    for label in set(shuffled.tolist()):
        members = (shuffled == label).nonzero().flatten()
        apart[members[: round(share * len(members))]] = True
    training, held_out = (order[mask].sort().values.to(labels.device) for mask in (~apart, apart))
    return training, held_out
