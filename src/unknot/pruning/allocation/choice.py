"""The plan that loses least on samples that the refit does not see."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from unknot.core.console import track
from unknot.nets.probe import Inputs, probe_samples
from unknot.pruning.allocation.curves import curves_by
from unknot.pruning.allocation.efforts import Effort
from unknot.pruning.allocation.held_out import HeldOut
from unknot.pruning.allocation.options import FEWEST, CurveOptions
from unknot.pruning.planning.plan import PlanOptions, PruningPlan, plan_by
from unknot.pruning.planning.pool_curves import Loss, PoolCurves
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.pools import Structure

MEASURED = ("macs", "parameters")  # budgets that curves spend


@dataclass(frozen=True)
class Chosen:
    """A plan, and how it was chosen.

    Attributes:
        plan: the one.
        curves: by which widths were measured; None where they were not.
        losses: {rule: what its plan lost on held-out samples}, where there were several.
    """

    plan: PruningPlan
    curves: PoolCurves | None = None
    losses: dict[str, float] | None = None


def choose_plan(
    options: PlanOptions,
    model: nn.Module,
    scores: FilterScores,
    loader: Iterable[Any] | Tensor,
    example: Inputs,
    structure: Structure,
    *,
    effort: Effort,
    loss: Loss | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Chosen:
    """Plan with as much work as ``effort`` says.

    Widths are measured under budgets of MACs and parameters, unless the options name an allocation.

    Args:
        options: the budget and its limits.
        model, scores, structure: that belong together.
        loader: samples; labels are not used.
        example: two of them.
        effort: how much work.
        loss: of the model's output; None: as `measure_curves` does.
        seed: of the choice of samples.
        progress: bars on stderr, where that is a terminal.
    """
    (name,) = options.budget.given
    measures = effort.curves and options.allocation == "auto" and name in MEASURED
    if not measures or len(structure.pools) < 2:
        return Chosen(plan_by(options, model, scores, example, structure))
    macs = structure.graph.macs_without({})
    curve_options = CurveOptions(effort.levels, effort.samples, loss or "auto", seed)
    curve_options = curve_options.within(effort.work, macs, len(structure.pools))
    probe = probe_samples(loader, max_points=curve_options.max_points, seed=seed)
    if len(probe) < FEWEST:  # too few to hold any out
        return Chosen(plan_by(options, model, scores, example, structure))
    held_out = HeldOut(curve_options, model, probe, structure)
    curves = curves_by(
        curve_options, model, scores, probe, structure, held_out=held_out, progress=progress
    )
    plans = {"measured": plan_by(options, model, scores, example, structure, curves)}
    for rule in effort.rivals:
        by_rule = replace(options, allocation=rule)
        plans[rule] = plan_by(by_rule, model, scores, example, structure)
    losses = {
        rule: held_out.loss_without(plan.removed) if plan.removed else 0.0
        for rule, plan in track(list(plans.items()), "comparing widths", show=progress)
    }
    best = min(plans, key=lambda rule: losses[rule] if losses[rule] == losses[rule] else math.inf)
    return Chosen(plans[best], curves, losses)
