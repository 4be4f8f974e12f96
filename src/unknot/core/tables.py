"""Tables in text, .csv and .tsv: what each column is, and where a cell is wrong."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unknot.core.columns import (
    MISSING,
    NO_LABELS,
    WITH_COMMA,
    Layout,
    find_layout,
    is_comment,
    is_number,
    plain_number,
    table_rows,
)  # fmt: skip
from unknot.core.errors import InputError
from unknot.core.memory import memory_limit, require_memory

MOST_EXACT = 2.0**53
# More different labels than this, fractions among them, are numbers to come close to, and no classes.
FEW_NUMBERS = 20
Task: TypeAlias = Literal["auto", "classes", "regression"]
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


@dataclass(frozen=True, eq=False)
class Samples:
    """What a file of samples holds.

    Attributes:
        values: ``[n, ...]``, one row a sample.
        labels: ``[n]``, int64 of classes and float64 of numbers to come close to; or None.
        classes: where the labels were text, that of 0, 1, 2, ...: sorted.
        notes: which column was taken for what, in sentences; empty where nothing was to be decided.
    """

    values: NDArray[Any]
    labels: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _DecimalCommas(Exception):
    """A number with a comma where points were expected: the table is read again."""


def read_table(path: Path, label_column: str | None = None, task: Task = "classes") -> Samples:
    """Read a ``.csv`` or ``.tsv`` file, compressed (``.gz``) or not; as of `parse_table`."""

    def opened() -> TextIO:
        raw: Any = (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb")
        start = raw.read(2)
        raw.seek(0)
        utf16 = start in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets write "Unicode text"
        return io.TextIOWrapper(raw, encoding="utf-16" if utf16 else "utf-8-sig", newline="")

    try:
        return parse_table(opened, f"file {path}", label_column, task=task)
    except UnicodeDecodeError as error:
        raise InputError(
            f"file {path} with byte {error.object[error.start] if error.object else 0:#04x}, which is no "
            f"{error.encoding}",
            "text in UTF-8 that holds numbers",
            "save it as UTF-8",
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"file {path} ({error})", "a complete gzip file", "write it again") from None


def parse_table(
    opened: Callable[[], TextIO],
    name: str,
    label_column: str | None = None,
    *,
    header: bool | None = None,
    task: Task = "classes",
) -> Samples:
    """Samples from rows of text: coordinates, and where there is a header also labels and an index.

    Cells are separated by commas, semicolons or tabs, and may be quoted; lines that are empty or begin
    with # are left aside. The first row is a header where it holds names. Then a column called label,
    target, class, species, category or y (which beside an x is a coordinate) holds the labels, and a
    first column without a name, or one called id or index, whose entries all differ is left aside.
    Labels that are text become 0, 1, 2, ... in sorted order.

    Args:
        opened: opens the text, once or twice.
        name: of it, for messages.
        label_column: name or number, from 1, of the column of labels; "none" where there is none.
        header: whether the first row is one; None looks at it.
        task: what labels are: "classes"; "regression": numbers to come close to; "auto": these where
            there are more than 20, with fractions, else classes.

    Raises:
        InputError: a cell that is no finite number, with its line and column; rows of several lengths;
            labels that are missing or no classes; a label column that is not there or not clear; more
            than fits into memory.
    """
    layout = find_layout(opened, name, label_column, header)
    try:
        return _read(opened, layout, task)
    except _DecimalCommas:
        return _read(opened, replace(layout, decimal=","), task)


def _read(opened: Callable[[], TextIO], layout: Layout, task: Task) -> Samples:
    """All rows of a table whose layout is known."""
    special = [i for i in range(layout.width) if i == layout.label or i in layout.indices]
    coordinates = [i for i in range(layout.width) if i not in special]
    texts: dict[int, list[str]] = {i: [] for i in special}
    numbers, lines = array("d"), array("q")
    reader = _Numbers(layout)
    room = memory_limit() // 24  # a float64, the text of it and a copy without duplicates
    with opened() as file:
        rows = ((n, c) for n, c in table_rows(file, layout.name, layout.delimiter) if not is_comment(c))
        for line, cells in islice(rows, int(layout.header), None):
            if len(cells) != layout.width:
                raise InputError(
                    f"{layout.name}: line {line} has {len(cells)} cells",
                    f"{layout.width} numbers, as in the first row" if layout.names is None
                    else f"{layout.width} cells, as in the first row",
                    "mend the line; cells are separated by one sign, and numbers have no thousands "
                    "separators",
                )  # fmt: skip
            for i in special:
                texts[i].append(cells[i])
            reader.add(numbers, line, cells, coordinates)
            lines.append(line)
            if len(numbers) > room:
                require_memory(len(lines), 24 * len(numbers), layout.name)
    reader.settle()
    if not lines:
        raise InputError(f"{layout.name} with no rows", "one row a sample", "check what was written")
    values = np.frombuffer(numbers, dtype=np.float64).reshape(len(lines), len(coordinates))
    left_aside = []
    for i in layout.indices:
        if _counts_samples(texts[i], named=layout.is_named(i)):
            left_aside.append(i)
            continue
        column = array("d")
        for line, text in zip(lines, texts[i], strict=True):
            column.append(reader.number(line, i, text))
        values = np.insert(values, sum(j < i for j in coordinates), column, axis=1)
        coordinates = sorted([*coordinates, i])
    if not coordinates:
        raise InputError(f"{layout.name} without coordinates", "columns of numbers", "add some")
    if not np.isfinite(values).all():
        row, column_number = np.argwhere(~np.isfinite(values))[0]
        value = values[row, column_number]
        raise InputError(
            layout.cell(lines[row], coordinates[column_number], f"{value}"),
            "a finite number",
            "drop the line or mend it",
        )
    coded = None if layout.label is None else _encoded(layout, lines, texts[layout.label], task)
    labels, classes = coded or (None, ())
    return Samples(values, labels, classes, _notes(layout, coordinates, left_aside, classes))


def _encoded(
    layout: Layout, lines: Sequence[int], texts: list[str], task: Task
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels as numbers; texts are numbered in sorted order."""
    assert layout.label is not None
    texts = [text.strip() for text in texts]
    for line, text in zip(lines, texts, strict=True):
        if text.casefold() in MISSING:
            raise InputError(
                layout.cell(line, layout.label, text), "a label", "give it one, or drop the line"
            )
    with_comma = layout.decimal == "," and task != "classes"
    numbers = [plain_number(text.replace(",", ".") if with_comma else text) for text in texts]
    if task != "classes" and _are_numbers(layout, texts, numbers, task):
        for line, text, number in zip(lines, texts, numbers, strict=True):
            if number is None or not np.isfinite(number):
                cell = layout.cell(line, layout.label, text)
                raise InputError(cell, "a finite number", "mend it, or name another column of labels")
        return np.array(numbers, dtype=np.float64), ()
    if None not in numbers:
        for line, text, number in zip(lines, texts, numbers, strict=True):
            if not abs(number) <= MOST_EXACT or number != round(number):  # type: ignore[arg-type]
                raise InputError(
                    layout.cell(line, layout.label, text),
                    "a class: a whole number or text",
                    f"name another column of labels, or pass --label-column {NO_LABELS} if it holds a "
                    "coordinate",
                )
        return np.array(numbers, dtype=np.float64).astype(np.int64), ()
    classes, labels = np.unique(np.array(texts), return_inverse=True)
    if len(classes) == len(texts) > 2:
        raise InputError(
            f"{layout.name}, {layout.column(layout.label)} of {len(texts)} different texts",
            "labels that occur again",
            "name the column of labels with --label-column",
        )
    return labels.astype(np.int64), tuple(map(str, classes))


