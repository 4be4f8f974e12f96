"""The grid of one activation as stacks, against the same nets trained one after another.

The nets of `unknot study --data rings` choosing a cell: MLP 6 x 50, 16 of its cells x 3 seeds, two
epochs each. Three ways take turns: one after another in one process; one stack in one process; as many
stacks as there are cores, in as many processes. All read accuracies alike, once as a study does to choose
a cell (exact from 99 % on) and once of all samples at every reading, as for the trials that it reports.
The nets are the same up to rounding, which is checked.

    python benchmarks/activations/stacked.py    # about five minutes
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.cli.samples import load_data
from unknot.core.console import print_table
from unknot.core.files import write_text
from unknot.nets.models import mlp
from unknot.nets.training import one_thread
from unknot.study.options import DEFAULTS
from unknot.study.stack import Stack
from unknot.study.stacked_training import train_alone, train_stack
from unknot.study.task import CHOOSE_BY
from unknot.study.trials import Curve

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
DATA = load_data("rings").without_test()
NETS = list(product((3e-4, 1e-3, 3e-3, 1e-2), DEFAULTS.gains, range(3)))
EPOCHS = 2
ROUNDS = 5
CORES = os.cpu_count() or 1


def models(activation: str) -> list[nn.Module]:
    new = ACTIVATIONS[activation]
    return [
        init_by_gain(mlp(3, 2, activation=new), new(), multiplier=gain, seed=seed)
        for _, gain, seed in NETS
    ]


def alone(activation: str, exact_from: float) -> tuple[Curve, ...]:
    with one_thread():
        return tuple(
            train_alone(model, DATA, learning_rate=rate, seed=seed, epochs=EPOCHS, exact_from=exact_from)
            for model, (rate, _, seed) in zip(models(activation), NETS, strict=True)
        )


def stacked(activation: str, exact_from: float) -> tuple[Curve, ...]:
    with one_thread():
        rates, seeds = [rate for rate, _, _ in NETS], [seed for _, _, seed in NETS]
        return train_stack(
            models(activation), DATA, learning_rates=rates, seeds=seeds, epochs=EPOCHS,
            exact_from=exact_from,
        )  # fmt: skip


def steps(activation: str) -> tuple[float, float, float]:
    """Milliseconds of one step of all nets: one after another, as a stack, and of its products."""
    nets = models(activation)
    batch = torch.arange(128).expand(len(nets), -1)
    inputs, labels = DATA.inputs[batch], DATA.labels[batch]
    stack = Stack(nets, [rate for rate, _, _ in NETS])
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in nets]
    sizes = [layer.weight.shape for layer in nets[0] if isinstance(layer, nn.Linear)]
    tensors = [
        (torch.randn(len(nets), *shape), torch.randn(len(nets), shape[1], 128),
         torch.randn(len(nets), shape[0], 128))
        for shape in sizes
    ]  # fmt: skip

    def one_after_another() -> None:
        for net, optimizer, x, y in zip(nets, optimizers, inputs, labels, strict=True):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def products() -> None:
        for i, (weight, x, gradient) in enumerate(tensors):
            torch.bmm(weight, x)
            torch.bmm(gradient, x.transpose(1, 2))
            if i:
                torch.bmm(weight.transpose(1, 2), gradient)

    works = (one_after_another, lambda: stack.step(inputs, labels), products)
    times: list[list[float]] = [[], [], []]
    for _ in range(40):
        for work, taken in zip(works, times, strict=True):
            taken.append(1000 * seconds(work))
    one_by_one, stacked_ms, products_ms = (statistics.median(taken[10:]) for taken in times)
    return one_by_one, stacked_ms, products_ms


def seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def compared(pool: Parallel, activation: str, exact_from: float) -> dict[str, object]:
    args = activation, exact_from
    off = max(
        abs(a - b)
        for one, other in zip(alone(*args), stacked(*args), strict=True)
        for a, b in zip(one.train_accuracy, other.train_accuracy, strict=True)
    )
    in_one, in_all = [], []
    for _ in range(ROUNDS):
        # The processes train CORES grids; one after another that is CORES times the work.
        one = seconds(lambda: alone(*args))
        in_one.append(one / seconds(lambda: stacked(*args)))
        grids = seconds(lambda: pool(delayed(stacked)(*args) for _ in range(CORES)))
        in_all.append(CORES * one / grids)
    return {
        "activation": activation, "exact_from": exact_from, "one_process": in_one,
        f"{CORES}_processes": in_all, "largest_accuracy_difference": off,
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    rows, step_rows = [], []
    with Parallel(n_jobs=CORES) as pool:
        pool(delayed(stacked)("relu", 0.0) for _ in range(CORES))  # processes are up, torch is warm
        for activation in ("relu", "gelu", "zfold"):
            rows += [compared(pool, activation, exact_from) for exact_from in (CHOOSE_BY, 0.0)]
            alone_ms, stack_ms, products_ms = steps(activation)
            step_rows.append(
                {"activation": activation, "alone": alone_ms, "stack": stack_ms, "products": products_ms}
            )
    print_table(
        f"{len(NETS)} nets, times faster than one after another: median [range] of {ROUNDS}",
        ["activation", "exact from", "one process", f"{CORES} processes", "largest difference"],
        [
            (row["activation"], f"{row['exact_from']:.0%}", spread(row["one_process"]),
             spread(row[f"{CORES}_processes"]), f"{row['largest_accuracy_difference']:.4f}")
            for row in rows
        ],
    )  # fmt: skip
    print_table(
        "One step of all nets in one process, without reading accuracies",
        ["activation", "one after another, ms", "stack, ms", "times faster", "its matrix products, ms"],
        [
            (m["activation"], m["alone"], m["stack"], m["alone"] / m["stack"], m["products"])
            for m in step_rows
        ],
    )
    record = {
        **provenance("python benchmarks/activations/stacked.py"),
        "rows": rows,
        "step_ms": step_rows,
    }
    write_text(RESULTS / "stacked.json", json.dumps(record, indent=1))


def spread(values: object) -> str:
    assert isinstance(values, list)
    return f"{statistics.median(values):.2f} [{min(values):.2f} - {max(values):.2f}]"


if __name__ == "__main__":
    main()
