"""A profile as columns, for pandas and for the tables of a terminal or notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

from unknot.core.console import format_table

if TYPE_CHECKING:
    from unknot.profiles.profile import TopologyProfile, UntanglingRow

Columns: TypeAlias = dict[str, list[Any]]
# Of a summary: more layers than this are left out in the middle.
MOST_LINES = 12


def betti_columns(profile: TopologyProfile) -> Columns:
    """One entry a `ProfileRow`: its scale as ``k``, ``hops``, ``radius``, ``determined``, and the ends of
    each interval as ``<number>_low`` and ``<number>_high``."""
    rows = profile.rows
    plain = ("epoch", "layer", "call", "label", "filter", "n_points", "b0", "b1", "b2")
    columns = {name: [getattr(row, name) for row in rows] for name in plain}
    for i, name in enumerate(("b0", "b1", "b2")):
        spans = [row.intervals[i] if row.intervals and i < len(row.intervals) else None for row in rows]
        columns |= _ends(name, spans)
    for name in ("islands", "tangle", "purity"):
        columns[name] = [getattr(row, name) for row in rows]
        columns |= _ends(name, [getattr(row, f"{name}_interval") for row in rows])
    for name in ("k", "hops", "radius", "determined"):
        columns[name] = [getattr(row.scale, name) for row in rows]
    return {**columns, "note": [row.note for row in rows]}


def untangling_columns(rows: Sequence[UntanglingRow], row_type: type) -> Columns:
    """One entry an `UntanglingRow`, without its members; the ends of each interval as above."""
    columns: Columns = {}
    for name in (field.name for field in fields(row_type) if field.name != "members"):
        values = [getattr(row, name) for row in rows]
        spanned = name.endswith("_interval") or name == "shuffled"
        columns |= _ends(name.removesuffix("_interval"), values) if spanned else {name: values}
    return columns


def _ends(name: str, spans: Sequence[tuple[float, float] | None]) -> Columns:
    return {
        f"{name}_{end}": [None if span is None else span[i] for span in spans]
        for i, end in enumerate(("low", "high"))
    }


def title(profile: TopologyProfile) -> str:
    """What was measured, on how many samples and at which scale, in one line."""
    epochs = [epoch for epoch in profile.epochs() if epoch is not None]
    span = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} epochs" if epochs else ""
    if len(epochs) > 1:
        span += f" from {epochs[0]} to {epochs[-1]}"
    samples = profile.settings.get("samples")
    layers = len({(row.layer, row.call) for row in profile.rows})
    parts = (
        f"by {profile.settings.get('by', 'layer')}",
        f"{layers} layer output{'s' * (layers != 1)}",
        span,
        "" if samples is None else f"n = {samples:,}",
        "" if profile.scale is None else str(profile.scale),
        f"seed {profile.seed}",
    )
    return f"TopologyProfile({', '.join(filter(None, parts))})"


def summary(profile: TopologyProfile) -> tuple[list[str], list[list[str]]]:
    """The names of columns, and a line a layer output of the last epoch, of the model given.

    Betti numbers are summed over the classes or filters of a layer output.
    """
    last = profile.epochs()[-1:]
    sums: dict[tuple[str, int], list[int]] = {}
    for cloud in (row for row in profile.rows if [row.epoch] == last):
        betti = sums.setdefault((cloud.layer, cloud.call), [0, 0])
        betti[0] += cloud.b0
        betti[1] += cloud.b1
    found = {
        (row.layer, row.call): row
        for row in profile.untangling
        if row.random is None and [row.epoch] == last
    }
    lines = []
    for key, betti in sums.items():
        row, name = found.get(key), key[0] + f" ({key[1]})" * bool(key[1])
        numbers = [interval_text(row, what) for what in ("islands", "tangle", "purity")] if found else []
        lines.append([name, *numbers, *(f"{number:,}" for number in betti)])
    if len(lines) > MOST_LINES:
        cut = MOST_LINES // 2
        lines[cut:-cut] = [[f"... {len(lines) - 2 * cut} more", *[""] * (len(lines[0]) - 1)]]
    of = {"class": " of all classes", "filter": " of all filters"}.get(profile.settings.get("by", ""), "")
    measured = ["islands", "tangle", "purity"] if found else []
    return ["layer", *measured, f"b0{of}", f"b1{of}"], lines


def interval_text(row: UntanglingRow | None, name: str) -> str:
    """A number with its interval where it has one, e.g. "3 [2, 4]"; "-" where it was not measured."""
    value = None if row is None else getattr(row, name)
    if value is None:
        return "-"
    digits = "d" if name == "islands" else ".2f"
    span = getattr(row, f"{name}_interval")
    return f"{value:{digits}}" + (f" [{span[0]:{digits}}, {span[1]:{digits}}]" if span else "")


def as_text(profile: TopologyProfile) -> str:
    """Title and summary, for a terminal."""
    names, lines = summary(profile)
    return f"{title(profile)}\n{format_table(names, lines)}" if lines else title(profile)


def as_html(profile: TopologyProfile) -> str:
    """The same for a notebook, without scripts, every text escaped."""
    names, lines = summary(profile)
    sides = ["left"] + ["right"] * (len(names) - 1)

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = (
            f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", cells) for cells in lines)
    table = f"<table><thead>{line('th', names)}</thead><tbody>{body}</tbody></table>" if lines else ""
    return f"<div><p>{html.escape(title(profile))}</p>{table}</div>"
