"""Betti numbers of filters: which clouds, at which scale; and what a threshold on them depends on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.filters import built, scores_of
from torch import nn

import unknot as uk
from unknot.nets.recording import capture
from unknot.pruning.scoring.scores import FilterScores, score_filters
from unknot.pruning.scoring.thresholds import ThresholdRow, threshold_sensitivity


def betti_scores(model: nn.Module, loader: Any, **options: Any) -> FilterScores:
    return score_filters(model, loader, criterion="betti", **options)


@pytest.mark.parametrize("number", ["b0", "b1", "sum"])
@pytest.mark.parametrize("scale", [uk.Scale(radius=1.0), uk.Scale(k=4, hops=2)])
def test_betti_by_class_is_the_mean_of_the_classes_alone(number: Any, scale: uk.Scale) -> None:
    model, inputs, labels = built("cnn", n=90)
    arguments: dict[str, Any] = {"scale": scale, "number": number}
    together = betti_scores(model, [(inputs, labels)], clouds="class", **arguments)
    alone = [betti_scores(model, inputs[labels == c], **arguments) for c in range(3)]
    for row, *parts in zip(together.rows, *(a.rows for a in alone), strict=True):
        assert not row.redundant
        assert row.score == pytest.approx(np.mean([p.score for p in parts]))
        assert row.n_points == sum(p.n_points or 0 for p in parts)
        assert row.scale == scale
        assert row.betti is not None
        assert row.score == pytest.approx(
            sum(row.betti) if number == "sum" else row.betti[int(number[1])]
        )


def test_betti_of_a_pair_is_that_of_its_samples_alone() -> None:
    model, inputs, labels = built("cnn", n=90)
    pair = betti_scores(model, [(inputs, labels)], clouds="pair", classes=(0, 2))
    chosen = (labels == 0) | (labels == 2)
    alone = betti_scores(model, [(inputs[chosen], labels[chosen])])
    assert [r.betti for r in pair.rows] == [r.betti for r in alone.rows]
    assert {r.n_points for r in pair.rows} == {60}


def test_betti_says_the_scale_and_whether_it_is_determined() -> None:
    model, inputs, labels = built("cnn", n=60)
    convention = betti_scores(model, [(inputs, labels)])
    assert all(r.scale is not None and r.scale.radius and not r.scale.determined for r in convention.rows)
    assert all("2% quantile" in r.scale.note for r in convention.rows if r.scale)
    calibrated = betti_scores(model, [(inputs, labels)], scale="calibrate")
    output = capture(model, inputs, layers=["conv2"])[1].numpy()
    expected = uk.calibrate(output)
    assert not expected.determined and expected.note
    assert {r.scale for r in calibrated.rows if r.layer == "conv2"} == {expected}


def test_calibration_on_a_layer_is_determined_where_its_output_has_a_shape() -> None:
    """A 1 x 1 convolution that hands on rings."""
    shape = uk.make_shape("rings", pairs=2, n=1000, seed=0)
    inputs = torch.tensor(shape.points, dtype=torch.float32)[:, :, None, None]
    model = nn.Sequential(nn.Conv2d(inputs.shape[1], 2, 1), nn.Flatten(), nn.Linear(2, 2))
    nn.init.zeros_(model[0].bias)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2, inputs.shape[1])[:, :, None, None])
    scores = betti_scores(
        model, [(inputs, torch.tensor(shape.labels))], scale="calibrate", clouds="class", max_points=1000
    )
    assert all(r.scale is not None and r.scale.determined and r.scale.k for r in scores.rows)


def test_one_sample_has_no_scale() -> None:
    model, inputs, _ = built("cnn")
    with pytest.raises(uk.InputError, match="at least 2 samples for a scale"):
        betti_scores(model, inputs[:1])
    found = betti_scores(model, inputs[:1], scale=uk.Scale(radius=1.0))
    assert {row.betti for row in found.rows} == {(1, 0)}


def test_threshold_sensitivity_counts_what_scores_exceed() -> None:
    model, inputs, labels = built("cnn", n=80)
    knn = uk.Scale(k=5, hops=1)
    rows = threshold_sensitivity(
        model, [(inputs, labels)], 12, sizes=(20, 79, 500), quantiles=(0.0, 0.05, 1.0), scales=(knn,)
    )
    assert [(r.layer, r.n_points) for r in rows[::4]] == [
        (layer, n) for layer in ("conv1", "conv2") for n in (20, 79, 80)
    ]
    for row in rows:
        assert (row.quantile is None) == (row.scale == knn)
        if row.n_points == 80:
            scores = betti_scores(model, [(inputs, labels)], scale=row.scale)
            assert row.exceeding == (scores_of(scores, row.layer) > 12).sum()
        if row.quantile == 0:  # every sample is its own component
            assert row.exceeding == row.filters
        if row.quantile == 1:  # one component
            assert row.exceeding == 0
    assert {r.scale for r in rows if r.quantile == 0.05} == {
        r.scale for r in rows if r.quantile == 0.05 and r.n_points == 20
    }
    same = threshold_sensitivity(
        model, [(inputs, labels)], 12, sizes=(20, 79, 500), quantiles=(0.0, 0.05, 1.0), scales=(knn,)
    )
    assert rows == same and isinstance(rows[0], ThresholdRow)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"threshold": -1}, "threshold = -1"),
        ({"sizes": ()}, "an empty grid"),
        ({"sizes": (1,)}, "sizes = 1"),
        ({"quantiles": ()}, "an empty grid"),
        ({"quantiles": (2,)}, "a share in"),
        ({"scales": (uk.Scale(),)}, "a radius, or k and hops"),
        ({"scales": ("auto",)}, "scale = 'auto': expected a Scale"),
        ({"number": "b7"}, "number = 'b7'"),
    ],
)
def test_bad_grids_are_refused_in_one_line(arguments: dict[str, Any], says: str) -> None:
    model, inputs, _ = built("cnn")
    with pytest.raises(uk.InputError, match=says):
        threshold_sensitivity(model, inputs, **arguments)
