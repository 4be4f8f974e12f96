"""What the report shows of islands and tangle: who stands where, curves over layers, a table."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unknot.profiles.picture.layout import (
    GAP,
    Bar,
    IslandsPicture,
    colour_groups,
    evenly,
    islands_picture,
    layer_name,
    random_span,
    shuffled_tangle,
)
from unknot.profiles.picture.palette import MOST_NAMED, class_colours
from unknot.profiles.picture.sentences import class_name
from unknot.profiles.profile import TopologyProfile, UntanglingRow

View: TypeAlias = dict[str, Any]
# What a page holds of members, in bytes: of a longer training fewer epochs are kept.
MOST_BYTES = 4_000_000
# Name, what it says, digits.
MEASURES = (
    ("tangle", "0: each class is one piece; 1: labels as good as random", 3),
    ("islands", "pieces that stand out of the noise", 0),
    ("purity", "share of the 10 nearest neighbours of the same class", 3),
    ("total", "prominences of all peaks, summed", 2),
)


def untangling_view(profile: TopologyProfile) -> View | None:
    """The plots' data and the table; None where nothing was measured."""
    rows = [row for row in profile.untangling if row.random is None]
    if not rows:
        return None
    picture = islands_picture(profile)
    drawn = _picture(profile, picture) if picture else None
    return {
        "picture": drawn,
        "swatches": sorted(zip(drawn["numbers"], drawn["classes"], strict=True)) if drawn else [],
        "curves": _curves(profile, rows),
        "has": {
            "intervals": any(row.islands_interval or row.tangle_interval for row in rows),
            "random": len(rows) < len(profile.untangling),
            "shuffled": any(row.shuffled for row in rows),
        },
        "table": _table(rows),
        "notes": _notes(profile.untangling),
    }


