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

ROWS = 24576  # of one layer, at most
FEW_ROWS = 6144  # even of one that weighs many entries
ENTRIES = 2**24  # of the rows of a layer, about
HELD_OUT = 5  # every fifth sample is for measuring errors only


class Original:
    """Some rows of what each layer of a model returns.

    Args:
        model: run once in eval mode, left as it was.
        inputs: the samples, where the model is.
        seed: of the places at which outputs are looked at.
        rows: of one layer, at most.

    Attributes:
        rows: {layer: which rows}.
        targets: {layer: ``[r, out]``, what it returned there}.
        sums: {layer: ``[r, out]`` after the sum that its output enters, where it enters one alone}.
        consumers: what comes between a layer and those that take it in.
        outputs: ``[n, d]``, what the model returned.
        filters: {layer: ``[out, in / groups, taps]``, what it weighed by}, of all that were seen to.
        left: {layer: why it cannot be refitted}.

    Raises:
        InputError: a layer that returns NaN, a model that does not return a row a sample.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, *, seed: int, rows: int = ROWS) -> None:
        self.model, self.n = model, n_samples(inputs)
        self.rows: dict[str, Rows] = {}
        self.targets: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.left: dict[str, str] = {}
        self.filters: dict[str, Tensor] = {}
        self._modules = all_layers(model)
        widths = sum(width_of(module) or 0 for module in self._modules.values())
        self._at_most = int(min(rows, max(512, memory_limit() // 8 // (4 * max(widths, 1)))))
        self._generator = torch.Generator().manual_seed(seed)
        self.consumers = find_consumers(model, map_tensors(inputs, lambda t: t[:2]))
        self.outputs = self._watch(inputs)

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
            elif name in self.targets and len(self.targets[name]) < 2 * HELD_OUT:
                self._leave(name, "has too few outputs")
        return outputs

    def _sample(self, name: str, layer: LinearMap, output: Tensor) -> None:
        entries = layer.groups * layer.filters[0].numel()
        fewest = 512 if layer.groups > 1 else FEW_ROWS
        most = min(self._at_most, max(fewest, ENTRIES // entries))
        rows = self.rows[name] = Rows.draw(layer, output, most, self.n, self._generator)
        values = rows.of_output(layer, output)
        if not bool(values.isfinite().all()):
            raise InputError(f"layer {name} with NaN or infinity", "finite outputs", "check the model")
        self.targets[name] = values

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
