"""The remaining weights of a pruned model, refitted in closed form to what the original computes.

Layer by layer from the front, each layer gets the weights and bias with which its outputs, computed from
the channels that are left, come nearest to the original's: ridge regression towards the weights that it
has, group by group where it is grouped or depthwise. No labels, no gradients. In the line of Luo et al.,
"ThiNet" (ICCV 2017) and He et al., "Channel pruning" (ICCV 2017), whose least squares are the same.
"""

from __future__ import annotations

import copy
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
    copied,
    float_tensors,
    hooked,
    is_leaf,
    placed,
    unwrapped,
)
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.fitting import Fitting, LayerRefit
from unknot.pruning.refitting.original import HELD_OUT, Original, outputs_of
from unknot.pruning.refitting.targets import relative_error
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import is_attention, width_of


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
    model, slim = seen_alike(model, slim)
    original = Original(model, inputs, seed=seed)
    fitting = Fitting(original, slim, plan.removed)
    wanted = original.outputs[::HELD_OUT]
    before = relative_error(outputs_of(slim, map_tensors(inputs, lambda t: t[::HELD_OUT])), wanted)
    held = [(t, t.detach().clone()) for t in (*slim.parameters(), *slim.buffers())]
    output = fitting.front_to_back(inputs)
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


def _fitting(model: nn.Module, inputs: Inputs) -> Inputs:
    """As many of the samples as can be run in one batch."""
    largest = [1]

    def see(_name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        largest.extend(t.numel() * t.element_size() // 2 for t in float_tensors(output))

    with hooked({name: module for name, module in model.named_modules() if is_leaf(module)}, see):
        outputs_of(model, map_tensors(inputs, lambda t: t[:2]))
    room = max(10, memory_limit() // 4 // (12 * max(largest)))  # a dozen of the largest at once
    return map_tensors(inputs, lambda t: t[:room])


def seen_alike(model: nn.Module, slim: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A model and a pruned one so that both make the same calls, all of which can be seen.

    Where they have attention, a copy of the one, and of the other a copy with its own parameters and
    buffers.
    """
    attentions = {name for name, module in slim.named_modules() if is_attention(module)}
    if not attentions:
        return model, slim
    return narrow_all(copied(model), attentions), narrow_all(_sharing_tensors(slim), attentions)


def _sharing_tensors(model: nn.Module) -> nn.Module:
    """A copy with the same parameters and buffers."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


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
