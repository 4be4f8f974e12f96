"""Units of channels, worst first, by the scores of the filters in them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.pruning.structure.channels import Unit
from unknot.pruning.structure.pools import Pool


@dataclass(frozen=True, eq=False)
class Candidate:
    """A unit that may go.

    Attributes:
        pool: where it comes from.
        unit: its channels.
        importance: mean over its scored filters, each relative to its layer unless scores of different
            layers can be compared; 0 and more, low goes first.
        place: in (0, 1), its rank in the pool over the pool's size.
        betti: mean Betti number of its filters; None where redundant ones are all there are.
        reason: why it goes, if it does.
    """

    pool: Pool
    unit: Unit
    importance: float
    place: float
    betti: float | None
    reason: str

    def exceeds(self, max_betti: float) -> bool:
        """Whether it goes by a Betti threshold: above it, or all of it redundant."""
        return self.betti is None or self.betti > max_betti

    def with_threshold(self, max_betti: float) -> Candidate:
        """The same with the threshold as its reason, unless it is redundant."""
        if self.betti is None:
            return self
        mean = f", the mean of {', '.join(self.pool.layers)}" if len(self.pool.layers) > 1 else ""
        return replace(self, reason=f"Betti number {self.betti:.4g} > {max_betti:g}{mean}")


def rank_units(pools: Sequence[Pool], scores: FilterScores) -> list[list[Candidate]]:
    """The units of each pool that has scores, worst first; those without any score stay out."""
    rows = {(r.layer, r.filter): r for r in scores.rows}
    importance = _importances(scores)
    ranked = []
    for pool in pools:
        scored = []
        for unit in pool.units:
            members = [rows[c] for c in unit if c in rows]
            if members:
                value = statistics.fmean(importance[r.layer, r.filter] for r in members)
                sign = -1.0 if scores.remove_high else 1.0
                tie = statistics.fmean(sign * r.score for r in members)
                scored.append((value, tie, unit, members))
        scored.sort(key=lambda s: s[:2])
        n = len(scored)
        if n:
            ranked.append([
                Candidate(
                    pool, unit, value, (rank - 0.5) / n, _betti(members),
                    _reason(members, rank, n, "Betti number" if scores.gives_betti else ""),
                )
                for rank, (value, _, unit, members) in enumerate(scored, start=1)
            ])  # fmt: skip
    return ranked


def remove_first(
    order: Iterable[Candidate], filters: Mapping[str, int], at_least: int, multiple: int
) -> list[Candidate]:
    """Those of ``order`` that may go, first come: each of the layers {layer: filters} keeps ``at_least``,
    and each pool a unit.

    Layers keep a ``multiple`` of so many filters, or all; the last ones to go come back.
    """
    remaining = Counter(filters)
    units: Counter[int] = Counter()  # taken from each pool
    removed: list[Candidate] = []
    for candidate in order:
        taken = Counter(layer for layer, _ in candidate.unit)
        of_pool = len(candidate.pool.units) - units[id(candidate.pool)]
        if of_pool > 1 and all(remaining[layer] - n >= at_least for layer, n in taken.items()):
            remaining -= taken
            units[id(candidate.pool)] += 1
            removed.append(candidate)
    while odd := next(
        (x for x in filters if remaining[x] < filters[x] and remaining[x] % multiple), None
    ):
        last = max(i for i, c in enumerate(removed) if odd in c.pool.layers)
        remaining += Counter(layer for layer, _ in removed.pop(last).unit)
    return removed


def _importances(scores: FilterScores) -> dict[tuple[str, int], float]:
    """Score, over the layer's mean where layers differ in scale, turned so that low goes first; 0 for
    redundant filters.
    """
    importances = {}
    for rows in scores.by_layer().values():
        values = [r.score for r in rows if not r.redundant]
        if scores.remove_high:
            top = max(values, default=0.0)
            worth = {r.filter: top - r.score for r in rows}
        else:
            low = min([0.0, *values])
            worth = {r.filter: r.score - low for r in rows}
        # A layer's own mean, so that layers of other scales can be averaged with it.
        mean = 1.0 if scores.comparable else statistics.fmean(map(abs, values or [0.0]))
        for row in rows:
            live = mean > 0 and not row.redundant
            importances[row.layer, row.filter] = worth[row.filter] / mean if live else 0.0
    return importances


def _betti(members: Sequence[FilterScore]) -> float | None:
    values = [r.score for r in members if not r.redundant]
    return statistics.fmean(values) if values else None


def _reason(members: Sequence[FilterScore], rank: int, size: int, score: str) -> str:
    """E.g. "l1 0.31, rank 2 of 16", for shared channels with the layers they are shared by.

    ``score`` says what the scores are, where their criterion's name does not.
    """
    first = members[0]
    redundant = [r for r in members if r.redundant]
    if len(members) == 1:
        if redundant:
            return first.note
        note = f" ({first.note})" if first.note else ""
        return f"{score or first.criterion} {first.score:.4g}, rank {rank} of {size}{note}"
    parts = [f"{r.layer} {r.note if r.redundant else format(r.score, '.4g')}" for r in members[:4]]
    more = f" and {len(members) - 4} more" if len(members) > 4 else ""
    return f"{first.criterion} mean over {', '.join(parts)}{more}, rank {rank} of {size}"
