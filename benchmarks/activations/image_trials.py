"""Trials of image nets: the images of a seed, what was run already, and how curves are compared."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from unknot.core.files import write_text
from unknot.nets.images import load_images
from unknot.study.survival import Times, censored_median

RESULTS = Path(__file__).parents[1] / "results"
RAW = Path(__file__).parents[1] / "raw"
SETS = ("fashion_mnist", "cifar10", "cats_vs_dogs")
VALIDATION = 2_000  # images of the training split that no seed trains on
SELECTION_SEED, SEARCH_SEED = 1_000_000, 2_000_000  # reported seeds are below
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Curves = dict[str, list[float]]
Row = dict[str, object]


@dataclass(frozen=True)
class Size:
    """What a trial costs: images, readings, nets, seeds."""

    images: int = 2_500
    read: int = 1_000  # images of each split that a reading takes
    epochs: int = 12
    batch: int = 50
    widths: tuple[int, ...] = (16, 32, 32)
    dense: int = 64
    seeds: int = 5
    selection_epochs: int = 4
    selection_seeds: int = 2


@dataclass(frozen=True)
class Trial:
    set: str
    batch_norm: bool
    activation: str
    learning_rate: float
    gain: float
    seed: int
    epochs: int
    validation: bool
    net: str = "cnn"


@cache
def split(name: str, part: str) -> tuple[Tensor, Tensor]:
    data = load_images(name, split=part)  # type: ignore[arg-type]
    images = F.avg_pool2d(data.images, 2) if name == "cats_vs_dogs" else data.images
    return images, data.labels


def draw(trial: Trial, size: Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels of a seed, and those of the split that it is measured on."""
    images, labels = split(trial.set, "train")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held, rest = order[:VALIDATION], order[VALIDATION:]
    generator = torch.Generator().manual_seed(trial.seed)
    rows = rest[torch.randperm(len(rest), generator=generator)[: size.images]]
    others = (images, labels) if trial.validation else split(trial.set, "test")
    pool = held if trial.validation else torch.arange(len(others[0]))
    other = pool[torch.randperm(len(pool), generator=generator)[: size.read]]
    tensors = (images[rows], labels[rows], others[0][other], others[1][other])
    return tuple(t.to(DEVICE) for t in tensors)  # type: ignore[return-value]


def fused(model: nn.Sequential) -> nn.Sequential:
    """In eval mode, normalisations merged into the layers before them: a reading takes half as long."""
    layers: list[nn.Module] = []
    for layer in model.eval():
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d) and isinstance(layers[-1], nn.Linear):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def accuracy(model: nn.Sequential, inputs: Tensor, labels: Tensor) -> float:
    net = fused(model)
    with torch.no_grad():
        size = 250 if DEVICE.type == "cpu" else 2500  # small enough for the cache
        parts = zip(inputs.split(size), labels.split(size), strict=True)
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in parts)
    model.train()
    return right / len(labels)


class Trials:
    """Finished trials in a file of JSON lines; what is there is not run again."""

    def __init__(self, path: Path, size: Size, run: Callable[[Trial, Size], Curves]) -> None:
        self.path, self.size, self.run = path, size, run
        self.curves: dict[str, Curves] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # cut off while it was written
                self.curves[record["trial"]] = record["curves"]

    def __call__(self, trial: Trial) -> Curves:
        key = json.dumps([asdict(trial), asdict(self.size)], sort_keys=True)
        if key not in self.curves:
            self.curves[key] = self.run(trial, self.size)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"trial": key, "curves": self.curves[key]})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")  # the break comes first: a line cut off does not spoil this one
                file.flush()
                os.fsync(file.fileno())
        return self.curves[key]


def reach(curve: Sequence[float], target: float) -> float | None:
    """Epochs until the line between half-epoch readings crosses the target; None if it never does."""
    before = None
    for number, value in enumerate(curve, start=1):
        if value >= target:
            part = 1.0 if before is None else (target - before) / (value - before)
            return (number - 1 + part) / 2
        before = value
    return None


