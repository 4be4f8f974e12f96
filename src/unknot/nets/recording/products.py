"""Squared distances between rows that are too long to be put side by side, by float32 matrix products.

Of a few thousand numbers at a time, less those of a centre near all rows, blocks of products are taken in
the rows' own precision and added up:

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y

With u the unit roundoff (2^-24 in float32), a sum of m products in any order, fused or not, is off by at
most m u / (1 - m u) |x| |y| (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); here m is
`BLOCK`, and `BLOCKS` such sums are added in the same precision, the rest in float64. Norms, of as many
numbers, are off by as little; a rounded difference x - centre and the result by u of themselves:

    |error| <= unit (|x| + |y|)^2   with   unit = (BLOCK + BLOCKS + 12) u * 1.01

for x and y less the centre. That is the worst case: errors are about a thousandth of it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# Numbers of a row whose products are summed in one matrix product, and how many of these are added before
# float64 takes over: 32 MB of 1,000 rows. Longer blocks are a tenth faster and as much less exact.
BLOCK, BLOCKS = 512, 16
# Rows of a matrix product at most: a symmetric one is taken in such strips up to the diagonal.
STRIP = 128
# Squared norms between which nothing was lost to under- or overflow of their parts in float32.
_SURE = (2.0**-40, 2.0**120)
# What differs is no nearer, in units in which the farthest is about 1.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one batch.

    Attributes:
        first: the number of its first sample.
        block: of samples, to which all of the batch belong.
        values: ``[b, ...]``.
    """

    first: int
    block: int
    values: Tensor

    @property
    def numbers(self) -> range:
        """Of the samples."""
        return range(self.first, self.first + len(self.values))


class Squares:
    """The squared distances of all samples, as far as they are known, each once and in single precision.

    Args:
        samples: how many there are.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._reach = np.zeros(samples)
        self._unit = 0.0
        # In units of 4^-exponent, that of i > j at i (i - 1) / 2 + j; made by the first rows that come.
        self._lower: NDArray[np.floating[Any]] | None = None
        self._exponent = 0

    def add(self, parts: Sequence[Part], done: Container[tuple[int, int]] = ()) -> None:
        """The distances between the rows of ``parts``, in order of their numbers.

        Args:
            done: pairs of blocks, the lower first, whose distances are known.
        """
        rows = _flat([part.values for part in parts])
        numbers = np.concatenate([np.asarray(part.numbers) for part in parts])
        blocks = np.concatenate([np.full(len(part.values), part.block) for part in parts])
        strips = list(_strips(blocks, done))
        products, norms, shift = _scaled_gram(rows, strips)
        precision = torch.finfo(_precision(rows[0]))
        self._unit = (BLOCK + BLOCKS + 12) * precision.eps / 2 * 1.01
        # What underflow can take, of numbers flushed to 0 too, as if every row were so much longer.
        reach = np.sqrt(norms) + math.sqrt(rows[0].shape[1] * precision.tiny / self._unit)
        lower = self._made(float(reach.max()), shift, str(precision.dtype))
        equal = _Equal(rows)
        for here, there in strips:
            square = norms[here, None] + norms[None, there] - 2 * products[here, there]
            below = np.arange(there.start, there.stop)[None] < np.arange(here.start, here.stop)[:, None]
            close = square <= self._unit * (reach[here, None] + reach[None, there]) ** 2
            for i, j in np.argwhere(close & below).tolist():
                equal.compare(here.start + i, there.start + j)
            places = _place(numbers[here, None], numbers[None, there])[below]
            lower[places] = np.maximum(np.ldexp(square[below], 2 * (self._exponent - shift)), _LEAST)
        for group in equal.groups():
            members = np.sort(numbers[group])
            high, low = np.tril_indices(len(members), -1)
            lower[_place(members[high], members[low])] = 0.0
        self._reach[numbers] = np.maximum(self._reach[numbers], np.ldexp(reach, -shift))

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Squares, reach and unit as of `LayerDistances`."""
        assert self._lower is not None
        squares = np.zeros((self._samples, self._samples))
        squares[np.tri(self._samples, k=-1, dtype=bool)] = self._lower
        squares = np.ldexp(squares, -2 * self._exponent)
        return squares + squares.T, self._reach, self._unit

    def _made(self, reach: float, shift: int, precision: str) -> NDArray[np.floating[Any]]:
        if self._lower is None:
            self._lower = np.zeros(_place(self._samples, 0), dtype=precision)
            self._exponent = shift - math.frexp(reach)[1] if math.isfinite(reach) else shift
        return self._lower


def _place(i: Any, j: Any) -> Any:
    return i * (i - 1) // 2 + j


