"""Ridge regression of what a layer should return on what enters it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unknot.pruning.refitting.targets import Target

RIDGE = 1e-3  # of the mean square of a layer's input entries
STRONGER = (1e-2, 1e-1, 1.0, 10.0)
STEPS = 8  # towards what is met within bounds


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights and constant that did best on held-out rows; None where the old ones did."""

    weight: Tensor | None  # [out, d]
    bias: Tensor | None  # [out]
    before: float  # `Target.error` on the held-out rows
    after: float


def best_fit(
    x: Tensor,
    target: Target,
    old: Tensor,
    bias: Tensor | None,
    *,
    groups: int,
    held_out: Tensor,
    constant: bool,
) -> Fit:
    """Ridge regression of what ``target [r, out]`` asks on ``x [r, groups * d]``.

    Args:
        old: ``[out, d]``, the weights so far, towards which.
        bias: ``[out]``, the constant so far.
        groups: outputs are regressed on the entries of their group.
        held_out: bool ``[r]``: rows for measuring errors and choosing the ridge.
        constant: whether the outputs can be shifted by one.
    """
    kind = torch.promote_types(x.dtype, torch.float32)  # sums of half precision would overflow
    x = _by_group(x.to(kind), groups)  # [groups, r, d]
    old = old.to(kind)
    old = old.reshape(groups, -1, old.shape[1])
    held = x[:, held_out], target.rows(held_out)

    def error(weight: Tensor, constant: Tensor | None) -> float:
        outputs = _side_by_side(held[0] @ weight.mT)
        return held[1].error(outputs if constant is None else outputs + constant)

    before = error(old, None if bias is None else bias.detach())
    if before < 1e-10:  # nothing in front of it changed
        return Fit(None, None, before, before)
    rows = target.rows(~held_out)
    system = _System(x[:, ~held_out], old, constant)
    wanted = rows.outputs()
    best, last, solved = Fit(None, None, before, before), float("inf"), None
    for ridge in system.ridges():
        if not system.factorise(ridge):
            continue
        weight, shift = system.solve(wanted)
        after = error(weight, shift)
        if after < best.after:
            best, solved = Fit(weight.flatten(0, 1), shift, before, after), system.factor
        if after > last:  # and more so from here on
            break
        last = after
    if solved is None or not rows.clamped:
        return best
    system.factor = solved
    weight, shift = system.approach(rows, STEPS)
    after = error(weight, shift)
    return Fit(weight.flatten(0, 1), shift, before, after) if after < best.after else best


class _System:
    """The normal equations, of entries or where these are fewer of rows.

    Args:
        x: ``[groups, r, d]``.
        old: ``[groups, out, d]``, towards which.
        constant: whether there is one.
    """

    def __init__(self, x: Tensor, old: Tensor, constant: bool) -> None:
        self.old, self.constant = old, constant
        self.x_mean = x.mean(1, keepdim=True) if constant else torch.zeros_like(x[:, :1])
        centred = x - self.x_mean
        self.before = centred @ old.mT  # [groups, r, out]
        # In double precision: of channels of unlike sizes float32 rounds off more than the ridge adds.
        self.x = centred.double()
        self.few = self.x.shape[1] < self.x.shape[2]  # the same solution from products of rows
        self.gram = self.x @ self.x.mT if self.few else self.x.mT @ self.x
        self.power = self.gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / self.x.shape[2]
        self.factor = self.gram  # once it is made

    def ridges(self) -> tuple[float, ...]:
        """Shares of the mean square to try, from little to much.

        The least is the less, the less the rows leave open. But rows of one sample are alike, so that
        many rows of few samples can leave much open too: the others are tried whatever their number.
        """
        rows, entries = self.x.shape[1:]
        least = RIDGE * entries / rows if rows > 4 * entries else RIDGE
        return (least, *(ridge for ridge in STRONGER if ridge > least))

    def factorise(self, ridge: float) -> bool:
        """Whether it could be done."""
        regular = self.gram.clone()
        regular.diagonal(dim1=1, dim2=2).add_(ridge * self.power + 1e-30)
        self.factor, failed = torch.linalg.cholesky_ex(regular)
        return not bool(failed.any())

    def solve(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``[groups, out, d]`` and constant ``[out]`` for ``wanted [r, out]``."""
        mean = wanted.mean(0) if self.constant else torch.zeros_like(wanted[0])
        missing = _by_group(wanted - mean, len(self.old)) - self.before
        towards = missing.double() if self.few else self.x.mT @ missing.double()
        change = torch.cholesky_solve(towards, self.factor)
        change = self.x.mT @ change if self.few else change
        weight = self.old + change.mT.to(self.old)
        return weight, mean - _side_by_side(self.x_mean @ weight.mT)[0]

    def approach(self, target: Target, steps: int) -> tuple[Tensor, Tensor]:
        """The solution after ``steps``, each of which lessens its error within bounds."""
        weight, shift = self.solve(target.outputs())
        for _ in range(steps):
            whole = shift + _side_by_side(self.x_mean @ weight.mT)
            outputs = _side_by_side(self.x.to(weight) @ weight.mT) + whole
            weight, shift = self.solve(target.nearest(outputs))
        return weight, shift


def _by_group(x: Tensor, groups: int) -> Tensor:
    """``[r, groups * d] -> [groups, r, d]``."""
    return x.reshape(len(x), groups, -1).transpose(0, 1)


def _side_by_side(parts: Tensor) -> Tensor:
    """``[groups, r, out] -> [r, groups * out]``."""
    return parts.transpose(0, 1).flatten(1)
