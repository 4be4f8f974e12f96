"""A pruned model refitted while it runs, front to back, to what its original returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unknot.nets.probe import Inputs
from unknot.nets.running import as_it_was, call_model, n_samples
from unknot.pruning.refitting.activations import Activation
from unknot.pruning.refitting.consumers import Call, Calls, affine_of
from unknot.pruning.refitting.original import Original, one_row_each
from unknot.pruning.refitting.pairs import Summand, fit_pair
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
        self.summands: dict[str, Summand] = {}  # those that another layer's output is added to
        # Whether anything that ran returned something else than it did in the original.
        self.touched = any(gone and layer not in original.filters for layer, gone in removed.items())

    def front_to_back(
        self, inputs: Inputs, begin: Callable[[str], object] = lambda layer: None
    ) -> Tensor:
        """Refit each layer just before it runs, on what the refitted layers in front of it return.

        Gives what the refitted model returns; ``begin`` is told each layer that is about to be refitted.
        """
        modules = all_layers(self.slim)
        added_to = set(self.original.consumers.pairs.values())
        needed = {sum_.other for sum_ in self.original.consumers.sums.values()}

        def keep(call: Call, _args: Any, _kwargs: Any, result: Any) -> None:
            if call in needed:
                self.others[call] = result

        calls = Calls(self.slim, keep)

        def refit_layer(name: str, layer: LinearMap) -> tuple[Tensor, Tensor | None] | None:
            known = name in self.original.targets
            begin(name)
            with calls.paused():
                if self.touched or not self.original.weighs_the_same(name, layer, self.removed):
                    self.touched = True
                    return self._refit_layer(name, modules[name], layer) if known else None
            if known:
                self.report.append(LayerRefit(name, 0.0, 0.0))
            return None

        def see(name: str, layer: LinearMap, _output: Tensor) -> None:
            self.touched |= bool(self.removed.get(name))
            if name in added_to and not layer.inputs.is_inference():
                self.summands[name] = Summand(layer, self._affine(name, layer)[0], layer.inputs._version)

        with as_it_was(self.slim), calls.watching(), watching_maps(modules, see, refit_layer):
            output = one_row_each(call_model(self.slim, inputs), n_samples(inputs))
        buffers = dict(self.slim.named_buffers())
        for name, shift in self.shifts.items():  # running the model leaves no trace in its buffers
            buffers[name].sub_(shift)
        self.others, self.summands = {}, {}
        return output

    def _refit_layer(
        self, name: str, module: nn.Module, layer: LinearMap
    ) -> tuple[Tensor, Tensor | None] | None:
        """Refit a layer that is about to run; its new weight and bias."""
        rows = self.original.rows[name]
        if len(layer.filters) != self._remaining(name, self.original.targets).shape[1]:
            self._leave(name, "has outputs that cannot be matched")
            return None
        target = self._target(name, rows, layer)
        held_out = self.original.held_out(name)
        if self._refit_pair(name, module, layer, target, held_out):
            return weight_and_bias(module)[0], layer.bias
        bias: Any = layer.bias
        constant = self._can_shift(name, module, layer)
        if bias is not None and not constant:  # it stays
            target = replace(target, offset=target.offset + bias.detach() * target.scale)
            bias = None
        fit = best_fit(
            rows.of_input(layer), target, layer.filters.flatten(1), bias, groups=layer.groups,
            held_out=held_out, constant=constant,
        )  # fmt: skip
        if fit.weight is not None and not set_weight(module, layer, fit.weight):
            self._leave(name, "has weights that are derived from its parameters")
            return None
        self.report.append(LayerRefit(name, fit.before, fit.after))
        if fit.weight is None or fit.bias is None:
            return None
        if constant:
            self._shift(name, module, fit.bias if bias is None else fit.bias - bias.detach())
        return weight_and_bias(module)[0], layer.bias

    def _refit_pair(
        self, name: str, module: nn.Module, layer: LinearMap, target: Target, held_out: Tensor
    ) -> bool:
        """Whether the layer could be refitted together with the one whose output is added to its own."""
        consumers = self.original.consumers
        other = consumers.pairs.get(name, "")
        first = self.summands.pop(other, None)
        if first is None or target.offset.ndim < 2 or other not in self.original.targets:
            return False
        partner, later = self.slim.get_submodule(other), Summand(layer, target.scale, 0)
        takes = [(n, m) for n, m, s in ((name, module, later), (other, partner, first))
                 if self._can_shift(n, m, s.layer)]  # fmt: skip
        if not (first.unchanged and first.usable and later.usable and takes and target.counts.all()):
            return False
        fit = fit_pair(first, later, self.original.rows[name], target, held_out)
        if fit.weights is not None and fit.shift is not None:
            before = first.layer.filters.flatten(1).clone()
            if not set_weight(partner, first.layer, fit.weights[0]):
                return False
            if not set_weight(module, layer, fit.weights[1]):
                set_weight(partner, first.layer, before)
                return False
            change = first.layer.outputs_by(fit.weights[0] - before)
            # Nothing but the sum consumes what the first layer returned: it can be changed in place.
            returned = self.others[consumers.sums[name].other]
            first.layer.entries(returned).add_(first.layer.entries(change) * first.scale)
            taker = takes[0]
            self._shift(*taker, fit.shift / (later if taker[0] == name else first).scale)
            if taker[0] == other:
                first.layer.entries(returned).add_(fit.shift)
        self.report.append(LayerRefit(name, fit.before, fit.after))
        return True

    def _can_shift(self, name: str, module: nn.Module, layer: LinearMap) -> bool:
        """Whether a constant can be added to what a layer returns."""
        if layer.bias is not None:
            return layer.bias is weight_and_bias(module)[1]
        return name in self.original.consumers.norms

    def _shift(self, name: str, module: nn.Module, by: Tensor) -> None:
        """Add ``by [out]``: in the layer's bias, else in the normalisation after it."""
        _, bias = weight_and_bias(module)
        if bias is not None:
            bias.data.add_(by)
            return
        mean = f"{self.original.consumers.norms[name]}.running_mean"
        by = by.to(self.slim.get_buffer(mean))
        self.slim.get_buffer(mean).sub_(by)
        self.shifts[mean] = self.shifts.get(mean, 0.0) + by

    def _target(self, name: str, rows: Rows, layer: LinearMap) -> Target:
        """What the layer should return.

        Where its output enters a sum, it makes up for the error of what it is added to.
        """
        consumers = self.original.consumers
        plain = Target.plain(self._remaining(name, self.original.targets).to(self._kind(layer)))
        scale, offset = self._affine(name, layer)
        if name not in consumers.sums:
            values = plain.values * scale + offset
        else:
            sums = self._remaining(name, self.original.sums) if name in self.original.sums else None
            other = self.others.get(consumers.sums[name].other)
            if sums is None or other is None or layer.entries(other).shape[-1:] != sums.shape[1:]:
                return plain
            values, offset = sums.to(scale), offset + rows.of_output(layer, other).to(scale)
        able = scale.abs() > 1e-3 * scale.abs().max()  # the others cannot make up for anything
        return Target(
            values=torch.where(able, values, plain.values),
            scale=torch.where(able, scale, 1.0),
            offset=torch.where(able, offset, 0.0),
            counts=able.to(scale),
            activation=consumers.activations.get(name, Activation()),
        )

    def _affine(self, name: str, layer: LinearMap) -> tuple[Tensor, Tensor]:
        """Factor and constant, ``[out]``, of the normalisation after a layer; 1 and 0 where none is."""
        zeros = layer.weight.new_zeros(len(layer.filters), dtype=self._kind(layer))
        if (norm := self.original.consumers.norms.get(name)) is None:
            return zeros + 1.0, zeros
        factor, constant = affine_of(self.slim.get_submodule(norm))
        return factor.to(zeros), constant.to(zeros)

    @staticmethod
    def _kind(layer: LinearMap) -> torch.dtype:
        return torch.promote_types(layer.weight.dtype, torch.float32)

    def _remaining(self, name: str, of: Mapping[str, Tensor]) -> Tensor:
        return self.original.remaining(name, of[name], self.removed)

    def _leave(self, name: str, why: str) -> None:
        self.notes += (f"{name} {why}",)
