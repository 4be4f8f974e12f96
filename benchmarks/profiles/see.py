"""What watching costs: Monitor's share of the training time, and every filter of a ResNet-18.

python benchmarks/profiles/see.py [--repeats 7]

Monitor: the rings MLP (6 x 50), 1,000 probe points, 6 layers and the input, 2 classes, every epoch; the
same training with and without it in turn, from its first epoch until all is measured. Filters: a network
of ResNet-18's shape for 32 x 32 images (random weights), 300 samples, every one of its 4,800 convolution
filters. Writes benchmarks/results/see.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import unknot as uk
from unknot.activations.folds import ZFold
from unknot.core.console import print_table, track
from unknot.core.files import write_text
from unknot.nets.training import train

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "see.json"
EPOCHS = 60


def monitored(activation: Any, background: bool | None) -> float:
    """Seconds of EPOCHS epochs in one thread; without a monitor where ``background`` is None.

    From the first epoch until everything is measured; what precedes the training (a process that
    starts, the profile of epoch 0) is no part of it.
    """
    torch.set_num_threads(1)  # a net of this size gains nothing from more
    shape = uk.make_shape("rings", seed=0)
    points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
    torch.manual_seed(0)
    model = uk.nets.mlp(3, 2, activation=activation)
    scale = uk.Scale(k=14, hops=2)
    if background is None:
        start = time.perf_counter()
        train(model, points, labels, epochs=EPOCHS)
        return time.perf_counter() - start
    monitor = uk.Monitor(
        model, [(points, labels)], layers="act*", scale=scale, background=background, max_points=1000
    )
    with monitor:
        assert len(monitor.profile.rows) == 7 * 2  # epoch 0
        start = time.perf_counter()
        train(model, points, labels, epochs=EPOCHS, on_epoch=monitor.record)
    seconds = time.perf_counter() - start
    assert len(monitor.profile.rows) == (EPOCHS + 1) * 7 * 2
    return seconds


def monitor_cost(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, activation in (("relu", nn.ReLU), ("zfold", ZFold)):
        monitored(activation, None)
        shares: dict[bool, list[float]] = {True: [], False: []}
        seconds = []
        for _ in track(range(repeats), f"monitor, {name}"):
            seconds.append(monitored(activation, None))
            for background, found in shares.items():
                # Against the mean of the plain runs before and after: the machine's speed drifts.
                watched = monitored(activation, background)
                plain = monitored(activation, None)
                found.append(watched / ((seconds[-1] + plain) / 2) - 1)
                seconds.append(plain)
        for background, found in shares.items():
            low, median, high = np.percentile(found, [25, 50, 75])
            rows.append({
                "activation": name, "background": background, "share": median, "share_low": low,
                "share_high": high, "epoch_ms": float(np.median(seconds)) / EPOCHS * 1000,
            })  # fmt: skip
    return rows


def filter_cost() -> dict[str, Any]:
    """In a process of its own, whose peak of memory is that of this work."""
    done = subprocess.run(
        [sys.executable, __file__, "--filters"], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_filters() -> dict[str, Any]:
    torch.manual_seed(0)
    model = uk.nets.resnet(3, 10, widths=(64, 128, 256, 512), blocks=2)
    samples = torch.randn(300, 3, 32, 32)
    start = time.perf_counter()
    profile = uk.measure(model, samples, by="filter", scale=uk.Scale(k=14, hops=2), max_points=300)
    return {
        "filters": len(profile.rows),
        "seconds": time.perf_counter() - start,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--filters", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.filters:
        print(json.dumps(measure_filters()))
        return
    filters = [filter_cost() for _ in track(range(3), "every filter of a ResNet-18")]
    monitor = monitor_cost(given.repeats)
    print_table(
        f"Monitor: extra training time, median of {given.repeats} [quartiles]",
        ["activation", "beside the training", "extra", "quartiles", "epoch, ms"],
        [
            (r["activation"], "yes" if r["background"] else "no", f"{r['share']:+.1%}",
             f"{r['share_low']:+.1%} to {r['share_high']:+.1%}", r["epoch_ms"])
            for r in monitor
        ],
    )  # fmt: skip
    print_table(
        "Every filter of a ResNet-18, 300 samples of 32 x 32, forward passes included",
        ["filters", "seconds", "peak, GB"],
        [(f["filters"], f["seconds"], f["peak_gb"]) for f in filters],
    )
    record = {
        **provenance("python benchmarks/profiles/see.py"),
        "monitor": monitor,
        "filters": filters,
    }
    write_text(RESULTS, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
