"""The pictures by matplotlib: the right bars in the right colours; one line for what cannot be drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.results import KNN, filter_profile, profile
from helpers.untangled import LABELS, row, untangled_profile

from unknot.core.errors import InputError
from unknot.profiles.picture.layout import GAP
from unknot.profiles.picture.palette import PALETTE, class_colours

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

N = len(LABELS)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def bars_at(ax: Any, layer: int) -> list[tuple[float, float, str]]:
    """(from, height, colour) of what stands over a layer's name, from below."""
    return sorted(
        (float(bar.get_y()), float(bar.get_height()), to_hex(bar.get_facecolor()))
        for bar in ax.patches
        if abs(bar.get_x() + bar.get_width() / 2 - layer) < 1e-9
    )


def test_islands_are_stacked_bars_in_the_colours_of_the_classes() -> None:
    ax, below = untangled_profile().plot()
    cat, dog, fox = PALETTE[:3]
    assert bars_at(ax, 0) == [(0, 40, cat), (40, 30, fox), (70, 30, dog)]  # one island
    assert bars_at(ax, 2) == [(0, 40, cat), (40, 30, fox), (70 + GAP * N, 30, dog)]
    assert [text.get_text() for text in ax.texts] == ["1", "2", "2"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cat", "dog", "<b>fox</b>"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["input", "act1", "out"]
    assert ax.get_title() == "Islands of 100 samples, after epoch 1, colours are the classes"


def test_bands_lead_from_block_to_block() -> None:
    """From the one island of the input, where dogs stand on top, to their own in the next layer."""
    ax, _ = untangled_profile().plot()
    first, second = ax.collections

    def ends(path: Any) -> tuple[float, float, float]:
        y = path.vertices[:24, 1]
        return float(y[0]), float(y[11]), float(y[23] - y[0])

    spans = [[ends(path) for path in bands.get_paths()] for bands in (first, second)]
    gap = GAP * N
    assert spans[0] == [(0, 0, 40), (40, 40, 30), (70, 70 + gap, 30)]
    assert spans[1] == [(0, 0, 40), (40, 40, 30), (70 + gap, 70 + gap, 30)]
    assert [to_hex(tone) for tone in first.get_facecolors()] == [PALETTE[0], PALETTE[2], PALETTE[1]]


def test_tangle_stands_below_with_its_bands() -> None:
    _, below = untangled_profile().plot()
    now, early = below.get_lines()
    assert now.get_ydata() == pytest.approx([0.9, 0.9 - 0.3 - 0.1 / 3, 0.9 - 0.3 - 0.2 / 3])
    assert early.get_ydata() == pytest.approx([0.9] * 3)
    names = [text.get_text() for text in below.get_legend().get_texts()]
    assert names == ["random weights", "shuffled labels", "tangle", "before training"]
    spans = [
        (band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max())
        for band in below.collections
    ]
    assert spans == [
        pytest.approx((0.9, 0.95)),
        pytest.approx((0.97, 1.03)),
        pytest.approx((0.5033, 0.93), abs=1e-3),
    ]


def test_an_epoch_layers_and_axes_can_be_chosen() -> None:
    _, ax = pyplot.subplots()
    assert untangled_profile().plot(ax, epoch=0, layers=["in*", "out"]) is ax
    assert ax.figure.axes == [ax]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["input", "out"]
    assert bars_at(ax, 1) == bars_at(ax, 0) and "before training" in ax.get_title()


def test_intervals_stand_with_the_counts_and_gaps_are_hatched() -> None:
    base = untangled_profile(epochs=1)
    rows = [
        row(None, "input", np.zeros(N), 0.9, islands_interval=(1, 3)),
        row(None, "act1", [], None),
        row(None, "out", np.arange(N) % 2, 0.5),
    ]
    ax, below = replace(base, untangling=tuple(rows)).plot()
    assert [text.get_text() for text in ax.texts] == ["1\n[1, 3]", "?", "2"]
    (gap,) = [bar for bar in ax.patches if bar.get_hatch()]
    assert gap.get_height() == N
    assert np.isnan(below.get_lines()[0].get_ydata()).tolist() == [False, True, False]


def test_of_many_layers_and_classes_a_readable_part_is_drawn() -> None:
    layers = tuple(f"layer{i}" for i in range(160))
    ax, below = untangled_profile(layers=layers).plot()
    names = [tick.get_text() for tick in below.get_xticklabels()]
    assert len(names) == 24 and names[0] == "layer0" and names[-2:] == ["layer158", "layer159"]
    assert "24 of 160 layers" in ax.get_title()
    many = tuple(range(N)) * 10
    one = row(None, "out", np.zeros(10 * N), 0.5)
    ax = replace(untangled_profile(), untangling=(one,), labels=many, names=()).plot(kind="islands")[0]
    assert ax.get_legend() is None
    heights = [height for _, height, _ in bars_at(ax, 0)]
    assert len(heights) == 48 and sum(heights) == 10 * N


def test_hues_go_once_around() -> None:
    colours = class_colours(range(1000), (np.arange(1000) * 48 // 1000).tolist())
    assert len(set(colours)) == 48
    assert class_colours([3, 0], [0, 1]) == [PALETTE[3], PALETTE[0]]


def test_without_labels_the_colours_are_the_islands_at_the_end() -> None:
    rows = tuple(replace(r, tangle=None) for r in untangled_profile().untangling)
    bare = replace(untangled_profile(), labels=None, names=(), untangling=rows)
    ax = bare.plot()
    assert len(ax.figure.axes) == 1 and ax.get_legend() is None
    assert [height for _, height, _ in bars_at(ax, 0)] == [70, 30]
    assert ax.get_title().endswith("colours are the islands at the end")


def test_betti_numbers_are_curves_and_come_by_themselves_where_the_scale_is_determined() -> None:
    settled = replace(
        untangled_profile(), scale=KNN, rows=tuple(replace(r, scale=KNN) for r in profile().rows)
    )
    ax = settled.plot()
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()}
    assert curves == {
        "b0, cat": [8, 8, 8],
        "b1, cat": [0, 0, 0],
        "b0, dog": [8, 8, 8],
        "b1, dog": [60, 60, 60],
    }
    assert len(settled.plot(kind="islands")[0].patches) == 9
    assert len(settled.plot(kind="tangle").get_lines()) == 2
    early = settled.plot(epoch=0)
    assert early.get_title() == "before training" and early.get_lines()[0].get_ydata()[0] == 9
    assert profile().plot().get_lines()[0].get_label() == "b0, class 0"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "bars"}, r"kind = 'bars': expected 'auto', 'islands', 'tangle' or 'betti'"),
        ({"epoch": 7}, "epoch = 7: expected one of 0, 1; pass e.g. epoch=1"),
        ({"layers": "conv*"}, r"'conv\*': expected a glob that matches a layer; try one of input, act1"),
        ({"layers": 3}, "layers = 3: expected a glob"),
        ({"ax": 3}, "ax of type int: expected matplotlib axes"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        untangled_profile().plot(**change)


def test_a_profile_without_the_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="a profile without islands"):
        profile().plot(kind="islands")
    with pytest.raises(InputError, match="a profile without tangle"):
        profile().plot(kind="tangle")
    for kind in ("auto", "betti"):
        with pytest.raises(InputError, match="a profile without"):
            filter_profile().plot(kind=kind)
    with pytest.raises(InputError, match="epoch = 3: expected a profile without epochs; leave epoch out"):
        replace(profile(), rows=tuple(replace(r, epoch=None) for r in profile(epochs=1).rows)).plot(
            epoch=3
        )
    assert not pyplot.get_fignums()  # nothing half-drawn is left open


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(InputError, match=r"unknot\[plot\]"):
        untangled_profile().plot()
