"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, column_or_1d

from unknot.estimators.base import FoldEstimator
from unknot.estimators.problems import Classes

C = TypeVar("C", bound="FoldClassifier")


class FoldClassifier(ClassifierMixin, FoldEstimator):  # type: ignore[misc]  # sklearn has no types
    """Classifies rows of a table by small nets whose activations fold.
    """

    def __init__(
        self,
        *,
        activations: Sequence[str] = ("qfold", "qfold_centred", "silu", "sine"),
        learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
        gains: Sequence[float] = (0.3, 0.6, 1.0),
        members: int = 8,
        chosen: int = 2,
        width: int = 64,
        depth: int = 3,
        epochs: int = 32,
        scaling: Literal["quantile", "standard"] = "quantile",
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            activations=activations, learning_rates=learning_rates, gains=gains, members=members,
            chosen=chosen, width=width, depth=depth, epochs=epochs, scaling=scaling,
            random_state=random_state, n_jobs=n_jobs, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self: C, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> C:
        X = self._table(X, reset=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        check_consistent_length(X, labels)
        check_classification_targets(labels)
        self.classes_, places = np.unique(labels, return_inverse=True)
        weights = self._weights(X, labels, sample_weight)
        self._fit_nets(X, torch.from_numpy(places.astype(np.int64)), weights, Classes(len(self.classes_)))
        return self

    def _weights(self, X: Any, labels: NDArray[Any], given: ArrayLike | None) -> NDArray[np.float64]:
        weights = np.ones(len(labels)) if given is None else _check_sample_weight(given, X, dtype=np.float64)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, labels)
        return weights

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        chances = torch.stack([outputs.double().softmax(1) for outputs in self._outputs(X)]).mean(0)
        return chances.numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        return self.classes_[self.predict_proba(X).argmax(1)]
