from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch
from torch import nn

from unknot import convergence
from unknot.activations import ZFold
from unknot.convergence import SELECTION_SEED, Study
from unknot.errors import InputError


def halves() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    return {"halves": (x, (x[:, 0] > 0).long())}


SMALL = {"epochs": 12, "width": 12, "depth": 1, "batch_size": 32}


def test_summary_counts_reached_and_censors_the_rest(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), ["relu"], seeds=4, **SMALL)  # type: ignore[arg-type]
    rows = {row.target: row for row in study.summary([0.5, 0.9, 0.999])}
    assert rows[0.5].reached == rows[0.5].seeds == 4
    assert all(e is not None and 1 <= e <= 12 for e in rows[0.5].epochs)
    never = rows[0.999]
    assert never.reached == sum(e is not None for e in never.epochs)
    if never.reached < 2:
        assert never.median is None
    hopeless = Study(tmp_path / "h.sqlite")
    hopeless.run(halves(), ["relu"], seeds=2, learning_rates=[1e-9], **SMALL)  # type: ignore[arg-type]
    (row,) = hopeless.summary([0.99])
    assert (row.reached, row.epochs, row.median) == (0, (None, None), None)


def test_median_with_censored_seeds() -> None:
    assert convergence._median([3, None, 5]) == 5
    assert convergence._median([3, None, None]) is None
    assert convergence._median([3, 4]) == 3.5


def test_resume_runs_only_what_is_missing_and_gives_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    real = convergence.run_trial

    def counted(*args: object) -> tuple[float, ...]:
        if len(ran) == 3 and not resumed:
            raise KeyboardInterrupt
        ran.append(args[5])  # type: ignore[arg-type]
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(convergence, "run_trial", counted)
    resumed = False
    study = Study(tmp_path / "s.sqlite")
    with pytest.raises(KeyboardInterrupt):
        study.run(halves(), ["relu", "tanh"], seeds=3, **SMALL)  # type: ignore[arg-type]
    resumed = True
    Study(tmp_path / "s.sqlite").run(halves(), ["relu", "tanh"], seeds=3, **SMALL)  # type: ignore[arg-type]
    assert ran == [0, 1, 2, 0, 1, 2]
    whole = Study(tmp_path / "w.sqlite")
    whole.run(halves(), ["relu", "tanh"], seeds=3, **SMALL)  # type: ignore[arg-type]
    assert Study(tmp_path / "s.sqlite").summary() == whole.summary()


def test_cells_are_chosen_on_seeds_that_are_not_reported(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.sqlite")
    study.run(halves(), {"z": ZFold}, seeds=2, selection_seeds=2, learning_rates=[1e-9, 1e-2],
              gains=[1.0], **SMALL)  # type: ignore[arg-type]  # fmt: skip
    (row,) = study.summary([0.9])
    assert (row.activation, row.learning_rate, row.seeds) == ("z", 1e-2, 2)
    with sqlite3.connect(tmp_path / "s.sqlite") as database:
        seeds = {s for (s,) in database.execute("SELECT seed FROM trials")}
    assert seeds == {0, 1, SELECTION_SEED, SELECTION_SEED + 1}


def test_a_diverged_trial_is_a_result(tmp_path: Path) -> None:
    x, y = halves()["halves"]
    settings = convergence.TrialSettings(3, 8, 2, 32, 0.99)
    curve = convergence.run_trial(x, y, nn.ReLU, 1e30, 1.0, 0, settings)
    assert curve[-1] == 0.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"activations": ["magic"]}, "activation 'magic'"),
        ({"activations": ["relu"], "seeds": 0}, "seeds = 0"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Study(tmp_path / "s.sqlite").run(halves(), **arguments)  # type: ignore[arg-type]


def test_a_foreign_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes and no database at all " * 10)
    with pytest.raises(InputError, match="a study or a new file"):
        Study(path)
    assert path.read_text().startswith("these are my notes")


def test_a_study_that_was_never_run_is_empty_and_writes_nothing(tmp_path: Path) -> None:
    assert Study(tmp_path / "new.sqlite").summary() == ()
    assert not list(tmp_path.iterdir())
