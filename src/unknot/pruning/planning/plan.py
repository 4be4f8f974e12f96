"""PruningPlan: which filters go, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

from torch import nn

from unknot.core.errors import InputError, require_count, require_instance
from unknot.core.files import Saved
from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import as_example, placed, unwrapped
from unknot.pruning.planning.budget import (
    REMEDY,
    UNITS,
    Budget,
    Met,
    meet_latency,
    meet_share,
    require_share,
    size_of,
)
from unknot.pruning.planning.by_layer import ByLayer, why_nothing_goes
from unknot.pruning.planning.example import describe
from unknot.pruning.planning.pool_curves import PoolCurves, interpolated, require_curves_of
from unknot.pruning.planning.ranking import Candidate, rank_units, remove_first
from unknot.pruning.planning.widths import ProductCost, choose_widths
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.channels import OUTPUT, SECONDS
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import (
    Pool,
    Structure,
    channels_of,
    disagreement,
    find_structure,
    require_structure_of,
)
from unknot.pruning.structure.trials import Deadline, Fault, in_single_precision

Allocation = Literal["auto", "uniform", "macs"]
NEAR = 0.02  # of a share of MACs or parameters: near enough
PASSED_OVER = 8  # units at most


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


@dataclass(frozen=True)
class PlanOptions:
    """How much goes, and from where: the keywords of `plan_pruning`.

    Raises:
        InputError: another allocation, bad counts.
    """

    budget: Budget
    allocation: Allocation = "auto"
    ignored: Sequence[str] = ()
    min_filters: int = 1
    round_to: int = 1
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.allocation not in ("auto", "uniform", "macs"):
            raise InputError(
                f"allocation = {self.allocation!r}", "'auto', 'uniform' or 'macs'", "pass 'auto'"
            )
        require_count("min_filters", self.min_filters, minimum=0)
        require_count("round_to", self.round_to)
        if not self.seconds > 0:
            raise InputError(f"seconds = {self.seconds}", "a number > 0", "pass e.g. 120")

    def require_threshold_of(self, criterion: str, *, gives_betti: bool) -> None:
        """Refuse a Betti threshold for scores that are no Betti numbers."""
        threshold = self.budget.max_betti
        if threshold is not None and not gives_betti:
            raise InputError(
                f"max_betti = {threshold} with criterion {criterion!r}",
                "the criterion 'betti'",
                "score with criterion='betti', or pass ratio=0.5",
            )


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
    round_to: int = PlanOptions.round_to,
    seconds: float = PlanOptions.seconds,
    structure: Structure | None = None,
    curves: PoolCurves | None = None,
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
        round_to: keep a multiple of so many filters in each layer, or all.
        seconds: after which planning is given up, with the layer that it was at.
        structure: what `find_structure` found in this model for these ``ignored`` and the scored linear
            layers; found anew where None.
        curves: what `measure_curves` found for these scores: widths are chosen by it in place of the
            ``allocation``, under a budget of MACs or parameters.

    Raises:
        InputError: not one budget, or one that cannot be met; scores, curves or a structure of another
            model; an example that the model does not take; the time is over.
    """
    budget = Budget(max_betti, ratio, macs, parameters, latency_ms)
    options = PlanOptions(budget, allocation, ignored, min_filters, round_to, seconds)
    if curves is not None:
        require_instance("curves", curves, PoolCurves, "pass what measure_curves gave")
    return plan_by(options, model, scores, example, structure, curves)


def plan_by(
    options: PlanOptions,
    model: nn.Module,
    scores: FilterScores,
    example: Any,
    structure: Structure | None = None,
    curves: PoolCurves | None = None,
) -> PruningPlan:
    """`plan_pruning` with its options in one object."""
    require_instance("scores", scores, FilterScores, "pass what score_filters gave")
    options.require_threshold_of(scores.criterion, gives_betti=scores.gives_betti)
    model = unwrapped(model)
    example = placed(as_example(example), model)
    linear = linear_among(model, scores.by_layer())
    layers = prunable_layers(model, linear)
    filters = {name: width_of(layer) or 0 for name, layer in layers.items()}
    require_scores_of(filters, scores)
    deadline = Deadline(options.seconds)
    structure = structure or find_structure(model, example, options.ignored, linear, options.seconds)
    require_structure_of(layers, structure)
    if curves is not None:
        require_curves_of(curves, structure.pools)
    # Linear layers are scored before it is known which of them give the model's outputs.
    heads = [x for x in linear if structure.kept.get(x) == OUTPUT]
    filters = {name: size for name, size in filters.items() if name not in heads}
    chooser = _Chooser(model, scores, example, structure, options, filters, deadline, curves)
    chosen, summary, kept = chooser.settle()
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


