"""Labelled samples in memory, with a split that nothing is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unknot.core.errors import InputError, require_count


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
        """At most ``most`` samples for training and as many for testing, drawn at random by ``seed``."""
        require_count("most", most)
        generator = torch.Generator().manual_seed(seed)
        train = torch.randperm(len(self.inputs), generator=generator)[:most]
        test = torch.randperm(len(self.test_inputs), generator=generator)[:most]
        return LabelledData(
            self.name, self.inputs[train], self.labels[train],
            self.test_inputs[test], self.test_labels[test],
        )  # fmt: skip


SHARE = 0.1  # of the training samples, kept apart


def keep_apart(data: LabelledData, *, share: float = SHARE, seed: int = 0) -> LabelledData:
    """The training samples in two, stratified by class: what is left to train on, and as ``test_*`` the
    share kept apart, empty where a class has too few samples to spare one.

    Args:
        data: whose own test samples are left aside.
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
        members = (labels == label).nonzero().flatten()
        apart[members[: round(share * len(members))]] = True
    training, held_out = (order[mask].sort().values.to(data.labels.device) for mask in (~apart, apart))
    return replace(
        data,
        inputs=data.inputs[training],
        labels=data.labels[training],
        test_inputs=data.inputs[held_out],
        test_labels=data.labels[held_out],
    )
