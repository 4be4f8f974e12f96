"""Profiles on disk: JSON lines that grow epoch by epoch, Parquet tables, and whole JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unknot.core.errors import InputError, import_package
from unknot.core.files import DAMAGED, as_path, require_file, require_suffix, write_file, write_text
from unknot.core.memory import require_memory
from unknot.profiles.profile import TopologyProfile

JOURNAL = "profile-journal"
_HEADER = ("seed", "versions", "scale", "settings", "notes", "sensitivity", "labels", "names")
_KINDS = {"row": "rows", "untangling": "untangling", "view": "views"}  # of records within an epoch
FORMATS = (".json", ".jsonl", ".parquet")


class Journal:
    """A ``.jsonl`` file to which every measured epoch is added as it comes.

    The first line is the header; then one line a row ("record": "row"), islands and tangle of a layer
    output ("untangling"), a picture ("view") or an epoch ("epoch"). The epoch's line comes last and
    makes it count: a run that is killed while writing loses that one epoch and nothing else; after a full
    disk the next epoch can be added. Read it with `read_profile`, or with
    ``pandas.read_json(path, lines=True).query("record == 'row'")``.

    Args:
        path: must not exist unless ``resume`` is set.
        resume: go on with an existing file, whose scale has to be the same.

    Raises:
        InputError: the file exists, is none that can be gone on with, or was made by another process
            since.
        OSError: it cannot be written, e.g. a full disk; what was written before stays as it was.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.earlier = _earlier(self.path, resume)
        self._started = False

    def add(self, part: TopologyProfile) -> None:
        """Append the epochs of ``part`` and force them to the disk."""
        if self._started:
            _append(self.path, _lines(part))
        elif self.earlier is not None:
            resume = json.dumps({"record": "resume"})
            _append(self.path, f"\n{resume}\n{_lines(part)}")  # a killed run may have left half a line
        elif self.path.is_file():
            _earlier(self.path, resume=False)  # it was not there when this journal was opened
        elif self.path.exists():  # a device
            _append(self.path, _head(part) + _lines(part))
        else:  # a file never stands there without its header
            write_text(self.path, _head(part) + _lines(part))
        self._started = True


