"""Rows, comparisons and what is said of both: by hand, from trials with known curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from unknot.core.errors import InputError
from unknot.study.overview import study_overview
from unknot.study.results import RowInWords, compare_rows, rows_in_words, summarize_trials
from unknot.study.study import Study
from unknot.study.survival import compare
from unknot.study.trials import SELECTION_SEED, Curve, TopologyRow, Trial, TrialFile, TrialSettings

SETTINGS = TrialSettings("mlp 2 x 8", 20, 32, 0.99, 0.9, "[]", 0, "digest")


def trial(activation: str, seed: int, reaches: float, topology: tuple[TopologyRow, ...] = ()) -> Trial:
    """At 0.9 on train and test samples after ``reaches`` epochs, at 0.99 on train after twice as many."""
    epochs = (reaches / 2, reaches, 2 * reaches)
    curve = Curve(epochs, (0.5, 0.9, 0.99), (0.4, 0.9, 0.9), "done")
    return Trial("rings", activation, 1e-3, 1.0, seed, SETTINGS, curve, topology)


def censored(activation: str, seed: int) -> Trial:
    curve = Curve((10.0, 20.0), (0.5, 0.6), (0.5, 0.5), "cap")
    return Trial("rings", activation, 1e-3, 1.0, seed, SETTINGS, curve)


TRIALS = [
    *(trial("relu", seed, reaches) for seed, reaches in enumerate((6, 8, 10))),
    *(trial("zfold", seed, reaches) for seed, reaches in enumerate((2, 2, 5))),
    trial("sine", 0, 4), censored("sine", 1), censored("sine", 2),
    trial("relu", SELECTION_SEED, 1),
]  # fmt: skip


def test_rows_are_the_reported_seeds_at_targets_that_were_trained_for() -> None:
    rows = {(row.activation, row.target): row for row in summarize_trials(TRIALS, [0.9, 0.99, 0.999])}
    assert set(rows) == {(a, t) for a in ("relu", "zfold", "sine") for t in (0.9, 0.99)}
    assert rows["relu", 0.9].epochs == (6, 8, 10) and rows["relu", 0.9].median == 8
    assert rows["relu", 0.99].epochs == (12, 16, 20)
    assert rows["sine", 0.9].epochs == (4, None, None)
    assert (rows["sine", 0.9].reached, rows["sine", 0.9].seeds, rows["sine", 0.9].median) == (1, 3, None)
    assert (rows["relu", 0.9].cap, rows["relu", 0.9].net) == (20, "mlp 2 x 8")
    on_test = summarize_trials(TRIALS, iter([0.9, 0.99]), split="test")
    assert [(row.activation, row.target, row.split) for row in on_test] == [
        ("relu", 0.9, "test"), ("zfold", 0.9, "test"), ("sine", 0.9, "test"),
    ]  # fmt: skip


def test_comparisons_meet_the_baseline_of_their_set_target_and_split() -> None:
    rows = (*summarize_trials(TRIALS, [0.9, 0.99]), *summarize_trials(TRIALS, [0.9], split="test"))
    comparisons = {(c.activation, c.target, c.split): c.result for c in compare_rows(rows, "relu")}
    assert set(comparisons) == {
        (a, *where)
        for a in ("zfold", "sine")
        for where in ((0.9, "train"), (0.99, "train"), (0.9, "test"))
    }
    alone = compare([6, 8, 10], [2, 2, 5], caps=(20, 20))
    assert comparisons["zfold", 0.9, "train"].ratio == alone.ratio == 4
    assert comparisons["zfold", 0.9, "train"].p == alone.p
    # Two comparisons a target: Holm doubles the smaller p-value.
    pair = [comparisons[a, 0.9, "train"] for a in ("zfold", "sine")]
    smaller = min(pair, key=lambda result: result.p)
    assert smaller.p_holm == pytest.approx(min(1.0, 2 * smaller.p))
    with pytest.raises(
        InputError, match=r"baseline 'elu': expected one of relu, zfold, sine; run it too"
    ):
        compare_rows(rows, "elu")


def test_rows_in_words() -> None:
    rows = summarize_trials(TRIALS, [0.9])
    texts = {text.row.activation: text for text in rows_in_words(rows, compare_rows(rows, "sine"))}
    assert texts["sine"] == RowInWords(rows[2], "not reached in 20 epochs", "[4 to not reached]", "", "")
    zfold = texts["zfold"]
    assert (zfold.median, zfold.range) == ("2", "[2 to 5]")
    assert zfold.ratio == ">= 10.00" and zfold.p.startswith("0.")
    against_relu = {text.row.activation: text for text in rows_in_words(rows, compare_rows(rows, "relu"))}
    assert against_relu["sine"].ratio == "not reached"
    assert [text.ratio for text in rows_in_words(rows)] == [""] * 3


def test_an_overview_has_the_usual_targets_baseline_and_both_splits(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    with pytest.raises(InputError, match="which is not there: expected the file of a study that was run"):
        study_overview(study)
    TrialFile(study.path).add(TRIALS)
    overview = study_overview(study)
    assert {(row.target, row.split) for row in overview.rows} == {
        (0.95, "train"), (0.99, "train"), (0.9, "test"),
    }  # fmt: skip
    assert {c.baseline for c in overview.comparisons} == {"relu"}
    assert overview.comparisons == (
        *study.compare("relu", [0.95, 0.99]), *study.compare("relu", [0.9], split="test"),
    )  # fmt: skip
    assert overview.predicts is None and overview.falls == overview.untangling == ()
    chosen = study_overview(study, baseline="zfold", targets=[0.9], test_targets=[])
    assert [(row.target, row.split) for row in chosen.rows] == [(0.9, "train")] * 3
    assert {c.baseline for c in chosen.comparisons} == {"zfold"}
    with pytest.raises(InputError, match="baseline 'tanh'"):
        study_overview(study, baseline="tanh")


def test_an_overview_has_the_falls_and_what_they_predict(tmp_path: Path) -> None:
    def falling(activation: str, reaches: float) -> Trial:
        rows = tuple(
            TopologyRow(epoch, layer, None, 50, 9 if epoch < reaches else 1, 0)
            for epoch in (0, 1, 2, 4, 8, 10)
            for layer in ("act1", "act2")
        )
        return trial(activation, 0, reaches, rows)

    TrialFile(tmp_path / "s.sqlite").add([falling("relu", 2), falling("tanh", 4), falling("elu", 8)])
    overview = study_overview(Study(tmp_path / "s.sqlite"))
    assert {row.layer for row in overview.untangling} == {"all", "act1", "act2"}
    falls = {row.activation: row for row in overview.falls if row.which == "b0"}
    assert {name: row.median for name, row in falls.items()} == {"relu": 2, "tanh": 4, "elu": 8}
    assert (falls["relu"].before, falls["relu"].after) == (18, 2)
    assert overview.predicts is not None and overview.predicts.rho == pytest.approx(1.0)
