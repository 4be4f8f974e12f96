"""PruningPlan: which filters go, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError, require_instance
from unknot.core.files import Saved
from unknot.nets.probe import tensors_of
from unknot.nets.running import as_example, placed, unwrapped
from unknot.pruning.planning.budget import (
    Budget,
)
from unknot.pruning.planning.by_layer import ByLayer, why_nothing_goes
from unknot.pruning.planning.choosing import Chooser
from unknot.pruning.planning.example import describe
from unknot.pruning.planning.options import Allocation, PlanOptions
from unknot.pruning.planning.pool_curves import PoolCurves, require_curves_of
from unknot.pruning.planning.speed.latency_model import LatencyModel
from unknot.pruning.planning.widths import Guide
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.channels import OUTPUT
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import (
    Pool,
    Structure,
    channels_of,
    find_structure,
    require_structure_of,
)
from unknot.pruning.structure.trials import Deadline


@dataclass(frozen=True, repr=False)
class PruningPlan(ByLayer, Saved):
    """Which filters go, and why.

    Attributes:
        removed: {layer: filters to remove, ascending}; layers whose outputs are added up share them.
        reasons: {layer: one reason for each removed filter}.
        kept_layers: {layer: why none of its filters may go}.
        filters: {layer: filters before}.
        criterion: what scored them.
        input_shape: of one sample, of the first tensor where there are several.
        shared: {layer: the layers with which it shares channels, itself among them}.
        budget: what was asked for and what came of it, in words.
        inputs: keyword (None: positional), shape and dtype of each tensor of one sample, to follow the
            model's channels again; empty in the files of earlier versions.
        normalised: the modules that normalise removed channels together with others. There the smaller
            model is compared with one that normalises over the channels that are left.
        choices: of `Structure`, as a dict.
    """

    file_kind = "plan"

    removed: dict[str, list[int]]
    reasons: dict[str, list[str]]
    kept_layers: dict[str, str]
    filters: dict[str, int]
    criterion: str
    input_shape: tuple[int, ...]
    shared: dict[str, list[str]] = field(default_factory=dict)
    budget: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    normalised: list[str] = field(default_factory=list)
    choices: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def n_removed(self) -> int:
        """Filters that go, of all layers."""
        return sum(len(filters) for filters in self.removed.values())

    @property
    def n_filters(self) -> int:
        """Filters before pruning, of all layers that the plan speaks of."""
        return sum(self.filters.values())

    @property
    def judged_by(self) -> str:
        """What the smaller model was found to compute, in words."""
        masked = "the original with the removed channels set to zero where they are taken in"
        n = len(self.normalised)
        if not n:
            return masked
        return f"{masked}, {n} normalisation{'s' * (n > 1)} over the channels that are left"

    @property
    def refusal(self) -> str:
        """Why none of the layers may lose any filter, in one line; empty where one may."""
        return why_nothing_goes(self.kept_layers, self.filters)


def plan_pruning(
    model: nn.Module,
    scores: FilterScores,
    example: Any,
    *,
    max_betti: float | None = None,
    ratio: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    latency_ms: float | None = None,
    allocation: Allocation = PlanOptions.allocation,
    ignored: Sequence[str] = PlanOptions.ignored,
    min_filters: int = PlanOptions.min_filters,
    round_to: int | None = PlanOptions.round_to,
    seconds: float = PlanOptions.seconds,
    structure: Structure | None = None,
    curves: PoolCurves | None = None,
    progress: ShowProgress = "auto",
) -> PruningPlan:
    """Decide which filters go, under exactly one budget.

    Channels that are added up go together: such a channel is scored by the mean of its members' scores,
    each divided by the mean of its layer. Layers whose channels cannot safely go keep all of them, with
    the reason in ``kept_layers``: before the plan is returned, the model pruned by it is compared with
    the model whose removed channels are masked.

    Args:
        model: not changed.
        scores: of the filters of this model, see `score_filters`.
        example: a batch ``[n, ...]`` that the model takes, or a tuple or dict of its inputs.
        max_betti: remove filters whose Betti number is above it (criterion "betti"), and redundant ones.
        ratio: the share of filters to remove, in [0, 1), worst first: from each layer, or with the
            allocation "macs" of all layers together.
        macs: the share of multiply-accumulates to remove, met within two points where no rounding
            forbids it.
        parameters: the share of parameters to remove, likewise.
        latency_ms: remove until a forward pass of ``example`` takes at most that long, here and now.
        allocation: "uniform", the same share of every layer; "macs", the lowest score for the MACs
            that it takes first, over all layers; or "auto", "macs" where scores of different layers can
            be compared (the criteria with "surgeon"), else "uniform".
        ignored: globs of layers to leave alone.
        min_filters: left in each layer, the best ones by score.
        round_to: keep a multiple of so many filters in each layer, or all; None: any number.
        seconds: after which planning is given up, with the layer that it was at.
        structure: what `find_structure` found in this model for these ``ignored`` and the scored linear
            layers; found anew where None.
        curves: what `measure_curves` found for these scores: widths are chosen by it in place of the
            ``allocation``, under a budget of MACs, parameters or milliseconds.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: not one budget, or one that cannot be met; scores, curves or a structure of another
            model; an example that the model does not take; the time is over.
    """
    budget = Budget(max_betti, ratio, macs, parameters, latency_ms)
    options = PlanOptions(budget, allocation, ignored, min_filters, round_to, seconds)
    guide = None
    if curves is not None:
        require_instance("curves", curves, PoolCurves, "pass what measure_curves gave")
        model, example = unwrapped(model), placed(as_example(example), unwrapped(model))
        if structure is None:
            linear = linear_among(model, scores.by_layer())
            structure = find_structure(model, example, ignored, linear, seconds, progress=progress)
        latency = None
        if latency_ms is not None:
            latency = LatencyModel.measure(model, structure, example, progress=progress)
        guide = Guide(curves, None, latency)
    return plan_by(options, model, scores, example, structure, guide, progress=progress)


def plan_by(
    options: PlanOptions,
    model: nn.Module,
    scores: FilterScores,
    example: Any,
    structure: Structure | None = None,
    guide: Guide | None = None,
    *,
    progress: ShowProgress = False,
) -> PruningPlan:
    """`plan_pruning` with its options in one object, and what was measured before."""
    require_instance("scores", scores, FilterScores, "pass what score_filters gave")
    options.require_threshold_of(scores.criterion, gives_betti=scores.gives_betti)
    model = unwrapped(model)
    example = placed(as_example(example), model)
    linear = linear_among(model, scores.by_layer())
    layers = prunable_layers(model, linear)
    filters = {name: width_of(layer) or 0 for name, layer in layers.items()}
    require_scores_of(filters, scores)
    deadline = Deadline(options.seconds)
    structure = structure or find_structure(
        model, example, options.ignored, linear, options.seconds, progress=progress
    )
    require_structure_of(layers, structure)
    if guide is not None:
        require_curves_of(guide.curves, structure.pools)
    # Linear layers are scored before it is known which of them give the model's outputs.
    heads = [x for x in linear if structure.kept.get(x) == OUTPUT]
    filters = {name: size for name, size in filters.items() if name not in heads}
    chooser = Chooser(model, scores, example, structure, options, filters, deadline, guide)
    # Models are timed in between, which no other thread may disturb.
    with step_bar("choosing what goes", None, show=progress, timed=True) as deadline.tell:
        chosen, summary, kept = chooser.settle()
    unscored = [pool for pool in structure.pools if not scores.by_layer().keys() & set(pool.layers)]
    kept |= {layer: f"{scores.criterion} gives it no scores" for p in unscored for layer in p.layers}
    kept = {layer: why for layer, why in kept.items() if layer in filters}
    reasons = {(layer, i): c.reason for c in chosen for layer, i in c.unit}
    removed = channels_of(c.unit for c in chosen)
    # Embeddings have no scores of their own, and go with what they share channels with.
    filters |= {layer: structure.graph.layers[layer] for layer in removed if layer not in filters}
    plan = PruningPlan(
        removed=removed,
        reasons={layer: [reasons[layer, i] for i in channels] for layer, channels in removed.items()},
        kept_layers=kept,
        filters=filters,
        criterion=scores.criterion,
        input_shape=tuple(tensors_of(example)[0].shape[1:]),
        shared=_shared(structure.pools),
        budget=summary,
        inputs=describe(example),
        normalised=structure.graph.normalisations(removed),
        choices={
            "banned": [list(pair) for pair in structure.choices.banned],
            "tied": list(structure.choices.tied),
        },
    )
    return replace(plan, budget=f"{summary}; {plan.refusal}") if plan.refusal else plan


def _shared(pools: tuple[Pool, ...]) -> dict[str, list[str]]:
    shared: dict[str, list[str]] = {}
    for pool in pools:
        if len(pool.layers) > 1:
            for layer in pool.layers:
                shared[layer] = list(dict.fromkeys([*shared.get(layer, ()), *pool.layers]))
    return shared


def require_scores_of(filters: dict[str, int], scores: FilterScores) -> None:
    """Refuse scores of other filters than {layer: number of them}."""
    for layer, rows in scores.by_layer().items():
        if [r.filter for r in rows] != list(range(filters.get(layer, -1))):
            raise InputError(
                f"scores of {len(rows)} filters of layer {layer}",
                f"{filters.get(layer, 'no such layer')} as in the model",
                "score the filters of this model",
            )
