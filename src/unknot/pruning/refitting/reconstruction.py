"""The remaining weights of a pruned model, refitted in closed form to what the original computes.

Layer by layer from the front, each layer gets the weights and bias with which its outputs, computed from
the channels that are left, come nearest to the original's: ridge regression towards the weights that it
has, group by group where it is grouped or depthwise. No labels, no gradients. In the line of Luo et al.,
"ThiNet" (ICCV 2017) and He et al., "Channel pruning" (ICCV 2017), whose least squares are the same.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError, require_count, require_instance
from unknot.core.memory import memory_limit
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular, columns_of
from unknot.nets.probe import Inputs, map_tensors, probe_samples, tensors_of
from unknot.nets.running import (
    as_it_was,
    call_model,
    copied,
    float_tensors,
    hooked,
    is_leaf,
    n_samples,
    placed,
    unwrapped,
)
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.consumers import Call, Calls, Consumers, affine_of, find_consumers
from unknot.pruning.refitting.ridge import best_fit, relative_error
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import all_layers, is_attention, weight_and_bias, width_of
from unknot.pruning.structure.linear_maps import LinearMap, Rows
from unknot.pruning.structure.map_calls import set_weight, watching_maps

ROWS = 6144  # at most, of one layer
ENTRIES = 2**24  # at most, of the rows of a grouped layer: it weighs few of them at a time
HELD_OUT = 5  # every fifth sample is for measuring errors only


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


@dataclass(frozen=True, repr=False)
class RefitReport(Tabular):
    """What refitting changed.

    Attributes:
        rows: one a layer, front to back.
        output_before, output_after: the same error of what the whole model returns, against the pruned
            model as it was.
        n_points: samples used, of which every fifth is held out.
        notes: layers that were left as they are, and why.
    """

    rows: tuple[LayerRefit, ...]
    output_before: float
    output_after: float
    n_points: int
    notes: tuple[str, ...] = ()

    def _columns(self) -> dict[str, list[Any]]:
        return columns_of(self.rows)

    def _title(self) -> str:
        error = f"{self.output_before:.3g} to {self.output_after:.3g}"
        return f"RefitReport on {self.n_points:,} samples: error of what the model returns {error}"

    def plot(self, ax: Any = None) -> Any:
        """Draw the error of each layer's outputs before and after its refit, front to back.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no layer was refitted, matplotlib is not installed.
        """
        drawing.require_rows(self.rows, "a refit")
        (axes,) = drawing.axes_for(ax, 5, 1.2 + 0.3 * len(self.rows))
        # A logarithm has no place for 0, and rounding errors would push everything else together.
        floor = max([1e-9, *(max(row.before, row.after) for row in self.rows)]) / 1e4
        ends = [(max(row.before, floor), max(row.after, floor)) for row in self.rows]
        at = list(range(len(ends)))
        axes.hlines(at, *zip(*ends, strict=True), color=drawing.LINE, linewidth=3, zorder=1)
        for side, (name, tone) in enumerate((("before", drawing.GONE), ("after", drawing.KEPT))):
            axes.scatter([end[side] for end in ends], at, color=tone, label=name, marker="so"[side])
        drawing.name_rows(axes, [row.layer for row in self.rows])
        axes.set(xscale="log", xlabel="mean square error over the variance of the outputs")
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes


def refit(
    model: nn.Module,
    slim: nn.Module,
    plan: PruningPlan,
    loader: Iterable[Any] | Tensor,
    *,
    max_points: int = 256,
    seed: int = 0,
) -> RefitReport:
    """Refit the weights of ``slim`` in place to what ``model`` computes on samples.

    A layer without bias that batch normalisation follows gets its new constant in the running mean
    there. Transposed convolutions, layers called several times, and layers whose error does not fall on
    held-out samples stay as they are; so do all where the error of what the model returns does not fall.

    Args:
        model: the original; not changed.
        slim: what `prune` made of it.
        plan: by which.
        loader: samples, see `probe_samples`; labels are not used.
        max_points: samples used, fewer where their layer outputs would not fit into memory.
        seed: of their choice, and of the positions at which outputs are compared.

    Raises:
        InputError: no samples, samples or layers with NaN, models that do not belong together.
    """
    model, slim = unwrapped(model), unwrapped(slim)
    require_instance("plan", plan, PruningPlan, "pass what plan_pruning gave")
    require_count("max_points", max_points, minimum=10)
    probe = probe_samples(loader, max_points=max_points, seed=seed)
    if len(probe) < 10:
        raise InputError(f"{len(probe)} samples to refit on", "at least 10", "pass more")
    inputs = _fitting(model, placed(probe.inputs, model))
    if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in tensors_of(inputs)):
        raise InputError("samples with NaN or infinity", "finite samples", "clean the data")
    _require_widths("the model", model, plan.filters, "pass the one that was planned for")
    require_what_is_left(slim, plan)
    attentions = {name for name, module in slim.named_modules() if is_attention(module)}
    if attentions:  # so that both make the same calls, which are seen
        model, slim = (
            narrow_all(copied(model), attentions),
            narrow_all(_sharing_tensors(slim), attentions),
        )
    fitting = _Fitting(model, slim, plan, seed)
    wanted = fitting.record_original(inputs)
    wanted = wanted[::HELD_OUT]
    before = relative_error(_outputs(slim, map_tensors(inputs, lambda t: t[::HELD_OUT])), wanted)
    held = [(t, t.detach().clone()) for t in (*slim.parameters(), *slim.buffers())]
    output = fitting.refit_front_to_back(inputs)
    after = relative_error(output[::HELD_OUT], wanted)
    report = RefitReport(tuple(fitting.report), before, after, len(output), fitting.notes)
    if after <= before:
        return report
    with torch.no_grad():
        for tensor, values in held:
            tensor.copy_(values)
    rows = tuple(replace(row, after=row.before) for row in report.rows)
    why = "what the model returns came no nearer, so all layers were left as they were"
    return replace(report, rows=rows, output_after=before, notes=(*report.notes, why))


class _Fitting:
    """The two passes: the original, sampled; and the pruned model, refitted while it runs."""

    def __init__(self, model: nn.Module, slim: nn.Module, plan: PruningPlan, seed: int) -> None:
        self.model, self.slim, self.plan = model, slim, plan
        self.generator = torch.Generator().manual_seed(seed)
        self.rows: dict[str, Rows] = {}
        self.targets: dict[str, Tensor] = {}  # [r, out] of the original, channels that are left
        self.consumers = Consumers({}, {})
        self.sums: dict[str, Tensor] = {}  # [r, out] of the original, after the sum that a layer enters
        self.others: dict[Call, Tensor] = {}  # {call: what it returned in the pruned model}
        self.notes: tuple[str, ...] = ()
        self.report: list[LayerRefit] = []
        self.shifts: dict[str, Tensor] = {}

    def record_original(self, inputs: Inputs) -> Tensor:
        """Sample what each layer returns; gives what the model returns."""
        modules = all_layers(self.model)
        n = n_samples(inputs)
        widths = sum(width_of(module) or 0 for module in modules.values())
        at_most = int(min(ROWS, max(512, memory_limit() // 8 // (4 * max(widths, 1)))))
        self.consumers = find_consumers(self.model, map_tensors(inputs, lambda t: t[:2]))
        adding = {sum_.call: layer for layer, sum_ in self.consumers.sums.items()}
        maps: dict[str, LinearMap] = {}

        def remaining(name: str, values: Tensor) -> Tensor:
            gone = set(self.plan.removed.get(name, ()))
            if is_attention(modules[name]):  # heads, of queries, keys and values
                width = width_of(modules[name]) or 0
                gone = {part * width + channel for channel in gone for part in range(3)}
            return values[:, [i for i in range(values.shape[1]) if i not in gone]]

        def see_layer(name: str, layer: LinearMap, output: Tensor) -> None:
            if name in maps:
                return
            maps[name] = replace(layer, inputs=layer.inputs.new_empty(0))
            if layer.transposed:
                return
            with calls.paused():
                most = at_most
                if layer.groups > 1:
                    most = min(most, max(512, ENTRIES // (layer.groups * layer.filters[0].numel())))
                rows = self.rows[name] = Rows.draw(layer, output, most, n, self.generator)
                values = rows.of_output(layer, output)
                if not bool(values.isfinite().all()):
                    raise InputError(
                        f"layer {name} with NaN or infinity", "finite outputs", "check the model"
                    )
                self.targets[name] = remaining(name, values)

        def see_sum(call: Call, _args: Any, result: Tensor) -> None:
            if (layer := adding.get(call)) and layer in self.rows:
                self.sums[layer] = remaining(layer, self.rows[layer].of_output(maps[layer], result))

        calls = Calls(self.model, see_sum)
        with as_it_was(self.model), calls.watching(), watching_maps(modules, see_layer) as seen:
            wanted = _one_row_each(call_model(self.model, inputs), n)
        shared = _sharing(self.model)
        for name in modules:
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
        return wanted

    def refit_front_to_back(self, inputs: Inputs) -> Tensor:
        """Refit each layer just before it runs, on what the refitted layers in front of it return.

        Gives what the refitted model returns.
        """
        modules = {n: m for n, m in all_layers(self.slim).items() if n in self.targets}
        needed = {sum_.other for sum_ in self.consumers.sums.values()}

        def keep(call: Call, _args: Any, result: Tensor) -> None:
            if call in needed:
                self.others[call] = result

        calls = Calls(self.slim, keep)

        def refit_layer(name: str, layer: LinearMap) -> tuple[Tensor, Tensor | None] | None:
            with calls.paused():
                return self._refit_layer(name, modules[name], layer)

        def see(_name: str, _layer: LinearMap, _output: Tensor) -> None: ...

        with as_it_was(self.slim), calls.watching(), watching_maps(modules, see, refit_layer):
            output = _one_row_each(call_model(self.slim, inputs), n_samples(inputs))
        buffers = dict(self.slim.named_buffers())
        for name, shift in self.shifts.items():  # running the model leaves no trace in its buffers
            buffers[name].sub_(shift)
        return output

    def _refit_layer(
        self, name: str, module: nn.Module, layer: LinearMap
    ) -> tuple[Tensor, Tensor | None] | None:
        """Refit a layer that is about to run; its new weight and bias."""
        rows = self.rows.pop(name, None)
        if rows is None or len(layer.filters) != self.targets[name].shape[1]:
            self._leave(name, "has outputs that cannot be matched")
            return None
        norm = self.consumers.norms.get(name)
        wanted, weights = self._wanted(name, rows, layer)
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

    def _wanted(self, name: str, rows: Rows, layer: LinearMap) -> tuple[Tensor, Tensor | None]:
        """What the layer should return, and by how much an error in each channel counts.

        Where its output enters a sum, it makes up for the error of what it is added to.
        """
        wanted, sums = self.targets.pop(name), self.sums.pop(name, None)
        if sums is None:
            return wanted, None
        other = self.others.get(self.consumers.sums[name].other)
        if other is None or layer.entries(other).shape[-1:] != sums.shape[1:]:
            return wanted, None
        rest = sums - rows.of_output(layer, other)
        norm = self.consumers.norms.get(name)
        if norm is None:
            return rest, None
        factor, constant = affine_of(self.slim.get_submodule(norm))
        able = factor.abs() > 1e-3 * factor.abs().max()  # the others cannot make up for anything
        factor = torch.where(able, factor, 1.0)
        return torch.where(able, (rest - constant) / factor, wanted), torch.where(able, factor, 0.0)

    def _leave(self, name: str, why: str) -> None:
        self.targets.pop(name, None), self.rows.pop(name, None)
        self.notes += (f"{name} {why}",)


def _fitting(model: nn.Module, inputs: Inputs) -> Inputs:
    """As many of the samples as can be run in one batch."""
    largest = [1]

    def see(_name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        largest.extend(t.numel() * t.element_size() // 2 for t in float_tensors(output))

    with hooked({name: module for name, module in model.named_modules() if is_leaf(module)}, see):
        _outputs(model, map_tensors(inputs, lambda t: t[:2]))
    room = max(10, memory_limit() // 4 // (12 * max(largest)))  # a dozen of the largest at once
    return map_tensors(inputs, lambda t: t[:room])


def _outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    """What the model returns for each sample, ``[n, d]``."""
    with as_it_was(model):
        return _one_row_each(call_model(model, inputs), n_samples(inputs))


def _one_row_each(output: Any, n: int) -> Tensor:
    """All that a model returned for each of ``n`` samples, ``[n, d]``."""
    rows = [t.reshape(n, -1) for t in float_tensors(output) if t.ndim and len(t) == n]  # not a loss
    if not rows:
        raise InputError(
            f"an output of type {type(output).__name__} without a row a sample",
            f"a tensor [{n}, ...], or a container of some, for {n} samples",
            "return one row a sample",
        )
    return torch.cat(rows, dim=1)


def _sharing_tensors(model: nn.Module) -> nn.Module:
    """A copy with the same parameters and buffers."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def _sharing(model: nn.Module) -> dict[str, str]:
    """{module whose weight another one has too: its name}."""
    owners: defaultdict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if (weight := module._parameters.get("weight")) is not None:
            owners[id(weight)].append(name)
    return {name: next(o for o in names if o != name) for names in owners.values() for name in names
            if len(names) > 1}  # fmt: skip


def require_what_is_left(slim: nn.Module, plan: PruningPlan) -> None:
    """Refuse a model whose layers are not what is left by ``plan``."""
    left = {layer: n - len(plan.removed.get(layer, ())) for layer, n in plan.filters.items()}
    _require_widths("the pruned model", slim, left, "pass what prune(model, plan) gave")


def _require_widths(what: str, model: nn.Module, widths: dict[str, int], remedy: str) -> None:
    modules = dict(model.named_modules())
    for layer, expected in widths.items():
        width = width_of(modules.get(layer))
        if width != expected:
            raise InputError(
                f"layer {layer} of {what} with {width or 'no'} filters", f"{expected} by the plan", remedy
            )
