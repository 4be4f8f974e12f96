"""Ridge regression of what a layer should return on what enters it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unknot.pruning.refitting.targets import Target

RIDGE = 1e-3  # of the mean square of a layer's input entries
STRONGER = (1e-2, 1e-1, 1.0, 10.0)
SURE = 4  # so many rows for each entry leave little open
STEPS = 8  # towards what is met after the activation
AT_ONCE = 4096  # rows in float64


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights and constant that did best on held-out rows; None where the old ones did."""

    weight: Tensor | None  # [out, d]
    bias: Tensor | None  # [out]
    before: float  # `Target.error` on the held-out rows, over `Target.power` of all
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
    old = old.to(kind)
    old = old.reshape(groups, -1, old.shape[1])
    rows, held = target.rows(~held_out), target.rows(held_out)
    system = _System(_by_group(x.to(kind), groups), old, held_out, constant)
    power = target.power()

    def error_of(outputs: Tensor) -> float:
        return held.error(outputs) / power

    before = error_of(system.outputs_before(bias))
    if before < 1e-10:  # nothing in front of it changed
        return Fit(None, None, before, before)
    best, last, after = None, float("inf"), before
    solvers = system.solvers()
    wanted = system.wanted(rows.outputs())
    for solver in solvers:
        solution = system.solve(solver, wanted)
        error = error_of(system.held_outputs(solution))
        if error < after:
            best, after = (solver, solution), error
        if error > last:  # and more so from here on
            break
        last = error
    if best is None:
        return Fit(None, None, before, before)
    solver, solution = best
    if not rows.linear:
        within = system.approach(solver, rows, STEPS)
        if (error := error_of(system.held_outputs(within))) < after:
            solution, after = within, error
    return Fit(*system.weights(solution), before, after)


@dataclass(frozen=True, eq=False)
class _Solver:
    factor: Tensor  # Cholesky's, [groups, r or d, r or d]
    ridge: Tensor  # [groups, 1, 1]


@dataclass(frozen=True, eq=False)
class _Wanted:
    towards: Tensor  # [groups, r or d, out], the right-hand side
    mean: Tensor  # [out], of the outputs


@dataclass(frozen=True, eq=False)
class _Solution:
    change: Tensor  # [groups, r or d, out]
    mean: Tensor  # [out], of the outputs


