"""Where every sample stands in the picture of islands; numbers only, nothing is drawn here.

One bar a layer, a block an island, and within a block the samples by class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot.profiles.profile import TopologyProfile, UntanglingRow

# More bars than these are not told apart.
MOST_LAYERS = 24
# Of more classes than these, neighbours share a colour.
MOST_COLOURS = 48
# Of the height of all samples, between two blocks.
GAP = 0.015

Key: TypeAlias = tuple[str, int]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Bar:
    """One layer output at one epoch.

    Attributes:
        row: its numbers.
        blocks: int ``[n]``, the block of each sample, 0 at the bottom; empty where it is not known.
        sizes: int ``[blocks, classes]``, how many samples of each class stand in a block; the classes in
            the order of the picture.
    """

    row: UntanglingRow
    blocks: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def bottoms(self) -> NDArray[np.float64]:
        """``[blocks, classes]``, in samples: where those of a class begin. Gaps are between blocks."""
        heights = self.sizes.ravel()
        starts = (np.cumsum(heights) - heights).reshape(self.sizes.shape)
        return starts + GAP * len(self.blocks) * np.arange(len(self.sizes))[:, None]


@dataclass(frozen=True, eq=False)
class IslandsPicture:
    """All bars of a profile.

    Attributes:
        epochs: that were measured, in order.
        layers: ``(layer, call)`` of the bars, in order.
        n_layers: how many layers were measured; more than there are bars where they are too many.
        classes: from the bottom of a block to its top.
        ranks: int ``[n]``, of each sample the place of its class in ``classes``.
        by_class: False where there are no labels, and samples are told apart by where they end: by their
            island in the last bar of the last epoch.
        bars: ``[epoch][layer]``; None where nothing was measured.
    """

    epochs: tuple[int | None, ...]
    layers: tuple[Key, ...]
    n_layers: int
    classes: tuple[int, ...]
    ranks: NDArray[np.int64]
    by_class: bool
    bars: tuple[tuple[Bar | None, ...], ...]


def islands_picture(
    profile: TopologyProfile, layers: Iterable[Key] | None = None, most: int = MOST_LAYERS
) -> IslandsPicture | None:
    """Lay out the islands of a profile; None where no row says who is on which island.

    Classes stand in one order in all blocks. It begins with the last layer of the last epoch, whose
    islands are ordered by the class that most of their samples have; each layer before, and each epoch
    before, has its blocks in the order in which fewest samples cross on their way there.

    Args:
        layers: which to show; all of them by default.
        most: how many bars at most: evenly chosen, with the first layer and the last two.
    """
    rows = [row for row in profile.untangling if row.random is None]
    measured = tuple(dict.fromkeys((row.layer, row.call) for row in rows))
    wanted = set(measured if layers is None else layers)
    keys = chosen_evenly([key for key in measured if key in wanted], most)
    epochs = tuple(dict.fromkeys(row.epoch for row in rows))
    row_of = {(row.epoch, row.layer, row.call): row for row in rows}
    grid = [[row_of.get((epoch, *key)) for key in keys] for epoch in epochs]
    members = [row.members for of_epoch in grid for row in of_epoch if row is not None and row.members]
    n = len(members[-1] if members and profile.labels is None else profile.labels or ())
    # A file may say what it likes: members of other samples than the labels are not known.
    members = [of for of in members if len(of) == n]
    if not members:
        return None
    _, end = np.unique(members[-1], return_inverse=True)
    classes, coded = np.unique(end if profile.labels is None else profile.labels, return_inverse=True)
    order = _class_order(end, coded, len(classes))
    ranks = np.argsort(order)[coded]
    blocks = _all_blocks(grid, end, ranks)
    bars = tuple(
        tuple(
            None if row is None else Bar(row, of, _sizes(of, ranks, len(classes)))
            for row, of in zip(of_epoch, blocks_of_epoch, strict=True)
        )
        for of_epoch, blocks_of_epoch in zip(grid, blocks, strict=True)
    )
    in_order = tuple(int(c) for c in classes[order])
    return IslandsPicture(
        epochs, tuple(keys), len(wanted), in_order, ranks, profile.labels is not None, bars
    )


@dataclass(frozen=True)
class Flow:
    """Samples of one class that go from a block to a block of the next bar."""

    block: int
    next_block: int
    rank: int
    samples: int


def flows(bar: Bar, following: Bar, ranks: NDArray[np.int64]) -> list[Flow]:
    """Who was with whom: every group of samples that share class, block and next block."""
    if not len(bar.blocks) or not len(following.blocks):
        return []
    ways, counts = np.unique(np.stack([bar.blocks, following.blocks, ranks]), axis=1, return_counts=True)
    return [Flow(*map(int, (*way, n))) for way, n in zip(ways.T, counts, strict=True)]


def colour_groups(n_classes: int) -> NDArray[np.int64]:
    """The colour of each class by its place: its own, or with its neighbours' where classes are many."""
    groups = min(n_classes, MOST_COLOURS)
    return np.arange(n_classes) * groups // max(1, n_classes)


