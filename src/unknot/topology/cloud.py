"""PointCloud: samples as rows, ready for a neighbour graph. Reading and checking of points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot.core.errors import InputError, require_count
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular

FloatArray = NDArray[np.floating[Any]]


MOST_DRAWN = 5000  # points; more would cover each other


class Points(Tabular):
    """Points with or without labels, as a table and drawn."""

    points: FloatArray
    labels: NDArray[np.int64] | None

    def __repr__(self) -> str:
        n, d = self.points.shape
        classes = "" if self.labels is None else f" of {len(np.unique(self.labels)):,} classes"
        return f"{type(self).__name__}({n:,} points{classes}, {d:,} coordinate{'s' * (d != 1)})"

    def _title(self) -> str:
        return repr(self)

    def _columns(self) -> dict[str, Any]:
        columns = {f"x{i}": column for i, column in enumerate(self.points.T)}
        return columns if self.labels is None else {**columns, "label": self.labels}

    def plot(self, ax: Any = None) -> Any:
        """Draw the first three coordinates, or the first two in flat axes; a colour and mark a class.

        Args:
            ax: matplotlib axes, flat or with ``projection="3d"``; None makes new ones, in space where the
                points have three coordinates or more.

        Returns:
            The axes. Of more than 5,000 points evenly spaced rows are drawn.

        Raises:
            InputError: no points, or none with a coordinate; matplotlib is not installed.
        """
        drawing.require_rows(self.points if self.points.shape[1] else (), "a cloud")
        points = self.points if self.points.shape[1] > 1 else np.pad(self.points, ((0, 0), (0, 1)))
        step = -(-len(points) // MOST_DRAWN)
        labels = None if self.labels is None else self.labels[::step]
        axes = drawing.point_axes(ax, points.shape[1])
        drawing.scatter(axes, points[::step], labels)
        return axes


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Points):
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
        """How many distinct points there are."""
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


def as_array(values: object, name: str) -> NDArray[Any]:
    """``values`` as an array, by numpy's protocol for arrays.

    Raises:
        InputError: not to be converted, or with masked values.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged rows, a tensor with gradient, ...
        raise InputError(
            f"{name} of type {type(values).__name__} ({error})",
            "an array of real numbers, all rows of one length",
            "make it a numpy array of numbers first",
        ) from None
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} with masked values", "numbers only", "fill them, or drop their rows")
    return array


def check_points(points: ArrayLike, name: str = "points") -> FloatArray:
    """``points`` as a finite C-contiguous float32 or float64 array ``[n, d]``.

    float32 stays float32; every other numeric type becomes float64. Arrays of more than two
    dimensions are flattened to one row a sample; of one dimension each number is a sample.

    Raises:
        InputError: not numeric, complex, no dimension, NaN or infinity inside, or numbers that float64
            cannot hold.
    """
    array = real_rows(points, name)
    require_finite(array, name)
    return array


def require_finite(array: FloatArray, name: str) -> None:
    """An InputError that names the first NaN or infinity of ``array`` ``[n, d]``."""
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(
            f"{name}[{row}, {column}] = {array[row, column]}",
            "finite numbers only",
            "drop or repair the rows with NaN or infinity",
        )


def real_rows(points: ArrayLike, name: str) -> FloatArray:
    """What `check_points` gives, NaN and infinity among it."""
    array = as_array(points, name)
    if array.dtype.kind not in "fiub":
        remedies = {"c": "pass real and imaginary parts as features"}
        dense = "pass its .toarray()" if hasattr(points, "toarray") else "convert it to float64"
        raise InputError(
            f"{name} of type {array.dtype}",
            "an array of real numbers, all rows of one length",
            remedies.get(array.dtype.kind, dense),
        )
    if array.ndim == 0:
        raise InputError(
            f"{name} of shape {array.shape}",
            "an array [n, d]",
            "pass one row a sample, e.g. [[0.0, 1.0]]",
        )
    if array.dtype not in (np.float32, np.float64):
        _require_exact(array, name)
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    return np.ascontiguousarray(array.reshape(array.shape[0], math.prod(array.shape[1:])))