class _System:
    """The normal equations, of entries or where that is less work of rows.

    Args:
        x: ``[groups, r, d]``.
        old: ``[groups, out, d]``, towards which.
        held_out: bool ``[r]``, rows that are not fitted to.
        constant: whether there is one.
    """

    def __init__(self, x: Tensor, old: Tensor, held_out: Tensor, constant: bool) -> None:
        self.old, self.constant = old, constant
        fit = x[:, ~held_out]
        self.x_mean = fit.mean(1, keepdim=True) if constant else torch.zeros_like(x[:, :1])
        self.x, self.held = fit - self.x_mean, x[:, held_out] - self.x_mean
        self.before, self.held_before = self.x @ old.mT, self.held @ old.mT  # [groups, r, out]
        rows, entries = self.x.shape[1:]
        self.few = 2 * rows < 3 * entries  # the same solution from products of rows
        # The least ridge is less than what float32 rounds off, of channels of unlike sizes.
        self.exact = self.sure = rows > SURE * entries

    def outputs_before(self, bias: Tensor | None) -> Tensor:
        """``[h, out]`` of the old weights, on the rows that are held out."""
        constant = _side_by_side(self.x_mean @ self.old.mT)
        return _side_by_side(self.held_before) + (constant if bias is None else constant + bias.detach())

    def solvers(self) -> Iterator[_Solver]:
        """From the least ridge to the greatest.

        The least is the less, the less the rows leave open. But rows of one sample are alike, so that
        many rows of few samples can leave much open too: the others are tried whatever their number.
        """
        rows, entries = self.x.shape[1:]
        least = RIDGE * entries / rows if self.sure else RIDGE
        gram = self._gram()
        first = self._factorised(gram, least)
        if first is None and not self.exact:
            self.exact = True
            gram = self._gram()
            first = self._factorised(gram, least)
        # What a solution is multiplied by to get outputs.
        self.products = self._with_rows(self.held) if self.few else self.held
        others = (self._factorised(gram, ridge) for ridge in STRONGER if ridge > least)
        return filter(None, itertools.chain((first,), others))

    def _gram(self) -> Tensor:
        return self._with_rows(self.x) if self.few else self._across(self.x)

    def _with_rows(self, x: Tensor) -> Tensor:
        """``[groups, k, r]``: ``x [groups, k, d]`` times the rows, in float64 where `exact`."""
        return x.double() @ self.x.double().mT if self.exact else x @ self.x.mT

    def _across(self, values: Tensor) -> Tensor:
        """``[groups, d, k]``: the entries times ``values [groups, r, k]``, in float64 where `exact`."""
        if not self.exact:
            return self.x.mT @ values
        found = values.new_zeros(len(values), self.x.shape[2], values.shape[2], dtype=torch.float64)
        for x, part in zip(*(torch.split(t, AT_ONCE, 1) for t in (self.x, values)), strict=True):
            found += x.double().mT @ part.double()
        return found

    def _factorised(self, gram: Tensor, ridge: float) -> _Solver | None:
        power = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] / self.x.shape[2]
        added = ridge * power + 1e-30
        regular = gram.clone()
        regular.diagonal(dim1=1, dim2=2).add_(added[:, 0])
        factor, failed = torch.linalg.cholesky_ex(regular)
        return None if bool(failed.any()) else _Solver(factor, added)

    def wanted(self, outputs: Tensor) -> _Wanted:
        """For ``outputs [r, out]``, centred where there is a constant."""
        missing, mean = self._missing(outputs)
        return _Wanted(missing if self.few else self._across(missing), mean)

    def solve(self, solver: _Solver, wanted: _Wanted) -> _Solution:
        towards = wanted.towards.to(solver.factor)
        return _Solution(torch.cholesky_solve(towards, solver.factor), wanted.mean)

    def approach(self, solver: _Solver, target: Target, steps: int) -> _Solution:
        """After ``steps``, each of which lessens the error after the activation.

        They say what to aim at, for which the entries' own precision will do.
        """
        factor, ridge = solver.factor.to(self.x), solver.ridge.to(self.x)
        outputs = target.outputs()
        for _ in range(steps):
            missing, mean = self._missing(outputs)
            change = torch.cholesky_solve(missing if self.few else self.x.mT @ missing, factor)
            found = missing - ridge * change if self.few else self.x @ change
            outputs = target.nearest(_side_by_side(self.before + found) + mean)
        return self.solve(solver, self.wanted(outputs))

    def held_outputs(self, solution: _Solution) -> Tensor:
        """``[h, out]``, on the rows that are held out."""
        found = self.held_before + (self.products @ solution.change.to(self.products)).to(self.old)
        return _side_by_side(found) + solution.mean

    def weights(self, solution: _Solution) -> tuple[Tensor, Tensor]:
        """Weights ``[out, d]`` and constant ``[out]``."""
        change = self._across(solution.change) if self.few else solution.change
        weight = self.old + change.mT.to(self.old)
        return weight.flatten(0, 1), solution.mean - _side_by_side(self.x_mean @ weight.mT)[0]

    def _missing(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """By how much ``wanted``, centred, exceeds the outputs so far, ``[groups, r, out]``; the mean."""
        mean = wanted.mean(0) if self.constant else torch.zeros_like(wanted[0])
        return (_by_group(wanted - mean, len(self.old)) - self.before).to(self.x), mean


def _by_group(x: Tensor, groups: int) -> Tensor:
    """``[r, groups * d] -> [groups, r, d]``."""
    return x.reshape(len(x), groups, -1).transpose(0, 1)


def _side_by_side(parts: Tensor) -> Tensor:
    """``[groups, r, out] -> [r, groups * out]``."""
    return parts.transpose(0, 1).flatten(1)
