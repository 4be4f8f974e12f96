"""Two layers whose outputs are added, as the end of a block and its shortcut: fitted as one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unknot.pruning.refitting.ridge import best_fit
from unknot.pruning.refitting.targets import Target
from unknot.pruning.structure.linear_maps import LinearMap, Rows


@dataclass(frozen=True, eq=False)
class Summand:
    """A layer that was called, and what its outputs are multiplied by before they are added.

    Attributes:
        layer: its map, with the inputs that it got.
        scale: ``[out]``.
        version: of the inputs, which may be changed in place later.
    """

    layer: LinearMap
    scale: Tensor
    version: int

    @property
    def usable(self) -> bool:
        """Whether all its outputs can be changed by its weights."""
        size = self.scale.abs()
        return self.layer.regular and not self.layer.folded and bool((size > 1e-3 * size.max()).all())

    @property
    def unchanged(self) -> bool:
        """Whether its inputs are those that it got."""
        return self.layer.inputs._version == self.version

    def scaled(self) -> Tensor:
        """``[out, d]``: what of the sum it weighs by."""
        return self.scale[:, None] * self.layer.filters.flatten(1)


@dataclass(frozen=True, eq=False)
class PairFit:
    """Weights ``[out, d]`` of both, a shift ``[out]`` of the sum; None where the old ones did best."""

    weights: tuple[Tensor, Tensor] | None
    shift: Tensor | None
    before: float  # as of `Fit`
    after: float


def fit_pair(first: Summand, later: Summand, rows: Rows, target: Target, held_out: Tensor) -> PairFit:
    """Ridge regression of what their sum should be on what enters either, side by side.

    Args:
        first: has run with its old weights.
        later: is about to.
        rows: of the later one's output, and so of the sum.
        target: of the later one, whose offset has what the first returned in it.
        held_out: bool ``[r]``, as of `best_fit`.
    """
    entering, own = (s.layer for s in (first, later))
    x = rows.of_input(entering).to(target.values)
    offset = target.offset - x @ first.scaled().T
    if own.bias is not None:
        offset = offset + own.bias.detach() * later.scale
    fit = best_fit(
        torch.cat([x, rows.of_input(own).to(x)], 1),
        replace(target, scale=torch.ones_like(target.scale), offset=offset),
        torch.cat([first.scaled(), later.scaled()], 1),
        None,
        groups=1,
        held_out=held_out,
        constant=True,
    )
    if fit.weight is None:
        return PairFit(None, None, fit.before, fit.after)
    parts = fit.weight[:, : x.shape[1]], fit.weight[:, x.shape[1] :]
    weights = parts[0] / first.scale[:, None], parts[1] / later.scale[:, None]
    return PairFit(weights, fit.bias, fit.before, fit.after)
