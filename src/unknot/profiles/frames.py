"""A profile as columns, for pandas and for the tables of a terminal or notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from unknot.profiles.profile import TopologyProfile, UntanglingRow

Columns: TypeAlias = dict[str, list[Any]]
# Of a summary: more layers than this are left out in the middle.
MOST_LINES = 12
NUMBERS = ("islands", "tangle", "purity")


def betti_columns(profile: TopologyProfile) -> Columns:
    """One entry a `ProfileRow`: its scale as ``k``, ``hops``, ``radius``, ``determined``, and the ends of
    each interval as ``<number>_low`` and ``<number>_high``."""
    rows = profile.rows
    plain = ("epoch", "layer", "call", "label", "filter", "n_points", "b0", "b1", "b2")
    columns = {name: [getattr(row, name) for row in rows] for name in plain}
    for i, name in enumerate(("b0", "b1", "b2")):
        spans = [row.intervals[i] if row.intervals and i < len(row.intervals) else None for row in rows]
        columns |= _ends(name, spans)
    for name in NUMBERS:
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


def summary(profile: TopologyProfile) -> Columns:
    """One entry a layer output of the last epoch, of the model given; of a deep net the first and last.

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
    columns: Columns = {"layer": [layer + f" ({call})" * bool(call) for layer, call in sums]}
    for name in NUMBERS if found else ():
        columns[name] = [interval_text(found.get(key), name) for key in sums]
    of = {"class": " of all classes", "filter": " of all filters"}.get(profile.settings.get("by", ""), "")
    for i, name in enumerate(("b0", "b1")):
        columns[name + of] = [betti[i] for betti in sums.values()]
    more, half = len(sums) - MOST_LINES, MOST_LINES // 2
    if more > 0:
        for name, cells in columns.items():
            cells[half:-half] = [f"... {more} more" if name == "layer" else None]
    return columns


def interval_text(row: UntanglingRow | None, name: str) -> str:
    """A number with its interval where it has one, e.g. "3 [2, 4]"; "-" where it was not measured."""
    value = None if row is None else getattr(row, name)
    if value is None:
        return "-"
    digits = "d" if name == "islands" else ".2f"
    span = getattr(row, f"{name}_interval")
    return f"{value:{digits}}" + (f" [{span[0]:{digits}}, {span[1]:{digits}}]" if span else "")