@dataclass(frozen=True, eq=False)
class _Chooser:
    """Picks the units that go."""

    model: nn.Module
    scores: FilterScores
    example: Inputs
    structure: Structure
    options: PlanOptions
    filters: dict[str, int]
    deadline: Deadline
    curves: PoolCurves | None = None

    def settle(self) -> tuple[list[Candidate], str, dict[str, str]]:
        """What goes and does no harm, the budget in words, and {layer: why it keeps everything}."""
        pools, kept = list(self.structure.pools), dict(self.structure.kept)
        while True:
            chosen, summary = self._choose(pools, kept)
            fault = self._fault(chosen)
            if fault is None:
                return chosen, summary, kept
            # `find_structure` tried other channels of these pools, on other parameters.
            faulty = [pool for pool in pools if self._fault([c for c in chosen if c.pool is pool])]
            for pool in faulty or list(pools):
                kept |= dict.fromkeys(pool.layers, fault.why)
                pools.remove(pool)

    def _fault(self, chosen: list[Candidate]) -> Fault | None:
        removed = channels_of(c.unit for c in chosen)
        if not removed:
            return None
        self.deadline.check(f"layer {next(iter(removed))}")
        model, example = self._compared
        return disagreement(self.structure.graph, model, removed, example)

    @cached_property
    def _compared(self) -> tuple[nn.Module, Inputs]:
        return in_single_precision(self.model, map_tensors(self.example, lambda t: t[:2]))

    def _choose(self, pools: list[Pool], kept: dict[str, str]) -> tuple[list[Candidate], str]:
        ranked = rank_units(pools, self.scores)
        ((name, amount),) = self.options.budget.given.items()
        if name == "max_betti":
            above = [c.with_threshold(amount) for pool in ranked for c in pool if c.exceeds(amount)]
            return self._first(above, len(above)), f"Betti numbers above {amount:g}"
        if self.curves is not None and name in UNITS and pools:
            return self._by_curves(self.curves, name, amount, ranked)
        allocation = self.options.allocation
        by_macs = self.scores.comparable if allocation == "auto" else allocation == "macs"
        if by_macs:
            order = self._by_score_per_mac(ranked)
        else:  # a prefix of this takes the same share of every pool
            order = sorted((c for pool in ranked for c in pool), key=lambda c: c.place)
        if name == "ratio":
            if by_macs:
                chosen = self._first(order, int(len(order) * amount))
            else:
                chosen = self._first([c for p in ranked for c in p[: int(len(p) * amount)]], len(order))
            n, whole = sum(len(c.unit) for c in chosen), sum(self.filters.values())
            return chosen, f"{n / max(whole, 1):.1%} of {whole:,} filters, {amount:.1%} asked"
        if name == "latency_ms":
            met = meet_latency(amount, partial(self._pruned, order), len(order), self.example)
        elif amount > 0 and not pools:
            raise InputError(
                f"{name} = {amount}: {why_nothing_goes(kept, self.filters)}",
                "a model with filters that may go",
                REMEDY,
            )
        else:
            order, met = self._nearest(name, amount, order)
            met = replace(met, summary=self._summary(name, amount, order, met.steps))
        return self._first(order, met.steps), met.summary

    def _by_curves(
        self, curves: PoolCurves, name: str, amount: float, ranked: list[list[Candidate]]
    ) -> tuple[list[Candidate], str]:
        """What goes so that the measured losses add up to least, under a share of "macs" or
        "parameters"."""
        rows = curves.by_pool()
        number = {id(pool): i for i, pool in enumerate(self.structure.pools)}
        ranked = [of_pool for of_pool in ranked if number[id(of_pool[0].pool)] in rows]
        levels = [rows[number[id(of_pool[0].pool)]] for of_pool in ranked]
        whole = size_of(name, self.model, self.example)
        units = [[c.unit for c in of_pool] for of_pool in ranked]
        graph = self.structure.graph
        if name == "macs":
            cost = ProductCost.macs(graph, units)
        else:
            cost = ProductCost.parameters(graph, units, whole)
        nothing = cost.of([0] * len(units))
        gone = choose_widths(
            [interpolated(of_pool) for of_pool in levels],
            cost,
            nothing - amount * whole,
            steps=[self.options.round_to] * len(units),
            floors=[max(of_pool[-1].kept, self.options.min_filters) for of_pool in levels],
        )
        removed = (nothing - cost.of(gone)) / whole
        if removed < amount - NEAR:
            require_share(name, amount, removed, self._limits([c for of_pool in ranked for c in of_pool]))
        chosen = [c for of_pool, n in zip(ranked, gone, strict=True) for c in of_pool[:n]]
        return self._first(chosen, len(chosen)), self._summary(name, amount, chosen, len(chosen))

    def _nearest(self, name: str, amount: float, order: list[Candidate]) -> tuple[list[Candidate], Met]:
        """The order and the step that meet a share; units too large for its rest are passed over."""
        whole = size_of(name, self.model, self.example)
        share = self._sizes(name, order, whole)
        best = order, meet_share(name, amount, share, len(order), self._limits(order))
        error = abs(share(best[1].steps) - amount)
        steps = best[1].steps
        for _ in range(PASSED_OVER):
            if error <= NEAR:
                break
            steps -= share(steps) > amount
            order = [*order[:steps], *order[steps + 1 :]]
            share = self._sizes(name, order, whole)
            if share(len(order)) < amount:
                break
            met = meet_share(name, amount, share, len(order))
            steps = met.steps
            if abs(share(steps) - amount) < error:
                best, error = (order, met), abs(share(steps) - amount)
        return best

    def _sizes(self, name: str, order: list[Candidate], whole: float) -> Callable[[int], float]:
        """The share of "macs" or "parameters" that goes with so many steps of ``order``."""
        graph = self.structure.graph
        size = graph.macs_without if name == "macs" else graph.parameters_without
        nothing = size({})

        def share(steps: int) -> float:
            removed = channels_of(c.unit for c in self._first(order, steps))
            return (nothing - size(removed)) / whole

        return share

    def _summary(self, name: str, amount: float, order: list[Candidate], steps: int) -> str:
        """The budget in words, of the models themselves."""
        whole, rest = (
            size_of(name, model, self.example) for model in (self.model, self._pruned(order, steps))
        )
        return f"{1 - rest / whole:.1%} of {whole:,} {UNITS[name]}, {amount:.1%} asked"

    def _pruned(self, order: list[Candidate], steps: int) -> nn.Module:
        removed = channels_of(c.unit for c in self._first(order, steps))
        return self.structure.graph.without(self.model, removed)

    def _first(self, order: list[Candidate], steps: int) -> list[Candidate]:
        at_least = max(1, self.options.min_filters)
        return remove_first(order[:steps], self.structure.graph.layers, at_least, self.options.round_to)

    def _limits(self, order: list[Candidate]) -> str:
        """The options that keep back some of ``order``, in words; empty where none does."""
        given = {"min_filters": self.options.min_filters, "round_to": self.options.round_to}
        every = remove_first(order, self.structure.graph.layers, 1, 1)
        if len(self._first(order, len(order))) == len(every):
            return ""
        return " and ".join(f"{name} = {value}" for name, value in given.items() if value > 1)

    def _by_score_per_mac(self, ranked: list[list[Candidate]]) -> list[Candidate]:
        """Over all pools, the least importance for the MACs that go with it first."""
        graph = self.structure.graph
        whole = graph.macs_without({})
        price = {}
        for pool in ranked:
            half = pool[: max(1, len(pool) // 2)]
            rest = graph.macs_without(channels_of(c.unit for c in half))
            price[id(pool[0].pool)] = max(1.0, whole - rest) / len(half)
        every = [c for pool in ranked for c in pool]
        return sorted(every, key=lambda c: (c.importance / price[id(c.pool)], c.place))


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
