"""What the report shows of a pruning outcome: costs, rounds, baselines, refit, thresholds, export."""

from __future__ import annotations

from typing import Any

from unknot.pruning.outcomes.outcome import STAGES, PruningOutcome
from unknot.pruning.scoring.thresholds import ThresholdRow, scale_name
from unknot.report.profile import View


def outcome_view(name: str, outcome: PruningOutcome) -> View:
    return {
        "name": name,
        "table": outcome.table(),
        "outcome": outcome,
        "stages": [s for s in STAGES if any(r.accuracies[s] is not None for r in outcome.rounds)],
        "plot": {
            "baselines": _baselines(outcome),
            "refit": _refit(outcome),
            "thresholds": _thresholds(outcome.thresholds),
        },
    }


def _baselines(outcome: PruningOutcome) -> View | None:
    """One line a criterion over the share of MACs that is left, and where this pruning ended."""
    if not outcome.baselines:
        return None
    lines = []
    for name in dict.fromkeys(row.criterion for row in outcome.baselines):
        rows = sorted((r for r in outcome.baselines if r.criterion == name), key=lambda r: r.removed)
        lines.append(
            {"name": name, "left": [1 - r.removed for r in rows], "accuracy": [r.accuracy for r in rows]}
        )
    whole = outcome.cost_before.macs
    accuracies = outcome.rounds[-1].accuracies if outcome.rounds else {}
    stages = [(stage, value) for stage, value in accuracies.items() if value is not None]
    return {
        "lines": lines,
        "before": outcome.accuracy_before,
        "left": outcome.cost_after.macs / whole if whole else 1.0,
        "stages": stages[1:] or stages,
    }


def _refit(outcome: PruningOutcome) -> View | None:
    """The refit's error of each layer in the last round that had one."""
    refits = [done.refit for done in outcome.rounds if done.refit is not None and done.refit.rows]
    if not refits:
        return None
    rows = refits[-1].rows
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
    scales = list(dict.fromkeys(scale_name(row) for row in rows))
    row_of = {(row.layer, row.n_points, scale_name(row)): row for row in rows}

    def cells(field: str) -> list[list[list[Any]]]:
        return [
            [[getattr(row_of.get((layer, n, scale)), field, None) for scale in scales] for n in sizes]
            for layer in layers
        ]

    return {
        "layers": layers,
        "sizes": sizes,
        "scales": scales,
        "exceeding": cells("exceeding"),
        "filters": cells("filters"),
    }
