"""Half of the time asked of a ResNet-18 for 32 x 32 images, and the time that half of the MACs takes.

CIFAR-10, 5,000 training images, one training seed. For batches of 1 and 64 half of the original's time
is asked as ``latency_ms``; then, of what `shrink` makes by default of half of the MACs, the time of 64
images is measured on one thread and on all. Every time is measured again in processes of their own, which
load the model from its file: in turns with the original by `measure_cost`, and by a plain loop of each
model alone, whose memory glibc takes from the system anew for each pass.

    UNKNOT_DATA=... python benchmarks/pruning/latency.py    # about ten minutes on two idle cores
    UNKNOT_DATA=... python benchmarks/pruning/latency.py --only time   # or macs; the others' rows stay
    UNKNOT_DATA=... python benchmarks/pruning/latency.py --quick    # a narrow net, nothing is written
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from nets import Size, Split, split, trained
from torch import Tensor, nn

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

BENCHMARKS = Path(__file__).parents[1]
FULL = Size(images=5_000, epochs=5, tests=4_000, resnet=(64, 128, 256, 512), blocks=2)
QUICK = Size(images=512, epochs=1, tests=200, resnet=(32, 64, 96, 128), blocks=1)
CALIBRATION = 512  # images
BATCHES = (1, 64)
PROCESSES = 3  # in which each time is measured again
WAYS = ("original", "pruned")
PARTS = ("time", "macs")  # half of which is asked
Record = dict[str, Any]


def main() -> None:
    arguments = parsed()
    if arguments.measure:
        print(json.dumps(measured(**json.loads(arguments.measure))))
        return
    size = QUICK if arguments.quick else FULL
    data = split("cifar10", 0, size)
    folder = BENCHMARKS / "raw" / ("latency-quick" if arguments.quick else "latency")
    torch.manual_seed(0)
    model = trained(folder, "cifar10", "resnet", 0, size, data)
    threads = torch.get_num_threads()
    path = BENCHMARKS / "results" / "latency.json"
    keeps = path.exists() and not arguments.quick
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if keeps else []
    if arguments.only == "macs":
        found = [row for row in earlier if "asked_ms" in row]
    else:
        found = [half_of_the_time(model, data, size, n, threads) for n in BATCHES]
    if arguments.only == "time":
        found += [row for row in earlier if "asked_ms" not in row]
    else:
        found += half_of_the_macs(model, data, size, sorted({1, threads}))
    show(found)
    if arguments.quick:
        return
    record = provenance("python benchmarks/pruning/latency.py") | {"rows": found}
    write_text(path, json.dumps(record, indent=1))


def half_of_the_time(model: nn.Module, data: Split, size: Size, n: int, threads: int) -> Record:
    """Half of what a batch of ``n`` takes is asked, and measured again elsewhere."""
    images, example = data.images[:CALIBRATION], data.images[:n]
    asked = uk.nets.measure_cost(model, example, batch_sizes=()).latency_ms / 2
    start = time.perf_counter()
    structure = uk.pruning.find_structure(model, example)
    scores = uk.score_filters(model, images, structure=structure)
    plan = uk.plan_pruning(model, scores, example, latency_ms=asked, structure=structure)
    slim = uk.prune(model, plan, structure=structure)
    uk.pruning.refit(model, slim, plan, images)
    row = {"what": "half of the time asked", "batch": n, "threads": threads, "asked_ms": asked}
    row["seconds"] = time.perf_counter() - start
    return row | described(model, slim, plan, data, size, n, threads)


def half_of_the_macs(model: nn.Module, data: Split, size: Size, threads: list[int]) -> list[Record]:
    """Half of the MACs by default, timed with 64 images."""
    given = ((data.images, data.labels), (data.test_images, data.test_labels))
    start = time.perf_counter()
    shrunk = uk.shrink(model, given, macs=0.5, max_points=CALIBRATION)
    seconds = time.perf_counter() - start
    row = {"what": "half of the MACs by default", "batch": 64, "seconds": seconds}
    return [
        row | {"threads": n} | described(model, shrunk.model, shrunk.plan, data, size, 64, n)
        for n in threads
    ]


def described(
    model: nn.Module, slim: nn.Module, plan: Any, data: Split, size: Size, n: int, threads: int
) -> Record:
    """Accuracies, MACs and widths; and times in processes of their own."""
    one = data.test_images[:1]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("model.pt", "slim")]
        torch.save(model.state_dict(), files[0])
        uk.save_pruned(slim, plan, files[1])
        task = {"original": files[0], "pruned": files[1], "widths": size.resnet, "blocks": size.blocks,
                "batch": n, "threads": threads}  # fmt: skip
        again = [in_process(task | {"way": "turns"}) for _ in range(PROCESSES)]
        plain = [
            [in_process(task | {"way": way})[way] for _ in range(PROCESSES)]
            for way in ("original", "pruned")
        ]
    return {
        "accuracy_before": uk.nets.measure_accuracy(model, data.test_images, data.test_labels),
        "accuracy_after": uk.nets.measure_accuracy(slim, data.test_images, data.test_labels),
        "macs": uk.count_macs(slim, one) / uk.count_macs(model, one),
        "widths": {layer: n - len(plan.removed.get(layer, ())) for layer, n in plan.filters.items()},
        "budget": plan.budget,
        "again_ms": [run["alone"] for run in again],
        "again_ratio": [run["ratio"] for run in again],
        "plain_ms": plain,
        "plain_ratio": statistics.median(plain[1]) / statistics.median(plain[0]),
    }


def in_process(task: Record) -> Record:
    command = [sys.executable, __file__, "--measure", json.dumps(task)]
    found: Record = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def measured(
    original: str, pruned: str, widths: list[int], blocks: int, batch: int, threads: int, way: str
) -> Record:
    """The times of the models in files, in a process that did nothing before."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 32, 32)
    model = uk.nets.resnet(3, 10, widths=tuple(widths), blocks=blocks)
    model.load_state_dict(torch.load(original, weights_only=True))
    if way == "original":
        return {way: plain_loop(model.eval(), images)}
    slim = uk.load_pruned(lambda: copy.deepcopy(model), pruned)
    if way == "pruned":
        return {way: plain_loop(slim.eval(), images)}
    alone = uk.nets.measure_cost(slim, images, batch_sizes=()).latency_ms
    ratio = uk.compare_cost(model, slim, images, batch_sizes=()).speeds[0].ratio
    return {"alone": alone, "ratio": ratio}


def plain_loop(model: nn.Module, images: Tensor) -> float:
    """Milliseconds, the median of 20 passes after three."""
    times = []
    with torch.no_grad():
        for _ in range(23):
            start = time.perf_counter()
            model(images)
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def show(rows: list[Record]) -> None:
    print_table(
        "ResNet-18 at 32 x 32: times measured again in processes of their own",
        ["", "batch", "threads", "ms asked", "ms again", "of the original's", "plain loop", "MACs",
         "accuracy", "points lost", "seconds"],
        [
            (
                r["what"], r["batch"], r["threads"],
                f"{r['asked_ms']:.3g}" if "asked_ms" in r else "",
                ", ".join(f"{ms:.3g}" for ms in r["again_ms"]),
                ", ".join(f"{ratio:.2f}" for ratio in r["again_ratio"]),
                f"{r['plain_ratio']:.2f}", f"{r['macs']:.2f}", f"{r['accuracy_before']:.3f}",
                f"{100 * (r['accuracy_before'] - r['accuracy_after']):.2f}", f"{r['seconds']:.0f}",
            )
            for r in rows
        ],
    )  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="this part; the other's rows stay")
    parser.add_argument("--quick", action="store_true", help="a narrow net, nothing is written")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
