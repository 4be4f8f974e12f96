"""What is lost with a channel once everything that takes it in has been refitted to do without.

A layer that weighs channels against each other (a *consumer*) can make up for a channel that goes by what
the others share with it. What it cannot make up for has a closed form: with C the covariance of the
consumer's input entries and W_u its weights on the entries of channel u,

    cost(u) = trace(W_u [(C^-1)_uu]^-1 W_u^T) / variance of the consumer's outputs,

the increase of its relative squared error after least squares on what is left (the optimal brain surgeon
of Hassibi and Stork, NIPS 1992, for a linear map and blocks of weights). Channels go one by one, the
cheapest first; after each, W and C^-1 become those of the refitted consumer, so that of two channels that
stand in for each other the second is dear. No labels, no gradients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unknot.core.console import track
from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, Probe, map_tensors
from unknot.nets.running import as_it_was, call_model, n_samples, placed
from unknot.pruning.scoring.criteria import Criterion, Evidence, register
from unknot.pruning.structure.channels import Channel, ChannelGraph, Unit, trace_channels
from unknot.pruning.structure.layers import all_layers, width_of
from unknot.pruning.structure.linear_maps import LinearMap, Rows
from unknot.pruning.structure.map_calls import watching_maps

ROWS = 6144  # places of a consumer's outputs whose inputs are looked at
ENTRIES = 1200  # above, the taps of a convolution share one covariance of channels
RIDGE = 1e-3  # of the mean variance of the entries
BATCH = 64
TOGETHER = 256  # units whose costs are followed one by one while those of the others wait
EVERYTHING = 1.0  # the cost of what no consumer's error tells of: the model's output depends on it


def removal_costs(evidence: Evidence) -> dict[Channel, float]:
    """The cost of each output channel of the evidence's layers, when its turn to go has come.

    Costs of different layers can be compared: each is a share of the output variance of what takes it
    in, summed over these consumers. Channels that go together have one cost. Transposed and grouped
    consumers are taken as they are, without refitting.

    Raises:
        InputError: a model whose channels cannot be followed; layers with NaN.
    """
    assert evidence.probe is not None
    probe = Probe(placed(evidence.probe.inputs, evidence.model))
    graph = evidence.structure.graph if evidence.structure else _followed(evidence, probe.inputs)
    losses = _lost_inputs(graph)
    layers = {name: m for name, m in all_layers(evidence.model).items() if name in losses}
    seen = _watch(evidence.model, probe, layers, evidence.seed)
    pools = [pool.units for pool in graph.pools()]
    costs: dict[Channel, float] = {}
    for units in track(pools, "weighing channels", show=evidence.progress):
        consumers = []
        for name, of_channels in losses.items():
            lost = [sorted({i for c in unit for i in of_channels.get(c, ())}) for unit in units]
            if name in seen and any(lost):
                consumers.append(_Consumer.start(seen[name], lost))
        for unit, cost in zip(units, _eliminate(units, consumers), strict=True):
            costs |= dict.fromkeys(unit, cost)
    return costs


@register("surgeon")
class Surgeon(Criterion):
    """The cost of a filter when its turn to go has come (`removal_costs`)."""

    needs = "samples"
    comparable = True

    def score(self, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
        costs = removal_costs(evidence)
        return {
            name: np.array([costs.get((name, i), EVERYTHING) for i in range(width_of(layer) or 0)])
            for name, layer in evidence.layers.items()
        }


def _lost_inputs(graph: ChannelGraph) -> dict[str, dict[Channel, list[int]]]:
    """{consumer: {channel: the consumer's inputs that go with it}}."""
    losses: dict[str, dict[Channel, list[int]]] = {}
    for consumer, units in graph.inputs.items():
        of_unit: defaultdict[int, list[int]] = defaultdict(list)
        for i, unit in enumerate(units.tolist()):
            if unit >= 0:
                of_unit[unit].append(i)
        if of_unit:
            losses[consumer] = {c: i for unit, i in of_unit.items() for c in graph.units[unit]}
    return losses


def _followed(evidence: Evidence, inputs: Inputs) -> ChannelGraph:
    example = map_tensors(inputs, lambda t: t[:2])
    try:
        return trace_channels(evidence.model, example, list(evidence.layers))
    except InputError as error:
        reason = (str(error.__cause__ or error).splitlines() or [""])[0][:120]
        raise InputError(
            f"a {type(evidence.model).__name__} whose channels cannot be followed ({reason})",
            "a model whose channels can be followed, for a criterion with 'surgeon'",
            "pass criterion='elder', which follows none",
        ) from error


@dataclass
class _Entering:
    """Running sums over some places of what enters a consumer.

    ``layer`` is as in its first call.
    """

    layer: LinearMap
    alone: bool  # variances only; else of channels, summed over taps
    rows: int = 0
    sums: Tensor | float = 0.0  # [entries]
    products: Tensor | float = 0.0  # [channels, channels] or [channels]
    taps: int = 1

    def add(self, x: Tensor) -> None:
        """``x [r, channels, taps]``."""
        self.taps = x.shape[2]
        self.rows += len(x)
        self.sums = self.sums + x.flatten(1).double().sum(0)
        if self.alone:
            products = x.square().sum((0, 2))
        else:
            by_tap = x.permute(2, 1, 0)  # [taps, channels, r]
            products = (by_tap @ by_tap.transpose(1, 2)).sum(0)
        self.products = self.products + products.double()

    def matrix(self) -> Tensor:
        """float64, regular."""
        assert isinstance(self.sums, Tensor) and isinstance(self.products, Tensor)
        mean = (self.sums / self.rows).view(-1, self.taps)
        products = self.products / self.rows
        if self.alone:
            covariance = torch.diag((products - mean.square().sum(1)) / self.taps)
        else:
            covariance = (products - mean @ mean.T) / self.taps
        ridge = RIDGE * float(covariance.diagonal().mean().clamp(min=0))
        covariance.diagonal().add_(ridge + 1e-30)
        return covariance

    def weights(self) -> Tensor:
        """``[out, channels, taps]``, with zeros where a grouped consumer takes nothing in."""
        filters, groups = self.layer.filters, self.layer.groups
        out, width, taps = filters.shape
        whole = filters.new_zeros(out, groups * width, taps)
        for group, part in enumerate(filters.chunk(groups)):
            outputs = slice(group * len(part), (group + 1) * len(part))
            whole[outputs, group * width : (group + 1) * width] = part
        return whole.to("cpu", torch.float64)


def _watch(
    model: nn.Module, probe: Probe, consumers: Mapping[str, nn.Module], seed: int
) -> dict[str, _Entering]:
    """What enters each consumer that runs, over its calls."""
    generator = torch.Generator().manual_seed(seed)
    entering: dict[str, _Entering] = {}

    def see(name: str, layer: LinearMap, output: Tensor) -> None:
        x = _places(layer, output, ROWS * n // len(probe), n, generator)
        if not bool(x.isfinite().all()):
            raise InputError(
                f"inputs of layer {name} with NaN or infinity", "finite ones", "check the model"
            )
        if layer.regular and x[0].numel() <= ENTRIES:
            x = x.flatten(1).unsqueeze(2)  # few enough for each entry to be a channel
        alone = not layer.regular or x.shape[1] > 2 * ENTRIES
        bare = replace(layer, inputs=x.new_empty(0))
        entering.setdefault(name, _Entering(bare, alone)).add(x)

    with as_it_was(model), watching_maps(consumers, see):
        for batch in probe.batches(BATCH):
            n = n_samples(batch)
            call_model(model, batch)
    return entering


def _places(layer: LinearMap, output: Tensor, at_most: int, n: int, generator: torch.Generator) -> Tensor:
    """float32 ``[r, channels, taps]``: what is weighed at some places of the output for ``n`` samples."""
    if not layer.regular:
        return layer.entries(layer.inputs).flatten(0, -2).unsqueeze(2).float()
    rows = Rows.draw(layer, output, at_most, n, generator)
    x = rows.of_input(layer).float()
    return x.view(len(x), layer.weight.shape[1], -1)


@dataclass
class _Consumer:
    """A consumer while channels go."""

    entries: Tensor  # int64 [units, e]: which rows of the covariance go with a unit
    inverse: Tensor  # [d, d] of the covariance of what is left
    weights: Tensor  # [d, d]: W^T W, refitted to what is left; the costs need no more
    variance: float  # of its outputs at the start

    @classmethod
    def start(cls, seen: _Entering, lost: Sequence[Sequence[int]]) -> _Consumer:
        """``lost``: input channels that go with each unit."""
        covariance = seen.matrix().cpu()
        weight = seen.weights()
        entries = [list(channels) for channels in lost]
        taps = weight.shape[2]
        if len(covariance) > weight.shape[1]:  # each entry is a channel
            weight = weight.flatten(1).unsqueeze(2)
            entries = [[i * taps + t for i in of_unit for t in range(taps)] for of_unit in entries]
        columns = weight.transpose(0, 1).flatten(1)  # [d, out * taps]
        weights = columns @ columns.T
        variance = float((covariance * weights).sum())
        inverse = torch.linalg.inv(covariance)
        # Units that lose fewer entries than others lose some that nothing is made of.
        size = max(map(len, entries))
        spare = max(size - len(of_unit) for of_unit in entries)
        d = len(inverse)
        if spare:
            inverse, weights = (F.pad(m, (0, spare, 0, spare)) for m in (inverse, weights))
            inverse.diagonal()[d:] = 1.0
            entries = [e + list(range(d, d + size - len(e))) for e in entries]
        return cls(torch.tensor(entries), inverse, weights, max(variance, 1e-30))

    def costs(self, units: Tensor) -> Tensor:
        """float64 ``[u]`` of ``units [u]``."""
        entries = self.entries[units]
        rows, columns = entries[:, :, None], entries[:, None, :]
        blocks = self.inverse[rows, columns]  # [u, e, e]
        blocks = 1 / blocks if blocks.shape[1] == 1 else torch.linalg.inv(blocks)
        errors: Tensor = (blocks * self.weights[rows, columns]).sum((1, 2)).clamp(min=0)
        return errors / self.variance

    def among(self, units: Tensor) -> _Consumer:
        """As far as these units are concerned, while no other goes; they are numbered as here."""
        entries = self.entries[units]
        own, places = torch.unique(entries, return_inverse=True)
        inverse, weights = (m[own[:, None], own] for m in (self.inverse, self.weights))
        return _Consumer(places, inverse, weights, self.variance)

    def remove(self, units: Tensor) -> None:
        lost = self.entries[units].flatten()
        share = torch.linalg.solve(self.inverse[lost[:, None], lost], self.inverse[lost])  # [e, d]
        # W becomes W - W_u share; what follows is W^T W of that.
        half = (self.weights[:, lost] - 0.5 * share.T @ self.weights[lost[:, None], lost]) @ share
        self.weights -= half
        self.weights -= half.T
        self.inverse -= self.inverse[:, lost] @ share
        for remaining, own in ((self.inverse, 1.0), (self.weights, 0.0)):
            remaining[:, lost] = 0.0
            remaining[lost] = 0.0
            remaining[lost, lost] = own


def _eliminate(units: Sequence[Unit], consumers: Sequence[_Consumer]) -> list[float]:
    """The cost of each unit when it is the cheapest left; never less than that of one gone before.

    Of many units, the cheapest go first while they are cheaper than the others were: what these cost is
    found anew only then.
    """
    if not consumers:
        return [EVERYTHING] * len(units)
    costs = [0.0] * len(units)
    remaining = torch.arange(len(units))
    before = 0.0
    while len(remaining):
        now = _sum_of_costs(consumers, remaining)
        order = now.argsort(stable=True)
        cheapest = remaining[order[:TOGETHER]]
        bound = float(now[order[TOGETHER]]) if len(order) > TOGETHER else float("inf")
        gone = []
        for unit, cost in _one_by_one(cheapest, [c.among(cheapest) for c in consumers], bound):
            # A little more than the last, so that the order in which they go is the order of the scores.
            before = costs[unit] = max(cost, before * (1 + 1e-9), 1e-30)
            gone.append(unit)
        lost = torch.tensor(gone)
        remaining = remaining[~torch.isin(remaining, lost)]
        if len(remaining):
            for consumer in consumers:
                consumer.remove(lost)
    return costs


def _one_by_one(
    units: Tensor, consumers: Sequence[_Consumer], bound: float
) -> Iterator[tuple[int, float]]:
    """Units and their costs, the cheapest first, while they are below a bound; the first in any case."""
    remaining = torch.arange(len(units))
    for number in range(len(units)):
        now = _sum_of_costs(consumers, remaining)
        cheapest = int(now.argmin())
        cost = float(now[cheapest])
        if number and cost > bound:
            return
        unit = remaining[cheapest]
        yield int(units[unit]), cost
        remaining = remaining[remaining != unit]
        if len(remaining):
            for consumer in consumers:
                consumer.remove(unit[None])


def _sum_of_costs(consumers: Sequence[_Consumer], units: Tensor) -> Tensor:
    return torch.stack([consumer.costs(units) for consumer in consumers]).sum(0)
