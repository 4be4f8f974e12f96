"""The scale that `calibrate` finds: on the built-in shapes, on noise, on fewer points, on images.

    python benchmarks/topology/scale.py    # under five minutes on one core

Image sets beside the embedded digits are measured where $UNKNOT_DATA holds them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unknot.core.console import print_table, track
from unknot.core.files import write_text
from unknot.nets.images import FOLDER_VARIABLE, load_images
from unknot.topology import betti_interval
from unknot.topology.calibration import calibrate, class_clouds
from unknot.topology.graph import scale_graph
from unknot.topology.homology import betti_numbers, betti_numbers_batch
from unknot.topology.scale import Scale
from unknot.topology.shapes import SHAPES, Shape, make_shape

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
SEEDS = range(200, 205)  # not those on which the thresholds were set
VERDICTS = ("right", "undetermined", "wrong")
Points = NDArray[np.float64]
Row = dict[str, Any]


def main() -> None:
    parts = {
        "shapes": shapes,
        "samplings": samplings,
        "fewer points": fewer_points,
        "embeddings": embeddings,
        "user data": user_data,
        "noise": noise,
        "intervals": intervals,
        "images": images,
    }
    chosen = sys.argv[1:] or list(parts)
    record: Row = {
        **provenance("python benchmarks/topology/scale.py"),
    }
    for name in track(chosen, "scale"):
        start = time.perf_counter()
        rows = parts[name]()
        record[name] = rows
        shown = [{k: v for k, v in row.items() if k not in ("note", "true")} for row in rows]
        columns = list(shown[0])
        cells = [[_cell(row[column]) for column in columns] for row in shown]
        print_table(f"{name} ({time.perf_counter() - start:.0f} s)", columns, cells)
    if not sys.argv[1:]:
        write_text(RESULTS / "scale.json", json.dumps(record, separators=(",", ":")))


def shapes() -> list[Row]:
    """Default sizes, five fresh seeds, both rules; b2 too where the truth has one."""
    rows = []
    for name, seed, rule in product(SHAPES, SEEDS, ("knn", "radius")):
        shape = make_shape(name, seed=seed)
        start = time.perf_counter()
        scale = calibrate(shape.points, shape.labels, rule=rule)
        row: Row = {"shape": name, "seed": seed, "rule": rule, "n": len(shape.points)}
        row["seconds"] = round(time.perf_counter() - start, 2)
        row["true"] = list(shape.betti.values())
        row["found"] = [
            betti_numbers(scale_graph(cloud, scale), max_dim=len(shape.betti[label]) - 1).values
            for label, cloud in by_class(shape).items()
        ]
        right = "right" if row["found"] == row["true"] else "wrong"
        row["verdict"] = right if scale.determined else "undetermined"
        rows.append({**row, "scale": str(scale), "note": scale.note})
    return rows


def by_class(shape: Shape) -> dict[int, Points]:
    return {label: shape.points[shape.labels == label] for label in shape.betti}


def samplings() -> list[Row]:
    """Random instead of even sampling, and Gaussian noise in units of the shape's Rips radius."""
    rows = []
    for name in SHAPES:
        for sampling, noise in (("even", 0.1), ("random", 0.0), ("random", 0.1), ("random", 0.25)):
            verdicts = []
            for seed in SEEDS[:2]:
                unit = make_shape(name, seed=seed, sampling=sampling).radius
                shape = make_shape(name, seed=seed, sampling=sampling, noise=noise * unit)
                verdicts.append(judge(shape, shape.points, shape.labels))
            rows.append(
                {"shape": name, "sampling": sampling, "noise / radius": noise, **counts(verdicts)}
            )
    return rows


def fewer_points() -> list[Row]:
    """Subsamples of the default number of points."""
    rows = []
    for name in SHAPES:
        for share in (0.75, 0.5, 0.25, 0.125):
            verdicts = []
            for seed in SEEDS[:3]:
                shape = make_shape(name, seed=seed)
                most = int(share * len(shape.points))
                verdicts.append(judge(shape, shape.points, shape.labels, max_points=most, seed=seed))
            rows.append({"shape": name, "share": share, "n": most, **counts(verdicts)})
    return rows


