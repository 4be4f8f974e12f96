"""Epochs to the held-out score of tuned ReLU after 16 epochs, on fourteen real tables.

The tables of table_sets.py, chosen before anything was trained on them. 30 % of the rows are held out,
the same for all; of the others at most 2,800 are trained and tuned on. Columns are prepared as
`uk.FoldClassifier` does it, by what is trained on. An MLP 3 x 64, Adam, batches of 64, a cosine schedule
for each budget of epochs by itself.

Every activation gets the same grid, learning rate {3e-3, 1e-2, 3e-2} x gain {.3, .6, 1}. For each budget
its cell is chosen on a fifth of the training rows, on two seeds that are not reported; ten fresh seeds
are then trained on all training rows and read on the rows held out, on which nothing was chosen. Epochs
to the target are the smallest budget whose median score, accuracy or R^2, is at least ReLU's after 16;
the best rival is the one with the fewest of ReLU, GELU, SiLU and sine, in hindsight and so in its favour.
Intervals are of a bootstrap over the seeds, paired; they tell nothing of other rows.

    python benchmarks/activations/table_epochs.py     # half an hour on a free core; resumable, net by net
    python benchmarks/activations/table_epochs.py --sets letter,phoneme
        # these alone; the result keeps the others that it has
    python benchmarks/activations/table_epochs.py --quick
        # two sets and few nets, without a result, to see that it works

Trials go to benchmarks/raw/table_epochs.sqlite, the summary to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from table_sets import CLASSES, NAMES, load

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text
from unknot.estimators.preparation import Preparation
from unknot.nets.data import LabelledData
from unknot.study.survival import censored_median, median_interval

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

BENCHMARKS = Path(__file__).parents[1]
RAW, RESULTS = BENCHMARKS / "raw" / "table_epochs.sqlite", BENCHMARKS / "results" / "table_epochs.json"
FOLDS, RIVALS = ("qfold", "qfold_centred", "zfold"), ("relu", "gelu", "silu", "sine")
HELD_OUT, SPLIT_SEED, RESAMPLES = 0.3, 101, 2000
HALF, NOT_SLOWER = 0.5, 1.1  # what was to be shown
Record = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What a set costs."""

    rows: int = 2_800  # to train and tune on
    at: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 11, 16)
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    gains: tuple[float, ...] = (0.3, 0.6, 1.0)
    selection_seeds: int = 2
    seeds: int = 10
    batch_size: int = 64

    def options(self) -> Record:
        """Of `uk.Study.run_budgets`."""
        return {name: value for name, value in vars(self).items() if name != "rows"}


def samples(name: str, most: int) -> LabelledData:
    table = load(name)
    kept, held = train_test_split(
        np.arange(len(table.y)), test_size=HELD_OUT, random_state=SPLIT_SEED,
        stratify=table.y if table.classes else None,
    )  # fmt: skip
    kept = kept[:most]  # in the order of chance
    prepare = Preparation(table.X.iloc[kept], "quantile", SPLIT_SEED)
    x, test_x = prepare(table.X.iloc[kept]), prepare(table.X.iloc[held])
    y, test_y = (torch.from_numpy(table.y[rows]) for rows in (kept, held))
    return LabelledData(name, x, y, test_x, test_y)


def run(name: str, size: Size, path: Path, jobs: int) -> Record:
    """What one set came to; what was run is not run again."""
    data, study = samples(name, size.rows), uk.Study(path)
    task = "classes" if name in CLASSES else "regression"
    study.run_budgets({name: data}, (*FOLDS, *RIVALS), task=task, jobs=jobs, **size.options())
    found = [row for row in study.budgets() if row.set == name]
    rows = {(row.activation, row.at): row for row in found}
    if len(rows) != len(found):
        sys.exit(f"{path} holds trials of {name} in other numbers: move it elsewhere")
    scores = np.array(
        [
            [[-math.inf if v is None else v for v in rows[activation, at].scores] for at in size.at]
            for activation in (*FOLDS, *RIVALS)
        ]
    )
    first = rows["relu", size.at[-1]]
    return {
        "table": name, "rows": [len(data.labels), len(data.test_labels)],
        "inputs": data.inputs.shape[1], "metric": first.metric, "target": first.median,
        **compared(scores, size.at),
        "scores": {
            a: [[rounded(v) for v in (r.median, r.low, r.high)] for r in (rows[a, at] for at in size.at)]
            for a in (*FOLDS, *RIVALS)
        },
        "cells": {
            a: [[rows[a, at].learning_rate, rows[a, at].gain] for at in size.at]
            for a in (*FOLDS, *RIVALS)
        },
    }  # fmt: skip


