"""Five other programs for the same Betti numbers, and how calls are timed against each other.

Peers are called with the scale as their threshold; what never dies by then is a Betti number. Imported
when called, so that a process for the memory of one of them holds no other.
"""

from __future__ import annotations

import gc
import time

import numpy as np
from scipy.sparse import coo_matrix

SLOW_S = 20.0  # a call slower than this is timed once
ENOUGH_S = 0.02  # quick calls are repeated within a round until they took as long
MOST_TRIANGLES = 15_000_000  # beyond, a full expansion does not fit


# ---- timing ---------------------------------------------------------------------------------------


def once(call, clock=time.process_time):
    """Milliseconds of one call, the median where quick ones are repeated, and the answer."""
    times = []
    while not times or (sum(times) < ENOUGH_S and len(times) < 20):
        start = clock()
        answer = call()
        times.append(clock() - start)
    return 1e3 * float(np.median(times)), answer


def timed(call, repeat, clock=time.process_time):
    """Median milliseconds over rounds, and the answer."""
    times, answer = in_turns({"": call}, repeat, clock)
    return float(np.median(times[""])), answer[""]


def in_turns(calls, repeat, clock=time.process_time):
    """Milliseconds of each call in every round, one call after the other, and the answers.

    Processor time of this process: with one thread that is what an idle machine would show, however
    many programs share this one.
    """
    times, answers = {name: [] for name in calls}, {}
    for name, call in calls.items():  # once unmeasured: what is imported or kept stays out
        ms, answers[name] = once(call, clock)
        if ms > 1e3 * SLOW_S:
            times[name].append(ms)
    for _ in range(repeat):
        gc.collect()
        for name, call in calls.items():
            if not times[name] or times[name][0] < 1e3 * SLOW_S:
                times[name].append(once(call, clock)[0])
    return times, answers


def against(ours, peers, repeat):
    """Our median, each peer's, and how many times ours the best of them takes, with its spread.

    Raises:
        AssertionError: another answer than ours.
    """
    times, answers = in_turns({"unknot": ours, **peers}, repeat)
    mine = times.pop("unknot")
    for name in peers:
        assert answers[name] == answers["unknot"], f"{name} says {answers[name]}, not {answers['unknot']}"
    medians = {name: float(np.median(t)) for name, t in times.items()}
    best = min(medians, key=medians.get)
    ratios = [theirs / own for theirs, own in zip(times[best], mine, strict=False)]
    ms = float(np.median(mine))
    return answers["unknot"], {
        "ours_ms": ms,
        "peers_ms": medians,
        "best_peer": best,
        "best_peer_ms": medians[best],
        "times_best_peer": float(np.median(ratios)),
        "times_best_peer_range": [min(ratios), max(ratios)],
        "times_ripser_py": medians["ripser.py"] / ms,
    }


# ---- peers ----------------------------------------------------------------------------------------


def open_bars(diagrams, max_dim):
    """How many never die, a dimension each."""
    bars = (np.asarray(d).reshape(-1, 2) for d in diagrams[: max_dim + 1])
    return tuple(int(np.isinf(b[:, 1]).sum()) for b in bars)


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


def by_gudhi_rips(d, radius, max_dim):
    from gudhi.sklearn import RipsPersistence

    rips = RipsPersistence(
        homology_dimensions=list(range(max_dim + 1)),
        threshold=radius,
        input_type="full distance matrix",
        homology_coeff_field=2,
    )
    return open_bars(rips.fit_transform([d])[0], max_dim)


def by_redzed(d, radius, max_dim):
    from redzed_tda import rips

    return open_bars(rips(d, maxdim=max_dim, threshold=radius), max_dim)


def every_peer(d, radius, max_dim):
    """Name -> call, for every peer, on the distances and on the 0/1 matrix of the graph."""
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
        out["RedZeD" + form] = lambda m=matrix, r=r: by_redzed(m, r, max_dim)
        out["giotto-ph" + form] = lambda m=matrix, r=r: by_giotto(m, r, max_dim, False)
        out["giotto-ph collapse" + form] = lambda m=matrix, r=r: by_giotto(m, r, max_dim, True)
        out["gudhi collapse" + form] = lambda m=matrix, r=r: by_gudhi(m, r, max_dim, True)
        out["gudhi RipsPersistence" + form] = lambda m=matrix, r=r: by_gudhi_rips(m, r, max_dim)
        if fits:
            out["gudhi" + form] = lambda m=matrix, r=r: by_gudhi(m, r, max_dim, False)
    out["ripser.py 0/1 sparse"] = lambda: by_ripser(sparse, 2.0, max_dim)
    return out
