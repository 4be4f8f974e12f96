"""write_report: results as one HTML page that works offline; load_result: a result from its file."""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unknot.convergence import Study, StudyRow
from unknot.errors import InputError
from unknot.files import record_kind, write_text
from unknot.outcome import PruningOutcome
from unknot.profile import ProfileRow, TopologyProfile, library_versions
from unknot.pruning import PruningPlan
from unknot.scoring import FilterScore, FilterScores

Result: TypeAlias = (
    TopologyProfile | Study | Sequence[StudyRow] | FilterScores | PruningPlan | PruningOutcome
)
View: TypeAlias = dict[str, Any]

_TEMPLATES = Path(__file__).parent / "templates"
_READERS: dict[str, Callable[[str | Path], Result]] = {
    "profile": TopologyProfile.from_json,
    "scores": FilterScores.from_json,
    "plan": PruningPlan.from_json,
    "outcome": PruningOutcome.from_json,
}


def write_report(path: str | Path, *results: object, title: str = "unknot report") -> Path:
    """Write one self-contained HTML page, whole or not at all; nothing is loaded from elsewhere.

    >>> uk.write_report("report.html", profile, ("five seeds", study), scores, plan)  # doctest: +SKIP

    Args:
        path: the page; its folder is made when missing.
        results: profiles, studies (or the rows of their summary), filter scores, pruning plans and
            outcomes in any order, each bare or as ``(name, result)``. Several of a kind need names to
            be told apart. A plan is drawn over the scores that it was made from.
        title: the page's heading.

    Raises:
        InputError: no result, an empty one, or one of another type.
        OSError: the folder cannot be written.
    """
    if not results:
        raise InputError("no results", "at least one", "pass a profile, a study, scores or a plan")
    named = [_named(result) for result in results]
    views = {
        "profiles": [_profile_view(name, r) for name, r in named if isinstance(r, TopologyProfile)],
        "studies": [_study_view(name, r) for name, r in named if isinstance(r, tuple)],
        "filters_of": _filter_views(named),
        "outcomes": [_outcome_view(name, r) for name, r in named if isinstance(r, PruningOutcome)],
    }
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        written=datetime.now().astimezone(),
        versions=library_versions(),
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        plots={kind: [view.get("plot") for view in of_kind] for kind, of_kind in views.items()},
        **views,
    )
    write_text(path, text.lstrip())
    return Path(path)


def load_result(path: str | Path) -> Result:
    """A saved profile, scores, plan or outcome (JSON), or a study (SQLite); the file decides which.

    Raises:
        FileNotFoundError: there is no such file, and none is made.
        InputError: it is none of unknot's.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if start == b"SQLite format 3\0":
        _require_trials(path)
        return Study(path)
    read = _READERS.get(record_kind(path))
    if read is None:
        raise _foreign(path)
    return read(path)


def _require_trials(path: str | Path) -> None:
    """Refuse another program's database before Study adds its table to it."""
    try:
        with closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT activation, seed, settings, train_accuracy FROM trials LIMIT 0")
    except sqlite3.DatabaseError:
        raise _foreign(path) from None


def _foreign(path: str | Path) -> InputError:
    return InputError(
        f"file {path}",
        "a profile, scores, plan or outcome .json or a study .sqlite, written by unknot",
        "pass one of these",
    )


def _named(given: object) -> tuple[str, Any]:
    """(name or "", result), a study as the tuple of its rows."""
    name, result = "", given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        name, result = given
    rows = result.summary() if isinstance(result, Study) else getattr(result, "rows", result)
    if isinstance(rows, (list, tuple)) and not rows:
        raise InputError(
            f"an empty {type(result).__name__}", "at least one row", "measure or run it first"
        )
    if isinstance(result, (TopologyProfile, FilterScores, PruningPlan, PruningOutcome)):
        return name, result
    if isinstance(rows, (list, tuple)) and all(isinstance(row, StudyRow) for row in rows):
        return name, tuple(rows)
    raise InputError(
        f"a result of type {type(result).__name__}",
        "a TopologyProfile, Study, FilterScores, PruningPlan or PruningOutcome, or (name, result)",
        "read a saved one with unknot.report.load_result",
    )


def _profile_view(name: str, profile: TopologyProfile) -> View:
    whole = [row for row in profile.rows if row.filter is None]
    single = [row for row in profile.rows if row.filter is not None]
    return {
        "name": name,
        "profile": profile,
        "points": _span(row.n_points for row in profile.rows),
        "scales": Counter(row.scale for row in profile.rows),
        "plot": {
            "lines": _grid(whole, lambda row: row.label) if whole else None,
            "heat": _grid(single, lambda row: row.filter) if single else None,
        },
    }


def _grid(rows: list[ProfileRow], track_of: Callable[[ProfileRow], int | None]) -> View:
    """The rows as dense arrays [epoch][track][layer]; a track is a class or a filter, None a gap."""
    layers = list(dict.fromkeys((row.layer, row.call) for row in rows))
    epochs = list(dict.fromkeys(row.epoch for row in rows))
    tracks = sorted({track_of(row) for row in rows}, key=lambda track: (track is None, track))
    scales = list(dict.fromkeys(str(row.scale) for row in rows))
    at = {(row.epoch, track_of(row), row.layer, row.call): row for row in rows}

    def values(field: Callable[[ProfileRow], int | None]) -> list[list[list[int | None]]]:
        return [
            [
                [field(row) if (row := at.get((epoch, track, *layer))) else None for layer in layers]
                for track in tracks
            ]
            for epoch in epochs
        ]

    betti = {"b0": values(lambda row: row.b0), "b1": values(lambda row: row.b1)}
    if any(row.b2 is not None for row in rows):
        betti["b2"] = values(lambda row: row.b2)
    return {
        "layers": [layer if call == 0 else f"{layer} (call {call + 1})" for layer, call in layers],
        "epochs": epochs,
        "tracks": tracks,
        "betti": betti,
        "points": values(lambda row: row.n_points),
        "scale": values(lambda row: scales.index(str(row.scale))),
        "scales": scales,
    }


