"""Which layers are read in which runs of a model, so that what has to be held at once fits.

A sweep runs some blocks of samples side by side up to the last of its layers. With m blocks every pair of
them has to meet: m - 1 runs of the model, with 2 / m of the samples at a time; with one block one run. As
what is alive falls with depth, the layers are cut into sections, each with its own m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple, NoReturn

from unknot.core.errors import InputError
from unknot.core.memory import LIMIT_VARIABLE
from unknot.nets.recording.outputs import LayerShape
from unknot.nets.recording.products import BLOCK, BLOCKS

# More runs of a model than so many, less one, are refused.
MOST_BLOCKS = 32
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
        blocks: of samples; 1, or 3 and more.
        batch_size: samples run at once.
    """

    pauses: tuple[Pause, ...]
    blocks: int
    batch_size: int

    @property
    def runs(self) -> int:
        """How often each sample runs up to the last of the layers."""
        return max(1, self.blocks - 1)

    def passes(self) -> list[tuple[int, ...]]:
        """Blocks that run together, pass by pass."""
        return list(combinations(range(self.blocks), 2)) if self.blocks > 1 else [(0,)]

    def __str__(self) -> str:
        first, last = self.pauses[0].shape, self.pauses[-1].shape
        count = f"{len(self.pauses)} layer outputs, {_named(first)} to {_named(last)}"
        if self.blocks == 1:
            return f"{count}: one run, all samples side by side"
        return f"{count}: {self.runs} runs up to there, 2/{self.blocks} of the samples side by side"


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
        kept = bytes_of_distances(samples) if pause.wide else pause.shape.bytes_of(samples)
        return _Needs(
            max(self.alive, pause.alive),
            max(self.most, pause.most),
            max(self.largest, kept),
            self.kept + kept,
        )


def _fitting(needs: _Needs, samples: int, batch_size: int, limit: float) -> tuple[int, int] | None:
    """The fewest blocks that fit, and the size of a batch."""
    counts = (1, *range(3, min(MOST_BLOCKS, samples // 2) + 1))
    for least, blocks in product(_LEAST_BATCHES, counts):
        together = math.ceil(samples * min(1.0, 2 / blocks))
        # Products in two precisions, the rows that they are taken of, and what is being made of them.
        work = 28 * together**2 + 8 * BLOCK * BLOCKS * together + 3 * bytes_of_distances(samples)
        room = limit - work - (needs.largest if blocks == 1 else needs.kept)
        batch = min(
            batch_size, max(least, int(room / _BATCHES / needs.most)), math.ceil(samples / blocks)
        )
        if together * needs.alive + batch * needs.most <= room:
            return blocks, batch
    return None


def _refuse(pause: Pause, samples: int, limit: float) -> NoReturn:
    needed = samples * pause.alive / 1e9
    raise InputError(
        f"layer {pause.shape.layer}: {samples} samples of shape {pause.shape.shape}, with what the model "
        f"holds beside it ({needed:.2g} GB)",
        f"what fits {limit / 1e9:.2g} GB in {MOST_BLOCKS} parts",
        f"lower max_points, leave the layer out, or raise {LIMIT_VARIABLE}",
    )


def _named(shape: LayerShape) -> str:
    return f"{shape.layer} (call {shape.call})" if shape.call else shape.layer
