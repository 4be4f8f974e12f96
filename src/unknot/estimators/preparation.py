"""From a table to numbers for a net, by scikit-learn's transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer, StandardScaler
from torch import Tensor

SCALINGS = ("quantile", "standard")
# Categories of a column that get a column each; the rarer ones share one.
CATEGORIES = 64
QUANTILES = 1000
# Standard deviations: a net that saw none so far away says anything there.
FAR = 8.0


def is_frame(table: Any) -> bool:
    """Whether it is a pandas DataFrame, whose columns may be of several kinds."""
    return hasattr(table, "iloc") and hasattr(table, "dtypes")


class Preparation:
    """What turns tables like one into float32 ``[n, features]``, learnt from that one.

    Numbers: missing ones get the median and a column that says so; then quantiles of a normal
    distribution or nothing, then mean 0 and standard deviation 1, at most 8 of them. Everything else in
    a DataFrame (strings, categories, booleans): a column a category, a missing value as one of them.

    Args:
        table: DataFrame, or float array ``[n, columns]``.
        scaling: "quantile" or "standard".
        seed: of the samples that quantiles are taken of.
    """

    def __init__(self, table: Any, scaling: str, seed: int) -> None:
        numeric, categorical = _columns(table)
        steps: list[Any] = [
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        ]
        if scaling == "quantile":
            steps.append(_NormalQuantiles(n_quantiles=min(QUANTILES, len(table)), random_state=seed))
        steps += [StandardScaler(), FunctionTransformer(_near, feature_names_out="one-to-one")]
        parts: list[Any] = []
        if numeric:
            parts.append(("numbers", make_pipeline(*steps), numeric))
        if categorical:
            categories = OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=CATEGORIES, sparse_output=False
            )
            parts.append(("categories", categories, categorical))
        self.transformer = ColumnTransformer(parts, verbose_feature_names_out=False).fit(table)

    def __call__(self, table: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.transformer.transform(table), dtype=np.float32))


class _NormalQuantiles(QuantileTransformer):  # type: ignore[misc]
    """Each value at the middle of the ranks that it takes, as a quantile of a normal distribution.

    scikit-learn's own "normal" puts the smallest and the largest value at -5.2 and 5.2, however many rows
    have them: a column with many zeros then says little more than zero or not.
    """

    def fit(self, X: Any, y: Any = None) -> _NormalQuantiles:
        super().fit(X, y)
        values = np.asarray(X, dtype=np.float64)
        self.lowest_ = (values == values.min(axis=0)).mean(axis=0) / 2
        self.highest_ = 1 - (values == values.max(axis=0)).mean(axis=0) / 2
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(ndtri(np.clip(super().transform(X), self.lowest_, self.highest_)))


def _near(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values, -FAR, FAR)


def _columns(table: Any) -> tuple[list[int], list[int]]:
    """The places of the columns of numbers, and of all others."""
    if not is_frame(table):
        return list(range(table.shape[1])), []
    numeric: list[int] = []
    categorical: list[int] = []
    for place, (name, dtype) in enumerate(zip(table.columns, table.dtypes, strict=True)):
        kind = getattr(dtype, "kind", "O")
        if kind in "mM":
            raise ValueError(
                f"column {name!r} holds {dtype}: expected numbers or categories; turn times into numbers"
            )
        (numeric if kind in "iuf" else categorical).append(place)
    return numeric, categorical
