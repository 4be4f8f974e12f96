from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.models import cnn, mlp
from unknot.profiles.meter import measure
from unknot.profiles.monitor import Monitor
from unknot.profiles.profile import TopologyProfile
from unknot.topology.graph import knn_graph
from unknot.topology.homology import betti_numbers
from unknot.topology.scale import Scale
from unknot.topology.shapes import make_shape

SCALE = Scale(k=8, hops=2)


def rings() -> list[tuple[torch.Tensor, torch.Tensor]]:
    shape = make_shape("rings", pairs=3, n=600, seed=0)
    return [(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))]


def images(n: int = 60) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 2)]


def test_by_class_measures_each_layer_on_each_class() -> None:
    torch.manual_seed(0)
    model, loader = mlp(3, 2, depth=2), rings()
    profile = measure(model, loader, layers="act*", scale=SCALE)
    assert [(r.layer, r.label) for r in profile.rows] == [
        (layer, label) for layer in ("input", "act1", "act2") for label in (0, 1)
    ]
    assert [(r.b0, r.b1) for r in profile.rows[:2]] == [(3, 3), (3, 3)]
    points, labels = loader[0]
    with torch.no_grad():
        hidden = model[:3](points)[labels == 1].numpy()
    expected = betti_numbers(knn_graph(np.unique(hidden, axis=0), k=8, hops=2)).values
    assert (profile.rows[3].b0, profile.rows[3].b1) == expected
    assert all(r.scale.k == 8 and r.b2 is None and r.epoch is None for r in profile.rows)


def test_auto_scale_is_calibrated_on_the_input_and_held() -> None:
    profile = measure(mlp(3, 2, depth=1), rings())
    assert {row.scale for row in profile.rows} == {profile.rows[0].scale}
    assert profile.rows[0].scale.determined
    assert [(r.b0, r.b1) for r in profile.rows[:2]] == [(3, 3), (3, 3)]


def test_by_filter_measures_every_channel_of_every_convolution() -> None:
    profile = measure(cnn(1, 2, widths=(3, 5)), images(), by="filter", scale=SCALE)
    assert [(r.layer, r.filter) for r in profile.rows] == [
        (layer, i) for layer, width in (("conv1", 3), ("conv2", 5)) for i in range(width)
    ]


def test_by_layer_needs_no_labels() -> None:
    profile = measure(mlp(64, 2, depth=1), images()[0][0], by="layer", scale=SCALE, max_dim=2)
    assert profile.layers() == ["input", "flatten", "linear1", "act1", "out"]
    assert all(r.label is None and r.b2 is not None for r in profile.rows)


def test_a_constant_layer_is_one_point() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    nn.init.zeros_(model[0].weight)
    row = measure(model, rings(), by="layer", scale=SCALE).rows[-1]
    assert (row.b0, row.b1, row.n_points) == (1, 0, 1)


def test_few_distinct_points_lower_k_and_say_so() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Threshold(0.0, 0.0), nn.Hardtanh(0, 0.0001))
    row = measure(model, [(torch.tensor([[1.0, 0, 0], [2, 0, 0], [3, 0, 0]]), torch.zeros(3).long())],
                  scale=SCALE).rows[0]  # fmt: skip
    assert row.n_points == 3
    assert row.scale.k == 2
    assert "lowered" in row.scale.note


def test_nan_names_the_layer() -> None:
    model = mlp(3, 2, depth=2)
    nn.init.constant_(model.linear2.weight, float("nan"))  # type: ignore[arg-type, union-attr]
    with pytest.raises(InputError, match="layer linear2"):
        measure(model, rings(), scale=SCALE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"by": "channel"}, "'layer', 'class' or 'filter'"),
        ({"by": "filter"}, "without a convolution"),
        ({"layers": "conv*"}, "a glob that matches"),
        ({"max_points": 1}, "max_points = 1"),
        ({"scale": "k14"}, "scale = 'k14'"),
        ({"scale": Scale()}, "a radius, or k and hops"),
        ({"repeats": -1}, "repeats = -1"),
        ({"views": 1.5}, "views = 1.5"),
    ],
)
def test_bad_arguments(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        measure(mlp(3, 2), rings(), **{"scale": SCALE, **change})  # type: ignore[arg-type]


def test_by_class_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="without class labels"):
        measure(mlp(3, 2), rings()[0][0])


def test_monitor_records_epoch_zero_and_every_nth() -> None:
    model, loader = mlp(3, 2, depth=1), rings()
    with Monitor(model, loader, every=2, layers="act1", scale=SCALE, max_points=200) as monitor:
        for epoch in range(1, 5):
            nn.init.normal_(model.linear1.weight)  # type: ignore[arg-type, union-attr]
            monitor.record(epoch)
    profile = monitor.profile
    assert sorted({r.epoch for r in profile.rows}) == [0, 2, 4]  # type: ignore[type-var]
    inputs = {(r.b0, r.b1, r.n_points) for r in profile.rows if r.layer == "input" and r.label == 0}
    assert len(inputs) == 1  # the probe is fixed


