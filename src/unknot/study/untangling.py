"""How fast the Betti numbers of the layers fall in training, and whether that predicts its speed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unknot.core.errors import InputError, require_items
from unknot.core.showing.frames import Rows
from unknot.nets.recording import INPUT, INPUT_BESIDE
from unknot.study.survival import RankCorrelation, censored_median, ends_text, rank_correlation
from unknot.study.task import CHOOSE_BY
from unknot.study.trials import TopologyRow, Trial

# Betti numbers are counts with noise: within this share of the whole fall they have arrived.
ARRIVED = 0.05
# A smaller change than this share of the number before training is noise, no fall.
LEAST_FALL = 0.1
ALL_LAYERS = "all"
DIMENSIONS = ("b0", "b1", "b0 + b1")


@dataclass(frozen=True)
class BettiFall:
    """The fall of the Betti numbers of the class clouds for one activation on one set.

    Attributes:
        set, activation: names.
        layer: dotted name, or "all": the sum over the measured layers.
        which: "b0", "b1" or "b0 + b1"; summed over the classes.
        before, after: medians over seeds, before any training and at its end.
        epochs: one a seed: when the number first was within 5 % of the whole fall of its final value;
            None where it did not fall by a tenth.
        median: of these; None where most did not fall.
    """

    set: str
    activation: str
    layer: str
    which: str
    before: float
    after: float
    epochs: tuple[float | None, ...]
    median: float | None


def untangling_rows(trials: Iterable[Trial]) -> Rows[BettiFall]:
    """One row for each set, activation, layer and kind of Betti number that was measured.

    The numbers before any training stand beside those after it, because a wide random net can merge
    components by being undersampled: only the change was learnt.

    Args:
        trials: of a study; those that were not measured, or only chose a cell, are left out.
    """
    cells: dict[tuple[str, str], list[Trial]] = {}
    for trial in _require_trials(trials):
        if trial.reported and trial.topology:
            cells.setdefault((trial.data, trial.activation), []).append(trial)
    rows = []
    for (data, activation), seeds in cells.items():
        layers = list(dict.fromkeys(row.layer for row in _hidden(seeds[0].topology)))
        for layer in (ALL_LAYERS, *layers):
            for which in DIMENSIONS:
                curves = [_totals(trial.topology, layer, which) for trial in seeds]
                epochs = tuple(_fallen(curve) for curve in curves)
                rows.append(
                    BettiFall(
                        data, activation, layer, which,
                        statistics.median(curve[0][1] for curve in curves),
                        statistics.median(curve[-1][1] for curve in curves),
                        epochs, censored_median(epochs),
                    )
                )  # fmt: skip
    return Rows(rows)


def _require_trials(trials: Any) -> list[Trial]:
    given = list(require_items("trials", trials, "trials of a study", "pass study.trials()"))
    for trial in given:
        if not isinstance(trial, Trial):
            raise InputError(f"a trial of type {type(trial).__name__}", "trials", "pass study.trials()")
    return given


def prediction(trials: Sequence[Trial], *, which: str = "b0 + b1") -> RankCorrelation:
    """Does a fast fall go with fast training? Spearman's rho over all cells (set and activation).

    Between the median epochs to the fall, over all layers, and those to 99 % train accuracy of the same
    seeds. A median that is not reached ranks behind all others.

    Args:
        trials: of a study.
        which: "b0", "b1" or "b0 + b1".

    Raises:
        InputError: fewer than three cells with Betti numbers.
    """
    falls = {
        (row.set, row.activation): math.inf if row.median is None else row.median
        for row in untangling_rows(trials)
        if row.layer == ALL_LAYERS and row.which == which
    }
    if len(falls) < 3:
        raise InputError(
            f"{len(falls)} cells with Betti numbers", "at least three", "run more with topology=3"
        )
    speeds: dict[tuple[str, str], list[float]] = {cell: [] for cell in falls}
    for trial in trials:
        if trial.reported and trial.topology:
            epochs = trial.curve.epochs_to(CHOOSE_BY)
            speeds[trial.data, trial.activation].append(math.inf if epochs is None else epochs)
    last = 1 + max(trial.settings.epochs for trial in trials)
    return rank_correlation(
        [min(fall, last) for fall in falls.values()],
        [min(statistics.median(epochs), last) for epochs in speeds.values()],
    )


def fall_text(row: BettiFall) -> str:
    """The median epochs to the fall."""
    return "did not fall" if row.median is None else f"{row.median:.3g}"


def prediction_text(correlation: RankCorrelation, *, which: str = "b0 + b1") -> str:
    """What `prediction` found, in a sentence without its full stop."""
    rho = f"{correlation.rho:.2f}{ends_text(correlation)}"
    return (
        f"Epochs to the fall of {which} against epochs to 99 % train accuracy: "
        f"Spearman's rho {rho} over {correlation.n} cells"
    )


def _hidden(rows: Sequence[TopologyRow]) -> list[TopologyRow]:
    """Without those of the samples themselves."""
    beside = any(row.layer == INPUT_BESIDE for row in rows)
    return [row for row in rows if row.layer != (INPUT_BESIDE if beside else INPUT)]


def _totals(rows: Sequence[TopologyRow], layer: str, which: str) -> list[tuple[float, int]]:
    """(epoch, the sum over classes), rising; summed over layers too where all are asked for."""
    totals: dict[float, int] = {}
    for row in _hidden(rows):
        if layer in (row.layer, ALL_LAYERS):
            value = {"b0": row.b0, "b1": row.b1}.get(which, row.b0 + row.b1)
            totals[row.epoch] = totals.get(row.epoch, 0) + value
    return sorted(totals.items())


def _fallen(curve: list[tuple[float, int]]) -> float | None:
    start, end = curve[0][1], curve[-1][1]
    if end >= start or end > (1 - LEAST_FALL) * start:
        return None
    goal = end + ARRIVED * (start - end)
    return next(epoch for epoch, value in curve if value <= goal)
