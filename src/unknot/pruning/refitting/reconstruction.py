"""The remaining weights of a pruned model, refitted in closed form to what the original computes.

Layer by layer from the front, each layer gets the weights and bias with which its outputs, computed from
the channels that are left, come nearest to the original's: ridge regression towards the weights that it
has, group by group where it is grouped or depthwise. No labels, no gradients. In the line of Luo et al.,
"ThiNet" (ICCV 2017) and He et al., "Channel pruning" (ICCV 2017), whose least squares are the same.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, step_bar
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
    n_samples,
    placed,
    unwrapped,
)
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.fitting import Fitting, LayerRefit
from unknot.pruning.refitting.original import Original, outputs_of
from unknot.pruning.refitting.targets import variance_of
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import all_layers, is_attention, width_of

SURE = 10  # held-out samples: of fewer the mean error tells little
USUAL = 2.0  # the variance of as few as eight samples is less than so many times another
ALIKE = 0.9  # of the samples


@dataclass(frozen=True, repr=False)
class RefitReport(Tabular):
    """What refitting changed.

    Attributes:
        rows: one a layer, front to back.
        output_before, output_after: the same error of what the whole model returns, against the pruned
            model as it was.
        n_points: samples used, of which every fifth is held out, of less than 15 every third.
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
    progress: ShowProgress = "auto",
) -> RefitReport:
    """Refit the weights of ``slim`` in place to what ``model`` computes on samples.

    A layer without bias that batch normalisation follows gets its new constant in the running mean
    there. Transposed convolutions, layers called several times, and layers whose error does not fall on
    held-out samples stay as they are; so do all where the error of what the model returns does not fall,
    of less than ten held-out samples by more than chance would have it. Of equal samples one is used.

    Args:
        model: the original; not changed.
        slim: what `prune` made of it.
        plan: by which.
        loader: samples, see `probe_samples`; labels are not used.
        max_points: samples used, fewer where their layer outputs would not fit into memory.
        seed: of their choice, and of the positions at which outputs are compared.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: less than two different samples, samples or layers with NaN, models that do not
            belong together.
    """
    model, slim = unwrapped(model), unwrapped(slim)
    require_instance("plan", plan, PruningPlan, "pass what plan_pruning gave")
    require_count("max_points", max_points, minimum=2)
    probe = probe_samples(loader, max_points=max_points, seed=seed)
    if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in tensors_of(probe.inputs)):
        raise InputError("samples with NaN or infinity", "finite samples", "clean the data")
    different, notes = _different(probe.inputs)
    inputs = _fitting(model, placed(different, model))
    _require_widths("the model", model, plan.filters, "pass the one that was planned for")
    require_what_is_left(slim, plan)
    model, slim = seen_alike(model, slim)
    with step_bar("refitting", 1 + len(all_layers(slim)), show=progress) as step:
        step("running the original")
        original = Original(model, inputs, seed=seed)
        fitting = Fitting(original, slim, plan.removed)
        wanted, power = original.outputs[:: original.every], variance_of(original.outputs)
        found = outputs_of(slim, map_tensors(inputs, lambda t: t[:: original.every]))
        before = (found - wanted).square().mean(1) / power
        held = [(t, t.detach().clone()) for t in (*slim.parameters(), *slim.buffers())]
        output = fitting.front_to_back(inputs, step)
    after = (output[:: original.every] - wanted).square().mean(1) / power
    report = RefitReport(
        rows=tuple(fitting.report),
        output_before=float(before.mean()),
        output_after=float(after.mean()),
        n_points=len(output),
        notes=(*notes, *_oddities(original), *fitting.notes),
    )
    if _nearer(before, after):
        return report
    with torch.no_grad():
        for tensor, values in held:
            tensor.copy_(values)
    rows = tuple(replace(row, after=row.before) for row in report.rows)
    why = "what the model returns came no nearer, so all layers were left as they were"
    notes = (*report.notes, why)
    return replace(report, rows=rows, output_after=report.output_before, notes=notes)


def _different(inputs: Inputs) -> tuple[Inputs, tuple[str, ...]]:
    """The first of each kind of equal samples, and a note where there were others.

    What the weights are fitted to would not tell how they do on others, were these the same.
    """
    n = n_samples(inputs)
    rows = [t.detach().cpu().reshape(n, -1).contiguous().view(torch.uint8) for t in tensors_of(inputs)]
    first: dict[tuple[bytes, ...], int] = {}
    for i in range(n):
        first.setdefault(tuple(row[i].numpy().tobytes() for row in rows), i)
    if len(first) < 2:
        what = "1 sample" if n == 1 else f"{n} equal samples"
        raise InputError(f"{what} to refit on", "at least 2 that differ", "pass more")
    if len(first) == n:
        return inputs, ()
    kept = torch.tensor(list(first.values()))
    note = f"{n - len(first)} of {n} samples are equal to others and were left out"
    return map_tensors(inputs, lambda t: t[kept.to(t.device)]), (note,)


def _oddities(original: Original) -> tuple[str, ...]:
    """What makes one doubt that the samples stand for others."""
    notes = []
    if original.spreads:
        spread = statistics.median(original.spreads.values())
        if not 1 / USUAL < spread < USUAL:
            notes.append(
                f"the samples vary {spread:.2g} times as much as those that batch normalisation was "
                "trained on: on these the model may have got worse"
            )
    highest = original.outputs.argmax(1).bincount()
    if original.outputs.shape[1] > 1 and original.n >= 8 and int(highest.max()) > ALIKE * original.n:
        notes.append(
            f"{int(highest.max())} of {original.n} samples have their highest output in the same place, "
            f"{int(highest.argmax())}: on others the model may have got worse"
        )
    return tuple(notes)


def _nearer(before: Tensor, after: Tensor) -> bool:
    """Whether errors ``[n]`` of samples fell: of few by more than they differ by chance."""
    gain = before - after
    if len(gain) >= SURE:
        return bool(gain.mean() >= 0)
    chance = gain.std() / len(gain) ** 0.5 if len(gain) > 1 else before.mean() / 2
    return bool(gain.mean() > chance) or bool((gain == 0).all())


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
