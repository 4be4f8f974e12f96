"""Ridge regression of what a layer should return on what enters it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unknot.pruning.structure.linear_maps import matrix

RIDGE = 1e-3  # of the mean square of a layer's input entries


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights and constant that did best on held-out rows; None where the old ones did.

    Attributes:
        weight, bias: ``[out, d]`` and ``[out]``.
        before, after: `relative_error` on the held-out rows.
    """

    weight: Tensor | None
    bias: Tensor | None
    before: float
    after: float


def best_fit(
    x: Tensor,
    wanted: Tensor,
    module: nn.Module,
    *,
    held_out: Tensor,
    constant: bool,
    weights: Tensor | None = None,
) -> Fit:
    """Ridge regression of ``wanted [r, out]`` on ``x [r, d]`` towards the module's weights.

    Args:
        held_out: bool ``[r]``: rows for measuring errors and choosing the ridge.
        constant: whether the outputs can be shifted by one.
        weights: ``[out]``, by which errors are multiplied before they are compared; 1 where None.
    """
    kind = torch.promote_types(x.dtype, torch.float32)  # sums of half precision would overflow
    x, wanted, old = x.to(kind), wanted.to(kind), matrix(module).to(kind)
    found = x[held_out] @ old.T
    if isinstance(module.bias, Tensor):
        found = found + module.bias.detach()
    unit = torch.ones_like(wanted[0]) if weights is None else weights.to(wanted)
    before = relative_error(found * unit, wanted[held_out] * unit)
    if before < 1e-10:  # nothing in front of it changed
        return Fit(None, None, before, before)
    fit = ~held_out
    x_mean = x[fit].mean(0) if constant else torch.zeros_like(x[0])
    y_mean = wanted[fit].mean(0) if constant else torch.zeros_like(wanted[0])
    centred = x[fit] - x_mean
    missing = (wanted[fit] - y_mean) - centred @ old.T
    # In double precision: of channels of unlike sizes float32 rounds off more than the ridge adds.
    gram, towards = centred.double().T @ centred.double(), centred.double().T @ missing.double()
    best = Fit(None, None, before, before)
    for ridge in _ridges(*centred.shape):
        regular = gram.clone()
        regular.diagonal().add_(ridge * float(gram.diagonal().mean()) + 1e-30)
        factor, failed = torch.linalg.cholesky_ex(regular)
        if int(failed):
            continue
        change = torch.cholesky_solve(towards, factor)
        weight = old + change.T.to(old)
        bias = y_mean - weight @ x_mean
        after = relative_error((x[held_out] @ weight.T + bias) * unit, wanted[held_out] * unit)
        if after < best.after:
            best = Fit(weight, bias, before, after)
    return best


def _ridges(rows: int, entries: int) -> tuple[float, ...]:
    """Shares of the mean square to try: the less that the rows leave open, the less, and only one."""
    if rows > 4 * entries:
        return (RIDGE * entries / rows,)
    return (RIDGE, 30 * RIDGE, 1000 * RIDGE)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Mean square of the difference over the variance of ``wanted [n, d]``."""
    power = (wanted - wanted.mean(0)).square().mean() + 1e-30
    return float((found - wanted).square().mean() / power)
