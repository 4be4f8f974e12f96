"""Islands from their definition, in plain Python: the oracle of the engine's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist


def plain_islands(
    points: NDArray[Any], k: int, z: float
) -> tuple[list[int], list[float], float, list[set[int]], list[float]]:
    """Of distinct points, by all their distances.

    Returns:
        members: the island of each point; prominences: falling; dimension; near: the neighbours of each
        point in the graph; density: log densities.
    """
    n = len(points)
    distances = cdist(points.astype(np.float64), points.astype(np.float64))
    order = [
        sorted((j for j in range(n) if j != i), key=lambda j: (distances[i, j], j)) for i in range(n)
    ]
    radius = [distances[i, order[i][k - 1]] for i in range(n)]
    logs = [
        sum(math.log(radius[i] / distances[i, j]) for j in order[i][: k - 1]) / (k - 1) for i in range(n)
    ]
    dimension = n / sum(logs)
    density = [-dimension * math.log(r) for r in radius]
    near: list[set[int]] = [set(order[i][:k]) for i in range(n)]
    for i in range(n):
        for j in order[i][:k]:
            near[j].add(i)
    for i, j in companions(order, radius, k):
        near[i].add(j)
        near[j].add(i)

    falling = sorted(range(n), key=lambda i: (-density[i], i))
    above = {v: at for at, v in enumerate(falling)}
    component: dict[int, frozenset[int]] = {}  # of each point that has entered
    ends: dict[int, tuple[float, int | None]] = {}  # of each peak: prominence, and the point it meets
    for v in falling:
        entered = sorted((u for u in near[v] if u in component), key=above.__getitem__)
        if not entered:
            ends[v] = (math.inf, None)
        mine = frozenset([v]) | (component[entered[0]] if entered else frozenset())
        for u in entered:
            theirs = component[u]
            if u not in mine:
                low = max((min(c, key=above.__getitem__) for c in (mine, theirs)), key=above.__getitem__)
                side = mine if low in mine else theirs
                target = next(w for w in entered if w not in side)
                ends[low] = ((density[low] - density[v]) / math.sqrt(2 / k), target)
                mine |= theirs
        for u in mine:
            component[u] = mine
    peaks = sorted(ends, key=lambda p: (-ends[p][0], above[p]))
    count = sum(ends[p][0] >= z for p in peaks)
    number = {p: i for i, p in enumerate(peaks[:count])}

    members: dict[int, int] = {}
    for v in falling:  # a point after the denser one that it follows
        w = v
        while w not in number:
            target = ends[w][1] if w in ends else min(near[w], key=above.__getitem__)
            assert target is not None
            w = target
        members[v] = number[w]
    return [members[v] for v in range(n)], [ends[p][0] for p in peaks], dimension, near, density


def companions(order: list[list[int]], radius: list[float], k: int) -> list[tuple[int, int]]:
    """Pairs that at least k points have among their k nearest, of a radius up to 1.2 times the pair's."""
    holders = [{v for v in range(len(order)) if i in order[v][:k]} for i in range(len(order))]
    return [
        (i, j)
        for i in range(len(order))
        for j in range(i)
        if sum(radius[v] <= 1.2 * max(radius[i], radius[j]) for v in holders[i] & holders[j]) >= k
    ]