def final(curve: Sequence[float]) -> float:
    """Mean of the last two epochs' readings: one alone swings by a point or two."""
    return statistics.mean(curve[-4:])


def choose(
    trials: Trials,
    first: Trial,
    grid: Iterable[tuple[float, float]],
    score: Callable[[Curves], float],
) -> tuple[float, float]:
    """The learning rate and gain of the best mean score over the selection seeds.

    Each further seed runs on the better half of the cells that are left, two at least.
    """
    size = trials.size
    scores = dict.fromkeys(grid, 0.0)
    for seed in range(size.selection_seeds):
        for rate, factor in scores:
            trial = replace(
                first, learning_rate=rate, gain=factor, seed=SELECTION_SEED + seed,
                epochs=size.selection_epochs, validation=True,
            )  # fmt: skip
            scores[rate, factor] += score(trials(trial))
        if seed < size.selection_seeds - 1:
            best = sorted(scores.items(), key=lambda pair: -pair[1])
            scores = dict(best[: max(2, len(best) // 2)])
    return max(scores, key=lambda cell: scores[cell])


def compare(baseline: Times, other: Times, cap: float) -> dict[str, float | bool]:
    """Median epochs of the baseline over those of the other, with a 95 % bootstrap over paired seeds.

    What the other did not reach is infinite (ratio 0). Where the baseline's median was not reached, its
    cap stands for it and the ratio is a lower bound.
    """
    a = np.array([cap if t is None else t for t in baseline])
    b = np.array([math.inf if t is None else t for t in other])
    rows = np.random.default_rng(0).integers(len(a), size=(4000, len(a)))
    low, high = np.quantile(
        np.median(a[rows], 1) / np.median(b[rows], 1), [0.025, 0.975], method="nearest"
    )
    bound = censored_median(baseline) is None and censored_median(other) is not None
    return {
        "ratio": float(np.median(a) / np.median(b)),
        "low": float(low),
        "high": float(high),
        "bound": bound,
    }


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Mean of first minus second over paired seeds, with a 95 % bootstrap interval."""
    gaps = np.subtract(first, second)
    rows = np.random.default_rng(0).integers(len(gaps), size=(4000, len(gaps)))
    low, high = np.quantile(gaps[rows].mean(1), [0.025, 0.975])
    return {"mean": float(gaps.mean()), "low": float(low), "high": float(high)}


def write_result(
    path: Path, head: Mapping[str, object], settings: Mapping[str, object], rows: Sequence[Row]
) -> None:
    """Write the rows of one or more sets and nets; of the others those that are there stay.

    Rows that were made by other settings say by which: None where that was not recorded.
    """
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    told = json.loads(json.dumps(settings))  # tuples are lists there
    new = {_place(row) for row in rows}
    kept = []
    for row in earlier["rows"]:
        made_by = row.pop("settings", earlier.get("settings"))
        if _place(row) not in new:
            kept.append(row if made_by == told else row | {"settings": made_by})
    record = {**head, "settings": told, "rows": [*kept, *rows]}
    write_text(path, json.dumps(record, separators=(",", ":")))


def _place(row: Row) -> tuple[object, ...]:
    return row["set"], row["net"], row.get("batch_norm")


def spread(times: Times) -> str:
    """Median [range], how many arrived where not all did."""
    found = sorted(t for t in times if t is not None)
    if not found:
        return f"none of {len(times)}"
    middle = censored_median(times)
    text = "not reached" if middle is None else f"{middle:.1f}"
    if len(found) < len(times):
        return f"{text} [{found[0]:.1f}-not reached], {len(found)}/{len(times)}"
    return f"{text} [{found[0]:.1f}-{found[-1]:.1f}]"


def ratio(found: object) -> str:
    assert isinstance(found, dict)
    if found["ratio"] == 0:
        return "not reached"
    low = f"{found['low']:.2f}" if found["low"] else "not reached"
    return f"{'> ' if found['bound'] else ''}{found['ratio']:.2f} [{low}, {found['high']:.2f}]"
