"""The plan that loses least on samples that the refit does not see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.nets.probe import Inputs, map_tensors, probe_samples
from unknot.pruning.allocation.curves import curves_by
from unknot.pruning.allocation.efforts import Effort
from unknot.pruning.allocation.held_out import HeldOut
from unknot.pruning.allocation.options import FEWEST, CurveOptions
from unknot.pruning.planning.options import PlanOptions
from unknot.pruning.planning.plan import PruningPlan, plan_by
from unknot.pruning.planning.pool_curves import Loss, PoolCurves
from unknot.pruning.planning.speed.latency_model import LatencyModel, LayerTimes
from unknot.pruning.planning.speed.multiples import fast_multiples, steps_for
from unknot.pruning.planning.widths import Guide
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.pools import Structure

MEASURED = ("macs", "parameters", "latency_ms")  # budgets that curves spend
WIDE = 128  # channels: from here on widths are rounded to what is fast, if nothing else is asked for
CLEARLY = 0.9  # of what the measured widths lose: on few samples, what loses little less may lose more
BATCH, SECONDS = 16, 4.0  # samples that this is found for, and about how long it may take


@dataclass(frozen=True)
class Work:
    """How a plan is chosen.

    Attributes:
        effort: how much work.
        loss: of the model's output; None: as `measure_curves` does.
        seed: of the choice of samples.
        progress: bars on stderr, where that is a terminal.
    """

    effort: Effort
    loss: Loss | None = None
    seed: int = 0
    progress: ShowProgress = False


@dataclass(frozen=True)
class Chosen:
    """A plan, and how it was chosen.

    Attributes:
        plan: the one.
        curves: by which widths were measured; None where they were not.
        losses: {rule: what its plan lost on held-out samples}, where there were several.
        times: where the time goes, under a budget of milliseconds.
    """

    plan: PruningPlan
    curves: PoolCurves | None = None
    losses: dict[str, float] | None = None
    times: LayerTimes | None = None


def choose_plan(
    options: PlanOptions,
    model: nn.Module,
    scores: FilterScores,
    loader: Iterable[Any] | Tensor,
    example: Inputs,
    structure: Structure,
    how: Work,
) -> Chosen:
    """Plan with as much work as ``how`` says.

    Widths are measured under budgets of MACs, parameters and milliseconds, unless the options name an
    allocation. Those of wide nets are multiples that are found to be fast here, unless ``round_to`` is
    given.

    Args:
        options: the budget and its limits.
        model, scores, structure: that belong together.
        loader: samples; labels are not used.
        example: two of them, or those of the pass that milliseconds are of.
        how: and how that goes.
    """
    effort, seed, progress = how.effort, how.seed, how.progress
    (name,) = options.budget.given
    measures = effort.curves and options.allocation == "auto" and name in MEASURED
    if not measures or len(structure.pools) < 2:
        return Chosen(plan_by(options, model, scores, example, structure, progress=progress))
    macs = structure.graph.macs_without({})
    curve_options = CurveOptions(effort.levels, effort.samples, how.loss or "auto", seed)
    curve_options = curve_options.within(effort.work, macs, len(structure.pools))
    probe = probe_samples(loader, max_points=curve_options.max_points, seed=seed)
    if len(probe) < FEWEST:  # too few to hold any out
        return Chosen(plan_by(options, model, scores, example, structure, progress=progress))
    held_out = HeldOut(curve_options, model, probe, structure)
    curves = curves_by(
        curve_options, model, scores, probe, structure, held_out=held_out, progress=progress
    )
    latency = steps = None
    if name == "latency_ms":
        latency = LatencyModel.measure(model, structure, example, progress=progress)
    if options.round_to is None and max(len(pool.units) for pool in structure.pools) >= WIDE:
        batch = example if latency else map_tensors(probe.inputs, lambda t: t[:BATCH])
        steps = steps_for(structure.pools, fast_multiples(model, structure, batch, progress=progress))
    guide = Guide(curves, steps, latency)
    plans = {"measured": plan_by(options, model, scores, example, structure, guide, progress=progress)}
    for rule in effort.rivals if latency is None else ():
        by_rule = replace(options, allocation=rule)
        plans[rule] = plan_by(by_rule, model, scores, example, structure, progress=progress)
    losses = {
        rule: held_out.loss_without(plan.removed) if plan.removed else 0.0
        for rule, plan in track(list(plans.items()), "comparing widths", show=progress)
    }
    best = min(plans, key=lambda rule: losses[rule] / (1.0 if rule == "measured" else CLEARLY))
    times = None if latency is None else latency.where(plans[best].removed)
    return Chosen(plans[best], curves, losses, times)
