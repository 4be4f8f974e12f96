"""PointCloud: samples as rows, ready for a neighbour graph. Reading and checking of points."""

from __future__ import annotations

import errno
import math
import tokenize
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot.core.errors import InputError, require_count
from unknot.core.memory import require_memory

FloatArray = NDArray[np.floating[Any]]
# What reading a damaged file raises. RuntimeError: an encrypted archive; NotImplementedError, one of its
# kind: a compression that Python does not know.
_DAMAGED = (
    ValueError, EOFError, LookupError, TypeError, SyntaxError, RecursionError, OverflowError,
    RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Distinct points of one cloud, with their labels where they have any.

    Attributes:
        points: float32 or float64 ``[n, d]``, C-contiguous, finite.
        labels: int64 ``[n]``, or None.
        n_original: how many points there were before duplicates were dropped and a subsample taken.
        seed: the seed of the subsample.
    """

    points: FloatArray
    labels: NDArray[np.int64] | None = None
    n_original: int = 0
    seed: int = 0

    @property
    def n_points(self) -> int:
        return int(self.points.shape[0])

    def classes(self) -> list[int]:
        """The labels that occur, ascending; empty where the cloud has no labels."""
        return [] if self.labels is None else [int(label) for label in np.unique(self.labels)]

    def of_class(self, label: int) -> PointCloud:
        """The class cloud of ``label``."""
        if self.labels is None or label not in self.labels:
            raise InputError(f"label = {label}", f"one of {self.classes()}", "list them with .classes()")
        mask = self.labels == label
        return PointCloud(self.points[mask], self.labels[mask], int(mask.sum()), self.seed)


def check_points(points: ArrayLike, name: str = "points") -> FloatArray:
    """``points`` as a finite C-contiguous float32 or float64 array ``[n, d]``.

    float32 stays float32; every other numeric type becomes float64. Arrays of more than two
    dimensions are flattened to one row a sample.

    Raises:
        InputError: not numeric, complex, no dimension, or NaN or infinity inside.
    """
    try:
        array: NDArray[Any] = np.asarray(points)
    except ValueError:
        array = np.asarray(None)  # ragged rows
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{name} of type {array.dtype}",
            "an array of real numbers, all rows of one length",
            "convert it to float64",
        )
    if array.ndim == 0:
        raise InputError(
            f"{name} = {array!r}", "an array [n, d]", "pass one row a sample, e.g. [[0.0, 1.0]]"
        )
    dtype = np.float32 if array.dtype == np.float32 else np.float64
    width = int(np.prod(array.shape[1:])) if array.shape[0] == 0 or array.ndim > 1 else 1
    array = np.ascontiguousarray(array.reshape(array.shape[0], width), dtype=dtype)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(
            f"{name}[{row}, {column}] = {array[row, column]}",
            "finite numbers only",
            "drop or repair the rows with NaN or infinity",
        )
    return array


def make_cloud(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    max_points: int | None = None,
    seed: int = 0,
) -> PointCloud:
    """Flatten samples to rows, drop duplicates, and take a seeded subsample.

    The subsample is stratified: every class keeps its share, and at least one point. Duplicates
    (equal rows of the same label) are dropped first, because k nearest neighbours at distance zero
    would say nothing about shape.

    Args:
        points: ``[n, ...]`` real numbers.
        labels: ``[n]`` integers, optional.
        max_points: at most this many points in all; None keeps every one.
        seed: of the subsample.
    """
    array = check_points(points)
    if array.shape[0] == 0:
        raise InputError("points with 0 rows", "at least one point", "check what was loaded")
    label_array = None if labels is None else _check_labels(labels, array.shape[0])
    keep = _first_of_equal_rows(array, label_array)
    if max_points is not None and keep.size > require_count("max_points", max_points):
        keep = _stratified(keep, label_array, max_points, np.random.default_rng(seed))
    whole = keep.size == array.shape[0]
    return PointCloud(
        array if whole else np.ascontiguousarray(array[keep]),
        None if label_array is None else label_array[keep],
        int(array.shape[0]),
        seed,
    )


def load_points(path: str | Path) -> PointCloud:
    """Read a point cloud; see `load_arrays` for the formats.

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
        InputError: unreadable, empty, of another format, or larger than `memory_limit` by its header;
            Python objects are never unpickled.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"file {path}", "one of .npy, .npz, .csv", "convert it, e.g. with np.save")
    if not path.is_file():
        raise FileNotFoundError(f"file {path}: expected a readable file; check the path")
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


def _check_labels(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InputError(f"labels of shape {array.shape}", f"shape ({n},)", "pass one label a point")
    if array.dtype.kind not in "iub" and not (
        array.dtype.kind == "f" and np.array_equal(array, np.round(array))
    ):
        raise InputError(
            f"labels of type {array.dtype}", "whole numbers", "encode the classes as 0, 1, 2, ..."
        )
    found = array.astype(np.float64) if array.dtype.kind == "f" else array
    if array.size and not (found.min() >= -(2.0**53) and found.max() <= 2.0**53):
        raise InputError(
            f"labels from {found.min()} to {found.max()}",
            "whole numbers below 2^53",
            "encode the classes as 0, 1, 2, ...",
        )
    return array.astype(np.int64)


def _first_of_equal_rows(points: FloatArray, labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    # Adding zero turns -0.0 into 0.0, which equals it but has other bytes.
    rows = np.ascontiguousarray(points + points.dtype.type(0))
    if rows.shape[1] == 0:
        rows = np.zeros((rows.shape[0], 1))
    # Sums of the bits as whole numbers: equal rows have equal sums, whatever the order of adding. Where
    # all sums differ there is nothing to sort.
    sums = rows.view(f"u{rows.dtype.itemsize}").sum(axis=1, dtype=np.uint64)
    sums.sort()
    if (sums[1:] != sums[:-1]).all():
        return np.arange(len(sums))
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    if labels is not None:
        _, first = np.unique(np.stack([number, labels]), axis=1, return_index=True)
    return np.sort(first).astype(np.int64)


def _stratified(
    keep: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    max_points: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    if labels is None:
        return np.sort(rng.choice(keep, max_points, replace=False))
    strata = [keep[labels[keep] == label] for label in np.unique(labels[keep])]
    share = max_points / keep.size
    chosen = [rng.choice(stratum, max(1, int(len(stratum) * share)), replace=False) for stratum in strata]
    return np.sort(np.concatenate(chosen))