def _study_view(name: str, rows: tuple[StudyRow, ...]) -> View:
    table = [(row, *_epochs_text(row)) for row in rows]
    return {"name": name, "table": table, "plot": [asdict(row) for row in rows]}


def _epochs_text(row: StudyRow) -> tuple[str, str]:
    """Median and range in words; what was never reached has no number."""
    found = [epoch for epoch in row.epochs if epoch is not None]
    median = "not reached" if row.median is None else f"{row.median:g}"
    if not found:
        return median, ""
    highest = str(max(found)) if len(found) == len(row.epochs) else "not reached"
    return median, f"[{min(found)} to {highest}]"


def _filter_views(named: list[tuple[str, Any]]) -> list[View]:
    """Each plan over the scores it fits, then the scores that no plan fits."""
    scores = [(name, result) for name, result in named if isinstance(result, FilterScores)]
    views, used = [], set()
    for name, plan in named:
        if not isinstance(plan, PruningPlan):
            continue
        fits = [i for i, (_, found) in enumerate(scores) if _fits(plan, found)]
        # Two nets of one shape have plans that fit the scores of both: take them in the order given.
        i = next((i for i in fits if i not in used), fits[0] if fits else None)
        used.add(i)
        views.append(_filter_view(name, None if i is None else scores[i][1], plan))
    rest = [pair for i, pair in enumerate(scores) if i not in used]
    return views + [_filter_view(name, found, None) for name, found in rest]


def _fits(plan: PruningPlan, scores: FilterScores) -> bool:
    sizes = {layer: len(rows) for layer, rows in scores.by_layer().items()}
    return plan.criterion == scores.criterion and plan.filters == sizes


def _filter_view(name: str, scores: FilterScores | None, plan: PruningPlan | None) -> View:
    by_layer = {} if scores is None else scores.by_layer()
    sizes = plan.filters if plan else {layer: len(rows) for layer, rows in by_layer.items()}
    reasons = _reasons(plan) if plan else {}
    plot = scores and {
        "layers": [_layer_marks(layer, r, reasons.get(layer, {})) for layer, r in by_layer.items()],
        "criterion": scores.criterion,
        "threshold": _threshold(reasons),
        "planned": plan is not None,
    }
    rows = [
        {
            "layer": layer,
            "filters": size,
            "removed": len(reasons.get(layer, ())),
            "scores": _span(row.score for row in by_layer.get(layer, ())),
            "scales": [s for s in dict.fromkeys(row.scale for row in by_layer.get(layer, ())) if s],
            "points": _span(row.n_points for row in by_layer.get(layer, ()) if row.n_points is not None),
        }
        for layer, size in sizes.items()
    ]
    return {"name": name, "rows": rows, "plan": plan, "scores": scores, "reasons": reasons, "plot": plot}


def _reasons(plan: PruningPlan) -> dict[str, dict[int, str]]:
    """{layer: {removed filter: reason}}; a plan edited by hand may lack some."""
    return {
        layer: dict.fromkeys(gone, "") | dict(zip(gone, plan.reasons.get(layer, ()), strict=False))
        for layer, gone in plan.removed.items()
    }


def _layer_marks(layer: str, rows: tuple[FilterScore, ...], reasons: dict[int, str]) -> View:
    ordered = sorted(rows, key=lambda row: (row.score, row.filter))
    return {
        "name": layer,
        "filters": [row.filter for row in ordered],
        "scores": [row.score if math.isfinite(row.score) else None for row in ordered],
        "reasons": [reasons.get(row.filter) for row in ordered],
    }


def _threshold(reasons: dict[str, dict[int, str]]) -> float | None:
    """The one threshold that the reasons name; None where they name ranks, or several."""
    texts = [text for of_layer in reasons.values() for text in of_layer.values()]
    found = {m[1] for text in texts if (m := re.fullmatch(r"Betti number .* > ([\d.e+]+)", text))}
    return float(found.pop()) if len(found) == 1 else None


def _outcome_view(name: str, outcome: PruningOutcome) -> View:
    before, after = outcome.cost_before, outcome.cost_after
    rows = [
        ("accuracy", outcome.accuracy_before, outcome.accuracy_after, "{:.2%}"),
        ("filters", outcome.filters_before, outcome.filters_after, "{:,}"),
        ("parameters", before.parameters, after.parameters, "{:,}"),
        ("MACs", before.macs, after.macs, "{:,}"),
        ("bytes", before.bytes, after.bytes, "{:,}"),
    ]
    table: list[tuple[Any, ...]] = [
        (what, form.format(a), form.format(b), b / a if a else None) for what, a, b, form in rows
    ]
    times = [f"{cost.latency_ms:.3g} [{cost.latency_iqr_ms:.2g}]" for cost in (before, after)]
    ratio = after.latency_ms / before.latency_ms if before.latency_ms else None
    table.append(("latency in ms, median [IQR]", *times, ratio))
    return {"name": name, "table": table, "cost": before}


def _span(values: Iterable[float]) -> str:
    """ "3" or "3 to 7"; empty for no values."""
    found = sorted(values)
    ends = [f"{end:.4g}" if end % 1 else f"{end:.0f}" for end in (*found[:1], *found[-1:])]
    return " to ".join(dict.fromkeys(ends))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
