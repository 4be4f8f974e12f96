"""What a person sees in a terminal: progress bars on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, *, show: bool = True, total: int | None = None) -> Iterator[T]:
    """Yield ``items``; where ``show`` and stderr is a terminal, with a bar that names the work.

    The bar goes when the work ends. ``total`` is for items without a length.
    """
    console = _bar_console(show)
    if console is None:
        yield from items
        return
    from rich.progress import Progress

    total = len(items) if isinstance(items, Sized) else total
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def step_bar(label: str, total: int, *, show: bool = True) -> Iterator[Callable[[str], None]]:
    """A bar as of `track` for work that is no loop: call what it gives with what is done next."""
    console = _bar_console(show)
    if console is None:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        begun = False

        def step(what: str) -> None:
            nonlocal begun
            progress.update(task, advance=int(begun), description=f"{label}: {what}")
            begun = True

        yield step


def announce(text: str, *, show: bool = True) -> None:
    """A line on stderr where a bar would be shown there."""
    console = _bar_console(show)
    if console is not None:
        console.print(text, highlight=False)


@contextmanager
def share_bar(label: str, *, show: bool = True) -> Iterator[Callable[[float], None]]:
    """A bar as of `track` for work that is no loop: call what it gives with the share just done."""
    console = _bar_console(show)
    if console is None:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(label, total=1.0)
        yield lambda share: progress.advance(task, share)


def _bar_console(show: bool) -> Any:
    """stderr as rich's Console where a bar is to be shown on it: it is a terminal; else None."""
    if not show:
        return None
    from rich.console import Console  # here, so that the topology of points needs no rich

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
