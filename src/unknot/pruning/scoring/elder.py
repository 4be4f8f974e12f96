"""The elder rule on the cloud of filters: how far each is from a more important one."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

from unknot.pruning.scoring.criteria import Criterion, Evidence, LayerScores, register
from unknot.pruning.scoring.formulas import L1, Taylor
from unknot.pruning.scoring.surgeon import Surgeon
from unknot.topology.cloud import FloatArray

FOREVER = 1.0  # the largest distance: the most important filter never dies


def filter_distances(correlation: FloatArray) -> FloatArray:
    """sqrt(1 - max(r, 0)^2) ``[c, c]``: 0 for copies, 1 for filters without a common course.

    It is the share of a filter's standard deviation that the other, times a positive factor, leaves
    unexplained.
    """
    together = np.clip(correlation, 0.0, 1.0)
    distances = np.sqrt(1.0 - together**2)
    np.fill_diagonal(distances, 0.0)
    return np.asarray(np.maximum(distances, distances.T))


def nearest_elder(importance: FloatArray, distances: FloatArray) -> FloatArray:
    """Each filter's distance ``[c]`` to the nearest more important one; 1 for the most important.

    Of filters as important ``[c]`` as each other the first is the elder; distances are ``[c, c]``.
    """
    order = np.argsort(-importance, kind="stable")
    ranked = distances[np.ix_(order, order)]
    younger = np.tril(np.ones_like(ranked, dtype=bool), -1)  # column is elder than row
    deaths = np.empty(len(order))
    deaths[order] = np.where(younger, ranked, FOREVER).min(axis=1, initial=FOREVER)
    return deaths


def merge_heights(importance: FloatArray, distances: FloatArray) -> FloatArray:
    """The death ``[c]`` of each filter in H0 of the Rips filtration by the elder rule; 1 for the eldest.

    A filter dies where its component first holds a more important one: at its single-linkage distance
    to the nearest elder. Never above `nearest_elder`, because a chain of filters can lead to an elder in
    smaller steps. Arguments as there.
    """
    if len(importance) < 2:
        return nearest_elder(importance, distances)
    tree = linkage(squareform(distances, checks=False), "single")
    return nearest_elder(importance, squareform(cophenet(tree)))


def elder_scores(
    importance: FloatArray, correlation: FloatArray, *, strict: bool, comparable: bool = False
) -> FloatArray:
    """Importance ``[c]``, >= 0, times death by the channels' correlation: high for what nothing replaces.

    Deaths are those of `merge_heights` where ``strict``, else of `nearest_elder`. The importance is taken
    over the layer's mean unless those of all layers are ``comparable``.
    """
    if not comparable:
        mean = importance.mean()
        importance = importance / mean if mean > 0 else np.ones_like(importance)
    deaths = merge_heights if strict else nearest_elder
    return np.asarray(importance * deaths(importance, filter_distances(correlation)))


class Elder(Criterion):
    """The scores of another criterion times the distance to what is more important (`elder_scores`)."""

    def __init__(self, importance: Criterion, *, strict: bool = False) -> None:
        self.importance, self.strict = importance, strict
        self.needs = "labels" if importance.needs == "labels" else "samples"
        self.comparable = importance.comparable

    def score(self, evidence: Evidence) -> dict[str, FloatArray]:
        scores = self.importance.score(evidence)
        return {
            layer: elder_scores(
                np.asarray(values.values if isinstance(values, LayerScores) else values),
                evidence.observations[layer].correlation,
                strict=self.strict,
                comparable=self.comparable,
            )
            for layer, values in scores.items()
        }


register("elder-surgeon", Elder(Surgeon()))
register("elder", Elder(L1()))
register("elder-taylor", Elder(Taylor()))
register("elder-h0", Elder(L1(), strict=True))
register("elder-h0-taylor", Elder(Taylor(), strict=True))
