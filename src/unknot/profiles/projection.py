"""CloudView: a layer's samples in three dimensions, for looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class CloudView:
    """The first three principal components of one layer output, a picture and no measurement.

    Attributes:
        epoch: of the training; None where no training was watched.
        layer: dotted module name, or "input".
        call: 0 for the module's first call in a forward pass.
        labels: the class of every point, or None.
        points: ``[n][3]``, centred, in units of the cloud's root-mean-square radius, three decimals.
            Components that a cloud of fewer dimensions lacks are 0.
        explained: share of the layer output's variance that the three components hold, 0 to 1.
    """

    epoch: int | None
    layer: str
    call: int
    labels: tuple[int, ...] | None
    points: tuple[tuple[float, float, float], ...]
    explained: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.points).all():  # of a damaged file
            raise ValueError(f"a view of layer {self.layer} with coordinates that are not finite")


def project(samples: FloatArray, before: FloatArray | None = None) -> tuple[FloatArray, float]:
    """The first three principal components of ``samples``, and the variance that they hold.

    Args:
        samples: ``[n, d]``, finite.
        before: ``[n, 3]``, what this function returned for the same samples at an earlier epoch: the
            new picture is turned onto it (orthogonal Procrustes), so that an animation moves by what
            training changed and not by the arbitrary signs and order of components.

    Returns:
        float64 ``[n, 3]`` as `CloudView.points` describes, and the share of variance.
    """
    from scipy.linalg import orthogonal_procrustes

    # A training that diverges can reach values whose squares overflow.
    centred = samples.astype(np.float64)
    centred = centred / max(float(np.abs(centred).max(initial=0.0)), 1e-300)
    centred -= centred.mean(axis=0)
    # The n x n Gram matrix has the same components as the d x d covariance, and n is small here.
    if centred.shape[1] > centred.shape[0]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        components = vectors * np.sqrt(values.clip(0))
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        components = centred @ vectors
    components = components[:, ::-1][:, :3]
    total = float(values.clip(0).sum())
    explained = float(values[::-1][:3].clip(0).sum() / total) if total > 0 else 1.0
    picture = np.zeros((len(centred), 3))
    picture[:, : components.shape[1]] = components
    radius = float(np.sqrt((picture**2).sum(axis=1).mean()))
    if radius > 0:
        picture /= radius
    if before is not None and before.shape == picture.shape:
        turn, _ = orthogonal_procrustes(picture, before)
        picture = picture @ turn
    return picture, explained
