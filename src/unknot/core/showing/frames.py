"""Results as tables: a pandas frame, HTML in a notebook, text in a terminal."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar

from unknot.core.console import format_table
from unknot.core.errors import import_package

T = TypeVar("T")
Columns: TypeAlias = Mapping[str, Sequence[Any]]

# Of a large table: the first rows and columns, then how many more there are.
TEXT_ROWS, HTML_ROWS, COLUMNS = 10, 20, 16
TEXT_WIDTH = 60  # characters of a cell


class Tabular:
    """A result that is a table too: `to_frame` for pandas, a short table in notebooks and terminals.

    A class says what it holds by ``_columns`` and, in one line, by ``_title``.
    """

    def _columns(self) -> Columns:
        raise NotImplementedError

    def _title(self) -> str:
        return type(self).__name__

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(self._columns())

    def __repr__(self) -> str:
        return f"{self._title()}\n{text_table(self._columns())}"

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._title())


class Rows(Tabular, tuple[T, ...]):
    """A tuple of records that is a table too; a record in a record has its fields in the same row."""

    def _columns(self) -> Columns:
        return columns_of(self)

    def _title(self) -> str:
        return f"{len(self):,} row{'s' * (len(self) != 1)}"


def frame(columns: Columns) -> Any:
    """A pandas DataFrame of ``columns``.

    Raises:
        InputError: pandas is not installed.
    """
    return import_package("pandas", extra="plot").DataFrame(dict(columns))


def columns_of(rows: Iterable[Any]) -> dict[str, list[Any]]:
    """The fields of dataclasses as columns; None where a row lacks one.

    A dataclass in a field is replaced by its own fields; one whose name is taken has the field's before
    it, e.g. ``scale_note``.
    """
    records = [_record(row) for row in rows]
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _record(row: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    own = {field.name for field in fields(row)}
    for name in (field.name for field in fields(row)):
        value = getattr(row, name)
        if is_dataclass(value):
            inner = _record(value).items()
            record |= {f"{name}_{key}" if key in own else key: part for key, part in inner}
        else:
            record[name] = value
    return record


def cell_text(value: Any) -> str:
    """A value as tables show it; empty where there is none."""
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return ""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return f"{int(value):,}"
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{float(value):.4g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(cell_text(part) or "-" for part in value)
    return " ".join(str(value).split())


def text_table(columns: Columns, most: int = TEXT_ROWS) -> str:
    """Up to ``most`` rows in plain text, and what is left out."""
    names, shown, more = _corner(columns, most)
    short = [[f"{c[: TEXT_WIDTH - 3]}..." if len(c) > TEXT_WIDTH else c for c in row] for row in shown]
    return "\n".join([format_table(names, short), *more])


def html_table(columns: Columns, title: str, most: int = HTML_ROWS) -> str:
    """Up to ``most`` rows as an HTML table without scripts, every text escaped, and what is left out."""
    names, shown, more = _corner(columns, most)
    numeric = [all(_is_number(value) for value in columns[name]) for name in names]
    sides = [f' style="text-align: {"right" if number else "left"}"' for number in numeric]

    def row(tag: str, cells: Sequence[str]) -> str:
        inner = (f"<{tag}{s}>{html.escape(c)}</{tag}>" for s, c in zip(sides, cells, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    caption = html.escape(title).replace("\n", "<br>")
    body = "".join(row("td", cells) for cells in shown)
    rest = "".join(f"<p>{line}</p>" for line in more)
    table = f"<table><thead>{row('th', names)}</thead><tbody>{body}</tbody></table>"
    return f"<div><p>{caption}</p>{table}{rest}</div>"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))


def _corner(columns: Columns, most: int) -> tuple[list[str], list[list[str]], list[str]]:
    """The names of the first columns, the cells of the first rows, and lines on what is left out."""
    names = list(columns)[:COLUMNS]
    n = max((len(values) for values in columns.values()), default=0)
    cells = [[cell_text(columns[name][i]) for name in names] for i in range(min(n, most))]
    left = (("row", n - len(cells)), ("column", len(columns) - len(names)))
    return names, cells, [f"... {m:,} more {what}{'s' * (m != 1)}" for what, m in left if m]
