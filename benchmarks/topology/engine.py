"""The engine, by its public names, against five peers: one process, one run, one thread.

    python benchmarks/topology/engine.py [--only W1,W4] [--repeat 5]

Every peer gets the distance matrix with the scale as its threshold, and the 0/1 matrix of the graph
at that scale, and is compared by its faster form. Every answer must be equal, or the run fails.
Times are medians over rounds in which all take turns, in processor time but for two threads; ratios
are medians of the rounds' ratios, with their range. Writes benchmarks/results/engine.json.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import subprocess
import sys
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from clouds import circles, linked_rings, scale_between, spheres
from peers import against, by_giotto, by_gudhi, by_redzed, by_ripser, every_peer, timed
from scipy.spatial.distance import cdist

import unknot as uk

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parents[1] / "results"
REPEAT = 5
PACKAGES = ("numpy", "scipy", "ripser", "redzed-tda", "gudhi", "giotto-ph", "scikit-learn")


def from_distances(d, radius, max_dim=1):
    return uk.betti_numbers(uk.rips_graph(distances=d, radius=radius), max_dim=max_dim).values


def from_points(clouds, threads=1, **rule):
    """Of one cloud or a list; `uk.betti_numbers` of points with the number of threads to choose."""
    many = isinstance(clouds, list)
    out = uk.betti_numbers_batch(clouds if many else [clouds], threads=threads, **rule)
    return [betti.values for betti in out] if many else out[0].values


def against_peers(name, d, radius, max_dim, points=None):
    """One row: from the distance matrix, from the graph, and from points where there are any."""
    peers = every_peer(d, radius, max_dim)
    answer, row = against(lambda: from_distances(d, radius, max_dim), peers, REPEAT)
    row = {"name": name, "n": len(d), "betti": answer, "from_distances_ms": row.pop("ours_ms"), **row}
    graph = uk.rips_graph(distances=d, radius=radius)
    row["from_graph_ms"], again = timed(lambda: uk.betti_numbers(graph, max_dim=max_dim).values, REPEAT)
    assert again == answer
    if points is not None:
        row |= points_row(points, radius, max_dim, answer)
    return row


def points_row(points, radius, max_dim, answer):
    """Points to Betti numbers, over the time of a float64 distance matrix alone."""
    ms, again = timed(lambda: from_points(points, radius=radius, max_dim=max_dim), REPEAT)
    assert again == answer, (again, answer)
    matrix, _ = timed(lambda: cdist(points, points), REPEAT)
    share = ms / matrix
    return {"from_points_ms": ms, "distance_matrix_ms": matrix, "points_over_distance_matrix": share}


# ---- workloads ------------------------------------------------------------------------------------


def w1(rng):
    p = circles(rng, 2000)
    return [against_peers("W1 nine circles", cdist(p, p), 0.5, 1, p)]


def w2(rng):
    p, _ = linked_rings(rng, 1500)
    out = []
    for k in (12, 35):
        i, j = uk.knn_graph(p, k=k, hops=2).edges().T
        d = np.full((len(p), len(p)), 3.0)
        d[i, j] = d[j, i] = 1.0
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
    radius = scale_between(cdist(clouds[0], clouds[0]), 0.05)
    distances = [cdist(c, c) for c in clouds]
    peers_of = [every_peer(d, radius, 1) for d in distances]

    def by(peer):
        return lambda: [peers[peer]() for peers in peers_of]

    answer, row = against(
        lambda: from_points(clouds, radius=radius), {peer: by(peer) for peer in peers_of[0]}, REPEAT
    )
    row = {"name": "W5 256 filters, n=300, 49-D, 5 %", "n": 300, "betti": answer[0], **row}
    row["from_points_ms"] = row.pop("ours_ms")
    row["distance_matrix_ms"], _ = timed(lambda: [cdist(c, c) for c in clouds], REPEAT)
    row["points_over_distance_matrix"] = row["from_points_ms"] / row["distance_matrix_ms"]
    # The gain of a second thread by the clock on the wall.
    walls = {}
    for threads in (1, 2):
        walls[threads], again = timed(
            lambda t=threads: from_points(clouds, threads=t, radius=radius), REPEAT, time.perf_counter
        )
        assert again == answer
    row["two_threads_gain"] = walls[1] / walls[2]
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


def of_points(rng):
    cases = [("circles", circles(rng, n), 0.5) for n in (1000, 2000, 4000)]
    cases += [("linked rings", linked_rings(rng, n, tube=0.1)[0], 0.4) for n in (1000, 4000)]
    cases += [("spheres", spheres(rng, n), 0.5) for n in (1000, 4000)]
    for n in (300, 500, 2000):
        p = rng.normal(size=(n, 49))
        cases.append(("Gaussian 49-D", p, scale_between(cdist(p, p), 0.05)))
    out = []
    for name, p, radius in cases:
        answer = from_distances(cdist(p, p), radius)
        row = {"name": f"from points: {name}", "n": len(p), "betti": answer}
        out.append(row | points_row(p, radius, 1, answer))
    return out


def knn(rng):
    from sklearn.neighbors import NearestNeighbors

    p, _ = linked_rings(rng, 1500)
    ours, answer = timed(lambda: from_points(p, k=14, hops=2), REPEAT)
    graph, _ = timed(lambda: uk.knn_graph(p, k=14), REPEAT)
    theirs, _ = timed(lambda: NearestNeighbors(n_neighbors=14).fit(p).kneighbors(), REPEAT)
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


def wide(rng):
    """Graphs of 1,000 points of 50,000 features against one float32 matrix product of them."""
    normal = rng.normal(size=(1000, 50_000)).astype(np.float32)
    mixed = rng.normal(size=(1000, 20)) @ rng.normal(size=(20, 50_000))
    mixed = np.maximum(normal + mixed, 0, dtype=np.float32)
    out = []
    for name, p in (("Gaussian", normal), ("20 directions, noise, ReLU", mixed)):
        product, gram = timed(lambda p=p: p @ p.T, REPEAT)
        norms = np.diag(gram)
        radius = float(np.sqrt(np.median(norms[:, None] + norms - 2 * gram)))
        row = {"name": f"50,000 features: {name}", "n": len(p), "product_ms": product}
        row["rips_ms"], _ = timed(lambda p=p, r=radius: uk.rips_graph(p, radius=r), REPEAT)
        row["knn_ms"], _ = timed(lambda p=p: uk.knn_graph(p, k=14), REPEAT)
        out.append(
            row | {f"{rule}_over_product": row[f"{rule}_ms"] / product for rule in ("rips", "knn")}
        )
    return out


def jmlr(rng):
    p, ring = linked_rings(rng, 45_000, tube=0.15)
    out = []
    for label in (0, 1):
        cloud = p[ring == label][:22_500]
        for threads in (1, 2):
            ms, answer = timed(
                lambda c=cloud, t=threads: from_points(c, threads=t, k=14, hops=2), 3, time.perf_counter
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
        ms, answer = timed(lambda p=p: from_points(p, radius=0.5), 3)
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
                "RedZeD": lambda: by_redzed(d, 0.5, 1),
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
    "unknot from points": "from_points(p, radius=0.5)",
    "unknot from a graph": "uk.betti_numbers(uk.rips_graph(p, radius=0.5))",
    "unknot incompressible": "from_points(q, radius=7.0)",
    "ripser.py": "by_ripser(d, 0.5, 1)",
    "RedZeD": "by_redzed(d, 0.5, 1)",
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
import ripser, gph, gudhi, redzed_tda
from_points(np.eye(3), radius=1.0)
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
    "points": of_points,
    "knn": knn,
    "wide": wide,
    "jmlr": jmlr,
    "memory": memory,
    "scaling": scaling,
}


def show(rows):
    def cell(row, key, form):
        return format(row[key], form) if key in row else ""

    def ratio(row):
        if "times_best_peer" not in row:
            return ""
        low, high = row["times_best_peer_range"]
        return f"{row['times_best_peer']:.1f} ({low:.1f} to {high:.1f})"

    print(
        "| workload | n | betti | from distances, ms | from points, ms | best peer, ms | x best peer "
        "| x ripser.py | points / distance matrix | other |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        other = [
            f"{key} {r[key]:.3g}"
            for key in (
                "from_graph_ms",
                "two_threads_gain",
                "over_sklearn",
                "rips_over_product",
                "knn_over_product",
                "peak_mb",
                "over_packed_graph",
            )
            if key in r
        ]
        best = f"{r['best_peer_ms']:.2f} {r['best_peer']}" if "best_peer" in r else ""
        print(
            f"| {r['name']} | {r['n']} | {r.get('betti', '')} | {cell(r, 'from_distances_ms', '.2f')} "
            f"| {cell(r, 'from_points_ms', '.2f')} | {best} | {ratio(r)} "
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
    doctor = [sys.executable, "-m", "unknot", "doctor", "--json"]
    engine = json.loads(subprocess.run(doctor, capture_output=True, check=True).stdout)["engine"]
    # Kept group by group, so that one group can be measured again.
    kept = json.loads(args.out.read_text())["groups"] if args.out.exists() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(",") if args.only else GROUPS:
        kept[name] = GROUPS[name](np.random.default_rng(0))
        show(kept[name])
        args.out.write_text(
            json.dumps(
                {
                    "command": f"python benchmarks/topology/engine.py --repeat {REPEAT}",
                    "date": date.today().isoformat(),
                    "engine": engine,
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                    "versions": {p: version(p) for p in PACKAGES},
                    "repeat": REPEAT,
                    "groups": kept,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
