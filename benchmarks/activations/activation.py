"""Epochs to 99 % train and test accuracy of an MLP 6 x 50 on the eight built-in shapes.

Every activation gets the same grid of learning rates and gains. Its cell is chosen on three seeds that
are not reported, and ten fresh seeds are run on it; what has not arrived by the cap is reported as not
reached. The ReLU of "relu, as usual" has the usual learning rate (1e-3) and He initialisation. Betti
numbers are measured along the training of two of the ten, for four of the activations.

    python benchmarks/activations/activation.py            # hours; resumable, net by net
    python benchmarks/activations/activation.py --sets rings,checker
      # these alone, and no result is written: what was run is not run again
    python benchmarks/activations/activation.py --quick
      # two sets and a smaller grid, to see that it works
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unknot.cli.samples import load_data
from unknot.core.console import print_table
from unknot.core.errors import InputError
from unknot.core.files import write_text
from unknot.study.results import StudyRow
from unknot.study.study import Study
from unknot.study.survival import Comparison, compare, ratio_text, times_text
from unknot.study.task import rank_cell
from unknot.study.trials import Curve
from unknot.study.untangling import (
    BettiFall,
    fall_text,
    prediction,
    prediction_text,
    untangling_rows,
)
from unknot.topology.shapes import SHAPES, make_shape

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
RAW = Path(__file__).parents[1] / "raw"
TARGET = 0.99
SHAPES_TOTAL = {name: make_shape(name).total for name in SHAPES}
Rows = Sequence[StudyRow]

USUAL = ["relu", "leaky_relu", "elu", "gelu", "silu", "mish", "tanh", "hardtanh"]
RIVALS = ["sine", "gcu", "cone", "parabolic_cone", "euaf", "peuaf", "squared_leaky_relu"]  # they fold too
BASELINES = [*USUAL, *RIVALS]
FOLDS = ["zfold", "smooth_zfold", "qfold2", "qfold2_centred"]
MEASURED = ["zfold", "qfold2", "relu", "gelu"]
CONTROLS = ["qfold2_held"]  # that of zfold is hardtanh, a baseline
RATES, GAINS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0.6, 1.0, 2.0, 3.0)


def studies(names: Sequence[str], quick: bool, jobs: int) -> tuple[Study, Study]:
    """Run what is missing of these sets: (tuned, ReLU as usual)."""
    sets = {name: load_data(name) for name in names}
    suffix = "-quick" if quick else ""
    tuned = Study(RAW / f"activation{suffix}.sqlite")
    usual = Study(RAW / f"activation-usual{suffix}.sqlite")
    seeds, epochs = (2, 5) if quick else (10, 60)
    activations = ["relu", "zfold"] if quick else [*FOLDS, *BASELINES, *CONTROLS]
    rates, gains = ((1e-3,), (1.0, 2.0)) if quick else (RATES, GAINS)
    usual.run(
        sets, ["relu"], seeds=seeds, epochs=epochs, learning_rates=[1e-3], gains=[1.0], jobs=jobs,
        progress=True,
    )  # fmt: skip
    for chosen, watched in ((MEASURED, 2), (activations, 0)):  # what was run is not run again
        tuned.run(
            sets, [name for name in activations if name in chosen], seeds=seeds, epochs=epochs,
            learning_rates=rates, gains=gains, topology=watched, jobs=jobs, progress=True,
        )  # fmt: skip
    return tuned, usual


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="e.g. rings,checker")
    given = parser.parse_args()
    names = given.sets or (["rings", "checker"] if given.quick else list(SHAPES))
    tuned, usual = studies(names, given.quick, given.jobs)
    record: dict[str, Any] = {
        **provenance("python benchmarks/activations/activation.py"),
        "total_betti": {name: SHAPES_TOTAL[name] for name in SHAPES if name in names},
        "settings": {
            "learning_rates": RATES, "gains": GAINS, "usual": USUAL, "rivals": RIVALS, "folds": FOLDS,
            "controls": CONTROLS,
        },
    }  # fmt: skip
    for split in ("train", "test"):
        rows, plain = ([r for r in s.summary([TARGET], split=split) if r.set in names]
                       for s in (tuned, usual))  # fmt: skip
        verdicts = [verdict(name, tuned, rows, plain) for name in dict.fromkeys(r.set for r in rows)]
        print_rows(rows, plain, split)
        print_verdicts(verdicts, split)
        record[split] = {
            "rows": [asdict(row) for row in rows],
            "relu_as_usual": [asdict(row) for row in plain],
            "verdicts": [asdict(one) for one in verdicts],
        }
    falls = [row for row in untangling_rows(tuned.trials()) if row.set in names and row.layer == "all"]
    print_falls(falls)
    record["untangling"] = [asdict(row) for row in falls]
    path = RESULTS / "activation.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    record = joined(quoted(record), earlier if not given.quick else {})
    record["prediction"] = predictions(tuned, record["total_betti"])
    if not given.quick:
        write_text(path, json.dumps(record, separators=(",", ":")))


def predictions(study: Study, names: Collection[str]) -> dict[str, Any]:
    """Whether a fast fall goes with fast training, over these sets; empty where trials are missing."""
    trials = [trial for trial in study.trials() if trial.data in names]
    found: dict[str, Any] = {}
    if {trial.data for trial in trials if trial.topology} == set(names):
        for which in ("b0", "b1", "b0 + b1"):
            try:
                correlation = prediction(trials, which=which)
            except InputError as error:  # in --quick nothing may fall
                print(error)
                continue
            found[which] = {k: short(v) for k, v in asdict(correlation).items()}
            print(prediction_text(correlation, which=which))
    return found


def joined(record: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """With the sets that it lacks of an earlier result; those of other settings stay apart, "earlier"."""
    record, earlier = copy.deepcopy((record, earlier))
    others = []
    for part in (earlier, *earlier.pop("earlier", ())) if earlier else ():
        rest = without(part, record["total_betti"])
        if not rest["total_betti"]:
            continue
        if json.loads(json.dumps(record["settings"])) != rest["settings"]:
            others.append(rest)
            continue
        both = record["total_betti"] | rest["total_betti"]
        record["total_betti"] = {name: both[name] for name in SHAPES if name in both}
        for mine, theirs in zip(tables(record), tables(rest), strict=True):
            mine["values"] = sorted(mine["values"] + theirs["values"], key=lambda row: row[0])
        for split in ("train", "test"):
            verdicts = record[split]["verdicts"] + rest[split]["verdicts"]
            record[split]["verdicts"] = sorted(verdicts, key=lambda one: str(one["set"]))
    return record | {"earlier": others} if others else record


def without(record: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A result without these sets, nor what was told over all of them."""
    if not set(names) & set(record["total_betti"]):
        return record
    rest = copy.deepcopy(record) | {"prediction": {}}
    rest["total_betti"] = {k: v for k, v in record["total_betti"].items() if k not in names}
    for table in tables(rest):
        table["values"] = [row for row in table["values"] if row[0] not in names]
    for split in ("train", "test"):
        rest[split]["verdicts"] = [v for v in rest[split]["verdicts"] if v["set"] not in names]
    return rest


