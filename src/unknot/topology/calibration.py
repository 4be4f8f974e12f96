"""calibrate: the scale at which a cloud's Betti numbers are stable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from unknot import _native
from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_choice, require_count
from unknot.core.memory import require_memory
from unknot.topology.cloud import FloatArray, make_cloud
from unknot.topology.distances import median_distance, squared_distances
from unknot.topology.graph import NeighborGraph, rips_graph
from unknot.topology.homology import betti_numbers, require_dim
from unknot.topology.rules import estimate_memory, expand_hops
from unknot.topology.scale import Scale

# Roughly geometric, so that every step weighs the same.
K_LADDER = (4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42)
# Where their runs are about as wide, two hops come first, as in Naitzat et al. (2020); one hop comes
# last, because a random subsample tears open what a single hop had closed.
HOPS = (2, 3, 1)
AS_WIDE = 0.75
RADIUS_STEP = 2 ** (1 / 8)
RADIUS_STEPS = 64
# Thresholds between what noise shows and what shapes show: see docs/scale.md.
KNN_WIDTH = math.log(4)
RADIUS_WIDTH = math.log(2)
CONVENTION = Scale(k=14, hops=2)
MOST_POINTS = 10_000
# Up to here packed rows (32 MB): in many dimensions three hops join almost every pair.
DENSE = 16_384

Answer = tuple[tuple[int, ...], ...]  # Betti numbers of each class


class Run(NamedTuple):
    """Neighbouring rungs of a ladder (k, or radii) that give one answer."""

    answer: Answer
    rungs: tuple[float, ...]

    @property
    def width(self) -> float:
        """log(last / first): how far the scale can move without changing the answer."""
        return math.log(self.rungs[-1] / self.rungs[0])

    @property
    def middle(self) -> float:
        """The rung nearest to the geometric mean of first and last."""
        # Divided before multiplied: squares of radii could overflow.
        return min(
            self.rungs, key=lambda rung: abs(math.log(rung / self.rungs[0] * (rung / self.rungs[-1])))
        )

    def __str__(self) -> str:
        return f"{self.rungs[0]:.4g} to {self.rungs[-1]:.4g}"


def calibrate(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    rule: Literal["knn", "radius"] = "knn",
    max_points: int | None = None,
    max_dim: int = 1,
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> Scale:
    """Find the scale at which the Betti numbers of all class clouds together stay the same.

    Every k of a ladder from 4 to 42 is measured at one, two and three hops. A run is a stretch of the
    ladder with one answer; its width is log(last k / first k). The answer whose longest runs, one for
    each number of hops, are widest together is taken if they reach log 4: k may then grow by 1.6 on
    average, whatever the hops, and no class changes. Returned is the middle of its run at two hops,
    or at three or one where that run is wider by a third.

    The answer of one blob a class, (1, 0), is never taken: every cloud gives it once the
    neighbourhoods are large, so it says nothing about the scale. A solid disc and Gaussian noise have
    the same homology, and both are called undetermined.

    Args:
        points: ``[n, ...]``, one row a sample.
        labels: ``[n]`` integers; without them the cloud is one class.
        rule: "knn" searches k and hops, which have no unit and can be held for all layers of a net;
            "radius" searches the Rips radius, which holds for these points alone. Its ladder has
            eight steps an octave, and a run has to be wider than log 2.
        max_points: stratified seeded subsample that is measured; None takes up to 10,000. The scale
            belongs to this density: calibrate with as many points as you measure with.
        max_dim: the highest Betti number that has to be stable.
        seed: of the subsample.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Returns:
        A Scale; ``note`` tells the stable range. ``determined`` is False, with the reason in ``note``,
        where no answer is stable; it then holds a convention and not a finding: k = 14, hops = 2 (fewer
        where every class is smaller), or with the rule "radius" the median distance of a point to its
        14 nearest of the same class. A class with k points or fewer is measured with all its other
        points as neighbours.

    Raises:
        InputError: what `make_cloud` refuses, or one distinct point in every class.
    """
    require_choice("rule", rule, ("knn", "radius"))
    require_dim(max_dim)
    clouds = list(class_clouds(points, labels, max_points=max_points, seed=seed).values())
    largest = max(map(len, clouds))
    if largest < 2:
        raise InputError(
            "one distinct point a class", "at least 2 distinct points in a class", "add samples"
        )
    n = sum(map(len, clouds))
    search = _knn_scale if rule == "knn" else _radius_scale
    outcome = search(clouds, max_dim, n, progress)
    if isinstance(outcome, Scale):
        return outcome
    return replace(_usual(rule, clouds), determined=False, note=f"{outcome}, n = {n}")


def class_clouds(
    points: ArrayLike, labels: ArrayLike | None = None, *, max_points: int | None = None, seed: int = 0
) -> dict[int | None, FloatArray]:
    """Class clouds ``[n_c, d]`` of `make_cloud` by label, or one under None; 10,000 points by default."""
    limit = MOST_POINTS if max_points is None else require_count("max_points", max_points, minimum=2)
    cloud = make_cloud(points, labels, max_points=limit, seed=seed)
    classes = cloud.classes()
    return {c: cloud.of_class(c).points for c in classes} if classes else {None: cloud.points}


def _knn_scale(clouds: list[FloatArray], max_dim: int, n: int, progress: ShowProgress) -> Scale | str:
    """The scale, or the reason why there is none."""
    neighbours = [RankedNeighbours(cloud, max(K_LADDER)) for cloud in clouds]
    ladder = [k for k in K_LADDER if k < max(map(len, clouds))]
    longest: dict[Answer, dict[int, Run]] = {}
    for hops in track(HOPS, "calibrating the scale", show=progress):
        # b2 of a nearly complete graph takes long. For b1 alone the ladder goes on: a thin sample of a
        # ring is one blob, an arc, until k bridges its widest gap.
        climb = _climb(ladder, partial(_graphs, neighbours, hops), max_dim, to_blobs=max_dim > 1)
        for run in _runs(climb):
            by_hops = longest.setdefault(run.answer, {})
            by_hops[hops] = max(by_hops.get(hops, run), run, key=lambda r: r.width)
    blobs = next((runs for answer, runs in longest.items() if _is_blobs(answer)), {})
    shaped = [runs for answer, runs in longest.items() if not _is_blobs(answer)]
    best = max(shaped, key=lambda runs: sum(r.width for r in runs.values()), default={})
    if sum(run.width for run in best.values()) < KNN_WIDTH:
        return _why_not(blobs.get(2), "k")
    widest = max(run.width for run in best.values())
    hops = next(h for h in HOPS if h in best and best[h].width >= AS_WIDE * widest)
    ranges = ", ".join(f"{best[h]} at {h} hop{'s' * (h > 1)}" for h in sorted(best))
    k, note = int(best[hops].middle), f"stable for k = {ranges}, n = {n}"
    if k >= min(map(len, clouds)):
        note += "; k lowered in classes of k points or fewer"
    return Scale(k=k, hops=hops, note=note)


def _graphs(neighbours: list[RankedNeighbours], hops: int, k: float) -> list[NeighborGraph]:
    return [ranked.graph(int(k), hops) for ranked in neighbours]


def _radius_scale(clouds: list[FloatArray], max_dim: int, n: int, progress: ShowProgress) -> Scale | str:
    start = min(RankedNeighbours(cloud, 3).spacing for cloud in clouds if len(cloud) > 1)
    if not 0 < start < math.inf:
        return "the distances are beyond what a float64 can hold"
    rungs = [start * RADIUS_STEP**step for step in range(RADIUS_STEPS)]
    rungs = [rung for rung in rungs if rung < math.inf]
    ladder = track(rungs, "calibrating the scale", show=progress)
    climb = _climb(ladder, lambda r: [rips_graph(c, radius=r) for c in clouds], max_dim, to_blobs=True)
    runs = list(_runs(climb))
    blobs = next((run for run in runs if _is_blobs(run.answer)), None)
    best = max((run for run in runs if run is not blobs), key=lambda run: run.width, default=None)
    # Half a step of tolerance: a run of exactly an octave is noise's widest, rounding must not decide.
    if best is None or best.width < RADIUS_WIDTH + math.log(RADIUS_STEP) / 2:
        return _why_not(blobs, "radius")
    return Scale(radius=best.middle, note=f"stable for radius = {best}, n = {n}")


def _usual(rule: str, clouds: list[FloatArray]) -> Scale:
    """The convention; as a radius the median distance of what its k joins, where a float holds it."""
    convention = CONVENTION.lowered_to(max(map(len, clouds)))
    if rule == "knn" or convention.k is None:
        return convention
    reach = float(np.median([RankedNeighbours(c, convention.k).spacing for c in clouds if len(c) > 1]))
    return Scale(radius=reach) if 0 < reach < math.inf else convention


def _climb(
    ladder: Iterable[float],
    graphs: Callable[[float], list[NeighborGraph]],
    max_dim: int,
    *,
    to_blobs: bool,
) -> Iterator[tuple[float, Answer]]:
    """Each rung with its answer; with ``to_blobs`` up to the first at which every class is one blob."""
    for rung in ladder:
        answer = tuple(betti_numbers(graph, max_dim=max_dim).values for graph in graphs(rung))
        yield rung, answer
        if to_blobs and _is_blobs(answer):
            return


def _is_blobs(answer: Answer) -> bool:
    return all(sum(values) == 1 for values in answer)


def _runs(rungs: Iterable[tuple[float, Answer]]) -> Iterator[Run]:
    for answer, run in groupby(rungs, key=lambda rung: rung[1]):
        yield Run(answer, tuple(rung for rung, _ in run))


def _why_not(blobs: Run | None, what: str) -> str:
    if blobs is None:
        return f"no answer is stable over {what}; more points may settle it"
    return f"nothing is stable but one blob a class (from {what} = {blobs.rungs[0]:.4g}), as in noise"


class RankedNeighbours:
    """The kNN-hop graphs of points ``[n, d]`` for every k up to min(``most``, n - 1), from one search.

    Each pair that `knn_graph` joins for the largest k is kept with the smallest k that joins it.
    """

    def __init__(self, points: FloatArray, most: int) -> None:
        self.n = len(points)
        self.most = min(most, self.n - 1)
        require_memory(self.n, estimate_memory(self.n, k=most, hops=max(HOPS)) // 4, "kNN-hop graphs")
        if self.most < 1:
            self.indptr, self.indices = np.zeros(self.n + 1, np.int64), np.empty(0, np.int32)
        else:
            self.indptr, self.indices = _native.knn_edges(points, self.most)
        self.rows = np.repeat(np.arange(self.n), np.diff(self.indptr))
        mantissas, exponents = squared_distances(points, self.rows, self.indices)
        # Of points at the same distance the one with the lower index is the nearer, as in knn_graph.
        order = np.lexsort((self.indices, mantissas, exponents, self.rows))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - self.indptr[self.rows]
        opposite = np.lexsort((self.rows, self.indices))  # where (j, i) stands, for each (i, j)
        self.least_k = np.minimum(rank, rank[opposite]) + 1
        self.spacing = median_distance(mantissas, exponents) if len(mantissas) else 0.0

    def graph(self, k: int, hops: int) -> NeighborGraph:
        """`knn_graph` of the points at min(k, n - 1) and ``hops``."""
        keep = self.least_k <= k
        lengths = np.bincount(self.rows[keep], minlength=self.n)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        indices = self.indices[keep]
        scale = Scale(k=k, hops=hops).lowered_to(max(self.n, 1))
        return NeighborGraph(self.n, scale, *expand_hops(indptr, indices, hops, DENSE))
