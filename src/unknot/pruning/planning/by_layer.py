"""What a plan says of each layer: as a table, drawn, and in words."""

from __future__ import annotations

from typing import Any

from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular


class ByLayer(Tabular):
    """The table of a plan, one row a layer; `PruningPlan` says what the attributes are."""

    removed: dict[str, list[int]]
    kept_layers: dict[str, str]
    filters: dict[str, int]
    criterion: str
    budget: str

    def _columns(self) -> dict[str, list[Any]]:
        removed = [len(self.removed.get(layer, ())) for layer in self.filters]
        return {
            "layer": list(self.filters),
            "filters": list(self.filters.values()),
            "removed": removed,
            "left": [n - gone for n, gone in zip(self.filters.values(), removed, strict=True)],
            "kept because": [self.kept_layers.get(layer, "") for layer in self.filters],
        }

    def _title(self) -> str:
        removed, filters = sum(map(len, self.removed.values())), sum(self.filters.values())
        title = f"PruningPlan by {self.criterion}: {removed:,} of {filters:,} filters go"
        return f"{title}; {self.budget}" if self.budget else title

    def plot(self, ax: Any = None) -> Any:
        """Draw how many filters of each layer stay and go.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no layers, matplotlib is not installed.
        """
        drawing.require_rows(self.filters, "a plan")
        (axes,) = drawing.axes_for(ax, 5, 1.2 + 0.3 * len(self.filters))
        columns = self._columns()
        parts = {"stay": (columns["left"], drawing.KEPT), "go": (columns["removed"], drawing.GONE)}
        drawing.stacked_bars(axes, columns["layer"], parts)
        axes.set_xlabel("filters")
        return axes


def why_nothing_goes(kept: dict[str, str], filters: dict[str, int]) -> str:
    """One line where every layer of ``filters`` is ``kept``; empty where one is not."""
    if not filters:
        return "no layer has channels that others take in"
    if set(filters) - set(kept):
        return ""
    layer = next(iter(filters))
    n = len(filters) - 1
    others = f", nor may those of {n} other layer{'s' * (n != 1)}" if n else ""
    return f"no filter of {layer} may go ({kept[layer]}){others}"
