"""What the original returns, sampled once: some rows of each layer's outputs, and all of the model's.

Pruned models are refitted to it; one record serves them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.core.memory import memory_limit
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import as_it_was, call_model, float_tensors, n_samples
from unknot.pruning.refitting.consumers import Call, Calls, find_consumers
from unknot.pruning.structure.layers import all_layers, is_attention, width_of
from unknot.pruning.structure.linear_maps import LinearMap, Rows
from unknot.pruning.structure.map_calls import watching_maps

ROWS = 24576  # at most, of one layer
ENTRIES = 2**25  # at most, of the rows of what enters a layer
GROUPED = 2**24  # likewise of a grouped one, which weighs few of them at a time
MANY = 512  # samples: of half as many half of both, as more places of a sample tell little
LEAST_SHARE = 0.25  # of both, however few the samples
TARGETS = 2**29  # bytes at most of all rows of all layers
HELD_OUT = 5  # every fifth sample is for measuring errors only
FEW = 15  # samples, of fewer every third: two would tell little


class Original:
    """Some rows of what each layer of a model returns.

    Args:
        model: run once in eval mode, left as it was.
        inputs: the samples, where the model is.
        seed: of the places at which outputs are looked at.
        rows: of one layer, at most; None: as many as the samples are worth.

    Attributes:
        rows: {layer: which rows}.
        targets: {layer: ``[r, out]``, what it returned there}.
        sums: {layer: ``[r, out]`` after the sum that its output enters, where it enters one alone}.
        consumers: what comes between a layer and those that take it in.
        outputs: ``[n, d]``, what the model returned.
        spreads: {layer that batch normalisation follows: the median over channels of the variance there
            over that of what the model was trained on}.
        every: each sample whose number can be divided by it is for measuring errors only.
        filters: {layer: ``[out, in / groups, taps]``, what it weighed by}, of all that were seen to.
        left: {layer: why it cannot be refitted}.

    Raises:
        InputError: a layer that returns NaN, a model that does not return a row a sample.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, *, seed: int, rows: int | None = None) -> None:
        self.model, self.n = model, n_samples(inputs)
        self.every = HELD_OUT if self.n >= FEW else min(3, self.n)
        self._share = min(1.0, max(LEAST_SHARE, self.n / MANY))
        self.rows: dict[str, Rows] = {}
        self.targets: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.left: dict[str, str] = {}
        self.filters: dict[str, Tensor] = {}
        self.spreads: dict[str, float] = {}
        self._modules = all_layers(model)
        widths = sum(width_of(module) or 0 for module in self._modules.values())
        self._at_most = int(
            min(
                rows or ROWS * self._share,
                max(512, min(TARGETS, memory_limit() // 8) // (4 * max(widths, 1))),
            )
        )
        self._generator = torch.Generator().manual_seed(seed)
        self.consumers = find_consumers(model, map_tensors(inputs, lambda t: t[:2]))
        self.outputs = self._watch(inputs)

    def held_out(self, layer: str) -> Tensor:
        """Bool ``[r]``: which of its rows are for measuring errors only."""
        return self.rows[layer].samples % self.every == 0

    def remaining(self, layer: str, values: Tensor, removed: Mapping[str, Sequence[int]]) -> Tensor:
        """``values [r, out]`` of the channels that stay when ``removed`` {layer: channels} go."""
        gone = set(removed.get(layer, ()))
        if not gone:
            return values
        if is_attention(self._modules[layer]):  # heads, of queries, keys and values
            width = width_of(self._modules[layer]) or 0
            gone = {part * width + channel for channel in gone for part in range(3)}
        return values[:, [i for i in range(values.shape[1]) if i not in gone]]

    def weighs_the_same(self, name: str, layer: LinearMap, removed: Mapping[str, Sequence[int]]) -> bool:
        """Whether a layer of the pruned model has the weights that its filters had."""
        filters = self.filters.get(name)
        if filters is None:
            return False
        left = self.remaining(name, filters.movedim(0, -1).flatten(0, 1), removed)
        found = layer.filters.movedim(0, -1).flatten(0, 1)
        return bool(torch.equal(found, left))

    def _watch(self, inputs: Inputs) -> Tensor:
        adding: dict[Call, str] = {sum_.call: layer for layer, sum_ in self.consumers.sums.items()}
        maps: dict[str, LinearMap] = {}

        def see_layer(name: str, layer: LinearMap, output: Tensor) -> None:
            if name in maps:
                return
            maps[name] = replace(layer, inputs=layer.inputs.new_empty(0))
            self.filters[name] = layer.filters
            if layer.transposed:
                return
            with calls.paused():
                self._sample(name, layer, output)

        def see_sum(call: Call, _args: Any, _kwargs: Any, result: Any) -> None:
            if (layer := adding.get(call)) and layer in self.rows:
                self.sums[layer] = self.rows[layer].of_output(maps[layer], result)

        calls = Calls(self.model, see_sum)
        with as_it_was(self.model), calls.watching(), watching_maps(self._modules, see_layer) as seen:
            outputs = one_row_each(call_model(self.model, inputs), self.n)
        shared = _sharing(self.model)
        for name in self._modules:
            if seen.times[name] > 1:
                self._leave(name, "is called several times")
            elif seen.runs[name] and not seen.times[name]:
                self._leave(name, "makes no convolution or matrix product by itself")
            elif name in maps and maps[name].transposed:
                self._leave(name, "is a transposed convolution")
            elif name in self.targets and name in shared:
                self._leave(name, f"shares its weights with {shared[name]}")
            elif name in self.targets and not 0 < self.held_out(name).sum() < len(self.targets[name]):
                self._leave(name, "has too few outputs")
        return outputs

    def _sample(self, name: str, layer: LinearMap, output: Tensor) -> None:
        most = GROUPED if layer.groups > 1 else int(ENTRIES * self._share)
        most = min(self._at_most, max(512, most // (layer.groups * layer.filters[0].numel())))
        rows = self.rows[name] = Rows.draw(layer, output, most, self.n, self._generator)
        values = rows.of_output(layer, output)
        if not bool(values.isfinite().all()):
            raise InputError(f"layer {name} with NaN or infinity", "finite outputs", "check the model")
        self.targets[name] = values
        if (norm := self.consumers.norms.get(name)) is not None and len(values) > 1:
            ratios = values.var(0) / self.model.get_buffer(f"{norm}.running_var")
            if len(ratios := ratios[ratios.isfinite()]):  # channels that never varied tell nothing
                self.spreads[name] = float(ratios.median())

    def _leave(self, name: str, why: str) -> None:
        self.targets.pop(name, None), self.rows.pop(name, None)
        self.left[name] = why


def outputs_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """What the model returns for each sample, ``[n, d]``, in eval mode."""
    with as_it_was(model):
        return one_row_each(call_model(model, inputs), n_samples(inputs))


def one_row_each(output: Any, n: int) -> Tensor:
    """All that a model returned for each of ``n`` samples, ``[n, d]``."""
    rows = [t.reshape(n, -1) for t in float_tensors(output) if t.ndim and len(t) == n]  # not a loss
    if not rows:
        raise InputError(
            f"an output of type {type(output).__name__} without a row a sample",
            f"a tensor [{n}, ...], or a container of some, for {n} samples",
            "return one row a sample",
        )
    return torch.cat(rows, dim=1)


def _sharing(model: nn.Module) -> dict[str, str]:
    """{module whose weight another one has too: its name}."""
    owners: defaultdict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if (weight := module._parameters.get("weight")) is not None:
            owners[id(weight)].append(name)
    return {name: next(o for o in names if o != name) for names in owners.values() for name in names
            if len(names) > 1}  # fmt: skip