def test_json_round_trip(tmp_path: Path) -> None:
    profile = measure(mlp(3, 2, depth=1), rings(), scale=SCALE)
    profile.to_json(tmp_path / "p.json")
    assert TopologyProfile.from_json(tmp_path / "p.json") == profile
    assert profile.versions["torch"] == torch.__version__


@pytest.mark.parametrize("content", ["", "[]", '{"unknot": "plan"}', '{"unknot": "profile"}'])
def test_foreign_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match="a complete profile file"):
        TopologyProfile.from_json(tmp_path / "p.json")


def test_one_class_is_one_cloud_a_layer() -> None:
    points, labels = rings()[0]
    profile = measure(mlp(3, 2, depth=1), [(points, torch.zeros_like(labels))], scale=SCALE)
    assert {row.label for row in profile.rows} == {0}


def test_a_class_of_one_sample_is_one_point_and_says_so() -> None:
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    rows = measure(mlp(3, 2, depth=1), [(points, torch.tensor([0] * 39 + [1]))], scale=SCALE).rows
    assert {(r.b0, r.b1, r.n_points, r.note) for r in rows if r.label == 1} == {
        (1, 0, 1, "one distinct point: constant")
    }


@pytest.mark.parametrize("points", [torch.ones(30, 3), torch.eye(3)[:2]])
def test_a_scale_cannot_be_found_on_one_point_a_class(points: torch.Tensor) -> None:
    with pytest.raises(InputError, match="at least 2 distinct points in a class; add samples"):
        measure(mlp(3, 2), [(points, torch.arange(len(points)) % 2)])


@pytest.mark.parametrize("loader", [[], torch.empty(0, 3)])
def test_an_empty_loader_is_refused(loader: object) -> None:
    with pytest.raises(InputError, match="a loader without samples"):
        measure(mlp(3, 2), loader)  # type: ignore[arg-type]


def test_a_dead_filter_is_one_point_beside_living_ones() -> None:
    model = cnn(1, 2, widths=(3,))
    with torch.no_grad():
        model.conv1.weight[1] = 0  # type: ignore[union-attr, index]
    rows = measure(model, images(), by="filter", scale=SCALE).rows
    assert [r.n_points for r in rows] == [60, 1, 60]
    assert (rows[1].b0, rows[1].b1, rows[1].note) == (1, 0, "one distinct point: constant")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda x: x, "type function"),
        (mlp(3, 2).to("meta"), "parameter linear1.weight without values"),
        (nn.LazyLinear(2), "parameter weight without values"),
    ],
)
def test_what_is_no_model_with_values_is_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(InputError, match=says):
        measure(model, rings(), scale=SCALE)


def test_intervals_hold_the_number_and_repeat_with_the_seed() -> None:
    one, again = (measure(mlp(3, 2, depth=1), rings(), scale=SCALE, repeats=5) for _ in range(2))
    assert [r.intervals for r in one.rows[:2]] == [r.intervals for r in again.rows[:2]]
    for row in one.rows:
        assert row.intervals is not None
        (low0, high0), (low1, high1) = row.intervals
        assert low0 <= row.b0 <= high0 and low1 <= row.b1 <= high1


def test_the_scale_is_the_profiles_and_the_sensitivity_is_of_the_input() -> None:
    profile = measure(mlp(3, 2, depth=1), rings(), sensitivity=True, views=7)
    assert profile.scale is not None and profile.scale.determined
    assert profile.sensitivity is not None and profile.sensitivity.chosen == profile.scale
    assert {len(view.points) for view in profile.views} == {7}
    assert [view.layer for view in profile.views] == profile.layers()


def test_binary_logits_and_outputs_that_are_no_scores() -> None:
    points, labels = rings()[0]
    head = nn.Linear(3, 1)
    share = measure(head, [(points, labels)], scale=SCALE).accuracy[0].probe
    with torch.no_grad():
        assert share == pytest.approx(float(((head(points)[:, 0] > 0) == labels).float().mean()))
    wide = nn.Unflatten(1, (3, 1, 1))
    assert measure(wide, [(points, labels)], scale=SCALE).accuracy[0].probe is None


def test_a_layer_called_output_is_a_layer_like_any_other() -> None:
    model = nn.Sequential()
    model.add_module("output", nn.Linear(3, 2))
    model.add_module("last", nn.Linear(2, 2))
    profile = measure(model, rings(), by="layer", scale=SCALE)
    assert profile.layers() == ["input", "output", "last"]
    with torch.no_grad():
        hidden = model[0](rings()[0][0]).numpy()
        answers = model(rings()[0][0]).argmax(1)
    expected = betti_numbers(knn_graph(np.unique(hidden, axis=0), k=8, hops=2)).values
    assert (profile.rows[1].b0, profile.rows[1].b1) == expected
    assert profile.accuracy[0].probe == int((answers == rings()[0][1]).sum()) / 600
