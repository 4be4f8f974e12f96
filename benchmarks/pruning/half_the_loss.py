"""What one shot of pruning costs: unknot beside an earlier version of itself and six published methods.

Six pairs: Fashion-MNIST, CIFAR-10, cats vs dogs (averaged down to 32 x 32); a plain CNN (32-64-64) and
a ResNet (16-32-64, one block a width), both with batch normalisation, trained on 5,000 images for eight
epochs. Training seeds 100 to 104, which nothing was tuned on. Half and three quarters of the MACs go,
met within two points. All methods see the same 512 training images, without labels but for Taylor;
tested on 4,000 test images (cats vs dogs: all 2,000).

`uk.shrink` with effort "fast", "balanced" and "best", polished for 100 or 300 steps; "before" is unknot
0.1.0 at a checkout of commit 7706baf, in a process of its own (before.py); the baselines are in
baselines/, each after its paper, with settings tried on other seeds. Some also trained for three epochs
on all 5,000 labelled images, at a rate of 1e-3.

    UNKNOT_DATA=... UNKNOT_BEFORE=/path/to/7706baf/src python benchmarks/pruning/half_the_loss.py
        # hours on one core; resumable, seed by seed
    ... half_the_loss.py --methods baselines   # or before, ours: a part of it, without tables
    ... half_the_loss.py --net cnn             # or --set cifar10, --kind pruned: likewise
    ... half_the_loss.py --tables              # of what is done

Trials go to benchmarks/raw/half_the_loss.jsonl, the summary to benchmarks/results/half_the_loss.json,
which keeps the seeds of earlier runs that this one did not do; its tables go by half_the_loss_docs.py to
docs/half_the_loss.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from baselines import folding, grail, groups, l1, osscar, taylor
from baselines.wiring import Task, copied
from half_the_loss_tables import expanded, fuller, show, summary
from nets import NETS, SETS, Size, fit, split, test_accuracy, trained
from pruning import RAW, RESULTS, TUNING_RATE, Log
from torch import nn

import unknot as uk
from unknot.core.files import write_text
from unknot.nets.training import one_thread

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

SEEDS = range(100, 105)
SHARES = (0.5, 0.75)
CALIBRATION = 512
EPOCHS = 3
KINDS = ("pruned", "trained")
Record = dict[str, Any]


@dataclass(frozen=True)
class Ours:
    """The keywords of `uk.shrink`."""

    effort: str
    polish: int = 0


OURS = {
    "fast": Ours("fast"),
    "balanced": Ours("balanced"),
    "best": Ours("best"),
    "balanced, polish 100": Ours("balanced", 100),
    "best, polish 300": Ours("best", 300),
}
BASELINES: dict[str, Callable[[Task], nn.Module]] = {
    "L1": l1.prune,
    "Taylor": taylor.prune,
    "torch-pruning": groups.prune,
    "GRAIL, L1": grail.prune,
    "GRAIL, surgeon": partial(grail.prune, selector="surgeon, its widths"),
    "OSSCAR": osscar.prune,
    "folding": folding.prune,
}
ORIGINAL = "original"  # trained for as long, nothing removed
TRAINED = (
    "balanced", "balanced, polish 100", "L1", "Taylor", "torch-pruning", "GRAIL, L1", "GRAIL, surgeon",
    ORIGINAL,
)  # fmt: skip
ONLY = {"fast": (0.75,), "best": (0.5,), "best, polish 300": (0.5,), ORIGINAL: (0,)}  # of the shares
TRAINED_SHARE = 0.75
PARTS = {"before": ("before",), "ours": tuple(OURS), "baselines": (*BASELINES, ORIGINAL)}


class Net:
    """One trained net, and what every method makes of it."""

    def __init__(self, name: str, net: str, seed: int, log: Log) -> None:
        self.name, self.net, self.seed, self.log, self.size = name, net, seed, log, Size()
        self.here = {"set": name, "net": net, "seed": seed}
        self.models: dict[tuple[str, float], nn.Module] = {}

    def run(self, kind: str, methods: tuple[str, ...]) -> None:
        """What each method loses ("pruned"), or what it loses after a few epochs more ("trained")."""
        run = {"pruned": self.pruned, "trained": self.trained}[kind]
        if kind == "pruned":
            self.log({"kind": "original", **self.here}, self.original)
        for method in [m for m in methods if (m != ORIGINAL if kind == "pruned" else m in TRAINED)]:
            shares = ONLY.get(method, SHARES if kind == "pruned" else (TRAINED_SHARE,))
            for share in shares:
                what = {"kind": kind, **self.here, "criterion": method, "share": share}
                self.log(what, lambda m=method, s=share: run(m, s))  # type: ignore[misc]

    @cached_property
    def data(self) -> Any:
        return split(self.name, self.seed, self.size)

    @cached_property
    def model(self) -> nn.Module:
        return trained(self.folder, self.name, self.net, self.seed, self.size, self.data)

    @cached_property
    def folder(self) -> Path:
        return RAW / f"pruning-{self.size.images}"

    @cached_property
    def macs(self) -> float:
        return float(uk.count_macs(self.model, self.data.images[:1]))

    def original(self) -> Record:
        return {"accuracy": test_accuracy(self.model, self.data), "macs": self.macs}

    def pruned(self, method: str, share: float) -> Record:
        if method == "before":
            return dict(self.before[str(share)])
        slim = self.made(method, share)
        removed = 1 - uk.count_macs(slim, self.data.images[:1]) / self.macs
        return {"accuracy": test_accuracy(slim, self.data), "removed": removed}

    def trained(self, method: str, share: float) -> Record:
        """Accuracy after a few epochs on all training images, with their labels."""
        slim = copied(self.model) if method == ORIGINAL else self.made(method, share)
        fit(slim, self.data, EPOCHS, TUNING_RATE, self.seed, self.size)
        return {"accuracy": test_accuracy(slim, self.data)}

    def made(self, method: str, share: float) -> nn.Module:
        key = method, share
        if key not in self.models:
            ours = method in OURS
            self.models[key] = self.ours(OURS[method], share) if ours else self.baseline(method, share)
        return copied(self.models[key])

    def ours(self, how: Ours, share: float) -> nn.Module:
        if how.polish:  # as uk.shrink(polish=...) does, on what it has refitted
            plain = next(name for name, other in OURS.items() if other == Ours(how.effort))
            slim = self.made(plain, share)
            images = self.data.images[:CALIBRATION]
            uk.pruning.polish(self.model, slim, images, steps=how.polish, seed=self.seed)
            return slim
        seen = (self.data.images[:CALIBRATION], self.data.labels[:CALIBRATION])
        test = (self.data.test_images, self.data.test_labels)
        return uk.shrink(
            copied(self.model), (seen, test), macs=share, effort=how.effort, seed=self.seed, repeats=1
        ).model

    def baseline(self, method: str, share: float) -> nn.Module:
        seen = (self.data.images[:CALIBRATION], self.data.labels[:CALIBRATION])
        return BASELINES[method](Task(copied(self.model), *seen, share, self.seed))

    @cached_property
    def before(self) -> dict[str, Record]:
        """Both shares at once, by the earlier version."""
        source = os.environ.get("UNKNOT_BEFORE")
        if source is None or not Path(source, "unknot").is_dir():
            sys.exit("set UNKNOT_BEFORE to src/ of a checkout of commit 7706baf, with its engine built")
        command = [
            sys.executable,
            str(Path(__file__).with_name("before.py")),
            "--folder",
            str(self.folder),
        ]
        for option, value in self.here.items():
            command += [f"--{option}", str(value)]
        self.model  # trained once, by this version  # noqa: B018
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True, check=True
        )
        record = json.loads(done.stdout)
        if not Path(record["unknot"]).is_relative_to(Path(source).resolve()):
            sys.exit(f"{record['unknot']} was imported, not {source}")
        return dict(record["shares"])


def nets(asked: argparse.Namespace, log: Log) -> Iterator[Net]:
    """Seed by seed, so that what is there at any time is balanced."""
    for seed in asked.seeds or SEEDS:
        for name in [asked.set] if asked.set else SETS:
            for net in [asked.net] if asked.net else NETS:
                yield Net(name, net, seed, log)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, help="this set alone, without tables")
    parser.add_argument("--net", choices=NETS, help="this net alone, without tables")
    parser.add_argument("--methods", choices=PARTS, help="these alone, without tables")
    parser.add_argument("--kind", choices=KINDS, help="one shot, or with epochs of training after it")
    parser.add_argument("--seeds", type=int, nargs="+", help="of training, without tables")
    parser.add_argument("--tables", action="store_true", help="of what is done, no new trials")
    return parser.parse_args()


def main() -> None:
    asked = options()
    log = Log(RAW / "half_the_loss.jsonl")
    methods = PARTS[asked.methods] if asked.methods else sum(PARTS.values(), ())
    if not asked.tables:
        with one_thread():
            for net in nets(asked, log):
                for kind in KINDS if asked.kind is None else [asked.kind]:
                    net.run(kind, methods)
        if asked.set or asked.net or asked.methods or asked.seeds or asked.kind:
            return
    log.refresh()
    path = RESULTS / "half_the_loss.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = summary(fuller(earlier, list(log.found.values())))
    show(expanded(rows))
    record = {
        **provenance("python benchmarks/pruning/half_the_loss.py", "torch-pruning"),
        **rows,
    }
    write_text(path, json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    main()
