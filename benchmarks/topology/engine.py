"""The engine against ripser.py, GUDHI and giotto-ph: one process, one run, one thread.

    python benchmarks/topology/engine.py [--only W1,W4] [--repeat 5]

Every peer gets the distance matrix with the scale as its threshold, and the 0/1 matrix of the graph
at that scale, and is compared by its faster form. Every answer must be equal, or the run fails.
Times are medians. Writes benchmarks/results/engine.json and prints the table of the docs.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial.distance import cdist

from unknot import _native

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parents[1] / "results"
REPEAT = 5
SLOW_S = 20.0  # a peer slower than this is timed once
MOST_TRIANGLES = 15_000_000  # beyond, a full expansion does not fit


# ---- clouds ---------------------------------------------------------------------------------------


def circles(rng, n, loops=9):
    i, a = rng.integers(0, loops, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(a), np.sin(a)], 1) + 4.0 * np.stack([i % 3, i // 3], 1)


def linked_rings(rng, n, pairs=9, tube=0.0):
    i, a, b = rng.integers(0, pairs, n), *rng.uniform(0, 2 * np.pi, (2, n))
    t = tube * np.sqrt(rng.random(n))  # uniform in the disc: solid rings
    r = 1 + t * np.cos(b)
    flat = np.stack([r * np.cos(a), r * np.sin(a), t * np.sin(b)], 1)
    upright = np.stack([1 + r * np.cos(a), t * np.sin(b), r * np.sin(a)], 1)
    ring = rng.random(n) < 0.5
    points = np.where(ring[:, None], flat, upright)
    return points + 6.0 * np.stack([i % 3, i // 3, np.zeros(n)], 1), ring


def spheres(rng, n, count=3):
    p = rng.normal(size=(n, 3))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    p[:, 0] += 4.0 * rng.integers(0, count, n)
    return p


def scale_between(distances, share):
    """Half-way between two neighbouring distances, so that no peer's rounding decides a tie."""
    d = np.sort(distances[np.triu_indices(len(distances), 1)])
    i = int(share * (len(d) - 1))
    return float((d[i] + d[i + 1]) / 2)


# ---- timing ---------------------------------------------------------------------------------------


def timed(f, repeat=None):
    """Median milliseconds and the answer; fast calls are repeated more often."""
    repeat = repeat or REPEAT
    times, answer = [], None
    gc.collect()
    while len(times) < repeat or (sum(times) < 0.1 and len(times) < 200):
        t = time.perf_counter()
        answer = f()
        times.append(time.perf_counter() - t)
        if times[0] > SLOW_S:
            break
    return 1e3 * float(np.median(times)), answer


def open_bars(diagrams, max_dim):
    return tuple(int(np.isinf(np.asarray(d)[:, 1]).sum()) for d in diagrams[: max_dim + 1])


def by_ripser(d, radius, max_dim):
    from ripser import ripser

    return open_bars(ripser(d, maxdim=max_dim, thresh=radius, distance_matrix=True)["dgms"], max_dim)


def by_giotto(d, radius, max_dim, collapse):
    from gph import ripser_parallel

    out = ripser_parallel(
        d, maxdim=max_dim, thresh=radius, metric="precomputed", n_threads=1, collapse_edges=collapse
    )
    return open_bars(out["dgms"], max_dim)


