"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from unknot.estimators.base import FoldEstimator
from unknot.estimators.problems import Classes

C = TypeVar("C", bound="FoldClassifier")


class FoldClassifier(ClassifierMixin, FoldEstimator):  # type: ignore[misc]  # sklearn has no types
    """Classifies the rows of a table by small nets, whose activation is chosen on held-out rows.

    Folds are among the activations: on tables with irregular boundaries they need fewer epochs than
    monotone ones. Every combination of ``activations``, ``learning_rates`` and ``gains`` is tried in a
    short training, all at once; the best ones train the members of an ensemble at length. Each member
    holds out another eighth of the rows, and keeps the weights that these like best. What was tried is
    in ``search_``.

    Columns need no preparation: missing numbers get the median and a column that says so, numbers are
    scaled, and strings, categories and booleans of a DataFrame get a column a category.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> uk.FoldClassifier(random_state=0).fit(X, y).predict(X[:3])             # doctest: +SKIP
    array([0, 0, 0])

    Args:
        activations: names as of `unknot study`; one net a cell is tried with each.
        learning_rates: of Adam; they fall to 0 along half a cosine.
        gains: multiples of the variance-preserving gain of each activation, of the weights as drawn.
        members: nets of the ensemble.
        chosen: of the best cells, so many share the members.
        width, depth: units of a hidden layer, and hidden layers.
        epochs: of a member, at most; fewer where held-out rows tell, or with very many rows.
        scaling: of numbers: "quantile" makes the distribution of each column normal, "standard" only
            its mean 0 and its standard deviation 1.
        class_weight: "balanced", {class: weight}, or None for 1 each.
        random_state: an integer makes the fit reproducible.
        n_jobs: threads; None: as many as torch uses, -1: all cores. The fit does not depend on it.
        verbose: print ``search_``, and show a bar on stderr from the start, in a terminal: without it
            from two seconds on.

    Attributes:
        classes_: of the rows that it was fitted on, sorted.
        nets_: the members; ``nets_[0].model`` is a `torch.nn.Sequential` of prepared rows.
        preparation_: makes ``[n, features]`` float32 tensors of tables.
        search_: `SearchRows`, one a cell, the best one first.
        n_features_in_, feature_names_in_: as of every scikit-learn estimator.
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
        """Choose a cell on held-out rows and train the ensemble.

        Args:
            X: DataFrame, or numbers ``[n, columns]``; NaN is a missing value.
            y: ``[n]``, the class of each row, as integers, strings or booleans.
            sample_weight: ``[n]``, at least 0; rows of weight 0 count as if they were not there.

        Returns:
            Itself.

        Raises:
            ValueError: as other estimators of scikit-learn: infinite numbers, lengths that differ,
                targets that are no classes, parameters that cannot be.
        """
        X = self._table(X, reset=True)
        labels, weights = self._labels(X, y), self._class_weights(X, y, sample_weight)
        self.classes_ = np.unique(labels[weights > 0])
        if len(self.classes_) == 1:  # nothing to learn, nor to choose by
            self._start(X, self._classes())
            return self
        places = torch.from_numpy(np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1))
        self._fit_nets(X, places, weights, self._classes())
        return self

    def partial_fit(
        self: C,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> C:
        """One pass over some rows of a stream, at a constant rate: a tenth of the cell's.

        Nets that were not fitted begin with the first activation, rate and the middle gain of the grid:
        nothing is chosen. The first rows tell how columns are scaled, and should be some hundreds.

        Args:
            X, y, sample_weight: as of `fit`.
            classes: all there will be; needed on the first call, where `fit` was not called before.

        Returns:
            Itself.

        Raises:
            ValueError: as of `fit`, no classes on the first call, or labels that are not among them.
        """
        first = not hasattr(self, "nets_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        X = self._table(X, reset=first)
        labels, weights = self._labels(X, y), self._class_weights(X, y, sample_weight)
        if first:
            self.classes_ = np.unique(np.asarray(classes))
            self._start(X, self._classes())
        elif classes is not None and not np.array_equal(self.classes_, np.unique(np.asarray(classes))):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                f"was: {self.classes_!r}"
            )
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y contains new labels: {unknown[:5]}; expected {self.classes_}")
        self._learn(X, torch.from_numpy(np.searchsorted(self.classes_, labels)), weights)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The mean of the members' probabilities, ``[n, classes]``, in the order of ``classes_``.

        Args:
            X: a table with the columns of the fitted one.
        """
        chances = torch.stack([outputs.softmax(1) for outputs in self._outputs(X)]).mean(0)
        # Of one class alone there are two outputs.
        known: NDArray[np.float64] = chances[:, : len(self.classes_)].numpy()
        return np.asarray(known / known.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, ``[n]``.

        Args:
            X: a table with the columns of the fitted one.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _classes(self) -> Classes:
        return Classes(max(2, len(self.classes_)))

    def _labels(self, X: Any, y: Any) -> NDArray[Any]:
        self._require_target(y)
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        gaps = [i for i, label in enumerate(labels) if label is None] if labels.dtype == object else []
        if gaps:
            raise ValueError(
                f"y has {len(gaps)} missing values, first in row {gaps[0]}: leave these rows out"
            )
        check_consistent_length(X, labels)
        check_classification_targets(labels)
        return labels

    def _class_weights(self, X: Any, y: Any, given: ArrayLike | None) -> NDArray[np.float64]:
        weights = self._weights(X, given)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, np.ravel(y))
        return weights
