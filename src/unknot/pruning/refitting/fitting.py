"""A pruned model refitted while it runs, front to back, to what its original returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model, n_samples
from unknot.pruning.refitting.consumers import Call, Calls, affine_of
from unknot.pruning.refitting.original import HELD_OUT, Original, one_row_each
from unknot.pruning.refitting.ridge import best_fit
from unknot.pruning.structure.layers import all_layers, weight_and_bias
from unknot.pruning.structure.linear_maps import LinearMap, Rows
from unknot.pruning.structure.map_calls import set_weight, watching_maps


@dataclass(frozen=True)
class LayerRefit:
    """How far one layer's outputs are from the original's, on samples that it was not fitted on.

    Attributes:
        layer: dotted name.
        before, after: mean square of the difference over the variance of the original's outputs, with
            the layers in front of it refitted; equal where refitting did not help and was left out.
    """

    layer: str
    before: float
    after: float


class Fitting:
    """The weights of ``slim``, which lost ``removed`` {layer: channels}, refitted in place.

    Attributes:
        report: one row a layer, front to back.
        notes: layers that were left as they are, and why.
    """

    def __init__(self, original: Original, slim: nn.Module, removed: Mapping[str, Sequence[int]]) -> None:
        self.original, self.slim, self.removed = original, slim, removed
        self.others: dict[Call, Tensor] = {}  # {call: what it returned in the pruned model}
        self.notes = tuple(f"{layer} {why}" for layer, why in original.left.items())
        self.report: list[LayerRefit] = []
        self.shifts: dict[str, Tensor] = {}

    def front_to_back(self, inputs: Inputs) -> Tensor:
        """Refit each layer just before it runs, on what the refitted layers in front of it return.

        Gives what the refitted model returns.
        """
        modules = {n: m for n, m in all_layers(self.slim).items() if n in self.original.targets}
        needed = {sum_.other for sum_ in self.original.consumers.sums.values()}

        def keep(call: Call, _args: Any, result: Tensor) -> None:
            if call in needed:
                self.others[call] = result

        calls = Calls(self.slim, keep)

        def refit_layer(name: str, layer: LinearMap) -> tuple[Tensor, Tensor | None] | None:
            with calls.paused():
                return self._refit_layer(name, modules[name], layer)

        def see(_name: str, _layer: LinearMap, _output: Tensor) -> None: ...

        with as_it_was(self.slim), calls.watching(), watching_maps(modules, see, refit_layer):
            output = one_row_each(call_model(self.slim, inputs), n_samples(inputs))
        buffers = dict(self.slim.named_buffers())
        for name, shift in self.shifts.items():  # running the model leaves no trace in its buffers
            buffers[name].sub_(shift)
        return output

    def _refit_layer(
        self, name: str, module: nn.Module, layer: LinearMap
    ) -> tuple[Tensor, Tensor | None] | None:
        """Refit a layer that is about to run; its new weight and bias."""
        rows, wanted = self.original.rows[name], self._remaining(name, self.original.targets)
        if len(layer.filters) != wanted.shape[1]:
            self._leave(name, "has outputs that cannot be matched")
            return None
        norm = self.original.consumers.norms.get(name)
        wanted, weights = self._wanted(name, rows, layer, wanted)
        bias: Any = layer.bias
        own = bias is not None and bias is weight_and_bias(module)[1]
        shifting = bias is None and norm is not None
        if bias is not None and not own:  # it stays
            wanted, bias = wanted - bias.detach(), None
        fit = best_fit(
            rows.of_input(layer), wanted, layer.filters.flatten(1), bias, groups=layer.groups,
            held_out=rows.samples % HELD_OUT == 0, constant=own or shifting, weights=weights,
        )  # fmt: skip
        if fit.weight is not None and not set_weight(module, layer, fit.weight):
            self._leave(name, "has weights that are derived from its parameters")
            return None
        self.report.append(LayerRefit(name, fit.before, fit.after))
        if fit.weight is None or fit.bias is None:
            return None
        if own:
            bias.data.copy_(fit.bias)
        elif shifting:
            mean = f"{norm}.running_mean"
            shift = fit.bias.to(self.slim.get_buffer(mean))
            self.slim.get_buffer(mean).sub_(shift)
            self.shifts[mean] = shift
        return weight_and_bias(module)[0], layer.bias

    def _wanted(
        self, name: str, rows: Rows, layer: LinearMap, wanted: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the layer should return, and by how much an error in each channel counts.

        Where its output enters a sum, it makes up for the error of what it is added to.
        """
        if name not in self.original.sums:
            return wanted, None
        sums = self._remaining(name, self.original.sums)
        other = self.others.get(self.original.consumers.sums[name].other)
        if other is None or layer.entries(other).shape[-1:] != sums.shape[1:]:
            return wanted, None
        rest = sums - rows.of_output(layer, other)
        norm = self.original.consumers.norms.get(name)
        if norm is None:
            return rest, None
        factor, constant = affine_of(self.slim.get_submodule(norm))
        able = factor.abs() > 1e-3 * factor.abs().max()  # the others cannot make up for anything
        factor = torch.where(able, factor, 1.0)
        return torch.where(able, (rest - constant) / factor, wanted), torch.where(able, factor, 0.0)

    def _remaining(self, name: str, of: Mapping[str, Tensor]) -> Tensor:
        return self.original.remaining(name, of[name], self.removed)

    def _leave(self, name: str, why: str) -> None:
        self.notes += (f"{name} {why}",)
