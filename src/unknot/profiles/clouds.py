"""Which clouds a layer output holds: one, one a class, or one a filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.recording import LayerOutput
from unknot.nets.running import plain_name
from unknot.topology.cloud import FloatArray

By = Literal["layer", "class", "filter"]
Place: TypeAlias = tuple[LayerOutput, int | None, int | None]


@dataclass(frozen=True, eq=False)
class Portion:
    """Layer outputs that are measured in one call.

    Attributes:
        outputs: the layer outputs.
        samples: float32 or float64 ``[n, d]``, one a layer output, by filter one a channel.
        places: (layer output, class or None, channel or None) of each cloud that has Betti numbers.
        random: None for the model given; else the number of its copy with random weights.
    """

    outputs: tuple[LayerOutput, ...]
    samples: list[FloatArray]
    places: list[Place]
    random: int | None = None


def portion_of(
    outputs: Sequence[LayerOutput], classes: Sequence[int], by: By, random: int | None = None
) -> Portion:
    """What is measured of these layer outputs: the whole; each class; or each output channel."""
    if by == "filter":
        channels = [channel_clouds(output) for output in outputs]
        places: list[Place] = [
            (o, None, i) for o, clouds in zip(outputs, channels, strict=True) for i in range(len(clouds))
        ]
        return Portion(tuple(outputs), [cloud for clouds in channels for cloud in clouds], places)
    labels: Sequence[int | None] = classes if by == "class" else (None,)
    whole: list[Place] = [(output, label, None) for output in outputs for label in labels]
    return Portion(tuple(outputs), [output.numpy() for output in outputs], whole, random)


def channel_clouds(output: LayerOutput) -> list[FloatArray]:
    """The samples ``[n, d]`` of each output channel of ``[n, c, ...]``; none where it has no channels."""
    if output.values.ndim < 3:
        return []
    channels = range(output.values.shape[1])
    return [LayerOutput(output.layer, output.call, output.values[:, i]).numpy() for i in channels]


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


def require_weights(model: nn.Module, layers: Iterable[str], epoch: int | None) -> None:
    """Refuse NaN in the parameters of the layers, before any of them is run, as `require_finite`."""
    modules = {plain_name(name): module for name, module in model.named_modules()}
    for layer in layers:
        own = modules[layer].parameters(recurse=False) if layer in modules else ()
        if any(parameter.is_floating_point() and bool(parameter.isnan().any()) for parameter in own):
            when = "" if epoch is None else f" in epoch {epoch}"
            raise InputError(
                f"layer {layer}{when} with NaN or infinity in its weights",
                "finite ones",
                "check the learning rate, or load the weights again",
            )


@contextmanager
def layer_named(outputs: Iterable[LayerOutput], epoch: int | None) -> Iterator[None]:
    """Where measuring is refused for NaN or infinity, refuse the layer in which it arose."""
    try:
        yield
    except InputError:
        for output in outputs:
            require_finite(output, epoch)
        raise
