"""Naitzat, Zhitnikov and Lim, "Topology of Deep Neural Networks" (JMLR 2020), on D-I, D-II and D-III.

Betti numbers after every layer of MLPs that classify their training set, with all points, for each
activation, width and depth; and what they say about the three findings of the paper.

Every activation starts at its variance-preserving gain and gets the same learning rates, one of which is
chosen a configuration on seeds that are not reported. A net counts when it has at least 99.9 % of its
points right; the others are counted, not measured. The neighbour rule is k = 14 at two hops in every
layer; half and twice that k show the true numbers of the inputs too and are measured beside it.

    python benchmarks/profiles/jmlr.py  # about 45 minutes of one core; resumable; --jobs 2 halves it
    python benchmarks/profiles/jmlr.py --quick     # seconds, to see that it works
    python benchmarks/profiles/jmlr.py --full      # 30 nets each and one width more
    python benchmarks/profiles/jmlr_docs.py        # the tables of docs/jmlr.md

Every net goes to benchmarks/raw/, what the documentation quotes to benchmarks/results/jmlr.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from findings import findings, print_findings, quoted
from joblib import Parallel, delayed
from mlp_stack import Net, Trained, layers, train_to_best
from numpy.typing import NDArray
from torch import nn

from unknot.core.files import write_text
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData
from unknot.nets.training import one_thread
from unknot.topology.graph import knn_graph
from unknot.topology.homology import betti_numbers
from unknot.topology.shapes import make_shape

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

ROOT = Path(__file__).parents[2]
SETS = {"discs": {}, "rings": {}, "spheres": {}}
ACTIVATIONS = ("tanh", "leaky_relu", "relu", "zfold")
RATES = (1e-3, 3e-3, 1e-2)
K, HALF, DOUBLE, HOPS = 14, 7, 28, 2
CHOICE_SEED = 1_000_000
# A fold makes clouds with hundreds of voids; b2 of one that takes longer is left out, and said so.
VOIDS_BUDGET_S = 0.3
HOPE = 0.95  # twelve nets all below it after a third of the epochs are given up


@dataclass(frozen=True)
class Settings:
    """What all configurations of a run share.

    Attributes:
        controls: width, depth, ``longer`` and ``gain`` of further configurations.
        nets: trained ones that are measured, a configuration.
        alternates: how many of those at the other two scales and before training.
        round_size, rounds: seeds trained at once, and how often at most until ``nets`` are trained.
        epochs, choice_epochs: caps of a reported net and of one that chooses a learning rate.
        target: share of the training points that a trained net has right.
    """

    sets: dict[str, dict[str, int]]
    activations: tuple[str, ...] = ACTIVATIONS
    widths: tuple[int, ...] = (8, 15, 30)
    depths: tuple[int, ...] = (3, 6, 10)
    controls: tuple[tuple[int, int, bool, float], ...] = (
        (15, 6, True, 1.0), (15, 6, False, 0.6), (15, 6, False, 2.0),
    )  # fmt: skip
    nets: int = 10
    alternates: int = 5
    round_size: int = 12
    rounds: int = 3
    epochs: int = 300
    choice_epochs: int = 60
    choice_seeds: int = 3
    target: float = 0.999


SHARED = (
    "nets", "alternates", "round_size", "rounds", "epochs", "choice_epochs", "choice_seeds", "target",
)  # fmt: skip
RUN = Settings(SETS)
FULL = Settings(SETS, widths=(8, 15, 30, 50), nets=30, alternates=30, round_size=32, epochs=600)
QUICK = Settings(
    {"discs": {"holes": 3, "n": 900}, "rings": {"pairs": 2, "n": 400}}, activations=("tanh", "relu"),
    widths=(15,), depths=(2, 4), controls=(), nets=3, alternates=1, round_size=4, rounds=2, epochs=60,
    choice_epochs=10, choice_seeds=1, target=0.95,
)  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """One cell of the experiment.

    Attributes:
        longer: its nets train on, to the last epoch, after they have every point right.
        gain: of the initial weights, as a multiple of the variance-preserving one.
    """

    set: str
    activation: str
    width: int
    depth: int
    longer: bool = False
    gain: float = 1.0

    @property
    def name(self) -> str:
        extra = "-longer" * self.longer + (f"-gain{self.gain:g}" if self.gain != 1 else "")
        return f"{self.set}-{self.activation}-{self.width}x{self.depth}" + extra


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="configurations at once")
    parser.add_argument("--runs", type=Path, help="folder of the configurations, done ones are kept")
    parser.add_argument("--out", type=Path, help="the result file, with every net")
    given = parser.parse_args(arguments)
    settings, kind = (QUICK, "quick") if given.quick else (FULL, "full") if given.full else (RUN, "run")
    folder = given.runs or ROOT / "benchmarks/raw" / f"jmlr-{kind}"
    cells = configurations(settings)
    Parallel(n_jobs=given.jobs)(delayed(complete)(cell, settings, folder) for cell in cells)
    rows = [json.loads((folder / f"{cell.name}.json").read_text()) for cell in cells]
    found = findings(rows)
    print_findings(found)
    record = {
        **provenance(
            "python benchmarks/profiles/jmlr.py" + (f" --{kind}" if kind != "run" else ""), "scipy"
        ),
        "settings": asdict(settings),
        "scale": {"k": K, "half": HALF, "double": DOUBLE, "hops": HOPS},
        "seconds": round(sum(row["seconds"] for row in rows)),
        "findings": found,
        "configurations": [{k: v for k, v in row.items() if k != "settings"} for row in rows],
    }
    write_text(given.out or folder / "jmlr.json", json.dumps(record, separators=(",", ":")))
    if kind == "run" and not given.out:
        write_text(
            ROOT / "benchmarks/results/jmlr.json", json.dumps(quoted(record), separators=(",", ":"))
        )


def configurations(settings: Settings) -> list[Configuration]:
    cells = product(settings.sets, settings.activations, settings.widths, settings.depths)
    controls = product(settings.sets, settings.activations, settings.controls)
    return [Configuration(*cell) for cell in cells] + [
        Configuration(name, activation, *control) for name, activation, control in controls
    ]


def complete(cell: Configuration, settings: Settings, folder: Path) -> None:
    """Run a configuration and write its file, unless the folder has it with the same settings."""
    path = folder / f"{cell.name}.json"
    used = {name: getattr(settings, name) for name in SHARED} | {"sizes": settings.sets[cell.set]}
    if path.exists() and json.loads(path.read_text())["settings"] == used:
        return
    start = time.perf_counter()
    with one_thread():
        row = {**asdict(cell), "settings": used, **run(cell, settings)}
    write_text(path, json.dumps({**row, "seconds": round(time.perf_counter() - start, 1)}))
    print(f"{cell.name}: {row['reached']} of {row['trained']} trained", file=sys.stderr, flush=True)


def load(name: str, sizes: dict[str, int]) -> tuple[LabelledData, bool]:
    """The points, with fresh ones drawn at random from the same shape to test on; has it voids?"""
    shape = make_shape(name, seed=0, **sizes)
    fresh = make_shape(name, seed=1, sampling="random", **{"n": len(shape.points), **sizes})
    tensors = [torch.from_numpy(a) for s in (shape, fresh) for a in (s.points, s.labels)]
    data = LabelledData(name, tensors[0].float(), tensors[1], tensors[2].float(), tensors[3])
    return data, len(shape.betti[0]) == 3


def run(cell: Configuration, settings: Settings) -> dict[str, Any]:
    data, voids = load(cell.set, settings.sets[cell.set])
    net = Net(data.inputs.shape[1], cell.width, cell.depth, cell.activation, cell.gain)
    rate = choose_rate(net, data, settings)
    nets: list[dict[str, Any]] = []
    trained = perfect = reached = 0
    for turn in range(settings.rounds):
        seeds = [turn * settings.round_size + i for i in range(settings.round_size)]
        stack = train_to_best(
            net, seeds, [rate] * len(seeds), data, epochs=settings.epochs, stop=not cell.longer, hope=HOPE
        )
        good = [i for i, share in enumerate(stack.accuracies) if share >= settings.target]
        trained, reached = trained + len(seeds), reached + len(good)
        perfect += sum(share == 1 for share in stack.accuracies)
        for i in good[: settings.nets - len(nets)]:
            untrained = net.draw(seeds[i]) if len(nets) < settings.alternates else None
            measured = measure_net(stack, i, untrained, data, voids)
            nets.append({"seed": seeds[i], **measured})
        hopeless = trained - reached > 2 * settings.round_size / 3 and turn == 0
        if len(nets) == settings.nets or hopeless:
            break
    inputs = {
        str(k): [betti_of(cloud, k, voids) for cloud in split(data.inputs, data.labels)]
        for k in (K, HALF, DOUBLE)
    }
    return {
        "learning_rate": rate, "trained": trained, "reached": reached, "perfect": perfect,
        "best": max(stack.accuracies), "input": inputs, "nets": nets,
    }  # fmt: skip


def choose_rate(net: Net, data: LabelledData, settings: Settings) -> float:
    """The learning rate whose nets are trained most often, then soonest, then most accurate."""
    seeds = [CHOICE_SEED + i for i in range(settings.choice_seeds)]
    rates = [rate for rate in RATES for _ in seeds]
    stack = train_to_best(net, seeds * len(RATES), rates, data, epochs=settings.choice_epochs)

    def rank(rate: float) -> tuple[float, float, float]:
        rows = [i for i, r in enumerate(rates) if r == rate]
        good = [i for i in rows if stack.accuracies[i] >= settings.target]
        epochs = [stack.epochs[i] if i in good else settings.choice_epochs + 1 for i in rows]
        return (
            -len(good),
            statistics.median(epochs),
            -statistics.median(stack.accuracies[i] for i in rows),
        )

    return min(RATES, key=rank)


def measure_net(
    stack: Trained, i: int, untrained: nn.Module | None, data: LabelledData, voids: bool
) -> dict[str, Any]:
    """Betti numbers ``[layer][class]`` of a trained net, and of the same net before training.

    With ``untrained`` at the other two scales too.
    """
    model = stack.models[i]
    trained = clouds(model, data)
    ks = (K,) if untrained is None else (K, HALF, DOUBLE)
    before = [] if untrained is None else clouds(untrained, data)
    return {
        "epoch": stack.epochs[i],
        "accuracy": round(stack.accuracies[i], 5),
        "test_accuracy": round(measure_accuracy(model, data.test_inputs, data.test_labels), 5),
        "trained": {str(k): [[betti_of(c, k, voids) for c in pair] for pair in trained] for k in ks},
        "untrained": {str(K): [[betti_of(c, K, voids) for c in pair] for pair in before]},
    }


def clouds(model: nn.Module, data: LabelledData) -> list[list[NDArray[np.float32]]]:
    """The points of both classes after each layer."""
    return [split(output, data.labels) for output in layers(model, data.inputs)]


def split(points: torch.Tensor, labels: torch.Tensor) -> list[NDArray[np.float32]]:
    return [points[labels == label].numpy() for label in (0, 1)]


def betti_of(cloud: NDArray[np.float32], k: int, voids: bool) -> list[int | None]:
    """``[b0, b1]``, with voids ``[b0, b1, b2]``, of the distinct points; b2 None where too costly."""
    rows = np.ascontiguousarray(cloud + np.float32(0))  # -0 and 0 are one number
    _, first = np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}"), return_index=True)
    points = rows[np.sort(first)]
    if len(points) == 1:
        return [1, 0, 0] if voids else [1, 0]
    graph = knn_graph(points, k=min(k, len(points) - 1), hops=HOPS)
    if not voids:
        return list(betti_numbers(graph).values)
    try:
        return list(betti_numbers(graph, max_dim=2, time_budget=VOIDS_BUDGET_S).values)
    except TimeoutError:
        return [*betti_numbers(graph).values, None]


if __name__ == "__main__":
    main()
