"""The criteria that are one formula: of the weights, of a normalisation, of gradients; and chance."""

from __future__ import annotations

import numpy as np
import torch

from unknot.pruning.scoring.criteria import Criterion, Evidence, LayerScores, register
from unknot.pruning.structure.layers import width_of
from unknot.topology.cloud import FloatArray


@register("l1")
class L1(Criterion):
    """Sum of absolute weights (Li et al., ICLR 2017)."""

    def score(self, evidence: Evidence) -> dict[str, FloatArray]:
        return {name: l1_norms(evidence, name) for name in evidence.layers}


@register("taylor")
class Taylor(Criterion):
    """How much the loss changes with a factor on the filter (Molchanov et al., CVPR 2019)."""

    needs = "labels"

    def score(self, evidence: Evidence) -> dict[str, FloatArray]:
        changes = {name: evidence.observations[name].taylor for name in evidence.layers}
        return {name: change for name, change in changes.items() if change is not None}


@register("bn")
class BatchNormScale(Criterion):
    """|Scale| of the batch normalisation that follows (Liu et al., ICCV 2017), else the L1 norm."""

    needs = "samples"

    def score(self, evidence: Evidence) -> dict[str, FloatArray | LayerScores]:
        scores: dict[str, FloatArray | LayerScores] = {}
        for name in evidence.layers:
            gamma = evidence.observations[name].gamma
            scores[name] = gamma if gamma is not None else LayerScores(
                l1_norms(evidence, name), stand_in="l1", note="no batch normalisation follows: L1 norm"
            )  # fmt: skip
        return scores


@register("fpgm")
class GeometricMedian(Criterion):
    """Sum of distances to the weights of all other filters (He et al., CVPR 2019)."""

    def score(self, evidence: Evidence) -> dict[str, FloatArray]:
        weights = {name: evidence.weights(name) for name in evidence.layers}
        return {name: np.asarray(torch.cdist(w, w).sum(1).numpy()) for name, w in weights.items()}


@register("random")
class Chance(Criterion):
    """Uniform in [0, 1), from the seed."""

    def score(self, evidence: Evidence) -> dict[str, FloatArray]:
        rng = np.random.default_rng(evidence.seed)
        return {name: rng.random(width_of(layer)) for name, layer in evidence.layers.items()}


def l1_norms(evidence: Evidence, layer: str) -> FloatArray:
    """Sum of absolute weights of each filter ``[c]``."""
    return np.asarray(evidence.weights(layer).abs().sum(1).numpy())
