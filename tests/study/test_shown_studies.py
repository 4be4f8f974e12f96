"""What a study draws, and says as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import unknot as uk
from unknot.study.results import StudyRow, StudyRows, compare_rows
from unknot.study.survival import median_interval, survival_curve
from unknot.study.trials import SELECTION_SEED, Curve, Trial, TrialFile, TrialSettings

SETTINGS = TrialSettings("mlp 2 x 8", 20, 32, 0.99, None, "[]", 0, "digest")


def trial(activation: str, seed: int, reaches: float | None) -> Trial:
    epochs, ended = ((20.0,), "cap") if reaches is None else ((reaches,), "done")
    curve = Curve(epochs, (0.5 if reaches is None else 0.995,), (), ended)
    return Trial("rings", activation, 1e-3, 2.0, seed, SETTINGS, curve)


@pytest.fixture
def study(tmp_path: Path) -> uk.Study:
    reached = {"relu": (9, None, 15.0), "zfold": (4, 5, 6.5)}
    trials = [trial(a, seed, t) for a, times in reached.items() for seed, t in enumerate(times)]
    TrialFile(tmp_path / "study.sqlite").add([*trials, trial("relu", SELECTION_SEED, 2)])
    return uk.Study(tmp_path / "study.sqlite")


def row(
    activation: str, epochs: tuple[float | None, ...], data: str = "rings", target: float = 0.99
) -> StudyRow:
    known = sorted(epochs, key=lambda t: np.inf if t is None else t)
    reached = sum(t is not None for t in epochs)
    return StudyRow(
        data, activation, 1e-3, 1.0, target, len(epochs), reached, epochs, known[len(epochs) // 2], cap=20
    )


def offsets(marks: Any) -> list[list[float]]:
    return [list(map(float, point)) for point in marks.get_offsets()]


def test_a_strip_has_one_mark_a_seed_and_those_not_reached_in_a_band(study: uk.Study, drawn: Any) -> None:
    axes = study.plot()
    assert axes.get_title() == "epochs to 99 % train accuracy"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["relu", "zfold"]
    relu, missed, median, zfold, second = axes.collections
    assert [x for x, _ in offsets(relu)] == [9, 15]
    assert [x for x, _ in offsets(zfold)] == [4, 5, 6.5]
    ((past, _),) = offsets(missed)
    assert past > 15 and missed.get_facecolor().size == 0  # hollow
    assert axes.patches[0].get_x() > 15  # the band
    assert [t.get_text() for t in axes.texts] == ["not reached in 20 epochs"]
    for lines, epochs in ((median, 15), (second, 5)):
        assert lines.get_segments()[0][:, 0].tolist() == [epochs, epochs]
    assert not np.array_equal(relu.get_facecolor(), zfold.get_facecolor())


def test_the_interval_of_a_median_is_drawn_where_there_is_one(drawn: Any) -> None:
    times = (1.0, 2.0, 3.0, 4.0, 5.0, None)
    axes = StudyRows([row("relu", times)]).plot()
    *_, interval = axes.collections
    (ends,) = interval.get_segments()
    assert ends[0].tolist() == [1, 0] and ends[1][0] == axes.patches[0].get_x() > 5
    few = StudyRows([row("relu", (1.0, 2.0, 3.0))]).plot()
    assert len(few.collections) == 2 and not few.texts and not few.patches


@pytest.mark.parametrize("n", [5, 6, 9, 20, 41])
def test_the_interval_is_that_of_the_sign_test(n: int) -> None:
    found = median_interval([float(t) for t in range(1, n + 1)])
    inside = [k for k in range(n + 1) if stats.binomtest(k, n, 0.5).pvalue > 0.05]
    if inside[0] == 0:
        assert found == (None, None)
    else:
        # So many of n on one side of the median are not rejected: it lies between these.
        assert found == (inside[0], n + 1 - inside[0])


def test_survival_curves(study: uk.Study, drawn: Any) -> None:
    axes = study.plot(kind="survival")
    relu, zfold = axes.get_lines()
    assert relu.get_xdata().tolist() == [0, 9, 15, 20]
    assert relu.get_ydata().tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    assert zfold.get_xdata().tolist() == [0, 4, 5, 6.5] and zfold.get_ydata()[-1] == 0
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["relu", "zfold"]
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] >= 20
    alone = survival_curve([9, None, 15], 20).plot()
    assert alone.get_lines()[0].get_ydata().tolist() == relu.get_ydata().tolist()


def test_rows_that_look_alike_are_told_apart(drawn: Any) -> None:
    rows = StudyRows([row("relu", (3.0,)), row("relu", (4.0,), "discs"), row("sine", (None,), "discs")])
    names = [t.get_text() for t in rows.plot().get_yticklabels()]
    assert names == ["rings, relu", "discs, relu", "discs, sine"]
    cells = StudyRows([row("relu", (3.0,)), row("relu", (4.0,))])
    (legend,) = {t.get_text() for t in cells.plot(kind="survival").get_legend().get_texts()}
    assert legend == "relu (rate 0.001, gain 1)"


def test_a_target_that_is_not_there_is_one_line(study: uk.Study) -> None:
    rows = StudyRows([row("relu", (3.0,), target=0.5), row("relu", (4.0,), target=0.9)])
    with pytest.raises(uk.InputError, match=r"target = 0.99 on train samples: expected one of 0.5, 0.9"):
        rows.plot(target=0.99)
    with pytest.raises(uk.InputError, match="expected rows on test samples"):
        study.plot(split="test")
    with pytest.raises(uk.InputError, match="kind = 'bars'"):
        study.plot(kind="bars")  # type: ignore[arg-type]
    with pytest.raises(uk.InputError, match="expected rows on train samples"):
        StudyRows().plot()


def test_the_usual_target_is_drawn_else_the_highest(study: uk.Study, drawn: Any) -> None:
    rows = StudyRows([row("relu", (3.0,), target=t) for t in (0.5, 0.99, 0.995)])
    assert rows.plot().get_title() == "epochs to 99 % train accuracy"
    assert StudyRows(rows[:1]).plot().get_title() == "epochs to 50 % train accuracy"
    assert study.plot(target=0.4).get_title() == "epochs to 40 % train accuracy"


def test_frames(study: uk.Study) -> None:
    pytest.importorskip("pandas")
    trials = study.to_frame()
    assert trials["activation"].tolist() == ["relu"] * 4 + ["zfold"] * 3
    assert trials["reported"].tolist() == [True] * 3 + [False] + [True] * 3
    assert trials["ended"].tolist()[:3] == ["done", "cap", "done"]
    assert trials["epochs"].tolist() == [9, 20, 15, 2, 4, 5, 6.5]
    assert trials["test_accuracy"].isna().all() and set(trials["net"]) == {"mlp 2 x 8"}
    summary = study.summary([0.99]).to_frame()
    assert summary["reached"].tolist() == [2, 3] and summary["median"].tolist() == [15, 5]
    assert summary["epochs"].tolist() == [(9, None, 15), (4, 5, 6.5)]
    compared = study.compare("relu", [0.99])
    assert compared.to_frame()["ratio"].tolist() == [compared[0].result.ratio]
    curve = study.trials()[0].curve.to_frame()
    assert curve.values.tolist()[0][:2] == [9, 0.995]


def test_a_new_study_ends_like_a_database_and_one_that_is_there_as_it_does(study: uk.Study) -> None:
    with pytest.raises(
        uk.InputError, match=r"ends in \.sqlite, \.sqlite3, \.db; pass e\.g\. new\.sqlite"
    ):
        uk.Study(study.path.with_name("new.json"))
    assert len(uk.Study(study.path.rename(study.path.with_name("old.study"))).trials()) == 7


def test_what_a_study_says(study: uk.Study) -> None:
    assert repr(study) == f"Study({str(study.path)!r}: 7 trials)"
    assert study._repr_html_().count("<tr>") == 1 + 2 * 2  # two targets: 95 and 99 %
    empty = uk.Study(study.path.with_name("new.sqlite"))
    assert "0 trials" in repr(empty) and "<td" not in empty._repr_html_()
    assert repr(study.summary([0.99])).splitlines()[0] == "2 rows"


def test_comparisons_have_their_intervals(drawn: Any) -> None:
    base = (8.0, 9.0, 10.0, 11.0, 12.0, 13.0)
    rows = [row("relu", base), row("half", tuple(t / 2 for t in base)), row("never", (None,) * 6)]
    found = compare_rows(rows, "relu")
    axes = found.plot()
    interval = axes.get_lines()[0].get_xdata()
    assert list(interval) == [found[0].result.low, found[0].result.high]
    assert offsets(axes.collections[0]) == [[2.0, 0.0]] and len(axes.collections) == 1
    assert [t.get_text() for t in axes.get_yticklabels()] == ["half", "never"]
    assert axes.get_xlabel() == "times fewer epochs than relu"


def test_a_curve(drawn: Any) -> None:
    curve = Curve((1.0, 2.0), (0.5, 0.9), (0.4, 0.8), "done")
    train, test = curve.plot().get_lines()
    assert train.get_ydata().tolist() == [0.5, 0.9] and test.get_ydata().tolist() == [0.4, 0.8]
    with pytest.raises(uk.InputError, match="a curve without rows"):
        Curve((), (), (), "diverged").plot()