def _require_exact(array: NDArray[Any], name: str) -> None:
    """Refuse what would become equal in float64 and is not."""
    kind, size = array.dtype.kind, array.dtype.itemsize if array.size else 0
    if kind in "iu" and size == 8 and (array.max() > 2**53 or array.min() < -(2**53)):
        raise InputError(
            f"{name} from {array.min()} to {array.max()}",
            "whole numbers up to 2^53, which float64 can tell apart",
            "subtract the least of each column, or pass them as float64 if the last digits do not matter",
        )
    if kind == "f" and size > 8 and ((array != 0) & (np.abs(array) < np.finfo(np.float64).tiny)).any():
        raise InputError(
            f"{name} with numbers below {np.finfo(np.float64).tiny:.3g}",
            "numbers that float64 can hold",
            "multiply them by a number, e.g. 1e300",
        )


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
        seed: of the subsample, >= 0.

    Raises:
        InputError: what `check_points` refuses, no point, labels that are not one whole number a point.
    """
    array = check_points(points)
    seed = require_count("seed", seed, minimum=0)
    if array.shape[0] == 0:
        raise InputError("points with 0 rows", "at least one point", "check what was loaded")
    label_array = None if labels is None else check_labels(labels, array.shape[0])
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


def check_labels(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    """``labels`` as int64 ``[n]``, or an InputError unless they are one whole number a point."""
    array = as_array(labels, "labels")
    if array.shape != (n,):
        raise InputError(f"labels of shape {array.shape}", f"shape ({n},)", "pass one label a point")
    if array.dtype.kind not in "iub" and not (
        array.dtype.kind == "f" and np.array_equal(array, np.round(array))
    ):
        raise InputError(
            f"labels of type {array.dtype}", "whole numbers", "encode the classes as 0, 1, 2, ..."
        )
    numbers = array.astype(np.float64) if array.dtype.kind == "f" else array
    if array.size and not (numbers.min() >= -(2.0**53) and numbers.max() <= 2.0**53):
        raise InputError(
            f"labels from {numbers.min()} to {numbers.max()}",
            "whole numbers below 2^53",
            "encode the classes as 0, 1, 2, ...",
        )
    return array.astype(np.int64)


def number_labels(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    """What `check_labels` gives; labels that are no numbers, e.g. names, as 0, 1, 2, ... in sorted order.

    Raises:
        InputError: another number of labels than ``n``, or labels that have no order.
    """
    array = as_array(labels, "labels")
    if array.dtype.kind in "fiubc" or array.shape != (n,):
        return check_labels(labels, n)
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise InputError(
            f"labels of several types ({error})", "numbers or names, not both", "pass one kind"
        ) from None


def _first_of_equal_rows(points: FloatArray, labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    first, number = group_equal_rows(points)
    if labels is None or len(first) == len(points):
        return first
    _, first = np.unique(np.stack([number, labels]), axis=1, return_index=True)
    return np.sort(first).astype(np.int64)


def group_equal_rows(points: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of ``points`` ``[n, d]``, and which of them each row equals.

    Returns:
        first: int64 ``[m]``, where each occurs first, ascending.
        number: int64 ``[n]`` in [0, m).
    """
    # Adding zero turns -0.0 into 0.0, which equals it but has other bytes.
    rows = np.ascontiguousarray(points + points.dtype.type(0))
    if rows.shape[1] == 0:
        rows = np.zeros((rows.shape[0], 1))
    # Sums of the bits as whole numbers: equal rows have equal sums, whatever the order of adding. Where
    # all sums differ there is nothing to sort.
    sums = rows.view(f"u{rows.dtype.itemsize}").sum(axis=1, dtype=np.uint64)
    sums.sort()
    if (sums[1:] != sums[:-1]).all():
        return np.arange(len(sums)), np.arange(len(sums))
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[number].astype(np.int64)


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
