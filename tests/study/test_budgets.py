"""How good after a budget: what is trained, chosen, kept, compared and refused."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import unknot as uk
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData, keep_apart
from unknot.study.budget import tuning
from unknot.study.budget.options import BudgetOptions
from unknot.study.budget.pairs import differences, greater_p
from unknot.study.budget.results import budget_rows, compare_budget_rows, seconds_rows
from unknot.study.budget.task import BudgetTask, run_budget_task
from unknot.study.budget.trials import BudgetCurve, BudgetSettings, BudgetTrial
from unknot.study.budget.tuning import rank_budget_cell
from unknot.study.options import StudyOptions
from unknot.study.stack import NetAlone
from unknot.study.trials import SELECTION_SEED, TrialFile

X = torch.randn(260, 3, generator=torch.Generator().manual_seed(0))
Y, TARGETS = (X[:, 0] * X[:, 1] > 0).long(), 100 + 10 * (X[:, 0] + 0.3 * X[:, 2])
CLASSES = LabelledData("classes", X[:200], Y[:200], X[200:], Y[200:])
NUMBERS = LabelledData("numbers", X[:200], TARGETS[:200], X[200:], TARGETS[200:])
SMALL: dict[str, Any] = {
    "seeds": 2, "at": (1, 2), "learning_rates": (3e-3, 3e-2), "gains": (1.0,), "selection_seeds": 1,
    "width": 8, "depth": 1, "batch_size": 32,
}  # fmt: skip


def options(**change: Any) -> BudgetOptions:
    return BudgetOptions(**{**SMALL, **change})


def trained(data: LabelledData, cell: tuple[float, float], seed: int, **change: Any) -> BudgetTrial:
    told = options(**change)
    task = BudgetTask(data.name, "tanh", nn.Tanh, told, told.settings(data)[-1], (cell,), (seed,))
    return run_budget_task(task, data)[0]


def test_each_budget_has_its_cell_and_is_read_on_test_samples(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    study.run_budgets({"classes": CLASSES, "numbers": NUMBERS}, ["relu", "tanh"], **SMALL)
    rows = study.budgets()
    assert {(r.set, r.activation, r.at) for r in rows} == {
        (s, a, n) for s in ("classes", "numbers") for a in ("relu", "tanh") for n in (1, 2)
    }
    assert {(r.set, r.metric, r.split, r.seeds) for r in rows} == {
        ("classes", "accuracy", "test", 2), ("numbers", "R^2", "test", 2),
    }  # fmt: skip
    for row in rows:
        assert row.median == np.median(row.scores) and row.low is row.high is None
        trials = [
            t for t in study._file.read_kind(BudgetTrial)
            if (t.data, t.activation, t.settings.at) == (row.set, row.activation, (row.at,))
        ]  # fmt: skip
        chosen = {t.cell: [t.curve] for t in trials if not t.reported}
        assert len(chosen) == 2
        best = min(chosen, key=lambda cell: rank_budget_cell(chosen[cell], row.at))
        assert (row.learning_rate, row.gain) == best
    losses = study.budgets(metric="loss")
    assert {r.metric for r in losses} == {"cross entropy", "RMSE"}
    spread = float(NUMBERS.test_labels.std(correction=0))
    for row, loss in zip(rows, losses, strict=True):
        if row.metric == "R^2":
            expected = spread * np.sqrt(1 - np.array(row.scores, dtype=float))
            np.testing.assert_allclose(loss.scores, expected, rtol=1e-4)
    assert "8 trials" not in repr(study) and "by budget" in repr(study)
    assert study._repr_html_().count("<tr>") == 9 and study.trials() == ()


def test_a_trial_is_the_training_that_it_says(tmp_path: Path) -> None:
    """Against torch's own Adam and cosine, and the accuracy measured from outside."""
    trial = trained(CLASSES, (3e-2, 1.0), 3, at=(3,))
    model = options().initialised(CLASSES, nn.Tanh, 1.0, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    steps = 3 * math.ceil(200 / 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator().manual_seed(3)
    for _ in range(3):
        for batch in torch.split(torch.randperm(200, generator=order), 32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(CLASSES.inputs[batch]), CLASSES.labels[batch]).backward()
            optimizer.step()
            schedule.step()
    right = measure_accuracy(model, CLASSES.test_inputs, CLASSES.test_labels)
    assert trial.curve.scores[-1] == pytest.approx(right, abs=0.02)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(CLASSES.test_inputs), CLASSES.test_labels)
    assert trial.curve.losses[-1] == pytest.approx(float(loss), rel=0.01)


def test_a_constant_rate_is_one_training_read_at_every_budget() -> None:
    whole = trained(CLASSES, (1e-2, 1.0), 0, at=(1, 2, 3), schedule="constant")
    assert whole.curve.at == (1, 2, 3)
    for at in (1, 2, 3):
        alone = trained(CLASSES, (1e-2, 1.0), 0, at=(at,), schedule="constant")
        assert alone.curve.scores[-1] == whole.curve.value(at, "score")
    falling = trained(CLASSES, (1e-2, 1.0), 0, at=(3,))
    assert falling.curve.losses[-1] != whole.curve.losses[-1]


def test_cells_are_chosen_on_samples_kept_apart_and_never_on_test_samples(tmp_path: Path) -> None:
    """With test labels that are all wrong the same cell is chosen, and the same nets are trained."""
    cells = []
    for name, test_labels in (("right", CLASSES.test_labels), ("wrong", 1 - CLASSES.test_labels)):
        study = uk.Study(tmp_path / f"{name}.sqlite")
        data = replace(CLASSES, test_labels=test_labels)
        study.run_budgets({"a": data}, ["tanh"], **{**SMALL, "learning_rates": (1e-4, 1e-3, 3e-2)})
        cells.append([(row.at, row.learning_rate, row.scores) for row in study.budgets()])
    assert [c[:2] for c in cells[0]] == [c[:2] for c in cells[1]]
    for (*_, right), (*_, wrong) in zip(*cells, strict=True):
        np.testing.assert_allclose(np.add(right, wrong), 1)
    split = keep_apart(NUMBERS, share=0.2, task="regression")
    assert len(split.test_labels) == 40
    assert abs(split.test_labels.mean() - NUMBERS.labels.mean()) < 0.1 * NUMBERS.labels.std()


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_what_is_there_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any
) -> None:
    ran: list[tuple[str, tuple[float, ...]]] = []
    most = [1]

    def counted(task: BudgetTask, data: LabelledData) -> list[BudgetTrial]:
        if len(ran) == most[0]:
            raise KeyboardInterrupt
        ran.append((task.activation, task.settings.at))
        return run_budget_task(task, data)

    monkeypatch.setattr(tuning, "run_budget_task", counted)
    study = uk.Study(tmp_path / "s.sqlite")
    sets = {"a": CLASSES}
    with pytest.raises(KeyboardInterrupt):
        study.run_budgets(sets, ["relu", "tanh"], schedule=schedule, **SMALL)
    most[0] = 100
    study.run_budgets(sets, ["relu", "tanh"], schedule=schedule, **SMALL)
    done = len(ran)
    assert len(set(ran)) >= 2
    before = study.budgets()
    study.run_budgets(sets, ["relu", "tanh"], schedule=schedule, **SMALL)
    assert len(ran) == done and study.budgets() == before
    whole = uk.Study(tmp_path / "w.sqlite")
    whole.run_budgets(sets, ["relu", "tanh"], schedule=schedule, **SMALL)
    assert whole.budgets() == before
    study.run_budgets(sets, ["relu", "tanh"], schedule=schedule, **{**SMALL, "at": (1, 2, 3)})
    assert [row for row in study.budgets() if row.at < 3] == list(before)


