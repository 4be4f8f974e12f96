"""What results about points draw, and say as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import unknot as uk
from unknot.topology import Sensitivity, SensitivityRow

KNN = [
    SensitivityRow(label, 50, uk.Scale(k=k, hops=hops), 10 * label + k, hops)
    for label in (0, 1)
    for hops in (1, 2)
    for k in (4, 7)
]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def tick_names(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def test_a_grid_of_k_and_hops_is_a_heat_map_with_the_chosen_scale_in_a_box(drawn: Any) -> None:
    grid = Sensitivity(tuple(KNN), uk.Scale(k=7, hops=2))
    both = grid.plot()
    assert both.shape == (2,) and [a.get_title() for a in both] == [
        "b0; chosen: k=7, hops=2", "b1; chosen: k=7, hops=2",
    ]  # fmt: skip
    assert texts(both[0]) == ["4", "7", "4", "7", "14", "17", "14", "17"]
    assert texts(both[1]) == ["1", "1", "2", "2"] * 2
    assert tick_names(both[0].yaxis) == [
        "class 0, 1 hop", "class 0, 2 hops", "class 1, 1 hop", "class 1, 2 hops",
    ]  # fmt: skip
    assert tick_names(both[0].xaxis) == ["4", "7"]
    # A box around column k = 7 in the rows with two hops.
    assert [box.get_xy() for box in both[0].patches] == [(0.5, 0.5), (0.5, 2.5)]


def test_one_number_goes_into_given_axes(drawn: Any) -> None:
    grid = Sensitivity(tuple(KNN), uk.Scale(k=5, hops=1))
    _, axes = drawn.subplots()
    assert grid.plot(axes, number="b1") is axes and texts(axes) == ["1", "1", "2", "2"] * 2
    assert not axes.patches  # k = 5 is not on the grid
    assert texts(grid.plot(drawn.subplots()[1]))[0] == "4"
    with pytest.raises(uk.InputError, match="number = 'b2'"):
        grid.plot(number="b2")  # type: ignore[arg-type]
    with pytest.raises(uk.InputError, match="a Sensitivity without rows"):
        Sensitivity((), uk.Scale(k=5)).plot()


def test_a_class_of_few_points_leaves_its_cells_empty(drawn: Any) -> None:
    axes = Sensitivity(tuple(KNN[:-1]), uk.Scale(k=7, hops=2)).plot(number="b0")
    assert texts(axes) == ["4", "7", "4", "7", "14", "17", "14"]


def test_over_radii_there_is_a_line_a_class(drawn: Any) -> None:
    rows = [
        SensitivityRow(label, 9, uk.Scale(radius=r), int(8 * r) + label, 0)
        for label in (0, 1)
        for r in (0.5, 1.0, 2.0)
    ]
    b0, _ = Sensitivity(tuple(rows), uk.Scale(radius=1.0)).plot()
    first, second, chosen = b0.get_lines()
    assert first.get_xdata().tolist() == [0.5, 1, 2] and first.get_ydata().tolist() == [4, 8, 16]
    assert second.get_ydata().tolist() == [5, 9, 17] and list(chosen.get_xdata()) == [1.0, 1.0]
    assert [t.get_text() for t in b0.get_legend().get_texts()] == ["class 0", "class 1"]
    assert b0.get_xscale() == "log"


def test_the_frame_of_a_sensitivity_has_the_scale_in_columns() -> None:
    pytest.importorskip("pandas")
    grid = Sensitivity(tuple(KNN), uk.Scale(k=7, hops=2))
    frame = grid.to_frame()
    assert frame.columns.tolist() == [
        "label", "n_points", "k", "hops", "radius", "determined", "note", "b0", "b1",
    ]  # fmt: skip
    assert frame["b0"].tolist() == [4, 7, 4, 7, 14, 17, 14, 17]
    assert frame.loc[frame["hops"] == 2, "k"].tolist() == [4, 7, 4, 7]
    assert repr(grid).splitlines()[0] == (
        "Sensitivity: b0 and b1 of 2 classes in 8 rows; chosen: k=7, hops=2"
    )


def test_betti_numbers(drawn: Any) -> None:
    pytest.importorskip("pandas")
    shape = uk.make_shape("rings", pairs=2, n=400)
    betti = uk.betti_numbers(shape.points, k=8)
    assert betti.values == (4, 4)
    assert repr(betti) == "BettiNumbers(b0=4, b1=4; 400 points, k=8, hops=1)"
    axes = betti.plot()
    assert [bar.get_height() for bar in axes.patches] == [4, 4]
    assert tick_names(axes.xaxis) == ["b0", "b1"]
    assert betti.to_frame().to_dict("list") == {
        "dimension": [0, 1], "betti": [4, 4], "n_points": [400, 400], "scale": ["k=8, hops=1"] * 2,
    }  # fmt: skip


def test_a_persistence_diagram(drawn: Any) -> None:
    pytest.importorskip("pandas")
    square = uk.persistence([[0, 0], [0, 1], [1, 1], [1, 0]])
    frame = square.to_frame()
    assert frame["dimension"].tolist() == [0, 0, 0, 0, 1]
    assert frame["death"].tolist() == pytest.approx([1, 1, 1, np.inf, 2**0.5])
    assert repr(square) == "PersistenceDiagram(bars: 4 of H0, 1 of H1; 4 points)"
    axes = square.plot()
    zeroth, first = (marks.get_offsets() for marks in axes.collections)
    top = axes.get_ylim()[1]
    assert top == pytest.approx(1.1 * 2**0.5) and zeroth[3].tolist() == [0, top]
    assert first.tolist() == [pytest.approx([1, 2**0.5])]


def test_a_graph_says_how_many_neighbours_points_have(drawn: Any) -> None:
    pytest.importorskip("pandas")
    star = uk.NeighborGraph.from_edges(5, [[0, 1], [0, 2], [0, 3]])
    assert star.degrees().tolist() == [3, 1, 1, 1, 0]
    line = uk.rips_graph([[0.0], [1.0], [2.0], [9.0]], radius=1)
    assert line.rows is not None and line.degrees().tolist() == [1, 2, 1, 0]
    assert repr(line) == "NeighborGraph(4 points, 2 edges, radius=1)"
    assert line._repr_html_() == (
        "<p>NeighborGraph(4 points, 2 edges, radius=1); 0 to 2 neighbours a point</p>"
    )
    assert line.to_frame().to_dict("list") == {"i": [0, 1], "j": [1, 2]}
    assert [bar.get_height() for bar in star.plot().patches] == [1, 3, 0, 1]
    with pytest.raises(uk.InputError, match="a graph without rows"):
        uk.NeighborGraph.from_edges(0, []).plot()


def test_islands_stand_out_of_the_noise(drawn: Any) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 2)) + np.repeat([[0, 0], [6, 0]], 300, axis=0)
    found = uk.islands(points)
    axes = found.plot()
    finite = found.prominences[np.isfinite(found.prominences)]
    heights = [bar.get_height() for bar in axes.patches]
    assert found.count == 2 and heights[1] == finite[0] and texts(axes) == ["∞"]
    assert heights[2 : 2 + 3] == finite[1:4].tolist() and max(heights[2:]) < found.z
    assert axes.get_title() == "2 islands"
    assert "<td" in found._repr_html_() and "2 islands of" in found._repr_html_()


def test_tangle_as_one_row() -> None:
    pytest.importorskip("pandas")
    found = uk.tangle([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1])
    assert found.to_frame()[["tangle", "pieces", "n_points"]].values.tolist() == [[0, 2, 4]]
    assert "<p>Tangle</p>" in found._repr_html_() and ">0.3333</td>" in found._repr_html_()


def test_a_scale_says_what_it_has() -> None:
    assert repr(uk.Scale(k=14, hops=2)) == "Scale(k=14, hops=2)"
    assert repr(uk.Scale(radius=0.5, determined=False, note="why")) == (
        "Scale(radius=0.5, determined=False, note='why')"
    )
    assert repr(uk.Scale()) == "Scale()"
    for scale in (uk.Scale(k=14), uk.Scale(radius=0.5, note="a 'b'")):
        assert eval(repr(scale), {"Scale": uk.Scale}) == scale


def test_points_with_their_classes(drawn: Any) -> None:
    pytest.importorskip("pandas")
    shape = uk.make_shape("rings", pairs=1, n=100)
    assert repr(shape) == "Shape(100 points of 2 classes, 3 coordinates)"
    assert shape.plot().name == "3d"
    assert shape.to_frame().columns.tolist() == ["x0", "x1", "x2", "label"]
    cloud = uk.topology.make_cloud(np.arange(12_000.0)[:, None])
    axes = cloud.plot()
    assert repr(cloud) == "PointCloud(12,000 points, 1 coordinate)"
    assert len(axes.collections[0].get_offsets()) == 4000 and axes.get_legend() is None
    with pytest.raises(uk.InputError, match="a cloud without rows"):
        uk.topology.make_cloud(np.zeros((3, 0))).plot()


def test_a_curve_over_radii(drawn: Any) -> None:
    square = uk.topology.betti_curve([[0, 0], [0, 1], [1, 1], [1, 0]], [0.5, 1.0, 1.5])
    axes = square.plot()
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[4, 1, 1], [0, 1, 0]]
    assert "<td" in square._repr_html_() and "BettiCurve(3 radii 0.5 to 1.5" in square._repr_html_()
