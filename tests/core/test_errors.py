from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unknot.core.errors import (
    InputError,
    MissingPackage,
    import_package,
    missing_package,
    require_choice,
    require_count,
)
from unknot.core.workforce import Workforce
from unknot.nets.images import load_images
from unknot.profiles.journal import open_journal, read_profile


def lacks(package: str, install: str) -> str:
    expected = "expected what this needs to be installed"
    return f"package {package} is missing: {expected}; run: pip install {install}"


def test_the_first_module_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert import_package("yaml", "json", "csv", extra="data") is json


@pytest.mark.parametrize(
    ("module", "extra", "says"),
    [
        ("pyarrow.parquet", "data", lacks("pyarrow", "'unknot[data]'")),
        ("sklearn.datasets", None, lacks("scikit-learn", "scikit-learn")),
    ],
)
def test_a_missing_package_is_named_as_pip_knows_it(module: str, extra: str | None, says: str) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert str(missing_package(error, extra)) == says


def test_a_package_that_cannot_be_imported_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tracker.py").write_text("raise ImportError('needs a newer\\nprotocol')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackage) as caught:
        import_package("broken_tracker", "no_such_tracker", extra="trackers")
    assert str(caught.value) == (
        "package broken_tracker cannot be imported (needs a newer protocol): expected one that can; "
        "run: pip install --upgrade broken_tracker"
    )


def remote_set(tmp_path: Path) -> None:
    load_images("owner/name")


def parquet_out(tmp_path: Path) -> None:
    open_journal(tmp_path / "run.parquet")


def parquet_in(tmp_path: Path) -> None:
    (tmp_path / "run.parquet").write_bytes(b"PAR1")
    read_profile(tmp_path / "run.parquet")


def cluster(tmp_path: Path) -> None:
    with Workforce(cluster="tcp://localhost:1"):
        pass


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        ("datasets", "data", remote_set),
        ("pyarrow", "data", parquet_out),
        ("pyarrow", "data", parquet_in),
        ("distributed", "dask", cluster),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_needs_an_extra_names_it(
    module: str, extra: str, call: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("UNKNOT_CACHE", str(tmp_path))
    with pytest.raises(MissingPackage) as caught:
        call(tmp_path)
    assert str(caught.value) == lacks(module, f"'unknot[{extra}]'")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_counts_are_whole_numbers_of_any_kind(value: object) -> None:
    count = require_count("k", value)
    assert count == 3 and type(count) is int


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, np.float64(3), np.bool_(True), [3]])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"^k = .*: expected a whole number >= 1; pass e\.g\. k=1$"):
        require_count("k", value)


def test_a_name_out_of_a_few_is_checked_and_all_are_told() -> None:
    for by in ("layer", "class", "filter"):
        require_choice("by", by, ("layer", "class", "filter"))
    with pytest.raises(InputError) as caught:
        require_choice("by", "epoch", ("layer", "class", "filter"))
    assert str(caught.value) == "by = 'epoch': expected 'layer', 'class' or 'filter'; pick one"
