"""Files and arguments made to harm: the answer is a result or one line, and nothing else happens."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Browser, Tab, address, assert_quiet
from helpers.damage import written
from helpers.nets import factory
from helpers.page import page
from helpers.results import filter_profile, full_outcome, full_profile, plan, scores, study_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from unknot.cli.app import main
from unknot.cli.samples import load_data
from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.profiles.journal import read_profile
from unknot.pruning.artifact import load_pruned
from unknot.pruning.removal import PruningPlan
from unknot.report.page import write_report
from unknot.report.results import load_result
from unknot.topology.adapters.point_files import load_points

EXAMPLES = int(os.environ.get("UNKNOT_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
SCRIPT = "<script>alert(1)</script>"
QUOTES = "'\"><img src=x onerror=alert(2)>&lt;b&gt;{{7*7}}${7*7}\\u003cscript"


def one_line(read: Callable[[], object]) -> object:
    """What is read, or None where it was refused as it should be."""
    try:
        return read()
    except InputError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from None
        return None


# ---- artifacts


@pytest.mark.parametrize("name", ["weights.safetensors", "plan.json", "model.json"])
def test_a_file_of_an_artifact_may_not_lead_out_of_its_folder(
    saved: tuple[Path, nn.Module, PruningPlan], tmp_path: Path, name: str
) -> None:
    folder = saved[0]
    (folder / name).rename(tmp_path / "outside")
    for target in (tmp_path / "outside", Path("../outside")):
        (folder / name).symlink_to(target)
        with pytest.raises(InputError, match="a file of the folder itself"):
            load_pruned(factory, folder)
        (folder / name).unlink()
    (tmp_path / "outside").rename(folder / f"inside-{name}")
    (folder / name).symlink_to(f"inside-{name}")
    (tmp_path / "link").symlink_to(folder)
    assert load_pruned(factory, tmp_path / "link") is not None


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(path: Path, header: dict[str, Any], rest: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def test_sizes_and_types_that_do_not_match_are_refused(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    weights = saved[0] / "weights.safetensors"
    header, rest = header_of(weights)
    first = next(name for name, entry in header.items() if entry.get("shape") == [3, 1, 3, 3])
    changes: list[dict[str, Any]] = [
        {"shape": [10**9, 1, 3, 3]}, {"shape": [3, 1, 3, 2]}, {"shape": [-1]}, {"dtype": "I32"},
        {"dtype": "F16"}, {"data_offsets": [0, 10**12]}, {"data_offsets": [8, 0]},
        {"shape": [1, 3, 3, 3]},
    ]  # fmt: skip
    for change in changes:
        with_header(weights, {**header, first: {**header[first], **change}}, rest)
        with pytest.raises(InputError) as found:
            load_pruned(factory, saved[0])
        assert "\n" not in str(found.value)
    with_header(weights, {**header, "../../extra": header[first]}, rest)
    with pytest.raises(InputError):
        load_pruned(factory, saved[0])


PLANS: list[dict[str, Any]] = [
    {"input_shape": [1, 10**6, 10**6]}, {"input_shape": [-1, 8, 8]}, {"input_shape": []},
    {"input_shape": [5, 8, 8]}, {"input_shape": [1, 1, 1]}, {"input_shape": [2**70]},
    {"input_shape": [1.5]}, {"removed": {"conv1": ["0"]}}, {"removed": {"": [0]}},
    {"removed": {"nothing": [0]}},
    {"removed": {"conv1": [0, 1, 2, 3, 4, 5]}}, {"removed": {"conv1": [2**70]}}, {"removed": []},
    {"filters": {}}, {"filters": {"conv1": 10**9}}, {"removed": {"conv1": [0, 0, 0]}},
]  # fmt: skip


@pytest.mark.parametrize("change", PLANS, ids=lambda change: json.dumps(change)[:40])
def test_a_plan_made_to_harm_is_refused(
    saved: tuple[Path, nn.Module, PruningPlan], change: dict[str, Any]
) -> None:
    path = saved[0] / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError) as found:
        load_pruned(factory, saved[0])
    assert "\n" not in str(found.value)


# ---- the page


def everything_named(name: str) -> list[object]:
    """All kinds of results, every text in them replaced that is not one of a few words."""

    def renamed(value: Any) -> Any:
        if isinstance(value, str):
            return name
        if isinstance(value, dict):
            return {k: v if k in ("split", "measure") else renamed(v) for k, v in value.items()}
        return [renamed(v) for v in value] if isinstance(value, list) else value

    results: list[object] = []
    for result in (full_profile(), filter_profile(), scores(), plan(), full_outcome()):
        results.append((name, typed(type(result), renamed(json.loads(json.dumps(asdict(result)))))))
    return [*results, (name, study_rows(name, name))]


@pytest.mark.parametrize("name", [SCRIPT, QUOTES])
def test_any_text_in_a_result_stays_text(tmp_path: Path, name: str) -> None:
    shown = page(tmp_path, *everything_named(name), title=name)
    plain = page(tmp_path, *everything_named("ordinary-name"), title="ordinary-name")
    assert shown.tags == plain.tags
    assert shown.text.count(name) == plain.text.count("ordinary-name") > 10


@pytest.mark.parametrize("name", [SCRIPT, QUOTES])
def test_any_text_in_a_result_stays_text_in_the_browser(
    tmp_path: Path, webgl: Browser, name: str
) -> None:
    where = address(tmp_path, *everything_named(name), title=name)
    tab = Tab(webgl, where)
    assert tab.run("document.title") == name
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert not any(e.get("method") == "Page.javascriptDialogOpening" for e in webgl.events)
    assert_quiet(tab)
    tab.close()


# ---- sizes in headers


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_a_billion_rows_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "8")
    n = 10**9
    lying, sparse, archive = tmp_path / "lying.npy", tmp_path / "sparse.npy", tmp_path / "forged.npz"
    lying.write_bytes(header((n, 3)) + bytes(240))
    with sparse.open("wb") as file:  # as long as it says, and of no blocks on the disk
        file.write(header((n, 3)))
        file.truncate(len(header((n, 3))) + 24 * n)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("points.npy", header((n, 1), "|i1") + bytes(1000))
    content = archive.read_bytes()
    true_size = (len(header((n, 1), "|i1")) + 1000).to_bytes(4, "little")
    archive.write_bytes(
        content.replace(true_size, (n + 200).to_bytes(4, "little"))
    )  # as a bomb would have it
    for path, says in ((lying, "bytes"), (sparse, "at most 8 GB"), (archive, "at most 8 GB")):
        with pytest.raises(InputError, match=says):
            load_points(path)


def test_a_billion_rows_of_parquet_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "8")
    table = arrow.table({"b0": arrow.nulls(10**9)}).replace_schema_metadata({"unknot": "{}"})
    parquet.write_table(table, tmp_path / "p.parquet", row_group_size=10**9)
    assert (tmp_path / "p.parquet").stat().st_size < 1e7
    with pytest.raises(InputError, match="of 1000000000 points .* at most 8 GB"):
        read_profile(tmp_path / "p.parquet")


def test_arrays_and_archives_under_each_others_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4))
    np.savez(tmp_path / "b.npz", points=np.eye(4))
    (tmp_path / "a.npy").rename(tmp_path / "c.npz")
    (tmp_path / "b.npz").rename(tmp_path / "d.npy")
    for name in ("c.npz", "d.npy"):
        with pytest.raises(InputError, match="one row of numbers a point"):
            load_points(tmp_path / name)


@pytest.mark.parametrize(
    "labels",
    [["a", "b"] * 10, [1e300] * 20, [np.nan] * 20, [0.5] * 20, [10**15] * 20, [[1]] * 20, [1j] * 20],
    ids=str,
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: list[object]) -> None:
    np.savez(tmp_path / "d.npz", X=np.random.default_rng(0).normal(size=(20, 2)), y=np.array(labels))
    with pytest.raises(InputError) as found:
        load_data(str(tmp_path / "d.npz"))
    assert "\n" not in str(found.value)


# ---- fuzz: files


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, bits flipped, bytes put in, overwritten or repeated: up to four times."""
    draw = random.Random(seed)
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = int(len(made) * draw.random() ** draw.choice([1, 3]))
        kind = draw.randrange(6)
        if kind == 0:
            del made[at:]
        elif kind == 1 and at < len(made):
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            made[at:at] = draw.randbytes(draw.randint(1, 9))
        elif kind == 3:
            made[at : at + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"[[[[", b"1e99", b"null"])
        elif kind == 4:
            made[at:at] = made[at : at + draw.randint(1, 64)]
        else:
            del made[at : at + draw.randint(1, 64)]
    return bytes(made)


