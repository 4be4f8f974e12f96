"""The report: what it shows, that names stay text, that nothing is loaded from outside, that it draws."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.page import page
from helpers.results import (
    HOSTILE,
    KNN,
    UNDETERMINED,
    everything,
    filter_profile,
    full_profile,
    hostile_results,
    outcome,
    plan,
    profile,
    scores,
    study_rows,
)

import unknot as uk
from unknot.nets.data import LabelledData
from unknot.profiles.journal import write_profile
from unknot.profiles.profile import ProfileRow
from unknot.profiles.projection import CloudView
from unknot.pruning.pipeline import Shrunk
from unknot.report.page import write_report
from unknot.report.results import load_result


def test_every_result_has_its_section_and_no_other(tmp_path: Path) -> None:
    assert page(tmp_path, profile()).headings == ["In short", "See"]
    assert page(tmp_path, study_rows()).headings == ["In short", "Speed up"]
    for result in (scores(), plan(), outcome()):
        assert page(tmp_path, result).headings == ["In short", "Shrink"]
    small = Shrunk(torch.nn.Identity(), scores(), plan(), outcome())
    for given in (small, ("mine", small)):
        shown, apart = page(tmp_path, given), page(tmp_path, scores(), plan(), outcome())
        assert shown.headings == ["In short", "Shrink"] and shown.plots == apart.plots
    assert page(tmp_path, *reversed(everything())).headings == ["In short", "See", "Speed up", "Shrink"]


def test_a_profile_shows_its_scale_points_seed_and_versions(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, ("my net", profile())).text.split())
    for shown in (
        "my net", "k = 14 nearest neighbours, hops = 2 determined", "(11 of 12 clouds)",
        "k = 9 nearest neighbours, hops = 1 undetermined no plateau of k", "n = 731 to 732",
        "4711", "unknot 0.0.7 · torch 2.99",
    ):  # fmt: skip
        assert shown in text


def test_the_data_of_a_profile_is_by_epoch_class_and_layer(tmp_path: Path) -> None:
    twice = replace(profile().rows[0], call=1, b0=3, b2=2)
    rows = (*profile().rows, twice)
    grid = page(tmp_path, replace(profile(), rows=rows)).plots["profiles"][0]["lines"]
    assert isinstance(grid, dict)
    assert grid["layers"] == ["input", "act1", "out", "input (call 2)"]
    assert grid["betti"]["b0"] == [[[9, 9], [9, 9], [9, 9], [3]], [[8, 8], [8, 8], [8, 8], []]]
    assert grid["betti"]["b2"][0] == [[None, None], [None, None], [None, None], [2]]
    assert grid["points"] == [[[731, 732]] * 3 + [[731]], [[731, 732]] * 3 + [[]]]
    assert grid["doubtful"] == [False, True]


def test_filters_are_drawn_as_a_heat_map(tmp_path: Path) -> None:
    plot = page(tmp_path, filter_profile()).plots["profiles"][0]
    assert plot["lines"] is None
    assert isinstance(plot["heat"], dict)
    assert plot["heat"]["tracks"] == [0, 1, 2, 3, 4]
    assert plot["heat"]["betti"]["b0"] == [[[1, 2, 3], [1, 2, 3, 4, 5]]]


def test_what_an_epoch_repeats_is_left_out(tmp_path: Path) -> None:
    grid = page(tmp_path, replace(profile(epochs=3), rows=profile(epochs=3).rows[:-1])).plots["profiles"][
        0
    ]
    assert isinstance(grid["lines"], dict)
    assert [of is None for of in grid["lines"]["points"]] == [False, True, False]


def test_an_undetermined_scale_is_said_at_the_plot_and_in_the_box(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, profile()).text.split())
    assert "Scale undetermined for out (k=9, hops=1: no plateau of k)." in text
    rows = tuple(replace(row, scale=UNDETERMINED) for row in profile().rows)
    text = " ".join(page(tmp_path, replace(profile(), rows=rows)).text.split())
    assert "Scale undetermined for every layer output" in text
    settled = tuple(replace(row, scale=KNN) for row in profile().rows)
    assert "Scale undetermined" not in page(tmp_path, replace(profile(), rows=settled)).text


def test_intervals_are_drawn_and_explained(tmp_path: Path) -> None:
    rows = tuple(replace(row, intervals=((row.b0 - 1, row.b0 + 2), (0, 90))) for row in profile().rows)
    shown = page(tmp_path, replace(profile(), rows=rows))
    grid = shown.plots["profiles"][0]["lines"]
    assert isinstance(grid, dict)
    assert grid["low"]["b0"][0][0] == [8, 8] and grid["high"]["b1"][1][2] == [90, 90]
    assert "the interval over repeated subsamples" in shown.text
    assert "the interval over repeated subsamples" not in page(tmp_path, profile()).text


def test_how_it_was_measured_is_on_the_page(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, full_profile()).text.split())
    for shown in (
        "One cloud for eachclass", "Layersact*", "Tokensmean", "Samples600", "Seed4711",
        "norm2 never ran", "constant (out)", "inputk = 14 nearest neighbours, hops = 2 determined",
        "before training", "accuracy on the measured samples", "accuracy given by the caller",
    ):  # fmt: skip
        assert shown in text


def test_clouds_come_back_within_a_thousandth(tmp_path: Path) -> None:
    (plot,) = page(tmp_path, full_profile()).plots["profiles"]
    assert isinstance(plot["clouds"], dict)
    view = plot["clouds"]["layers"][0]["views"][1]
    coordinates = np.frombuffer(base64.b64decode(view["points"]), "<i2").reshape(-1, 3) * view["step"]
    assert np.abs(coordinates - np.array(full_profile().views[3].points)).max() <= 5e-4
    assert plot["clouds"]["labels"] == [[0, 1] * 10]
    assert view["epoch"] == 1 and view["explained"] == 0.87


def test_sensitivity_is_a_grid_for_each_rule(tmp_path: Path) -> None:
    (plot,) = page(tmp_path, full_profile()).plots["profiles"]
    assert isinstance(plot["sensitivity"], list)
    knn, radius = plot["sensitivity"]
    assert (knn["x"], knn["y"], knn["chosen"]) == ([7, 14], [1, 2], [14, 2])
    assert knn["b0"] == [[[7, 14], [8, 15]], [[7, 14], [8, None]]]
    assert (radius["x"], radius["chosen"], radius["b1"]) == ([0.5, 1.0], None, [[[0, 1]]])


def test_a_long_training_of_many_layers_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = tuple(int(c) for c in rng.integers(0, 10, 300))
    views = [
        CloudView(
            epoch, f"layer{i}", 0, labels, tuple(map(tuple, rng.normal(size=(300, 3)).round(3))), 0.5
        )
        for epoch in range(50)
        for i in range(8)
    ]
    rows = [
        ProfileRow(
            epoch, f"layer{i}", 0, label, None, 1000, *rng.integers(0, 2000, 2).tolist(), None, KNN
        )
        for epoch in range(50)
        for i in range(60)
        for label in range(10)
    ]
    written = write_report(
        tmp_path / "report.html", replace(profile(), rows=tuple(rows), views=tuple(views))
    )
    assert written.stat().st_size < 8e6


def test_what_was_not_reached_has_no_number(tmp_path: Path) -> None:
    text = " ".join(page(tmp_path, study_rows()).text.split())
    assert "relu99 %not reached [47 to not reached]1 / 30.0011" in text
    assert "zfold99 %13 [11 to not reached]2 / 30.0030.5" in text
    assert "zfold95 %6 [5 to 8]3 / 3" in text


def test_pruning_shows_scores_scale_reasons_and_costs(tmp_path: Path) -> None:
    shown = page(tmp_path, scores(), plan(), outcome())
    text = " ".join(shown.text.split())
    for part in (
        "2 of 5 go, by betti", "0 to 300", "radius = 1.25", "2% quantile", "396",
        "its channels are the model's output", "Betti number 300 > 150",
        "forward pass of 64 samples where no other batch is named, on cpu, 2 threads",
        "99.44%92.50%0.93", "56,71422,9420.40", "29,532,16010,048,1280.34", "228,16092,6160.41",
        "0.647 [0.073]0.522 [0.073]0.81",
    ):  # fmt: skip
        assert part in text
    (plot,) = shown.plots["filters_of"]
    assert plot["threshold"] == 150
    assert isinstance(plot["layers"], list)
    assert [reason is not None for reason in plot["layers"][0]["reasons"]] == [False, False, True, True]


def test_a_plan_is_drawn_over_the_scores_that_it_fits(tmp_path: Path) -> None:
    ranked = replace(plan(), reasons={"conv1": ["betti 200, rank 2 of 4", "betti 300, rank 1 of 4"]})
    plots = page(tmp_path, ("a", plan()), ("b", ranked), scores("other"), scores()).plots["filters_of"]
    assert [plot["planned"] for plot in plots] == [True, True, False]
    assert [plot["threshold"] for plot in plots] == [150, None, None]


def test_a_plan_without_reasons_still_shows_what_goes(tmp_path: Path) -> None:
    (plot,) = page(tmp_path, scores(), replace(plan(), reasons={})).plots["filters_of"]
    assert isinstance(plot["layers"], list)
    assert plot["layers"][0]["reasons"] == [None, None, "", ""]


def test_names_stay_text(tmp_path: Path) -> None:
    plain = page(tmp_path, *everything())
    hostile = page(tmp_path, *hostile_results(), title=HOSTILE)
    assert hostile.tags.count("script") == plain.tags.count("script") == 4
    assert "img" not in hostile.tags
    assert hostile.text.count(HOSTILE) > 8


def test_nothing_is_loaded_from_outside(tmp_path: Path) -> None:
    written = page(tmp_path, *everything())
    assert written.addresses == ["data:,"]
    ours = [code for code in written.code if "Plotly, Inc" not in code]
    assert not any("http" in code or "@import" in code or "url(" in code for code in ours)
    assert (tmp_path / "report.html").stat().st_size < 10e6


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_report(tmp_path / "taken", profile())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_report(tmp_path / "file" / "report.html", profile())
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "file"}
    assert not any((tmp_path / "taken").iterdir())


def test_bad_results_are_refused_in_one_line(tmp_path: Path) -> None:
    bad: list[tuple[object, ...]] = [
        (), (3,), ("profile.json",), ({"rows": []},), (profile(), None), (("name", 3),), ([],),
        ([study_rows()[0], 3],), (replace(profile(), rows=()),), (uk.Study(tmp_path / "empty.sqlite"),),
    ]  # fmt: skip
    for results in bad:
        with pytest.raises(uk.InputError, match=r"^[^\n]+: expected [^\n]+; [^\n]+$"):
            write_report(tmp_path / "report.html", *results)
    assert not (tmp_path / "report.html").exists()


def test_saved_results_come_back(tmp_path: Path) -> None:
    for result in (profile(), scores(), plan(), outcome()):
        result.to_json(tmp_path / "result.json")
        assert load_result(tmp_path / "result.json") == result
    study = uk.Study(tmp_path / "study.sqlite")
    inputs = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 8)
    study.run({"two": (inputs, torch.tensor([0, 1] * 8))}, ["relu"], seeds=2, epochs=1, width=4, depth=1)
    loaded = load_result(tmp_path / "study.sqlite")
    assert isinstance(loaded, uk.Study)
    assert loaded.summary() == study.summary()
    assert "0 / 2" in page(tmp_path, loaded).text or "2 / 2" in page(tmp_path, loaded).text


def test_a_study_shows_survival_comparisons_and_falling_betti_numbers(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "study.sqlite")
    inputs = torch.randn(120, 2, generator=torch.Generator().manual_seed(0))
    data = {"halves": LabelledData("halves", inputs[:90], (inputs[:90, 0] > 0).long(), inputs[90:],
                                   (inputs[90:, 0] > 0).long())}  # fmt: skip
    study.run(data, ["tanh", "relu", "zfold"], seeds=3, epochs=8, width=8, depth=1, batch_size=16,
              learning_rates=[1e-2], gains=[1.0], stop_at=0.96, test_target=0.99, topology=1)  # fmt: skip
    text = " ".join(page(tmp_path, study).text.split())
    for part in (
        "halves: share of the runs that have not reached the target yet (Kaplan",
        "times fewer than relu", "corrected for all comparisons of a target (Holm)", "95 %", "99 % test",
        "Betti numbers of the class clouds along the training",
    ):  # fmt: skip
        assert part in text


def test_a_study_shows_scores_by_budget(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "study.sqlite")
    inputs = torch.randn(120, 2, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long()
    data = {"<halves>": ((inputs[:90], labels[:90]), (inputs[90:], labels[90:]))}
    told = {"at": (1, 2), "seeds": 6, "width": 8, "depth": 1, "batch_size": 16, "learning_rates": [1e-2]}
    study.run_budgets(data, ["tanh", "relu"], **told, gains=[1.0])
    for shown in (study, study.budgets()):
        found = page(tmp_path, shown)
        text = " ".join(found.text.split())
        assert found.headings == ["In short", "Speed up"] and "Epochs to target" not in text
        for part in (
            "accuracy on test samples after so many epochs, cosine",
            "2 epochs, cosine",
            "<halves>",
        ):
            assert part in text
    study.run(data, ["relu"], seeds=1, epochs=1, learning_rates=[1e-2], gains=[1.0])
    text = " ".join(page(tmp_path, study).text.split())
    for part in (
        "Epochs to target accuracy",
        "How good after a budget",
        "corrected for all comparisons of a budget",
    ):
        assert part in text


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_a_profile_comes_back_from_every_format(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    write_profile(tmp_path / f"profile.{suffix}", full_profile())
    loaded = load_result(tmp_path / f"profile.{suffix}")
    assert isinstance(loaded, uk.profiles.TopologyProfile)
    assert (loaded.rows, loaded.views) == (full_profile().rows, full_profile().views)
    assert page(tmp_path, loaded).headings == ["In short", "See"]
    (tmp_path / f"foreign.{suffix}").write_text('{"songs": []}\n')
    with pytest.raises(uk.InputError, match="written by unknot"):
        load_result(tmp_path / f"foreign.{suffix}")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"unknot": "model"}', "SQLite format 3", "\x00\xff"])
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(uk.InputError, match="written by unknot"):
        load_result(tmp_path / "file")


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE songs (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(uk.InputError, match="written by unknot"):
        load_result(path)
    assert path.read_bytes() == before


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        load_result(tmp_path / "missing.sqlite")
    assert not any(tmp_path.iterdir())


def test_a_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for read in (load_result, uk.profiles.read_profile):
        for folder in (tmp_path, tmp_path / "folder.jsonl"):
            with pytest.raises(
                uk.InputError, match="which is a folder: expected a file; name one"
            ) as caught:
                read(folder)
            assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_names_end_as_what_they_hold(tmp_path: Path) -> None:
    for write in (
        lambda: write_report(tmp_path / "page.json", profile()),
        lambda: write_profile(tmp_path / "profile.txt", profile()),
        lambda: scores().to_json(tmp_path / "scores"),
        lambda: profile().to_json(tmp_path / "profile.jsonl"),
    ):
        with pytest.raises(uk.InputError, match=r"^path = [^\n]+: expected a name that ends in [^\n]+$"):
            write()
    assert not any(tmp_path.iterdir())
