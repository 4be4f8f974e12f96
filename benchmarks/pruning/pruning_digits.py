"""Pruning the demo's digits net: the Betti threshold of the paper, and equal ratios by other criteria.

For nets with and without batch normalisation, five training seeds each: the share of filters whose
Betti number is above 300 (400 samples, the layer's 2 % radius), and test accuracy after removing them;
and test accuracy after removing 30 % of the filters of each layer by Betti number, L1 norm and at random,
as pruned and after two epochs of fine-tuning.

    python benchmarks/pruning/pruning_digits.py    # about two minutes on one core
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import torch
from torch import nn

from unknot.cli.samples import load_data
from unknot.core.console import print_table
from unknot.core.files import write_text
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.models import cnn
from unknot.nets.training import one_thread, train
from unknot.pruning.removal import PruningPlan, plan_pruning, prune
from unknot.pruning.scoring.scores import score_filters

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
SEEDS = range(5)
RATIO = 0.3
DIGITS = load_data("digits")


def main() -> None:
    rows = []
    with one_thread():
        for batch_norm in (True, False):
            trials = [trial(batch_norm, seed) for seed in SEEDS]
            for what in trials[0]:
                values = [t[what] for t in trials]
                rows.append({"batch_norm": batch_norm, "what": what, "values": values})
    print_table(
        f"digits, cnn 32-64-64, {len(SEEDS)} training seeds: median [range]",
        ["batch norm", "", "median [range]"],
        [("yes" if r["batch_norm"] else "no", r["what"], spread(r["values"])) for r in rows],
    )
    record = {
        **provenance("python benchmarks/pruning/pruning_digits.py"),
        "rows": rows,
    }
    write_text(RESULTS / "pruning_digits.json", json.dumps(record, indent=1))


def trial(batch_norm: bool, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model = cnn(1, 10, widths=(32, 64, 64), batch_norm=batch_norm)
    train(model, DIGITS.inputs, DIGITS.labels, epochs=30, learning_rate=3e-3, seed=seed)
    samples = [(DIGITS.inputs, DIGITS.labels)]
    scores = {c: score_filters(model, samples, criterion=c, seed=seed) for c in ("betti", "l1", "random")}
    above = plan_pruning(model, scores["betti"], DIGITS.inputs[:2], max_betti=300)
    found = {
        "accuracy before": test_accuracy(model),
        "share of filters above Betti 300": statistics.mean(r.score > 300 for r in scores["betti"].rows),
        "accuracy without those": test_accuracy(prune(model, above)),
        "accuracy without those, tuned 2 epochs": tuned(model, above, seed),
    }
    for name, score in scores.items():
        plan = plan_pruning(model, score, DIGITS.inputs[:2], ratio=RATIO)
        found[f"accuracy without the worst {RATIO:.0%} by {name}"] = test_accuracy(prune(model, plan))
        found[f"accuracy without the worst {RATIO:.0%} by {name}, tuned 2 epochs"] = tuned(
            model, plan, seed
        )
    return found


def tuned(model: nn.Module, plan: PruningPlan, seed: int) -> float:
    slim = prune(model, plan)
    train(slim, DIGITS.inputs, DIGITS.labels, epochs=2, seed=seed)
    return test_accuracy(slim)


def test_accuracy(model: nn.Module) -> float:
    return measure_accuracy(model, DIGITS.test_inputs, DIGITS.test_labels)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}-{max(values):.3f}]"


if __name__ == "__main__":
    main()
