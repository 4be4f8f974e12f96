"""A pruned model refitted while it runs, front to back, to what its original returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model, n_samples
from unknot.pruning.refitting.consumers import Call, Calls, affine_of
from unknot.pruning.refitting.original import HELD_OUT, Original, one_row_each
from unknot.pruning.refitting.ridge import best_fit
from unknot.pruning.refitting.targets import Target
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
        # Whether anything that ran returned something else than it did in the original.
        self.touched = any(gone and layer not in original.filters for layer, gone in removed.items())

    def front_to_back(self, inputs: Inputs) -> Tensor:
        """Refit each layer just before it runs, on what the refitted layers in front of it return.

        Gives what the refitted model returns.
        """
        modules = all_layers(self.slim)
        needed = {sum_.other for sum_ in self.original.consumers.sums.values()}

        def keep(call: Call, _args: Any, _kwargs: Any, result: Any) -> None:
            if call in needed:
                self.others[call] = result

        calls = Calls(self.slim, keep)

        def refit_layer(name: str, layer: LinearMap) -> tuple[Tensor, Tensor | None] | None:
            known = name in self.original.targets
            with calls.paused():
                if self.touched or not self.original.weighs_the_same(name, layer, self.removed):
                    self.touched = True
                    return self._refit_layer(name, modules[name], layer) if known else None
            if known:
                self.report.append(LayerRefit(name, 0.0, 0.0))
            return None

        def see(name: str, _layer: LinearMap, _output: Tensor) -> None:
            self.touched |= bool(self.removed.get(name))

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
        rows = self.original.rows[name]
        if len(layer.filters) != self._remaining(name, self.original.targets).shape[1]:
            self._leave(name, "has outputs that cannot be matched")
            return None
        norm = self.original.consumers.norms.get(name)
        bias: Any = layer.bias
        own = bias is not None and bias is weight_and_bias(module)[1]
        shifting = bias is None and norm is not None
        target = self._target(name, rows, layer)
        if bias is not None and not own:  # it stays
            target = replace(target, offset=target.offset + bias.detach() * target.scale)
            bias = None
        fit = best_fit(
            rows.of_input(layer), target, layer.filters.flatten(1), bias, groups=layer.groups,
            held_out=rows.samples % HELD_OUT == 0, constant=own or shifting,
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

    def _target(self, name: str, rows: Rows, layer: LinearMap) -> Target:
        """What the layer should return.

        Where its output enters a sum, it makes up for the error of what it is added to.
        """
        consumers = self.original.consumers
        plain = Target.plain(self._remaining(name, self.original.targets).to(self._kind(layer)))
        scale, offset = plain.scale, plain.offset
        if (norm := consumers.norms.get(name)) is not None:
            scale, offset = (t.to(scale) for t in affine_of(self.slim.get_submodule(norm)))
        if name not in consumers.sums:
            values = plain.values * scale + offset
        else:
            sums = self._remaining(name, self.original.sums) if name in self.original.sums else None
            other = self.others.get(consumers.sums[name].other)
            if sums is None or other is None or layer.entries(other).shape[-1:] != sums.shape[1:]:
                return plain
            values, offset = sums.to(scale), offset + rows.of_output(layer, other).to(scale)
        low, high = consumers.bounds.get(name, (-inf, inf))
        able = scale.abs() > 1e-3 * scale.abs().max()  # the others cannot make up for anything
        return Target(
            values=torch.where(able, values, plain.values),
            scale=torch.where(able, scale, 1.0),
            offset=torch.where(able, offset, 0.0),
            counts=able.to(scale),
            low=torch.where(able, low, -inf),
            high=torch.where(able, high, inf),
        )

    @staticmethod
    def _kind(layer: LinearMap) -> torch.dtype:
        return torch.promote_types(layer.weight.dtype, torch.float32)

    def _remaining(self, name: str, of: Mapping[str, Tensor]) -> Tensor:
        return self.original.remaining(name, of[name], self.removed)

    def _leave(self, name: str, why: str) -> None:
        self.notes += (f"{name} {why}",)
