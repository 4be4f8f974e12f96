"""A physically smaller model without the filters of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError, require_instance
from unknot.nets.running import unwrapped
from unknot.pruning.planning.example import make
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.refitting.reconstruction import refit as refit_weights
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import (
    Choices,
    Structure,
    find_structure,
    follow_again,
    require_structure_of,
)

__all__ = ["PruningPlan", "plan_pruning", "prune"]


def prune(
    model: nn.Module,
    plan: PruningPlan,
    *,
    refit: Iterable[Any] | Tensor | None = None,
    max_points: int = 256,
    seed: int = 0,
    structure: Structure | None = None,
    progress: ShowProgress = "auto",
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
        progress: of the refit, as there.

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
        graph = structure.graph
    elif plan.inputs:
        _require_same_samples(plan)
        graph = follow_again(model, make(plan.inputs), linear, _choices(plan))
    else:  # of an earlier version
        kind = [{"name": None, "shape": list(plan.input_shape), "dtype": "float32"}]
        graph = find_structure(model, make(kind), linear=linear, progress=progress).graph
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
        how: dict[str, Any] = {"max_points": max_points, "seed": seed, "progress": progress}
        refit_weights(model, slim, plan, refit, **how)
    return slim


def _require_same_samples(plan: PruningPlan) -> None:
    first = plan.inputs[0].get("shape") if isinstance(plan.inputs[0], dict) else None
    if first != list(plan.input_shape):
        raise InputError(
            f"plan for samples of shape {tuple(plan.input_shape)} with inputs {plan.inputs}",
            "one shape",
            "plan again with this model",
        )


def _choices(plan: PruningPlan) -> Choices:
    try:
        banned = tuple((int(i), int(axis)) for i, axis in plan.choices.get("banned", ()))
        return Choices(banned, tuple(map(str, plan.choices.get("tied", ()))))
    except (TypeError, ValueError):
        raise InputError(
            f"plan with choices {plan.choices}", "those of a plan", "plan again with this model"
        ) from None


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
