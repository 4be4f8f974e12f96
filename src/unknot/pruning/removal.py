"""A physically smaller model without the filters of a plan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError, require_instance
from unknot.core.memory import memory_limit
from unknot.nets.probe import tensors_of
from unknot.nets.running import placed, unwrapped
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.refitting.reconstruction import refit as refit_weights
from unknot.pruning.structure.channels import ChannelGraph, trace_channels
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import Structure, require_structure_of

__all__ = ["PruningPlan", "plan_pruning", "prune"]


def prune(
    model: nn.Module,
    plan: PruningPlan,
    *,
    refit: Iterable[Any] | Tensor | None = None,
    max_points: int = 256,
    seed: int = 0,
    structure: Structure | None = None,
) -> nn.Module:
    """A new, physically smaller model without the filters of ``plan``; ``model`` stays untouched.

    It computes what ``model`` computes with the removed channels set to zero where they enter the
    layers that consume them; with ``refit``, something nearer to what ``model`` computes.

    Args:
        model: the one that was planned for.
        plan: what `plan_pruning` gave, or `PruningPlan.from_json` read.
        refit: samples, labelled or not, to refit the remaining weights on in closed form; see `refit`,
            which also reports by how much the error of each layer fell.
        max_points: samples used for it.
        seed: of their choice.
        structure: what `find_structure` found in this model; its channels are traced anew where None.

    Raises:
        InputError: the plan names a layer or a filter that the model does not have, or takes channels
            from one layer only that it shares with another; a structure of another model.
    """
    model = unwrapped(model)
    require_instance("plan", plan, PruningPlan, "pass what plan_pruning gave")
    _require_plan_of(model, plan)
    linear = linear_among(model, plan.filters)
    if structure is not None:
        require_structure_of(prunable_layers(model, linear), structure)
    graph = _trace(model, plan.input_shape, linear) if structure is None else structure.graph
    for unit in graph.units:
        staying = [(layer, c) for layer, c in unit if c not in plan.removed.get(layer, ())]
        if 0 < len(staying) < len(unit):
            layer, channel = staying[0]
            raise InputError(
                f"a plan that keeps filter {channel} of layer {layer}",
                f"that it goes with the {len(unit) - len(staying)} filters that share its channel",
                "plan again with this model",
            )
    slim = graph.without(model, plan.removed)
    if refit is not None:
        refit_weights(model, slim, plan, refit, max_points=max_points, seed=seed)
    return slim


def _trace(model: nn.Module, shape: tuple[int, ...], linear: list[str]) -> ChannelGraph:
    if min(shape, default=0) < 1 or 8 * math.prod(shape) > memory_limit():
        raise InputError(
            f"plan for samples of shape {shape}",
            "the shape of one sample, which fits into memory",
            "plan again with this model",
        )
    (example,) = tensors_of(placed(torch.zeros(2, *shape), model))
    return trace_channels(model, example, linear)


def _require_plan_of(model: nn.Module, plan: PruningPlan) -> None:
    modules = dict(model.named_modules())
    for layer, filters in plan.removed.items():
        width = width_of(modules.get(layer))
        if width is None or width != plan.filters.get(layer):
            raise InputError(
                f"plan for layer {layer} of {plan.filters.get(layer)} filters",
                "the model that was planned for",
                "plan again with this model",
            )
        if filters and not 0 <= min(filters) <= max(filters) < width:
            raise InputError(
                f"filters {filters} of layer {layer}",
                f"numbers in [0, {width})",
                "plan again with this model",
            )
