"""Islands and tangle in profiles: against what `islands` and `tangle` say of recorded layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unknot as uk
from unknot.core.errors import InputError
from unknot.nets.models import cnn, mlp
from unknot.nets.recording import capture
from unknot.profiles.journal import joined, read_profile, write_profile
from unknot.profiles.meter import measure
from unknot.profiles.monitor import Monitor
from unknot.profiles.nulls import random_copy
from unknot.profiles.profile import TopologyProfile, UntanglingRow
from unknot.topology.multiscale.untangling import UntanglingSettings, untangle_clouds
from unknot.topology.scale import Scale
from unknot.topology.shapes import make_shape

SCALE = Scale(k=8, hops=2)
Data = list[tuple[torch.Tensor, torch.Tensor]]
NUMBERS = ("islands", "tangle", "purity")


def rings(n: int = 300) -> Data:
    shape = make_shape("rings", pairs=3, n=n, seed=0)
    return [(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))]


def two_of_twenty() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes that one direction of twenty tells apart."""
    points = torch.randn(600, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(600) % 2
    points[:, 0] += 3.0 * labels
    return points, labels


def net(seed: int = 0, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(3, 2, depth=2, **settings)


@pytest.mark.parametrize("by", ["layer", "class"])
def test_numbers_are_those_of_what_the_layers_return(by: Any) -> None:
    model, ((points, labels),) = net(), rings()
    profile = measure(model, [(points, labels)], by=by, scale=SCALE)
    outputs = capture(model, points)
    assert [(r.layer, r.call) for r in profile.untangling] == [(o.layer, o.call) for o in outputs]
    for row, output in zip(profile.untangling, outputs, strict=True):
        islands = uk.islands(output.numpy())
        tangle = uk.tangle(output.numpy(), labels.numpy())
        assert (row.islands, row.total, row.dimension) == (
            islands.count,
            islands.total,
            islands.dimension,
        )
        assert row.members == tuple(islands.members)
        assert (row.tangle, row.pieces, row.purity) == (tangle.tangle, tangle.pieces, tangle.purity)
        assert (row.epoch, row.n_points, row.random, row.shuffled) == (None, len(points), None, None)
    (spans,) = untangle_clouds([outputs[-1].numpy()], labels.numpy(), UntanglingSettings())
    for name in (*NUMBERS, "total"):
        assert getattr(profile.untangling[-1], f"{name}_interval") == getattr(spans.intervals, name)
    assert profile.labels == tuple(labels.tolist()) and profile.names == ()
    assert profile.settings["islands"] == "k = 15, z = 3"
    for cloud in profile.rows:
        (row,) = (r for r in profile.untangling if r.layer == cloud.layer)
        for name in (*NUMBERS, *(f"{name}_interval" for name in NUMBERS)):
            assert getattr(cloud, name) == (getattr(row, name) if by == "layer" else None)


def test_more_repeats_are_more_halves() -> None:
    data = rings()
    profile = measure(net(), data, by="layer", scale=SCALE, repeats=12)
    points, labels = (part.numpy() for part in data[0])
    (expected,) = untangle_clouds([points], labels, UntanglingSettings(repeats=12))
    assert profile.untangling[0].tangle_interval == expected.intervals.tangle


def test_names_of_classes_are_kept() -> None:
    points, labels = rings()[0]
    names = [("ring", "axle")[label] for label in labels.tolist()]
    profile = measure(net(), (points, names), scale=SCALE)
    assert profile.names == ("axle", "ring")
    assert profile.labels == tuple(("axle", "ring").index(name) for name in names)


def test_filters_have_none_and_no_random_copies() -> None:
    images = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model, data = cnn(1, 2, widths=(3,)), [(images, torch.arange(60) % 2)]
    profile = measure(model, data, by="filter", scale=SCALE)
    assert profile.untangling == () and len(profile.rows) == 3
    with pytest.raises(
        InputError, match="nulls = 2 with by = 'filter': expected by = 'class' or 'layer'"
    ):
        measure(model, data, by="filter", scale=SCALE, nulls=2)


def test_they_can_be_left_out() -> None:
    without = measure(net(), rings(), by="layer", scale=SCALE, untangling=False)
    full = measure(net(), rings(), by="layer", scale=SCALE)
    assert without.untangling == () and "islands" not in without.settings
    assert [(r.layer, r.b0, r.islands) for r in without.rows] == [
        (r.layer, r.b0, None) for r in full.rows
    ]
    assert "purity" not in repr(without) and "purity" in repr(full)
    with pytest.raises(InputError, match="nulls = 1 with untangling = False"):
        measure(net(), rings(), by="layer", scale=SCALE, untangling=False, nulls=1)


def test_without_labels_or_with_one_class_there_are_islands_and_a_note() -> None:
    points, labels = rings()[0]
    for data, note in (
        (points, "no tangle: no labels"),
        ([(points, labels * 0)], "no tangle: labels of one class"),
    ):
        row = measure(net(), data, by="layer", scale=SCALE).untangling[0]
        assert row.islands is not None and row.islands_interval is not None
        assert (row.tangle, row.pieces, row.purity, row.tangle_interval) == (None,) * 4
        assert note in row.note


def test_a_constant_layer_and_few_points_are_rows_with_a_note() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Threshold(1e9, 0.0))
    profile = measure(model, rings(), by="layer", scale=SCALE)
    row = profile.untangling[-1]
    assert (row.islands, row.total, row.tangle, row.purity, row.members) == (None, None, None, None, ())
    assert row.note == "all points are equal: no islands, no tangle"
    assert (profile.rows[-1].n_points, profile.rows[-1].islands) == (1, None)
    few = measure(net(), [(torch.randn(9, 3), torch.arange(9) % 2)], by="layer", scale=SCALE)
    assert few.untangling[0].note.startswith("no islands: 9 distinct points, k = 15 takes more")
    assert few.untangling[0].tangle is not None


@pytest.mark.parametrize("background", [True, False])
def test_a_monitor_measures_each_epoch_on_the_same_samples(background: bool) -> None:
    model, data = net(), rings()
    expected = []
    with Monitor(
        model, data, scale=SCALE, layers="act*", max_points=200, background=background
    ) as monitor:
        for epoch in range(3):
            if epoch:
                nn.init.normal_(model.linear1.weight)  # type: ignore[arg-type, union-attr]
                monitor.record(epoch)
            expected += measure(model, data, scale=SCALE, layers="act*", max_points=200).untangling
    rows = monitor.profile.untangling
    assert [row.epoch for row in rows] == [e for e in range(3) for _ in range(3)]
    assert {row.n_points for row in rows} == {expected[0].n_points}
    for row, one in zip(rows, expected, strict=True):
        for name in ("layer", "islands", "total", "tangle", "pieces", "purity", "members", "note"):
            assert getattr(row, name) == getattr(one, name)
        taken = row.epoch == 0 or row.layer == "input"  # which is the same at every epoch
        assert row.tangle_interval == (one.tangle_interval if taken else None)
        assert row.islands_interval == (one.islands_interval if taken else None)


def test_copies_that_would_not_all_fit_are_measured_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def watched() -> TopologyProfile:
        with Monitor(net(), rings(), scale=SCALE, layers="act*", nulls=3) as monitor:
            monitor.record(1)
        return monitor.profile

    one = watched()
    copies = [row.random for row in one.untangling if row.layer == "act2" and row.epoch == 0]
    assert copies == [None, 0, 1, 2]
    monkeypatch.setattr("unknot.profiles.monitor.PASS_BYTES", 300 * 200 * 4)  # of one epoch, not of four
    assert watched() == one


def test_a_monitor_takes_intervals_with_repeats() -> None:
    data, model = rings(), net()
    with Monitor(model, data, scale=SCALE, layers="act1", repeats=3, background=False) as monitor:
        monitor.record(1)
    points, labels = (part.numpy() for part in data[0])
    output = capture(model, points, layers="act1")[1].numpy()
    for epoch, repeats in ((0, 10), (1, 3)):
        (expected,) = untangle_clouds([output], labels, UntanglingSettings(repeats=repeats))
        (row,) = (r for r in monitor.profile.untangling if (r.layer, r.epoch) == ("act1", epoch))
        assert row.purity_interval == expected.intervals.purity


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_every_format_gives_islands_and_copies_back(tmp_path: Path, suffix: str) -> None:
    points, labels = rings()[0]
    names = [("ring", "axle")[label] for label in labels.tolist()]
    profile = measure(net(), (points, names), by="layer", scale=SCALE, nulls=2)
    write_profile(tmp_path / f"p{suffix}", profile)
    again = read_profile(tmp_path / f"p{suffix}")
    assert again == profile and again.untangling[0].shuffled is not None
    assert type(again.untangling[0].members) is tuple


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_watched_run_is_read_back_and_gone_on_with(tmp_path: Path, suffix: str) -> None:
    path, data = tmp_path / f"run{suffix}", rings()
    options: dict[str, Any] = {"scale": SCALE, "layers": "act1", "out": path, "background": False}
    with Monitor(net(), data, nulls=1, **options) as monitor:
        monitor.record(1)
    assert read_profile(path) == monitor.profile
    with Monitor(net(), data, resume=True, **options) as more:  # copies are of epoch 0 alone
        more.record(1)
        more.record(2)
    assert read_profile(path) == more.profile
    given = [(r.epoch, r.layer) for r in more.profile.untangling if r.random is None]
    assert given == [(e, layer) for e in range(3) for layer in ("input", "act1")]
    copies = [(r.epoch, r.layer) for r in more.profile.untangling if r.random is not None]
    assert copies == [(0, "input"), (0, "act1")]
    assert [r.shuffled is not None for r in more.profile.untangling] == [True] * 2 + [False] * 6


def older(record: dict[str, Any]) -> dict[str, Any]:
    """As it was written before there were islands."""
    new = {*NUMBERS, *(f"{name}_interval" for name in NUMBERS), "untangling", "labels", "names"}
    kept = {key: value for key, value in record.items() if key not in new or key == "epoch"}
    if "settings" in kept:
        kept["settings"] = {k: v for k, v in kept["settings"].items() if k != "islands"}
    return kept


def test_older_files_are_read_and_gone_on_with(tmp_path: Path) -> None:
    path, data = tmp_path / "run.jsonl", rings()
    options: dict[str, Any] = {"scale": SCALE, "layers": "act1", "out": path, "background": False}
    with Monitor(net(), data, **options) as monitor:
        pass
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [older(line) for line in lines if line["record"] != "untangling"]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    before = read_profile(path)
    assert before.untangling == () and before.labels is None
    assert [(r.layer, r.b0) for r in before.rows] == [(r.layer, r.b0) for r in monitor.profile.rows]
    with Monitor(net(), data, resume=True, **options) as more:
        more.record(1)
    assert {row.epoch for row in more.profile.untangling} == {1}
    assert more.profile.labels == monitor.profile.labels
    monitor.profile.to_json(tmp_path / "p.json")
    record = older(json.loads((tmp_path / "p.json").read_text()))
    record["rows"] = [older(row) for row in record["rows"]]
    (tmp_path / "p.json").write_text(json.dumps(record))
    assert TopologyProfile.from_json(tmp_path / "p.json").rows == before.rows


def test_a_record_of_islands_that_is_missing_is_noticed(tmp_path: Path) -> None:
    profile = measure(net(), rings(), scale=SCALE)
    write_profile(tmp_path / "p.jsonl", profile)
    lines = (tmp_path / "p.jsonl").read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"record":"untangling"' in line)
    (tmp_path / "p.jsonl").write_text("".join(lines[:at] + lines[at + 1 :]))
    with pytest.raises(InputError, match="lacks rows"):
        read_profile(tmp_path / "p.jsonl")


def test_an_epoch_that_is_measured_again_replaces_its_islands() -> None:
    options: dict[str, Any] = {"scale": SCALE, "layers": "act1", "background": False}
    with Monitor(net(), rings(), **options) as monitor:
        one = monitor.profile
    with Monitor(net(1), rings(), **options) as monitor:
        other = monitor.profile
    assert one.untangling != other.untangling
    assert joined([one, other]).untangling == other.untangling


class TestRandomCopies:
    def test_of_an_untrained_net_resemble_it(self) -> None:
        torch.manual_seed(3)
        layers = [nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU()]
        profile = measure(nn.Sequential(*layers), [two_of_twenty()], scale=SCALE, nulls=8)
        for name in profile.layers():
            of_layer = [row for row in profile.untangling if row.layer == name]
            given, copies = of_layer[0], of_layer[1:]
            assert given.random is None and [row.random for row in copies] == list(range(8))
            if name == "input":  # which has no weights
                assert {(row.islands, row.tangle, row.members) for row in copies} == {
                    (given.islands, given.tangle, given.members)
                }
                continue
            assert len({row.tangle for row in copies}) > 1
            for number in ("tangle", "purity"):
                values = np.array([getattr(row, number) for row in copies])
                assert abs(getattr(given, number) - values.mean()) < 4 * values.std() + 1e-9

    def test_of_a_trained_net_differ_and_shuffled_labels_have_a_tangle_of_one(self) -> None:
        points, labels = two_of_twenty()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
        uk.nets.train(model, points, labels, epochs=30)
        profile = measure(model, [(points, labels)], scale=SCALE, nulls=4)
        last = [row for row in profile.untangling if row.layer == "2"]
        given, copies = last[0], last[1:]
        assert given.tangle is not None and given.shuffled is not None
        assert given.tangle < min(row.tangle for row in copies if row.tangle is not None)
        assert given.shuffled[0] < 1 < given.shuffled[1] and given.tangle < given.shuffled[0]
        assert all(row.shuffled is None for row in copies)

    def test_leave_the_model_and_the_random_state_as_they_were(self) -> None:
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU())
        model(torch.randn(20, 3))
        before = {key: value.clone() for key, value in model.state_dict().items()}
        state = torch.random.get_rng_state()
        profiles = [measure(model, rings(), by="layer", scale=SCALE, nulls=2) for _ in range(2)]
        assert torch.equal(torch.random.get_rng_state(), state) and model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert profiles[0] == profiles[1]
        plain = measure(model, rings(), by="layer", scale=SCALE)
        assert plain.rows == profiles[0].rows

    def test_are_drawn_by_the_modules_own_methods(self) -> None:
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LayerNorm(6))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
        model(torch.randn(20, 4))
        copy, permuted = random_copy(model, seed=5)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            fresh = nn.Linear(4, 6)
        assert torch.equal(copy[0].weight, fresh.weight) and torch.equal(copy[0].bias, fresh.bias)  # type: ignore[index, arg-type]
        norm = copy[1]  # type: ignore[index]
        assert torch.equal(norm.running_mean, torch.zeros(6)) and torch.equal(norm.weight, torch.ones(6))
        assert torch.equal(copy[2].weight, torch.ones(6)) and permuted == []  # type: ignore[index, arg-type]

    def test_permute_what_no_method_draws_and_say_so(self) -> None:
        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 40))
                self.scale = nn.Parameter(torch.arange(40.0))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.linear(x) * self.scale  # type: ignore[no-any-return]

        model = Scaled()
        copy, permuted = random_copy(model, seed=0)
        weights = "linear.parametrizations.weight.original"
        assert permuted == ["scale", f"{weights}0", f"{weights}1"]
        assert not torch.equal(copy.scale, model.scale)  # type: ignore[arg-type]
        assert torch.equal(copy.scale.sort().values, model.scale)  # type: ignore[operator, union-attr]
        profile = measure(model, rings(), by="layer", scale=SCALE, nulls=1)
        expected = f"random weights: the model's own, in random order, for scale, {weights}0, {weights}1"
        assert expected in profile.notes

    def test_take_what_is_no_method_of_that_kind_for_none(self) -> None:
        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.arange(30.0).reshape(3, 10))
                self.count = nn.Parameter(torch.arange(5), requires_grad=False)

            def reset_parameters(self, gain: float) -> None:
                self.weight.data.fill_(gain)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x @ self.weight

        copy, permuted = random_copy(nn.Sequential(Own()), seed=0)
        assert permuted == ["0.weight", "0.count"]
        assert torch.equal(copy[0].weight.flatten().sort().values, torch.arange(30.0))  # type: ignore[index, union-attr, operator]

    def test_keep_tied_weights_tied(self) -> None:
        model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
        model[1].weight = model[0].weight
        copy, permuted = random_copy(model, seed=0)
        assert copy[0].weight is copy[1].weight and permuted == []  # type: ignore[index]
        own = nn.Sequential(nn.Module(), nn.Module())
        own[0].scale = own[1].scale = nn.Parameter(torch.arange(9.0))
        assert random_copy(own, seed=0)[1] == ["1.scale"]  # once
        assert bool(copy[0].weight.isfinite().all())  # type: ignore[index, union-attr, operator]
        assert not torch.equal(copy[0].weight, model[0].weight)  # type: ignore[index, arg-type]

    def test_of_a_frozen_normalisation_permute_its_buffers(self) -> None:
        class FrozenNorm(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("weight", torch.arange(50.0))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * self.weight  # type: ignore[no-any-return]

        copy, permuted = random_copy(nn.Sequential(FrozenNorm()), seed=0)
        assert permuted == ["0.weight"] and not torch.equal(copy[0].weight, torch.arange(50.0))  # type: ignore[index, arg-type]

    def test_that_overflow_are_rows_with_a_note(self) -> None:
        class Huge(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.eye(3))

            def reset_parameters(self) -> None:
                self.weight.data.fill_(3e38)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return (x + 10) @ self.weight

        profile = measure(nn.Sequential(Huge()), rings(), by="layer", scale=SCALE, nulls=1)
        copies = [row for row in profile.untangling if row.random == 0]
        assert [(row.layer, row.islands is None) for row in copies] == [("input", False), ("0", True)]
        assert copies[1].note == "NaN or infinity with random weights"


class TestTables:
    def test_rows_become_a_frame(self) -> None:
        pytest.importorskip("pandas")
        profile = measure(net(), rings(), scale=SCALE, repeats=3)
        frame = profile.to_frame()
        assert len(frame) == len(profile.rows)
        assert frame["b1"].tolist() == [row.b1 for row in profile.rows]
        assert frame["b0_high"].tolist() == [row.intervals[0][1] for row in profile.rows if row.intervals]
        assert set(frame["k"]) == {8} and frame["layer"].tolist() == [row.layer for row in profile.rows]
        wide = frame.pivot(index="layer", columns="label", values="b0")
        assert wide.loc["act1", 1] == next(
            r.b0 for r in profile.rows if (r.layer, r.label) == ("act1", 1)
        )

    def test_islands_become_a_frame(self) -> None:
        pytest.importorskip("pandas")
        profile = measure(net(), rings(), by="layer", scale=SCALE, nulls=1)
        frame = profile.untangling_frame()
        assert "members" not in frame.columns and len(frame) == len(profile.untangling)
        assert frame["tangle"].tolist() == [row.tangle for row in profile.untangling]
        first, span = profile.untangling[0], profile.untangling[0].tangle_interval
        assert span is not None and first.shuffled is not None
        assert (frame["tangle_low"][0], frame["tangle_high"][0]) == span
        assert (frame["shuffled_low"][0], frame["shuffled_high"][0]) == first.shuffled
        assert frame["random"].isna().sum() == len(frame) / 2
        rows = profile.to_frame()
        assert rows["purity"].tolist() == [row.purity for row in profile.rows]

    def test_of_an_empty_profile_have_the_same_columns(self) -> None:
        pytest.importorskip("pandas")
        empty, full = TopologyProfile((), 0, {}), measure(net(), rings(), scale=SCALE)
        assert list(empty.to_frame().columns) == list(full.to_frame().columns)
        assert list(empty.untangling_frame().columns) == list(full.untangling_frame().columns)
        assert repr(empty) == "TopologyProfile(by layer, 0 layer outputs, seed 0)"

    def test_repr_says_what_was_measured_and_the_headline(self) -> None:
        profile = measure(net(), rings(), scale=SCALE)
        first, names, *lines = repr(profile).splitlines()
        expected = f"by class, {len(profile.layers())} layer outputs, n = 300, k=8, hops=2, seed 0"
        assert first == f"TopologyProfile({expected})"
        assert names.split("  ")[0] == "layer" and "b1 of all classes" in names
        assert [line.split()[0] for line in lines] == profile.layers()
        row = profile.untangling[0]
        betti = [
            sum(getattr(r, name) for r in profile.rows if r.layer == "input") for name in ("b0", "b1")
        ]
        low, high = row.islands_interval or (0, 0)
        assert f" {row.islands} [{low}, {high}] " in lines[0] and f"{row.tangle:.2f} [" in lines[0]
        assert lines[0].split()[-2:] == [f"{value:,}" for value in betti]

    def test_repr_is_short_for_a_deep_net_that_was_watched(self) -> None:
        torch.manual_seed(0)
        with Monitor(mlp(3, 2, depth=9), rings(), scale=SCALE, background=False) as monitor:
            monitor.record(4)
        text = repr(monitor.profile)
        assert "2 epochs from 0 to 4" in text and len(text.splitlines()) == 15
        assert f"... {len(monitor.profile.layers()) - 12} more" in text

    def test_html_escapes_names(self) -> None:
        model = nn.Sequential()
        model.add_module("<b>", nn.Linear(3, 2))
        page = measure(model, rings(), by="layer", scale=SCALE)._repr_html_()
        assert "<b>" not in page and "&lt;b&gt;" in page and page.count("<tr>") == 3
        assert page.startswith("<p>Pieces and loops of all samples fell from 12 at the input to 9 in ")


def test_rows_are_made_of_what_json_knows() -> None:
    row = measure(net(), rings(), by="layer", scale=SCALE, nulls=1).untangling[0]
    assert isinstance(row, UntanglingRow)
    kinds = {type(value) for value in vars(row).values()}
    assert kinds == {type(None), str, int, float, tuple}
    assert {type(member) for member in row.members} == {int}
