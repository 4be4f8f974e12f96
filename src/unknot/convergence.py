"""Study: epochs to a target accuracy for several activations, trial by trial, in SQLite."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from unknot.activations import ACTIVATIONS, init_by_gain
from unknot.console import track
from unknot.errors import InputError, require_count
from unknot.models import mlp
from unknot.training import epochs_to, one_thread, train

TARGETS = (0.95, 0.99, 0.999)
# Cells are chosen on these seeds, and reported on seeds that start at 0: never the same.
SELECTION_SEED = 1_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    data TEXT NOT NULL, activation TEXT NOT NULL, learning_rate REAL NOT NULL, gain REAL NOT NULL,
    seed INTEGER NOT NULL, settings TEXT NOT NULL, train_accuracy TEXT NOT NULL,
    PRIMARY KEY (data, activation, learning_rate, gain, seed, settings)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class StudyRow:
    """Epochs to one target for the chosen cell of one activation on one set.

    Attributes:
        set: name of the data.
        activation: its name.
        learning_rate, gain: the chosen cell; gain multiplies the variance-preserving one.
        target: train accuracy.
        seeds: how many were run.
        reached: how many reached the target.
        epochs: one a seed, None when censored (the target was not reached within the cap).
        median: over all seeds, counting a censored one as longer than the cap; None where the median
            itself is censored.
    """

    set: str
    activation: str
    learning_rate: float
    gain: float
    target: float
    seeds: int
    reached: int
    epochs: tuple[int | None, ...]
    median: float | None


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of one run share."""

    epochs: int
    width: int
    depth: int
    batch_size: int
    stop_at: float


class Study:
    """Trials in an SQLite file; a trial is committed when it is done and never done twice.

    >>> study = uk.Study("study.sqlite")                                       # doctest: +SKIP
    >>> study.run({"rings": (x, y)}, ["relu", "zfold"], seeds=5, epochs=60)    # doctest: +SKIP
    >>> study.summary()                                                        # doctest: +SKIP

    Args:
        path: the file; a missing one is created by the first `run`.

    Raises:
        InputError: the file is not a study.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists():
            self._prepare()

    def _prepare(self) -> None:
        """Create the table where it is missing; not before there is something to write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(self._connect()) as database, database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"file {self.path} ({error})", "a study or a new file", "choose another path"
            ) from None

    def run(
        self,
        sets: Mapping[str, tuple[Tensor, Tensor]],
        activations: Sequence[str] | Mapping[str, Callable[[], nn.Module]],
        *,
        seeds: int = 5,
        epochs: int = 60,
        learning_rates: Sequence[float] = (1e-3,),
        gains: Sequence[float] = (1.0,),
        selection_seeds: int = 3,
        width: int = 50,
        depth: int = 6,
        batch_size: int = 128,
        stop_at: float = 0.999,
        progress: bool = False,
    ) -> None:
        """Train every missing trial: one MLP a set, activation, learning rate, gain and seed.

        Every activation gets the same grid. Where the grid has more than one cell, each cell is run on
        ``selection_seeds`` seeds of its own, and ``seeds`` fresh ones are run on the best cell alone:
        the one whose seeds reach 99 % most often, then soonest by median, then with the best final
        accuracy.

        Args:
            sets: {name: (inputs float ``[n, ...]``, labels int64 ``[n]``)}.
            activations: built-in names, or {name: factory}.
            epochs: the cap; what has not reached a target by then is censored.
            gains: multiples of the variance-preserving gain of each activation.
            stop_at: a trial ends early once its train accuracy is this high.
        """
        require_count("seeds", seeds)
        settings = TrialSettings(require_count("epochs", epochs), width, depth, batch_size, stop_at)
        factories = _factories(activations)
        cells = list(product(learning_rates, gains))
        if not cells or not min(*learning_rates, *gains) > 0:
            raise InputError(
                f"learning rates {list(learning_rates)} x gains {list(gains)}",
                "at least one of each, all > 0",
                "pass e.g. learning_rates=(1e-3,), gains=(1.0,)",
            )
        self._prepare()
        pairs = list(product(sets, factories))
        if len(cells) > 1:
            chosen_seeds = [
                SELECTION_SEED + i for i in range(require_count("selection_seeds", selection_seeds))
            ]
            grid = [(*pair, *cell, s) for pair in pairs for cell in cells for s in chosen_seeds]
            self._run_missing(sets, factories, grid, settings, "choosing cells", progress)
            best = {pair: self._best_cell(pair, settings) for pair in pairs}
        else:
            best = dict.fromkeys(pairs, cells[0])
        final = [(*pair, *best[pair], s) for pair in pairs for s in range(seeds)]
        self._run_missing(sets, factories, final, settings, "trials", progress)

    def summary(self, targets: Iterable[float] = TARGETS) -> tuple[StudyRow, ...]:
        """One row for each set, activation, reported cell and target, from the reported seeds alone."""
        cells: dict[tuple[str, str, float, float, str], list[tuple[float, ...]]] = {}
        for data, activation, rate, gain, settings, seed, curve in self._trials():
            if seed < SELECTION_SEED:
                cells.setdefault((data, activation, rate, gain, settings), []).append(curve)
        rows = []
        for (data, activation, rate, gain, settings), curves in cells.items():
            cap = json.loads(settings)
            for target in targets:
                if target > cap["stop_at"]:
                    continue
                found = tuple(epochs_to(curve, target) for curve in curves)
                rows.append(
                    StudyRow(
                        data, activation, rate, gain, target, len(found),
                        sum(e is not None for e in found), found, _median(found),
                    )
                )  # fmt: skip
        return tuple(rows)

    def _best_cell(self, pair: tuple[str, str], settings: TrialSettings) -> tuple[float, float]:
        cells: dict[tuple[float, float], list[tuple[float, ...]]] = {}
        for data, activation, rate, gain, trial_settings, seed, curve in self._trials():
            same = (data, activation) == pair and trial_settings == _settings_key(settings)
            if same and seed >= SELECTION_SEED:
                cells.setdefault((rate, gain), []).append(curve)

        def rank(curves: list[tuple[float, ...]]) -> tuple[float, float, float]:
            found = [epochs_to(curve, 0.99) for curve in curves]
            capped = [float("inf") if e is None else e for e in found]
            missed = sum(e is None for e in found)
            return missed, statistics.median(capped), -statistics.median(c[-1] for c in curves)

        return min(cells, key=lambda cell: rank(cells[cell]))

    def _run_missing(
        self,
        sets: Mapping[str, tuple[Tensor, Tensor]],
        factories: Mapping[str, Callable[[], nn.Module]],
        trials: list[tuple[str, str, float, float, int]],
        settings: TrialSettings,
        label: str,
        progress: bool,
    ) -> None:
        key = _settings_key(settings)
        done = {(*trial[:4], trial[5]) for trial in self._trials() if trial[4] == key}
        missing = [trial for trial in trials if trial not in done]
        for data, activation, rate, gain, seed in track(missing, label, show=progress):
            inputs, labels = sets[data]
            curve = run_trial(inputs, labels, factories[activation], rate, gain, seed, settings)
            with closing(self._connect()) as database, database:
                database.execute(
                    "INSERT OR IGNORE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (data, activation, rate, gain, seed, key, json.dumps(curve)),
                )

    def _trials(self) -> list[tuple[str, str, float, float, str, int, tuple[float, ...]]]:
        if not self.path.exists():
            return []
        with closing(self._connect()) as database:
            rows = database.execute(
                "SELECT data, activation, learning_rate, gain, settings, seed, train_accuracy "
                "FROM trials ORDER BY data, activation, learning_rate, gain, settings, seed"
            ).fetchall()
        return [(*row[:6], tuple(json.loads(row[6]))) for row in rows]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)


