"""What is measured beside the layers: the samples themselves, small classes, and what options take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unknot as uk
from unknot.nets.probe import Probe
from unknot.profiles.options import MeasureOptions, MonitorOptions
from unknot.pruning.scoring.betti import conv_outputs
from unknot.report.profile import profile_view
from unknot.study.trials import TopologyRow
from unknot.study.untangling import _hidden

SCALE = uk.Scale(k=6, hops=1)


def points(n: int = 40) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


class Named(nn.Module):
    """Its first layer is called as the samples are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.input, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(self.input(x).tanh())
        return scores


def test_a_module_called_input_is_told_from_the_samples() -> None:
    model, x = Named(), points()
    with torch.no_grad():
        hidden = model.input(x).numpy()
    expected = [uk.betti_numbers(uk.knn_graph(p, k=6, hops=1)).values for p in (x.numpy(), hidden)]
    rows = uk.measure(model, x, by="layer", scale=SCALE).rows
    assert [row.layer for row in rows] == ["input of the model", "input", "out"]
    assert [(row.b0, row.b1) for row in rows[:2]] == expected
    with uk.Monitor(model, x, by="layer", scale=SCALE, background=False) as monitor:
        monitor.record(1)
    names = [(row.epoch, row.layer) for row in monitor.profile.rows]
    assert names == [(e, n) for e in (0, 1) for n in ("input of the model", "input", "out")]
    assert {(r.b0, r.b1) for r in monitor.profile.rows if r.layer == "input"} == {expected[1]}


def test_the_samples_are_left_out_of_what_is_untangled_whatever_they_are_called() -> None:
    named = [TopologyRow(0, name, 0, 9, 1, 1) for name in ("input of the model", "input", "act1")]
    assert [row.layer for row in _hidden(named)] == ["input", "act1"]
    assert [row.layer for row in _hidden(named[1:])] == ["act1"]


def test_a_convolution_called_input_gives_its_own_filters() -> None:
    model = nn.Sequential()
    model.add_module("input", nn.Conv2d(1, 4, 3))
    x = torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    profile = uk.measure(model, x, by="filter", scale=SCALE)
    assert [(row.layer, row.filter) for row in profile.rows] == [("input", i) for i in range(4)]
    with torch.no_grad():
        maps = model(x).flatten(2).numpy()
    values = [uk.betti_numbers(uk.knn_graph(maps[:, i], k=6, hops=1)).values for i in range(4)]
    assert [(row.b0, row.b1) for row in profile.rows] == values
    (output,) = conv_outputs(model, ["input"], Probe(x))
    assert output.values.shape == (30, 4, 4, 4)


def test_classes_with_fewer_samples_than_k_are_named_with_the_k_they_get() -> None:
    labels = torch.tensor([0] * 30 + [1] * 6 + [2] * 3 + [3])
    profile = uk.measure(uk.nets.mlp(3, 4, depth=1), (points(), labels), scale=SCALE)
    assert profile.notes == (
        "class 1 has 6 samples: k = 5 there, not 6",
        "class 2 has 3 samples: k = 2 there, not 6",
        "class 3 has 1 sample: k = 1 there, not 6",
    )
    used = {(row.label, row.scale.k) for row in profile.rows if row.layer == "input"}
    assert used == {(0, 6), (1, 5), (2, 2), (3, 1)}
    rows = [row for row in profile.rows if row.layer == "input"]
    assert [row.note for row in rows[:3]] == ["", *["k lowered: few distinct points"] * 2]
    assert "k=2" in repr(rows[2])
    assert uk.betti_numbers(uk.knn_graph(points()[36:39].numpy(), k=2, hops=1)).values == (
        rows[2].b0, rows[2].b1,
    )  # fmt: skip
    view = profile_view("p", profile)
    assert [str(scale) for scale in view["by_layer"][0]["scales"]] == [
        f"k={k}, hops=1" for k in (6, 5, 2, 1)
    ]
    few = uk.measure(uk.nets.mlp(3, 2, depth=1), points(5), by="layer", scale=SCALE)
    assert few.notes == ("the probe has 5 samples: k = 4 there, not 6",)
    assert uk.measure(uk.nets.mlp(3, 2, depth=1), points(), by="layer", scale=SCALE).notes == ()
    radius = uk.measure(uk.nets.mlp(3, 2), points(5), by="layer", scale=uk.Scale(radius=0.5))
    assert radius.notes == ()


