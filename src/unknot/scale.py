"""calibrate: the scale at which a cloud's Betti numbers are stable."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from numpy.typing import ArrayLike

from unknot.cloud import PointCloud, make_cloud
from unknot.errors import InputError, require_count
from unknot.graph import Scale, knn_graph
from unknot.homology import betti_numbers

# Roughly geometric, so that every step weighs the same; hops = 2 as in Naitzat et al. (2020), whose
# neighbour graphs reach two steps.
K_LADDER = (5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35)
HOPS = 2
FALLBACK = Scale(k=14, hops=HOPS)
MIN_RUN = 3


def calibrate(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    max_points: int = 1000,
    max_dim: int = 1,
    seed: int = 0,
) -> Scale:
    """Find the kNN-hop scale at which the Betti numbers of every class cloud stay the same.

    Walks a ladder of k (5 to 35) at two hops, measures all class clouds at each, and returns the
    middle of the longest run of equal answers. A run in which every class is one blob, (1, 0), does
    not count: any cloud ends there once the neighbourhoods are large enough.

    Args:
        points: ``[n, ...]``, one row a sample.
        labels: ``[n]`` integers; without them the cloud is one class.
        max_points: stratified seeded subsample that is measured.
        max_dim: the highest Betti number that has to be stable.

    Returns:
        A Scale; ``determined`` is False, with the reason in ``note``, where fewer than three steps of
        the ladder agree on anything but one blob. It then holds k = 14, hops = 2 (fewer where the
        smallest class has fewer points), a convention and not a finding.
    """
    require_count("max_points", max_points, minimum=2)
    cloud = make_cloud(points, labels, max_points=max_points, seed=seed)
    clouds = [cloud.of_class(c) for c in cloud.classes()] or [cloud]
    smallest = min(c.n_points for c in clouds)
    if smallest < 2:
        raise InputError(
            "a class of one distinct point", "at least 2 distinct points a class", "add samples"
        )
    answers = _climb(clouds, smallest, max_dim)
    runs = [list(run) for _, run in groupby(answers, key=lambda answer: answer[1])]
    shaped = [run for run in runs if any(sum(values) != 1 for values in run[0][1])]
    best = max(shaped, key=len, default=[])
    if len(best) < MIN_RUN:
        return replace(
            FALLBACK,
            k=min(14, smallest - 1),
            determined=False,
            note=f"no {MIN_RUN} neighbouring k of {answers[0][0]} to {answers[-1][0]} agree on more "
            "than one blob a class",
        )
    first, last = best[0][0], best[-1][0]
    middle = best[len(best) // 2][0]
    return Scale(k=middle, hops=HOPS, note=f"stable for k = {first} to {last}, n = {cloud.n_points}")


def _climb(
    clouds: list[PointCloud], smallest: int, max_dim: int
) -> list[tuple[int, tuple[tuple[int, ...], ...]]]:
    """(k, Betti numbers of each cloud) up the ladder, until every cloud is one blob."""
    answers = []
    for k in [k for k in K_LADDER if k < smallest] or [smallest - 1]:
        values = tuple(
            betti_numbers(knn_graph(c.points, k=k, hops=HOPS), max_dim=max_dim).values for c in clouds
        )
        answers.append((k, values))
        if all(sum(v) == 1 for v in values):
            break
    return answers
