"""The regressor."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, check_consistent_length
from torch import Tensor

from unknot.estimators.base import FoldEstimator
from unknot.estimators.problems import Numbers

R = TypeVar("R", bound="FoldRegressor")


class FoldRegressor(RegressorMixin, FoldEstimator):  # type: ignore[misc]  # sklearn has no types
    """Predicts a number, or several, of each row of a table by small nets: see `FoldClassifier`.

    Targets are scaled to mean 0 and standard deviation 1 while the nets train, on squared errors.

    Args:
        activations, learning_rates, gains, members, chosen, width, depth, epochs, scaling, random_state,
            n_jobs, verbose: as of `FoldClassifier`.

    Attributes:
        nets_, preparation_, search_, n_features_in_, feature_names_in_: as of `FoldClassifier`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self: R, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> R:
        """Choose a cell on held-out rows and train the ensemble.

        Args:
            X: DataFrame, or numbers ``[n, columns]``; NaN is a missing value.
            y: ``[n]`` or ``[n, targets]``, finite numbers.
            sample_weight: ``[n]``, at least 0; rows of weight 0 count as if they were not there.

        Returns:
            Itself.

        Raises:
            ValueError: as other estimators of scikit-learn: infinite numbers, lengths that differ,
                parameters that cannot be.
        """
        X = self._table(X, reset=True)
        table, self._shape = self._targets(X, y)
        weights = self._weights(X, sample_weight)
        self._learn_scale(table, weights)
        self._fit_nets(X, self._scaled(table), weights, Numbers(table.shape[1]))
        return self

    def partial_fit(self: R, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> R:
        """One pass over some rows of a stream, at a constant rate: a tenth of the cell's.

        Nets that were not fitted begin with the first activation, rate and the middle gain of the grid:
        nothing is chosen. The first rows tell how columns and targets are scaled, and should be some
        hundreds.

        Args:
            X, y, sample_weight: as of `fit`.

        Returns:
            Itself.

        Raises:
            ValueError: as of `fit`, or other targets than those before.
        """
        first = not hasattr(self, "nets_")
        X = self._table(X, reset=first)
        table, shape = self._targets(X, y)
        weights = self._weights(X, sample_weight)
        if first:
            self._shape = shape
            self._learn_scale(table, weights)
            self._start(X, Numbers(table.shape[1]))
        elif shape != self._shape:
            raise ValueError(f"y of shape [n, {shape}]: expected [n, {self._shape}] as before")
        self._learn(X, self._scaled(table), weights)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The mean of the members' predictions, ``[n]`` or ``[n, targets]`` as ``y`` was.

        Args:
            X: a table with the columns of the fitted one.
        """
        mean = torch.stack(self._outputs(X)).mean(0).numpy()
        predicted: NDArray[np.float64] = mean * self._spread + self._middle
        return predicted.reshape(len(mean), *self._shape)

    def _targets(self, X: Any, y: Any) -> tuple[NDArray[np.float64], tuple[int, ...]]:
        """``[n, targets]``, and the shape of a row of ``y``."""
        self._require_target(y)
        targets: NDArray[np.float64] = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(X, targets)
        return targets.reshape(len(targets), -1), targets.shape[1:]

    def _learn_scale(self, table: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self._middle = np.average(table, axis=0, weights=weights)
        spread = np.sqrt(np.average((table - self._middle) ** 2, axis=0, weights=weights))
        self._spread = np.where(spread > 0, spread, 1.0)

    def _scaled(self, table: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(((table - self._middle) / self._spread).astype(np.float32))
