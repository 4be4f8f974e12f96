"""Points from files: .npy, .npz, .csv and .tsv."""

from __future__ import annotations

import errno
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError
from unknot.core.files import require_file
from unknot.core.memory import require_memory
from unknot.core.tables import Samples, Task, read_table
from unknot.topology.cloud import PointCloud, make_cloud

# What reading a damaged file raises. RuntimeError: an encrypted archive; NotImplementedError, one of its
# kind: a compression that Python does not know.
_DAMAGED = (
    ValueError, EOFError, LookupError, TypeError, SyntaxError, RecursionError, OverflowError,
    RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


def load_points(path: str | Path, *, label_column: str | None = None) -> PointCloud:
    """Read a point cloud; see `load_samples` for the formats.

    Args:
        path: a ``.npy``, ``.npz``, ``.csv`` or ``.tsv`` file, the latter two compressed (``.gz``) or not.
        label_column: of a ``.csv`` or ``.tsv`` file: the name or number, from 1, of the column of labels,
            or "none". By default a header tells: see `unknot.core.tables.parse_table`.

    Raises:
        InputError: a single point, or anything that `load_samples` or `make_cloud` refuses.
    """
    return cloud_of(load_samples(path, label_column=label_column), path)


def cloud_of(samples: Samples, path: str | Path) -> PointCloud:
    """The cloud of a file's samples; refuses a single point."""
    if len(samples.values) < 2:
        raise InputError(
            f"file {path} with {len(samples.values)} point(s)",
            "at least 2 points",
            "topology needs more than one point",
        )
    return make_cloud(samples.values, samples.labels)


def load_samples(path: str | Path, *, label_column: str | None = None, task: Task = "classes") -> Samples:
    """Read samples, and labels where there are any, from ``.npy``, ``.npz``, ``.csv`` or ``.tsv``.

    ``.npy``: an array ``[n, ...]``. ``.npz``: ``points`` and optionally ``labels``, or ``X`` and ``y``.
    ``.csv`` and ``.tsv``, also with ``.gz``: one sample a row, as of `unknot.core.tables.parse_table`.

    Args:
        path: the file.
        label_column: as of `load_points`.
        task: of a table, as of `unknot.core.tables.parse_table`.

    Raises:
        InputError: a folder, unreadable, empty, of another format, or larger than `memory_limit` by its
            header; Python objects are never unpickled.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    suffix = file_suffix(path)
    if path.is_dir():
        require_file(path)
    if suffix not in SUFFIXES:
        raise InputError(f"file {path}", f"one of {', '.join(SUFFIXES)}", "convert it, e.g. with np.save")
    if label_column is not None and suffix in (".npy", ".npz"):
        raise InputError(
            f"label column {label_column} of file {path}",
            "a file with columns, .csv or .tsv",
            "drop it; an .npz file holds labels as an array of that name, or y beside X",
        )
    require_file(path)
    if path.stat().st_size == 0:
        raise InputError(f"file {path} of 0 bytes", "points", "write it again")
    try:
        samples = _reader(suffix, task)(path, label_column)
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"file {path} ({' '.join(str(error).split())[:120]})",
            f"{suffix} with one row of numbers a point",
            "check that the file is complete and holds numbers only",
        ) from None
    if samples.values.ndim == 0 or len(samples.values) == 0:
        raise InputError(f"file {path} with no rows", "one row a point", "check what was written")
    return samples


def file_suffix(path: str | Path) -> str:
    """The ending that tells the format, in lower case, ``.gz`` with the one before it."""
    ends = [end.lower() for end in Path(path).suffixes[-2:]]
    return "".join(ends if ends[-1:] == [".gz"] else ends[-1:])


def _reader(suffix: str, task: Task) -> Callable[[Path, str | None], Samples]:
    if suffix == ".npy":
        return lambda path, _: _read_npy(path)
    if suffix == ".npz":
        return lambda path, _: _read_npz(path)
    return lambda path, label_column: _read_text(path, label_column, task)


def _read_npy(path: Path) -> Samples:
    with path.open("rb") as file:
        return Samples(_read_array(file, path.stat().st_size, path))


def _read_npz(path: Path) -> Samples:
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}

        def read(name: str) -> NDArray[Any]:
            try:
                with archive.open(members[name]) as file:
                    return _read_array(file, members[name].file_size, path)
            except OSError as error:
                if error.errno != errno.EINVAL:  # an offset that no file has
                    raise
                raise ValueError("a damaged list of contents") from None

        for points, labels in (("points", "labels"), ("X", "y")):
            if points in members:
                return Samples(read(points), read(labels) if labels in members else None)
        raise InputError(
            f"file {path} with arrays {sorted(members)}",
            "points (and labels), or X (and y)",
            "save it with np.savez(path, points=..., labels=...)",
        )


def _read_array(file: IO[bytes], size: int, path: Path) -> NDArray[Any]:
    """One array in numpy's format, refused by its header before any memory is taken for it.

    Args:
        size: bytes of the stream, header included.
    """
    version = np.lib.format.read_magic(file)
    header = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
    }  # fmt: skip
    if version not in header:
        raise ValueError(f"version {version} of the format, which is for records")
    shape, _, dtype = header[version](file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are never unpickled")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or dtype.itemsize == 0 or count * dtype.itemsize > size:
        raise ValueError(f"shape {shape} of {dtype} in {size:,} bytes")
    _require_room(shape[0] if shape else 1, count, dtype.itemsize, path)
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _require_room(rows: int, numbers: int, itemsize: int, path: Path) -> None:
    """Room for the array, for the float64 made of it, and for the copy without duplicates."""
    require_memory(rows, numbers * (itemsize + 16), f"file {path}")


def _read_text(path: Path, label_column: str | None, task: Task) -> Samples:
    if path.suffix.lower() != ".gz":
        size = path.stat().st_size
        _require_room(size // 2, size // 2, 8, path)  # a number takes two characters at least
    return read_table(path, label_column, task)