def test_both_kinds_of_trials_live_in_one_file(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    study.run({"a": CLASSES}, ["relu"], seeds=1, epochs=1, learning_rates=[0.01], gains=[1.0])
    trials, size = study.trials(), len(study.trials())
    with sqlite3.connect(study.path) as database:
        tables = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
    assert tables == ["trials"]  # a file of an earlier version is as this one
    assert study.budgets() == ()
    study.run_budgets({"a": CLASSES}, ["relu"], **SMALL)
    assert study.trials() == trials and len(study.trials()) == size and len(study.budgets()) == 2
    assert repr(study).endswith("1 trials, 8 by budget)")
    only = uk.Study(tmp_path / "only.sqlite")
    only.run_budgets({"a": CLASSES}, ["relu"], **SMALL)
    assert only.trials() == () and only.summary() == () and only.budgets() == study.budgets()


def test_nets_with_buffers_are_trained_one_by_one(tmp_path: Path) -> None:
    def normed(data: LabelledData, new: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), new(), nn.Linear(8, data.n_classes))

    study = uk.Study(tmp_path / "s.sqlite")
    study.run_budgets({"a": CLASSES, "b": NUMBERS}, ["tanh"], net=normed, **SMALL)
    assert [(row.net, row.metric) for row in study.budgets()] == [
        ("normed", "accuracy"), ("normed", "accuracy"), ("normed", "R^2"), ("normed", "R^2"),
    ]  # fmt: skip


