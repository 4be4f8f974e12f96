"""Every pruning criterion on three image sets and two nets, mended in five ways; "Betti number > 300".

Fashion-MNIST, CIFAR-10 and cats vs dogs (averaged down to 32 x 32); a plain CNN (32-64-64) and a ResNet
(16-32-64, one block a width), both with batch normalisation; 5,000 training images, 8 epochs, five
training seeds; tested on 4,000 test images (cats vs dogs: all 2,000). 512 training images score the
filters and serve to mend the nets, without their labels but for the criteria that need them.

At 30, 50 and 75 % of the MACs removed at one go, test accuracy of the net as pruned; with the statistics
of its batch normalisation measured anew; with its weights refitted; refitted and trained for one and for
three epochs; and of the same small net trained from scratch for as many epochs as the original and the
tuning together. As a control, the original trained for one and for three epochs more.

Then the rule of arXiv 2109.01572: the filters with Betti number above 300 removed, however many, beside
L1, random and the best criterion at the same MACs; and which Betti number ranks filters best (b0, b1 or
their sum; one cloud or one a class; all layers or the last ones), at half of the filters.

    UNKNOT_DATA=... python benchmarks/pruning/pruning.py             # two hours on two cores; resumable
    UNKNOT_DATA=... python benchmarks/pruning/pruning.py --net cnn   # a part of it, to share the work
    UNKNOT_DATA=... python benchmarks/pruning/pruning.py --quick
        # one set, one seed, to see that it works
    UNKNOT_DATA=... python benchmarks/pruning/pruning.py --full  # whole sets and ResNet-18; wants a GPU

Every trial goes to benchmarks/raw/, what the documentation quotes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from nets import NETS, SETS, Size, Split, fit, split, test_accuracy, trained, untrained
from norms import recalibrated
from tables import quoted, show, summary
from torch import nn

import unknot as uk
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
RAW = Path(__file__).parents[1] / "raw"
SEEDS = range(5)
SHARES = (0.3, 0.5, 0.75)
CRITERIA = (
    "random", "l1", "fpgm", "bn", "betti", "taylor", "elder", "elder-taylor", "elder-h0",
    "elder-h0-taylor", "surgeon", "elder-surgeon",
)  # fmt: skip
TUNED = ("random", "l1", "betti", "taylor", "elder", "elder-taylor", "elder-surgeon")
TUNED_LITTLE = ("l1", "taylor", "elder-surgeon")  # at the smallest share, where little is to be mended
BEST = "elder-surgeon"
THRESHOLD = 300
VARIANTS = [(number, clouds) for number in ("b0", "b1", "sum") for clouds in ("all", "class")]
MENDING = 512  # images that scores and refits see
TUNING_RATE = 1e-3

Record = dict[str, Any]


class Log:
    """Finished trials in a file of JSON lines; what is there is not run again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Record] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def refresh(self) -> None:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # cut off while it was written
                self.found[_key(record)] = record

    def __call__(self, what: Record, run: Callable[[], Record]) -> Record:
        key = _key(what)
        if key not in self.found:
            start = time.perf_counter()
            self.found[key] = what | run() | {"seconds": round(time.perf_counter() - start, 2)}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(self.found[key])}")  # a line cut off does not spoil this one
                file.flush()
                os.fsync(file.fileno())
        return self.found[key]


def _key(record: Record) -> str:
    names = ("kind", "set", "net", "seed", "criterion", "share", "layers")
    return json.dumps([record.get(n) for n in names])


