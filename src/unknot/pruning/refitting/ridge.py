"""Ridge regression of what a layer should return on what enters it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3  # of the mean square of a layer's input entries
STRONGER = (1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights and constant that did best on held-out rows; None where the old ones did."""

    weight: Tensor | None  # [out, d]
    bias: Tensor | None  # [out]
    before: float  # `relative_error` on the held-out rows
    after: float


def best_fit(
    x: Tensor,
    wanted: Tensor,
    old: Tensor,
    bias: Tensor | None,
    *,
    groups: int,
    held_out: Tensor,
    constant: bool,
    weights: Tensor | None = None,
) -> Fit:
    """Ridge regression of ``wanted [r, out]`` on ``x [r, groups * d]`` towards ``old [out, d]``.

    Args:
        bias: ``[out]``, the constant so far.
        groups: outputs are regressed on the entries of their group.
        held_out: bool ``[r]``: rows for measuring errors and choosing the ridge.
        constant: whether the outputs can be shifted by one.
        weights: ``[out]``, by which errors are multiplied before they are compared; 1 where None.
    """
    kind = torch.promote_types(x.dtype, torch.float32)  # sums of half precision would overflow
    # Each [groups, r or out, d].
    x = _by_group(x.to(kind), groups)
    old = old.to(kind)
    old = old.reshape(groups, -1, old.shape[1])
    wanted = wanted.to(kind)
    unit = torch.ones_like(wanted[0]) if weights is None else weights.to(wanted)

    def error(weight: Tensor, constant: Tensor | None) -> float:
        outputs = _side_by_side(x[:, held_out] @ weight.mT)
        outputs = outputs if constant is None else outputs + constant
        return relative_error(outputs * unit, wanted[held_out] * unit)

    before = error(old, None if bias is None else bias.detach())
    if before < 1e-10:  # nothing in front of it changed
        return Fit(None, None, before, before)
    fit = ~held_out
    x_mean = x[:, fit].mean(1, keepdim=True) if constant else torch.zeros_like(x[:, :1])
    y_mean = wanted[fit].mean(0) if constant else torch.zeros_like(wanted[0])
    centred = x[:, fit] - x_mean
    missing = _by_group(wanted[fit] - y_mean, groups) - centred @ old.mT
    # In double precision: of channels of unlike sizes float32 rounds off more than the ridge adds.
    centred, missing = centred.double(), missing.double()
    few = centred.shape[1] < centred.shape[2]  # the same solution from products of rows
    gram = centred @ centred.mT if few else centred.mT @ centred
    towards = missing if few else centred.mT @ missing
    power = gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / centred.shape[2]
    best, last = Fit(None, None, before, before), float("inf")
    for ridge in _ridges(*centred.shape[1:]):
        regular = gram.clone()
        regular.diagonal(dim1=1, dim2=2).add_(ridge * power + 1e-30)
        factor, failed = torch.linalg.cholesky_ex(regular)
        if bool(failed.any()):
            continue
        change = torch.cholesky_solve(towards, factor)
        change = centred.mT @ change if few else change
        weight = old + change.mT.to(old)
        shift = y_mean - _side_by_side(x_mean @ weight.mT)[0]
        after = error(weight, shift)
        if after < best.after:
            best = Fit(weight.flatten(0, 1), shift, before, after)
        if after > last:  # and more so from here on
            break
        last = after
    return best


def _by_group(x: Tensor, groups: int) -> Tensor:
    """``[r, groups * d] -> [groups, r, d]``."""
    return x.reshape(len(x), groups, -1).transpose(0, 1)


def _side_by_side(parts: Tensor) -> Tensor:
    """``[groups, r, out] -> [r, groups * out]``."""
    return parts.transpose(0, 1).flatten(1)


def _ridges(rows: int, entries: int) -> tuple[float, ...]:
    """Shares of the mean square to try, from little to much.

    The least is the less, the less the rows leave open. But rows of one sample are alike, so that many
    rows of few samples can leave much open too: the others are tried whatever their number.
    """
    least = RIDGE * entries / rows if rows > 4 * entries else RIDGE
    return (least, *(ridge for ridge in STRONGER if ridge > least))


def relative_error(outputs: Tensor, wanted: Tensor) -> float:
    """Mean square of the difference over the variance of ``wanted [n, d]``."""
    power = (wanted - wanted.mean(0)).square().mean() + 1e-30
    return float((outputs - wanted).square().mean() / power)