def test_a_net_that_diverges_is_worse_than_all_others(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    study.run_budgets({"a": NUMBERS}, ["relu"], **{**SMALL, "learning_rates": (1e30, 3e-3)})
    assert [row.learning_rate for row in study.budgets()] == [3e-3, 3e-3]
    gone = trained(NUMBERS, (1e30, 1.0), 0)
    assert gone.curve.scores == (None,) and gone.curve.value(1, "loss") is None


def test_seconds_are_those_of_training_and_tuning_counts(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    change = {**SMALL, "at": (0.05, 0.1), "unit": "seconds"}
    study.run_budgets({"a": CLASSES}, ["tanh"], **change)
    trials = study._file.read_kind(BudgetTrial)
    for trial in trials:
        assert all(at <= taken for at, taken in zip(trial.curve.at, trial.curve.times, strict=True))
        assert (len(trial.curve.at) > 10) == trial.reported
    easy, hard = study.seconds_to(0.0), study.seconds_to(1.1)
    assert [row.at for row in easy] == [0.05, 0.1]
    for row in easy:
        spent = sum(t.curve.times[-1] for t in trials if not t.reported and t.settings.at == (row.at,))
        assert row.tuning == pytest.approx(spent) and row.reached == row.seeds == 2
        assert row.total == pytest.approx(row.tuning + row.median)  # type: ignore[operator]
    assert all((row.reached, row.median, row.total) == (0, None, None) for row in hard)
    assert len(study.seconds_to(100.0, metric="loss")) == 2
    with pytest.raises(uk.InputError, match="unit = 'seconds' with 2 jobs: .* pass jobs=1"):
        study.run_budgets({"a": CLASSES}, ["tanh"], jobs=2, **change)


def test_the_clock_stands_still_while_scores_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own: each step takes a second, each reading a hundred."""
    now = [0.0]
    factors = []

    def step(self: NetAlone, factor: float = 1.0) -> None:
        now[0] += 1
        factors.append(factor)

    class Slow(NetAlone):
        def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
            now[0] += 100
            return super().outputs(inputs)

    from unknot.study.budget import task as module

    monkeypatch.setattr(NetAlone, "step", step)
    monkeypatch.setattr(module, "NetAlone", Slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    curve = trained(CLASSES, (1e-2, 1.0), 0, at=(4,), unit="seconds").curve
    assert curve.times[-1] == 4 and len(curve.times) > 10
    assert factors[3:] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-5)  # after the warm-up


# ---- rows and comparisons by hand


SETTINGS = BudgetSettings("mlp 1 x 8", (4.0,), "epochs", "cosine", 32, "[]", 0, "digest", "classes")


def trial(activation: str, seed: int, score: float | None, settings: Any = SETTINGS) -> BudgetTrial:
    loss = None if score is None else 1 - score
    curve = BudgetCurve((4.0,), (4.0,), (score,), (loss,))
    return BudgetTrial("a", activation, 1e-2, 1.0, seed, settings, curve)


def test_differences_go_seed_by_seed_with_a_one_sided_test() -> None:
    base, other = (0.5, 0.9, 0.6, 0.7, 0.8, 0.4), (0.6, 0.95, 0.7, 0.75, 0.85, 0.5)
    trials = [trial(a, i, s) for a, found in (("b", base), ("o", other)) for i, s in enumerate(found)]
    trials += [trial("b", SELECTION_SEED, 0.1)]
    rows = budget_rows(trials)
    assert [(r.activation, r.seeds, r.low, r.high) for r in rows] == [
        ("b", 6, 0.4, 0.9),
        ("o", 6, 0.5, 0.95),
    ]
    (found,) = compare_budget_rows(rows, "b")
    assert (found.difference, found.low, found.high) == pytest.approx((0.075, 0.05, 0.1))
    assert found.p == found.p_holm == 1 / 64
    (worse,) = compare_budget_rows(rows, "o")
    assert worse.p == 1 and worse.difference == pytest.approx(-0.075)
    (by_loss,) = compare_budget_rows(budget_rows(trials, "loss"), "b")
    assert by_loss.p == 1 / 64 and by_loss.difference == pytest.approx(-0.075)
    three = compare_budget_rows(budget_rows([*trials, *(trial("z", i, 0.99) for i in range(6))]), "b")
    assert [c.p_holm for c in three] == [2 / 64, 2 / 64]
    with pytest.raises(uk.InputError, match="baseline 'elu': expected one of b, o"):
        compare_budget_rows(rows, "elu")


def test_diverged_seeds_are_never_numbers() -> None:
    trials = [trial("b", i, 0.5) for i in range(3)]
    trials += [trial("o", i, s) for i, s in enumerate((None, None, 0.9))]
    rows = budget_rows(trials)
    assert [row.median for row in rows] == [0.5, None]
    (found,) = compare_budget_rows(rows, "b")
    assert found.difference is None and found.p > 0.5
    (back,) = compare_budget_rows(rows, "o")
    assert back.difference is None and back.p == 0.25
    assert differences([None, None, 1.0], [None, 2.0, None], worst=-math.inf) == [0, math.inf, -math.inf]


@pytest.mark.parametrize("seed", range(6))
def test_the_one_sided_p_is_that_of_all_tosses_of_the_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(0.3, 1, size=7), seed % 3)  # of one digit: with ties and zeros
    kept = values[values != 0]
    ranks = np.sign(kept) * stats.rankdata(np.abs(kept))
    exact = stats.permutation_test(
        (ranks,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert greater_p(values.tolist()) == pytest.approx(exact.pvalue)
    if seed % 3 == 2:
        assert greater_p(values.tolist()) == pytest.approx(
            stats.wilcoxon(values, alternative="greater", mode="exact").pvalue
        )


def test_small_samples_are_no_evidence() -> None:
    assert greater_p([]) == greater_p([0.0, 0.0]) == 1
    assert greater_p([0.93 - 0.9, 0.85 - 0.88, 0.1]) == greater_p([0.03, -0.03, 0.1])


def test_seconds_to_a_target_by_hand() -> None:
    settings = replace(SETTINGS, at=(4.0,), unit="seconds")
    curve = BudgetCurve((1.0, 2.0, 4.0), (1.1, 2.0, 4.2), (0.5, 0.8, 0.9), (1.0, 0.6, 0.3))
    trials = [replace(trial("b", seed, 0.5, settings), curve=curve) for seed in (0, 1)]
    trials += [
        replace(trial("b", SELECTION_SEED, 0.5, settings), curve=curve, gain=g) for g in (1.0, 2.0)
    ]
    (row,) = seconds_rows(trials, 0.8)
    assert (row.seconds, row.median, row.tuning, row.total) == ((2.0, 2.0), 2.0, 8.4, 10.4)
    (row,) = seconds_rows(trials, 0.5, "loss")
    assert row.seconds == (4.2, 4.2) and row.metric == "cross entropy"
    assert seconds_rows([trial("b", 0, 0.9)], 0.5) == ()


# ---- shown


def test_budgets_are_drawn(drawn: Any) -> None:
    trials = [
        trial(a, i, s, replace(SETTINGS, at=(at,))) for a, s in (("b", 0.5), ("o", 0.7)) for i in range(6)
        for at in (4.0,)
    ]  # fmt: skip
    rows = budget_rows(trials)
    axes = rows.plot()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["b", "o"]
    assert axes.get_xlabel() == "epochs" and axes.get_ylabel() == "test accuracy"
    compared = compare_budget_rows(rows, "b").plot()
    assert [t.get_text() for t in compared.get_yticklabels()] == ["o, 4 epochs"]
    both = type(rows)([*rows, *(replace(row, set="other") for row in rows)])
    assert len(both.plot()) == 2
    with pytest.raises(uk.InputError, match="one pair of axes for 2 sets"):
        both.plot(axes)
    with pytest.raises(uk.InputError, match="without rows"):
        type(rows)().plot()
    seconds = replace(SETTINGS, unit="seconds")
    bars = seconds_rows([trial("b", 0, 0.5, seconds)], 0.9).plot()
    assert [t.get_text() for t in bars.texts] == [" not reached"]


def test_budgets_are_tables() -> None:
    pytest.importorskip("pandas")
    frame = budget_rows([trial("b", 0, 0.5)]).to_frame()
    assert frame["median"].tolist() == [0.5] and frame["at"].tolist() == [4.0]


# ---- refused


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": ()}, "at = .*at least one budget"),
        ({"at": (0,)}, "at = .*all > 0"),
        ({"at": 4}, "at = 4: expected a sequence"),
        ({"unit": "steps"}, "unit = 'steps'"),
        ({"schedule": "linear"}, "schedule = 'linear'"),
        ({"seeds": 0}, "seeds = 0"),
        ({"task": "x"}, "task = 'x'"),
        ({"sets": {"a": (X, Y)}}, "set a without test samples: .*keep_apart"),
        ({"sets": {"a": ((X[:2], torch.tensor([0, 1])), (X, Y))}}, "set a of 2 training samples"),
        ({"sets": {}}, "sets = {}"),
        ({"activations": ["magic"]}, "activation 'magic'"),
    ],
)
def test_what_makes_no_study_by_budget(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    given = {"sets": {"a": CLASSES}, "activations": ["relu"], **SMALL, **change}
    with pytest.raises(uk.InputError, match=says) as caught:
        uk.Study(tmp_path / "s.sqlite").run_budgets(**given)
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        uk.Study(tmp_path / "s.sqlite").run_budgets({"a": CLASSES}, ["relu"], epochs=3)  # type: ignore[call-arg]


def test_keep_apart_is_a_true_remedy(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    study.run_budgets({"a": uk.nets.keep_apart((X, Y), share=0.2)}, ["relu"], **SMALL)
    assert len(study.budgets()) == 2
    with pytest.raises(uk.InputError, match=r"keep_apart\(data, share=0.2, task='regression'\)"):
        study.run_budgets({"a": (X, TARGETS)}, ["relu"], **SMALL)
    numbers = uk.nets.keep_apart((X, TARGETS), share=0.2, task="regression")
    study.run_budgets({"b": numbers}, ["relu"], **SMALL)
    assert [row.metric for row in study.budgets()][2:] == ["R^2", "R^2"]


def test_reading_budgets_of_no_file(tmp_path: Path) -> None:
    study = uk.Study(tmp_path / "s.sqlite")
    for read in (study.budgets, lambda: study.compare_budgets("relu"), lambda: study.seconds_to(0.9)):
        with pytest.raises(uk.InputError, match="which is not there"):
            read()


def test_options_of_both_studies_share_what_they_share() -> None:
    assert StudyOptions().learning_rates == (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    explained = uk.Study.run_budgets.__doc__ or ""
    for name in ("at", "unit", "schedule", "seeds", "learning_rates", "gains", "net", "task", "depth"):
        assert f"\n    {name}: " in explained
    assert "options:" not in explained


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "unknot", "study", "--data", "discs", "--activations", "relu,tanh", "--at",
        "1,2", "--seeds", "2", "--selection-seeds", "1", "--learning-rates", "1e-3,1e-2", "--gains", "1",
        "--width", "8", "--depth", "1", "--jobs", "1", "--resume", "--out", str(tmp_path / "k.sqlite"),
    ]  # fmt: skip
    file = TrialFile(tmp_path / "k.sqlite")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not file.path.exists():
        pass
    process.kill()
    process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    trials = file.read_kind(BudgetTrial)
    assert len(trials) == 2 * 2 * (2 + 2) and len({(t.activation, t.settings.at) for t in trials}) == 4
