"""Which activation, learning rate and gain: tried on a part of the samples, then trained at length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from unknot.core.showing.frames import Rows
from unknot.estimators.descent import (
    Cell,
    Effort,
    NetShape,
    Part,
    Samples,
    Tick,
    Trained,
    new_net,
    no_tick,
    train_nets,
)
from unknot.estimators.problems import Problem

# A cell is tried for so many epochs, within these steps, on at most so many samples.
TRIAL_EPOCHS, TRIAL_STEPS, TRIAL_SAMPLES = 4, (150, 300), 10_000
# Samples a step, for up to so many samples.
BATCHES = {1_000: 32, 4_000: 64, 16_000: 128, 64_000: 256, math.inf: 512}
# Held-out samples that a choice needs; where one part has fewer, more parts are tried, up to three.
JUDGES, TRIAL_PARTS = 400, 3
# Steps of the training at length: an epoch of few samples counts as so many, and there is an end.
EPOCH_STEPS, MOST_STEPS = 32, 12_000
# Fewer samples are all trained on: a tenth of them would judge nothing.
LEAST_SAMPLES = 20


@dataclass(frozen=True)
class SearchRow:
    """What one cell of the grid came to.

    Attributes:
        activation, learning_rate, gain: the cell; gain multiplies the variance-preserving one.
        loss: of held-out samples after a short training, cross entropy in nats or squared error in
            variances of the target.
        score: of the same, accuracy or R^2.
        members: nets of the fitted estimator that were trained with it; 0: it was not chosen.
    """

    activation: str
    learning_rate: float
    gain: float
    loss: float
    score: float
    members: int = 0


class SearchRows(Rows[SearchRow]):
    """The cells that were tried, the best one first: a tuple of `SearchRow` that is a table."""

    def _title(self) -> str:
        chosen = [row for row in self if row.members]
        names = ", ".join(f"{r.activation} at {r.learning_rate:g} x {r.gain:g}" for r in chosen)
        return f"{len(self)} cells tried on held-out samples; chosen: {names or 'none'}"


@dataclass(frozen=True)
class Grid:
    """The cells that are tried, and how the chosen ones are trained.

    Attributes:
        activations, learning_rates, gains: every combination is a cell.
        members: nets of the ensemble.
        chosen: cells that share the members.
        width, depth: of every net.
        epochs: at most, of every member.
    """

    activations: tuple[str, ...]
    learning_rates: tuple[float, ...]
    gains: tuple[float, ...]
    members: int
    chosen: int
    width: int
    depth: int
    epochs: int

    @property
    def cells(self) -> list[Cell]:
        return [Cell(*cell) for cell in product(self.activations, self.learning_rates, self.gains)]


@dataclass(frozen=True, eq=False)
class Search:
    """The nets of the ensemble, and what the cells came to."""

    nets: tuple[Trained, ...]
    rows: SearchRows


def search(
    grid: Grid,
    samples: Samples,
    problem: Problem,
    *,
    jobs: int = 1,
    seed: int,
    tick: Tick = no_tick,
) -> Search:
    """Try the cells, then train the members with the best of them.

    Each member holds out another part of the samples, which ends its training where it is best.

    Args:
        samples: all that may be trained on.
        jobs: threads.
        seed: of everything that is drawn.
        tick: told from time to time what share of the work has been done since.
    """
    parts = _parts(samples, max(grid.members, 2), seed)
    tried = _tried(grid, parts)
    short, long = _short(grid, tried), _long(grid, parts)
    work = len(grid.cells) * len(tried) * short.steps + grid.members * long.steps

    def train(nets: Sequence[tuple[Cell, Part]], effort: Effort, seed: int) -> list[Trained]:
        return train_nets(
            nets, effort, samples=samples, problem=problem, jobs=jobs, seed=seed,
            tick=lambda steps: tick(steps / work),
        )  # fmt: skip

    rows = _rows(grid, train([(cell, part) for cell in grid.cells for part in tried], short, seed))
    best = [Cell(row.activation, row.learning_rate, row.gain) for row in rows[: grid.chosen]]
    members = [best[i % len(best)] for i in range(grid.members)]
    nets = train([(cell, parts[i % len(parts)]) for i, cell in enumerate(members)], long, seed + 1)
    counts = [sum(cell == Cell(r.activation, r.learning_rate, r.gain) for cell in members) for r in rows]
    return Search(
        tuple(nets), SearchRows(replace(r, members=n) for r, n in zip(rows, counts, strict=True))
    )


def first_nets(grid: Grid, inputs: int, problem: Problem, seed: int) -> Search:
    """Nets of the first activation, the first rate and the middle gain, as drawn: nothing chose them."""
    cell = Cell(grid.activations[0], grid.learning_rates[0], sorted(grid.gains)[len(grid.gains) // 2])
    shape = NetShape(inputs, problem.outputs, grid.width, grid.depth)
    nets = [
        Trained(cell, new_net(cell, shape, seed + i), math.nan, math.nan, 0.0)
        for i in range(grid.members)
    ]
    row = SearchRow(cell.activation, cell.learning_rate, cell.gain, math.nan, math.nan, grid.members)
    return Search(tuple(nets), SearchRows([row]))


def _tried(grid: Grid, parts: Sequence[Part]) -> list[Part]:
    """The parts on which each cell is tried: none where there is nothing to choose, or to judge by."""
    held_out = len(parts[0].held_out)
    if len(grid.cells) == 1 or held_out == 0:
        return []
    several = max(1, min(TRIAL_PARTS, len(parts), round(JUDGES / held_out)))
    return [_first(part, TRIAL_SAMPLES) for part in parts[:several]]


def _short(grid: Grid, tried: Sequence[Part]) -> Effort:
    n = len(tried[0].trained) if tried else 0
    least, most = TRIAL_STEPS
    steps = min(max(TRIAL_EPOCHS * n // _batch_size(n), least), most)
    return Effort(grid.width, grid.depth, steps, _batch_size(n))


def _long(grid: Grid, parts: Sequence[Part]) -> Effort:
    n = len(parts[0].trained)
    steps = min(grid.epochs * max(n // _batch_size(n), EPOCH_STEPS), MOST_STEPS)
    return Effort(grid.width, grid.depth, steps, _batch_size(n))


def _batch_size(n: int) -> int:
    return next(size for most, size in BATCHES.items() if n <= most)


def _rows(grid: Grid, tried: Sequence[Trained]) -> list[SearchRow]:
    """One a cell, the best one first; of untried cells the first one alone."""
    cells = grid.cells if tried else grid.cells[:1]
    rows = []
    for cell in cells:
        nets = [net for net in tried if net.cell == cell]
        loss, score = (
            float(np.mean([getattr(net, what) for net in nets])) if nets else math.nan
            for what in ("loss", "score")
        )
        rows.append(SearchRow(cell.activation, cell.learning_rate, cell.gain, loss, score))
    return sorted(rows, key=lambda row: row.loss)


def _parts(samples: Samples, parts: int, seed: int) -> list[Part]:
    """So many ways to hold out an equal share, classes alike in each where there are enough of all."""
    n = len(samples)
    if n < LEAST_SAMPLES:
        return [Part(np.arange(n), np.arange(0))]
    numbers, targets = np.arange(n), samples.targets.numpy()
    classes = targets.dtype == np.int64
    if classes and np.unique(targets, return_counts=True)[1].min() >= parts:
        splits = StratifiedKFold(parts, shuffle=True, random_state=seed).split(numbers, targets)
    else:
        splits = KFold(parts, shuffle=True, random_state=seed).split(numbers)
    return [Part(trained, held_out) for trained, held_out in splits]


def _first(part: Part, most: int) -> Part:
    """The part with at most so many samples to train on, and a quarter as many to judge."""
    draw = np.random.default_rng(0).permutation
    return Part(draw(part.trained)[:most], draw(part.held_out)[: most // 4])
