"""Betti numbers and islands of many clouds as features, by the conventions of scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from unknot.core.errors import InputError, require_count, require_positive
from unknot.topology.calibration import MOST_POINTS, calibrate
from unknot.topology.cloud import FloatArray
from unknot.topology.homology import betti_numbers_batch, check_clouds, require_dim
from unknot.topology.multiscale.density import islands_batch
from unknot.topology.scale import Scale, require_rule

C = TypeVar("C", bound="CloudTransformer")
Clouds = NDArray[np.floating[Any]] | Iterable[ArrayLike]


class CloudTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """What both estimators share: clouds in, one row of features a cloud out.

    A class gives ``_settle``, which checks the parameters and learns what there is to learn, ``_measure``
    and ``_names``.
    """

    def fit(self: C, X: Clouds, y: object = None) -> C:
        """Check the parameters and the clouds, and learn what is learnt from them.

        Args:
            X: clouds, ``[b, n, d]`` or a list of ``[n_i, d_i]``; at least one.
            y: not used.

        Returns:
            Itself.

        Raises:
            InputError: no cloud, one cloud in place of several, NaN, parameters that cannot be.
        """
        clouds = self._clouds(X)
        widths = {cloud.shape[1] for cloud in clouds}
        self._settle(clouds)
        self.__dict__.pop("n_features_in_", None)  # of an earlier fit
        if len(widths) == 1:
            self.n_features_in_: int = widths.pop()
        self.n_clouds_ = len(clouds)
        return self

    def transform(self, X: Clouds) -> NDArray[np.float64]:
        """Measure each cloud.

        Args:
            X: clouds, as of `fit`; of as many coordinates where those of `fit` had all equally many.

        Returns:
            float64 ``[b, m]``, columns as of `get_feature_names_out`.

        Raises:
            InputError: what `fit` refuses, a cloud with too few points, other coordinates.
            NotFittedError: before `fit`.
        """
        check_is_fitted(self, "n_clouds_")
        clouds = self._clouds(X)
        expected = getattr(self, "n_features_in_", None)
        for i, cloud in enumerate(clouds):
            if expected is not None and cloud.shape[1] != expected:
                # The sentence that scikit-learn has for it.
                raise InputError(
                    f"X has {cloud.shape[1]} features, but {type(self).__name__} is expecting {expected} "
                    f"features as input (clouds[{i}])",
                    f"points of {expected} coordinates",
                    "fit it on clouds like these",
                )
        return np.asarray(self._measure(clouds), dtype=np.float64)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """The names of the columns.

        Args:
            input_features: not used; columns are not made of columns.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self, "n_clouds_")
        return np.array(self._names(), dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _more_tags(self) -> dict[str, Any]:  # of scikit-learn before 1.6
        return {"X_types": ["3darray"], "preserves_dtype": []}

    @staticmethod
    def _clouds(clouds: object) -> list[FloatArray]:
        if sparse.issparse(clouds):
            raise InputError("clouds as a sparse matrix", "dense arrays", "pass [points.toarray()]")
        if isinstance(clouds, np.ndarray) and clouds.dtype == object and clouds.ndim == 1:
            clouds = list(clouds)  # of unequal lengths
        arrays = list(check_clouds(clouds))
        if not arrays:
            raise InputError("0 clouds", "at least one", "pass clouds [b, n, d]")
        for i, array in enumerate(arrays):
            if not array.shape[1]:
                value = f"clouds[{i}] of shape {array.shape}"
                raise InputError(value, "points of one coordinate or more", "check what was loaded")
        return arrays

    def _settle(self, clouds: Sequence[FloatArray]) -> None:
        raise NotImplementedError

    def _measure(self, clouds: Sequence[FloatArray]) -> Sequence[Sequence[float]]:
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError


class BettiNumbersTransformer(CloudTransformer):
    """Betti numbers of clouds at one scale: columns b0, b1 (and b2).

    >>> circles = [uk.make_shape("rings", pairs=p, n=200 * p, seed=0).points for p in (1, 2, 3)]
    >>> uk.topology.BettiNumbersTransformer(k=8).fit_transform(circles)
    array([[2., 2.],
           [4., 4.],
           [6., 6.]])

    Args:
        scale: a Scale; or "auto", which takes radius or k where one is given, and else calibrates in
            `fit`.
        radius: of the Rips rule, in the unit of the points.
        k: of the kNN-hop rule; clouds of more than k points.
        hops: with k; 1 by default.
        max_dim: the highest Betti number: 0, 1 or 2.
        threads: that share the clouds, inside the engine; 0 takes one a core.

    Attributes:
        scale_: the Scale that clouds are measured at. Calibrated, it is the one at which the Betti
            numbers of all clouds given to `fit` are stable together (where they have more than 10,000
            points in all, of evenly spaced ones that have fewer). A warning says where there is none;
            ``scale_.determined`` is then False, and ``scale_.note`` has the reason.
        n_features_in_: coordinates of a point, where all clouds have equally many.
        n_clouds_: how many it was fitted on.
    """

    def __init__(
        self,
        scale: Scale | Literal["auto"] = "auto",
        *,
        radius: float | None = None,
        k: int | None = None,
        hops: int | None = None,
        max_dim: int = 1,
        threads: int = 0,
    ) -> None:
        self.scale = scale
        self.radius = radius
        self.k = k
        self.hops = hops
        self.max_dim = max_dim
        self.threads = threads

    def _settle(self, clouds: Sequence[FloatArray]) -> None:
        require_dim(self.max_dim)
        require_count("threads", self.threads, minimum=0)
        given = Scale(k=self.k, hops=self.hops, radius=self.radius)
        if not isinstance(self.scale, str):
            require_rule(self.scale, "'auto'")
            if given.rule is not None:
                raise InputError(f"scale = {self.scale} with {given}", "one of them", "drop scale")
            self.scale_ = self.scale
        elif self.scale != "auto":
            raise InputError(f"scale = {self.scale!r}", "a Scale or 'auto'", "pass Scale(k=14, hops=2)")
        else:
            self.scale_ = _calibrated(clouds, self.max_dim) if given.rule is None else given

    def _measure(self, clouds: Sequence[FloatArray]) -> list[tuple[int, ...]]:
        measured = betti_numbers_batch(
            clouds, scale=self.scale_, max_dim=self.max_dim, threads=self.threads
        )
        return [betti.values for betti in measured]

    def _names(self) -> list[str]:
        return [f"b{i}" for i in range(self.max_dim + 1)]


class IslandsTransformer(CloudTransformer):
    """Islands of clouds, which hang on no scale: columns islands, total and dimension.

    They are those of `islands`. ``total`` has no steps, and tells more apart than the count.

    Args:
        k: nearest neighbours, >= 2; clouds of more than k distinct points.
        z: the least prominence of an island, a number > 0.
        prominences: how many more columns, prominence1 and so on: the largest finite prominences,
            falling; 0 where there are fewer.
        threads: that share the clouds, inside the engine; 0 takes one a core.

    Attributes:
        n_features_in_: coordinates of a point, where all clouds have equally many.
        n_clouds_: how many it was fitted on.
    """

    def __init__(self, k: int = 15, z: float = 3.0, *, prominences: int = 0, threads: int = 0) -> None:
        self.k = k
        self.z = z
        self.prominences = prominences
        self.threads = threads

    def _settle(self, clouds: Sequence[FloatArray]) -> None:
        require_count("k", self.k, minimum=2)
        require_positive("z", self.z, example=3.0)
        require_count("prominences", self.prominences, minimum=0)
        require_count("threads", self.threads, minimum=0)

    def _measure(self, clouds: Sequence[FloatArray]) -> list[list[float]]:
        rows = []
        for found in islands_batch(clouds, self.k, self.z, threads=self.threads):
            finite = found.prominences[np.isfinite(found.prominences)][: self.prominences]
            padding = [0.0] * (self.prominences - len(finite))
            rows.append([found.count, found.total, found.dimension, *finite.tolist(), *padding])
        return rows

    def _names(self) -> list[str]:
        more = [f"prominence{i}" for i in range(1, self.prominences + 1)]
        return ["islands", "total", "dimension", *more]


def _calibrated(clouds: Sequence[FloatArray], max_dim: int) -> Scale:
    """The scale at which the clouds, as the classes of one, are stable; each whole, or not at all."""
    widths = sorted({cloud.shape[1] for cloud in clouds})
    if len(widths) > 1:
        raise InputError(
            f"clouds of {widths[0]} and {widths[-1]} coordinates without a scale",
            "as many in all, to calibrate one",
            "pass k=... or scale=Scale(k=14, hops=2)",
        )
    chosen = list(clouds)
    while len(chosen) > 1 and sum(map(len, chosen)) > MOST_POINTS:
        chosen = chosen[::2]
    labels = np.repeat(np.arange(len(chosen)), [len(cloud) for cloud in chosen])
    points = np.concatenate(chosen)
    scale = calibrate(points, labels, max_points=max(2, len(points)), max_dim=max_dim)
    if not scale.determined:
        warnings.warn(f"no scale is stable ({scale.note}): measuring at {scale}", stacklevel=4)
    return scale
