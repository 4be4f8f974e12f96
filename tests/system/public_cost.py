"""What the public names cost over the engine alone, on the nine circles of the benchmark and on rings.

    python tests/system/public_cost.py

One thread, processor time, medians of the ratios of calls that take turns. No test, as it hangs on
the clock.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

import unknot as uk
from unknot import _native

ROUNDS = 200


def milliseconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return 1e3 * (time.thread_time() - start)


def in_turns(name: str, public: Callable[[], object], alone: Callable[[], object]) -> None:
    """Print the medians, and that of the ratios with its quartiles."""
    times = np.array([(milliseconds(public), milliseconds(alone)) for _ in range(ROUNDS)])[10:]
    low, ratio, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.5, 0.75])
    ours, engine = np.median(times, axis=0)
    print(f"{name:42s} {ours:7.3f} ms, alone {engine:7.3f} ms: {ratio:.2f} x ({low:.2f} to {high:.2f})")


def compare(name: str, p: np.ndarray, radius: float) -> None:
    d, rule = cdist(p, p), {"radius": radius}
    single = d.astype(np.float32)
    graph = uk.rips_graph(p, **rule)
    in_turns(f"{name}, distances to graph", lambda: uk.rips_graph(distances=d, **rule),
             lambda: _native.rows_from_distances(d, radius))  # fmt: skip
    in_turns(f"{name}, float32 distances to graph", lambda: uk.rips_graph(distances=single, **rule),
             lambda: _native.rows_from_distances(single, radius))  # fmt: skip
    in_turns(f"{name}, distances to graph, one look", lambda: uk.rips_graph(distances=d, **rule),
             lambda: np.isfinite(d).all())  # fmt: skip
    in_turns(f"{name}, points to graph", lambda: uk.rips_graph(p, **rule),
             lambda: _native.rows_from_points(p, radius))  # fmt: skip
    in_turns(f"{name}, points to kNN-hop graph", lambda: uk.knn_graph(p, k=14, hops=2),
             lambda: _native.hop_rows(*_native.knn_edges(p, 14), 2))  # fmt: skip
    in_turns(f"{name}, graph to Betti numbers", lambda: uk.betti_numbers(graph),
             lambda: _native.betti_rows(graph.rows, 1))  # fmt: skip
    in_turns(f"{name}, points to Betti numbers", lambda: uk.betti_numbers_batch([p], threads=1, **rule),
             lambda: _native.betti_batch_points([p], [radius], 1, threads=1))  # fmt: skip
    in_turns(f"{name}, by a graph over at once", lambda: uk.betti_numbers(uk.rips_graph(p, **rule)),
             lambda: uk.betti_numbers_batch([p], threads=1, **rule))  # fmt: skip


def main() -> None:
    rng = np.random.default_rng(0)
    i, a = rng.integers(0, 9, 2000), rng.uniform(0, 2 * np.pi, 2000)
    circles = np.stack([np.cos(a), np.sin(a)], 1) + 4.0 * np.stack([i % 3, i // 3], 1)
    compare("nine circles", circles, 0.5)
    rings = uk.make_shape("rings", pairs=9, n=2000, seed=0)
    compare("rings", rings.points, 0.12)


if __name__ == "__main__":
    main()