class Net:
    """One trained net, and what is tried on it."""

    def __init__(self, name: str, net: str, seed: int, size: Size, log: Log) -> None:
        self.name, self.net, self.seed, self.size, self.log = name, net, seed, size, log
        self.here = {"set": name, "net": net, "seed": seed}
        self.data: Split = split(name, seed, size)
        self.model: nn.Module = trained(RAW / f"pruning-{size.images}", name, net, seed, size, self.data)
        self.example = self.data.images[:2]
        self.macs = uk.count_macs(self.model, self.example[:1])
        self.scores: dict[str, uk.pruning.FilterScores] = {}

    def run(self, criteria: tuple[str, ...] = CRITERIA) -> None:
        self.log({"kind": "original", **self.here}, self.original)
        for share in SHARES:
            for criterion in criteria:
                what = {"kind": "pruned", **self.here, "criterion": criterion, "share": share}
                self.log(what, lambda c=criterion, s=share: self.pruned(c, s))  # type: ignore[misc]
            if share == SHARES[0]:
                continue
            what = {"kind": "scratch", **self.here, "share": share}
            self.log(what, lambda s=share: self.from_scratch(s))  # type: ignore[misc]
        self.log({"kind": "threshold", **self.here}, self.threshold)
        for layers in ("all", "last"):
            for criterion in (*(f"{n}, {c}" for n, c in VARIANTS), "l1", "random", BEST):
                what = {"kind": "variant", **self.here, "criterion": criterion, "layers": layers}
                self.log(what, lambda c=criterion, w=layers: self.variant(c, w))  # type: ignore[misc]

    def original(self) -> Record:
        before = test_accuracy(self.model, self.data)
        return {"accuracy": before, "macs": self.macs, **self.tuned(copy.deepcopy(self.model))}

    def pruned(self, criterion: str, share: float) -> Record:
        start = time.perf_counter()
        scores = self.score(criterion)
        scored = time.perf_counter()
        plan = uk.plan_pruning(self.model, scores, self.example, macs=share)
        slim = uk.prune(self.model, plan)
        found = {
            "removed": 1 - uk.count_macs(slim, self.example[:1]) / self.macs,
            "raw": test_accuracy(slim, self.data),
            "recalibrated": test_accuracy(recalibrated(slim, self.mending), self.data),
        }
        planned = time.perf_counter()
        refitted = self.refitted(plan)
        found |= {
            "refit": test_accuracy(refitted, self.data),
            "scoring_s": scored - start, "refit_s": time.perf_counter() - planned,
        }  # fmt: skip
        tuned = TUNED_LITTLE if share == SHARES[0] else TUNED
        return found | (self.tuned(refitted) if criterion in tuned else {})

    def from_scratch(self, share: float) -> Record:
        """The architecture of the best criterion's plan, drawn anew."""
        plan = uk.plan_pruning(self.model, self.score(BEST), self.example, macs=share)
        fresh = uk.prune(untrained(self.net, self.data, self.seed + 1000, self.size), plan)
        for module in fresh.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        epochs = self.size.epochs + 3
        fit(fresh, self.data, epochs, 4e-3, self.seed, self.size)
        return {"accuracy": test_accuracy(fresh, self.data), "epochs": epochs}

    def threshold(self) -> Record:
        """Filters with Betti number above the threshold removed; others at the same MACs."""
        scores = self.score("betti")
        plan = uk.plan_pruning(self.model, scores, self.example, max_betti=THRESHOLD)
        slim = self.refitted(plan)
        removed = 1 - uk.count_macs(slim, self.example[:1]) / self.macs
        cost = uk.compare_cost(self.model, slim, self.data.images[:64], repeats=20)
        by_layer = {
            layer: sum(r.score > THRESHOLD for r in rows) / len(rows)
            for layer, rows in scores.by_layer().items()
        }
        found: Record = {
            "filters": plan.n_filters, "filters_removed": plan.n_removed, "removed": removed,
            "exceeding_by_layer": by_layer,
            "raw": test_accuracy(uk.prune(self.model, plan), self.data),
            "refit": test_accuracy(slim, self.data),
            **_cost(cost),
        }  # fmt: skip
        for baseline in ("l1", "random", BEST):
            if removed > 0.005:
                other = uk.plan_pruning(self.model, self.score(baseline), self.example, macs=removed)
                found[baseline] = test_accuracy(self.refitted(other), self.data)
            else:
                found[baseline] = found["refit"]
        return found

    def variant(self, criterion: str, layers: str) -> Record:
        """Half of the filters of all layers, or of the last ones, by one kind of Betti number."""
        names = list(self.score("l1").by_layer())
        last = [n for n in names if n.startswith(("conv3", "block3"))]
        plan = uk.plan_pruning(
            self.model, self.score(criterion), self.example, ratio=0.5, allocation="uniform",
            ignored=[n for n in names if layers == "last" and n not in last],
        )  # fmt: skip
        return {"raw": test_accuracy(uk.prune(self.model, plan), self.data),
                "refit": test_accuracy(self.refitted(plan), self.data)}  # fmt: skip

    def latency(self) -> Record:
        """Half of the filters gone; one thread."""
        plan = uk.plan_pruning(
            self.model, self.score(BEST), self.example, ratio=0.5, allocation="uniform"
        )
        slim = uk.prune(self.model, plan)
        cost = uk.compare_cost(self.model, slim, self.data.images[:64], repeats=200)
        macs = uk.count_macs(slim, self.example[:1]) / self.macs
        return {"filters_removed": plan.n_removed / plan.n_filters, "macs": macs, **_cost(cost)}

    @property
    def mending(self) -> torch.Tensor:
        return self.data.images[:MENDING]

    def score(self, criterion: str) -> uk.pruning.FilterScores:
        if criterion not in self.scores:
            number, _, clouds = criterion.partition(", ")
            kind: Record = {"criterion": criterion}
            if clouds:
                kind = {"criterion": "betti", "number": number, "clouds": clouds}
            loader = [(self.mending, self.data.labels[:MENDING])]
            self.scores[criterion] = uk.score_filters(self.model, loader, seed=self.seed, **kind)
        return self.scores[criterion]

    def refitted(self, plan: uk.pruning.PruningPlan) -> nn.Module:
        if not plan.n_removed:
            return uk.prune(self.model, plan)
        return uk.prune(self.model, plan, refit=self.mending, max_points=MENDING, seed=self.seed)

    def tuned(self, model: nn.Module) -> Record:
        """Accuracy after one epoch and after three, each with its own schedule."""
        found = {}
        for epochs in (1, 3):
            tuned = fit(copy.deepcopy(model), self.data, epochs, TUNING_RATE, self.seed, self.size)
            found[f"tuned_{epochs}"] = test_accuracy(tuned, self.data)
        return found


