"""The settings of the baselines, tried on training seeds that no other figure uses.

    UNKNOT_DATA=... python benchmarks/pruning/baseline_settings.py    # about 20 minutes on one core

Training seeds 0 and 1 of the ResNets of CIFAR-10 and cats vs dogs, three quarters of the MACs, 512
calibration images. Printed: points of test accuracy lost, mean over the nets that are done. Trials go to
benchmarks/raw/baseline_settings.jsonl.
"""

from __future__ import annotations

import argparse
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
SHARES = (0.75,)
CALIBRATION = 512


def settings() -> Iterator[tuple[str, Callable[[Task], nn.Module]]]:
    yield "l1, nothing mended", l1.prune_only
    yield "l1, batch norm", l1.prune
    yield "taylor, nothing mended", taylor.prune_only
    for batch in (8, 32, 512):
        yield f"taylor, batch norm, batch {batch}", partial(taylor_at, batch=batch)
    yield "torch-pruning taylor, nothing mended", partial(groups.prune_only, kind="taylor")
    for kind in groups.KINDS:
        yield f"torch-pruning {kind}, batch norm", partial(groups.prune, kind=kind)
    for ridge in (1e-3, 1e-2, 1e-1):
        for repair in (False, True):
            words = "batch norm" if repair else "as compensated"
            yield f"grail l1, ridge {ridge:g}, {words}", partial(grail.prune, ridge=ridge, repair=repair)
    for selector in ("taylor", "wanda", "gram", "surgeon", "surgeon, its widths"):
        yield f"grail {selector}, batch norm", partial(grail.prune, selector=selector)
    for swaps in (1, 4, 16):
        yield f"osscar, {swaps} swaps, batch norm", partial(osscar.prune, swaps=swaps)
    for damping in (1e-4, 1e-2):
        words = f"osscar, damping {damping:g}, batch norm"
        yield words, partial(osscar.prune, swaps=4, damping=damping)
    yield "osscar, as solved", partial(osscar.prune, swaps=4, repair=False)
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="of what is done, no new trials")
    log = Log(RAW / "baseline_settings.jsonl")
    with one_thread():
        for seed in () if parser.parse_args().tables else SEEDS:
            for name, net in PAIRS:
                run(name, net, seed, log)
    rows = []
    for words, _ in settings():
        cells = []
        for share in SHARES:
            of = [r for r in log.found.values() if (r["criterion"], r["share"]) == (words, share)]
            each = " ".join(f"{r['lost']:.1f}" for r in of)
            cells += [f"{statistics.mean(r['lost'] for r in of):.2f}" if of else "", each]
        rows.append((words, *cells))
    columns = [c for s in SHARES for c in (f"{s:.0%} of the MACs", "each net")]
    print_table("points lost", ["setting", *columns], rows)


if __name__ == "__main__":
    main()
