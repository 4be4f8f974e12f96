"""What a person sees in a terminal: progress bars on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from multiprocessing import current_process
from threading import current_thread, main_thread
from typing import Any, Literal, TypeAlias, TypeVar

from unknot.core.errors import InputError

T = TypeVar("T")


ShowProgress: TypeAlias = bool | Literal["auto"]
"""True: a bar where stderr is a terminal; "auto": once the work has taken two seconds; False: none."""

PATIENCE = 2.0  # seconds
_showing: list[object] = []  # a terminal has room for one bar: what runs within it shows none


def track(
    items: Iterable[T], label: str, *, show: ShowProgress = True, total: int | None = None
) -> Iterator[T]:
    """Yield ``items``; where ``show`` and stderr is a terminal, with a bar that names the work.

    The bar goes when the work ends. ``total`` is for items without a length.
    """
    with _bar(label, len(items) if isinstance(items, Sized) else total, show) as update:
        for item in items:
            yield item
            update(advance=1)


@contextmanager
def step_bar(
    label: str, total: int | None, *, show: ShowProgress = True, timed: bool = False
) -> Iterator[Callable[[str], None]]:
    """A bar as of `track` for work that is no loop: call what it gives with what is done next.

    Where nobody knows how many steps it takes, ``total`` is None.
    Of work that is ``timed`` it is drawn between the steps alone, and not by a thread meanwhile.
    """
    with _bar(label, total, show, timed) as update:
        begun = False

        def step(what: str) -> None:
            nonlocal begun
            update(advance=int(begun), description=f"{label}: {what}")
            begun = True

        yield step


def announce(text: Callable[[], str], *, show: ShowProgress = True) -> None:
    """A line on stderr where a bar would be shown there, and only then made."""
    console = _bar_console(show)
    if console is not None:
        console.print(text(), highlight=False)


@contextmanager
def share_bar(label: str, *, show: ShowProgress = True) -> Iterator[Callable[[float], None]]:
    """A bar as of `track` for work that is no loop: call what it gives with the share just done."""
    with _bar(label, 1.0, show) as update:
        yield lambda share: update(advance=share)


@contextmanager
def _bar(
    label: str, total: float | None, show: ShowProgress, timed: bool = False
) -> Iterator[Callable[..., None]]:
    """What takes the keywords of rich's ``Progress.update``, and shows the bar in its time."""
    console = _bar_console(show)
    if console is None:
        yield lambda **_: None
        return
    from rich.progress import Progress

    progress = Progress(console=console, transient=True, auto_refresh=not timed)
    task, begun = progress.add_task(label, total=total), time.monotonic()

    def update(**change: Any) -> None:
        progress.update(task, **change, refresh=timed)
        if not progress.live.is_started and (show is True or time.monotonic() - begun > PATIENCE):
            progress.start()

    _showing.append(progress)
    try:
        update()
        yield update
    finally:
        _showing.remove(progress)
        if progress.live.is_started:
            progress.stop()


def _bar_console(show: ShowProgress) -> Any:
    """stderr as rich's Console where a bar is to be shown on it, and has room; else None."""
    if not isinstance(show, bool) and show != "auto":
        raise InputError(f"progress = {show!r}", "True, False or 'auto'", "pass 'auto', or leave it out")
    alone = current_process().name == "MainProcess" and current_thread() is main_thread()
    if not show or _showing or not alone:
        return None
    if show == "auto" and not (sys.stderr is not None and sys.stderr.isatty()):
        return None  # without an import of rich, which takes longer than many a call
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns of numbers are aligned to the right. Names are printed as they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    cells = [list(row) for row in rows]
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) for row in cells)
        table.add_column(Text(column), justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*(Text(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a pipe has no width to wrap at
    console.print(Text(title, style="bold"))
    console.print(table)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in plain text, for a ``repr``: the first column to the left, the others to the right."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    )


def print_json(record: object) -> None:
    """JSON on stdout."""
    print(json.dumps(record, indent=1))
