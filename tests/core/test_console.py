"""Bars: on a terminal alone, one at a time, and with "auto" only for what takes long."""

from __future__ import annotations

import io
import sys
from threading import Thread

import pytest

from unknot.core import console
from unknot.core.console import ShowProgress, share_bar, step_bar, track
from unknot.core.errors import InputError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


@pytest.mark.parametrize(("show", "patience", "seen"), [
    (True, 1e9, True), ("auto", 1e9, False), ("auto", -1.0, True), (False, -1.0, False),
])  # fmt: skip
def test_a_bar_waits_where_it_is_told_to(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, show: ShowProgress, patience: float, seen: bool
) -> None:
    monkeypatch.setattr(console, "PATIENCE", patience)
    assert list(track([1, 2, 3], "counting", show=show)) == [1, 2, 3]
    with step_bar("stepping", 2, show=show) as step:
        step("one")
        step("two")
    with share_bar("sharing", show=show) as done:
        done(0.5)
    shown = terminal.getvalue()
    assert ["counting" in shown, "stepping: two" in shown, "sharing" in shown] == [seen] * 3


def test_there_is_one_bar_at_a_time(terminal: Terminal) -> None:
    for _ in track(range(2), "outer"):
        assert list(track(range(2), "inner")) == [0, 1]
    assert "outer" in terminal.getvalue() and "inner" not in terminal.getvalue()
    list(track(range(2), "after"))
    assert "after" in terminal.getvalue()


def test_an_error_takes_its_bar_away(terminal: Terminal) -> None:
    def fail() -> None:
        for i in track(range(2), "failing"):
            assert i

    with pytest.raises(AssertionError):
        fail()
    list(track(range(2), "after"))
    assert "after" in terminal.getvalue()


def test_other_threads_and_files_show_none(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Thread(target=lambda: list(track(range(2), "beside")))
    other.start()
    other.join()
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    list(track(range(2), "to a file"))
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("show", ["always", None, 1])
def test_what_is_no_choice_is_refused(show: object) -> None:
    with pytest.raises(InputError, match=r"^progress = [^\n]+: expected True, False or 'auto'"):
        list(track([1], "", show=show))  # type: ignore[arg-type]
