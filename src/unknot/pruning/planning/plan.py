"""PruningPlan: which filters go, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from unknot.core.errors import InputError, require_count, require_instance
from unknot.core.files import Saved
from unknot.nets.cost import count_macs
from unknot.nets.probe import tensors_of
from unknot.nets.running import placed, unwrapped
from unknot.pruning.planning.budget import Budget, meet_latency, meet_share
from unknot.pruning.planning.ranking import Candidate, rank_units, remove_first
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import (
    Pool,
    Structure,
    channels_of,
    disagreement,
    find_structure,
    require_structure_of,
)

Allocation = Literal["auto", "uniform", "macs"]
REMEDY = "name linear layers to prune, e.g. linear=['*pwconv1'] or --linear '*pwconv1', if it has some"


@dataclass(frozen=True)
class PruningPlan(Saved):
    """Which filters go, and why.

    Attributes:
        removed: {layer: filters to remove, ascending}; layers whose outputs are added up share them.
        reasons: {layer: one reason for each removed filter}.
        kept_layers: {layer: why none of its filters may go}.
        filters: {layer: filters before}.
        criterion: what scored them.
        input_shape: of one sample, to trace the model's structure.
        shared: {layer: the layers with which it shares channels, itself among them}.
        budget: what was asked for and what came of it, in words.
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

    @property
    def n_removed(self) -> int:
        """Filters that go, of all layers."""
        return sum(len(filters) for filters in self.removed.values())

    @property
    def n_filters(self) -> int:
        """Filters before pruning, of all layers that the plan speaks of."""
        return sum(self.filters.values())

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

    def __post_init__(self) -> None:
        if self.allocation not in ("auto", "uniform", "macs"):
            raise InputError(
                f"allocation = {self.allocation!r}", "'auto', 'uniform' or 'macs'", "pass 'auto'"
            )
        require_count("min_filters", self.min_filters, minimum=0)
        require_count("round_to", self.round_to)

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
    example: Tensor,
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
    structure: Structure | None = None,
) -> PruningPlan:
    """Decide which filters go, under exactly one budget.

    Channels that are added up go together: such a channel is scored by the mean of its members' scores,
    each divided by the mean of its layer. Layers whose channels cannot safely go keep all of them, with
    the reason in ``kept_layers``: before the plan is returned, the model pruned by it is compared with
    the model whose removed channels are masked.

    Args:
        model: not changed.
        scores: of the filters of this model, see `score_filters`.
        example: a batch ``[n, ...]`` that the model takes.
        max_betti: remove filters whose Betti number is above it (criterion "betti"), and redundant ones.
        ratio: the share of filters to remove from each layer, in [0, 1), worst first.
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
        structure: what `find_structure` found in this model for these ``ignored`` and the scored linear
            layers; found anew where None.

    Raises:
        InputError: not one budget, or one that cannot be met; scores or a structure of another model.
    """
    budget = Budget(max_betti, ratio, macs, parameters, latency_ms)
    options = PlanOptions(budget, allocation, ignored, min_filters, round_to)
    return plan_by(options, model, scores, example, structure)


def plan_by(
    options: PlanOptions,
    model: nn.Module,
    scores: FilterScores,
    example: Tensor,
    structure: Structure | None = None,
) -> PruningPlan:
    """`plan_pruning` with its options in one object."""
    require_instance("scores", scores, FilterScores, "pass what score_filters gave")
    options.require_threshold_of(scores.criterion, gives_betti=scores.gives_betti)
    model = unwrapped(model)
    (example,) = tensors_of(placed(example, model))
    linear = linear_among(model, scores.by_layer())
    layers = prunable_layers(model, linear)
    filters = {name: width_of(layer) or 0 for name, layer in layers.items()}
    _require_scores_of(filters, scores)
    structure = structure or find_structure(model, example, options.ignored, linear)
    require_structure_of(layers, structure)
    chooser = _Chooser(model, scores, example, structure, options, filters)
    chosen, summary, kept = chooser.settle()
    reasons = {(layer, i): c.reason for c in chosen for layer, i in c.unit}
    removed = channels_of(c.unit for c in chosen)
    plan = PruningPlan(
        removed=removed,
        reasons={layer: [reasons[layer, i] for i in channels] for layer, channels in removed.items()},
        kept_layers=kept,
        filters=filters,
        criterion=scores.criterion,
        input_shape=tuple(example.shape[1:]),
        shared=_shared(structure.pools),
        budget=summary,
    )
    return replace(plan, budget=f"{summary}; {plan.refusal}") if plan.refusal else plan