def _cost(found: uk.nets.CostComparison) -> Record:
    return {
        "latency": {s.batch_size: [s.ratio, s.low, s.high] for s in found.speeds},
        "activation_bytes": found.after.activation_bytes / found.before.activation_bytes,
        "bytes": found.after.bytes / found.before.bytes,
    }


def nets(chosen: argparse.Namespace, size: Size, log: Log) -> Iterator[Net]:
    """Seed by seed, so that what is there at any time is balanced."""
    for seed in SEEDS[:1] if chosen.quick else SEEDS:
        for name in SETS[:1] if chosen.quick else SETS:
            for net in NETS:
                if chosen.net in (None, net):
                    yield Net(name, net, seed, size, log)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--net", choices=NETS, help="this net alone, without tables")
    parser.add_argument("--tables", action="store_true", help="of the seeds that are done, no new ones")
    asked = parser.parse_args()
    name, size = "pruning", Size()
    if asked.quick:
        name, size = "pruning-quick", Size(500, 1, 200)
    elif asked.full:
        name = "pruning-full"
        size = Size(10**9, 30, 10**9, (64, 128, 128), (64, 128, 256, 512), 2, 128)
    log = Log(RAW / f"{name}.jsonl")
    torch.set_num_threads(1)
    if not asked.tables:
        for net in nets(asked, size, log):
            net.run()
        log.refresh()
        if asked.net:
            return
        for net in nets(asked, size, log):  # by itself, last: other work would disturb it
            log({"kind": "latency", **net.here}, net.latency)
    log.refresh()
    rows = summary(list(log.found.values()))
    show(rows)
    if asked.quick:
        return
    command = "python benchmarks/pruning/pruning.py" + " --full" * asked.full
    record = provenance(command) | {"nets": quoted(rows)}
    write_text(RESULTS / f"{name}.json", json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    main()
