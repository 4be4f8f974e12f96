"""Islands and tangle of image sets in five nets: trained, random weights, trained on shuffled labels.

    UNKNOT_DATA=... python benchmarks/profiles/real_data.py  # about an hour of one core; resumable
    UNKNOT_DATA=... python benchmarks/profiles/real_data.py --quick
        # one net, one seed, to see that it works
    python benchmarks/profiles/real_data_docs.py  # the tables of docs/real_data.md

Fashion-MNIST (CNN, MLP, ViT), CIFAR-10 and cats vs dogs (CNN), three seeds each: real_nets.py. All are
measured on images that no net was trained on: 4,000, drawn anew for each seed; n = 1,000 and n = 300 are
the first of them. Every layer at n = 1,000; penultimate layer and output also at n = 4,000; the
penultimate at n = 300 too.

The sampling noise of a number comes from ten halves of its sample, drawn without replacement: their
spread is that of whole samples (sigma^2 / n). Their sd is given, and the interval from s + min(halves)
- mean(halves) to s + max(halves) - mean(halves), for islands rounded outward and at least 1.
Beside it, as a check, the numbers of the four separate thousands of which the 4,000 consist.

The linear probe is scikit-learn's logistic regression on the standardised outputs of the penultimate
layer, five-fold cross-validated on the 4,000 unseen images. Writes benchmarks/results/real_data.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_nets import CONDITIONS, NETS, RAW, SEEDS, SEEN, SETS, UNSEEN, labels_of, net_of, split
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import unknot as uk
from unknot.core.console import print_table, track
from unknot.core.errors import InputError
from unknot.core.files import write_text
from unknot.nets.training import one_thread
from unknot.topology import Islands

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "real_data.json"
STATISTICS = ("islands", "total", "tangle", "purity")
HALVES, THOUSAND, FEW = 10, 1_000, 300
Row = dict[str, Any]
Points = NDArray[np.float32]
Labels = NDArray[np.int64]


def statistics_of(points: Points, labels: Labels) -> tuple[Islands | None, Row]:
    try:
        found = uk.islands(points, threads=1)
    except InputError:  # k distinct points or fewer, from a net that takes its images to a handful
        found = None
    tangled = uk.tangle(points, labels, threads=1)
    row = {
        "islands": found and found.count, "total": found and found.total,
        "tangle": tangled.tangle, "purity": tangled.purity,
        "dimension": found and found.dimension, "n": len(points),
    }  # fmt: skip
    return found, row


def with_noise(points: Points, labels: Labels, seed: int) -> tuple[Islands | None, Row]:
    """The statistics of a cloud, their sd and intervals from halves of it; None where one has none."""
    found, row = statistics_of(points, labels)
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(HALVES):
        rows = rng.permutation(len(points))[: len(points) // 2]
        halves.append(statistics_of(points[rows], labels[rows])[1])
    for name in STATISTICS:
        values = np.array([half[name] for half in halves], float)
        if row[name] is None or np.isnan(values).any():
            row |= {f"{name}_sd": None, f"{name}_interval": None}
            continue
        low, high = (float(row[name] + end - values.mean()) for end in (values.min(), values.max()))
        if name == "islands":
            low, high = max(1, math.floor(low + 1e-9)), max(1, math.ceil(high - 1e-9))
        else:
            low, high = max(0.0, low), min(1.0, high) if name == "purity" else max(0.0, high)
        row |= {f"{name}_sd": float(values.std(ddof=1)), f"{name}_interval": [low, high]}
    return found, row


@cache
def unseen(name: str, seed: int) -> tuple[torch.Tensor, Labels]:
    """The 4,000 images that the nets of a set and a seed are measured on."""
    _, (images, labels) = split(name)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:UNSEEN]
    return images[order], labels[order].numpy()


@cache
def measured_input(name: str, seed: int) -> Row:
    """The row of the images themselves, which the nets of a set and a seed share."""
    images, labels = unseen(name, seed)
    points = images.flatten(1).numpy()
    return {"layer": "input", **with_noise(points[:THOUSAND], labels[:THOUSAND], seed)[1]}


def measure_net(name: str, condition: str, seed: int) -> Row:
    """Every row of one net, with its accuracy and that of the linear probe."""
    net, model = NETS[name], net_of(name, condition, seed)
    images, labels = unseen(net.set, seed)
    outputs = uk.nets.capture(model, images, layers=[*net.layers, "out"], tokens="mean")
    clouds = {output.layer: output.numpy() for output in outputs if output.layer != "input"}
    assert list(clouds) == [*net.layers, "out"]
    rows, members = [measured_input(net.set, seed)], {}
    for layer, points in clouds.items():
        last = layer in (net.penultimate, "out")
        few = (FEW,) if layer == net.penultimate else ()
        for n in (*few, THOUSAND, *((UNSEEN,) if last else ())):
            found, row = with_noise(points[:n], labels[:n], seed)
            rows.append({"layer": layer, **row})
            if found and last and condition == "trained" and n >= THOUSAND:
                members[f"{layer}, {n}"] = by_class(found.members, labels[:n])
    points = clouds[net.penultimate]
    thousands = [
        statistics_of(points[i : i + THOUSAND], labels[i : i + THOUSAND])[1]
        for i in range(0, UNSEEN, THOUSAND)
    ]
    (train, _), _ = split(net.set)
    return {
        "net": name, "condition": condition, "seed": seed,
        "accuracy": uk.nets.measure_accuracy(model, images, labels),
        "train_accuracy": uk.nets.measure_accuracy(
            model, train[:UNSEEN], labels_of(name, condition, seed)[:UNSEEN]
        ),
        "probe": probe_accuracy(points, labels),
        "thousands": {s: [thousand[s] for thousand in thousands] for s in STATISTICS},
        "rows": rows,
        "members": members,
    }  # fmt: skip


def by_class(members: Labels, labels: Labels) -> list[list[int]]:
    """Images of each class on each island."""
    table = np.zeros((labels.max() + 1, members.max() + 1), int)
    np.add.at(table, (labels, members), 1)
    found: list[list[int]] = table.tolist()
    return found


def probe_accuracy(points: Points, labels: Labels) -> float:
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(probe, points, labels, cv=folds).mean())


def kept(name: str, condition: str, seed: int) -> Row:
    """The measurement of a net; what is in benchmarks/raw is not made again."""
    path = RAW / f"{name}-{condition}-{seed}.json"
    if not path.exists():
        found = measure_net(name, condition, seed)
        write_text(path, json.dumps(found))
    record: Row = json.loads(path.read_text())
    return record


COLUMNS = ("layer", "n", "dimension", *STATISTICS, *(f"{name}_sd" for name in STATISTICS))
INTERVALS = tuple(f"{name}_interval" for name in STATISTICS)  # of the last two layers only


def compact(net: Row) -> Row:
    """A net's record as it is tracked: rows as lists of COLUMNS, and of INTERVALS; the input's apart."""
    last = (NETS[net["net"]].penultimate, "out")
    return {
        **{key: net[key] for key in ("net", "condition", "seed", "accuracy", "train_accuracy", "probe")},
        "thousands_sd": [float(np.std(net["thousands"][name], ddof=1)) for name in STATISTICS],
        "groups": {key: groups(table) for key, table in net["members"].items()},
        "rows": [
            compact_row(row, row["layer"] in last) for row in net["rows"] if row["layer"] != "input"
        ],
    }


def compact_row(row: Row, intervals: bool) -> list[Any]:
    return [row[name] for name in (*COLUMNS, *(INTERVALS if intervals else ()))]


def groups(table: list[list[int]]) -> list[list[int]]:
    """Classes by the island that most of their images are on, if it holds half of them or more."""
    found: dict[int, list[int]] = {}
    for label, counts in enumerate(table):
        if 2 * max(counts) >= sum(counts):
            found.setdefault(counts.index(max(counts)), []).append(label)
    return sorted(found.values())


def inputs(nets: list[Row]) -> list[Row]:
    """The row of the input, once for each set and seed."""
    found = {(NETS[net["net"]].set, net["seed"]): net["rows"][0] for net in nets}
    return [
        {"set": name, "seed": seed, "row": compact_row(row, False)} for (name, seed), row in found.items()
    ]


def rounded(value: Any) -> Any:
    """Four digits, which is more than the tables show."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one net and one seed, nothing written")
    quick = parser.parse_args().quick
    seeds, names = (SEEDS[:1], ["fm_mlp"]) if quick else (SEEDS, list(NETS))
    todo = [(name, condition, seed) for name in names for seed in seeds for condition in CONDITIONS]
    nets = [kept(*one) for one in track(todo, "nets")]
    if quick:
        rows = [(net["condition"], *row.values()) for net in nets for row in net["rows"]]
        shown = [[str(rounded(cell)) for cell in row[:8]] for row in rows]
        print_table(names[0], ["condition", *list(nets[0]["rows"][0])[:7]], shown)
        return
    record = {
        **provenance("python benchmarks/profiles/real_data.py"),
        "seen": SEEN,
        "columns": [*COLUMNS, *INTERVALS],
        "classes": {name: uk.nets.load_images(name, split="test").classes for name in SETS},
        "inputs": rounded(inputs(nets)),
        "nets": [rounded(compact(net)) for net in nets],
    }
    write_text(RESULTS, json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    with one_thread():
        main()
