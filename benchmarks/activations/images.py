"""Epochs that small convolution nets need with folds, on three image sets, every activation tuned alike.

Fashion-MNIST, CIFAR-10 and cats vs dogs (averaged down to 32 x 32), 2,500 training images, batches of 50,
Adam, 12 epochs, with and without batch normalisation. Three convolutions (16-32-32), each followed by
pooling and then the activation; a dense layer of 64 with its activation; the read-out.

Every activation gets the same grid of learning rates and gains. Its cell is chosen by a validation split
carved from the training images, on two seeds that are not reported; then seeds with other training images
run on the chosen cell and are measured on the test split, which nothing else has seen. Accuracy is read
every half epoch; a target counts as reached where the line between two readings crosses it. What has not
arrived within the cap is reported as not reached.

    UNKNOT_DATA=... python benchmarks/activations/images.py  # about 40 minutes on a free core; resumable
    UNKNOT_DATA=... python benchmarks/activations/images.py --quick
        # one set, one seed, to see that it works
    UNKNOT_DATA=... python benchmarks/activations/images.py --search
        # the candidates of docs/research/cnn_folds.md
    UNKNOT_DATA=... python benchmarks/activations/images.py --full
        # whole sets and wider nets; wants a GPU
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from usages import USAGES, PairFold, Usage, Waves

from unknot.activations.gains import fan_in, gain
from unknot.core.console import print_table
from unknot.core.files import write_text
from unknot.nets.images import load_images
from unknot.nets.models import ResidualBlock, resnet
from unknot.nets.training import one_thread
from unknot.profiles.profile import library_versions
from unknot.study.survival import Times, censored_median

RESULTS = Path(__file__).parents[1] / "results"
RAW = Path(__file__).parents[1] / "raw"
SETS = ("fashion_mnist", "cifar10", "cats_vs_dogs")
VALIDATION = 2_000  # images of the training split that no seed trains on
SELECTION_SEED, SEARCH_SEED = 1_000_000, 2_000_000  # reported seeds start at 0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


BASELINES = ("relu", "gelu", "silu")
BOTH = ("qfold early and head", "qfold early and head, held")
COMPARED = {  # by batch normalisation
    False: (*BASELINES, *BOTH, "qfold", "qfold held"),
    True: (*BASELINES, *BOTH, "waves learnt .7", "waves learnt .7, held"),
}
RESNET = (*BASELINES, "qfold early and head", "qfold in the branches", "qfold in the branches, held")
GRID = [(rate, factor) for rate in (2e-3, 4e-3) for factor in (0.6, 1.0)]


def build(trial: Trial, size: Size, channels: int, side: int, classes: int) -> nn.Sequential:
    """The net of a trial, its weights drawn by the trial's seed and gain."""
    usage = USAGES[trial.activation]
    if trial.net == "resnet":
        return residual(usage, channels, classes)
    generator = torch.Generator().manual_seed(trial.seed)
    layers: list[nn.Module] = []
    before: nn.Module | None = None  # the activation whose outputs a layer reads

    def draw(layer: nn.Conv2d | nn.Linear, activation: nn.Module, factor: float) -> nn.Module:
        std = factor * scale(activation) / math.sqrt(fan_in(layer))
        nn.init.normal_(layer.weight, std=std, generator=generator)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return layer

    width = channels
    for make, new in zip(usage.convolutions, size.widths, strict=True):
        activation = make(new)
        layers.append(draw(nn.Conv2d(width, new, 3, padding=1), before or activation, trial.gain))
        if trial.batch_norm:
            layers.append(nn.BatchNorm2d(new))
        pool = nn.MaxPool2d(2)
        layers += [activation, pool] if usage.fold_first else [pool, activation]
        before, width, side = activation, new, side // 2
    assert before is not None
    activation = usage.head(size.dense)
    normed = trial.batch_norm and usage.dense_norm
    dense = nn.Linear(width * side * side, size.dense)
    layers += [nn.Flatten(), draw(dense, before, trial.gain * (1 if normed else usage.head_gain))]
    if normed:
        layers.append(nn.BatchNorm1d(size.dense))
        nn.init.constant_(layers[-1].weight, usage.head_gain)
    out = nn.Linear(size.dense, classes)
    nn.init.normal_(out.weight, std=1 / math.sqrt(size.dense), generator=generator)
    nn.init.zeros_(out.bias)
    return nn.Sequential(*layers, activation, out)


