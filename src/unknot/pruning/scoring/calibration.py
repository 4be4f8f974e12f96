"""Calibration: the samples that a model is shrunk by, and those that tell what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.data import Data, LabelledData, all_samples, labelled_data, parts_of, renumber
from unknot.nets.probe import Inputs, is_array, map_tensors, tensors_of
from unknot.nets.running import n_samples, placed


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples in memory, for a model with one input or several.

    Attributes:
        inputs: ``[n, ...]``; or a tuple (positional) or dict (keywords) of such tensors.
        labels: int64 ``[n]``; None: there are none.
        test_inputs, test_labels: likewise, disjoint; without a sample where only one part is known.
        given: whether the test part was given.
        names: of the classes 0, 1, ... where the labels were names; else empty.
    """

    inputs: Inputs
    labels: Tensor | None
    test_inputs: Inputs
    test_labels: Tensor | None
    given: bool
    names: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Samples to shrink by."""
        return n_samples(self.inputs)

    @property
    def n_test(self) -> int:
        """Samples to tell by."""
        return n_samples(self.test_inputs)

    @property
    def loader(self) -> list[Any]:
        """The samples to shrink by as one batch."""
        return [(self.inputs,) if self.labels is None else (self.inputs, self.labels)]

    def first(self, n: int) -> Inputs:
        """The first ``n`` samples to shrink by."""
        return map_tensors(self.inputs, lambda t: t[:n])

    def labelled(self) -> LabelledData:
        """The same for what needs labels and one tensor a sample, e.g. fine-tuning.

        Raises:
            InputError: there are none, or several tensors.
        """
        if self.labels is None or self.test_labels is None:
            raise InputError("fine-tuning on samples without labels", "labels", "add them, or finetune=0")
        if not isinstance(self.inputs, Tensor) or not isinstance(self.test_inputs, Tensor):
            raise InputError(
                f"fine-tuning on samples of {len(tensors_of(self.inputs))} tensors",
                "one tensor a sample",
                "wrap the model so that it takes one, or finetune=0",
            )
        return LabelledData(
            "data", self.inputs, self.labels, self.test_inputs, self.test_labels, self.names
        )

    def with_test_part(self, seed: int) -> Calibration:
        """The same, a tenth of the only samples there are as test samples, of each class where known."""
        if self.n_test:
            return self
        labels = torch.zeros(self.n, dtype=torch.int64) if self.labels is None else self.labels
        training, held_out = parts_of(labels, seed=seed)
        if not len(held_out):
            raise InputError(
                f"{self.n} samples without a test part, of which none can be kept apart",
                "at least 6 samples" + " of one class" * (self.labels is not None),
                "pass more, or a tuple (train, test)",
            )
        inputs, test_inputs = (
            map_tensors(self.inputs, lambda t, rows=rows: t[rows.to(t.device)])  # type: ignore[misc]
            for rows in (training, held_out)
        )
        if self.labels is None:
            return replace(self, inputs=inputs, test_inputs=test_inputs)
        return replace(
            self, inputs=inputs, labels=labels[training],
            test_inputs=test_inputs, test_labels=labels[held_out],
        )  # fmt: skip

    def require_numbers(self) -> None:
        """
        Raises:
            InputError: samples with NaN.
        """
        for what, part in (("samples", self.inputs), ("test samples", self.test_inputs)):
            n = n_samples(part)
            rows = [t.reshape(n, -1).isnan().any(1) for t in tensors_of(part) if t.is_floating_point()]
            bad = int(torch.stack(rows).any(0).sum()) if rows and n else 0
            if bad:
                raise InputError(f"{bad} of {n} {what} with NaN", "numbers", "leave these out")

    def on_device_of(self, model: nn.Module) -> Calibration:
        """The same where the model is, inputs in its type."""
        inputs, test_inputs = (placed(part, model) for part in (self.inputs, self.test_inputs))
        device = tensors_of(inputs)[0].device
        labels, test_labels = (
            None if part is None else part.to(device) for part in (self.labels, self.test_labels)
        )
        return replace(
            self, inputs=inputs, labels=labels, test_inputs=test_inputs, test_labels=test_labels
        )


def calibration_samples(data: Data | Tensor) -> Calibration:
    """Samples in memory, from whatever holds them.

    Args:
        data: as of `labelled_data`; samples without labels, see `all_samples`; inputs of several tensors.

    Raises:
        InputError: as of `all_samples`; one part with labels and one without, parts of different shapes.
    """
    if isinstance(data, LabelledData):
        data = labelled_data(data)  # checked
        given = len(data.test_labels) > 0
        return Calibration(
            data.inputs, data.labels, data.test_inputs, data.test_labels, given, data.names
        )
    if isinstance(data, tuple) and len(data) == 2 and not is_array(data[0]):
        parts = [all_samples(part) for part in data]
        kinds = [_kind(part.inputs) for part in parts]
        if kinds[0] != kinds[1] or (parts[0].labels is None) != (parts[1].labels is None):
            what = [f"{k}{' without' if p.labels is None else ' with'} labels"
                    for k, p in zip(kinds, parts, strict=True)]  # fmt: skip
            raise InputError(
                f"training samples {what[0]} and test samples {what[1]}",
                "samples of one shape, both with labels or both without",
                "pass two parts of the same data",
            )
        train, test = parts
        labels = None if test.labels is None else renumber(test.labels, test.names, train.names)
        return Calibration(train.inputs, train.labels, test.inputs, labels, True, train.names)
    _require_labels_beside(data)
    whole = all_samples(data)
    nothing = map_tensors(whole.inputs, lambda t: t[:0])
    no_labels = None if whole.labels is None else whole.labels[:0]
    return Calibration(whole.inputs, whole.labels, nothing, no_labels, False, whole.names)


def _require_labels_beside(data: Any) -> None:
    """Refuse training and test samples without labels that look like inputs and labels."""
    if isinstance(data, tuple) and len(data) == 2:
        one, other = (tuple(getattr(part, "shape", ())) for part in data)
        if math.prod(one[1:]) > 1 and one[1:] == other[1:]:  # labels may be a column, [n, 1]
            raise InputError(
                f"a pair of arrays {list(one)} and {list(other)}",
                "inputs and labels [n]",
                "of training and test samples without labels pass ([train], [test])",
            )


def _kind(inputs: Inputs) -> list[Any]:
    """The shapes of one sample's tensors, with their keywords where there are some."""
    shapes = [list(t.shape[1:]) for t in tensors_of(inputs)]
    if isinstance(inputs, dict):
        return [dict(zip(inputs, shapes, strict=True))]
    return shapes[0] if isinstance(inputs, Tensor) else shapes
