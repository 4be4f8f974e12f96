"""From layer outputs to Betti numbers: which clouds an output holds, and all of them measured at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unknot.capture import INPUT, LayerOutput
from unknot.cloud import make_cloud
from unknot.errors import InputError
from unknot.graph import Scale, scale_graph
from unknot.homology import BettiNumbers, betti_numbers, betti_numbers_batch

By = Literal["layer", "class", "filter"]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class LayerCloud:
    """One cloud of a layer output.

    Attributes:
        label: the class, None for all classes together.
        filter: the output channel, None for the whole layer output.
        samples: float32 or float64 ``[n, d]``, duplicates included.
    """

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
        if output.layer != INPUT and output.values.ndim > 2:
            for channel in range(output.values.shape[1]):
                one = LayerOutput(output.layer, output.call, output.values[:, channel])
                yield LayerCloud(None, channel, one.numpy())
        return
    samples = output.numpy()
    if by == "layer":
        yield LayerCloud(None, None, samples)
    else:
        for label, numbers in members:
            yield LayerCloud(label, None, samples[numbers])


def class_members(labels: Tensor) -> list[tuple[int, NDArray[np.intp]]]:
    """Each class with the numbers of its samples."""
    classes = labels.numpy()
    return [(int(label), np.flatnonzero(classes == label)) for label in np.unique(classes)]


def cloud_betti(
    clouds: Sequence[FloatArray], scale: Scale, *, max_dim: int = 1, threads: int = 0
) -> list[BettiNumbers]:
    """Betti numbers of clouds of samples ``[n, ...]``, the duplicates of each dropped.

    Where k is not smaller than the number of distinct points of a cloud it is lowered to one less, and
    the scale of the result says so. A single point (a constant layer) has b = (1, 0).

    Args:
        clouds: at least one sample each.
        scale: for all of them.
        max_dim: 1, or 2 for b2 as well.
        threads: inside the engine; 0 takes one a core.

    Raises:
        InputError: NaN or infinity, no sample.
    """
    points = [make_cloud(cloud).points for cloud in clouds]
    least = 1 if scale.k is None else scale.k
    whole = [i for i, cloud in enumerate(points) if len(cloud) > least]
    found: dict[int, BettiNumbers] = {}
    if whole:
        rule = {"radius": scale.radius} if scale.k is None else {"k": scale.k, "hops": scale.hops or 1}
        many = betti_numbers_batch(
            [points[i] for i in whole],
            **rule,
            max_dim=max_dim,
            threads=threads,
        )
        found = {i: replace(betti, scale=scale) for i, betti in zip(whole, many, strict=True)}
    for i in set(range(len(points))) - set(whole):
        n = len(points[i])
        note = "one distinct point: constant" if n == 1 else "k lowered: few distinct points"
        at = scale if scale.k is None else replace(scale, k=max(1, n - 1), note=note)
        if n == 1:
            found[i] = BettiNumbers((1, 0, 0)[: max_dim + 1], 1, at)
        else:
            found[i] = betti_numbers(scale_graph(points[i], at), max_dim=max_dim)
    return [found[i] for i in range(len(points))]


def require_finite(output: LayerOutput, epoch: int | None) -> None:
    """Refuse NaN and infinity with the layer and the epoch in which they arose."""
    if not bool(torch.isfinite(output.values).all()):
        when = "" if epoch is None else f" in epoch {epoch}"
        raise InputError(
            f"layer {output.layer}{when} with NaN or infinity",
            "finite outputs",
            "check the weights, the data and the learning rate",
        )
