"""Tangle: how far classes are from one piece each, in the minimum spanning tree of all points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unknot import _native
from unknot.core.errors import InputError, require_count
from unknot.core.memory import require_memory
from unknot.core.showing.frames import Tabular
from unknot.topology.cloud import FloatArray, check_points, group_equal_rows, number_labels
from unknot.topology.distances import square_roots, squared_distances
from unknot.topology.homology import MOST_THREADS

# Of the baseline, and the lists that the tree starts from.
NEIGHBOURS = 10


@dataclass(frozen=True, repr=False)
class Tangle(Tabular):
    """How tangled the classes of a cloud are, with what it was measured on.

    Attributes:
        tangle: 0 where every class is one piece, 1 where the labels could as well be random; more where
            classes avoid their own, as on a chessboard.
        pieces: into how many pieces of one class each the tree falls without its edges between classes.
        purity: the share of the 10 nearest neighbours of a point (fewer where there are not so many) that
            have its label, on average; a baseline, in [0, 1].
        n_points: how many points were measured.
        classes: how many labels occur.
        note: what to heed; empty where there is nothing.
    """

    tangle: float
    pieces: int
    purity: float
    n_points: int
    classes: int
    note: str = ""

    def __repr__(self) -> str:
        measured = f"{self.n_points:,} points of {self.classes} classes"
        found = f"{self.tangle:.3g}, {self.pieces:,} pieces, purity {self.purity:.3g}, {measured}"
        return f"Tangle({found}{self.note and f'; {self.note}'})"

    def _columns(self) -> dict[str, list[Any]]:
        return {name: [value] for name, value in asdict(self).items()}


def tangle(points: ArrayLike, labels: ArrayLike, *, threads: int = 0) -> Tangle:
    """Measure how far the classes are from one piece each, over all scales at once.

    In the Euclidean minimum spanning tree of all points, edges between classes are counted (Friedman and
    Rafsky 1979):

        (between classes - (classes - 1)) / (their expectation for random labels - (classes - 1))

    The expectation is exact for the sizes that the classes have: (n (n - 1) - sum n_c (n_c - 1)) / n. The
    number has no unit and no scale, and compares over layers of any width. It goes with what nearest
    neighbours say of the labels: hence ``purity`` beside it, which is not topology and has less noise.

    The tree is exact, by squared distances in float64; of edges as long as each other the one between
    lower numbers is taken. Equal points have many such trees, and how they meet is averaged over all ways
    of linking them at random: their share of ``tangle`` is an expected value, and ``pieces`` is rounded.

    Args:
        points: ``[n, ...]``, one row a sample, float32 or float64 as given.
        labels: ``[n]`` whole numbers, names or whatever else numpy can sort; two classes or more, one of
            them of two points or more.
        threads: of the engine; 0 takes one a core. The answer does not depend on it.

    Raises:
        InputError: NaN, not one label a point, fractions or several types among the labels, one class,
            classes of one point each, more memory than `memory_limit` allows.
    """
    return tangle_and_shuffled(points, labels, threads=threads)[0]


def tangle_and_shuffled(
    points: ArrayLike, labels: ArrayLike, *, shuffles: int = 0, seed: int = 0, threads: int = 0
) -> tuple[Tangle, NDArray[np.float64]]:
    """`tangle`, and beside it float64 ``[shuffles]``: that of the same tree under permuted labels.

    Args:
        points, labels, threads: as of `tangle`, with its errors.
        shuffles: permutations of the labels, drawn by ``seed``.
    """
    array = check_points(points)
    n = len(array)
    numbers = number_labels(labels, n)
    threads = min(require_count("threads", threads, minimum=0), MOST_THREADS)
    classes = len(np.unique(numbers))
    if classes < 2:
        value = "labels of one class" if classes else "no labels"
        raise InputError(value, "two classes or more", "pass points of several classes")
    if classes == n:
        raise InputError(
            f"labels of {n} classes for {n} points",
            "two points or more in at least one class",
            "pass more points a class",
        )
    require_memory(n, n * (20 * NEIGHBOURS + 16 * array.shape[1] + 200), "the spanning tree")
    first, group = group_equal_rows(array)
    distinct = array if len(first) == n else array[first]
    near = _nearest(distinct, threads)
    tree = _tree(distinct, near, threads)
    if len(first) < n:
        near = _nearest(array, threads)
    return tangle_of(tree, near, numbers, group=group, shuffles=shuffles, seed=seed)


def tangle_of(
    tree: NDArray[np.integer],
    near: NDArray[np.int32],
    labels: NDArray[np.int64],
    *,
    group: NDArray[np.int64],
    shuffles: int = 0,
    seed: int = 0,
) -> tuple[Tangle, NDArray[np.float64]]:
    """What `tangle_and_shuffled` returns, of a tree and neighbours that are known.

    Args:
        tree: ``[m - 1, 2]``, edges between groups of equal points.
        near: ``[n, k]``, the neighbours of each point.
        labels: ``[n]``, of two classes or more, not all different.
        group: ``[n]`` in [0, m), the group of each point.
        shuffles, seed: as of `tangle_and_shuffled`.
    """
    n = len(labels)
    _, coded, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    classes = len(sizes)
    own = sum(int(size) * (int(size) - 1) for size in sizes)
    random = (n * (n - 1) - own) / n
    between = _edges_between(tree, group, coded)
    rng = np.random.default_rng(seed)
    shuffled = [_edges_between(tree, group, rng.permutation(coded)) for _ in range(shuffles)]
    equal = n - 1 - len(tree)
    found = Tangle(
        tangle=(between - (classes - 1)) / (random - (classes - 1)),
        pieces=round(between) + 1,
        purity=float((coded[near] == coded[:, None]).mean()),
        n_points=n,
        classes=classes,
        note=f"{equal} of {n} points equal another" if equal else "",
    )
    return found, (np.array(shuffled) - (classes - 1)) / (random - (classes - 1))


def longest_edge(points: FloatArray) -> float:
    """The longest edge of the spanning tree of two distinct points or more, in their unit."""
    edges = _tree(points, _nearest(points, 0), 0)
    return float(square_roots(*squared_distances(points, edges[:, 0], edges[:, 1])).max())


def _nearest(points: FloatArray, threads: int) -> NDArray[np.int32]:
    k = min(NEIGHBOURS, len(points) - 1)
    return _native.nearest(points, k, threads=threads) if k else np.empty((1, 0), np.int32)


def _edges_between(
    tree: NDArray[np.integer], group: NDArray[np.int64], labels: NDArray[np.int64]
) -> float:
    """How many edges join two classes; on average, where groups of equal points are joined at random.

    Args:
        tree: ``[m - 1, 2]``, edges between groups.
        group: ``[n]`` in [0, m), the group of each point.
        labels: ``[n]`` in [0, classes).
    """
    left, right = tree[:, 0], tree[:, 1]
    if len(tree) == len(group) - 1:  # no two points are equal
        return float((labels[left] != labels[right]).sum())
    ones = np.ones(len(group))
    counts = sparse.csr_array((ones, (group, labels)), shape=(group.max() + 1, labels.max() + 1))
    sizes = np.bincount(group)
    alike = counts[left].multiply(counts[right]).sum(axis=1) / (sizes[left] * sizes[right])
    outside = len(tree) - float(np.sum(alike))
    # A tree on s points has s - 1 edges, each as likely between any two of them.
    squares = np.asarray(counts.multiply(counts).sum(axis=1)).ravel()
    inside = float(((sizes**2 - squares) / sizes).sum())
    return outside + inside


def _tree(points: FloatArray, near: NDArray[np.int32], threads: int) -> NDArray[np.integer]:
    """The minimum spanning tree of distinct points ``[m, d]``, as edges ``[m - 1, 2]``."""
    if len(points) < 2:
        return np.empty((0, 2), np.int32)
    # A power of two changes no digit, unless the least of the numbers vanish: then a distance does.
    exponent = np.frexp(np.abs(points).max())[1]
    with np.errstate(under="ignore"):
        scaled = points if abs(exponent) < 60 else np.ldexp(points.astype(np.float64), -exponent)
    edges = _native.spanning_tree(scaled, near, threads=threads)
    return edges if len(edges) else _tree_in_own_units(points)


def _tree_in_own_units(points: FloatArray) -> NDArray[np.int64]:
    """The same by Prim's algorithm, for distances whose squares no float64 holds all of."""
    n = len(points)
    out = np.arange(1, n)
    mantissa, exponent = squared_distances(points, np.zeros(n - 1, np.int64), out)
    inside = np.zeros(n - 1, np.int64)
    edges = np.empty((n - 1, 2), np.int64)
    for i in range(n - 1):
        pair = np.minimum(out, inside) * n + np.maximum(out, inside)
        ties = np.flatnonzero(exponent == exponent.min())
        ties = ties[mantissa[ties] == mantissa[ties].min()]
        at = ties[pair[ties].argmin()]
        new = out[at]
        edges[i] = inside[at], new
        out, inside, mantissa, exponent, pair = (
            np.delete(a, at) for a in (out, inside, mantissa, exponent, pair)
        )
        m, e = squared_distances(points, np.full(len(out), new), out)
        code = np.minimum(out, new) * n + np.maximum(out, new)
        nearer = (m < mantissa) | ((m == mantissa) & (code < pair))
        shorter = (e < exponent) | ((e == exponent) & nearer)
        inside[shorter], mantissa[shorter], exponent[shorter] = new, m[shorter], e[shorter]
    return edges
