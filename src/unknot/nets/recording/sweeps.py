"""Which layers are read in which runs of a model, so that what has to be held at once fits.

A sweep runs some blocks of samples side by side up to the last of its layers. Every pair of blocks has to
meet: so they meet like the points on the lines of a projective plane, of which any two lie on one line.
With lines of q + 1 out of q^2 + q + 1 blocks the model runs q + 1 times, and about one sample in q is
alive at a time. As what is alive falls with depth, the layers are cut into sections, each with its own
plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, NoReturn

from unknot.core.errors import InputError
from unknot.core.memory import LIMIT_VARIABLE
from unknot.nets.recording.outputs import LayerShape
from unknot.nets.recording.products import BLOCK, BLOCKS


def _plane(blocks: int, *first: int) -> tuple[tuple[int, ...], ...]:
    """Its lines, of one that is moved on block by block."""
    return tuple(tuple(sorted((i + by) % blocks for i in first)) for by in range(blocks))


# Blocks that run together, by how many there are; more runs than the last takes are refused.
GROUPS = {
    1: ((0,),),
    3: _plane(3, 0, 1),
    5: ((0, 1, 2), (0, 3, 4), (1, 3, 4), (2, 3, 4)),  # no plane, and the best between its neighbours
    7: _plane(7, 0, 1, 3),
    13: _plane(13, 0, 1, 3, 9),
    21: _plane(21, 0, 1, 4, 14, 16),
    31: _plane(31, 0, 1, 3, 8, 12, 18),
    57: _plane(57, 0, 1, 3, 13, 32, 36, 43, 52),
    73: _plane(73, 0, 1, 3, 7, 15, 31, 36, 54, 63),
}
# Of what is alive, what one batch may take.
_BATCHES = 16
# Samples in a batch at least: smaller ones run slowly, and are for want of room only.
_LEAST_BATCHES = (8, 2)


@dataclass(frozen=True)
class Pause:
    """A layer where the batches wait for each other.

    Attributes:
        shape: of what is read there.
        alive: bytes a sample that the model holds there.
        most: bytes a sample that it held at most on the way there.
        steps: numbers a sample that it had returned by then: what a run up to there costs, roughly.
        wide: whether distances are kept, and not values.
    """

    shape: LayerShape
    alive: float
    most: float
    steps: float
    wide: bool


@dataclass(frozen=True)
class Section:
    """Layers that are read together.

    Attributes:
        pauses: in order.
        blocks: of samples, one of `GROUPS`.
        batch_size: samples run at once.
    """

    pauses: tuple[Pause, ...]
    blocks: int
    batch_size: int

    @property
    def passes(self) -> tuple[tuple[int, ...], ...]:
        """Blocks that run together, pass by pass."""
        return GROUPS[self.blocks]

    @property
    def runs(self) -> float:
        """How often the samples run up to the last of the layers."""
        return sum(map(len, self.passes)) / self.blocks

    def __str__(self) -> str:
        first, last = self.pauses[0].shape, self.pauses[-1].shape
        count = f"{len(self.pauses)} layer outputs, {_named(first)} to {_named(last)}"
        if self.blocks == 1:
            return f"{count}: in one run of the model, all samples side by side"
        share = len(self.passes[0]) / self.blocks
        how = f"in {self.runs:g} runs of the model up to there"
        return f"{count}: {how}, {share:.0%} of the samples side by side"


def plan_sections(
    pauses: Sequence[Pause], samples: int, batch_size: int, limit: float
) -> tuple[Section, ...]:
    """The sections that take the fewest steps of the model, in at most ``limit`` bytes.

    Raises:
        InputError: a layer that does not fit with the most blocks.
    """
    best: list[tuple[float, tuple[Section, ...]]] = [(0.0, ())]
    for stop in range(1, len(pauses) + 1):
        choices = []
        needs = _Needs()
        for start in reversed(range(stop)):
            needs = needs.with_pause(pauses[start], samples)
            fitting = _fitting(needs, samples, batch_size, limit)
            if fitting is None:
                break  # nor do more layers
            cost, sections = best[start]
            section = Section(tuple(pauses[start:stop]), *fitting)
            choices.append((cost + section.runs * pauses[stop - 1].steps, (*sections, section)))
        if not choices:
            _refuse(pauses[stop - 1], samples, limit)
        best.append(min(choices, key=lambda choice: (choice[0], len(choice[1]))))
    return best[-1][1]


def bytes_of_distances(samples: int) -> int:
    """What one layer's distances take once they are found."""
    return 8 * samples * samples


class _Needs(NamedTuple):
    """What a section takes: bytes a sample, and of what is kept, one by one or all together."""

    alive: float = 0.0
    most: float = 0.0
    largest: int = 0
    kept: int = 0

    def with_pause(self, pause: Pause, samples: int) -> _Needs:
        distances = max(4, pause.shape.dtype.itemsize) * samples**2 // 2
        kept = distances if pause.wide else pause.shape.bytes_of(samples)
        return _Needs(
            max(self.alive, pause.alive),
            max(self.most, pause.most),
            max(self.largest, kept),
            self.kept + kept,
        )


def _fitting(needs: _Needs, samples: int, batch_size: int, limit: float) -> tuple[int, int] | None:
    """The fewest blocks that fit, and the size of a batch."""
    for least, (blocks, groups) in product(_LEAST_BATCHES, GROUPS.items()):
        if blocks > max(1, samples // 2):
            continue
        together = len(groups[0]) * math.ceil(samples / blocks)
        # Products in two precisions, the rows that they are taken of, and what is being made of them.
        work = 28 * together**2 + 4 * BLOCK * BLOCKS * together + 12 * bytes_of_distances(samples)
        room = limit - work - (needs.largest if blocks == 1 else needs.kept)
        spare = int((room - together * needs.alive) // needs.most)
        wanted = min(batch_size, math.ceil(samples / blocks))
        batch = min(wanted, spare, max(least, int(room / _BATCHES / needs.most)))
        if batch >= min(wanted, least):
            return blocks, batch
    return None


def _refuse(pause: Pause, samples: int, limit: float) -> NoReturn:
    needed = samples * pause.alive / 1e9
    raise InputError(
        f"layer {pause.shape.layer}: {samples} samples of shape {pause.shape.shape}, with what the model "
        f"holds beside it ({needed:.2g} GB)",
        f"what fits {limit / 1e9:.2g} GB in {max(GROUPS)} parts",
        f"lower max_points, leave the layer out, or raise {LIMIT_VARIABLE}",
    )


def _named(shape: LayerShape) -> str:
    return f"{shape.layer} (call {shape.call})" if shape.call else shape.layer