def embeddings() -> list[Row]:
    """A random isometry into 50 dimensions, with noise in all of them."""
    rows = []
    for name in SHAPES:
        verdicts = []
        for seed in SEEDS[:2]:
            shape = make_shape(name, seed=seed)
            rng = np.random.default_rng(seed)
            axes = np.linalg.qr(rng.normal(size=(50, 50)))[0][: shape.points.shape[1]]
            noise = 0.02 * shape.radius * rng.normal(size=(len(shape.points), 50))
            verdicts.append(judge(shape, shape.points @ axes + noise, shape.labels))
        rows.append({"shape": name, "dimensions": 50, "noise / radius": 0.02, **counts(verdicts)})
    return rows


def circle(rng: np.random.Generator, n: int, radius: float, noise: float, at: float = 0.0) -> Points:
    angle = rng.uniform(0, 2 * np.pi, n)
    ring = radius * np.column_stack([np.cos(angle), np.sin(angle)]) + [at, 0]
    return np.asarray(ring + noise * rng.normal(size=(n, 2)))


def user_data() -> list[Row]:
    """Small random samples: noisy rings, classes of unlike density, clusters in ten dimensions."""

    def rings(rng: np.random.Generator, many: int, few: int) -> list[Points]:
        return [circle(rng, many, 1.0, 0.08), circle(rng, few, 2.5, 0.08)]

    def clusters(rng: np.random.Generator, each: int) -> list[Points]:
        centres = 8 * rng.normal(size=(2, 3, 10))
        return [(c[:, None] + rng.normal(size=(3, each, 10))).reshape(-1, 10) for c in centres]

    def eight(rng: np.random.Generator, n: int) -> list[Points]:
        return [np.concatenate([circle(rng, n, 1.0, 0.05, x) for x in (-1.0, 1.0)])]

    cases = {
        "two noisy rings, 200 + 200": (lambda rng: rings(rng, 200, 200), [(1, 1), (1, 1)]),
        "two noisy rings, 1000 + 100": (lambda rng: rings(rng, 1000, 100), [(1, 1), (1, 1)]),
        "figure eight, 400": (lambda rng: eight(rng, 200), [(1, 2)]),
        "3 Gaussian clusters a class, 10-D, 60 each": (lambda rng: clusters(rng, 60), [(3, 0), (3, 0)]),
        "3 Gaussian clusters a class, 10-D, 300 each": (
            lambda rng: clusters(rng, 300),
            [(3, 0), (3, 0)],
        ),
    }
    rows = []
    for name, (draw, true) in cases.items():
        tally: Counter[str] = Counter()
        for seed in range(20):
            clouds = draw(np.random.default_rng(seed + 500))
            labels = np.repeat(np.arange(len(clouds)), [len(c) for c in clouds])
            scale = calibrate(np.concatenate(clouds), labels)
            answer = [betti_numbers(scale_graph(cloud, scale)).values for cloud in clouds]
            right = "right" if answer == true else "wrong"
            tally[right if scale.determined else "undetermined"] += 1
        rows.append({"data": name, **{v: tally[v] for v in VERDICTS}})
    return rows


def noise() -> list[Row]:
    """False positives: draws of one Gaussian or uniform cloud in which something is called stable."""
    rows = []
    kinds = (("Gaussian", 100, (50, 100, 200, 500, 1000)), ("uniform cube", 50, (200, 500, 1000)))
    for kind, draws, sizes in kinds:
        for d, n in product((2, 3, 10, 50), sizes):
            knn = radius = 0
            for seed in range(draws):
                rng = np.random.default_rng([7, seed, d, n])
                cloud = rng.normal(size=(n, d)) if kind == "Gaussian" else rng.random((n, d))
                knn += calibrate(cloud).determined
                radius += seed < 20 and calibrate(cloud, rule="radius").determined
            row = {"noise": kind, "d": d, "n": n}
            rows.append({**row, "kNN-hop": f"{knn} of {draws}", "radius": f"{radius} of 20"})
    return rows


