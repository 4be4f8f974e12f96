"""What the report shows of a profile: grids by epoch, clouds, accuracy, sensitivity, provenance."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from unknot.profiles.picture.layout import layer_name
from unknot.profiles.picture.sentences import betti_first, class_name, headline, listed
from unknot.profiles.profile import EpochAccuracy, ProfileRow, TopologyProfile
from unknot.profiles.projection import CloudView
from unknot.report.islands import untangling_view
from unknot.topology.multiscale.sweep import Sensitivity, SensitivityGrid
from unknot.topology.rules import KnnRule, RipsRule

View: TypeAlias = dict[str, Any]
# Past this many names a sentence is no longer read.
_NAMES_SHOWN = 6
_SETTINGS = {
    "by": "One cloud for each",
    "layers": "Layers",
    "tokens": "Tokens",
    "after": "Taken after",
    "samples": "Samples",
    "repeats": "Repeated subsamples",
}


def profile_view(name: str, profile: TopologyProfile) -> View:
    """All that the templates show of one profile; "plot" is what the page's script draws."""
    epochs = list(dict.fromkeys(row.epoch for row in profile.rows))
    whole = [row for row in profile.rows if row.filter is None]
    single = [row for row in profile.rows if row.filter is not None]
    lines = _grid(whole, epochs, lambda row: row.label) if whole else None
    classes = {row.label for row in whole}
    classes |= {label for view in profile.views for label in view.labels or (None,)}
    untangling = untangling_view(profile)
    return {
        "name": name,
        "profile": profile,
        "headline": headline(profile),
        "betti_first": untangling is None or betti_first(profile),
        "untangling": untangling,
        "points": span(row.n_points for row in profile.rows),
        "scales": Counter(row.scale for row in profile.rows),
        "doubtful": _doubtful(profile.rows),
        "by_layer": _scales_by_layer(profile.rows),
        "settings": [(_SETTINGS.get(key, key), _words(value)) for key, value in profile.settings.items()],
        "row_notes": _row_notes(profile.rows),
        "remains": _remains(profile, whole),
        "table": _table(lines, epochs) if lines else None,
        "plot": {
            "epochs": epochs,
            "names": profile.names,
            "tracks": sorted(classes, key=_none_last),
            "lines": lines,
            "untangling": untangling and {part: untangling[part] for part in ("picture", "curves")},
            "heat": _grid(single, epochs, lambda row: row.filter) if single else None,
            "clouds": _clouds(profile.views) if profile.views else None,
            "accuracy": _accuracy(profile.accuracy),
            "sensitivity": _sensitivity(profile.sensitivity) if profile.sensitivity else [],
        },
    }


def span(values: Iterable[float]) -> str:
    """ "3" or "3 to 7"; empty for no values."""
    ordered = sorted(values)
    ends = [f"{end:.4g}" if end % 1 else f"{end:.0f}" for end in (*ordered[:1], *ordered[-1:])]
    return " to ".join(dict.fromkeys(ends))


def _none_last(track: int | None) -> tuple[bool, int]:
    return track is None, track or 0


def _grid(
    rows: list[ProfileRow],
    epochs: Sequence[int | None],
    track_of: Callable[[ProfileRow], int | None],
) -> View:
    """The rows as arrays [epoch][layer][track]; a track is a class or a filter, None a gap.

    The gaps at a layer's end are left off: the layers of a net have different numbers of filters.
    """
    layers = list(dict.fromkeys((row.layer, row.call) for row in rows))
    tracks = sorted({track_of(row) for row in rows}, key=_none_last)
    scales = list(dict.fromkeys(row.scale for row in rows))
    notes = list(dict.fromkeys(row.note for row in rows))
    row_of = {(row.epoch, row.layer, row.call, track_of(row)): row for row in rows}

    def values(field: Callable[[ProfileRow], int | None]) -> list[list[list[int | None]]]:
        def of_layer(epoch: int | None, layer: tuple[str, int]) -> list[int | None]:
            of_tracks = [row_of.get((epoch, *layer, track)) for track in tracks]
            while of_tracks and of_tracks[-1] is None:
                of_tracks.pop()
            return [None if row is None else field(row) for row in of_tracks]

        return [[of_layer(epoch, layer) for layer in layers] for epoch in epochs]

    betti = {"b0": values(lambda row: row.b0), "b1": values(lambda row: row.b1)}
    if any(row.b2 is not None for row in rows):
        betti["b2"] = values(lambda row: row.b2)
    ends: View = {}
    if any(row.intervals for row in rows):
        for side, end in enumerate(("low", "high")):
            ends[end] = {dim: values(_interval_end(d, side)) for d, dim in enumerate(betti)}
    number = {scale: i for i, scale in enumerate(scales)}
    return {
        "layers": [layer_name(*layer) for layer in layers],
        "tracks": tracks,
        "betti": betti,
        **ends,
        "points": _changes(values(lambda row: row.n_points)),
        "scale": _changes(values(lambda row: number[row.scale])),
        "scales": [str(scale) for scale in scales],
        "doubtful": [not scale.determined for scale in scales],
        "note": _changes(values(lambda row: notes.index(row.note))),
        "notes": notes,
    }


def _interval_end(dim: int, side: int) -> Callable[[ProfileRow], int | None]:
    def end(row: ProfileRow) -> int | None:
        return row.intervals[dim][side] if row.intervals and dim < len(row.intervals) else None

    return end


