"""The settings of the baselines, tried on training seeds that no other figure uses.

    UNKNOT_DATA=... python benchmarks/pruning/baseline_settings.py    # about 20 minutes on one core

Training seeds 0 and 1 of the ResNets of CIFAR-10 and cats vs dogs, half and three quarters of the MACs,
512 calibration images. Printed: points of test accuracy lost, mean over the four nets, for each budget.
Trials go to benchmarks/raw/baseline_settings.jsonl.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial

from baselines import folding, grail, groups, l1, osscar, taylor
from baselines.wiring import Task, copied
from nets import Size, split, test_accuracy, trained
from pruning import RAW, Log
from torch import nn

import unknot as uk
from unknot.core.console import print_table
from unknot.nets.training import one_thread

PAIRS = (("cifar10", "resnet"), ("cats_vs_dogs", "resnet"))
SEEDS = (0, 1)
SHARES = (0.5, 0.75)
CALIBRATION = 512


def settings() -> Iterator[tuple[str, Callable[[Task], nn.Module]]]:
    yield "l1, nothing mended", l1.prune_only
    yield "l1, batch norm", l1.prune
    yield "taylor, nothing mended", taylor.prune_only
    for batch in (1, 32, 512):
        yield f"taylor, batch norm, batch {batch}", partial(taylor_at, batch=batch)
    yield "torch-pruning taylor, nothing mended", groups.prune_only
    for kind in groups.KINDS:
        yield f"torch-pruning {kind}, batch norm", partial(groups.prune, kind=kind)
    for ridge in (1e-4, 1e-3, 1e-2, 1e-1):
        for repair in (False, True):
            words = "batch norm" if repair else "as compensated"
            yield f"grail l1, {ridge:g}, {words}", partial(grail.prune, ridge=ridge, repair=repair)
    for selector in ("taylor", "wanda", "gram", "surgeon", "surgeon, its widths"):
        for repair in (False, True):
            words = "batch norm" if repair else "as compensated"
            yield f"grail {selector}, {words}", partial(grail.prune, selector=selector, repair=repair)
    for swaps in (1, 4, 16):
        for damping in (1e-4, 1e-2):
            yield (
                f"osscar {swaps} swaps, {damping:g}, batch norm",
                partial(osscar.prune, swaps=swaps, damping=damping),
            )
    yield "osscar 4 swaps, 0.01, as solved", partial(osscar.prune, damping=1e-2, repair=False)
    for repair in ("none", "approximate", "data"):
        yield f"folding, {repair}", partial(folding.prune, repair=repair)  # type: ignore[arg-type]


def taylor_at(task: Task, batch: int) -> nn.Module:
    return task.recalibrated(uk.prune(task.model, task.plan(taylor.scores(task, batch))))


def run(name: str, net: str, seed: int, log: Log) -> None:
    size = Size()
    data = split(name, seed, size)
    model = trained(RAW / f"pruning-{size.images}", name, net, seed, size, data)
    before = test_accuracy(model, data)
    seen = data.images[:CALIBRATION], data.labels[:CALIBRATION]

    def lost(prune: Callable[[Task], nn.Module], share: float) -> dict[str, float]:
        slim = prune(Task(copied(model), *seen, share, seed))
        return {"lost": 100 * (before - test_accuracy(slim, data))}

    here = {"kind": "setting", "set": name, "net": net, "seed": seed}
    for words, prune in settings():
        for share in SHARES:
            log({**here, "criterion": words, "share": share}, partial(lost, prune, share))


def main() -> None:
    log = Log(RAW / "baseline_settings.jsonl")
    with one_thread():
        for seed in SEEDS:
            for name, net in PAIRS:
                run(name, net, seed, log)
    rows = []
    for words, _ in settings():
        cells = []
        for share in SHARES:
            of = [r for r in log.found.values() if (r["criterion"], r["share"]) == (words, share)]
            cells.append(f"{statistics.mean(r['lost'] for r in of):.2f}")
        rows.append((words, *cells))
    print_table("points lost", ["setting", *(f"{s:.0%} of the MACs" for s in SHARES)], rows)


if __name__ == "__main__":
    main()