def read_any(path: Path) -> object:
    if path.stem == "points":
        return load_points(path)
    result = load_result(path)
    return write_report(path.with_name("page.html"), result)


@pytest.mark.parametrize(
    "name",
    [
        "profile.json", "profile.jsonl", "profile.parquet", "scores.json", "plan.json", "outcome.json",
        "study.sqlite", "points.npy", "points.npz", "points.csv",
    ],
)  # fmt: skip
def test_damaged_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = written(tmp_path)[name]
    monkeypatch.setattr(
        "unknot.report.page.get_plotlyjs", lambda: ""
    )  # 5 MB a page, which nobody reads here
    seen = set()

    @FUZZ
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        (tmp_path / name).write_bytes(damaged(content, seed))
        before = (tmp_path / name).read_bytes()
        seen.add(one_line(lambda: read_any(tmp_path / name)) is None)
        (tmp_path / "page.html").unlink(missing_ok=True)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_bytes() == before

    check()
    assert True in seen


def places(record: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        record.items()
        if isinstance(record, dict)
        else enumerate(record)
        if isinstance(record, list)
        else ()
    )
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


ODD: list[Any] = [
    None, True, -1, 0, 1, 2**70, -0.0, 0.5, 1e308, float("nan"), float("inf"), "", "name", "\ud800",
    SCRIPT, [], {}, [None], [[]], {"a": 1}, "x" * 5000,
]  # fmt: skip


