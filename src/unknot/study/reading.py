"""Reader: accuracies of nets along their training, exact where something hangs on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

# Samples after which it is asked whether more are needed.
BLOCK = 256
# (inputs, labels, numbers of nets) -> how many of the samples each of these nets classifies rightly.
CountRight = Callable[[Tensor, Tensor, list[int]], list[int]]


class Reader:
    """Reads accuracies on one set of samples.

    Args:
        inputs, labels: ``[n, ...]`` and int64 ``[n]``.
        exact_from: accuracies from this on are of all samples. A lower one is of the first samples, in
            one random order for all nets and times, by which it is certain to be lower; of 256 at least,
            where there are so many. So whether and when a target from here on is reached is known
            exactly, for a tenth of the work. 0 reads all.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, exact_from: float = 0.0) -> None:
        self._inputs, self._labels, self._exact_from = inputs, labels, exact_from
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        self._blocks = torch.split(order.to(inputs.device), BLOCK)

    def read(self, count_right: CountRight, nets: int, *, whole: Collection[int] = ()) -> list[float]:
        """One accuracy a net, NaN without samples; of the nets ``whole`` of all samples in any case."""
        n, left = len(self._labels), list(range(nets))
        if n == 0:
            return [math.nan] * nets
        if len(whole) == nets or self._exact_from <= 0:
            return [right / n for right in count_right(self._inputs, self._labels, left)]
        right, of, seen = [0] * nets, [0] * nets, 0
        for block in self._blocks:
            seen += len(block)
            more = count_right(self._inputs[block], self._labels[block], left)
            for net, found in zip(left, more, strict=True):
                right[net] += found
                of[net] = seen
            left = [
                net for net in left if (right[net] + n - seen) / n >= self._exact_from or net in whole
            ]
            if not left:
                break
        return [a / b for a, b in zip(right, of, strict=True)]
