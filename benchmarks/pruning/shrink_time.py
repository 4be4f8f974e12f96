"""How long it takes to score, plan and refit a ResNet-18 for 32 x 32 images, with how much memory; and
how fast it is with half of its filters.

400 random images, half of the MACs. The weights are as drawn: the time does not depend on them.

    python benchmarks/pruning/shrink_time.py    # about three minutes on two cores
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from unknot.core.console import print_table
from unknot.core.files import write_text
from unknot.nets.cost import compare_cost
from unknot.nets.models import resnet
from unknot.profiles.profile import library_versions
from unknot.pruning.planning.plan import plan_pruning
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters

RESULTS = Path(__file__).parents[1] / "results"
ROUNDS = 3
CRITERIA = ("l1", "elder", "surgeon", "elder-surgeon")


def main() -> None:
    torch.manual_seed(0)
    model = resnet(3, 10, widths=(64, 128, 256, 512), blocks=2).eval()
    images = torch.randn(400, 3, 32, 32)
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for criterion in CRITERIA:
            start = time.perf_counter()
            scores = score_filters(model, images, criterion=criterion)
            seconds.setdefault(f"score by {criterion}", []).append(time.perf_counter() - start)
        start = time.perf_counter()
        plan = plan_pruning(model, scores, images[:2], macs=0.5)
        seconds.setdefault("plan, checked against the masked original", []).append(
            time.perf_counter() - start
        )
        slim = prune(model, plan)
        start = time.perf_counter()
        refit(model, slim, plan, images)
        seconds.setdefault("refit", []).append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print_table(
        f"ResNet-18 at 32 x 32, 400 images, {torch.get_num_threads()} threads; peak {peak:.1f} GB",
        ["", "seconds, median [range]"],
        [(k, f"{statistics.median(v):.1f} [{min(v):.1f}, {max(v):.1f}]") for k, v in seconds.items()],
    )
    speeds = {}
    threads = torch.get_num_threads()
    half = prune(model, plan_pruning(model, scores, images[:2], ratio=0.5, allocation="uniform"))
    for n in (1, threads):
        torch.set_num_threads(n)
        speeds[n] = compare_cost(model, half, images[:64], repeats=20).speeds
    print_table(
        "The same with half of the filters of every layer: time, of the original's",
        ["threads", *(f"batch {s.batch_size}" for s in speeds[1])],
        [(n, *(f"{s.ratio:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in of)) for n, of in speeds.items()],
    )
    record = {
        "command": "python benchmarks/pruning/shrink_time.py",
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "threads": threads,
        "versions": library_versions(),
        "peak_gb": peak,
        "seconds": seconds,
        "half_of_the_filters": {n: [asdict(s) for s in of] for n, of in speeds.items()},
    }
    write_text(RESULTS / "shrink_time.json", json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
