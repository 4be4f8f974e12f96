"""Axes and the shared charts; what results draw is tested in their rooms."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unknot
from unknot.core.errors import InputError
from unknot.core.showing import drawing

CSS = Path(unknot.__file__).parent / "report/templates/report.css"


def test_the_colours_are_those_of_the_report() -> None:
    light = dict(re.findall(r"--(\w+): (#\w+);", CSS.read_text().partition("}")[0]))
    assert tuple(light[f"c{i}"] for i in range(8)) == drawing.COLOURS
    named = (drawing.KEPT, drawing.GONE, drawing.INK, drawing.SOFT, drawing.LINE)
    assert named == tuple(light[name] for name in ("kept", "gone", "ink", "soft", "line"))
    pairs = [(drawing.colour(i), drawing.mark(i)) for i in range(24)]
    assert len(set(pairs)) == 24


def test_axes_are_new_or_those_given(drawn: Any) -> None:
    figure, given = drawn.subplots()
    assert drawing.axes_for(given, 1, 1, 3) == [given]
    assert len(drawing.axes_for(None, 6, 2, 3)) == 3
    assert drawing.one_or_all([given]) is given
    assert drawing.one_or_all([given, given]).shape == (2,)
    with pytest.raises(InputError, match="ax of type Figure: expected matplotlib axes"):
        drawing.axes_for(figure, 1, 1)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"package matplotlib is missing.*'unknot\[plot\]'"):
        drawing.axes_for(None, 1, 1)


def test_names_are_shown_as_they_are(drawn: Any) -> None:
    names = ["a$b$", "_hidden", "x" * 100, "two\nlines", "$\\frac{1}$"]
    (axes,) = drawing.axes_for(None, 3, 3)
    drawing.name_rows(axes, names)
    axes.figure.canvas.draw()
    assert drawing.short("a$b$") == r"a\$b\$" and drawing.short("_hidden") == " _hidden"
    assert len(drawing.short("x" * 100)) == drawing.MOST_NAME
    assert axes.get_ylim() == (4.5, -0.5)  # the first on top


def test_counts_of_many_sizes_have_a_place_for_zero(drawn: Any) -> None:
    (axes,) = drawing.axes_for(None, 3, 3)
    axes.plot([0, 1], [0, 2000])
    drawing.scale_counts(axes, "y", [0, 2000])
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "0", "1", "3", "10", "30", "100", "300", "1,000",
    ]  # fmt: skip
    (few,) = drawing.axes_for(None, 3, 3)
    few.plot([0, 1], [0, 40])
    drawing.scale_counts(few, "y", [0, 40])
    assert few.get_yscale() == "linear"


def test_a_heat_map_has_its_numbers_in_the_cells(drawn: Any) -> None:
    (axes,) = drawing.axes_for(None, 3, 3)
    drawing.heat_map(axes, np.array([[1.0, np.nan], [0.0, 12345.0]]), [4, 5], ["a", "b"])
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "1", (0, 1): "0", (1, 1): "12k"}
    assert [t.get_text() for t in axes.get_xticklabels()] == ["4", "5"]
    (empty,) = drawing.axes_for(None, 3, 3)
    drawing.heat_map(empty, np.array([[np.nan]]), [4], ["a"])
    assert not empty.texts


def test_bars_of_what_is_left(drawn: Any) -> None:
    (axes,) = drawing.axes_for(None, 3, 3)
    drawing.ratio_bars(axes, ["a", "b"], [200, 0], [50, 0])
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0]
    assert [text.get_text().strip() for text in axes.texts] == ["200 → 50", "0 → 0"]


def test_points_in_the_plane_and_in_space(drawn: Any) -> None:
    points, labels = np.arange(12.0).reshape(4, 3), np.array([0, 0, 1, 1])
    space = drawing.point_axes(None, 3)
    drawing.scatter(space, points, labels)
    assert space.name == "3d" and len(space.collections) == 2 and space.get_zlabel() == "x2"
    flat = drawing.point_axes(drawn.subplots()[1], 3)
    drawing.scatter(flat, points, labels)
    assert flat.collections[1].get_offsets().tolist() == [[6, 7], [9, 10]]
    assert [text.get_text() for text in flat.get_legend().get_texts()] == ["class 0", "class 1"]
