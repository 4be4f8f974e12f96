"""What widths are chosen by: measured curves, steps that are fast, milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from unknot.pruning.planning.pool_curves import PoolCurves
from unknot.pruning.planning.speed.latency_model import LatencyModel


@dataclass(frozen=True, eq=False)
class Guide:
    """What was measured of a model before its widths are chosen.

    Attributes:
        curves: what the output loses with each pool cut.
        steps: each of the structure's pools keeps a multiple of so many units, or all; None: as the
            options say.
        latency: predicts milliseconds; needed for a budget in them.
    """

    curves: PoolCurves
    steps: tuple[int, ...] | None = None
    latency: LatencyModel | None = None

    def spends(self, budget: str) -> bool:
        """Whether widths can be chosen by it under a budget of this name."""
        return budget in ("macs", "parameters") or (budget == "latency_ms" and self.latency is not None)
