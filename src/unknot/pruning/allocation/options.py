"""How widths are measured, and with how much work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unknot.core.errors import InputError, require_count

LEVELS = (0.75, 0.5, 0.33, 0.2)
FEWER_LEVELS = ((0.6, 0.33, 0.2), (0.5, 0.25))
FEWEST = 10  # samples
ENOUGH = 96  # samples: rather fewer levels than fewer samples


@dataclass(frozen=True)
class CurveOptions:
    """How curves are measured: the keywords of `measure_curves`.

    Raises:
        InputError: levels outside (0, 1), too few samples.
    """

    levels: Sequence[float] = LEVELS
    max_points: int = 384
    loss: Literal["auto", "kl", "error"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise InputError(
                f"levels = {self.levels}", "shares of channels in (0, 1)", "pass e.g. (0.5,)"
            )
        if self.loss not in ("auto", "kl", "error"):
            raise InputError(f"loss = {self.loss!r}", "'auto', 'kl' or 'error'", "pass 'auto'")
        require_count("max_points", self.max_points, minimum=FEWEST)
        require_count("seed", self.seed, minimum=0)

    def within(self, work: float, macs: float, pools: int) -> CurveOptions:
        """The same with as few levels and samples as keep the passes below ``work`` multiply-accumulates.

        Args:
            work: in all.
            macs: of one sample.
            pools: that are measured.
        """
        for levels in (self.levels, *FEWER_LEVELS):
            samples = int(work / max(1.0, macs * pools * len(levels)))
            if samples >= min(self.max_points, ENOUGH):
                break
        return replace(self, levels=levels, max_points=max(FEWEST, min(self.max_points, samples)))
