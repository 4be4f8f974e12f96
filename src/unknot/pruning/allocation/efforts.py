"""How much work goes into a smaller model: three presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from unknot.pruning.allocation.options import LEVELS
from unknot.pruning.planning.options import Allocation

EffortName: TypeAlias = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class Effort:
    """A preset.

    Attributes:
        curves: whether widths are chosen by measured curves.
        levels: widths of each pool that are measured, as shares of it.
        samples: that they are measured on, at most.
        work: multiply-accumulates that the measuring may take; fewer samples and levels where it would
            take more.
        rivals: rules by which widths are chosen too; what loses least on held-out samples is taken.
        refit_samples: that the weights are refitted on, at most.
    """

    curves: bool
    refit_samples: int
    levels: tuple[float, ...] = LEVELS
    samples: int = 384
    work: float = 0.0
    rivals: tuple[Allocation, ...] = ()


EFFORTS: dict[EffortName, Effort] = {
    "fast": Effort(curves=False, refit_samples=256),
    "balanced": Effort(curves=True, refit_samples=512, work=2.5e12, rivals=("auto",)),
    "best": Effort(
        curves=True, refit_samples=1024, levels=(0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.12), samples=768,
        work=2e13, rivals=("auto", "uniform"),
    ),
}  # fmt: skip
