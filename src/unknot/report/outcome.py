"""What the report shows of a pruning outcome: costs, rounds, rivals, refit, thresholds, export."""

from __future__ import annotations

from typing import Any

from unknot.pruning.outcome import PruningOutcome
from unknot.pruning.scoring.thresholds import ThresholdRow
from unknot.report.profile import View


def outcome_view(name: str, outcome: PruningOutcome) -> View:
    plot = {
        "rivals": _rivals(outcome),
        "refit": _refit(outcome),
        "thresholds": _thresholds(outcome.thresholds),
    }
    return {
        "name": name,
        "table": outcome.table(),
        "outcome": outcome,
        "cost": outcome.cost_before,
        "plot": plot,
    }


def _rivals(outcome: PruningOutcome) -> View | None:
    """One line a criterion over the share of MACs that is left, and where this pruning ended."""
    if not outcome.rivals:
        return None
    lines = []
    for name in dict.fromkeys(row.criterion for row in outcome.rivals):
        rows = sorted((r for r in outcome.rivals if r.criterion == name), key=lambda r: r.removed)
        lines.append(
            {"name": name, "left": [1 - r.removed for r in rows], "accuracy": [r.accuracy for r in rows]}
        )
    whole = outcome.cost_before.macs
    last = outcome.rounds[-1] if outcome.rounds else None
    stages: list[tuple[str, float | None]] = []
    if last is not None:
        stages = [("refitted", last.accuracy_refit), ("fine-tuned", last.accuracy_tuned)]
        if last.accuracy_refit is None and last.accuracy_tuned is None:
            stages = [("as pruned", last.accuracy_pruned)]
    return {
        "lines": lines,
        "before": outcome.accuracy_before,
        "left": outcome.cost_after.macs / whole if whole else 1.0,
        "stages": [(what, hits) for what, hits in stages if hits is not None],
    }


def _refit(outcome: PruningOutcome) -> View | None:
    """The refit's error of each layer in the last round that had one."""
    found = [done.refit for done in outcome.rounds if done.refit is not None and done.refit.rows]
    if not found:
        return None
    rows = found[-1].rows
    return {
        "layers": [row.layer for row in rows],
        "before": [row.before for row in rows],
        "after": [row.after for row in rows],
    }


def _thresholds(rows: tuple[ThresholdRow, ...]) -> View | None:
    """Filters above the threshold as [layer][sample size][scale], with the names of the axes."""
    if not rows:
        return None
    layers = list(dict.fromkeys(row.layer for row in rows))
    sizes = sorted({row.n_points for row in rows})
    scales = list(dict.fromkeys(_scale_name(row) for row in rows))
    at = {(row.layer, row.n_points, _scale_name(row)): row for row in rows}

    def cells(field: str) -> list[list[list[Any]]]:
        return [
            [[getattr(at.get((layer, n, scale)), field, None) for scale in scales] for n in sizes]
            for layer in layers
        ]

    return {
        "layers": layers,
        "sizes": sizes,
        "scales": scales,
        "exceeding": cells("exceeding"),
        "filters": cells("filters"),
    }


def _scale_name(row: ThresholdRow) -> str:
    """ "2% of distances" for a radius at a quantile, else the rule."""
    return str(row.scale) if row.quantile is None else f"{100 * row.quantile:g} %"
