"""What the model's output loses with each pool of channels cut alone: measured, and in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError
from unknot.core.files import Saved
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular, columns_of
from unknot.pruning.structure.pools import Pool

Loss = Literal["kl", "error"]
LOSSES = {"kl": "KL divergence of the classes, nats", "error": "mean square error over the variance"}
NOTHING = 1e-4  # added before logarithms: what is lost with nothing


@dataclass(frozen=True)
class PoolLevel:
    """One pool cut to one width.

    Attributes:
        pool: its number among the structure's pools.
        layers: whose channels they are.
        units: channels before.
        kept: channels left.
        loss: of the model's output with the rest refitted, on samples that the refit did not see.
    """

    pool: int
    layers: tuple[str, ...]
    units: int
    kept: int
    loss: float


@dataclass(frozen=True, repr=False)
class PoolCurves(Tabular, Saved):
    """What the model's output loses with each pool cut alone, the other ones whole.

    Attributes:
        rows: one for each pool and width, the widest first.
        loss: what is measured: "kl", the KL divergence of the original's class probabilities to those of
            the pruned model in nats a sample; "error", the mean square of the difference over the
            variance of the original's outputs.
        criterion: whose order the channels went in.
        n_fit, n_held_out: samples that the rest was refitted on, and that the loss is of.
        seed: of the places at which outputs were looked at.
    """

    file_kind = "curves"

    rows: tuple[PoolLevel, ...]
    loss: Loss
    criterion: str
    n_fit: int
    n_held_out: int
    seed: int

    def _columns(self) -> dict[str, list[Any]]:
        return columns_of(self.rows)

    def _title(self) -> str:
        pools = len({row.pool for row in self.rows})
        return (
            f"PoolCurves of {pools:,} pool{'s' * (pools != 1)} by {self.criterion}: {LOSSES[self.loss]}, "
            f"refitted on {self.n_fit:,} samples, on {self.n_held_out:,} others"
        )

    def by_pool(self) -> dict[int, tuple[PoolLevel, ...]]:
        """The rows of each pool by its number, the widest first."""
        pools: defaultdict[int, list[PoolLevel]] = defaultdict(list)
        for row in self.rows:
            pools[row.pool].append(row)
        return {pool: tuple(rows) for pool, rows in pools.items()}

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss of each pool over the share of its channels that is left.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes. Of more than eight pools the eight that lose most are named.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        drawing.require_rows(self.rows, "curves")
        (axes,) = drawing.axes_for(ax, 5.4, 3.4)
        worst = sorted(self.by_pool().values(), key=lambda rows: -rows[-1].loss)
        for i, rows in enumerate(worst):
            points = [(1.0, NOTHING), *((row.kept / row.units, row.loss + NOTHING) for row in rows)]
            named = i < 8
            style = {"color": drawing.colour(i) if named else drawing.LINE, "zorder": 2 if named else 1}
            label = drawing.short(" + ".join(rows[0].layers)) if named else None
            axes.plot(
                *zip(*points, strict=True), marker=drawing.mark(i), markersize=4, label=label, **style
            )
        axes.set(yscale="log", xlabel="channels left", ylabel=LOSSES[self.loss])
        axes.set_xlim(1.05, 0)
        drawing.percent_axis(axes, "x")
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes


def interpolated(rows: Sequence[PoolLevel]) -> NDArray[np.float64]:
    """The loss of a pool with so many channels gone, ``[units]``: none at 0, all but one at the end.

    The logarithm is interpolated over the width, and no width is better than a wider one. Below the least
    width that was measured it goes on twice as steeply as before: nothing is known there.
    """
    units = rows[0].units
    kept = [units, *(row.kept for row in rows)]
    logs = np.log(np.maximum.accumulate([0.0, *(max(row.loss, 0.0) for row in rows)]) + NOTHING)
    widths = np.arange(1, units + 1)
    curve = np.interp(widths, kept[::-1], logs[::-1])
    low = kept[-1]
    slope = 2 * (logs[-1] - logs[0]) / (units - low)
    curve[: low - 1] = logs[-1] + slope * (low - widths[: low - 1])
    return np.asarray(np.exp(curve[::-1]) - NOTHING)


def require_curves_of(curves: PoolCurves, pools: Sequence[Pool]) -> None:
    """Refuse curves of another structure than the one with these pools."""
    for row in curves.rows:
        pool = pools[row.pool] if row.pool < len(pools) else None
        if pool is None or pool.layers != tuple(row.layers) or len(pool.units) != row.units:
            raise InputError(
                f"curves of pool {row.pool}, {row.units} channels of {', '.join(row.layers)}",
                "curves of this model, with the same layers ignored",
                "measure them again",
            )