def _picture(profile: TopologyProfile, picture: IslandsPicture) -> View:
    """Members as bytes in base64, one or two a sample; None where an epoch repeats the one before."""
    n_classes = len(picture.classes)
    place = {label: i for i, label in enumerate(sorted(picture.classes))}
    numbers = [place[label] for label in picture.classes]
    groups = colour_groups(n_classes).tolist()
    by_class = picture.by_class
    wide = max(len(bar.sizes) for of in picture.bars for bar in of if bar) > 256
    each = len(picture.ranks) * (2 if wide else 1) * len(picture.layers)
    kept = {*evenly(len(picture.epochs), max(2, MOST_BYTES // each))}
    members: list[list[str | None]] = []
    before: list[NDArray[np.int64] | None] = [None] * len(picture.layers)
    for epoch, bars in enumerate(picture.bars):
        packed: list[str | None] = []
        for at, bar in enumerate(bars):
            blocks = np.empty(0, np.int64) if bar is None else bar.blocks
            earlier = before[at]
            if epoch not in kept or (earlier is not None and np.array_equal(earlier, blocks)):
                packed.append(None)
                continue
            before[at] = blocks
            packed.append(_packed(blocks, wide))
        members.append(packed)
    return {
        "layers": [layer_name(*key) for key in picture.layers],
        "of": picture.n_layers,
        "classes": [
            class_name(profile, c) if by_class else f"island {c + 1} at the end" for c in picture.classes
        ],
        "by_class": by_class,
        "named": n_classes <= MOST_NAMED,
        "numbers": numbers,
        "groups": groups,
        "colours": None if n_classes <= MOST_NAMED else class_colours(numbers, groups),
        "n": len(picture.ranks),
        "gap": GAP,
        "wide": wide,
        "manyClasses": n_classes > 256,
        "ranks": _packed(picture.ranks, n_classes > 256),
        "members": members,
        "counts": [[_count(bar) for bar in of] for of in picture.bars],
        "kept": sorted(kept),
    }


def _count(bar: Bar | None) -> str:
    """As it stands above a bar."""
    if bar is None:
        return ""
    row, ends = bar.row, bar.row.islands_interval
    if row.islands is None:
        return "?"
    return f"{row.islands} [{ends[0]}, {ends[1]}]" if ends and ends[0] != ends[1] else str(row.islands)


def _packed(numbers: NDArray[np.int64], wide: bool) -> str:
    return base64.b64encode(numbers.astype("<u2" if wide else "u1").tobytes()).decode()


def _curves(profile: TopologyProfile, rows: Sequence[UntanglingRow]) -> View:
    """Of each measure values, low and high [epoch][layer], and the null's ends [layer]."""
    epochs = list(dict.fromkeys(row.epoch for row in rows))
    keys = list(dict.fromkeys((row.layer, row.call) for row in rows))
    row_of = {(row.epoch, row.layer, row.call): row for row in rows}

    def grid(value: Callable[[UntanglingRow], float | None], digits: int) -> list[list[float | None]]:
        def cell(epoch: int | None, key: tuple[str, int]) -> float | None:
            row = row_of.get((epoch, *key))
            found = None if row is None else value(row)
            return None if found is None or not math.isfinite(found) else round(found, digits)

        return [[cell(epoch, key) for key in keys] for epoch in epochs]

    measures: View = {}
    for name, words, digits in MEASURES:
        values = grid(attrgetter(name), digits)
        if all(value is None for of in values for value in of):
            continue
        ends = [grid(_end(f"{name}_interval", side), digits) for side in (0, 1)]
        measures[name] = {
            "words": words,
            "values": values,
            "low": ends[0],
            "high": ends[1],
            "null": [_rounded(random_span(profile, key, name), digits) for key in keys],
        }
    if "tangle" in measures:
        measures["tangle"]["shuffled"] = [_rounded(shuffled_tangle(profile, key), 3) for key in keys]
    notes = list(dict.fromkeys(row.note for row in rows))
    return {
        "layers": [layer_name(*key) for key in keys],
        "measures": measures,
        "points": grid(lambda row: row.n_points, 0),
        "note": grid(lambda row: notes.index(row.note), 0),
        "notes": notes,
    }


def _rounded(ends: tuple[float, float] | None, digits: int) -> list[float] | None:
    known = ends is not None and all(map(math.isfinite, ends))
    return [round(end, digits) for end in ends] if ends is not None and known else None


def _end(name: str, side: int) -> Callable[[UntanglingRow], float | None]:
    def end(row: UntanglingRow) -> float | None:
        interval = getattr(row, name)
        return None if interval is None else interval[side]

    return end


def _table(rows: Sequence[UntanglingRow]) -> View:
    """The numbers of the first and the last epoch, one row a layer."""
    epochs = list(dict.fromkeys(row.epoch for row in rows))
    ends = list(dict.fromkeys((epochs[0], epochs[-1])))
    keys = list(dict.fromkeys((row.layer, row.call) for row in rows))
    row_of = {(row.epoch, row.layer, row.call): row for row in rows}
    columns = (*MEASURES, ("dimension", "", 1), ("n_points", "", 0))
    return {
        "columns": [(name.replace("n_points", "n"), epoch) for epoch in ends for name, _, _ in columns],
        "rows": [
            (
                layer_name(*key),
                [_cell(row_of.get((e, *key)), name, digits) for e in ends for name, _, digits in columns],
            )
            for key in keys
        ],
    }


def _cell(row: UntanglingRow | None, name: str, digits: int) -> str:
    value = None if row is None else getattr(row, name)
    if value is None:
        return ""
    ends = getattr(row, f"{name}_interval", None)
    within = "" if ends is None else f" [{ends[0]:,.{digits}f}, {ends[1]:,.{digits}f}]"
    return f"{value:,.{digits}f}{within}"


def _notes(rows: Iterable[UntanglingRow]) -> list[tuple[str, list[str]]]:
    """(note, the layers that it holds for)."""
    where: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.note:
            where.setdefault(row.note, {})[layer_name(row.layer, row.call)] = None
    return [(note, list(layers)) for note, layers in where.items()]