def residual(usage: Usage, channels: int, classes: int) -> nn.Sequential:
    """A ResNet (8-16-32) as PyTorch draws it: usages of the stem, inside the branches, after the sums."""
    model = resnet(channels, classes, widths=(8, 16, 32))
    stem, inside, after = usage.convolutions
    model.act1 = stem(8)
    for part in model.children():
        if isinstance(part, ResidualBlock):
            part.act1, part.act2 = inside(part.conv1.out_channels), after(part.conv2.out_channels)
    return model


_SCALES: dict[str, float] = {}


def scale(activation: nn.Module) -> float:
    """Its gain, found once; of a fold of pairs, which keeps the moments, 1."""
    if isinstance(activation, PairFold):
        return 1.0
    key = repr(activation) + repr([v for v in vars(activation).values() if isinstance(v, float)])
    if isinstance(activation, Waves) or key not in _SCALES:
        _SCALES[key] = gain(activation)
    return _SCALES[key]


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


def run(trial: Trial, size: Size) -> dict[str, object]:
    """Train one net; accuracies each half epoch, from epoch 0.5 on."""
    x, y, tx, ty = draw(trial, size)
    torch.manual_seed(trial.seed)
    model = build(trial, size, x.shape[1], x.shape[2], int(y.max()) + 1).to(DEVICE)
    # Channels last halves the time of small convolutions; the numbers agree up to rounding.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, tx = (t.contiguous(memory_format=torch.channels_last) for t in (x, tx))
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate, fused=True)
    order = torch.Generator().manual_seed(trial.seed)
    steps = len(x) // size.batch
    on_train, on_other = [], []
    for step in range(1, trial.epochs * steps + 1):
        if step % steps == 1:
            batches = torch.randperm(len(x), generator=order).split(size.batch)
        batch = batches[(step - 1) % steps]
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % (steps // 2) == 0:
            on_train.append(accuracy(model, x[: size.read], y[: size.read]))
            on_other.append(accuracy(model, tx, ty))
    return {"train": on_train, "other": on_other}


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

    def __init__(self, path: Path, size: Size) -> None:
        self.path, self.size = path, size
        self.curves: dict[str, dict[str, object]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # cut off while it was written
                self.curves[record["trial"]] = record["curves"]

    def __call__(self, trial: Trial) -> dict[str, list[float]]:
        key = json.dumps([asdict(trial), asdict(self.size)], sort_keys=True)
        if key not in self.curves:
            self.curves[key] = run(trial, self.size)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"trial": key, "curves": self.curves[key]})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")  # the break comes first: a line cut off does not spoil this one
                file.flush()
                os.fsync(file.fileno())
        return self.curves[key]  # type: ignore[return-value]


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


def learning(curves: dict[str, list[float]]) -> float:
    """What a cell is chosen by: mean train and validation accuracy over the whole run."""
    return (statistics.mean(curves["train"]) + statistics.mean(curves["other"])) / 2


