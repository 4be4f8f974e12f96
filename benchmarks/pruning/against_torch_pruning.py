"""unknot against torch-pruning's own pruners: accuracy at equal MACs, and what each does with hard cases.

Nets: the small CNN (32-64-64) and the ResNet (16-32-64, one block a width), both with batch
normalisation; 5,000 training images of Fashion-MNIST and of CIFAR-10, six epochs of Adam and two
at a tenth of the rate, three training seeds. Half and three quarters of the MACs go, the same share of
every layer's channels, met within two points: for torch-pruning by bisection of its ratio. Its group norm
and BN scale are used as criteria, without the sparsity training that they can be combined with. Taylor
sees 400 images, as many
as score unknot's filters; the refit sees 256 images without labels; recalibration sees 2,048.

The processor time of a forward pass is measured in turns on one thread, not by the clock: it holds on a
machine that does other work too.

    UNKNOT_DATA=... python benchmarks/pruning/against_torch_pruning.py    # about 20 minutes on one core

Nets that are done are kept in benchmarks/raw/against_torch_pruning.jsonl: run it again to go on, delete
it to start anew. With --done no more nets are trained: the tables of those that are.
(Not named torch_pruning.py: scripts in this folder would import it in place of the library.)
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning_cases import run_cases

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
PARTS = Path(__file__).parents[1] / "raw/against_torch_pruning.jsonl"
SETS = {"fashion_mnist": 1, "cifar10": 3}
NETS: dict[str, Callable[[int], nn.Module]] = {
    "cnn": lambda channels: uk.nets.cnn(channels, 10, widths=(32, 64, 64), batch_norm=True),
    "resnet": lambda channels: uk.nets.resnet(channels, 10, widths=(16, 32, 64)),
}
SEEDS = range(3)
SHARES = (0.5, 0.75)
EPOCHS = ((6, 3e-3), (2, 3e-4))
SCORED, RECALIBRATED, TESTED = 400, 2048, 2000
THEIRS = {
    "group L1": (tp.pruner.BasePruner, partial(tp.importance.GroupMagnitudeImportance, p=1)),
    "group L2": (tp.pruner.GroupNormPruner, partial(tp.importance.GroupMagnitudeImportance, p=2)),
    "BN scale": (tp.pruner.BNScalePruner, tp.importance.BNScaleImportance),
    "group Taylor": (tp.pruner.BasePruner, tp.importance.GroupTaylorImportance),
}
SHOWN = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cnn": "CNN", "resnet": "ResNet"}
OURS = ("elder-surgeon", "elder", "elder-taylor", "l1")
Row = dict[str, Any]
Table = tuple[str, list[str], list[tuple[str, ...]]]


def main() -> None:
    rows = [json.loads(line) for line in PARTS.read_text().splitlines()] if PARTS.exists() else []
    done = {(r["set"], r["net"], r["seed"], r["criterion"]) for r in rows}
    torch.set_num_threads(1)
    for seed in SEEDS:
        for name in SETS:
            for net in NETS:
                missing = [c for c in (*OURS, *THEIRS) if (name, net, seed, c) not in done]
                if missing and "--done" not in sys.argv:
                    new = trials(name, net, seed, missing)
                    keep(new)
                    rows += new
    cases = run_cases()
    record = provenance("python benchmarks/pruning/against_torch_pruning.py", "torch-pruning")
    record |= {"rows": rows, "cases": cases}
    write_text(RESULTS / "torch_pruning.json", json.dumps(record, separators=(",", ":")))
    found = list(tables(rows, cases))
    for table in found:
        print_table(*table)
    write_text(RESULTS / "torch_pruning.md", markdown(found))


def keep(rows: Iterable[Row]) -> None:
    """All rows of a net, in one write."""
    PARTS.parent.mkdir(exist_ok=True)
    with PARTS.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


class Trial:
    """One trained net, its data, and what is done with every pruned version of it."""

    def __init__(self, name: str, net: str, seed: int) -> None:
        data, test = (
            uk.nets.load_images(name, limit=5000),
            uk.nets.load_images(name, split="test", limit=TESTED),
        )
        # In this layout one core trains them up to three times as fast.
        self.train, self.test = (
            replace(d, images=d.images.to(memory_format=torch.channels_last)) for d in (data, test)
        )
        self.seed = seed
        torch.manual_seed(seed)
        self.model = NETS[net](SETS[name]).to(memory_format=torch.channels_last)
        # Without the last epochs at a tenth of the rate one epoch of tuning gains up to 16 points alone.
        for epochs, rate in EPOCHS:
            uk.nets.train(self.model, *self.pairs(), epochs=epochs, learning_rate=rate, seed=seed)
        self.macs = uk.count_macs(self.model, self.train.images[:1])
        self.about = {"set": name, "net": net, "seed": seed, "before": self.hits(self.model)}

    def pairs(self) -> tuple[Tensor, Tensor]:
        return self.train.images, self.train.labels

    def hits(self, model: nn.Module) -> float:
        return uk.nets.measure_accuracy(model, self.test.images, self.test.labels)

    def removed(self, model: nn.Module) -> float:
        return 1 - uk.count_macs(model, self.train.images[:1]) / self.macs

    def tuned(self, model: nn.Module) -> float:
        model = copy.deepcopy(model)
        uk.nets.train(model, *self.pairs(), epochs=1, learning_rate=3e-4, seed=self.seed)
        return self.hits(model)

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """With the batch normalisation statistics of its own outputs, averaged over the batches."""
        model = copy.deepcopy(model).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            for batch in self.train.images[:RECALIBRATED].split(256):
                model(batch)
        return model.eval()

    def row(self, by: str, criterion: str, share: float, slim: nn.Module, **found: float) -> Row:
        row = {
            **self.about, "by": by, "criterion": criterion, "macs": share, "removed": self.removed(slim),
            "raw": self.hits(slim), **found,
        }  # fmt: skip
        if self.seed == SEEDS[0]:  # the time depends on widths alone
            images = self.train.images
            row |= {f"time_{n}": time_ratio(self.model, slim, images[:n]) for n in (1, 64)}
        return row


def trials(name: str, net: str, seed: int, criteria: Sequence[str]) -> list[Row]:
    """The rows of one net; its training is the same whenever a criterion is added."""
    trial = Trial(name, net, seed)
    samples = [(trial.train.images, trial.train.labels)]
    rows = []
    for criterion in [c for c in OURS if c in criteria]:
        scores = uk.score_filters(trial.model, samples, criterion=criterion, max_points=SCORED, seed=seed)
        for share in SHARES:
            plan = uk.plan_pruning(trial.model, scores, trial.train.images[:2], macs=share)
            slim = uk.prune(trial.model, plan)
            mended = copy.deepcopy(slim)
            uk.pruning.refit(trial.model, mended, plan, trial.train.images, seed=seed)
            found = {"refitted": trial.hits(mended), "tuned": trial.tuned(mended)}
            rows.append(trial.row("unknot", criterion, share, slim, **found))
    for criterion in [c for c in THEIRS if c in criteria]:
        for share in SHARES:
            slim = theirs(trial, criterion, share)
            found = {"recalibrated": trial.hits(trial.recalibrated(slim)), "tuned": trial.tuned(slim)}
            rows.append(trial.row("torch-pruning", criterion, share, slim, **found))
    return rows


def theirs(trial: Trial, criterion: str, share: float) -> nn.Module:
    """The net as their pruner makes it, at the ratio whose MACs are nearest to the share."""
    low, high, best = 0.0, 1.0, trial.model
    for _ in range(10):
        ratio = (low + high) / 2
        slim = prune_theirs(trial, criterion, ratio)
        if abs(trial.removed(slim) - share) < abs(trial.removed(best) - share):
            best = slim
        low, high = (ratio, high) if trial.removed(slim) < share else (low, ratio)
    best.zero_grad()
    return best.eval()


def prune_theirs(trial: Trial, criterion: str, ratio: float) -> nn.Module:
    slim = copy.deepcopy(trial.model).eval()
    if "Taylor" in criterion:
        order = torch.randperm(
            len(trial.train.images), generator=torch.Generator().manual_seed(trial.seed)
        )
        rows = order[:SCORED]
        loss = nn.functional.cross_entropy(slim(trial.train.images[rows]), trial.train.labels[rows])
        loss.backward()
    kind, importance = THEIRS[criterion]
    pruner = kind(
        slim, trial.train.images[:1], importance=importance(), pruning_ratio=ratio,
        ignored_layers=[slim.out],
    )  # fmt: skip
    pruner.step()
    return slim


def time_ratio(before: nn.Module, after: nn.Module, batch: Tensor, repeats: int = 9) -> float:
    """Processor time of a forward pass, after over before: the median of passes that took turns."""
    times: tuple[list[float], list[float]] = ([], [])
    plain = torch.contiguous_format
    models = [copy.deepcopy(m).to(memory_format=plain).eval() for m in (before, after)]
    batch = batch.contiguous(memory_format=plain)
    passes = 200 // len(batch) + 1
    with torch.no_grad():
        for _ in range(repeats + 2):
            for model, taken in zip(models, times, strict=True):
                start = time.process_time()
                for _ in range(passes):
                    model(batch)
                taken.append(time.process_time() - start)
    return statistics.median(b / a for a, b in zip(*(t[2:] for t in times), strict=True))


def tables(rows: list[Row], cases: list[dict[str, str]]) -> Iterator[Table]:
    """Title, columns and cells; of the nets that are done."""
    nets = [(name, net) for name in SETS for net in NETS if seeds_of(rows, name, net)]
    for name, net in nets:
        of_net = [r for r in rows if (r["set"], r["net"]) == (name, net)]
        base, n = statistics.mean(r["before"] for r in of_net), len(seeds_of(rows, name, net))
        yield (
            f"{SHOWN[name]}, {SHOWN[net]}, {base:.3f} before: points lost, mean ± sd of {n} seeds",
            ["MACs", "by", "criterion", "removed", "raw", "recalibrated / refitted", "+ 1 epoch",
             "time at batch 1", "at 64"],
            [cell(of_net, share, by, criterion) for share in SHARES for by, criterion in ways()],
        )  # fmt: skip
    if not nets:
        yield ("Accuracy at equal MACs: not run yet", ["net"], [])
    yield (
        "elder-surgeon and refit minus torch-pruning, in points: pairs of the same net, mean ± sd",
        ["set", "net", "MACs", "against", "refitted - recalibrated", "both + 1 epoch", "pairs"],
        [
            (SHOWN[name], SHOWN[net], f"{share:.0%}", baseline,
             *(difference(rows, name, net, share, baseline, mended) for mended in (True, False)),
             str(len(seeds_of(rows, name, net))))
            for name, net in nets for share in SHARES
            for baseline in ("group L1", "group Taylor", "the best of the four")
        ],
    )  # fmt: skip
    yield (
        "Hard cases",
        ["case", "torch-pruning", "unknot"],
        [(c["case"], c["torch_pruning"], c["unknot"]) for c in cases],
    )


def seeds_of(rows: list[Row], name: str, net: str) -> list[int]:
    return sorted({r["seed"] for r in rows if (r["set"], r["net"]) == (name, net)})


def markdown(found: Iterable[Table]) -> str:
    """The tables for the documentation, which takes them from this file."""
    lines = []
    for title, columns, cells in found:
        lines += [
            f"**{title[0].upper()}{title[1:]}**",
            "",
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
        ]
        lines += [
            f"| {' | '.join(c.replace('|', '/').replace('*', '&#42;') for c in row)} |" for row in cells
        ] + [""]
    return "\n".join(lines)


def ways() -> list[tuple[str, str]]:
    return [("torch-pruning", c) for c in THEIRS] + [("unknot", c) for c in OURS]


def cell(rows: list[Row], share: float, by: str, criterion: str) -> tuple[str, ...]:
    found = [r for r in rows if (r["macs"], r["by"], r["criterion"]) == (share, by, criterion)]
    mended = "refitted" if by == "unknot" else "recalibrated"
    lost = (spread([100 * (r[k] - r["before"]) for r in found]) for k in ("raw", mended, "tuned"))
    times = (f"{r[k]:.2f}" for r in found if "time_1" in r for k in ("time_1", "time_64"))
    removed = f"{statistics.mean(r['removed'] for r in found):.1%}"
    return (f"{share:.0%}", by, criterion, removed, *lost, *times)


def difference(rows: list[Row], name: str, net: str, share: float, baseline: str, mended: bool) -> str:
    """Ours minus theirs on the same trained net; the best of theirs is chosen on the test images."""
    points = []
    for seed in seeds_of(rows, name, net):
        of_net = [
            r for r in rows if (r["set"], r["net"], r["seed"], r["macs"]) == (name, net, seed, share)
        ]
        ours = next(r for r in of_net if r["criterion"] == OURS[0])["refitted" if mended else "tuned"]
        key = "recalibrated" if mended else "tuned"
        others = {r["criterion"]: r[key] for r in of_net if r["by"] == "torch-pruning"}
        points.append(100 * (ours - (others[baseline] if baseline in others else max(others.values()))))
    return spread(points)


def spread(points: list[float]) -> str:
    deviation = f"{statistics.stdev(points):.1f}" if len(points) > 1 else "?"
    return f"{statistics.mean(points):+.1f} ± {deviation}"


if __name__ == "__main__":
    main()
