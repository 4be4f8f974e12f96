from __future__ import annotations

import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from unknot.activations.folds import ZFold
from unknot.core.errors import InputError
from unknot.nets.data import LabelledData
from unknot.study import study as study_module
from unknot.study.options import StudyOptions
from unknot.study.study import Study
from unknot.study.task import Task, rank_cell, run_task
from unknot.study.trials import SELECTION_SEED, Curve, TopologyRow, Trial, TrialFile, TrialSettings
from unknot.study.untangling import prediction, untangling_rows

# The slowest took 260 s with a dozen processes on two cores.
pytestmark = [pytest.mark.numeric, pytest.mark.timeout(1800)]


def halves(n: int = 256, test: int = 0) -> dict[str, LabelledData]:
    x = torch.randn(n + test, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return {"halves": LabelledData("halves", x[:n], y[:n], x[n:], y[n:])}


ONE_CELL = {"learning_rates": [1e-3], "gains": [1.0]}
SMALL = {"epochs": 12, "width": 12, "depth": 1, "batch_size": 32}


def test_summary_counts_reached_and_censors_the_rest(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu"], seeds=4, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    rows = {row.target: row for row in study.summary([0.5, 0.9, 0.999])}
    assert rows[0.5].reached == rows[0.5].seeds == 4
    assert all(e is not None and 0 < e <= 12 for e in rows[0.5].epochs)
    never = rows[0.999]
    assert never.reached == sum(e is not None for e in never.epochs)
    if never.reached < 2:
        assert never.median is None
    hopeless = Study(tmp_path / "h.sqlite")
    hopeless.run(halves(), ["relu"], seeds=2, learning_rates=[1e-9], gains=[1.0], **SMALL)  # type: ignore[arg-type]
    (row,) = hopeless.summary([0.99])
    assert (row.reached, row.epochs, row.median, row.cap) == (0, (None, None), None, 12)


def test_epochs_are_counted_in_fractions_and_on_test_samples_too(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(test=64), ["relu"], seeds=2, learning_rates=[1e-2], gains=[1.0], stop_at=0.9,
              test_target=0.9, **SMALL)  # type: ignore[arg-type]  # fmt: skip
    (row,) = study.summary([0.9])
    (on_test,) = study.summary([0.9], split="test")
    assert row.split == "train" and on_test.split == "test"
    assert any(e is not None and e != int(e) for e in row.epochs + on_test.epochs)
    assert study.summary([0.95], split="test") == ()  # trials ended before it
    with pytest.raises(InputError, match="split = 'valid'"):
        study.summary(split="valid")
    bare = Study(tmp_path / "b.sqlite")
    bare.run(halves(), ["relu"], seeds=1, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    assert bare.summary([0.9], split="test") == ()


def test_reading_a_study_that_is_not_there_says_so(tmp_path: Path) -> None:
    study = Study(tmp_path / "missing.sqlite")  # to be run, perhaps
    assert "0 trials" in repr(study) and "0 trials" in study._repr_html_()
    for read in (study.summary, study.trials, study.to_frame, study.plot, lambda: study.compare("relu")):
        with pytest.raises(InputError, match=r"missing.sqlite, which is not there: .* call its run"):
            read()
    assert not any(tmp_path.iterdir())


def test_resume_runs_only_what_is_missing_and_gives_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    interrupted = True

    def counted(task: Task, data: LabelledData) -> list[Trial]:
        if len(ran) == 1 and interrupted:
            raise KeyboardInterrupt
        ran.append(task.activation)
        return run_task(task, data)

    monkeypatch.setattr(study_module, "run_task", counted)
    study = Study(tmp_path / "s.sqlite")
    with pytest.raises(KeyboardInterrupt):
        study.run(halves(), ["relu", "tanh"], seeds=3, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    interrupted = False
    Study(tmp_path / "s.sqlite").run(halves(), ["relu", "tanh"], seeds=3, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    assert ran == ["relu", "tanh"]
    whole = Study(tmp_path / "w.sqlite")
    whole.run(halves(), ["relu", "tanh"], seeds=3, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    assert Study(tmp_path / "s.sqlite").trials() == whole.trials()


def test_a_task_cut_in_the_middle_of_its_commits_comes_out_the_same(tmp_path: Path) -> None:
    whole, cut = Study(tmp_path / "w.sqlite"), Study(tmp_path / "c.sqlite")
    for study in (whole, cut):
        study.run(halves(), ["relu", "zfold"], seeds=4, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    with sqlite3.connect(cut.path) as database:
        database.execute("DELETE FROM trials WHERE seed IN (1, 3) AND activation = 'zfold'")
    assert len(cut.trials()) == 6
    cut.run(halves(), ["relu", "zfold"], seeds=4, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    assert cut.trials() == whole.trials()


def test_cells_are_chosen_on_seeds_that_are_not_reported(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), {"z": ZFold}, seeds=2, selection_seeds=2, learning_rates=[1e-9, 1e-2],
              gains=[1.0], **SMALL)  # type: ignore[arg-type]  # fmt: skip
    (row,) = study.summary([0.9])
    assert (row.activation, row.learning_rate, row.seeds) == ("z", 1e-2, 2)
    assert {t.seed for t in study.trials()} == {0, 1, SELECTION_SEED, SELECTION_SEED + 1}


def test_giving_up_cells_that_cannot_win_does_not_change_the_choice(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    rates, gains = [1e-3, 3e-3, 1e-2], [0.5, 1.0, 2.0]
    study.run(halves(700, 50), ["tanh"], seeds=1, learning_rates=rates, gains=gains, **SMALL)  # type: ignore[arg-type]
    early = [t for t in study.trials() if not t.reported]
    assert {t.curve.ended for t in early} >= {"given up", "done"}
    options = StudyOptions(seeds=1, learning_rates=rates, gains=gains, **SMALL)  # type: ignore[arg-type]
    assert options.settings(halves(700, 50)["halves"]) == early[0].settings
    options, seeds = replace(options, stop_at=0.99), tuple(range(SELECTION_SEED, SELECTION_SEED + 3))
    settings = options.settings(halves(700, 50)["halves"])
    task = Task("halves", "tanh", nn.Tanh, options, settings, options.cells, seeds)
    whole = run_task(task, halves(700, 50)["halves"])
    assert not {t.curve.ended for t in whole} & {"given up"}

    def best(trials: list[Trial]) -> tuple[float, float]:
        return min(task.cells, key=lambda cell: rank_cell([t.curve for t in trials if t.cell == cell]))

    (reported,) = [t for t in study.trials() if t.reported]
    assert best(early) == best(whole) == reported.cell
    exact = {(t.cell, t.seed): t.curve for t in whole}
    for trial in early:
        curve = exact[trial.cell, trial.seed]
        if trial.curve.ended != "given up":
            assert trial.curve.epochs_to(0.99) == curve.epochs_to(0.99)
        if trial.curve.ended == "cap":
            assert trial.curve.train_accuracy[-1] == curve.train_accuracy[-1]
        assert trial.curve.test_accuracy == ()
    assert any(  # some were not read in full
        a != b
        for t in early
        for a, b in zip(t.curve.train_accuracy, exact[t.cell, t.seed].train_accuracy, strict=False)
    )


def test_a_diverged_trial_is_a_result(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu"], seeds=2, learning_rates=[1e30], gains=[1.0], topology=1, **SMALL)  # type: ignore[arg-type]
    assert [t.curve.ended for t in study.trials()] == ["diverged", "diverged"]
    assert [row.reached for row in study.summary([0.99])] == [0]


def test_comparisons_with_the_baseline(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu", "tanh", "zfold"], seeds=3, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    comparisons = study.compare("relu", [0.8, 0.9])
    assert {(c.activation, c.target) for c in comparisons} == {
        (a, t) for a in ("tanh", "zfold") for t in (0.8, 0.9)
    }
    assert all(c.result.p <= c.result.p_holm <= 1 and c.baseline == "relu" for c in comparisons)
    with pytest.raises(InputError, match="baseline 'elu'"):
        study.compare("elu")


def test_betti_numbers_along_the_training(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu", "tanh", "zfold"], seeds=2, topology=1, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    watched = [t for t in study.trials() if t.topology]
    assert [t.seed for t in watched] == [0, 0, 0]
    for trial in watched:
        epochs = {row.epoch for row in trial.topology}
        assert min(epochs) == 0 and max(epochs) == pytest.approx(trial.curve.epochs[-1])
        assert {row.layer for row in trial.topology} == {"input", "act1"}
        assert {row.label for row in trial.topology} == {0, 1}
    rows = untangling_rows(study.trials())
    assert {(r.layer, r.which) for r in rows} == {
        (layer, which) for layer in ("all", "act1") for which in ("b0", "b1", "b0 + b1")
    }
    for row in rows:
        assert (row.median is None) == (row.after >= row.before or row.after > 0.9 * row.before)


def test_what_a_fast_fall_predicts() -> None:
    """By hand: b0 falls in 2, 4 and 8 epochs where 99 % takes 3, 5 and 9."""

    def trial(name: str, fall: float) -> Trial:
        rows = tuple(
            TopologyRow(epoch, "act1", label, 50, 9 if epoch < fall else 1, 0)
            for epoch in (0, 1, 2, 4, 8, 10)
            for label in (0, 1)
        )
        curve = Curve((fall, fall + 1, 12.0), (0.5, 0.995, 1.0), (), "done")
        settings = TrialSettings("mlp", 20, 32, 0.999, None, "[]", 0, "")
        return Trial("set", name, 1e-3, 1.0, 0, settings, curve, rows)

    trials = [trial("a", 2), trial("b", 4), trial("c", 8)]
    rows = {(r.activation, r.which): r for r in untangling_rows(trials) if r.layer == "all"}
    assert [rows[name, "b0"].epochs for name in "abc"] == [(2,), (4,), (8,)]
    assert (rows["a", "b0 + b1"].before, rows["a", "b0 + b1"].after) == (18, 2)
    assert rows["a", "b1"].median is None  # there was nothing to fall
    correlation = prediction(trials)
    assert (correlation.rho, correlation.n) == (pytest.approx(1.0), 3)
    with pytest.raises(InputError, match="at least three"):
        prediction(trials[:2])


def test_nets_with_batch_normalisation_and_processes_give_the_same(tmp_path: Path) -> None:
    def normed(data: LabelledData, activation: type[nn.Module]) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), activation(), nn.Linear(8, 2))

    tables = []
    for jobs in (1, 2):
        study = Study(tmp_path / f"{jobs}.sqlite")
        study.run(halves(), ["relu", "tanh"], seeds=2, net=normed, epochs=3, batch_size=32, jobs=jobs,
                  topology=1, **ONE_CELL)  # type: ignore[arg-type]  # fmt: skip
        tables.append(study.trials())
    assert tables[0] == tables[1] and len(tables[0]) == 4
    assert tables[0][0].settings.net == "normed" and tables[0][0].topology


def fails(x: torch.Tensor) -> torch.Tensor:
    raise InputError("x = 1", "x = 2", "pass 2")


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fails(x) if self.training else x


def test_an_error_in_a_process_comes_back_as_it_is(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    with pytest.raises(InputError, match="x = 1: expected x = 2; pass 2"):
        study.run(halves(), {"a": Fails, "b": Fails}, seeds=1, epochs=1, jobs=2, **ONE_CELL)  # type: ignore[arg-type]


def test_nets_that_cannot_be_trained_are_refused_before_anything(tmp_path: Path) -> None:
    def headless(data: LabelledData, activation: type[nn.Module]) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 1), activation())

    with pytest.raises(InputError, match=r"net headless returning \(2, 1\)"):
        Study(tmp_path / "s.sqlite").run(halves(), ["relu"], net=headless)
    assert not list(tmp_path.iterdir())


def test_settings_are_written_as_ever() -> None:
    """A study that an earlier version began goes on: its trials are found by this text."""
    x, y = torch.arange(32.0).view(16, 2), torch.tensor([0, 1] * 8)
    data = LabelledData("d", x[:12], y[:12], x[12:], y[12:])
    one_cell = StudyOptions(epochs=1, width=4, depth=1, learning_rates=[1e-3], gains=[1.0])
    start = '{"batch_size": 128, "data": "846831c769653e29", "epochs": 1, "grid": '
    assert one_cell.settings(data).key() == start + (
        '"[[0.001, 1.0]]", "net": "mlp 1 x 4", "selection_seeds": 0, "test_target": 0.99, '
        '"train_target": 0.999}'
    )
    grid = replace(one_cell, learning_rates=(1e-2,), gains=(0.6, 2), selection_seeds=1)
    assert grid.settings(data).key() == start + (
        '"[[0.01, 0.6], [0.01, 2.0]]", "net": "mlp 1 x 4", "selection_seeds": 1, "test_target": 0.99, '
        '"train_target": 0.999}'
    )


def test_every_keyword_of_run_has_the_default_of_the_options_and_is_explained() -> None:
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(Study.run).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    defaults = {field.name: field.default for field in fields(StudyOptions)}
    assert {name: keywords.get(name) for name in defaults} == defaults
    assert set(keywords) - set(defaults) == {"jobs", "cluster", "progress"}
    explained = inspect.getdoc(Study.run).partition("Args:")[2]  # type: ignore[union-attr]
    assert all(f"\n    {name}: " in explained for name in ("sets", "activations", *keywords))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": 0}, "seeds = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"topology": -1}, "topology = -1"),
        ({"selection_seeds": 0}, "selection_seeds = 0"),
        ({"learning_rates": []}, "at least one of each"),
        ({"gains": [1.0, -1.0]}, "all > 0"),
        ({"net": lambda data, activation: nn.Identity()}, "a name"),
    ],
)
def test_options_that_make_no_study(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        StudyOptions(**change)  # type: ignore[arg-type]


def test_one_cell_needs_no_selection_seeds() -> None:
    options = StudyOptions(learning_rates=[1e-3], gains=[1], selection_seeds=0)
    assert options.cells == ((1e-3, 1.0),) and not options.chooses


def test_two_sets_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    for n in (128, 256):
        study.run(halves(n), ["relu"], seeds=1, **ONE_CELL, **SMALL)  # type: ignore[arg-type]
    assert len(study.summary([0.9])) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"activations": ["magic"]}, "activation 'magic'"),
        ({"activations": ["relu"], "seeds": 0}, "seeds = 0"),
        ({"activations": ["relu"], "topology": -1}, "topology = -1"),
        ({"activations": ["relu"], "gains": [0.0]}, "all > 0"),
        ({"activations": ["relu"], "net": lambda d, a: None}, "a function or object with a name"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Study(tmp_path / "s.sqlite").run(halves(), **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_trained_on(tmp_path: Path) -> None:
    x, y = torch.zeros(4, 2), torch.zeros(4).long()
    study = Study(tmp_path / "s.sqlite")
    with pytest.raises(InputError, match=r"inputs of shape \[4, 2\] and labels of shape \[3\]"):
        study.run({"d": (x, y[:3])}, ["relu"])
    with pytest.raises(InputError, match="NaN"):
        study.run({"d": (x / 0, y)}, ["relu"])
    study.run({"one class": (x + 1, y)}, ["relu"], seeds=1, epochs=1, **ONE_CELL)  # type: ignore[arg-type]
    assert study.summary([0.99])[0].reached == 1


def test_a_foreign_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes and no database at all " * 10)
    with pytest.raises(InputError, match="a study or a new file"):
        Study(path)
    assert path.read_text().startswith("these are my notes")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE trials (x)")
    with pytest.raises(InputError, match="a study or a new file"):
        Study(other)


def test_a_study_of_another_version_is_refused(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu"], seeds=1, epochs=1, **ONE_CELL)  # type: ignore[arg-type]
    with sqlite3.connect(study.path) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(InputError, match="table version 1"):
        Study(study.path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu"], seeds=1, epochs=1, **ONE_CELL)  # type: ignore[arg-type]
    trial = replace(study.trials()[0], activation="x" * 4_000_000)
    file = TrialFile(study.path)
    with sqlite3.connect(study.path) as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]

    class Small(TrialFile):
        def _open(self, mode: str = "rwc"):  # type: ignore[no-untyped-def]
            return _limited(super()._open(mode), pages)

    with pytest.raises(InputError, match="a disk with room"):
        Small(study.path).add([trial])
    assert file.read() == list(study.trials()) and len(file.read()) == 1


class _limited:
    """A database that may not grow, as on a full disk."""

    def __init__(self, opened, pages: int) -> None:  # type: ignore[no-untyped-def]
        self.opened, self.pages = opened, pages

    def __enter__(self) -> sqlite3.Connection:
        database: sqlite3.Connection = self.opened.__enter__()
        database.execute(f"PRAGMA max_page_count = {self.pages}")
        return database

    def __exit__(self, *error: object) -> object:
        return self.opened.__exit__(*error)


def test_kill_9_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    """Killed again and again at any moment, then resumed, against a study that ran through."""
    command = [
        sys.executable, "-m", "unknot", "study", "--data", "discs", "--activations", "relu,zfold,tanh",
        "--seeds", "3", "--selection-seeds", "2", "--epochs", "3", "--learning-rates", "1e-3,1e-2",
        "--gains", "1", "--width", "8", "--depth", "2", "--jobs", "1", "--out",
    ]  # fmt: skip
    killed, whole = tmp_path / "killed.sqlite", tmp_path / "whole.sqlite"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "env": environment}
    subprocess.run([*command, str(whole)], check=True, **quiet)  # type: ignore[call-overload]
    for trials_before_the_kill in (1, 7, 10):
        process = subprocess.Popen([*command, str(killed), "--resume"], **quiet)  # type: ignore[call-overload]
        while process.poll() is None and _count(killed) < trials_before_the_kill:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(killed), "--resume"], check=True, **quiet)  # type: ignore[call-overload]
    assert Study(killed).trials() == Study(whole).trials()
    assert len(Study(killed).trials()) == 3 * (2 * 2 + 3)


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