@pytest.mark.parametrize("layers", [5, [], (), None, [5], {"a": 1}, b"x", torch.tensor(1)])
def test_layers_that_are_no_globs(layers: Any) -> None:
    with pytest.raises(uk.InputError, match="expected a glob over module names, or several") as caught:
        uk.measure(uk.nets.mlp(3, 2), points(), by="layer", scale=SCALE, layers=layers)
    assert "\n" not in str(caught.value)


def test_a_generator_of_globs_is_read_once() -> None:
    options = MeasureOptions(layers=(name for name in ("act*", "out")))
    assert options.layers == ("act*", "out") and replace(options, seed=1).layers == ("act*", "out")


def test_resume_needs_a_file_and_a_single_listener_will_do(tmp_path: Path) -> None:
    with pytest.raises(uk.InputError, match="resume = True without out: expected the file to go on"):
        uk.Monitor(uk.nets.mlp(3, 2), points(), by="layer", resume=True)
    seen: list[int | None] = []

    def listen(profile: uk.profiles.TopologyProfile) -> None:
        seen.extend(profile.epochs())

    for listeners in (listen, [listen], iter([listen])):
        options: dict[str, Any] = {"on_record": listeners, "by": "layer", "scale": SCALE}
        with uk.Monitor(uk.nets.mlp(3, 2), points(), background=False, **options) as monitor:
            monitor.record(1)
    assert seen == [0, 1] * 3
    with pytest.raises(uk.InputError, match="on_record = .*: expected functions of a profile"):
        MonitorOptions(on_record=[3])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["", "p.json", "p.jsonl", "p.parquet"])
def test_folders_and_missing_files_are_input_errors(tmp_path: Path, name: str) -> None:
    from unknot.report.page import write_report
    from unknot.report.results import load_result

    profile = uk.measure(uk.nets.mlp(3, 2, depth=1), points(), by="layer", scale=SCALE)
    folder = tmp_path / "folder" / name
    folder.mkdir(parents=True)
    for act in (
        lambda: write_report(folder, profile), lambda: uk.profiles.write_profile(folder, profile),
        lambda: profile.to_json(folder), lambda: type(profile).from_json(folder),
        lambda: uk.profiles.read_profile(folder), lambda: load_result(folder), lambda: uk.Study(folder),
    ):  # fmt: skip
        with pytest.raises(uk.InputError, match="which is a folder") as caught:
            act()
        assert "\n" not in str(caught.value)
    missing = tmp_path / "missing" / (name or "study.sqlite")
    for read in (uk.profiles.read_profile, load_result, type(profile).from_json):
        with pytest.raises(uk.InputError, match="expected a readable file") as caught:
            read(missing)  # type: ignore[operator]
        assert isinstance(caught.value, FileNotFoundError)
    (tmp_path / "file").touch()
    for write, usual in ((write_report, "page.html"), (uk.profiles.write_profile, "p.json")):
        with pytest.raises(uk.InputError) as caught:
            write(tmp_path / "file" / (name or usual), profile)  # type: ignore[operator]
        assert isinstance(caught.value, OSError) and "\n" not in str(caught.value)
    with pytest.raises(uk.InputError, match="is no folder"):
        uk.Study(tmp_path / "file" / "study.sqlite")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}
    assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize("argument", ["folder", "missing.json", "missing.sqlite"])
def test_the_command_report_says_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str
) -> None:
    from unknot.cli.app import main

    (tmp_path / "folder").mkdir()
    uk.measure(uk.nets.mlp(3, 2, depth=1), points(), by="layer", scale=SCALE).to_json(tmp_path / "p.json")
    for arguments in (
        [str(tmp_path / argument), "--out", str(tmp_path / "r.html")],
        [str(tmp_path / "p.json"), "--out", str(tmp_path / "folder")],
    ):
        with pytest.raises(SystemExit) as left:
            main(["report", *arguments])
        error = capsys.readouterr().err
        assert left.value.code == 2 and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "r.html").exists()


def test_numpy_numbers_are_numbers() -> None:
    x = points()
    plain = uk.measure(uk.nets.mlp(3, 2, depth=0), x, by="layer", scale=SCALE, max_points=20, seed=3)
    torch.manual_seed(0)
    again = uk.measure(
        uk.nets.mlp(3, 2, depth=0), x.numpy(), by="layer", scale=uk.Scale(k=np.int64(6), hops=1),  # type: ignore[arg-type]
        max_points=np.int64(20), seed=np.int64(3),  # type: ignore[arg-type]
    )  # fmt: skip
    assert plain.rows[:1] == again.rows[:1]