def compared(scores: NDArray[np.float64], at: Sequence[int]) -> Record:
    """Epochs to ReLU's last median, and as ratios to ReLU's last budget and to the best rival's epochs.

    Args:
        scores: ``[activations, budgets, seeds]``.
    """
    names = [*FOLDS, *RIVALS]
    seeds = scores.shape[2]
    draws = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    found = epochs(scores[:, :, None, :], at)[:, 0]
    resampled = epochs(scores[:, :, draws], at)

    def ratios(value: NDArray[np.float64], many: NDArray[np.float64]) -> dict[str, list[float | None]]:
        lows, highs = np.quantile(many, [0.025, 0.975], axis=1, method="nearest")
        ends = zip(value.tolist(), lows.tolist(), highs.tolist(), strict=True)
        return {a: [rounded(v) for v in three] for a, three in zip(names, ends, strict=True)}

    best, bests = (of[len(FOLDS) :].min(0) for of in (found, resampled))
    return {
        "epochs": {a: rounded(v) for a, v in zip(names, found.tolist(), strict=True)},
        "of_relu": ratios(found / at[-1], resampled / at[-1]),
        "rival": RIVALS[int(found[len(FOLDS) :].argmin())],
        "of_rival": ratios(found / best, resampled / bests),
    }


def epochs(scores: NDArray[np.float64], at: Sequence[int]) -> NDArray[np.float64]:
    """The smallest budget whose median reaches ReLU's last; infinite where none does.

    Args:
        scores: ``[activations, budgets, resamples, seeds]``.

    Returns:
        ``[activations, resamples]``.
    """
    medians = np.median(scores, axis=-1)
    there = medians >= medians[len(FOLDS), -1]  # ReLU is the first of the rivals
    return np.where(there.any(1), np.array(at, dtype=float)[there.argmax(1)], np.inf)


def rounded(value: float | None) -> float | None:
    """To four decimals; None where it is infinite, or was None."""
    return None if value is None or math.isinf(value) else round(value, 4)


def verdicts(rows: Sequence[Record]) -> list[Record]:
    """Of each activation over the sets: the median ratio to ReLU, and where it is slower than a rival."""
    found = []
    for name in (*FOLDS, *RIVALS):
        ratios = [row["of_relu"][name][0] for row in rows]
        slower = [row["table"] for row in rows if (row["of_rival"][name][0] or math.inf) > NOT_SLOWER]
        found.append(
            {
                "activation": name,
                "median": censored_median(ratios),
                "interval": median_interval(ratios),
                "half": sum((ratio or math.inf) <= HALF for ratio in ratios),
                "slower": slower,
            }
        )
    return found


def text(ratio: Sequence[float | None]) -> str:
    """ "0.25 [0.19, 0.38]"."""
    value, low, high = ("not reached" if v is None else f"{v:.2f}" for v in ratio)
    return f"{value} [{low}, {high}]"


def show(rows: Sequence[Record], at: Sequence[int]) -> None:
    names = (*FOLDS, *RIVALS)
    print_table(
        f"Epochs to the held-out score of ReLU after {at[-1]}; of these {at[-1]} [95 % interval]",
        ["table", "target", *names],
        [
            (r["table"], f"{r['metric']} {r['target']:.3f}",
             *(f"{r['epochs'][a] or '-'}: {text(r['of_relu'][a])}" for a in names))
            for r in rows
        ],
    )  # fmt: skip
    print_table(
        "Epochs of those of the best rival [95 % interval]",
        ["table", "best rival", *names],
        [(r["table"], r["rival"], *(text(r["of_rival"][a]) for a in names)) for r in rows],
    )
    print_table(
        "Over the tables",
        ["activation", f"median of ReLU's {at[-1]}", f"<= {HALF}", f"> {NOT_SLOWER} x the best rival"],
        [
            (v["activation"], text([v["median"], *v["interval"]]),
             f"{v['half']} of {len(rows)}", ", ".join(v["slower"]) or "none")
            for v in verdicts(rows)
        ],
    )  # fmt: skip


def joined(rows: Sequence[Record], earlier: Sequence[Record]) -> list[Record]:
    """In the order of the tables; of one that both have, that of the first."""
    by_name = {row["table"]: row for row in (*earlier, *rows)}
    return [by_name[name] for name in NAMES if name in by_name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="e.g. letter,phoneme")
    asked = parser.parse_args()
    if asked.quick:
        size = Size(300, (1, 2), (1e-2,), (0.6, 1.0), 1, 3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quick.sqlite"
            names = asked.sets or ("banana", "diabetes")
            show([run(name, size, path, asked.jobs) for name in names], size.at)
        return
    size = Size()
    settings = json.loads(json.dumps(vars(size)))  # tuples are lists there
    RAW.parent.mkdir(exist_ok=True)
    for name in asked.sets or NAMES:
        found = run(name, size, RAW, asked.jobs)
        earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows = joined([found], earlier["rows"] if earlier.get("settings") == settings else ())
        record = {
            **provenance("python benchmarks/activations/table_epochs.py"),
            "settings": settings,
            "rows": rows,
            "verdicts": verdicts(rows),
        }
        write_text(RESULTS, json.dumps(record, separators=(",", ":")))
        print(name, found["epochs"], flush=True)
    show(rows, size.at)


if __name__ == "__main__":
    main()
