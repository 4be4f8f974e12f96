"""The predicted milliseconds of a pruned model as the cost that widths are chosen under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from unknot.pruning.planning.speed.latency_model import LatencyModel
from unknot.pruning.structure.channels import Unit


class LatencyCost:
    """`LatencyModel.milliseconds` of so many units gone from each pool, remembered layer by layer.

    Args:
        latency: of the model.
        ranked: the units of each pool, the first to go first.
    """

    def __init__(self, latency: LatencyModel, ranked: Sequence[Sequence[Unit]]) -> None:
        graph = latency.graph
        self._latency = latency
        self._numbers = [np.array([graph.numbers[unit[0]] for unit in of], int) for of in ranked]
        self._every = ~graph.gone({})
        pool_of = {int(n): p for p, numbers in enumerate(self._numbers) for n in numbers}
        beside: defaultdict[int, set[int]] = defaultdict(set)
        self._pools: dict[str, list[int]] = {}
        for name, layer in latency.layers.items():
            units = {*layer.inputs.tolist(), *layer.outputs.tolist()}
            pools = {pool_of[n] for n in units if n in pool_of}
            self._pools[name] = sorted(pools)
            for p in pools:
                beside[p] |= pools
        self._beside = [sorted(beside[p] | {p}) for p in range(len(ranked))]
        self._known: dict[tuple[str, tuple[int, ...]], tuple[float, float]] = {}
        self._elements = sum(layer.elements(self._every) for layer in latency.layers.values())

    def of(self, gone: Sequence[int]) -> float:
        """Milliseconds with ``gone[p]`` units of pool p gone."""
        layers = [self._of_layer(name, gone) for name in self._pools]
        stays, shrinks = self._latency.rest_ms
        left = sum(elements for _, elements in layers) / max(self._elements, 1e-12)
        return sum(taken for taken, _ in layers) + stays + shrinks * left

    def beside(self, pool: int) -> Sequence[int]:
        """The pools on whose widths what this one costs depends."""
        return self._beside[pool]

    def _of_layer(self, name: str, gone: Sequence[int]) -> tuple[float, float]:
        pools = self._pools[name]
        key = name, tuple(gone[p] for p in pools)
        if key not in self._known:
            stays = self._every.copy()
            for p in pools:
                stays[self._numbers[p][: gone[p]]] = False
            layer = self._latency.layers[name]
            self._known[key] = layer.milliseconds(stays), layer.elements(stays)
        return self._known[key]
