"""Tables: columns of records, cells, HTML without scripts, what is cut."""

from __future__ import annotations

import math
import pickle
import sys
from dataclasses import asdict, dataclass
from html.parser import HTMLParser

import numpy as np
import pytest

from unknot.core.errors import InputError
from unknot.core.showing.frames import Rows, Tabular, cell_text, columns_of, html_table, text_table

HOSTILE = '<script>alert(1)</script> & "x"'


@dataclass(frozen=True)
class Inner:
    k: int
    note: str = ""


@dataclass(frozen=True)
class Record:
    name: str
    inner: Inner | None
    values: tuple[float | None, ...] = ()
    note: str = "own"


RECORDS = Rows([Record("a", Inner(3, "why"), (1.5, None)), Record("b", None)])


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_record_in_a_record_has_its_fields_in_the_row() -> None:
    assert columns_of(RECORDS) == {
        "name": ["a", "b"],
        "k": [3, None],
        "inner_note": ["why", None],
        "values": [(1.5, None), ()],
        "note": ["own", "own"],
        "inner": [None, None],
    }


def test_a_field_that_no_row_has_is_a_column_of_none() -> None:
    assert columns_of([Record("b", None)])["inner"] == [None]
    assert columns_of([]) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (math.nan, ""), (math.inf, "inf"), (1234567, "1,234,567"), (np.int64(1000), "1,000"),
        (0.123456, "0.1235"), (np.float32(0.5), "0.5"), (True, "True"), ((1, None, 2.5), "1, -, 2.5"),
        ("two\nlines", "two lines"),
    ],
)  # fmt: skip
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_long_tables_say_how_much_is_left_out() -> None:
    columns = {"i": range(1234), "name": ["x" * 100] * 1234}
    assert text_table(columns).splitlines()[-1] == "... 1,224 more rows"
    assert len(text_table(columns).splitlines()) == 12
    assert text_table({"i": [1] * 11}).endswith("\n... 1 more row")
    assert "more" not in text_table({"i": [1] * 10})
    page = Tags(html_table(columns, "title"))
    assert page.tags.count("tr") == 21 and page.texts[-1] == "... 1,214 more rows"
    wide = html_table({f"x{i}": [i] for i in range(50_000)}, "title")
    assert Tags(wide).tags.count("td") == 16 and "... 49,984 more columns" in wide


def test_html_is_escaped_and_has_no_scripts() -> None:
    text = html_table({HOSTILE: [HOSTILE, 1.0]}, HOSTILE)
    page = Tags(text)
    assert set(page.tags) == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert [part for part in page.texts if part == HOSTILE] == [HOSTILE] * 3
    assert "&lt;script&gt;" in text


def test_numbers_stand_on_the_right() -> None:
    text = html_table({"n": [1, None, 2.5], "name": ["a", "b", "c"]}, "")
    assert text.count("text-align: right") == text.count("text-align: left") == 4


def test_rows_are_the_tuple_that_they_hold() -> None:
    assert tuple(RECORDS) == RECORDS and isinstance(RECORDS, tuple)
    assert pickle.loads(pickle.dumps(RECORDS)) == RECORDS
    assert [asdict(row)["name"] for row in RECORDS] == ["a", "b"]
    assert repr(RECORDS).splitlines()[0] == "2 rows" and repr(Rows()) == "0 rows\n"


def test_a_frame_has_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pandas", None)
        with pytest.raises(InputError, match=r"package pandas is missing.*unknot\[plot\]"):
            RECORDS.to_frame()
    pytest.importorskip("pandas")
    frame = RECORDS.to_frame()
    assert frame.columns.tolist() == ["name", "k", "inner_note", "values", "note", "inner"]
    assert frame["name"].tolist() == ["a", "b"] and frame["k"].tolist()[0] == 3


def test_what_is_said_comes_from_columns_and_title() -> None:
    class Two(Tabular):
        def _columns(self) -> dict[str, list[int]]:
            return {"a": [1, 2]}

        def _title(self) -> str:
            return "two"

    assert repr(Two()) == "two\na\n1\n2" and "<p>two</p>" in Two()._repr_html_()
