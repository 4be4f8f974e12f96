"""Which layers of the benchmark's two nets make the channels that others read, and how to cut them.

Written out for `uk.nets.cnn` and `uk.nets.resnet` with batch normalisation: a baseline from a paper must
not lean on the library that it is compared with, beyond the surgery that is the same for all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from norms import recalibrated
from torch import Tensor, nn

import unknot as uk
from unknot.pruning import PruningPlan

Scores = dict[str, Tensor]  # {layer: one score a channel}
Channels = dict[str, Tensor]  # {pool: channels, ascending}


@dataclass(frozen=True)
class Wire:
    """A layer with weights.

    Attributes:
        name: dotted.
        reads, writes: pools of channels, each called by the first layer that writes it; empty for the
            image and for the logits. Layers whose outputs are added up write one pool.
        norm: its batch normalisation; empty where none follows.
    """

    name: str
    reads: str
    writes: str
    norm: str = ""


@dataclass(frozen=True, eq=False)
class Task:
    """What every baseline is given.

    Attributes:
        model: the trained net, in eval mode; not to be changed.
        images, labels: of the calibration set. Only methods that say so may look at the labels.
        share: of the MACs to remove.
        seed: of what is drawn at random.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    share: float
    seed: int

    @cached_property
    def wires(self) -> list[Wire]:
        return list(wires_of(self.model))

    def plan(self, scores: Scores) -> PruningPlan:
        """The lowest scores go: the same share of every pool, so that the MACs are met."""

        def criterion(name: str, layer: nn.Module) -> Tensor:
            return scores[name]

        rows = uk.score_filters(self.model, criterion=criterion)
        return uk.plan_pruning(self.model, rows, self.images[:2], macs=self.share, allocation="uniform")

    def keeping(self, plan: PruningPlan, kept: Channels) -> PruningPlan:
        """``plan`` with other channels in the same number."""
        removed = {}
        for wire in self.wires:
            if wire.writes:
                stays = set(kept[wire.writes].tolist())
                if len(stays) != plan.filters[wire.name] - len(plan.removed.get(wire.name, ())):
                    raise ValueError(f"{len(stays)} channels of {wire.name} stay: not as planned")
                gone = [c for c in range(plan.filters[wire.name]) if c not in stays]
                removed |= {wire.name: gone} if gone else {}
        reasons = {layer: ["chosen"] * len(gone) for layer, gone in removed.items()}
        return replace(plan, removed=removed, reasons=reasons)

    def kept(self, plan: PruningPlan) -> Channels:
        """What stays of every pool."""
        return {
            pool: torch.tensor(sorted(set(range(plan.filters[pool])) - set(plan.removed.get(pool, ()))))
            for pool in dict.fromkeys(w.writes for w in self.wires if w.writes)
        }

    def layer(self, name: str, model: nn.Module | None = None) -> Any:
        return (model or self.model).get_submodule(name)

    def recalibrated(self, slim: nn.Module) -> nn.Module:
        """``slim`` in place, its batch normalisation with the statistics of its own outputs."""
        return recalibrated(slim, self.images)


def wires_of(model: nn.Module) -> Iterator[Wire]:
    """Front to back, in the order in which they run."""
    stream = ""
    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d):
            yield Wire(name, stream, name, name.replace("conv", "norm"))
            stream = name
        elif hasattr(module, "shortcut"):
            inner = f"{name}.conv1"
            identity = isinstance(module.shortcut, nn.Identity)
            after = stream if identity else f"{name}.conv2"
            yield Wire(inner, stream, inner, f"{name}.norm1")
            yield Wire(f"{name}.conv2", inner, after, f"{name}.norm2")
            if not identity:
                yield Wire(f"{name}.shortcut", stream, after)
            stream = after
        elif isinstance(module, nn.Linear):
            yield Wire(name, stream, "")


def inputs_of(
    model: nn.Module, names: list[str], images: Tensor, see: Callable[[str, Any, Tensor, Tensor], None]
) -> None:
    """Call ``see(name, layer, input, output)`` for every batch that runs through the named layers."""

    def hook(name: str) -> Any:
        return lambda layer, given, output: see(name, layer, given[0], output)

    handles = [model.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        with torch.no_grad():
            for batch in images.split(64):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()


def rows_of(layer: Any, x: Tensor, places: Tensor) -> Tensor:
    """What a layer weighs at some places: ``[images x places, inputs x window]``."""
    if isinstance(layer, nn.Linear):
        return x
    patches = nn.functional.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride)
    return patches[:, :, places].transpose(1, 2).reshape(-1, patches.shape[1])


def outputs_of(layer: Any, y: Tensor, places: Tensor) -> Tensor:
    """``[images x places, outputs]``, in the order of `rows_of`, without the layer's bias."""
    if not isinstance(layer, nn.Linear):
        y = y.flatten(2)[:, :, places].transpose(1, 2).reshape(-1, y.shape[1])
    return y if layer.bias is None else y - layer.bias


def put(layer: Any, weight: Tensor) -> None:
    """The weights of a layer that has the shape for them already."""
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval()
