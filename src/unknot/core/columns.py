"""The columns of a table in text: how its rows are cut, and what its first ones say."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TextIO

from unknot.core.errors import InputError

LABEL_NAMES = ("label", "labels", "target", "targets", "class", "classes", "species", "category", "y")
INDEX_NAMES = ("", "id", "index", "unnamed: 0")
MISSING = ("", "na", "n/a", "nan", "null", "?")
NO_LABELS = "none"  # as --label-column
DELIMITERS = "\t;,"  # the comma last: beside one of the others it may be the decimal sign
LONGEST_LINE = 1 << 26  # characters
WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """What the columns of a table are.

    Attributes:
        name: of the file, for messages.
        delimiter: between cells.
        names: of the columns; None without a header.
        width: how many there are.
        header: whether the first row holds the names; else a comment above it may.
        label: which holds the labels, or None.
        indices: which may number the samples.
        decimal: the sign before the decimals.
    """

    name: str
    delimiter: str
    names: tuple[str, ...] | None
    width: int
    header: bool = False
    label: int | None = None
    indices: tuple[int, ...] = ()
    decimal: str = "."

    def column(self, number: int) -> str:
        named = "" if self.names is None else f" ({self.names[number].strip() or 'unnamed'})"
        return f"column {number + 1}{named}"

    def is_named(self, number: int) -> bool:
        return self.names is not None and plain_name(self.names[number]) in INDEX_NAMES[1:3]

    def cell(self, line: int, number: int, text: str) -> str:
        said = f"= {text.strip()[:40]}" if text.strip() else "is empty"
        return f"{self.name}, line {line}, {self.column(number)} {said}"


def table_rows(file: TextIO, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not empty."""
    lines = iter(lambda: file.readline(LONGEST_LINE), "")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{name}, line {reader.line_num} ({error})", "cells with closed quotes", "mend the line"
        ) from None


def is_comment(cells: list[str]) -> bool:
    return cells[0].startswith("#")


def _first_rows(opened: Callable[[], TextIO], name: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The first two rows, and before them the last of the comments above, if any."""
    comment: list[tuple[int, list[str]]] = []
    found: list[tuple[int, list[str]]] = []
    with opened() as file:
        for line, cells in table_rows(file, name, delimiter):
            if not is_comment(cells):
                found.append((line, cells))
            elif not found:
                comment = [(line, cells)]
            if len(found) == 2:
                break
    return comment + found


def _delimiter(opened: Callable[[], TextIO], name: str) -> str:
    """The one that cuts the first two rows into equally many cells."""
    seen = ""
    for delimiter in DELIMITERS:
        with suppress(InputError):
            rows = _first_rows(opened, name, delimiter)
            widths = {len(cells) for _, cells in rows if not is_comment(cells)}
            if widths and min(widths) > 1 and len(widths) == 1:
                return delimiter
            if max(widths, default=1) > 1:
                seen = seen or delimiter
    return seen or ","


def find_layout(
    opened: Callable[[], TextIO], name: str, label_column: str | None, header: bool | None
) -> Layout:
    """What the columns are, by the first rows; arguments and errors as of `parse_table`."""
    delimiter = _delimiter(opened, name)
    rows = _first_rows(opened, name, delimiter)
    above = rows.pop(0)[1] if rows and is_comment(rows[0][1]) else None
    if not rows:
        raise InputError(f"{name} with no rows", "one row a sample", "check what was written")
    (line, first), second = rows[0], rows[1][1] if len(rows) > 1 else None
    names: tuple[str, ...] | None = None
    if header is None:
        header = _is_header(first, second, f"{name}, line {line}")
    if header:
        names = tuple(first)
    elif above is not None and len(above) == len(first) > 1 and not any(map(is_number, above)):
        names = (above[0].lstrip("# "), *above[1:])  # as numpy's savetxt writes it
    layout = Layout(name, delimiter, names, len(first), header)
    label = _label_column(layout, label_column)
    plain = [] if names is None else [plain_name(n) for n in names]
    indices = tuple(i for i, n in enumerate(plain) if n in INDEX_NAMES and (n or i == 0) and i != label)
    return replace(layout, label=label, indices=indices)


def plain_name(name: str) -> str:
    return name.strip().casefold()


def is_number(cell: str) -> bool:
    return bool(WITH_COMMA.fullmatch(cell.strip())) or plain_number(cell) is not None


def _is_name(cell: str) -> bool:
    """Whether it may name a column: no mark of a missing value."""
    return plain_name(cell) not in MISSING and any(c.isalnum() for c in cell)


def plain_number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _is_header(first: list[str], second: list[str] | None, where: str) -> bool:
    """Whether the first row holds names, by itself and by the second.

    Raises:
        InputError: half of it does.
    """
    numbers = [cell.strip() for cell in first if is_number(cell)]
    counted = any(numbers == [str(i + start) for i in range(len(numbers))] for start in (0, 1))
    if len(numbers) == len(first):  # 0, 1, 2, ... above decimals: a frame's default names
        fractions = second is not None and all(
            is_number(cell) and not cell.strip().isdigit() for cell in second
        )
        return counted and fractions and numbers[0] == "0" and len(first) > 1
    if not numbers:
        return any(map(_is_name, first))
    known = any(plain_name(cell) in (*LABEL_NAMES, *INDEX_NAMES[1:]) for cell in first)
    above_numbers = any(
        _is_name(cell) and not is_number(cell) and is_number(below)
        for cell, below in zip(first, second or (), strict=False)
    )
    unnamed = counted and not first[0].strip()
    if not (known or above_numbers or unnamed):
        return False
    if counted and (known or unnamed or len(numbers) > 1):
        return True
    raise InputError(
        f"{where}, of names and numbers ({', '.join(first)[:60]})",
        "a header of names only, or a row of numbers only",
        "give every column a name, or mend the row",
    )


def _label_column(layout: Layout, wanted: str | None) -> int | None:
    names = [] if layout.names is None else [n.strip() for n in layout.names]
    if wanted is None:
        plain = [plain_name(n) for n in names]
        found = [i for i, n in enumerate(plain) if n in LABEL_NAMES and not (n == "y" and "x" in plain)]
        if len(found) > 1:
            raise InputError(
                f"{layout.name}, whose labels may be in {' or '.join(map(layout.column, found))}",
                "one column of labels",
                f"name it, e.g. --label-column {names[found[0]]}",
            )
        return found[0] if found else None
    if names.count(wanted) == 1:
        return names.index(wanted)
    if wanted == NO_LABELS:
        return None
    with suppress(ValueError):
        if not names.count(wanted) and 1 <= int(wanted) <= layout.width:
            return int(wanted) - 1
    there = f"a number from 1 to {layout.width}"
    if names:
        there = f"one of {', '.join(names)[:200]}, or {there}"
    few = f", which {names.count(wanted)} columns have" if names.count(wanted) > 1 else ""
    raise InputError(
        f"label column {wanted} of {layout.name}{few}", f"{there}, or {NO_LABELS}",
        "pass the number" if few else "check the name",
    )  # fmt: skip
