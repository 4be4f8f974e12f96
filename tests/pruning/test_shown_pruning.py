"""What scores, plans and outcomes draw, and say as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import results

import unknot as uk
from unknot.pruning.outcomes.comparison import Baseline, Baselines
from unknot.pruning.scoring.observations import DEAD
from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.pruning.scoring.thresholds import Thresholds

OUTCOME = results.full_outcome()


def offsets(marks: Any) -> list[list[float]]:
    return [list(map(float, point)) for point in marks.get_offsets()]


def widths(axes: Any) -> list[float]:
    return [float(bar.get_width()) for bar in axes.patches]


def row_names(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_scores_are_sorted_within_their_layer(drawn: Any) -> None:
    rows = [FilterScore("a", i, s, "mine") for i, s in enumerate((3.0, 1.0, 2.0))]
    rows += [FilterScore("b", 0, 5.0, "mine")]
    axes = FilterScores(tuple(rows), "mine", remove_high=False).plot(removed={"a": [1], "b": []})
    stays, goes = axes.collections
    assert offsets(goes) == [[0, 1]] and offsets(stays) == [[1, 2], [2, 3], [4, 5]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    assert axes.get_xticks().tolist() == [1, 4] and axes.get_ylabel() == "score: mine"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["stays", "is removed"]


@pytest.mark.parametrize(("remove_high", "sign"), [(True, 1.0), (False, -1.0)])
def test_dead_filters_stand_at_the_edge(remove_high: bool, sign: float, drawn: Any) -> None:
    rows = [FilterScore("a", i, s, "mine") for i, s in enumerate((0.01, 0.02, 0.9))]
    rows.append(FilterScore("a", 3, sign * 1000.0, "mine", note=DEAD))
    assert rows[-1].redundant
    axes = FilterScores(tuple(rows), "mine", remove_high).plot()
    heights = sorted(y for _, y in offsets(axes.collections[0]))
    assert heights == sorted([0.01, 0.02, 0.9, 0.9 if remove_high else 0.01])
    assert axes.get_yscale() == "log" and axes.get_legend() is None
    only = FilterScores((rows[-1],), "mine", remove_high).plot()
    assert offsets(only.collections[0]) == [[0, 0]]


def test_scores_as_a_table() -> None:
    pytest.importorskip("pandas")
    frame = results.scores().to_frame()
    assert frame.columns.tolist() == [
        "layer", "filter", "score", "criterion", "n_points", "scale", "b0", "b1", "note",
    ]  # fmt: skip
    assert frame["b0"].tolist() == [0, 100, 200, 300, 7]
    assert frame["scale"].tolist()[-1] == "k=9, hops=1 (undetermined)"
    plain = FilterScores((FilterScore("a", 0, 3.0, "l1"),), "l1", remove_high=False)
    assert plain.to_frame().columns.tolist() == [
        "layer", "filter", "score", "criterion", "n_points", "note",
    ]  # fmt: skip
    assert repr(plain).splitlines()[0] == ("FilterScores by l1: 1 filter of 1 layer; the lowest go first")
    with pytest.raises(uk.InputError, match="scores without rows"):
        FilterScores((), "l1", remove_high=False).plot()


def test_a_plan_by_layer(drawn: Any) -> None:
    pytest.importorskip("pandas")
    plan = results.plan()
    assert plan.to_frame().to_dict("list") == {
        "layer": ["conv1", "conv2"], "filters": [4, 1], "removed": [2, 0], "left": [2, 1],
        "kept because": ["", "its channels are the model's output"],
    }  # fmt: skip
    axes = plan.plot()
    assert widths(axes) == [2, 1, 2, 0] and row_names(axes) == ["conv1", "conv2"]
    assert [bar.get_x() for bar in axes.patches] == [0, 0, 2, 1]
    assert repr(plan).startswith("PruningPlan by betti: 2 of 5 filters go\nlayer ")
    assert "PruningPlan by betti: 2 of 5 filters go; half" in repr(replace(plan, budget="half"))
    with pytest.raises(uk.InputError, match="a plan without rows"):
        replace(plan, filters={}).plot()


def test_an_outcome_before_and_after(drawn: Any) -> None:
    pytest.importorskip("pandas")
    frame = OUTCOME.to_frame()
    assert frame["what"].tolist() == [
        "accuracy", "filters", "parameters", "MACs per sample", "bytes",
        "peak activation memory, bytes", "latency at batch 1 in ms", "latency at batch 64 in ms",
    ]  # fmt: skip
    assert frame["before"].tolist()[:4] == [0.9944, 5, 56714, 29532160]
    assert frame["ratio"].tolist()[5:] == [0.5, 1, 1]
    stages, costs, baselines = OUTCOME.plot()
    assert row_names(stages) == ["before", "as pruned", "refitted", "polished"]
    assert widths(stages)[:3] == [0.9944, 0.41, 0.92]
    assert widths(costs) == frame["ratio"].tolist()[1:] and row_names(costs) == frame["what"].tolist()[1:]
    assert len(baselines.get_lines()) == 3
    assert repr(OUTCOME) == str(OUTCOME) and "not faster" in OUTCOME._repr_html_()


def test_an_outcome_in_given_axes_and_without_rounds(drawn: Any) -> None:
    _, axes = drawn.subplots()
    assert OUTCOME.plot(axes) is axes and len(axes.patches) == 7
    stages, _ = results.outcome().plot()
    assert row_names(stages) == ["before", "after"] and widths(stages) == [0.9944, 0.925]


def test_baselines_over_what_is_left(drawn: Any) -> None:
    rows = Baselines(
        [Baseline("l1", 0.5, 0.5, 0.9), Baseline("l1", 0.75, 0.7, 0.8), Baseline("$x$", 0.5, 0.5, 0.7)]
    )
    axes = rows.plot()
    first, second = axes.get_lines()
    assert first.get_xdata().tolist() == pytest.approx([0.3, 0.5])
    assert first.get_ydata().tolist() == [0.8, 0.9] and second.get_label() == r"\$x\$"
    assert axes.get_xlim()[0] > axes.get_xlim()[1] == 0  # less to the right, as in the report
    with pytest.raises(uk.InputError, match="without rows"):
        Baselines().plot()


def test_a_refit_by_layer(drawn: Any) -> None:
    report = OUTCOME.rounds[0].refit
    assert report is not None
    axes = report.plot()
    _, before, after = axes.collections
    assert [x for x, _ in offsets(before)] == pytest.approx([0.25e-4, 0.25])  # 0 at the floor
    assert [x for x, _ in offsets(after)] == pytest.approx([0.25e-4, 0.03])
    assert row_names(axes) == ["conv1", "conv2"] and axes.get_xscale() == "log"
    assert "RefitReport on 200 samples" in repr(report)
    with pytest.raises(uk.InputError, match="a refit without rows"):
        replace(report, rows=()).plot()


def test_thresholds_over_sizes_and_scales(drawn: Any) -> None:
    axes = Thresholds(OUTCOME.thresholds).plot()
    # 5 and 6 of 10 filters exceed it in either layer at n = 100, all at 200.
    assert [text.get_text() for text in axes.texts] == ["50%", "60%", "100%", "100%"]
    assert row_names(axes) == ["n = 100", "n = 200"]


def test_an_export_by_batch_size() -> None:
    pytest.importorskip("pandas")
    assert OUTCOME.export is not None
    frame = OUTCOME.export.to_frame()
    assert frame["batch_size"].tolist() == [1, 64]
    assert frame["torch_ms"].tolist() == [0.5, 4] and frame["onnx_ms"].tolist() == [0.25, 2]


def test_hostile_names_are_escaped_and_drawn(drawn: Any) -> None:
    for made in (results.scores(results.HOSTILE), results.plan(results.HOSTILE)):
        text = made._repr_html_()
        assert "<script" not in text and "<img" not in text and "&lt;script" in text
        made.plot()
    results.full_outcome(results.HOSTILE, results.HOSTILE).plot()


def test_shrunk_shows_its_outcome_and_the_filters_of_each_layer(drawn: Any) -> None:
    torch.manual_seed(0)
    digits = uk.nets.load_images("digits", limit=200)
    model = uk.nets.cnn(1, 10, widths=(4, 8))
    shrunk = uk.shrink(model, digits, ratio=0.5, criterion="l1", repeats=2)
    stages, costs, layers = shrunk.plot()
    assert row_names(stages)[0] == "before" and row_names(layers) == list(shrunk.plan.filters)
    left = [n - len(shrunk.plan.removed.get(name, ())) for name, n in shrunk.plan.filters.items()]
    assert widths(layers)[: len(left)] == left
    assert widths(costs)[0] == shrunk.outcome.filters_after / shrunk.outcome.filters_before
    _, axes = drawn.subplots()
    assert shrunk.plot(axes) is axes and np.allclose(widths(axes), widths(costs))
    pytest.importorskip("pandas")
    assert shrunk.to_frame().equals(shrunk.outcome.to_frame())
    assert shrunk._repr_html_().count("<tr>") == 1 + len(shrunk.to_frame())
