"""Epochs to 99 % train accuracy of an MLP 6 x 50 on entangled sets, every activation tuned alike.

Every activation gets the same grid of learning rates and gains. Its cell is chosen on three seeds that
are not reported, and ten fresh seeds are run on it; what has not arrived by the cap is reported as not
reached.
The ReLU of "relu, untuned" has the usual learning rate (1e-3) and He initialisation.

    python benchmarks/activation.py            # about 25 minutes on one core; resumable
    python benchmarks/activation.py --quick    # a smaller grid, to see that it works
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import date
from pathlib import Path

import torch

from unknot.console import print_table
from unknot.convergence import Study, StudyRow
from unknot.files import write_text
from unknot.profile import library_versions
from unknot.synthetic import make_shape

RESULTS = Path(__file__).parent / "results"
SETS = {"rings": {}, "checker": {}}
ACTIVATIONS = ["relu", "gelu", "tanh", "hardtanh", "zfold"]
TARGET = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    folder = Path("runs")
    sets = {name: tensors(name) for name in SETS}
    tuned = Study(folder / f"activation{'-quick' if quick else ''}.sqlite")
    usual = Study(folder / f"activation-usual{'-quick' if quick else ''}.sqlite")
    seeds, epochs = (2, 5) if quick else (10, 60)
    grid = {"learning_rates": [1e-3], "gains": [1.0, 2.0]} if quick else {
        "learning_rates": [1e-3, 3e-3], "gains": [1.0, 2.0, 3.0],
    }  # fmt: skip
    tuned.run(sets, ACTIVATIONS, seeds=seeds, epochs=epochs, stop_at=TARGET, progress=True, **grid)
    usual.run(sets, ["relu"], seeds=seeds, epochs=epochs, stop_at=TARGET, progress=True)
    rows = [(row, "tuned") for row in tuned.summary([TARGET])]
    rows += [(row, "untuned") for row in usual.summary([TARGET])]
    rows.sort(key=lambda pair: (pair[0].set, pair[1], pair[0].activation))
    columns = ["set", "activation", "learning rate", "gain", "reached", "epochs to 99 %: median [range]"]
    print_table(f"MLP 6 x 50, Adam, batch 128, cap {epochs} epochs", columns, [cells(*r) for r in rows])
    if not quick:
        record = {
            "command": "python benchmarks/activation.py",
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "versions": library_versions(),
            "rows": [{**vars(row), "tuning": tuning} for row, tuning in rows],
        }
        write_text(RESULTS / "activation.json", json.dumps(record, indent=1))


def tensors(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    shape = make_shape(name, seed=0)
    return torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)


def cells(row: StudyRow, tuning: str) -> tuple[object, ...]:
    reached = [e for e in row.epochs if e is not None]
    spread = (
        f" [{min(reached)}-{max(reached) if row.reached == row.seeds else 'not reached'}]"
        if reached
        else ""
    )
    median = "not reached" if row.median is None else f"{row.median:g}"
    name = row.activation if tuning == "tuned" else f"{row.activation}, untuned"
    return row.set, name, row.learning_rate, row.gain, f"{row.reached}/{row.seeds}", median + spread


if __name__ == "__main__":
    main()