def changed(record: Any, seed: int) -> Any:
    """One to three values of a record replaced, taken out or repeated."""
    draw = random.Random(seed)
    made = json.loads(json.dumps(record))
    for _ in range(draw.randint(1, 3)):
        *above, key = draw.choice(places(made)[1:])
        owner = made
        for step in above:
            owner = owner[step]
        kind = draw.randrange(4)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.insert(key, owner[draw.randrange(len(owner))])
        else:
            owner[key] = draw.choice(ODD)
        if not made or not places(made)[1:]:
            break
    return made


@pytest.mark.parametrize("name", ["profile.json", "scores.json", "plan.json", "outcome.json"])
def test_odd_values_in_a_result_are_shown_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    record = json.loads(written(tmp_path)[name])
    monkeypatch.setattr("unknot.report.page.get_plotlyjs", lambda: "")

    @FUZZ
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        (tmp_path / name).write_text(json.dumps(changed(record, seed)))
        one_line(lambda: read_any(tmp_path / name))
        (tmp_path / "page.html").unlink(missing_ok=True)
        assert [p.name for p in tmp_path.iterdir()] == [name]

    check()


def test_odd_values_in_an_artifact_are_refused_in_one_line(
    saved: tuple[Path, nn.Module, PruningPlan],
) -> None:
    folder = saved[0]
    contents = {name: (folder / name).read_bytes() for name in ("plan.json", "weights.safetensors")}
    record, (head, rest) = json.loads(contents["plan.json"]), header_of(folder / "weights.safetensors")

    @FUZZ
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        kind = seed % 4
        if kind == 0:
            (folder / "plan.json").write_text(json.dumps(changed(record, seed)))
        elif kind == 1:
            with_header(folder / "weights.safetensors", changed(head, seed), rest)
        else:
            name = list(contents)[kind - 2]
            (folder / name).write_bytes(damaged(contents[name], seed))
        one_line(lambda: load_pruned(factory, folder))

    check()


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text("[" * 200_000)
        with pytest.raises(InputError, match="written by unknot"):
            load_result(tmp_path / name)


# ---- fuzz: arguments

VALUES = [
    "", "-1", "0", "1", "3", "1e9", "nan", "inf", "-inf", "1e999", str(2**63), str(2**70), "0.5", "x",
    "*", "--", "-", "/", "..", "/dev/null", "file/x", "a:b", ":", "os:system", "json:loads", "\x1b[31m",
    "é", SCRIPT, "points.npy", "gone.npz", "out.npz", "out.json", "a" * 300, "rings", "digits", "mlp",
    "relu", "[", "%s", "\udcff.npy",
]  # fmt: skip
OPTIONS = {
    "betti": ["--radius", "--knn", "--hops", "--max-dim", "--time-budget", "--seed", "--json"],
    "shape": ["--out", "--n", "--noise", "--seed", "--pairs", "--holes", "--name", "--json", "--grid"],
    "report": ["--out", "--seed", "--json"],
    "measure": ["--model", "--data", "--by", "--layers", "--radius", "--knn", "--max-points", "--out",
                "--tokens", "--every", "--repeats"],
    "study": ["--data", "--activations", "--out", "--targets", "--learning-rates", "--baseline", "--net"],
    "prune": ["--model", "--data", "--out", "--ratio", "--macs", "--criterion", "--rounds",
              "--max-betti"],
    "doctor": ["--seed", "--x"],
    "demo": ["--quick", "--seed", "--out"],
}  # fmt: skip
# What would be honest work, of seconds to hours.
WORKING = {"measure", "study", "prune", "demo", "doctor"}


def arguments_of(seed: int) -> list[str]:
    draw = random.Random(seed)
    verb = draw.choice([*OPTIONS, "betti", "shape", "", "nothing", "--version", "--bogus"])
    found = [verb]
    for option in draw.choices(OPTIONS.get(verb, ["--x"]), k=draw.randint(0, 5)):
        found += [option, *([] if option in ("--json", "--quick") else [draw.choice(VALUES)])]
    if verb in ("betti", "report", "shape"):
        found.insert(1, draw.choice([*VALUES, "points.npy", "rings"]))
    return found


def test_odd_arguments_are_obeyed_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(30, 2)))
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "1")
    kept = {"points.npy", "file"}

    @settings(FUZZ, max_examples=5 * EXAMPLES)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        arguments = arguments_of(seed)
        if arguments[0] in WORKING:
            arguments += ["--bogus"]  # the parser has seen all else by then
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main(arguments)
        code, told = left.value.code or 0, err.getvalue()
        assert code in (0, 2), (arguments, told)
        assert told.count("\n") == (code == 2), (arguments, told)
        made = {p.name for p in tmp_path.iterdir()} - kept
        assert code == 0 or not made, (arguments, made)
        for name in made:
            (tmp_path / name).unlink() if (tmp_path / name).is_file() else shutil.rmtree(tmp_path / name)

    check()