def by_gudhi(d, radius, max_dim, collapse):
    import gudhi

    tree = gudhi.SimplexTree.create_from_array(d, max_filtration=radius)
    if collapse:
        tree.collapse_edges()
    tree.expansion(max_dim + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    return tuple(([*list(tree.betti_numbers()), 0, 0, 0])[: max_dim + 1])


def peers(d, radius, max_dim):
    """Name -> call, for every peer and form."""
    graph = d <= radius
    np.fill_diagonal(graph, True)
    zero_one = np.where(graph, 1.0, 3.0)
    np.fill_diagonal(zero_one, 0.0)
    i, j = np.nonzero(np.triu(graph, 1))
    n = len(d)
    sparse = coo_matrix((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    g = graph.astype(np.float32)
    np.fill_diagonal(g, 0)
    fits = float((g @ g * g).sum() / 6) < MOST_TRIANGLES
    out = {}
    for form, matrix, r in (("", d, radius), (" 0/1", zero_one, 2.0)):
        out["ripser.py" + form] = lambda m=matrix, r=r: by_ripser(m, r, max_dim)
        out["giotto-ph" + form] = lambda m=matrix, r=r: by_giotto(m, r, max_dim, False)
        out["giotto-ph collapse" + form] = lambda m=matrix, r=r: by_giotto(m, r, max_dim, True)
        out["gudhi collapse" + form] = lambda m=matrix, r=r: by_gudhi(m, r, max_dim, True)
        if fits:
            out["gudhi" + form] = lambda m=matrix, r=r: by_gudhi(m, r, max_dim, False)
    out["ripser.py 0/1 sparse"] = lambda: by_ripser(sparse, 2.0, max_dim)
    return out


def against_peers(name, d, radius, max_dim, points=None):
    """One row: from the distance matrix, from packed rows, and from points where there are any."""

    def from_distances():
        return _native.betti_rows(_native.rows_from_distances(d, radius), max_dim)

    ours, answer = timed(from_distances)
    rows = _native.rows_from_distances(d, radius)
    row = {"name": name, "n": len(d), "betti": answer, "from_distances_ms": ours}
    row["from_rows_ms"], again = timed(lambda: _native.betti_rows(rows, max_dim))
    assert again == answer
    if points is not None:
        row["from_points_ms"], again = timed(
            lambda: _native.betti_batch_points([points], [radius], max_dim, threads=1)[0]
        )
        assert again == answer, (name, again, answer)
        row["distance_matrix_ms"], _ = timed(lambda: cdist(points, points))
        row["points_over_distance_matrix"] = row["from_points_ms"] / row["distance_matrix_ms"]
    row["peers_ms"] = {}
    for peer, call in peers(d, radius, max_dim).items():
        row["peers_ms"][peer], theirs = timed(call)
        assert theirs == answer, f"{name}: {peer} says {theirs}, unknot {answer}"
    best = min(row["peers_ms"], key=row["peers_ms"].get)
    row["best_peer"], row["best_peer_ms"] = best, row["peers_ms"][best]
    row["times_best_peer"] = row["best_peer_ms"] / ours
    row["times_ripser_py"] = row["peers_ms"]["ripser.py"] / ours
    return row


# ---- workloads ------------------------------------------------------------------------------------


def w1(rng):
    p = circles(rng, 2000)
    return [against_peers("W1 nine circles", cdist(p, p), 0.5, 1, p)]


def w2(rng):
    p, _ = linked_rings(rng, 1500)
    out = []
    for k in (12, 35):
        rows = _native.hop_rows(*_native.knn_edges(p, k), 2)
        graph = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")[:, : len(p)]
        d = np.where(graph == 1, 1.0, 3.0)
        np.fill_diagonal(d, 0)
        out.append(against_peers(f"W2 linked rings, k={k}, 2 hops", d, 2.0, 1))
    return out


def w3(rng):
    p = spheres(rng, 1000)
    return [against_peers("W3 three spheres, b2", cdist(p, p), 0.6, 2, p)]


def w4(rng):
    p = rng.normal(size=(500, 49))
    d = cdist(p, p)
    cases = [
        ("W4 Gaussian 49-D, 5 %", 0.05, 1),
        ("W4 Gaussian 49-D, 20 %", 0.2, 1),
        ("Gaussian 49-D, 5 %, b2", 0.05, 2),
    ]
    return [against_peers(name, d, scale_between(d, q), dim, p) for name, q, dim in cases]


def w5(rng):
    clouds = [np.maximum(rng.normal(size=(300, 49)), 0).astype(np.float32) for _ in range(256)]
    radii = [scale_between(cdist(c, c), 0.05) for c in clouds]
    one, answer = timed(lambda: _native.betti_batch_points(clouds, radii, 1, threads=1))
    two, again = timed(lambda: _native.betti_batch_points(clouds, radii, 1, threads=2))
    assert again == answer
    row = {
        "name": "W5 256 filters, n=300, 49-D, 5 %",
        "n": 300,
        "betti": answer[0],
        "from_points_ms": one,
        "two_threads_ms": two,
        "two_threads_gain": one / two,
    }
    row["distance_matrix_ms"], distances = timed(lambda: [cdist(c, c) for c in clouds])
    row["points_over_distance_matrix"] = one / row["distance_matrix_ms"]
    row["peers_ms"] = {}
    for peer in peers(distances[0], radii[0], 1):

        def all_clouds(peer=peer):
            return [peers_of[i][peer]() for i in range(len(clouds))]

        peers_of = [peers(d, r, 1) for d, r in zip(distances, radii, strict=True)]
        ms, theirs = timed(all_clouds, 3 if REPEAT > 3 else 1)
        assert theirs == answer, peer
        row["peers_ms"][peer] = ms + row["distance_matrix_ms"]
    best = min(row["peers_ms"], key=row["peers_ms"].get)
    row["best_peer"], row["best_peer_ms"] = best, row["peers_ms"][best]
    row["times_best_peer"] = row["best_peer_ms"] / one
    row["times_ripser_py"] = row["peers_ms"]["ripser.py"] / one
    return [row]


def w6(rng):
    p = circles(rng, 8000)
    return [against_peers("W6 nine circles", cdist(p, p), 0.5, 1, p)]


def random_graphs(rng):
    out = []
    for share, max_dim in ((0.1, 1), (0.3, 1), (0.6, 1), (0.1, 2)):
        upper = np.triu(rng.random((300, 300)) < share, 1)
        d = np.where(upper | upper.T, 1.0, 3.0)
        np.fill_diagonal(d, 0)
        name = f"random graph p={share}" + (", b2" if max_dim == 2 else "")
        out.append(against_peers(name, d, 2.0, max_dim))
    return out


def from_points(rng):
    """Points to Betti numbers, over the time of a float64 distance matrix alone."""
    cases = [("circles", circles(rng, n), 0.5) for n in (1000, 2000, 4000)]
    cases += [("linked rings", linked_rings(rng, n, tube=0.1)[0], 0.4) for n in (1000, 4000)]
    cases += [("spheres", spheres(rng, n), 0.5) for n in (1000, 4000)]
    for n in (300, 500, 2000):
        p = rng.normal(size=(n, 49))
        cases.append(("Gaussian 49-D", p, scale_between(cdist(p, p), 0.05)))
    out = []
    for name, p, radius in cases:
        ms, answer = timed(lambda p=p, r=radius: _native.betti_batch_points([p], [r], 1, threads=1)[0])
        matrix, d = timed(lambda p=p: cdist(p, p))
        assert _native.betti_rows(_native.rows_from_distances(d, radius), 1) == answer
        out.append(
            {
                "name": f"from points: {name}",
                "n": len(p),
                "betti": answer,
                "from_points_ms": ms,
                "distance_matrix_ms": matrix,
                "points_over_distance_matrix": ms / matrix,
            }
        )
    return out


def knn(rng):
    from sklearn.neighbors import NearestNeighbors

    p, _ = linked_rings(rng, 1500)
    ours, answer = timed(lambda: _native.betti_batch_knn([p], 14, 2, 1, threads=1)[0])
    graph, _ = timed(lambda: _native.knn_edges(p, 14))
    theirs, _ = timed(lambda: NearestNeighbors(n_neighbors=14).fit(p).kneighbors())
    return [
        {
            "name": "kNN-hop from points, k=14, 2 hops",
            "n": 1500,
            "betti": answer,
            "from_points_ms": ours,
            "knn_alone_ms": graph,
            "sklearn_knn_ms": theirs,
            "over_sklearn": ours / theirs,
        }
    ]


def jmlr(rng):
    p, ring = linked_rings(rng, 45_000, tube=0.15)
    out = []
    for label in (0, 1):
        cloud = p[ring == label][:22_500]
        for threads in (1, 2):
            ms, answer = timed(
                lambda c=cloud, t=threads: _native.betti_batch_knn([c], 14, 2, 1, threads=t)[0], 3
            )
            assert answer == (9, 9), answer
            out.append(
                {
                    "name": f"rings, class {label}, k=14, 2 hops, {threads} threads",
                    "n": len(cloud),
                    "betti": answer,
                    "from_points_ms": ms,
                }
            )
    return out


def scaling(rng):
    """n = 500 ... 32,000; a peer is left out once it needed ten seconds."""
    out, given_up = [], set()
    for n in (500, 1000, 2000, 4000, 8000, 16_000, 32_000):
        p = circles(rng, n)
        ms, answer = timed(lambda p=p: _native.betti_batch_points([p], [0.5], 1, threads=1)[0], 3)
        row = {
            "name": "scaling: nine circles",
            "n": n,
            "betti": answer,
            "from_points_ms": ms,
            "peers_ms": {},
        }
        if n <= 8000:
            d = cdist(p, p)
            for peer, call in {
                "ripser.py": lambda: by_ripser(d, 0.5, 1),
                "giotto-ph collapse": lambda: by_giotto(d, 0.5, 1, True),
                "gudhi collapse": lambda: by_gudhi(d, 0.5, 1, True),
            }.items():
                if peer in given_up:
                    continue
                row["peers_ms"][peer], theirs = timed(call, 1)
                assert theirs == answer, (peer, theirs, answer)
                if row["peers_ms"][peer] > 10_000:
                    given_up.add(peer)
            del d
        out.append(row)
    return out


# ---- memory, each in a process of its own ---------------------------------------------------------

MEMORY = {
    "unknot from points": "_native.betti_batch_points([p], [0.5], 1, threads=1)[0]",
    "unknot from rows": "_native.betti_rows(_native.rows_from_points(p, 0.5), 1)",
    "unknot incompressible": "_native.betti_batch_points([q], [7.0], 1, threads=1)[0]",
    "ripser.py": "by_ripser(d, 0.5, 1)",
    "giotto-ph collapse": "by_giotto(d, 0.5, 1, True)",
    "gudhi collapse": "by_gudhi(d, 0.5, 1, True)",
}


def high_water_kb():
    """Linux only. ru_maxrss will not do: a child starts with its parent's peak."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def memory(rng):
    out, n = [], 8000
    for name, call in MEMORY.items():
        needs_matrix = "d," in call
        code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from engine import *
from unknot import _native
import ripser, gph, gudhi
rng = np.random.default_rng(0); p = circles(rng, {n}); q = rng.normal(size=({n}, 49))
Path('/proc/self/clear_refs').write_text('5'); before = high_water_kb()
{"d = cdist(p, p)" if needs_matrix else ""}
answer = {call}
print(high_water_kb() - before)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peak = int(done.stdout.split()[-1]) * 1024
        out.append(
            {
                "name": f"memory: {name}",
                "n": n,
                "peak_mb": peak / 1e6,
                "over_packed_graph": peak / (n * n / 8),
            }
        )
    return out


GROUPS = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "random": random_graphs,
    "points": from_points,
    "knn": knn,
    "jmlr": jmlr,
    "memory": memory,
    "scaling": scaling,
}


def show(rows):
    def cell(row, key, form):
        return format(row[key], form) if key in row else ""

    print(
        "| workload | n | betti | from distances, ms | from points, ms | best peer, ms | x best peer "
        "| x ripser.py | points / distance matrix | other |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        other = [
            f"{key} {r[key]:.3g}"
            for key in (
                "from_rows_ms",
                "two_threads_gain",
                "over_sklearn",
                "peak_mb",
                "over_packed_graph",
            )
            if key in r
        ]
        best = f"{r['best_peer_ms']:.2f} {r['best_peer']}" if "best_peer" in r else ""
        print(
            f"| {r['name']} | {r['n']} | {r.get('betti', '')} | {cell(r, 'from_distances_ms', '.2f')} "
            f"| {cell(r, 'from_points_ms', '.2f')} | {best} | {cell(r, 'times_best_peer', '.1f')} "
            f"| {cell(r, 'times_ripser_py', '.1f')} | {cell(r, 'points_over_distance_matrix', '.3f')} "
            f"| {', '.join(other)} |",
            flush=True,
        )


def main():
    global REPEAT  # noqa: PLW0603
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="comma-separated: " + ", ".join(GROUPS))
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--out", type=Path, default=RESULTS / "engine.json")
    args = parser.parse_args()
    REPEAT = args.repeat
    from importlib.metadata import version

    packages = ("numpy", "scipy", "ripser", "gudhi", "giotto-ph", "scikit-learn")
    # Kept group by group, so that one group can be measured again.
    kept = json.loads(args.out.read_text())["groups"] if args.out.exists() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(",") if args.only else GROUPS:
        kept[name] = GROUPS[name](np.random.default_rng(0))
        show(kept[name])
        args.out.write_text(
            json.dumps(
                {
                    "command": "make bench-engine",
                    "date": date.today().isoformat(),
                    "engine": _native.engine_info(),
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                    "versions": {p: version(p) for p in packages},
                    "repeat": REPEAT,
                    "groups": kept,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
