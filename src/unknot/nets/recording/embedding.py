"""Points that are as far apart as samples of which the distances alone are known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from unknot.nets.recording.outputs import LayerDistances, LayerOutput

# Of the mean square of the distances from their centre: by so much more all squares grow at first.
_LEAST_SHIFT = 1e-9


def as_points(layer: LayerDistances, ks: Iterable[int] = ()) -> LayerOutput:
    """n points in n dimensions that lie as far apart as the samples in the layer's output.

    What any measure of topology makes of these points it makes of the samples. Rounding leaves no points
    at exactly such distances: all squares of distances other than 0 are the greater by one number, the
    least power of ten that will do, which changes the order of none, and is far below the error bound.

    Args:
        ks: numbers of nearest neighbours. The note tells of how many samples these hang on rounding.

    Returns:
        float64 values ``[n, n]``, equal for samples at distance 0; NaN where the distances are.
    """
    squares, n = layer.squares, len(layer.squares)
    first, number = np.unique((squares == 0).argmax(axis=1), return_inverse=True)
    if not np.isfinite(squares).all():
        return LayerOutput(layer.layer, layer.call, torch.full((n, 1), torch.nan), layer.note)
    points = _cholesky(squares[np.ix_(first, first)])[number]
    note = f"read as distances, whose squares are good to {2 * layer.unit:.1g}"
    doubtful = {k: count for k in sorted(set(ks)) if (count := count_doubtful(layer, k))}
    if doubtful:
        listed = ", ".join(f"the {k} nearest of {count}" for k, count in doubtful.items())
        note += f": that leaves open {listed} of {n} samples"
    notes = [layer.note] if layer.note else []
    return LayerOutput(layer.layer, layer.call, torch.from_numpy(points), "; ".join([*notes, note]))


def count_doubtful(layer: LayerDistances, k: int) -> int:
    """Of how many samples the error bound leaves open which are the k nearest."""
    n = len(layer.squares)
    if k >= n - 1:
        return 0
    bound = layer.unit * (layer.reach[:, None] + layer.reach[None]) ** 2
    bound[layer.squares == 0] = 0.0  # these are known exactly
    squares = layer.squares + np.diag(np.full(n, np.inf))
    near = np.argpartition(squares, k - 1, axis=1)
    inside, outside = near[:, :k], near[:, k:]
    farthest = np.take_along_axis(squares + bound, inside, axis=1).max(axis=1)
    nearest = np.take_along_axis(squares - bound, outside, axis=1).min(axis=1)
    return int((farthest >= nearest).sum())


def _cholesky(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at these squared distances ``[m, m]``, all increased by one number."""
    means = squares.mean(axis=0)
    products = (means[:, None] + means[None] - means.mean() - squares) / 2
    scale = float(products.trace()) / len(products)
    shift = _LEAST_SHIFT
    while scale > 0:
        try:
            return np.linalg.cholesky(products + np.diag(np.full(len(products), shift * scale)))
        except np.linalg.LinAlgError:
            shift *= 10
    return np.zeros_like(products)  # one point
