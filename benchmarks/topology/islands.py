"""Islands: how long they take, how often noise has more than one, and whether known pieces are counted.

    python benchmarks/topology/islands.py [speed] [noise] [shapes]

Without arguments all parts, written to benchmarks/results/islands.json; a minute of one core.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from unknot.core.console import print_table, track
from unknot.core.files import write_text
from unknot.topology.multiscale.density import islands, islands_batch
from unknot.topology.multiscale.spanning_tree import tangle
from unknot.topology.shapes import SHAPES, make_shape

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
REPEAT = 5
SIZES, DIMENSIONS, DRAWS = (300, 600, 1000, 2000), (2, 10, 50, 200, 512), 50
HIGH = 50  # intrinsic dimension above which the clouds of noise are also counted apart
Row = dict[str, Any]


def main() -> None:
    parts: dict[str, Callable[[], list[Row]]] = {"speed": speed, "noise": noise, "shapes": shapes}
    record: Row = {
        **provenance("python benchmarks/topology/islands.py"),
        "repeat": REPEAT,
    }
    for name in track(sys.argv[1:] or list(parts), "islands"):
        rows = record[name] = parts[name]()
        print_table(name, list(rows[0]), [[str(value) for value in row.values()] for row in rows])
    if not sys.argv[1:]:
        write_text(RESULTS / "islands.json", json.dumps(record, separators=(",", ":")))


def speed() -> list[Row]:
    """Medians on one thread, Gaussian clouds, beside scikit-learn's search for the same neighbours."""
    rows = []
    for n, d, dtype in ((1000, 64, "f4"), (2000, 512, "f4"), (2000, 512, "f8"), (60_000, 3, "f8")):
        rng = np.random.default_rng(0)
        points, labels = rng.normal(size=(n, d)).astype(dtype), rng.integers(0, 10, n)
        row: Row = {"n": n, "d": d, "dtype": points.dtype.name}
        with threadpool_limits(1):
            search = NearestNeighbors(n_neighbors=15, n_jobs=1)
            row["scikit-learn kNN, s"] = seconds(lambda: search.fit(points).kneighbors())  # noqa: B023
            row["islands, s"] = seconds(lambda: islands(points, threads=1))  # noqa: B023
            row["tangle, s"] = seconds(lambda: tangle(points, labels, threads=1))  # noqa: B023
        rows.append(row)
    return rows


def seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEAT):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)), 4)


def noise() -> list[Row]:
    """False positives: Gaussian and uniform clouds, half of each, with more than one island."""
    rows = []
    for n, d in product(SIZES, DIMENSIONS):
        rng = np.random.default_rng([11, n, d])
        clouds = [rng.normal(size=(n, d)) if draw % 2 else rng.random((n, d)) for draw in range(DRAWS)]
        found = islands_batch(clouds, threads=1)
        many = {f"z = {z}": sum(int((one.prominences >= z).sum() > 1) for one in found) for z in (3, 4)}
        dimension = round(float(np.median([one.dimension for one in found])), 1)
        rows.append({"n": n, "d": d, "dimension": dimension, "clouds": DRAWS, **many})
    low = [row for row in rows if row["dimension"] <= HIGH]
    high = [row for row in rows if row["dimension"] > HIGH]
    for group, sign in ((low, "<="), (high, ">")):
        total = {key: sum(row[key] for row in group) for key in ("clouds", "z = 3", "z = 4")}
        rows.append({"n": "all", "d": "all", "dimension": f"{sign} {HIGH}", **total})
    return rows


def shapes() -> list[Row]:
    """Class clouds of the built-in shapes: b0, and the islands that are found."""
    rows = []
    for name, sampling in product(SHAPES, ("even", "random")):
        shape = make_shape(name, sampling=sampling, seed=200)
        for label, betti in shape.betti.items():
            cloud = shape.points[shape.labels == label]
            row: Row = {"shape": name, "sampling": sampling, "class": label, "n": len(cloud)}
            row["b0"] = betti[0]
            for k, z in product((10, 15, 20), (3, 4)):
                row[f"k={k}, z={z}"] = islands(cloud, k, z, threads=1).count
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
