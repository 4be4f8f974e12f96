"""What both estimators share: parameters, preparation, search, and the outputs of the nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from unknot.activations.folds import ACTIVATIONS
from unknot.core.console import share_bar
from unknot.core.errors import require_choice, require_count, require_items, require_positive
from unknot.estimators.descent import Samples
from unknot.estimators.preparation import SCALINGS, Preparation, is_frame
from unknot.estimators.problems import Problem
from unknot.estimators.search import Grid, Search, search

E = TypeVar("E", bound="FoldEstimator")
AT_ONCE = 4096  # samples in one pass of prediction


class FoldEstimator(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Nets that fold, averaged; a class says what they are trained for."""

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
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.activations = activations
        self.learning_rates = learning_rates
        self.gains = gains
        self.members = members
        self.chosen = chosen
        self.width = width
        self.depth = depth
        self.epochs = epochs
        self.scaling = scaling
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _grid(self) -> Grid:
        activations = require_items("activations", self.activations, "names", 'pass e.g. ("qfold",)')
        for name in activations:
            require_choice("activation", name, tuple(ACTIVATIONS))
        numbers = {}
        for what in ("learning_rates", "gains"):
            values = require_items(what, getattr(self, what), "numbers > 0", f"pass e.g. {what}=(1.0,)")
            numbers[what] = tuple(require_positive(what, value) for value in values)
        for what in ("members", "chosen", "width", "epochs"):
            require_count(what, getattr(self, what))
        require_count("depth", self.depth, minimum=0)
        return Grid(
            tuple(activations), **numbers, members=self.members, chosen=self.chosen, width=self.width,
            depth=self.depth, epochs=self.epochs,
        )  # fmt: skip

    def _table(self, X: Any, *, reset: bool) -> Any:
        """The DataFrame as it is, or floats ``[n, columns]`` that may be NaN; checked by scikit-learn."""
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X):
                raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
            return X
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan"
        )

    def _fit_nets(
        self, X: Any, targets: Tensor, weights: NDArray[np.float64], problem: Problem
    ) -> None:
        """Prepare the table, search, and keep the nets.

        Args:
            X: as of `_table`.
            targets: one a row, as of the problem.
            weights: of the rows; rows of weight 0 are left out, their targets included.
        """
        require_choice("scaling", self.scaling, SCALINGS)
        grid = self._grid()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        counted = np.flatnonzero(weights)
        if len(counted) == 0:
            raise ValueError("sample_weight is 0 for every sample: expected at least one above 0")
        table = X.iloc[counted] if is_frame(X) else X[counted]
        self.preparation_ = Preparation(table, self.scaling, seed)
        share = torch.from_numpy(weights[counted] / weights[counted].mean()).float()
        samples = Samples(self.preparation_(table), targets[torch.from_numpy(counted)], share)
        jobs = torch.get_num_threads() if self.n_jobs is None else effective_n_jobs(self.n_jobs)
        with share_bar(type(self).__name__, show=bool(self.verbose)) as tick:
            found = search(grid, samples, problem, jobs=jobs, seed=seed, tick=tick)
        self.nets_, self.search_ = found.nets, found.rows
        if self.verbose:
            print(self.search_)

    def _outputs(self, X: Any) -> list[Tensor]:
        """Of each net ``[n, outputs]``, for a table like the fitted one."""
        check_is_fitted(self, "nets_")
        inputs = self.preparation_(self._table(X, reset=False))
        with torch.no_grad():
            return [torch.cat([net.model(some) for some in inputs.split(AT_ONCE)]) for net in self.nets_]
