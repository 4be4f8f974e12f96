"""Bars: on a terminal alone, one at a time, and with "auto" only for what takes long."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unknot as uk
from unknot.core import console
from unknot.core.console import ShowProgress, share_bar, step_bar, track
from unknot.core.errors import InputError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture(autouse=True)
def _able_to_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(("show", "patience", "seen"), [
    (True, 1e9, True), ("auto", 1e9, False), ("auto", -1.0, True), (False, -1.0, False),
])  # fmt: skip
def test_a_bar_waits_where_it_is_told_to(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, show: ShowProgress, patience: float, seen: bool
) -> None:
    monkeypatch.setattr(console, "PATIENCE", patience)
    with redirect_stderr(terminal):
        assert list(track([1, 2, 3], "counting", show=show)) == [1, 2, 3]
        with step_bar("stepping", 2, show=show) as step:
            step("one")
            step("two")
        with share_bar("sharing", show=show) as done:
            done(0.5)
    shown = terminal.getvalue()
    assert ["counting" in shown, "stepping: two" in shown, "sharing" in shown] == [seen] * 3


def test_there_is_one_bar_at_a_time(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        for _ in track(range(2), "outer"):
            assert list(track(range(2), "inner")) == [0, 1]
    assert "outer" in terminal.getvalue() and "inner" not in terminal.getvalue()
    with redirect_stderr(terminal):
        list(track(range(2), "after"))
    assert "after" in terminal.getvalue()


def test_an_error_takes_its_bar_away(terminal: Terminal) -> None:
    def fail() -> None:
        for i in track(range(2), "failing"):
            assert i

    with pytest.raises(AssertionError), redirect_stderr(terminal):
        fail()
    with redirect_stderr(terminal):
        list(track(range(2), "after"))
    assert "after" in terminal.getvalue()


def test_other_threads_and_files_show_none(terminal: Terminal) -> None:
    other = Thread(target=lambda: list(track(range(2), "beside")))
    with redirect_stderr(terminal):
        other.start()
        other.join()
    assert terminal.getvalue() == ""
    with redirect_stderr(io.StringIO()) as file:
        list(track(range(2), "to a file"))
    assert file.getvalue() == ""


@pytest.mark.parametrize("show", ["always", None, 1])
def test_what_is_no_choice_is_refused(show: object) -> None:
    with pytest.raises(InputError, match=r"^progress = [^\n]+: expected True, False or 'auto'"):
        list(track([1], "", show=show))  # type: ignore[arg-type]


POINTS = np.random.default_rng(0).normal(size=(40, 2))


def pruned_with_a_refit(show: ShowProgress, _: Path) -> None:
    model, images = uk.nets.cnn(1, 2, widths=(4, 4)), torch.randn(12, 1, 8, 8)
    scores = uk.score_filters(model, images, criterion="l1", progress=show)
    plan = uk.plan_pruning(model, scores, images[:2], macs=0.5, progress=show)
    uk.prune(model, plan, refit=images, progress=show)


def labelled() -> uk.nets.LabelledData:
    x, y = torch.tensor(POINTS, dtype=torch.float32), torch.tensor([0, 1] * 20)
    return uk.nets.LabelledData("points", x, y, x, y)


def studied(show: ShowProgress, folder: Path) -> None:
    uk.Study(folder / f"{show}.sqlite").run(
        {"points": (POINTS, [0, 1] * 20)}, ["relu"], seeds=1, epochs=1, depth=1, width=4,
        learning_rates=[0.01], gains=[1.0], progress=show,
    )  # fmt: skip


@pytest.mark.parametrize(("label", "work"), [
    ("counting subsamples",
     lambda show, _: uk.topology.betti_interval(POINTS, uk.Scale(k=4, hops=1), progress=show)),
    ("trying scales",
     lambda show, _: uk.topology.sensitivity(POINTS, scale=uk.Scale(radius=1), progress=show)),
    ("counting at each radius", lambda show, _: uk.topology.betti_curve(POINTS, 3, progress=show)),
    ("measuring cost: timing batch",
     lambda show, _: uk.nets.measure_cost(nn.Linear(3, 2), torch.zeros(2, 3), repeats=1, progress=show)),
    ("measuring accuracy",
     lambda show, _: uk.nets.measure_accuracy(nn.Linear(2, 2), POINTS, [0, 1] * 20, progress=show)),
    ("finding what may go: layer conv", pruned_with_a_refit),
    ("choosing what goes: without", pruned_with_a_refit),
    ("refitting: ", pruned_with_a_refit),
    ("training", lambda show, _: uk.study.train_stack(
        [nn.Linear(2, 2)], labelled(), learning_rates=[0.1], seeds=[0], epochs=1, progress=show)),
    ("training", lambda show, _: uk.study.train_alone(
        nn.Linear(2, 2), labelled(), learning_rate=0.1, seed=0, epochs=1, progress=show)),
    ("trials", studied),
    ("exporting the program",
     lambda show, folder: uk.pruning.export_program(
         nn.Linear(3, 2), torch.zeros(2, 3), folder / "p.pt2", progress=show)),
])  # fmt: skip
def test_what_takes_long_shows_a_bar_where_it_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, label: str, work: Callable[[Any, Path], object]
) -> None:
    monkeypatch.setattr(console, "PATIENCE", -1.0)  # what is not told to show none shows one
    for show in (True, False):
        terminal = Terminal()
        with redirect_stderr(terminal):
            work(show, tmp_path)
        shown = terminal.getvalue()
        assert label in shown if show else not shown
    with pytest.raises(InputError, match="^progress = 'always'"):
        work("always", tmp_path)
