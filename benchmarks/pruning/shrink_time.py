"""How long it takes to shrink nets, and with how much memory.

ResNet-18 for 32 x 32 images: scoring by several criteria, planning and refitting (three rounds); the
whole of `uk.shrink` by effort, 512 images; and how fast the net is with half of its filters. Wide layers:
the whole of `uk.shrink` of a ResNet-50 and a DeepLabV3-ResNet50 (whose widest layer weighs 18,432
entries) at 64 x 64, effort fast, 256 images, one timed pass of each net, where torchvision is installed.

Half of the MACs each, of random images without labels; the weights are as drawn. Each part runs in a
process of its own, so that its peak of memory is its own.

    python benchmarks/pruning/shrink_time.py                          # about ten minutes on two cores
    python benchmarks/pruning/shrink_time.py --only fast balanced     # parts; the others' figures stay
    python benchmarks/pruning/shrink_time.py --quick                  # narrow nets, nothing is written
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "shrink_time.json"
CRITERIA = ("l1", "elder", "surgeon", "elder-surgeon")
# Seconds and GB that the whole of `uk.shrink` may take on two idle cores.
AIMS = {
    "fast": (30, 2.5),
    "balanced": (150, 2.5),
    "resnet50": (120, 4.0),
    "deeplabv3_resnet50": (120, 4.0),
}
Record = dict[str, Any]


def resnet18(quick: bool) -> nn.Module:
    torch.manual_seed(0)
    widths = (16, 32, 64, 128) if quick else (64, 128, 256, 512)
    return uk.nets.resnet(3, 10, widths=widths, blocks=2).eval()


def steps(quick: bool) -> Record:
    """Scoring, planning and refitting, one by one."""
    model, images = resnet18(quick), torch.randn(64 if quick else 400, 3, 32, 32)
    seconds: dict[str, list[float]] = {}

    def timed(what: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        seconds.setdefault(what, []).append(time.perf_counter() - start)
        return result

    for _ in range(1 if quick else 3):
        for criterion in CRITERIA:
            score = partial(uk.score_filters, model, images, criterion=criterion)
            scores = timed(f"score by {criterion}", score)
        plan = timed(
            "plan, checked against the masked original",
            lambda scores=scores: uk.plan_pruning(model, scores, images[:2], macs=0.5),
        )
        slim = uk.prune(model, plan)
        timed("refit", partial(uk.pruning.refit, model, slim, plan, images))
    return {"seconds": seconds}


def speed(quick: bool) -> Record:
    """Half of the filters of every layer: time, of the original's."""
    model, images = resnet18(quick), torch.randn(64, 3, 32, 32)
    scores = uk.score_filters(model, criterion="l1")
    half = uk.prune(model, uk.plan_pruning(model, scores, images[:2], ratio=0.5, allocation="uniform"))
    found: Record = {}
    for n in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(n)
        found[str(n)] = [asdict(s) for s in uk.compare_cost(model, half, images, repeats=20).speeds]
    return {"half_of_the_filters": found}


def whole(effort: str, quick: bool) -> Record:
    """`uk.shrink` of the ResNet-18."""
    return shrunk(resnet18(quick), torch.randn(64 if quick else 576, 3, 32, 32), effort=effort)


def wide(name: str, quick: bool) -> Record:
    """`uk.shrink` of a net of torchvision."""
    from zoo_nets import NETS, ZooNet, torchvision_models

    def deeplab() -> nn.Module:
        model: nn.Module = torchvision_models().get_model(
            "deeplabv3_resnet50", weights=None, weights_backbone=None, num_classes=10
        )
        return model

    try:
        net = NETS[name] if name in NETS else ZooNet("dense", deeplab, (3, 64, 64))
        model = net.built()
    except ImportError:
        return {"left_out": "torchvision is not installed"}
    return shrunk(model, net.inputs(24 if quick else 320), effort="fast", repeats=1)


def shrunk(model: nn.Module, images: torch.Tensor, **how: Any) -> Record:
    """All but the last 64 images (8 of few) shrink it."""
    kept = 64 if len(images) > 100 else 8
    start = time.perf_counter()
    found = uk.shrink(model, ([images[:-kept]], [images[-kept:]]), macs=0.5, **how)
    return {"seconds": time.perf_counter() - start, "budget": found.plan.budget,
            "images": len(images) - kept}  # fmt: skip


PARTS: dict[str, Callable[[bool], Record]] = {
    "steps": steps,
    "speed": speed,
    **{effort: partial(whole, effort) for effort in ("fast", "balanced", "best")},
    **{name: partial(wide, name) for name in ("resnet50", "deeplabv3_resnet50")},
}
DEFAULT = [name for name in PARTS if name != "best"]


def main() -> None:
    asked = parsed()
    torch.set_num_threads(asked.threads)
    if asked.part:
        found = PARTS[asked.part](asked.quick)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(found | {"peak_gb": peak, "threads": asked.threads}))
        return
    parts = json.loads(RESULTS.read_text()).get("parts", {}) if RESULTS.exists() else {}
    here = {}
    for name in asked.only:
        here[name] = in_process(name, asked)
        if not asked.quick and "left_out" not in here[name]:
            parts[name] = here[name]
            ordered = {n: parts[n] for n in PARTS if n in parts}
            record = provenance("python benchmarks/pruning/shrink_time.py") | {"parts": ordered}
            write_text(RESULTS, json.dumps(record, indent=1))
        show({name: here[name]})
    show(here if len(here) > 1 else {})


def in_process(name: str, asked: argparse.Namespace) -> Record:
    command = [sys.executable, __file__, "--part", name, "--threads", str(asked.threads)]
    run = subprocess.run([*command, *["--quick"] * asked.quick], check=True, capture_output=True)
    found: Record = json.loads(run.stdout.splitlines()[-1])
    return found


def show(parts: dict[str, Record]) -> None:
    """The whole of `uk.shrink` beside what it may take; steps; and the speed of half of the filters."""
    for name, found in parts.items():
        if "left_out" in found:
            print(f"{name}: left out, {found['left_out']}")
    rows = [
        (name, p["threads"], f"{p['seconds']:.1f}", AIMS.get(name, ("", ""))[0], f"{p['peak_gb']:.2f}",
         AIMS.get(name, ("", ""))[1], p["budget"])
        for name, p in parts.items() if "budget" in p
    ]  # fmt: skip
    if rows:
        columns = ["uk.shrink", "threads", "seconds", "at most", "peak GB", "at most", "removed"]
        print_table("Half of the MACs; the aims are for two idle cores", columns, rows)
    if of_steps := parts.get("steps"):
        print_table(
            f"ResNet-18, {of_steps['threads']} threads; peak {of_steps['peak_gb']:.1f} GB",
            ["", "seconds, median [range]"],
            [(k, f"{statistics.median(v):.1f} [{min(v):.1f}, {max(v):.1f}]")
             for k, v in of_steps["seconds"].items()],
        )  # fmt: skip
    if of_speed := parts.get("speed"):
        speeds = of_speed["half_of_the_filters"]
        print_table(
            "ResNet-18 with half of the filters of every layer: time, of the original's",
            ["threads", *(f"batch {s['batch_size']}" for s in next(iter(speeds.values())))],
            [(n, *(f"{s['ratio']:.2f} [{s['low']:.2f}, {s['high']:.2f}]" for s in of))
             for n, of in speeds.items()],
        )  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=DEFAULT, help="these parts")
    parser.add_argument("--quick", action="store_true", help="narrow nets, nothing is written")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
