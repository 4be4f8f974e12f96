"""What the report shows of filter scores and pruning plans."""

from __future__ import annotations

import math
import re
from typing import Any

from unknot.pruning.removal import PruningPlan
from unknot.pruning.scoring.scores import FilterScore, FilterScores, edge_score
from unknot.report.profile import View, span


def filter_views(named: list[tuple[str, Any]]) -> list[View]:
    """Each plan over the scores it fits, then the scores that no plan fits."""
    scores = [(name, result) for name, result in named if isinstance(result, FilterScores)]
    views, used = [], set()
    for name, plan in named:
        if not isinstance(plan, PruningPlan):
            continue
        fits = [i for i, (_, result) in enumerate(scores) if _fits(plan, result)]
        # Two nets of one shape have plans that fit the scores of both: take them in the order given.
        i = next((i for i in fits if i not in used), fits[0] if fits else None)
        used.add(i)
        views.append(_filter_view(name, None if i is None else scores[i][1], plan))
    rest = [pair for i, pair in enumerate(scores) if i not in used]
    return views + [_filter_view(name, result, None) for name, result in rest]


def _fits(plan: PruningPlan, scores: FilterScores) -> bool:
    sizes = {layer: len(rows) for layer, rows in scores.by_layer().items()}
    return plan.criterion == scores.criterion and plan.filters == sizes


def _filter_view(name: str, scores: FilterScores | None, plan: PruningPlan | None) -> View:
    by_layer = {} if scores is None else scores.by_layer()
    sizes = plan.filters if plan else {layer: len(rows) for layer, rows in by_layer.items()}
    reasons = _reasons(plan) if plan else {}
    edge = edge_score(scores.rows, scores.remove_high) if scores else 0.0
    plot = scores and {
        "layers": [
            _layer_marks(layer, of, reasons.get(layer, {}), edge) for layer, of in by_layer.items()
        ],
        "criterion": scores.criterion,
        "threshold": _threshold(reasons),
        "planned": plan is not None,
    }
    rows = [
        {
            "layer": layer,
            "filters": size,
            "removed": len(reasons.get(layer, ())),
            "scores": span(row.score for row in by_layer.get(layer, ()) if not row.redundant),
            "redundant": sum(row.redundant for row in by_layer.get(layer, ())),
            "scales": [s for s in dict.fromkeys(row.scale for row in by_layer.get(layer, ())) if s],
            "points": span(row.n_points for row in by_layer.get(layer, ()) if row.n_points is not None),
        }
        for layer, size in sizes.items()
    ]
    return {
        "name": name,
        "rows": rows,
        "plan": plan,
        "scores": scores,
        "reasons": reasons,
        "groups": [] if plan is None else list(dict.fromkeys(tuple(g) for g in plan.shared.values())),
        "plot": plot,
    }


def _reasons(plan: PruningPlan) -> dict[str, dict[int, str]]:
    """{layer: {removed filter: reason}}; a plan edited by hand may lack some."""
    return {
        layer: dict.fromkeys(removed, "") | dict(zip(removed, plan.reasons.get(layer, ()), strict=False))
        for layer, removed in plan.removed.items()
    }


def _layer_marks(layer: str, rows: tuple[FilterScore, ...], reasons: dict[int, str], edge: float) -> View:
    """The filters by score; those whose score says no more than that they go first stand at the edge."""
    marks = sorted((edge if row.redundant else row.score, row.filter, row) for row in rows)
    return {
        "name": layer,
        "filters": [i for _, i, _ in marks],
        "scores": [height if math.isfinite(height) else None for height, _, _ in marks],
        "notes": [row.note if row.redundant else "" for *_, row in marks],
        "reasons": [reasons.get(i) for _, i, _ in marks],
    }


def _threshold(reasons: dict[str, dict[int, str]]) -> float | None:
    """The one threshold that the reasons name; None where they name ranks, or several."""
    texts = [text for of_layer in reasons.values() for text in of_layer.values()]
    thresholds = {m[1] for text in texts if (m := re.fullmatch(r"Betti number .* > ([\d.e+]+)", text))}
    return float(thresholds.pop()) if len(thresholds) == 1 else None
