"""Results as one HTML page that works offline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unknot.core.errors import InputError
from unknot.core.files import as_path, require_suffix, require_writable, write_text
from unknot.profiles.profile import TopologyProfile, library_versions
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.pipeline import Shrunk
from unknot.pruning.removal import PruningPlan
from unknot.pruning.scoring.scores import FilterScores
from unknot.report.filters import filter_views
from unknot.report.outcome import outcome_view
from unknot.report.profile import profile_view
from unknot.report.study import study_view
from unknot.report.summary import summary_view
from unknot.study.budget.results import BudgetRow
from unknot.study.overview import StudyOverview, study_overview
from unknot.study.results import StudyRow
from unknot.study.study import Study

_TEMPLATES = Path(__file__).parent / "templates"
# In the order in which one uses another; together they are one script of the page.
_SCRIPTS = (
    "scripts/base", "scripts/axes", "plots/islands", "plots/untangling", "plots/betti", "plots/clouds",
    "plots/accuracy", "plots/sensitivity", "plots/study", "plots/survival", "plots/filters",
    "plots/outcome", "plots/budget", "scripts/key", "scripts/time", "scripts/page",
)  # fmt: skip


def write_report(
    path: str | Path,
    *results: object,
    title: str = "unknot report",
    about: str = "",
    glossary: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page, whole or not at all; nothing is loaded from elsewhere.

    It begins with what was run, up to three findings in words, and what the names on it mean.

    >>> uk.write_report("report.html", profile, ("five seeds", study), scores, plan)  # doctest: +SKIP

    Args:
        path: the page, a ``.html`` file; its folder is made when missing.
        results: profiles, studies (or the rows of their summary or budgets), filter scores, pruning plans
            and outcomes, or all three in what `shrink` gave, in any order, each bare or as ``(name,
            result)``. Several of a kind need names to be told apart. A plan is drawn over the scores
            that it was made from.
        title: the page's heading.
        about: what was run, and on what; it stands under the heading.
        glossary: {name: what it means, in a line} for names of your own, e.g. of data sets.

    Raises:
        InputError: no result, an empty one, one of another type, texts that are none, another
            suffix, or a path that cannot be written to.
        OSError: a full disk.
    """
    require_writable(as_path(path, "path"), "path")
    require_suffix(path, "path", (".html",))
    if not results:
        raise InputError("no results", "at least one", "pass a profile, a study, scores or a plan")
    _require_texts(about, {} if glossary is None else glossary)
    named = [_named(part) for result in results for part in _parts(result)]
    profiles = [(name, result) for name, result in named if isinstance(result, TopologyProfile)]
    views = {
        "profiles": [profile_view(name, result) for name, result in profiles],
        "studies": [study_view(name, r) for name, r in named if isinstance(r, StudyOverview)],
        "filters_of": filter_views(named),
        "outcomes": [outcome_view(name, r) for name, r in named if isinstance(r, PruningOutcome)],
    }
    if len(profiles) == 1:
        views["profiles"][0]["headline"] = ""  # it stands at the top of the page
    page = _environment().get_template("report.html.j2")
    text = page.render(
        title=title,
        written=datetime.now().astimezone(),
        versions=library_versions(),
        css=Markup(_template("report.css")),
        script=Markup("\n".join(_template(f"{name}.js") for name in _SCRIPTS)),
        plotly=Markup(get_plotlyjs()),
        plots={
            **{kind: [view.get("plot") for view in of_kind] for kind, of_kind in views.items()},
            "budgets": [view["budget_plot"] for view in views["studies"]],
        },
        summary=summary_view(named, about, glossary or {}),
        **views,
    )
    write_text(path, text.lstrip())
    return Path(path)


def _require_texts(about: object, glossary: object) -> None:
    if not isinstance(about, str):
        raise InputError(f"about = {about!r}", "a text", "say what was run in a sentence or two")
    known = isinstance(glossary, Mapping) and all(
        isinstance(t, str) for of in glossary.items() for t in of
    )
    if not known:
        raise InputError(
            f"glossary = {glossary!r}", "{name: meaning}", "pass e.g. {'rings': 'linked rings in space'}"
        )


def _parts(given: object) -> list[object]:
    """The scores, plan and outcome of what `shrink` gave, under its name; all else as it is."""
    name, result = given if isinstance(given, tuple) and len(given) == 2 else ("", given)
    if not isinstance(result, Shrunk):
        return [given]
    return [(name, part) for part in (result.scores, result.plan, result.outcome)]


def _named(given: object) -> tuple[str, Any]:
    """(name or "", result), a study or its rows as what the page shows of it."""
    name, result = "", given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        name, result = given
    if isinstance(result, Study):
        result = study_overview(result)
    rows = getattr(result, "rows", result)
    if isinstance(result, (list, tuple)) and result and isinstance(result[0], BudgetRow):
        rows, result = (), StudyOverview((), budgets=tuple(result))
    if isinstance(rows, (list, tuple)) and not rows and not getattr(result, "budgets", ()):
        raise InputError(
            f"an empty {type(result).__name__}", "at least one row", "measure or run it first"
        )
    if isinstance(result, (TopologyProfile, FilterScores, PruningPlan, PruningOutcome)):
        return name, result
    if isinstance(rows, (list, tuple)) and all(isinstance(row, StudyRow) for row in rows):
        return name, result if isinstance(result, StudyOverview) else StudyOverview(tuple(rows))
    raise InputError(
        f"a result of type {type(result).__name__}",
        "a TopologyProfile, Study, Shrunk, FilterScores, PruningPlan or PruningOutcome, or (name, ...)",
        "read a saved one with unknot.report.load_result",
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