def chosen_evenly(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of them: the first, the last two, and others at even distances between."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in evenly(len(items) - 1, max(0, most - 1))] + [items[-1]]


def evenly(n: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``n``, evenly apart: the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, most)).round())]


def layer_name(layer: str, call: int) -> str:
    return layer if call == 0 else f"{layer} (call {call + 1})"


def shuffled_tangle(profile: TopologyProfile, key: Key) -> tuple[float, float] | None:
    """The tangle of shuffled labels in a layer; a Monitor measures it once, before the training."""
    rows = (row for row in profile.untangling if (row.layer, row.call) == key and row.random is None)
    return next((row.shuffled for row in rows if row.shuffled is not None), None)


def random_span(profile: TopologyProfile, key: Key, name: str) -> tuple[float, float] | None:
    """The lowest and highest of a number in a layer over the copies with random weights."""
    found = [
        getattr(row, name)
        for row in profile.untangling
        if row.random is not None and (row.layer, row.call) == key and getattr(row, name) is not None
    ]
    return (min(found), max(found)) if found else None


def _sizes(blocks: NDArray[np.int64], ranks: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    count = int(blocks.max(initial=-1)) + 1
    sizes = np.zeros((count, n_classes), np.int64)
    np.add.at(sizes, (blocks, ranks[: len(blocks)]), 1)
    return sizes


def _class_order(members: NDArray[np.int64], coded: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The classes in the order of the islands that hold most of them: neighbours stand together."""
    sizes = _sizes(members, coded, n)
    by_class = np.argsort(sizes.argmax(axis=1), kind="stable")
    place = np.argsort(by_class)
    return np.lexsort((np.arange(n), place[sizes.argmax(axis=0)]))


def _all_blocks(
    grid: Sequence[Sequence[UntanglingRow | None]], end: NDArray[np.int64], ranks: NDArray[np.int64]
) -> list[list[NDArray[np.int64]]]:
    """The members of each bar, renumbered from the bottom, from the last bar of the last epoch back."""
    blocks: list[list[NDArray[np.int64]]] = []
    # Where samples stand in the same layer of the epoch after, and in the layer after.
    later: list[NDArray[np.float64] | None] = [None] * len(grid[-1])
    start = _heights(_ordered(end, ranks.astype(float)), ranks)
    for of_epoch in reversed(grid):
        of_bars: list[NDArray[np.int64]] = []
        beside = start if later[-1] is None else later[-1]
        for at in range(len(of_epoch) - 1, -1, -1):
            row, same = of_epoch[at], later[at]
            if row is None or len(row.members) != len(ranks):
                of_bars.append(np.empty(0, np.int64))
                continue
            # The same islands as in the epoch after stay where they are.
            target = beside if same is None else 0.1 * beside + same
            ordered = _ordered(row.members, target)
            beside = later[at] = _heights(ordered, ranks)
            of_bars.append(ordered)
        blocks.append(of_bars[::-1])
    return blocks[::-1]


def _heights(blocks: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[n]``: the height of each sample in its bar; those of a class and a block share theirs."""
    _, group, counts = np.unique(
        np.stack([blocks, ranks]), axis=1, return_inverse=True, return_counts=True
    )
    middles = np.cumsum(counts) - counts / 2
    return np.asarray(middles[group.reshape(-1)])


def _ordered(islands: ArrayLike, target: NDArray[np.float64]) -> NDArray[np.int64]:
    """Renumber the islands so that few pairs of samples cross on their way to ``target``.

    By the mean of their targets, then neighbours change places while that helps; of equals the one with
    the lower number stands below.
    """
    _, members = np.unique(islands, return_inverse=True)
    heights, level = np.unique(target, return_inverse=True)
    count = np.zeros((int(members.max()) + 1, len(heights)))
    np.add.at(count, (members, level), 1)
    below = np.cumsum(count, axis=1) - count
    crossing = count @ below.T  # [a, b]: pairs that cross while a stands below b
    order = np.argsort(count @ heights / count.sum(axis=1), kind="stable")
    changed = True
    while changed:
        changed = False
        for i in range(len(order) - 1):
            a, b = order[i], order[i + 1]
            if crossing[a, b] > crossing[b, a]:
                order[i], order[i + 1] = b, a
                changed = True
    return np.argsort(order)[members]