def why_nothing_goes(kept: dict[str, str], filters: dict[str, int]) -> str:
    """One line where every layer of ``filters`` is ``kept``; empty where one is not."""
    if set(filters) - set(kept):
        return ""
    layer = next(iter(filters))
    others = f", nor may those of {len(filters) - 1} other layers" if len(filters) > 1 else ""
    return f"no filter of {layer} may go ({kept[layer]}){others}"


@dataclass(frozen=True, eq=False)
class _Chooser:
    """Picks the units that go."""

    model: nn.Module
    scores: FilterScores
    example: Tensor
    structure: Structure
    options: PlanOptions
    filters: dict[str, int]

    def settle(self) -> tuple[list[Candidate], str, dict[str, str]]:
        """What goes and does no harm, the budget in words, and {layer: why it keeps everything}."""
        pools, kept = list(self.structure.pools), dict(self.structure.kept)
        while True:
            chosen, summary = self._choose(pools)
            why = self._fault(chosen)
            if not why:
                return chosen, summary, kept
            # `find_structure` tried other channels of these pools, on other parameters.
            faulty = [pool for pool in pools if self._fault([c for c in chosen if c.pool is pool])]
            for pool in faulty or list(pools):
                kept |= dict.fromkeys(pool.layers, why)
                pools.remove(pool)

    def _fault(self, chosen: list[Candidate]) -> str:
        removed = channels_of(c.unit for c in chosen)
        if not removed:
            return ""
        return disagreement(self.structure.graph, self.model, removed, self.example[:2])

    def _choose(self, pools: list[Pool]) -> tuple[list[Candidate], str]:
        ranked = rank_units(pools, self.scores)
        ((name, amount),) = self.options.budget.given.items()
        if name == "max_betti":
            above = [c.with_threshold(amount) for pool in ranked for c in pool if c.exceeds(amount)]
            return self._first(above, len(above)), f"Betti numbers above {amount:g}"
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
            return chosen, f"{n / whole:.1%} of {whole:,} filters, {amount:.1%} asked"

        def pruned(steps: int) -> nn.Module:
            removed = channels_of(c.unit for c in self._first(order, steps))
            return self.structure.graph.without(self.model, removed)

        if name == "latency_ms":
            met = meet_latency(amount, pruned, len(order), self.example)
        elif amount > 0 and not pools:
            raise InputError(
                f"{name} = {amount}: {why_nothing_goes(self.structure.kept, self.filters)}",
                "a model with filters that may go",
                REMEDY,
            )
        else:
            met = meet_share(name, amount, pruned, len(order), self.example)
        return self._first(order, met.steps), met.summary

    def _first(self, order: list[Candidate], steps: int) -> list[Candidate]:
        at_least = max(1, self.options.min_filters)
        return remove_first(order[:steps], self.filters, at_least, self.options.round_to)

    def _by_score_per_mac(self, ranked: list[list[Candidate]]) -> list[Candidate]:
        """Over all pools, the least importance for the MACs that go with it first."""
        whole = count_macs(self.model, self.example[:1])
        price = {}
        for pool in ranked:
            half = pool[: max(1, len(pool) // 2)]
            slim = self.structure.graph.without(self.model, channels_of(c.unit for c in half))
            price[id(pool[0].pool)] = max(1.0, whole - count_macs(slim, self.example[:1])) / len(half)
        every = [c for pool in ranked for c in pool]
        return sorted(every, key=lambda c: (c.importance / price[id(c.pool)], c.place))


def _shared(pools: tuple[Pool, ...]) -> dict[str, list[str]]:
    shared: dict[str, list[str]] = {}
    for pool in pools:
        if len(pool.layers) > 1:
            for layer in pool.layers:
                shared[layer] = list(dict.fromkeys([*shared.get(layer, ()), *pool.layers]))
    return shared


def _require_scores_of(filters: dict[str, int], scores: FilterScores) -> None:
    for layer, rows in scores.by_layer().items():
        if [r.filter for r in rows] != list(range(filters.get(layer, -1))):
            raise InputError(
                f"scores of {len(rows)} filters of layer {layer}",
                f"{filters.get(layer, 'no such layer')} as in the model",
                "score the filters of this model",
            )
