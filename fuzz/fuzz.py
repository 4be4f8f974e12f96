"""Agreement of the engine with ripser and GUDHI on random cases.

    python fuzz/fuzz.py --cases 20000 --state build/fuzz.json

Case i depends on the seed and i alone. The state file holds the next case and the counts, so a
stopped run goes on where it was; a mismatch is printed with its number and ends the run with 1.
--jobs and --cluster spread the cases; the counts stay the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from unknot import _native

# Cases that are one task.
TOGETHER = 50
warnings.filterwarnings("ignore")


# ---- cases: each gives a boolean adjacency matrix, and points with a radius where it has them ----


def rips(points, radius):
    """The neighbour rule in plain numpy: float64, coordinates summed in order, `<=`."""
    x = points.astype(np.float64)
    total = np.zeros((len(x), len(x)))
    for k in range(x.shape[1]):
        total += (x[:, None, k] - x[None, :, k]) ** 2
    return np.sqrt(total) <= radius, np.sqrt(total), total


def scale_at(points, share):
    """A radius equal to some distance, so that ties matter."""
    d = rips(points, np.inf)[1]
    upper = np.sort(d[np.triu_indices(len(d), 1)])
    return float(upper[int(share * (len(upper) - 1))]) if len(upper) else 1.0


def cloud(rng, points, share):
    points = points.astype(rng.choice([np.float32, np.float64]))
    radius = scale_at(points, share)
    return rips(points, radius)[0], points, radius


def circles(rng):
    n, loops = rng.integers(3, 60), rng.integers(1, 4)
    a = rng.uniform(0, 2 * np.pi, n)
    p = np.stack([np.cos(a), np.sin(a)], 1) + 3.0 * rng.integers(0, loops, n)[:, None]
    return cloud(rng, p + rng.normal(0, rng.choice([0, 0.05, 0.3]), p.shape), rng.uniform(0, 0.4))


def sphere(rng):
    p = rng.normal(size=(rng.integers(4, 60), 3))
    return cloud(rng, p / np.linalg.norm(p, axis=1, keepdims=True), rng.uniform(0.05, 0.6))


def torus(rng):
    a, b = rng.uniform(0, 2 * np.pi, (2, rng.integers(10, 70)))
    p = np.stack([(2 + np.cos(b)) * np.cos(a), (2 + np.cos(b)) * np.sin(a), np.sin(b)], 1)
    return cloud(rng, p, rng.uniform(0.02, 0.4))


def grid(rng):
    side, d = (rng.integers(2, 8), 2) if rng.random() < 0.6 else (rng.integers(2, 5), 3)
    p = np.stack(np.meshgrid(*[np.arange(side)] * d), -1).reshape(-1, d).astype(float)
    return cloud(rng, p[rng.random(len(p)) < rng.uniform(0.6, 1.01)], rng.uniform(0, 0.5))


def gaussian(rng):
    p = rng.normal(size=(rng.integers(2, 70), rng.integers(1, 129)))
    return cloud(rng, p, rng.uniform(0, 0.5))


def relu(rng):
    d = rng.integers(1, 129)
    p = np.maximum(rng.normal(size=(rng.integers(2, 70), d)) - rng.uniform(0, 1), 0)
    return cloud(rng, p * rng.choice([1e-3, 1, 1e3]), rng.uniform(0, 0.5))


def duplicates(rng):
    p = rng.integers(0, rng.integers(2, 6), (rng.integers(2, 60), rng.integers(1, 4))).astype(float)
    return cloud(rng, p, rng.uniform(0, 0.4))


def symmetric(upper):
    a = np.triu(upper, 1)
    return a | a.T | np.eye(len(a), dtype=bool)


def random_graph(rng):
    n = rng.integers(3, 45)
    return symmetric(rng.random((n, n)) < rng.uniform(0, 0.9)), None, None


def larger_graph(rng):
    n = rng.integers(65, 150)
    return symmetric(rng.random((n, n)) < rng.uniform(0, 0.15)), None, None


def bipartite(rng):
    side = rng.random(rng.integers(2, 50)) < rng.uniform(0.2, 0.8)
    n = len(side)
    keep = rng.random((n, n)) < rng.uniform(0.2, 1.01)
    return symmetric((side[:, None] != side[None, :]) & keep), None, None


def octahedral(rng):
    k = int(rng.integers(2, 6))  # the flag sphere of dimension k - 1, perhaps with blown-up vertices
    part = np.repeat(np.arange(2 * k), rng.integers(1, 4, 2 * k))
    a = part[:, None] // 2 != part[None, :] // 2
    if rng.random() < 0.5:
        a |= part[:, None] == part[None, :]
    return symmetric(a & (rng.random(a.shape) < rng.choice([1.01, 0.97]))), None, None


def disjoint(rng):
    parts = [SMALL[rng.integers(len(SMALL))](rng)[0] for _ in range(rng.integers(2, 4))]
    n = sum(len(p) for p in parts)
    a, start = np.zeros((n, n), bool), 0
    for p in parts:
        a[start : start + len(p), start : start + len(p)] = p
        start += len(p)
    order = rng.permutation(n)
    return a[np.ix_(order, order)], None, None


def knn(rng):
    n, d = rng.integers(5, 120), rng.integers(1, 5)
    p = rng.normal(size=(n, d))
    if rng.random() < 0.5:
        p = np.round(p, 1)
    k, hops = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    dist = rips(p, np.inf)[2]  # ties are those of the squared distances
    np.fill_diagonal(dist, np.inf)
    near = np.argsort(dist, axis=1, kind="stable")[:, : min(k, n - 1)]
    a = np.eye(n, dtype=bool)
    a[np.arange(n)[:, None], near] = True
    a |= a.T
    far = np.linalg.matrix_power(a.astype(float), hops) > 0
    indptr, indices = _native.knn_edges(p, k)
    rows = _native.hop_rows(indptr, indices, hops)
    assert (unpack(rows) == far).all(), "knn_edges or hop_rows"
    assert (from_csr(*_native.hop_csr(indptr, indices, hops)) == far).all(), "hop_csr"
    return far, None, None


def trivial(rng):
    n = int(rng.integers(0, 8))
    return np.ones((n, n), bool) if rng.random() < 0.5 else np.eye(n, dtype=bool), None, None


def large(rng):
    n = int(rng.integers(1025, 1800))
    kind = rng.integers(3)
    if kind == 0:
        return symmetric(rng.random((n, n)) < rng.uniform(0, 8) / n), None, None
    if kind == 1:
        p = rng.normal(size=(n, 2))
    else:
        a = rng.uniform(0, 2 * np.pi, n)
        p = np.stack([np.cos(a), np.sin(a)], 1) + 3.0 * rng.integers(0, 3, n)[:, None]
    return cloud(rng, np.round(p, 2), rng.uniform(0, 0.02))


SMALL = [circles, sphere, grid, random_graph, bipartite, octahedral, duplicates, trivial]
FAMILIES = [*SMALL, torus, gaussian, relu, larger_graph, disjoint, knn]


# ---- packing, and the two oracles -----------------------------------------------------------------


def pack(a):
    n = len(a)
    words = (n + 63) // 64
    wide = np.zeros((n, words * 64), bool)
    wide[:, :n] = a
    bits = np.packbits(wide, axis=1, bitorder="little")
    return np.ascontiguousarray(bits).view(np.uint64).reshape(n, words)


def unpack(rows):
    n = len(rows)
    return np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")[:, :n].astype(bool)


def to_csr(a):
    a = a & ~np.eye(len(a), dtype=bool)
    indptr = np.concatenate([[0], np.cumsum(a.sum(1))]).astype(np.int64)
    return indptr, np.nonzero(a)[1].astype(np.int32)


def from_csr(indptr, indices):
    n = len(indptr) - 1
    a = np.eye(n, dtype=bool)
    a[np.repeat(np.arange(n), np.diff(indptr)), indices] = True
    return a


def by_ripser(a, max_dim):
    from ripser import ripser

    if len(a) == 0:
        return (0,) * (max_dim + 1)
    d = np.where(a, 1.0, 3.0)
    np.fill_diagonal(d, 0)
    bars = ripser(d, maxdim=max_dim, thresh=2.0, distance_matrix=True)["dgms"]
    return tuple(int(np.isinf(b[:, 1]).sum()) for b in bars)


def by_gudhi(a, max_dim):
    import gudhi

    tree = gudhi.SimplexTree()
    for v in range(len(a)):
        tree.insert([v])
    for u, v in zip(*np.nonzero(np.triu(a, 1)), strict=True):
        tree.insert([int(u), int(v)])
    tree.expansion(max_dim + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    betti = tree.betti_numbers()
    return tuple((list(betti) + [0] * 3)[: max_dim + 1])


def simplices_at_most(a, limit):
    """Rough count of tetrahedra, to leave out what the oracles take minutes for."""
    open_ = a & ~np.eye(len(a), dtype=bool)
    edges = open_.sum() / 2
    if len(a) < 4 or edges == 0:
        return True
    p = edges / (len(a) * (len(a) - 1) / 2)
    common = open_.astype(np.float32)
    triangles = (common @ common * common).sum() / 6
    return triangles * len(a) * p**1.5 / 4 < limit


def run_case(seed, i, variants):
    rng = np.random.default_rng([seed, i])
    family = large if i % 200 == 199 else FAMILIES[i % len(FAMILIES)]
    a, points, radius = family(rng)
    max_dim = 2 if simplices_at_most(a, 60_000) else 1
    _native.use_variant(variants[i // len(FAMILIES) % len(variants)])
    expected = by_ripser(a, max_dim)
    answers = {"ripser": expected}
    if i % 2 == 0 or max_dim == 1:
        answers["gudhi"] = by_gudhi(a, max_dim)
    rows = pack(a)
    answers["rows"] = _native.betti_rows(rows, max_dim)
    answers["csr"] = _native.betti_csr(*to_csr(a), max_dim)
    for low in range(max_dim):
        answers[f"rows{low}"] = _native.betti_rows(rows, low) + expected[low + 1 :]
        answers[f"csr{low}"] = _native.betti_csr(*to_csr(a), low) + expected[low + 1 :]
    if points is not None:
        assert (unpack(_native.rows_from_points(points, radius)) == a).all(), "rows_from_points"
        dist = rips(points, radius)[1]
        assert (unpack(_native.rows_from_distances(dist, radius)[0]) == a).all(), "rows_from_distances"
        answers["points"] = _native.betti_batch_points([points], [radius], max_dim)[0]
    wrong = {k: v for k, v in answers.items() if tuple(v) != tuple(expected)}
    assert not wrong, f"{family.__name__} n={len(a)}: expected {expected}, got {wrong}"
    return family.__name__, max_dim, "gudhi" in answers


def run_cases(seed, first, end):
    """Counts over the cases from ``first`` to before ``end``, and the first mismatch, if there is one."""
    warnings.filterwarnings("ignore")  # of the oracles; a worker has filters of its own
    variants = _native.engine_info()["variants"]
    outcome = {"next": first, "families": Counter(), "gudhi": 0, "b2": 0, "mismatch": ""}
    for i in range(first, end):
        try:
            family, max_dim, gudhi = run_case(seed, i, variants)
        except AssertionError as error:
            return {**outcome, "mismatch": f"seed={seed} case={i}: {error}"}
        outcome["families"][family] += 1
        outcome["gudhi"] += gudhi
        outcome["b2"] += max_dim == 2
        outcome["next"] = i + 1
    return outcome


def add(state, outcome):
    for family, count in outcome["families"].items():
        state["families"][family] = state["families"].get(family, 0) + count
    for key in ("gudhi", "b2"):
        state[key] += outcome[key]
    state["next"] = outcome["next"]


def main():
    from unknot.core.workforce import (
        Workforce,  # here: builds for the sanitizers have the extension alone
    )

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="stop at this case number")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="JSON file to resume from and to keep")
    parser.add_argument("--jobs", type=int, default=1, help="processes of this machine")
    parser.add_argument("--cluster", help="a Dask scheduler, as tcp://host:8786 or its .json file")
    args = parser.parse_args()
    state = {"seed": args.seed, "next": args.first, "families": {}, "gudhi": 0, "b2": 0, "seconds": 0.0}
    if args.state and args.state.exists():
        state = json.loads(args.state.read_text())
    began = time.monotonic() - state["seconds"]

    def save():
        state["seconds"] = round(time.monotonic() - began, 1)
        if args.state:
            args.state.write_text(json.dumps(state, indent=1))

    starts = range(state["next"], args.cases, TOGETHER)
    calls = [(state["seed"], first, min(first + TOGETHER, args.cases)) for first in starts]
    with Workforce(args.jobs, args.cluster) as workforce:
        # In order, so that the state is one number: all cases below it have been run.
        for outcome in workforce.run(run_cases, calls, ordered=True):
            add(state, outcome)
            save()
            if outcome["mismatch"]:
                print(f"MISMATCH {outcome['mismatch']}", flush=True)
                sys.exit(1)
            if state["next"] % (10 * TOGETHER) == 0:
                print(
                    f"{state['next']} cases, {state['gudhi']} also with GUDHI, {state['b2']} with b2, "
                    f"{state['seconds']} s, no mismatch",
                    flush=True,
                )
    save()
    print(json.dumps(state))


if __name__ == "__main__":
    main()
