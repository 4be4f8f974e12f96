"""What both estimators share: parameters, preparation, search, and the outputs of the nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from unknot.activations.folds import ACTIVATIONS
from unknot.core.console import share_bar
from unknot.core.errors import require_choice, require_count, require_items, require_positive
from unknot.estimators.descent import Samples
from unknot.estimators.grid import Grid, Search, first_nets, search
from unknot.estimators.preparation import SCALINGS, Preparation, is_frame
from unknot.estimators.problems import Problem
from unknot.estimators.stream import Stream
from unknot.nets.running import copied

AT_ONCE = 4096  # samples in one pass of prediction


class FoldEstimator(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Nets whose activations fold, averaged; a class says what they are trained for."""

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # the median stands for what is missing
        return tags

    def _grid(self) -> Grid:
        require_choice("scaling", self.scaling, SCALINGS)
        names = require_items("activations", self.activations, "names", 'pass e.g. ("qfold",)')
        for name in names:
            require_choice("activation", name, tuple(ACTIVATIONS))
        numbers: dict[str, tuple[float, ...]] = {}
        for what in ("learning_rates", "gains"):
            values = require_items(what, getattr(self, what), "numbers > 0", f"pass e.g. {what}=(1.0,)")
            numbers[what] = tuple(require_positive(what, value) for value in values)
        for what, values in {"activations": names, **numbers}.items():
            require_count(f"the number of {what}", len(values))
        for what in ("members", "chosen", "width", "epochs"):
            require_count(what, getattr(self, what))
        require_count("depth", self.depth, minimum=0)
        return Grid(
            names, numbers["learning_rates"], numbers["gains"], members=self.members,
            chosen=self.chosen, width=self.width, depth=self.depth, epochs=self.epochs,
        )  # fmt: skip

    def _table(self, X: Any, *, reset: bool) -> Any:
        """The DataFrame as it is, or floats ``[n, columns]`` that may be NaN; checked by scikit-learn."""
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X) or not X.shape[1]:
                raise ValueError(f"table of shape {X.shape}: expected at least one row and one column")
            return X
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan"
        )

    def _require_target(self, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} requires y to be passed, but the target y is None"
            )

    @staticmethod
    def _weights(X: Any, given: ArrayLike | None) -> NDArray[np.float64]:
        if given is None:
            return np.ones(len(X))
        weights: NDArray[np.float64] = _check_sample_weight(
            given, X, dtype=np.float64, ensure_non_negative=True
        )
        if not weights.any():
            raise ValueError("sample_weight is 0 for every sample: expected at least one above 0")
        return weights

    def _fit_nets(self, X: Any, targets: Tensor, weights: NDArray[np.float64], problem: Problem) -> None:
        """Learn the preparation, search, and keep the nets.

        Args:
            X: as of `_table`.
            targets: one a row, as of the problem.
            weights: of the rows; those of weight 0 are left out as if they were not there.
        """
        grid, seed = self._grid(), self._seed()
        self.preparation_ = Preparation(_rows(X, np.flatnonzero(weights)), self.scaling, seed)
        samples = self._samples(X, targets, weights)
        jobs = torch.get_num_threads() if self.n_jobs is None else effective_n_jobs(self.n_jobs)
        bar = share_bar(type(self).__name__, show=bool(self.verbose) or "auto")
        with torch.random.fork_rng(devices=[]), bar as tick:  # new layers draw before they are drawn anew
            found = search(grid, samples, problem, jobs=jobs, seed=seed, tick=tick)
        self._keep(found, problem, seed)
        if self.verbose:
            print(self.search_)

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _keep(self, found: Search, problem: Problem, seed: int) -> None:
        self.nets_, self.search_ = found.nets, found.rows
        self._problem, self._drawn = problem, seed
        self._stream: Stream | None = None

    def _start(self, X: Any, problem: Problem) -> None:
        """Nets as drawn, prepared for tables like this one: what a stream of rows begins with."""
        grid, seed = self._grid(), self._seed()
        self.preparation_ = Preparation(X, self.scaling, seed)
        found = first_nets(grid, self.preparation_(X[:1]).shape[1], problem, seed)
        self._keep(found, problem, seed)

    def _learn(self, X: Any, targets: Tensor, weights: NDArray[np.float64]) -> None:
        """One pass over rows of a stream."""
        if self._stream is None:
            self._stream = Stream(self.nets_, self._problem, self._drawn)
        self._stream.learn(self._samples(X, targets, weights))

    def _samples(self, X: Any, targets: Tensor, weights: NDArray[np.float64]) -> Samples:
        """The rows that count, prepared."""
        counted = np.flatnonzero(weights)
        share = weights[counted] / weights[counted].mean()
        return Samples(
            self.preparation_(_rows(X, counted)),
            targets[torch.from_numpy(counted)],
            torch.from_numpy(share).float(),
        )

    def _outputs(self, X: Any) -> list[Tensor]:
        """Of each net ``[n, outputs]``, for a table like the fitted one."""
        check_is_fitted(self, "nets_")
        # In double precision: in single the last digits of a row would depend on the rows beside it.
        inputs = self.preparation_(self._table(X, reset=False)).double()
        parts = torch.split(inputs, AT_ONCE)
        models = [copied(net.model).double() for net in self.nets_]
        with torch.no_grad():
            return [torch.cat([model(part) for part in parts]) for model in models]


def _rows(X: Any, places: NDArray[np.intp]) -> Any:
    return X.iloc[places] if is_frame(X) else X[places]