class Table:
    """A ``.parquet`` file, which cannot be appended to: every epoch replaces it by a longer one.

    Arguments and errors as of `Journal`.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        _pyarrow()
        self.path = Path(path)
        self.earlier = _earlier(self.path, resume)
        self._whole = self.earlier

    def add(self, part: TopologyProfile) -> None:
        self._whole = part if self._whole is None else joined([self._whole, part])
        write_profile(self.path, self._whole)


def open_journal(path: str | Path, *, resume: bool = False) -> Journal | Table:
    """The writer for ``path``, by its suffix."""
    if as_path(path, "out").suffix not in (".jsonl", ".parquet"):
        raise InputError(f"out = {path}", "a name that ends in .jsonl or .parquet", "rename it")
    return (Journal if Path(path).suffix == ".jsonl" else Table)(path, resume=resume)


def write_profile(path: str | Path, profile: TopologyProfile) -> None:
    """Write a profile, whole or not at all; the suffix decides the format.

    Args:
        path: ``.jsonl`` for JSON lines; ``.parquet`` for the rows as a flat table, with the rest as JSON
            in the table's metadata under "unknot"; ``.json`` for one JSON record.
        profile: of `measure` or a Monitor.

    Raises:
        InputError: another result, another suffix, or a path that cannot be written to.
    """
    path = as_path(path, "path")
    if not isinstance(profile, TopologyProfile):
        raise InputError(
            f"a profile of type {type(profile).__name__}", "a TopologyProfile", "pass what measure gave"
        )
    require_suffix(path, "path", FORMATS)
    if path.suffix == ".parquet":
        _write_parquet(path, profile)
    elif path.suffix == ".jsonl":
        write_text(path, _head(profile) + _lines(profile))
    else:
        profile.to_json(path)


def read_profile(path: str | Path) -> TopologyProfile:
    """Read a profile in any of the formats.

    Args:
        path: ``.json``, ``.jsonl`` or ``.parquet``, as `write_profile` or a Monitor wrote it.

    Raises:
        InputError: damaged, foreign, a folder, or of another suffix.
        MissingFile: there is no such file.
    """
    path = as_path(path, "path")
    require_file(path)
    readers: dict[str, Callable[[Path], TopologyProfile]] = {
        ".json": TopologyProfile.from_json, ".jsonl": _read_lines, ".parquet": _read_parquet,
    }  # fmt: skip
    if path.suffix not in readers:
        raise InputError(f"file {path}", f"one of {', '.join(FORMATS)}", "pass a profile's file")
    try:
        return readers[path.suffix](path)
    except InputError:
        raise
    except (*DAMAGED, OSError, NotImplementedError) as error:
        raise InputError(
            f"file {path} ({type(error).__name__}: {str(error)[:60]})",
            "a profile written by unknot",
            "measure again",
        ) from None


def joined(parts: Iterable[TopologyProfile]) -> TopologyProfile:
    """Profiles of one run as one; an epoch that was measured again replaces the earlier one.

    Raises:
        InputError: they were measured differently.
    """
    parts = list(parts)
    first = parts[0]
    for part in parts[1:]:
        # A setting that an older file does not know was not there to be chosen.
        both = part.settings.keys() & first.settings.keys()
        differs = any(part.settings[key] != first.settings[key] for key in both)
        if differs or (part.seed, part.scale) != (first.seed, first.scale):
            raise InputError(
                f"settings {part.settings}, seed {part.seed}, {part.scale}",
                f"{first.settings}, seed {first.seed}, {first.scale}, as before",
                "write to a new file",
            )
    latest = {a.epoch: i for i, part in enumerate(parts) for a in part.accuracy}
    chosen = [
        (e, parts[i]) for e, i in sorted(latest.items(), key=lambda pair: (pair[0] is None, pair[0]))
    ]
    return replace(
        first,
        rows=tuple(row for e, part in chosen for row in part.rows if row.epoch == e),
        versions=parts[-1].versions,
        accuracy=tuple(a for e, part in chosen for a in part.accuracy if a.epoch == e),
        views=tuple(view for e, part in chosen for view in part.views if view.epoch == e),
        untangling=tuple(row for e, part in chosen for row in part.untangling if row.epoch == e),
        sensitivity=first.sensitivity or parts[-1].sensitivity,
        labels=parts[-1].labels,
        names=parts[-1].names,
    )


def _head(profile: TopologyProfile) -> str:
    record = replace(profile, rows=(), untangling=(), views=()).to_record()
    return _line({"unknot": JOURNAL, "record": "header", **{key: record[key] for key in _HEADER}})


def _lines(part: TopologyProfile) -> str:
    lines: list[dict[str, Any]] = []
    for accuracy in part.accuracy:
        numbers = {}
        for kind, field in _KINDS.items():
            records = [record for record in getattr(part, field) if record.epoch == accuracy.epoch]
            numbers[field] = len(records)
            # Only rows hold what is no plain value: asdict would copy each number of the others.
            plain = asdict if kind == "row" else vars
            lines += [{"record": kind, **plain(record)} for record in records]
        lines.append({"record": "epoch", **numbers, **asdict(accuracy)})
    return "".join(map(_line, lines))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _append(path: Path, text: str) -> None:
    """All of ``text`` at the end of the file, on the disk; or, on an error, none of it."""
    data = text.encode()
    with open(path, "ab", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):  # a device has no length
                file.truncate(end)
            raise


def _read_lines(path: Path) -> TopologyProfile:
    header: dict[str, Any] | None = None
    parts: list[dict[str, Any]] = []
    pending: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # half a line of a killed run: no closing line of that epoch follows
        kind = line.pop("record")
        if header is None:
            if line.pop("unknot") != JOURNAL:
                raise KeyError("unknot")
            header = line
        elif kind in pending:
            pending[kind].append(line)
        else:
            if kind == "epoch":
                records = {field: pending[kind] for kind, field in _KINDS.items()}
                if any(line.pop(field, len(found)) != len(found) for field, found in records.items()):
                    raise ValueError(f"epoch {line['epoch']} lacks rows")
                parts.append({**header, **records, "accuracy": [line]})
            pending = {kind: [] for kind in _KINDS}
    if header is None:
        raise ValueError("no header")
    return joined(TopologyProfile.from_record(part) for part in parts or [{**header, "rows": []}])


def _earlier(path: Path, resume: bool) -> TopologyProfile | None:
    """What a file to be written holds already."""
    if not path.exists():
        return None
    if not resume:
        raise InputError(f"out = {path} exists", "a new file", "pass resume=True to go on with it")
    return read_profile(path)


_ROW_BYTES = 1000  # of a row as Python objects
_SCALE_COLUMNS = ("k", "hops", "radius", "determined")


def _write_parquet(path: Path, profile: TopologyProfile) -> None:
    arrow, parquet = _pyarrow()
    # A scale's note is the same for most rows: the metadata hold every scale once.
    scales = list(dict.fromkeys(row.scale for row in profile.rows))
    records = []
    for row in profile.rows:
        columns = {key: getattr(row.scale, key) for key in _SCALE_COLUMNS}
        records.append({**asdict(row), **columns, "scale": scales.index(row.scale)})
    rest = {**replace(profile, rows=()).to_record(), "scales": [asdict(scale) for scale in scales]}
    table = arrow.Table.from_pylist(records).replace_schema_metadata({"unknot": json.dumps(rest)})
    write_file(path, lambda temporary: parquet.write_table(table, temporary))


def _read_parquet(path: Path) -> TopologyProfile:
    _, parquet = _pyarrow()
    n_rows = parquet.read_metadata(path).num_rows
    require_memory(n_rows, n_rows * _ROW_BYTES, f"file {path}")
    table = parquet.read_table(path)
    rest = json.loads((table.schema.metadata or {})[b"unknot"])
    scales = rest.pop("scales")
    rows = table.drop_columns(list(_SCALE_COLUMNS)).to_pylist() if table.num_rows else []
    return TopologyProfile.from_record(
        {**rest, "rows": [{**row, "scale": scales[row["scale"]]} for row in rows]}
    )


def _pyarrow() -> tuple[Any, Any]:
    return import_package("pyarrow", extra="data"), import_package("pyarrow.parquet", extra="data")