class _Equal:
    """Which rows are equal, of those that were compared.

    Args:
        rows: ``[b, d]`` of each batch.
    """

    def __init__(self, rows: Sequence[Tensor]) -> None:
        self._rows = [row for batch in rows for row in batch]
        self._first: dict[int, int] = {}  # of the group of a row

    def compare(self, i: int, j: int) -> None:
        mine, other = self._first.get(i, i), self._first.get(j, j)
        if mine != other and torch.equal(self._rows[i], self._rows[j]):
            for row in [row for row, first in self._first.items() if first in (mine, other)]:
                self._first[row] = min(mine, other)
            self._first[i] = self._first[j] = min(mine, other)
            self._first[mine] = self._first[other] = min(mine, other)

    def groups(self) -> Iterator[list[int]]:
        groups: dict[int, list[int]] = {}
        for row, first in self._first.items():
            groups.setdefault(first, []).append(row)
        return iter(groups.values())


def _strips(blocks: NDArray[np.int64], done: Container[tuple[int, int]]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the products that are still to be taken, below or on the diagonal."""
    bounds = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(blocks)]
    for at, (start, stop) in enumerate(pairwise(bounds)):
        mine = int(blocks[start])
        # Blocks of columns that follow each other.
        open_ = [(min(mine, b), max(mine, b)) not in done for b in blocks[bounds[: at + 1]].tolist()]
        if not any(open_):
            continue
        low = bounds[open_.index(True)]
        high = bounds[at + 1 - open_[::-1].index(True)]
        count = -(-(stop - start) // STRIP)
        edges = [start + (stop - start) * i // count for i in range(count + 1)]
        for first, last in pairwise(edges):
            yield slice(first, last), slice(low, min(high, last))


def _scaled_gram(
    rows: Sequence[Tensor], strips: Sequence[tuple[slice, slice]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """`_gram`, and the power of two that the rows were multiplied by for the sake of their squares."""
    products, norms = _gram(rows, strips, 0)
    most = float(norms.max())
    if _SURE[0] <= most <= _SURE[1]:
        return products, norms, 0
    reach = math.sqrt(most) if 0 < most < math.inf else max(float(batch.abs().max()) for batch in rows)
    if not 0 < reach < math.inf:
        return products, norms, 0
    shift = min(-math.frexp(reach)[1], 126)
    return *_gram(rows, strips, shift), shift


def _gram(
    rows: Sequence[Tensor], strips: Sequence[tuple[slice, slice]], shift: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Products of rows less a centre, ``[n, n]`` where ``strips`` say, and the squares of their norms."""
    n, d = sum(map(len, rows)), rows[0].shape[1]
    precision, device = _precision(rows[0]), rows[0].device
    taken = torch.empty((BLOCKS, n, BLOCK), dtype=precision, device=device)
    total = torch.zeros((n, n), dtype=torch.float64)
    squared_norms = torch.zeros(n, dtype=torch.float64)
    with _full_precision():
        for start in range(0, d, BLOCKS * BLOCK):
            width = min(BLOCKS * BLOCK, d - start)
            used = taken[: -(-width // BLOCK)]
            _take(rows, slice(start, start + width), 2.0**shift, used)
            summed = torch.zeros((n, n), dtype=precision, device=device)
            for block in used:
                for here, there in strips:
                    summed[here, there] += block[here] @ block[there].T
            norms = torch.linalg.vector_norm(used, dim=2)
            squared_norms += norms.to("cpu", torch.float64).square().sum(dim=0)
            for here, there in strips:
                total[here, there] += summed[here, there].cpu()
    return total.numpy(), squared_norms.numpy()


def _take(rows: Sequence[Tensor], columns: slice, factor: float, into: Tensor) -> None:
    """Columns of all rows, times ``factor`` and less a centre, into ``[blocks, n, BLOCK]``, 0 behind."""
    centre, first = None, 0
    for batch in rows:
        part = batch[:, columns].to(into.dtype)
        part = part if factor == 1.0 else part * factor
        missing = len(into) * into.shape[2] - part.shape[1]
        part = nn.functional.pad(part, (0, missing)) if missing else part
        part = part.reshape(len(part), len(into), -1).transpose(0, 1)
        centre = part.mean(dim=1, keepdim=True) if centre is None else centre
        torch.sub(part, centre, out=into[:, first : first + len(batch)])
        first += len(batch)


def _flat(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each as ``[b, d]``, numbers in one order for all, which is that of the first one's memory."""
    first = tensors[0]
    order = [0, *sorted(range(1, first.ndim), key=first.stride, reverse=True)]
    return [t.permute(order).flatten(1) if t.ndim > 1 else t[:, None] for t in tensors]


def _precision(rows: Tensor) -> torch.dtype:
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without the shorter formats that a user may have allowed for matrix products."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
