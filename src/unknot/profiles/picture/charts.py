"""The pictures of a profile by matplotlib: islands as stacked bars, and curves over the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError, import_package, require_choice
from unknot.core.showing.drawing import axes_for, one_or_all, short
from unknot.nets.running import require_globs
from unknot.profiles.picture.layout import (
    MOST_LAYERS,
    Bar,
    IslandsPicture,
    Key,
    chosen_evenly,
    colour_groups,
    flows,
    islands_picture,
    layer_name,
    random_span,
    shuffled_tangle,
)
from unknot.profiles.picture.palette import MOST_NAMED, class_colours
from unknot.profiles.picture.sentences import betti_first, class_name
from unknot.profiles.profile import ProfileRow, TopologyProfile, UntanglingRow

KINDS = ("auto", "islands", "tangle", "betti")
_BAR_WIDTH = 0.62
_FAINT = 0.3


def plot_profile(
    profile: TopologyProfile,
    ax: Any = None,
    *,
    epoch: int | None = None,
    layers: str | Iterable[str] = "*",
    kind: str = "auto",
) -> Any:
    """Draw a profile; see `TopologyProfile.plot`, which is how it is called.

    Raises:
        InputError: matplotlib is not installed; an epoch, layer or kind that the profile does not have.
    """
    require_choice("kind", kind, KINDS)
    shown = _kind(profile, kind)
    epoch = _epoch(profile, epoch)
    keys = _layers(profile, layers)
    picture = islands_picture(profile, keys) if shown == "islands" else None
    if shown == "islands" and picture is None:
        raise _nothing(shown)
    when = f"after epoch {epoch}" if epoch else "before training" if epoch == 0 else ""
    below = None
    if ax is not None:
        axes_for(ax, 0, 0)
    else:
        pyplot = import_package("matplotlib.pyplot", extra="plot")
        two = picture is not None and any(row.tangle is not None for row in profile.untangling)
        ratios = {"height_ratios": (3, 1.2)[: 1 + two]}
        size = (2.5 + 0.55 * min(max(len(keys), 4), MOST_LAYERS), 6 if two else 4)
        _, panels = pyplot.subplots(
            1 + two, 1, figsize=size, sharex=True, squeeze=False, layout="constrained", gridspec_kw=ratios
        )
        ax, below = panels[0, 0], panels[1, 0] if two else None
    if picture is not None:
        _draw_islands(ax, profile, picture, epoch, when)
        if below is not None:
            _draw_tangle(below, profile, picture.layers, epoch)
            ax.tick_params(labelbottom=False)
        return one_or_all([ax] if below is None else [ax, below])
    n = min(len(keys), MOST_LAYERS)
    ax.set_title(", ".join(filter(None, (when, f"{n} of {len(keys)} layers" if n < len(keys) else ""))))
    if shown == "betti":
        _draw_betti(ax, profile, keys, epoch)
    else:
        _draw_tangle(ax, profile, keys, epoch)
    return ax


def _kind(profile: TopologyProfile, kind: str) -> str:
    known = any(row.members for row in profile.untangling if row.random is None)
    whole = any(row.filter is None for row in profile.rows)
    if kind == "auto":
        return "betti" if whole and (betti_first(profile) or not known) else "islands"
    tangled = any(row.tangle is not None for row in profile.untangling)
    if not {"islands": known, "tangle": tangled, "betti": whole}[kind]:
        raise _nothing(kind)
    return kind


def _nothing(kind: str) -> InputError:
    return InputError(
        f"a profile without {kind}",
        {
            "islands": "one that says which sample is on which island",
            "tangle": "one measured with the labels of two classes or more",
            "betti": "one by layer or by class",
        }[kind],
        "measure it again, by='layer' or by='class'",
    )


def _epoch(profile: TopologyProfile, epoch: int | None) -> int | None:
    given = [row.epoch for row in profile.untangling if row.random is None]
    epochs = list(dict.fromkeys([*profile.epochs(), *given]))
    if epoch is None:
        return epochs[-1]
    if epoch not in epochs:
        words = "epochs" if epochs != [None] else "a profile without epochs"
        last = epochs[-1]
        raise InputError(
            f"epoch = {epoch!r}",
            words if last is None else f"one of {', '.join(map(str, epochs))}",
            "leave epoch out" if last is None else f"pass e.g. epoch={last}",
        )
    return epoch


def _layers(profile: TopologyProfile, layers: str | Iterable[str]) -> list[Key]:
    rows = [row for row in profile.untangling if row.random is None]
    all_rows: tuple[ProfileRow | UntanglingRow, ...] = (*rows, *profile.rows)
    keys = list(dict.fromkeys((row.layer, row.call) for row in all_rows))
    globs = require_globs(layers)
    chosen = [key for key in keys if any(fnmatchcase(key[0], glob) for glob in globs)]
    if not chosen:
        names = ", ".join(dict.fromkeys(layer for layer, _ in keys[:5]))
        raise InputError(f"layers = {layers!r}", "a glob that matches a layer", f"try one of {names}")
    return chosen


def _name_layers(ax: Any, keys: Sequence[Key]) -> None:
    ax.set_xticks(range(len(keys)), [short(layer_name(*key)) for key in keys], rotation=45, ha="right")
    ax.set_xlim(-0.6, len(keys) - 0.4)


def _draw_islands(
    ax: Any, profile: TopologyProfile, picture: IslandsPicture, epoch: int | None, when: str
) -> None:
    """The bars, their counts, a legend and the title."""
    bars = picture.bars[picture.epochs.index(epoch)]
    groups = colour_groups(len(picture.classes))
    colours = class_colours(_numbers(picture), groups.tolist())
    top = 0.0
    for at, bar in enumerate(bars):
        top = max(top, _draw_bar(ax, at, bar, groups, colours, len(picture.ranks)))
    if len(picture.classes) <= MOST_NAMED:
        for at, (bar, following) in enumerate(pairwise(bars)):
            if bar is not None and following is not None:
                _draw_flows(ax, at, (bar, following), picture.ranks, colours)
    if picture.by_class and len(picture.classes) <= MOST_NAMED:
        names = [short(class_name(profile, label)) for label in picture.classes]
        patches = import_package("matplotlib.patches", extra="plot")
        of = sorted(zip(picture.classes, names, colours, strict=True))
        handles = [patches.Patch(color=colour, label=name) for _, name, colour in of]
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    _name_layers(ax, picture.layers)
    ax.set_ylim(0, 1.1 * top)
    ax.set_yticks([])
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.set_ylabel("a block is an island")
    colour = "colours are the classes" if picture.by_class else "colours are the islands at the end"
    few = f"{len(bars)} of {picture.n_layers} layers" if len(bars) < picture.n_layers else ""
    ax.set_title(
        ", ".join(filter(None, (f"Islands of {len(picture.ranks):,} samples", when, few, colour)))
    )


def _numbers(picture: IslandsPicture) -> list[int]:
    place = {label: i for i, label in enumerate(sorted(picture.classes))}
    return [place[label] for label in picture.classes]


def _draw_bar(
    ax: Any, at: int, bar: Bar | None, groups: np.ndarray[Any, Any], colours: Sequence[str], n: int
) -> float:
    """One stacked bar with its count; returns its height."""
    if bar is None:
        return 0.0
    top = float(n)
    if not len(bar.blocks):
        ax.bar(at, n, _BAR_WIDTH, facecolor="none", edgecolor="0.7", hatch="//", linewidth=0.5)
    else:
        bottoms = bar.bottoms()
        top = float((bottoms + bar.sizes).max())
        starts: list[int] = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
        heights = np.add.reduceat(bar.sizes, starts, axis=1)
        for column, start in enumerate(starts):
            drawn = heights[:, column] > 0
            ax.bar(
                np.full(drawn.sum(), at), heights[drawn, column], _BAR_WIDTH,
                bottom=bottoms[drawn, start], color=colours[start], linewidth=0,
            )  # fmt: skip
    row = bar.row
    if row.islands is None:
        text = "?"
    else:
        ends = row.islands_interval
        within = f"\n[{ends[0]}, {ends[1]}]" if ends and ends[0] != ends[1] else ""
        text = f"{row.islands}{within}"
    ax.text(at, top + 0.01 * n, text, ha="center", va="bottom", fontsize=9, linespacing=0.9)
    return top


def _draw_flows(
    ax: Any, at: int, bars: tuple[Bar, Bar], ranks: NDArray[np.int64], colours: Sequence[str]
) -> None:
    """Faint bands from each block to those of the next bar, in the colours of their classes."""
    bottoms = [bar.bottoms() for bar in bars]
    step = np.linspace(0, 1, 12)
    x = at + _BAR_WIDTH / 2 + (1 - _BAR_WIDTH) * np.concatenate([step, step[::-1]])
    rise = step**2 * (3 - 2 * step)
    shapes, tones = [], []
    for flow in flows(*bars, ranks):
        ends = (flow.block, flow.rank), (flow.next_block, flow.rank)
        y0, y1 = (bottom[end] for bottom, end in zip(bottoms, ends, strict=True))
        for bottom, end in zip(bottoms, ends, strict=True):
            bottom[end] += flow.samples  # the next flow stands above this one
        lower = y0 + (y1 - y0) * rise
        y = np.concatenate([lower, lower[::-1] + flow.samples])
        shapes.append(np.column_stack([x, y]))
        tones.append(colours[flow.rank])
    collections = import_package("matplotlib.collections", extra="plot")
    ax.add_collection(collections.PolyCollection(shapes, facecolors=tones, alpha=_FAINT, linewidths=0))


def _draw_tangle(ax: Any, profile: TopologyProfile, keys: Sequence[Key], epoch: int | None) -> None:
    """Tangle over layers with its intervals, over what random weights and shuffled labels give."""
    keys = chosen_evenly(keys, MOST_LAYERS)
    rows = _by_layer(profile, keys, epoch)
    _band(ax, [random_span(profile, key, "tangle") for key in keys], "0.75", "random weights")
    _band(ax, [shuffled_tangle(profile, key) for key in keys], "0.88", "shuffled labels")
    _band(ax, [row.tangle_interval if row else None for row in rows], "#0072b2", "")
    values = [np.nan if row is None or row.tangle is None else row.tangle for row in rows]
    ax.plot(range(len(keys)), values, color="#0072b2", marker="o", markersize=4, label="tangle")
    first = next(row.epoch for row in profile.untangling if row.random is None)
    if first != epoch:
        early = [row.tangle if row is not None else None for row in _by_layer(profile, keys, first)]
        name = "before training" if first == 0 else f"epoch {first}"
        ax.plot(
            range(len(keys)), _floats(early), color="#0072b2", linestyle="--", linewidth=1, label=name
        )
    _name_layers(ax, keys)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("tangle")
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _by_layer(
    profile: TopologyProfile, keys: Sequence[Key], epoch: int | None
) -> list[UntanglingRow | None]:
    row_of = {(row.layer, row.call): row for row in profile.untangling
              if row.random is None and row.epoch == epoch}  # fmt: skip
    return [row_of.get(key) for key in keys]


def _floats(values: Iterable[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _band(ax: Any, ends: Sequence[tuple[float, float] | None], colour: str, name: str) -> None:
    if any(ends):
        low, high = (_floats(None if end is None else end[side] for end in ends) for side in (0, 1))
        label = name or None
        ax.fill_between(range(len(ends)), low, high, color=colour, alpha=0.5, linewidth=0, label=label)


def _draw_betti(ax: Any, profile: TopologyProfile, keys: Sequence[Key], epoch: int | None) -> None:
    """b0 solid and b1 dashed over layers, a colour a class."""
    rows = [row for row in profile.rows if row.filter is None and row.epoch == epoch]
    measured = {(row.layer, row.call) for row in rows}
    keys = chosen_evenly([key for key in keys if key in measured], MOST_LAYERS)
    row_of: dict[tuple[object, ...], ProfileRow] = {(row.layer, row.call, row.label): row for row in rows}
    labels = sorted({row.label for row in rows}, key=lambda label: -1 if label is None else label)
    colours = class_colours(range(len(labels)), colour_groups(len(labels)).tolist())
    for label, colour in zip(labels, colours, strict=True):
        of_class = [row_of.get((*key, label)) for key in keys]
        name = "all samples" if label is None else short(class_name(profile, label))
        for number, style in (("b0", "-o"), ("b1", "--s")):
            values = _floats(None if row is None else getattr(row, number) for row in of_class)
            ax.plot(
                range(len(keys)), values, style, color=colour, markersize=4, label=f"{number}, {name}"
            )
    _name_layers(ax, keys)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("Betti number")
    if len(labels) <= MOST_NAMED // 2:
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
