"""Which clouds a layer output holds: one, one a class, or one a filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unknot.core.errors import InputError
from unknot.nets.recording import LayerOutput
from unknot.topology.cloud import FloatArray

By = Literal["layer", "class", "filter"]


@dataclass(frozen=True, eq=False)
class LayerCloud:
    """One cloud of a layer output.

    Attributes:
        output: which it is of.
        label: the class, None for all classes together.
        filter: the output channel, None for the whole layer output.
        samples: float32 or float64 ``[n, d]``, duplicates included.
    """

    output: LayerOutput
    label: int | None
    filter: int | None
    samples: FloatArray


def layer_clouds(
    output: LayerOutput, members: list[tuple[int, NDArray[np.intp]]], by: By
) -> Iterator[LayerCloud]:
    """The clouds of one layer output: one; one a class; or one an output channel ``[n, c, ...]``.

    Args:
        members: of `class_members`; empty for the other two.
    """
    if by == "filter":
        if output.values.ndim > 2:
            for channel in range(output.values.shape[1]):
                one = LayerOutput(output.layer, output.call, output.values[:, channel])
                yield LayerCloud(output, None, channel, one.numpy())
        return
    samples = output.numpy()
    if by == "layer":
        yield LayerCloud(output, None, None, samples)
    else:
        for label, numbers in members:
            yield LayerCloud(output, label, None, samples[numbers])


def class_members(labels: Tensor) -> list[tuple[int, NDArray[np.intp]]]:
    """Each class with the numbers of its samples."""
    classes = labels.numpy()
    return [(int(label), np.flatnonzero(classes == label)) for label in np.unique(classes)]


def require_finite(output: LayerOutput, epoch: int | None) -> None:
    """Refuse NaN and infinity with the layer and the epoch in which they arose."""
    if not bool(torch.isfinite(output.values).all()):
        when = "" if epoch is None else f" in epoch {epoch}"
        raise InputError(
            f"layer {output.layer}{when} with NaN or infinity",
            "finite outputs",
            "check the weights, the data and the learning rate",
        )


@contextmanager
def layer_named(clouds: Iterable[LayerCloud], epoch: int | None) -> Iterator[None]:
    """Where counting the clouds is refused for NaN or infinity, refuse the layer in which it arose."""
    try:
        yield
    except InputError:
        for output in dict.fromkeys(cloud.output for cloud in clouds):
            require_finite(output, epoch)
        raise
