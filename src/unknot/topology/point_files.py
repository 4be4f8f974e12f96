"""Points from files: .npy, .npz and .csv."""

from __future__ import annotations

import errno
import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError
from unknot.core.files import require_file
from unknot.core.memory import require_memory
from unknot.topology.cloud import PointCloud, make_cloud

# What reading a damaged file raises. RuntimeError: an encrypted archive; NotImplementedError, one of its
# kind: a compression that Python does not know.
_DAMAGED = (
    ValueError, EOFError, LookupError, TypeError, SyntaxError, RecursionError, OverflowError,
    RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_points(path: str | Path) -> PointCloud:
    """Read a point cloud; see `load_arrays` for the formats.

    Args:
        path: a ``.npy``, ``.npz`` or ``.csv`` file.

    Raises:
        InputError: a single point, or anything that `load_arrays` or `make_cloud` refuses.
    """
    points, labels = load_arrays(path)
    if len(points) < 2:
        raise InputError(
            f"file {path} with {len(points)} point(s)",
            "at least 2 points",
            "topology needs more than one point",
        )
    return make_cloud(points, labels)


def load_arrays(path: str | Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Read samples, and labels where there are any, from ``.npy``, ``.npz`` or ``.csv``.

    ``.npy``: an array ``[n, ...]``. ``.npz``: ``points`` and optionally ``labels``, or ``X`` and ``y``.
    ``.csv``: numbers separated by commas, one point a row, one optional header line; every column is
    a coordinate.

    Raises:
        InputError: a folder, unreadable, empty, of another format, or larger than `memory_limit` by its
            header; Python objects are never unpickled.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"file {path}", "one of .npy, .npz, .csv", "convert it, e.g. with np.save")
    require_file(path)
    if path.stat().st_size == 0:
        raise InputError(f"file {path} of 0 bytes", "points", "write it again")
    try:
        points, labels = readers[path.suffix.lower()](path)
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"file {path} ({' '.join(str(error).split())[:120]})",
            f"{path.suffix} with one row of numbers a point",
            "check that the file is complete and holds numbers only",
        ) from None
    if points.ndim == 0 or len(points) == 0:
        raise InputError(f"file {path} with no rows", "one row a point", "check what was written")
    return points, labels


def _read_npy(path: Path) -> tuple[NDArray[Any], None]:
    with path.open("rb") as file:
        return _read_array(file, path.stat().st_size, path), None


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
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
                return read(points), read(labels) if labels in members else None
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


def _read_csv(path: Path) -> tuple[NDArray[Any], None]:
    size = path.stat().st_size
    _require_room(size // 2, size // 2, 8, path)  # a number takes two characters at least
    with path.open(encoding="utf-8-sig") as lines:
        first = lines.readline().strip()
    try:
        [float(cell) for cell in first.split(",")]
        header = 0
    except ValueError:
        header = 1
    with warnings.catch_warnings():
        # loadtxt warns about a file without rows and returns an empty array; the caller refuses it.
        warnings.simplefilter("ignore", UserWarning)
        return np.loadtxt(path, delimiter=",", skiprows=header, ndmin=2, encoding="utf-8-sig"), None