def tables(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is `packed`; the set is the first column of all."""
    yield record["untangling"]
    for split in ("train", "test"):
        yield from (record[split]["rows"], record[split]["relu_as_usual"])


def quoted(record: dict[str, Any]) -> dict[str, Any]:
    """What the documentation quotes."""
    kept = record | {"cap": record["train"]["rows"][0]["cap"], "untangling": packed(record["untangling"])}
    for split in ("train", "test"):
        rows = {name: packed(record[split][name]) for name in ("rows", "relu_as_usual")}
        kept[split] = record[split] | rows
    return dict(json.loads(json.dumps(kept), parse_float=lambda text: short(float(text))))


def packed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Records without the names in each, which are half of the file, nor what is the same for all."""
    columns = [
        name for name in rows[0] if name not in ("split", "target", "net", "cap", "layer", "metric")
    ]
    return {"columns": columns, "values": [[row[name] for name in columns] for row in rows]}


def short(value: float | None) -> float | None:
    """To three decimals, unless the documentation, which prints fewer, would then round otherwise."""
    if value is None:  # an end of an interval that there is not
        return None
    cut = round(value, 3)
    formats = ("{:.1f}", "{:.2f}", "{:.2g}", "{:.3g}")
    return cut if all(f.format(cut) == f.format(value) for f in formats) else value


@dataclass(frozen=True)
class Verdict:
    """The fold that the selection seeds chose, against the baselines, on one set.

    Attributes:
        fold: its name; chosen among `FOLDS` on seeds that are not reported.
        baseline: the one that was best on the reported seeds: chosen in hindsight, in its favour.
        against_baseline, against_usual: ratios of medians of the epochs to the target, the latter against
            ReLU at its usual initialisation and learning rate.
        reached: of the fold's seeds.
    """

    set: str
    fold: str
    baseline: str
    against_baseline: Comparison
    against_usual: Comparison
    reached: int
    seeds: int


def verdict(name: str, study: Study, rows: Rows, usual: Rows) -> Verdict:
    by_name = {row.activation: row for row in rows if row.set == name}
    fold = min((f for f in FOLDS if f in by_name), key=lambda f: rank_cell(_selected(study, name, f)))
    baseline = min((b for b in BASELINES if b in by_name), key=lambda b: _order(by_name[b]))
    (plain,) = [row for row in usual if row.set == name]
    mine, best = by_name[fold], by_name[baseline]
    caps = (float(mine.cap or 0), float(mine.cap or 0))
    return Verdict(
        name, fold, baseline, compare(best.epochs, mine.epochs, caps=caps),
        compare(plain.epochs, mine.epochs, caps=caps), mine.reached, mine.seeds,
    )  # fmt: skip


def _selected(study: Study, name: str, activation: str) -> list[Curve]:
    """The curves of the best cell on the selection seeds."""
    cells: dict[tuple[float, float], list[Curve]] = {}
    for trial in study.trials():
        if (trial.data, trial.activation) == (name, activation) and not trial.reported:
            cells.setdefault(trial.cell, []).append(trial.curve)
    return min(cells.values(), key=rank_cell)


def _order(row: StudyRow) -> tuple[float, float]:
    return (math.inf if row.median is None else row.median), -row.reached


def print_rows(rows: Rows, usual: Rows, split: str) -> None:
    table = [(row, row.activation) for row in rows] + [(row, "relu, as usual") for row in usual]
    table.sort(key=lambda pair: (pair[0].set, _order(pair[0])))
    print_table(
        f"MLP 6 x 50, Adam, batch 128, cap {rows[0].cap} epochs",
        ["set", "activation", "rate", "gain", "reached", f"epochs to 99 % {split}: median [range]"],
        [
            (
                row.set,
                name,
                row.learning_rate,
                row.gain,
                f"{row.reached}/{row.seeds}",
                times_text(row.epochs),
            )
            for row, name in table
        ],
    )


def print_verdicts(verdicts: list[Verdict], split: str) -> None:
    print_table(
        f"The chosen fold, epochs to 99 % {split}: ratio of medians [95 % interval]",
        ["set", "total Betti", "fold", "best baseline", "x fewer than it", "x fewer than ReLU as usual",
         "reached"],
        [
            (v.set, SHAPES_TOTAL[v.set], v.fold, v.baseline, ratio_text(v.against_baseline),
             ratio_text(v.against_usual), f"{v.reached}/{v.seeds}")
            for v in verdicts
        ],
    )  # fmt: skip


def print_falls(falls: list[BettiFall]) -> None:
    cells = [
        (row.set, row.activation, row.which, f"{row.before:g}", f"{row.after:g}", fall_text(row))
        for row in falls
    ]
    columns = ["set", "activation", "", "before", "after", "epochs to the fall"]
    print_table("Betti numbers of the class clouds, all layers, medians of 2 seeds", columns, cells)


if __name__ == "__main__":
    main()
