"""How many filters exceed a Betti threshold, over sample sizes and scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError, require_count
from unknot.core.showing import drawing
from unknot.core.showing.frames import Rows
from unknot.nets.probe import probe_samples
from unknot.nets.running import unwrapped
from unknot.pruning.scoring.betti import Betti, Number, conv_outputs, filter_clouds, layer_scales
from unknot.pruning.structure.layers import prunable_layers
from unknot.topology.batch import CountSettings, count_clouds
from unknot.topology.scale import Scale, require_rule

QUANTILES = (0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class ThresholdRow:
    """One layer at one sample size and one scale.

    Attributes:
        layer: dotted module name of the convolution.
        n_points: samples; of a filter with equal outputs fewer are distinct.
        scale: the neighbour rule.
        filters: of the layer.
        exceeding: those whose Betti number is above the threshold.
        quantile: of the layer's distances, at which the radius lies; None for a given scale.
    """

    layer: str
    n_points: int
    scale: Scale
    filters: int
    exceeding: int
    quantile: float | None = None


class Thresholds(Rows[ThresholdRow]):
    """Filters above a threshold, over sample sizes and scales: a tuple of `ThresholdRow`, to be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the share of all filters that exceed the threshold, a row a sample size, a column a scale.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        drawing.require_rows(self, "a comparison of thresholds")
        sizes = sorted({row.n_points for row in self})
        scales = list(dict.fromkeys(map(scale_name, self)))
        counts = np.zeros((2, len(sizes), len(scales)))
        for row in self:
            at = sizes.index(row.n_points), scales.index(scale_name(row))
            counts[:, at[0], at[1]] += row.exceeding, row.filters
        (axes,) = drawing.axes_for(ax, 2 + 0.7 * len(scales), 1.2 + 0.3 * len(sizes))
        shares = counts[0] / np.where(counts[1], counts[1], np.nan)
        texts = [[f"{share:.0%}" for share in of_size] for of_size in shares]
        drawing.heat_map(axes, shares, scales, [f"n = {n:,}" for n in sizes], texts)
        axes.set_xlabel("radius, by quantile of distances")
        return axes


def scale_name(row: ThresholdRow) -> str:
    """ "2 %" for a radius at this quantile of the distances, else the rule."""
    return str(row.scale) if row.quantile is None else f"{100 * row.quantile:g} %"


def threshold_sensitivity(
    model: nn.Module,
    loader: Iterable[Any] | Tensor,
    threshold: float = 300,
    *,
    linear: Sequence[str] | None = None,
    sizes: Sequence[int] = (100, 200, 400, 800),
    quantiles: Sequence[float] = QUANTILES,
    scales: Sequence[Scale] = (),
    number: Number = "sum",
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> Thresholds:
    """Count the filters whose Betti number exceeds ``threshold``, for every sample size and scale.

    What a threshold says depends on both: n samples have at most n components, and near a radius of 0
    all of them. The smaller samples are parts of the larger ones.

    Args:
        model: any with convolutions or inner linear layers; not changed.
        loader: samples, see `probe_samples`; one cloud a filter, of all classes.
        threshold: a Betti number, >= 0.
        linear: globs of linear layers, as of `score_filters`.
        sizes: numbers of samples; those beyond what the loader has are measured as what it has.
        quantiles: of the layer's distances at the largest size; each gives a Rips radius.
        scales: further scales, e.g. ``(uk.Scale(k=14, hops=2),)``.
        number: "b0", "b1" or their "sum".
        seed: of the choice of samples and of the distances that quantiles are taken of.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: no layer to prune, sizes below 2, quantiles outside [0, 1], NaN (the layer is named).
    """
    if not isinstance(threshold, Real) or not threshold >= 0:
        raise InputError(f"threshold = {threshold!r}", "a number >= 0", "pass e.g. threshold=300")
    for size in sizes:
        require_count("sizes", size, minimum=2)
    for share in quantiles:
        if not 0 <= share <= 1:
            raise InputError(f"quantile {share}", "a share in [0, 1]", "pass e.g. 0.02")
    for scale in scales:
        require_rule(scale)
    betti = Betti(number=number)
    if not sizes or not (len(quantiles) or len(scales)):
        raise InputError("an empty grid", "a size, and a quantile or a scale", "pass sizes=(100, 400)")
    model = unwrapped(model)
    layers = list(prunable_layers(model, linear))
    probe = probe_samples(loader, max_points=max(sizes), seed=seed)
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(probe)))
    distinct_sizes = sorted({min(size, len(probe)) for size in sizes})
    rows = []
    for output in conv_outputs(model, layers, probe, progress=progress):
        radii = layer_scales(output.values, tuple(quantiles), rng) if quantiles else ()
        grid = [*zip(radii, quantiles, strict=True), *((scale, None) for scale in scales)]
        for n in distinct_sizes:
            clouds = filter_clouds(output, order[:n])
            for rule, quantile in grid:
                counts = count_clouds(clouds, CountSettings(rule))
                above = sum(betti.chosen(count.betti.values) > threshold for count in counts)
                rows.append(ThresholdRow(output.layer, n, rule, len(clouds), above, quantile))
    return Thresholds(rows)