def _are_numbers(layout: Layout, texts: list[str], numbers: list[float | None], task: Task) -> bool:
    """Whether labels are numbers to come close to and no classes; what may be either is refused."""
    known = [number for number in numbers if number is not None]
    if task == "regression" or len(known) < len(numbers) or not np.isfinite(known).all():
        return task == "regression"
    whole, different = all(number == round(number) for number in known), len(set(known))
    if whole == (different <= FEW_NUMBERS) or all(re.fullmatch(r"[+-]?\d+", text) for text in texts):
        return not whole
    assert layout.label is not None
    raise InputError(
        f"{layout.name}, {layout.column(layout.label)} of {different} different numbers "
        f"{'without' if whole else 'with'} fractions",
        "classes as whole numbers or text, or many numbers with fractions",
        "say which they are: --task classes or --task regression",
    )


def _counts_samples(texts: list[str], named: bool) -> bool:
    """Whether a column that may be an index is one: all different, and whole numbers if it is named."""
    different = len({text.strip() for text in texts}) == len(texts)
    return different and (
        all(re.fullmatch(r"[+-]?\d+", text.strip()) for text in texts)
        or (not named and all(text.strip() and not is_number(text) for text in texts))
    )


class _Numbers:
    """Cells as numbers; refuses by line and column what is none."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.group = ""  # the first cell that may as well have a thousands separator
        self.certain = False  # whether some comma can only be a decimal sign

    def add(self, numbers: array[float], line: int, cells: list[str], coordinates: list[int]) -> None:
        """The coordinates of a row, to the end of ``numbers``."""
        chosen = cells if len(coordinates) == len(cells) else [cells[i] for i in coordinates]
        if self.layout.decimal == "." and "_" not in "".join(chosen):  # which float() takes
            with suppress(ValueError):  # what was added before it fails is of no use any more
                numbers.extend(map(float, chosen))
                return
        numbers.extend([self.number(line, i, cells[i]) for i in coordinates])

    def number(self, line: int, column: int, text: str) -> float:
        """One cell."""
        cell = text.strip()
        with_comma = WITH_COMMA.fullmatch(cell) is not None
        if with_comma and self.layout.decimal == ".":
            raise _DecimalCommas
        if self.layout.decimal == ",":
            if "." in cell:
                raise InputError(
                    self.layout.cell(line, column, cell),
                    "a decimal comma, as in other cells",
                    "write all numbers with one decimal sign and no thousands separators",
                )
            if _GROUPS.fullmatch(cell):
                self.group = self.group or self.layout.cell(line, column, cell)
            self.certain |= with_comma and not _GROUPS.fullmatch(cell)
        value = plain_number(cell.replace(",", ".") if with_comma else cell)
        if value is None:
            raise InputError(
                self.layout.cell(line, column, text),
                "numbers only, besides labels and an index",
                _remedy(cell, self.layout.width),
            )
        return value

    def settle(self) -> None:
        """Refuse commas that may separate thousands as well."""
        if self.group and not self.certain:
            raise InputError(
                self.group,
                "a number that reads in one way",
                "write it without a thousands separator, and decimals with a point",
            )


def said_classes(classes: Sequence[str], most: int = 20) -> str:
    """Which number stands for which text, in words."""
    words = [f"{name} = {i}" for i, name in enumerate(classes)]
    return ", ".join(words if len(words) <= most else [*words[:most], "...", words[-1]])


def _remedy(cell: str, width: int) -> str:
    if cell.casefold() in MISSING:
        return "fill it in or drop the line"
    if width == 1 and len(cell.split()) > 1:
        return "separate the columns by commas, semicolons or tabs"
    return "write a plain number, encode the column, or drop it or the line; --label-column names labels"


def _notes(
    layout: Layout,
    coordinates: list[int],
    left_aside: list[int],
    classes: tuple[str, ...],
) -> tuple[str, ...]:
    """Which column was taken for what; nothing of a plain table of numbers."""
    if layout.names is None and layout.label is None:
        return ()
    notes = []
    if layout.label is None:
        notes.append("no column of labels")
    else:
        coded = f": {said_classes(classes)}" if classes else ""
        notes.append(f"labels in {layout.column(layout.label)}{coded}")
    notes += [f"{layout.column(i)} numbers the samples and is left aside" for i in left_aside]
    named = ", ".join(layout.column(i) for i in coordinates[:8]) + ", ..." * (len(coordinates) > 8)
    notes.append(f"{len(coordinates)} coordinate{'s' * (len(coordinates) > 1)}: {named}")
    if layout.decimal == ",":
        notes.append("commas are decimal signs")
    return (f"{layout.name}: {'; '.join(notes)}",)
