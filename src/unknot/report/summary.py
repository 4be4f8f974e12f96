"""What stands first on the page: what was run, what came out of it, and what the names mean."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeAlias

from unknot.activations.folds import ACTIVATIONS
from unknot.profiles.picture.layout import layer_name
from unknot.profiles.picture.sentences import betti_first, headline, listed, samples_in
from unknot.profiles.profile import TopologyProfile
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.removal import PruningPlan
from unknot.pruning.scoring.scores import FilterScores
from unknot.report.profile import View, span
from unknot.study.budget.results import BudgetRow
from unknot.study.overview import StudyOverview, usual_baseline
from unknot.study.results import USUAL_TARGET, StudyRow, target_text
from unknot.study.survival import median_text, p_text

Named: TypeAlias = Sequence[tuple[str, Any]]
# More of a kind than these are no longer read in one sentence.
_MOST = 4
_CRITERIA = {
    "surgeon": "the error that the layers reading a filter cannot mend by a refit; low goes",
    "elder-surgeon": "the default: the error that the layers reading a filter cannot mend by a refit, "
    "times its distance to the nearest filter that matters more; low goes",
    "elder": "size of a filter's weights times its distance to the nearest larger filter; low goes",
    "taylor": "first-order change of the loss without the filter; low goes",
    "l1": "sum of a filter's absolute weights; low goes",
    "random": "a random order",
    "betti": "pieces and loops (b0 + b1) that the samples form in a filter's outputs; high goes, the "
    "rule of arXiv 2109.01572",
}  # fmt: skip
_ACTIVATIONS = {
    "relu": "max(0, x)",
    "zfold": "rises between -1 and 1 and falls outside, so it folds the line onto itself; ReLU cannot",
}


def summary_view(named: Named, about: str, glossary: Mapping[str, str]) -> View:
    """All that the top of the page says.

    Args:
        named: (name or "", result) of everything on the page.
        about: what was run, in the caller's words.
        glossary: what names on the page mean; what the page itself knows is added.
    """
    findings = (_seen(named), _sped_up(named), _shrunk(named))
    return {
        "about": about,
        "runs": _runs(named),
        "findings": [finding for finding in findings if finding],
        "glossary": {**_usual_terms(named), **glossary},
        "links": _links(),
    }


def _of(named: Named, kind: type) -> list[tuple[str, Any]]:
    return [(name, result) for name, result in named if isinstance(result, kind)]


def _prefix(name: str) -> str:
    return f"{name}: " if name else ""


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _runs(named: Named) -> list[str]:
    """What was run, a line a kind."""
    profiles, studies = _of(named, TopologyProfile), _of(named, StudyOverview)
    lines = []
    if profiles:
        samples = [p.settings.get("samples") or samples_in(p) for _, p in profiles]
        layers = span(len({(r.layer, r.call) for r in (*p.rows, *p.untangling)}) for _, p in profiles)
        known = [n for n in samples if isinstance(n, int) and n]
        on = f" on {_span_text(known)} samples" if known else ""
        each = " each" if len(profiles) > 1 else ""
        lines.append(
            f"{_plural(len(profiles), 'net')} measured{on}, {layers} layer{'s' * (layers != '1')}{each}"
        )
    for name, study in studies:
        rows: Sequence[StudyRow | BudgetRow] = (*study.rows, *study.budgets)
        sets, activations = ({getattr(r, a): None for r in rows} for a in ("set", "activation"))
        lines.append(
            f"{_prefix(name)}nets trained on {listed(list(sets))} with {listed(list(activations))}, "
            f"{span(row.seeds for row in rows)} seed{'s' * any(row.seeds != 1 for row in rows)} of each"
        )
    plans = [(name, plan.criterion) for name, plan in _of(named, PruningPlan)]
    if outcomes := _of(named, PruningOutcome):
        by = f" by {listed(list(dict.fromkeys(c for _, c in plans)))}" if plans else ""
        lines.append(f"{_plural(len(outcomes), 'pruning')}{by}")
    return lines


def _span_text(values: Iterable[int]) -> str:
    ordered = sorted(values)
    return " to ".join(dict.fromkeys(f"{n:,}" for n in (ordered[0], ordered[-1])))


def _seen(named: Named) -> str:
    """What became of the data over the layers."""
    profiles = _of(named, TopologyProfile)
    whole = [(name, p) for name, p in profiles if any(row.filter is None for row in p.rows)]
    if len(whole) == 1:
        return headline(whole[0][1])
    if not whole:
        counts = [row.b0 + row.b1 for _, p in profiles for row in p.rows]
        return f"Pieces and loops (b0 + b1) of single filters: {span(counts)}." if counts else ""
    if not all(betti_first(profile) for _, profile in whole):
        name, profile = whole[0]
        others = f" {_plural(len(whole) - 1, 'other net')} below."
        return f"{_prefix(name)}{headline(profile)}{others}"
    ways = [_prefix(name) + _way(profile) for name, profile in whole]
    more = f"; {len(ways) - _MOST} more below" if len(ways) > _MOST else ""
    return (
        f"Pieces and loops of all classes (b0 + b1), from the first layer to the last, at the end: "
        f"{'; '.join(ways[:_MOST])}{more}."
    )


def _way(profile: TopologyProfile) -> str:
    """ "36 → 12" """
    rows = [row for row in profile.rows if row.filter is None]
    last = [row for row in rows if row.epoch == rows[-1].epoch]
    keys = list(dict.fromkeys((row.layer, row.call) for row in last))
    sums = [
        sum(r.b0 + r.b1 + (r.b2 or 0) for r in last if (r.layer, r.call) == key)
        for key in (keys[0], keys[-1])
    ]
    return f"{sums[0]:,}\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}{sums[1]:,} in {layer_name(*keys[-1])}"


def _sped_up(named: Named) -> str:
    """Who arrived first on each set, or was best after the largest budget."""
    studies = _of(named, StudyOverview)
    if not studies:
        return ""
    overview: StudyOverview = studies[0][1]
    told = _by_target(overview) if overview.rows else _by_budget(overview.budgets)
    more = "; other studies below" if len(studies) > 1 else ""
    return f"{told}{more}."


def _by_target(overview: StudyOverview) -> str:
    splits = {row.split for row in overview.rows}
    rows = [row for row in overview.rows if row.split == ("train" if "train" in splits else "test")]
    targets = {row.target for row in rows}
    target = USUAL_TARGET if USUAL_TARGET in targets else max(targets)
    rows = [row for row in rows if row.target == target]
    base = usual_baseline(rows)
    p_of = {(c.set, c.activation): c.result.p_holm for c in overview.comparisons if c.target == target}
    parts = []
    for name in dict.fromkeys(row.set for row in rows):
        of_set = [row for row in rows if row.set == name]
        others = [row for row in of_set if row.activation != base]
        ways = {row.activation: row for row in of_set if row.activation == base}
        if others:
            best = min(others, key=lambda row: float("inf") if row.median is None else row.median)
            ways = {best.activation: best, **ways}
        p = [p_of[name, a] for a in ways if (name, a) in p_of]
        said = ", ".join(f"{a} {_arrival(row)}" for a, row in ways.items())
        parts.append(f"on {name} {said}{f' (p = {p_text(p[0])})' if p else ''}")
    more = f"; {len(parts) - _MOST} more sets below" if len(parts) > _MOST else ""
    seeds = span(row.seeds for row in rows)
    of = "one seed" if seeds == "1" else f"medians of {seeds} seeds"
    return f"{target_text(rows[0])} ({of}): {'; '.join(parts[:_MOST])}{more}"


def _arrival(row: StudyRow) -> str:
    text = median_text(row.epochs, row.cap)
    if row.median is None:
        return text
    return f"after {text} epoch{'s' * (text != '1')}"


def _by_budget(rows: Sequence[BudgetRow]) -> str:
    last = max(row.at for row in rows)
    at_last = [row for row in rows if row.at == last]
    parts = []
    for name in dict.fromkeys(row.set for row in at_last):
        of_set = [row for row in at_last if row.set == name and row.median is not None]
        known = sorted(
            of_set, key=lambda row: row.median or 0.0, reverse=bool(of_set) and of_set[0].higher_is_better
        )
        best = ", ".join(f"{row.activation} {row.median:.4g}" for row in known[:3])
        parts.append(f"on {name} {best or 'no net learned'}")
    first = at_last[0]
    unit = first.unit.rstrip("s") if last == 1 else first.unit
    return f"Median test {first.metric} after {last:g} {unit}, best first: {'; '.join(parts[:_MOST])}"


def _shrunk(named: Named) -> str:
    """What is left of the costs and of the accuracy."""
    outcomes = _of(named, PruningOutcome)
    if outcomes:
        return " ".join(f"{_prefix(name)}{_outcome(result)}." for name, result in outcomes[:_MOST])
    plans = _of(named, PruningPlan)
    if plans:
        return " ".join(
            f"{_prefix(name)}{p.n_removed} of {p.n_filters} filters go, by {p.criterion}."
            for name, p in plans[:_MOST]
        )
    scores = [scored for _, scored in _of(named, FilterScores)]
    return f"{_plural(len(scores[0].rows), 'filter')} scored by {scores[0].criterion}." if scores else ""


def _outcome(result: PruningOutcome) -> str:
    before, after = result.cost_before, result.cost_after
    left = [
        f"{100 * b / a:.0f} % of the {what}"
        for what, a, b in (
            ("MACs per sample", before.macs, after.macs),
            ("parameters", before.parameters, after.parameters),
        )
        if a
    ]
    text = f"{' and '.join(left)} are left"
    if result.accuracy_before is not None and result.accuracy_after is not None:
        n = "" if result.n_test is None else f"{result.n_test:,} "
        before_after = (100 * result.accuracy_before, 100 * result.accuracy_after)
        way = "from {:.1f} % to {:.1f} %".format(*before_after)
        return f"{text}; accuracy on {n}test samples {way}"
    if result.agreement is not None:
        same = f"the same class as the original for {100 * result.agreement:.1f} %"
        return f"{text}; {same} of the test samples"
    return text


def _usual_terms(named: Named) -> dict[str, str]:
    """{term: meaning} of what unknot itself named on this page."""
    profiles = [p for _, p in _of(named, TopologyProfile)]
    terms: dict[str, str] = {}
    if any(p.rows for p in profiles):
        terms["b0, b1"] = "connected pieces, and loops; one piece without loops has b0 = 1, b1 = 0"
    if any(p.untangling for p in profiles):
        terms["islands"] = "groups of samples that stand apart from the rest, whatever their class"
        terms["tangle"] = "0: every class is one piece of its own; 1: as mixed as with random labels"
    used = {row.activation: None for _, s in _of(named, StudyOverview) for row in (*s.rows, *s.budgets)}
    terms |= {name: meaning for name in used if (meaning := _activation(name))}
    criteria = {r.criterion: None for _, r in named if isinstance(r, (FilterScores, PruningPlan))}
    terms |= {name: _CRITERIA[name] for name in criteria if name in _CRITERIA}
    if any(isinstance(r, PruningOutcome) for _, r in named):
        terms["MACs"] = "multiply-accumulates: the arithmetic of one forward pass, here per sample"
    return terms


def _activation(name: str) -> str:
    kind = ACTIVATIONS.get(name)
    ours = inspect.isclass(kind) and kind.__module__.startswith("unknot.")
    return _ACTIVATIONS.get(name, (inspect.getdoc(kind) or "").partition("\n")[0] if ours else "")


def _links() -> dict[str, str]:
    """{name: address} of what the installed package calls its pages."""
    try:
        urls = metadata.metadata("unknot").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return {}
    pairs = [url.partition(", ") for url in urls]
    return {name: address for name, _, address in pairs if address.startswith("https://")}