def choose(trials: Trials, first: Trial, grid: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The learning rate and gain of the best mean over the selection seeds.

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
            scores[rate, factor] += learning(trials(trial))
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


def block(
    trials: Trials, first: Trial, names: Sequence[str], grid: Sequence[tuple[float, float]]
) -> list[dict[str, object]]:
    """The rows of one set and net: choose, run the reported seeds, compare with ReLU."""
    cells, curves = {}, {}
    for name in names:
        cells[name] = choose(trials, replace(first, activation=name), grid)
    for name in names:
        rate, factor = cells[name]
        trial = replace(first, activation=name, learning_rate=rate, gain=factor)
        curves[name] = [trials(replace(trial, seed=seed)) for seed in range(trials.size.seeds)]
    on_train = statistics.median(final(c["train"]) for c in curves["relu"])
    on_test = statistics.median(max(c["other"]) for c in curves["relu"])
    times = {
        name: {"train": [reach(c["train"], on_train) for c in found],
               "test": [reach(c["other"], on_test) for c in found]}
        for name, found in curves.items()
    }  # fmt: skip
    tests = {name: [final(c["other"]) for c in found] for name, found in curves.items()}
    rows: list[dict[str, object]] = []
    for name in names:
        row: dict[str, object] = {
            "set": first.set, "net": first.net, "batch_norm": first.batch_norm, "activation": name,
            "learning_rate": cells[name][0], "gain": cells[name][1], "cap": first.epochs,
            "train_target": on_train, "test_target": on_test,
            "final_train": [final(c["train"]) for c in curves[name]], "final_test": tests[name],
            "final_test_minus_relu": difference(tests[name], tests["relu"]),
        }  # fmt: skip
        for target in ("train", "test"):
            mine = times[name][target]
            middles = {r: censored_median(times[r][target]) for r in ("gelu", "silu") if r in times}
            baseline = min(middles, key=lambda r: math.inf if middles[r] is None else middles[r] or 0)
            row |= {
                f"epochs_{target}": mine,
                f"{target}_against_relu": compare(times["relu"][target], mine, first.epochs),
                f"{target}_against_baseline":
                    {"baseline": baseline, **compare(times[baseline][target], mine, first.epochs)},
            }  # fmt: skip
        rows.append(row)
    return rows


def show(rows: Sequence[dict[str, object]]) -> None:
    by_net: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        title = f"{row['set']}, {row['net']}{', batch normalisation' if row['batch_norm'] else ''}"
        by_net.setdefault(title, []).append(row)
    for title, found in by_net.items():
        targets = f"train {found[0]['train_target']:.3f}, test {found[0]['test_target']:.3f}"
        print_table(
            f"{title}: epochs to ReLU's final {targets} (its best)",
            ["activation", "rate, gain", "epochs, train", "ReLU / it", "best of GELU, SiLU / it",
             "epochs, test", "ReLU / it", "best of GELU, SiLU / it", "final test", "minus ReLU's"],
            [table_row(row) for row in found],
        )  # fmt: skip


def table_row(row: dict[str, object]) -> tuple[object, ...]:
    gap, tests = row["final_test_minus_relu"], row["final_test"]
    return (
        row["activation"], f"{row['learning_rate']:g}, {row['gain']:g}",
        *(cell for target in ("train", "test") for cell in (
            spread(row[f"epochs_{target}"]),  # type: ignore[arg-type]
            ratio(row[f"{target}_against_relu"]),
            ratio(row[f"{target}_against_baseline"]),
        )),
        f"{statistics.mean(tests):.3f}",  # type: ignore[call-overload]
        f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]",  # type: ignore[index]
    )  # fmt: skip


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


def search(trials: Trials) -> None:
    """Every usage on the validation split at one learning rate, two seeds of its own."""
    for name, batch_norm in [(n, b) for n in SETS for b in (True, False)]:
        cells = [(usage, gain) for usage in USAGES for gain in ((1.0,) if batch_norm else (0.6, 1.0))]
        found = {
            cell: [
                trials(Trial(name, batch_norm, cell[0], 3e-3, cell[1], SEARCH_SEED + k, 10, True))
                for k in range(2)
            ]
            for cell in cells
        }
        print_table(
            f"{name}{', batch normalisation' if batch_norm else ''}: validation split, 10 epochs",
            ["usage", "gain", "mean train accuracy over the run", "final validation accuracy"],
            [
                (usage, gain, f"{statistics.mean(statistics.mean(c['train']) for c in of):.4f}",
                 f"{statistics.mean(final(c['other']) for c in of):.4f}")
                for (usage, gain), of in found.items()
            ],
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("quick", "search", "full"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--resnet", action="store_true", help="the ResNet on CIFAR-10 too")
    asked = parser.parse_args()
    if asked.search:
        search(Trials(RAW / "images-search.jsonl", Size(read=800, epochs=10)))
        return
    name, size = "images", Size()
    if asked.quick:
        name, size = "images-quick", Size(500, 200, 2, seeds=2, selection_epochs=1, selection_seeds=1)
    elif asked.full:
        name = "images-full"
        size = Size(10**9, 10_000, 30, 128, (64, 128, 128), 256, selection_epochs=8)
    trials = Trials(RAW / f"{name}.jsonl", size)
    rows: list[dict[str, object]] = []
    for data in SETS[:1] if asked.quick else SETS:
        for batch_norm in (False, True):
            first = Trial(data, batch_norm, "relu", 0.0, 1.0, 0, size.epochs, False)
            rows += block(trials, first, COMPARED[batch_norm], GRID)
            show(rows[-len(COMPARED[batch_norm]) :])
    if asked.resnet:
        first = Trial("cifar10", True, "relu", 0.0, 1.0, 0, size.epochs, False, "resnet")
        rows += block(trials, first, RESNET, [cell for cell in GRID if cell[1] == 1])
        show(rows[-len(RESNET) :])
    if asked.quick:
        return
    record = {
        "command": "python benchmarks/activations/images.py"
        + "".join(f" --{flag}" for flag in ("full", "resnet") if vars(asked)[flag]),
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": library_versions(),
        "rows": rows,
    }
    write_text(RESULTS / f"{name}.json", json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    with one_thread():
        main()