def run_trial(
    inputs: Tensor,
    labels: Tensor,
    activation: Callable[[], nn.Module],
    learning_rate: float,
    gain: float,
    seed: int,
    settings: TrialSettings,
) -> tuple[float, ...]:
    """Train one MLP and return its train accuracy after each epoch.

    Weights are drawn by `init_by_gain`; a loss that is no longer finite ends the trial there, with
    accuracy 0 for that epoch: a failed trial is a result.
    """
    model = mlp(
        inputs[0].numel(),
        int(labels.max()) + 1,
        width=settings.width,
        depth=settings.depth,
        activation=activation,
    )
    init_by_gain(model, activation(), multiplier=gain, seed=seed)
    accuracies: list[float] = []
    try:
        with one_thread():
            curve = train(
                model, inputs, labels, epochs=settings.epochs, learning_rate=learning_rate,
                batch_size=settings.batch_size, stop_at=settings.stop_at, seed=seed,
            )  # fmt: skip
        accuracies = list(curve.train_accuracy)
    except InputError:
        if all(bool(p.isfinite().all()) for p in model.parameters()) and torch.isfinite(inputs).all():
            raise
        accuracies.append(0.0)
    return tuple(accuracies)


def _factories(
    activations: Sequence[str] | Mapping[str, Callable[[], nn.Module]],
) -> dict[str, Callable[[], nn.Module]]:
    if isinstance(activations, Mapping):
        return dict(activations)
    for name in activations:
        if name not in ACTIVATIONS:
            raise InputError(f"activation {name!r}", f"one of {', '.join(ACTIVATIONS)}", "pick one")
    return {name: ACTIVATIONS[name] for name in activations}


def _settings_key(settings: TrialSettings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)


def _median(epochs: Sequence[int | None]) -> float | None:
    """The median with None as longer than every number; None where that is what it comes to."""
    middle = statistics.median(float("inf") if e is None else float(e) for e in epochs)
    return None if middle == float("inf") else middle