def _changes(of_epochs: list[Any]) -> list[Any]:
    """None for an epoch that equals the one before: most of a long training repeats itself."""
    before = [None, *of_epochs[:-1]]
    return [None if now == last else now for now, last in zip(of_epochs, before, strict=True)]


def _table(grid: View, epochs: Sequence[int | None]) -> View:
    """The numbers of the first and the last epoch, one row a layer and class."""
    ends = sorted({0, len(epochs) - 1})
    points = {e: next(p for p in grid["points"][e::-1] if p is not None) for e in ends}
    columns = [
        column for e in ends for column in (*(values[e] for values in grid["betti"].values()), points[e])
    ]
    return {
        "columns": [(name, epochs[e]) for e in ends for name in (*grid["betti"], "n")],
        "rows": [
            (layer, track, [values[i][t] if t < len(values[i]) else None for values in columns])
            for i, layer in enumerate(grid["layers"])
            for t, track in enumerate(grid["tracks"])
        ],
    }


def _places(rows: Iterable[ProfileRow]) -> str:
    names = list(dict.fromkeys(layer_name(row.layer, row.call) for row in rows))
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _doubtful(rows: Sequence[ProfileRow]) -> list[View]:
    """{rule, why, where} of every undetermined scale; one that all clouds share is said to be so."""
    views = []
    for scale in dict.fromkeys(row.scale for row in rows if not row.scale.determined):
        measured = [row for row in rows if row.scale == scale]
        everywhere = len(measured) == len(rows)
        views.append({"scale": scale, "where": "every layer output" if everywhere else _places(measured)})
    return views


def _scales_by_layer(rows: Sequence[ProfileRow]) -> list[View]:
    of_layer: dict[str, list[ProfileRow]] = {}
    for row in rows:
        of_layer.setdefault(layer_name(row.layer, row.call), []).append(row)
    return [
        {
            "layer": layer,
            "scales": list(dict.fromkeys(row.scale for row in layer_rows)),
            "points": span(row.n_points for row in layer_rows),
        }
        for layer, layer_rows in of_layer.items()
    ]


def _row_notes(rows: Sequence[ProfileRow]) -> list[tuple[str, str]]:
    """(note, where it holds) for every note that rows carry."""
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return [(note, _places(row for row in rows if row.note == note)) for note in notes]


def _remains(profile: TopologyProfile, rows: Sequence[ProfileRow]) -> str:
    """The pieces and loops that classes have in the last layer at the end; empty where none are left."""
    place = [(row.epoch, row.layer, row.call) for row in rows[-1:]]
    left = [
        f"{class_name(profile, row.label)} has b0 = {row.b0}, b1 = {row.b1}"
        for row in rows
        if row.label is not None and (row.epoch, row.layer, row.call) in place and (row.b0 > 1 or row.b1)
    ]
    return f"In {layer_name(*place[0][1:])} {listed(left)}" if left else ""


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _accuracy(accuracy: Sequence[EpochAccuracy]) -> View | None:
    if all(row.probe is None and row.given is None for row in accuracy):
        return None
    return {
        "epochs": [row.epoch for row in accuracy],
        "probe": [row.probe for row in accuracy],
        "given": [row.given for row in accuracy],
    }


def _clouds(views: Sequence[CloudView]) -> View:
    """Points as int16 in base64, three a point: 300 of them over 50 epochs and 8 layers are 1 MB."""
    labels = list(dict.fromkeys(view.labels for view in views))
    layers: dict[str, list[View]] = {}
    for view in views:
        points = np.asarray(view.points, dtype=np.float64).reshape(-1, 3)
        reach = float(np.abs(points).max(initial=0.0))
        step = max(reach / 32767, 1e-3)
        layers.setdefault(layer_name(view.layer, view.call), []).append(
            {
                "epoch": view.epoch,
                "points": base64.b64encode(np.rint(points / step).astype("<i2").tobytes()).decode(),
                "step": step,
                "reach": round(reach, 3),
                "explained": round(view.explained, 4),
                "labels": labels.index(view.labels),
            }
        )
    return {
        "labels": labels,
        "layers": [{"name": name, "views": of_layer} for name, of_layer in layers.items()],
    }


def _sensitivity(sensitivity: Sensitivity) -> list[View]:
    """One part for the kNN-hop rule and one for radii, as far as there are rows of each."""
    parts = (
        replace(sensitivity, rows=tuple(r for r in sensitivity.rows if isinstance(r.scale.rule, kind)))
        for kind in (KnnRule, RipsRule)
    )
    return [_part(part) for part in parts if part.rows]


def _part(sensitivity: Sensitivity) -> View:
    """Values [class][y][x]: x is k or the radius, y hops; None where a class has too few points."""
    labels = sorted(sensitivity.labels(), key=_none_last)
    b0 = [sensitivity.as_grid(label, "b0") for label in labels]
    b1 = [sensitivity.as_grid(label, "b1") for label in labels]
    x, y, _, x_name, _, chosen = b0[0]

    def numbers(grids: list[SensitivityGrid]) -> list[list[list[int | None]]]:
        return [[[None if np.isnan(v) else int(v) for v in line] for line in g.values] for g in grids]

    return {
        "rule": "knn" if x_name == "k" else "radius",
        "labels": labels,
        "x": x,
        "y": y,
        "chosen": chosen[0] if chosen and x_name == "radius" else chosen,
        "b0": numbers(b0),
        "b1": numbers(b1),
        "points": [span(r.n_points for r in sensitivity.rows if r.label == c) for c in labels],
    }
