"""Tables in text: what each column is taken for, and what is refused with its line and column."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from unknot.core.errors import InputError
from unknot.core.tables import Samples, parse_table, read_table

IRIS = "sepal length,petal,species\n5.1,1.4,setosa\n6.3,6.0,virginica\n4.9,1.3,setosa\n"
POINTS = [[5.1, 1.4], [6.3, 6.0], [4.9, 1.3]]


def parsed(text: str, label_column: str | None = None) -> Samples:
    return parse_table(lambda: io.StringIO(text, newline=""), "t.csv", label_column)


def test_a_header_tells_the_column_of_labels_and_texts_are_numbered_in_sorted_order() -> None:
    samples = parsed(IRIS)
    assert samples.values.tolist() == POINTS
    assert samples.labels is not None and samples.labels.tolist() == [0, 1, 0]
    assert samples.classes == ("setosa", "virginica")
    assert samples.notes == (
        "t.csv: labels in column 3 (species): setosa = 0, virginica = 1; "
        "2 coordinates: column 1 (sepal length), column 2 (petal)",
    )


@pytest.mark.parametrize("name", ["label", "Labels", "target", "targets", "class", "y", "SPECIES", " y "])
def test_names_of_columns_of_labels(name: str) -> None:
    samples = parsed(f"a,{name}\n1.5,7\n2.5,3\n")
    assert samples.values.tolist() == [[1.5], [2.5]]
    assert samples.labels is not None and samples.labels.tolist() == [7, 3] and not samples.classes


@pytest.mark.parametrize(
    ("text", "values", "labels"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]], None),
        ("0,1\n1,0\n1,1\n", [[0, 1], [1, 0], [1, 1]], None),  # points, and no names 0 and 1
        ("x,y\n1,2\n3,4\n", [[1, 2], [3, 4]], None),  # beside x, y is a coordinate
        ("x,y,label\n1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),
        ("# x,y,label\n1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),  # as of numpy's savetxt
        ("\n\na,b\n\n1,2\n# a note\n3,4\n", [[1, 2], [3, 4]], None),
        (",0,1\n0,0.5,1.5\n1,0.2,0.3\n", [[0.5, 1.5], [0.2, 0.3]], None),  # as pandas writes frames
        ("0,1\n0.5,1.5\n0.2,0.3\n", [[0.5, 1.5], [0.2, 0.3]], None),  # and without the index
        (",a,label\n0,0.5,1\n1,0.2,0\n", [[0.5], [0.2]], [1, 0]),
        ("a,id,y\n1,7,0\n2,5,1\n", [[1], [2]], [0, 1]),
        ("id,a\n7,1\n7,2\n", [[7, 1], [7, 2]], None),  # an id that occurs twice numbers nothing
        ("date,a\n1,1\n1,2\n", [[1, 1], [1, 2]], None),
        (",a\n2020-01-01,1\n2020-01-02,2\n", [[1], [2]], None),  # row names
        ("label,0,1\ncat,0.5,1\ndog,1,1\ncat,2,1\n", [[0.5, 1], [1, 1], [2, 1]], [0, 1, 0]),
        ("a;b\n1,5;2,25\n-0,125;1e3\n", [[1.5, 2.25], [-0.125, 1000]], None),
        ('a,b\n"1,5",2\n3,4\n', [[1.5, 2], [3, 4]], None),
        ("a\tb\tclass\r\n1\t2\tx\r\n3\t4\ty\r\n5\t6\tx\r\n", [[1, 2], [3, 4], [5, 6]], [0, 1, 0]),
        ("a,b\r1,2\r3,4\r", [[1, 2], [3, 4]], None),
        ('"a","label"\n"1","x, y"\n"3","x, y"\n', [[1], [3]], [0, 0]),
        ("a,class\n1,True\n3,False\n2,True\n", [[1], [3], [2]], [1, 0, 1]),
        ("a\n1.5\n2.5\n", [[1.5], [2.5]], None),
    ],
)
def test_tables_and_their_values(text: str, values: list[list[float]], labels: list[int] | None) -> None:
    samples = parsed(text)
    assert samples.values.dtype == np.float64
    assert samples.values.tolist() == values
    assert (None if samples.labels is None else samples.labels.tolist()) == labels


def test_what_is_left_aside_is_said() -> None:
    assert parsed("id,a\n4,1\n3,2\n").notes == (
        "t.csv: no column of labels; column 1 (id) numbers the samples and is left aside; "
        "1 coordinate: column 2 (a)",
    )
    assert parsed("a;b\n1,5;2\n").notes[0].endswith("commas are decimal signs")
    assert parsed("1,2\n3,4\n").notes == ()


@pytest.mark.parametrize(
    ("text", "wanted", "values", "labels"),
    [
        ("5.1,1.4,b\n6.3,6,a\n4,1,b\n", "3", [[5.1, 1.4], [6.3, 6], [4, 1]], [1, 0, 1]),
        ("a,target,species\n1,0,5\n2,1,6\n", "target", [[1, 5], [2, 6]], [0, 1]),
        ("a,b\n5,0\n6,1\n", "1", [[0], [1]], [5, 6]),
        ("label,0,1\n5,0,7.5\n6,1,8.5\n", "0", [[5, 7.5], [6, 8.5]], [0, 1]),  # a name before a number
        ("a,target\n1,0.5\n2,1.5\n", "none", [[1, 0.5], [2, 1.5]], None),
    ],
)
def test_the_column_of_labels_by_name_or_number(
    text: str, wanted: str, values: list[list[float]], labels: list[int] | None
) -> None:
    samples = parsed(text, wanted)
    assert samples.values.tolist() == values
    assert (None if samples.labels is None else samples.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "t.csv with no rows"),
        ("a,b\n", "t.csv with no rows"),
        ("a,2.5\n1,2\n", "line 1, of names and numbers (a, 2.5): expected a header of names only"),
        ("NA,0.5\n1,2\n", "line 1, column 1 = NA: expected numbers only"),
        ("NA,NA\n1,2\n", "line 1, column 1 = NA"),
        ("-,-\n1,2\n", "line 1, column 1 = -"),
        ("NA,0,1\n3,4,5\n", "line 1, column 1 = NA"),
        ("a,b\ncm,cm\n1,2\n", "line 2, column 1 (a) = cm: expected numbers only"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 cells: expected 2 cells"),
        ("a\n1,2\n3,4\n", "line 2 has 2 cells: expected 1 cells"),
        (",,\n1,2,3\n", "line 1, column 1 is empty"),
        ("a,b\n1,\n2,3\n", "line 2, column 2 (b) is empty: expected numbers only, besides labels and an "
         "index; fill it in or drop the line"),
        ("1,2,\n3,4,\n", "line 1, column 3 is empty"),
        ("a,b\n1,nan\n2,3\n", "line 2, column 2 (b) = nan: expected a finite number"),
        ("1,2\n1,inf\n", "line 2, column 2 = inf"),
        ("1,2\n1,1e999\n", "line 2, column 2 = inf"),
        ("1,2\n1_000,2\n", "line 2, column 1 = 1_000"),
        ('a,b\n"1,234",2\n"2,345",3\n', "line 2, column 1 (a) = 1,234: expected a number that reads"),
        ('a,b\n"1,234.5",2\n3,4\n', "line 2, column 1 (a) = 1,234.5"),
        ("a;b\n2,5;3\n1.234,5;2\n", "line 3, column 1 (a) = 1.234,5: expected a decimal comma"),
        ("a;b\n1.5;2\n2,5;3\n", "line 2, column 1 (a) = 1.5: expected a decimal comma"),
        ("a,b,c\n1,2,foo\n3,4,foo\n", "line 2, column 3 (c) = foo: expected numbers only"),
        ("date,a\n2020-01-01,1\n2020-01-02,3\n", "line 2, column 1 (date) = 2020-01-01"),
        ("5.1,3.5,setosa\n4.9,3.0,virginica\n", "line 1, column 3 = setosa"),
        ('a,b\n"1,2\n3,4\n', "line 3 (unexpected end of data): expected cells with closed quotes"),
        ("1 2\n3 4\n", "separate the columns by commas, semicolons or tabs"),
        ("target,species,a\n0,x,1\n1,y,2\n", "labels may be in column 1 (target) or column 2 (species)"),
        ("a,target\n1,0.5\n2,1.5\n", "line 2, column 2 (target) = 0.5: expected a class"),
        ("a,target\n1,1e300\n2,1\n", "line 2, column 2 (target) = 1e300: expected a class"),
        ("a,label\n1,x\n2,\n", "line 3, column 2 (label) is empty: expected a label"),
        ("a,species\n1,x\n2,y\n3,z\n", "column 2 (species) of 3 different texts: expected labels"),
        ("id,label\n4,0\n5,1\n", "t.csv without coordinates"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_numbers_is_one_line_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(text)
    assert says in str(refused.value) and str(refused.value).startswith("t.csv")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wanted", "says"),
    [
        (IRIS, "kind", "label column kind of t.csv: expected one of sepal length, petal, species, or"),
        (IRIS, "4", "or a number from 1 to 3, or none"),
        (IRIS, "0", "or a number from 1 to 3"),
        ("1,2\n3,4\n", "a", "label column a of t.csv: expected a number from 1 to 2, or none"),
        ("a,a\n1,2\n", "a", "which 2 columns have"),
        (IRIS, "none", "line 2, column 3 (species) = setosa"),
    ],
)  # fmt: skip
def test_a_column_of_labels_that_is_not_there(text: str, wanted: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(text, wanted)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", IRIS.encode()),
        ("bom.csv", IRIS.encode("utf-8-sig")),
        ("utf16.csv", IRIS.encode("utf-16")),
        ("crlf.csv", IRIS.replace("\n", "\r\n").encode()),
        ("tabs.tsv", IRIS.replace(",", "\t").encode()),
        ("small.csv.gz", gzip.compress(IRIS.encode(), mtime=0)),
    ],
)
def test_encodings_and_compression(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    samples = read_table(tmp_path / name)
    assert samples.values.tolist() == POINTS and samples.classes == ("setosa", "virginica")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("latin.csv", "größe,b\n1,2\n".encode("latin-1"), "byte 0xf6, which is no utf-8"),
        ("cut.csv.gz", gzip.compress(IRIS.encode(), mtime=0)[:-12], "complete gzip file"),
        ("plain.csv.gz", IRIS.encode(), "complete gzip file"),
    ],
)
def test_files_that_are_no_text(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_table(tmp_path / name)


def test_a_table_larger_than_memory_is_refused_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zeros.csv.gz").write_bytes(gzip.compress(b"0,0\n" * 100_000))  # 400 bytes on disk
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.001")
    with pytest.raises(InputError, match=r"zeros.csv.gz of \d+ points .* at most 0.001 GB"):
        read_table(tmp_path / "zeros.csv.gz")


def test_numbers_come_back_as_they_were_written(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-150, 150, 2)[:, None][:50]
    np.savetxt(tmp_path / "n.csv", values, delimiter=",", fmt="%.17g")
    assert np.array_equal(read_table(tmp_path / "n.csv").values, values)