def intervals() -> list[Row]:
    """How often the interval of a Betti number of a class holds the true one, and k held or scaled."""
    tallies: dict[tuple[float, bool], Counter[str]] = {}
    for share in (1.0, 0.75, 0.5, 0.25):
        for name in SHAPES:
            for seed in SEEDS[:2]:
                shape = make_shape(name, seed=seed)
                rng = np.random.default_rng(seed)
                kept = rng.choice(len(shape.points), int(share * len(shape.points)), replace=False)
                points, labels = shape.points[kept], shape.labels[kept]
                scale = calibrate(points, labels)
                tally = tallies.setdefault((share, scale.determined), Counter())
                for label, true in shape.betti.items():
                    _tally_interval(tally, points[labels == label], scale, true[:2], seed)
    rows = []
    for (share, determined), tally in sorted(tallies.items(), reverse=True):
        numbers, subsamples = tally["numbers"], tally["subsamples"]
        rows.append(
            {
                "share of the default n": share,
                "determined": determined,
                "numbers": numbers,
                "number right": round(tally["right"] / numbers, 3),
                "true inside": round(tally["inside"] / numbers, 3),
                "fresh subsample inside": round(tally["fresh"] / numbers, 3),
                "median width": float(np.median(_widths(tally))),
                "subsamples right, k held": round(tally["held"] / subsamples, 3),
                "subsamples right, k scaled": round(tally["scaled"] / subsamples, 3),
            }
        )
    return rows


def _widths(tally: Counter[str]) -> list[int]:
    widths = {int(key[6:]): count for key, count in tally.items() if key.startswith("width ")}
    return [width for width, count in widths.items() for _ in range(count)]


def _tally_interval(
    tally: Counter[str], cloud: Points, scale: Scale, true: tuple[int, ...], seed: int
) -> None:
    whole = betti_numbers(scale_graph(cloud, scale)).values
    interval = betti_interval(cloud, scale, seed=seed)
    rng = np.random.default_rng(10_000 + seed)
    subsamples = [cloud[rng.choice(len(cloud), round(0.8 * len(cloud)), replace=False)] for _ in range(5)]
    assert scale.k is not None
    held, scaled = (
        [b.values for b in betti_numbers_batch(subsamples, scale=replace(scale, k=k))]
        for k in (scale.k, max(1, round(0.8 * scale.k)))
    )
    tally["subsamples"] += len(subsamples)
    tally["held"] += sum(values == true for values in held)
    tally["scaled"] += sum(values == true for values in scaled)
    for i, (low, high) in enumerate(interval):
        tally["numbers"] += 1
        tally["right"] += whole[i] == true[i]
        tally["inside"] += low <= true[i] <= high
        tally["fresh"] += low <= held[0][i] <= high
        tally[f"width {high - low}"] += 1


def images() -> list[Row]:
    """What is said of the pixels of image sets, one class cloud a label."""
    rows = []
    for name in ("digits", "fashion_mnist") if FOLDER_VARIABLE in os.environ else ("digits",):
        data = load_images(name, limit=10_000)
        for most in (1000, 4000, 10_000):
            if most <= max(len(data.images), 1000):
                start = time.perf_counter()
                scale = calibrate(data.images.numpy(), data.labels.numpy(), max_points=most)
                seconds = round(time.perf_counter() - start, 2)
                rows.append({"data": name, "n": most, "scale": str(scale), "note": scale.note,
                             "seconds": seconds})  # fmt: skip
    return rows


def judge(shape: Shape, points: Points, labels: NDArray[np.int64], **arguments: Any) -> str:
    """The verdict over b0 and b1, on the subsample that calibrate measured."""
    scale = calibrate(points, labels, **arguments)
    clouds = class_clouds(points, labels, **arguments)
    betti = {label: betti_numbers(scale_graph(cloud, scale)).values for label, cloud in clouds.items()}
    right = all(betti[label] == true[:2] for label, true in shape.betti.items())
    return "undetermined" if not scale.determined else "right" if right else "wrong"


def counts(verdicts: list[str]) -> Row:
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def _cell(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
