"""Estimators of tables: scikit-learn's own checks, odd tables, and what is learnt at all."""

from __future__ import annotations

import pickle
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import unknot as uk

# One cell and few epochs: what is checked does not depend on how well it fits.
SMALL: dict[str, Any] = {
    "activations": ("qfold",), "learning_rates": (1e-2,), "gains": (0.6,), "members": 2, "chosen": 1,
    "epochs": 2,
}  # fmt: skip
CHECKED: dict[str, Any] = {**SMALL, "members": 1, "epochs": 1, "width": 16}
QUICK: dict[str, Any] = {
    **SMALL,
    "activations": ("qfold", "silu"),
    "learning_rates": (1e-2, 3e-2),
    "epochs": 8,
}


def expected_failures(estimator: Any) -> dict[str, str]:
    return {
        "check_sample_weight_equivalence_on_dense_data": "rows are split and put into batches by chance: "
        "a row twice is drawn otherwise than a row of weight 2"
    }


@parametrize_with_checks(
    [uk.FoldClassifier(**CHECKED), uk.FoldRegressor(**CHECKED)], expected_failed_checks=expected_failures
)
def test_scikit_learn_accepts_it(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_a_missing_class_is_told_with_its_row() -> None:
    table, names = np.zeros((4, 2)), np.array(["a", "b", None, "a"], dtype=object)
    with pytest.raises(ValueError, match="y has 1 missing values, first in row 2: leave these rows out"):
        uk.FoldClassifier().fit(table, names)


def test_of_one_class_nothing_is_learnt() -> None:
    table = np.random.default_rng(0).normal(size=(300, 3))
    model = uk.FoldClassifier(random_state=0).fit(table, np.full(300, "only"))
    assert model.predict(table[:2]).tolist() == ["only", "only"]
    assert model.predict_proba(table[:2]).tolist() == [[1.0], [1.0]]
    assert len(model.search_) == 1  # no cell was tried


def moons(n: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    X, y = make_moons(n, noise=0.1, random_state=seed)
    return X, y


def ring(n: int = 600) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    X = np.random.default_rng(0).uniform(-2, 2, (n, 2))
    return X, 1000 + 50 * np.sin(3 * X[:, 0]) * X[:, 1]


def test_classes_are_learnt() -> None:
    X, y = moons()
    names = np.array(["no", "yes"])[y]
    fitted = uk.FoldClassifier(**QUICK, random_state=0).fit(X, names)
    test, truth = moons(seed=1)
    assert fitted.score(test, np.array(["no", "yes"])[truth]) > 0.95
    assert list(fitted.classes_) == ["no", "yes"]
    chances = fitted.predict_proba(test)
    assert chances.shape == (400, 2)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)


def test_numbers_are_learnt_in_their_units() -> None:
    X, y = ring()
    fitted = uk.FoldRegressor(**{**QUICK, "epochs": 16}, random_state=0).fit(X[:400], y[:400])
    assert fitted.score(X[400:], y[400:]) > 0.9
    both = uk.FoldRegressor(**SMALL, random_state=0).fit(X, np.stack([y, -y], 1))
    assert both.predict(X[:5]).shape == (5, 2)


def test_search_tells_what_was_tried_and_chosen() -> None:
    X, y = moons()
    fitted = uk.FoldClassifier(**{**QUICK, "members": 3, "chosen": 2}, random_state=0).fit(X, y)
    rows = fitted.search_
    assert len(rows) == 4
    assert [row.members for row in rows] == [2, 1, 0, 0]
    assert all(a.loss <= b.loss for a, b in pairwise(rows))
    assert {net.cell.activation for net in fitted.nets_} <= {row.activation for row in rows[:2]}
    assert list(rows.to_frame().columns[:3]) == ["activation", "learning_rate", "gain"]
    assert "chosen" in repr(rows)


def test_threads_change_nothing() -> None:
    X, y = moons(200)
    one, two = (uk.FoldClassifier(**QUICK, random_state=0, n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_a_frame_of_many_kinds() -> None:
    rng = np.random.default_rng(0)
    n = 300
    colour = rng.choice(["red", "green", "blue"], n)
    size = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, size),
            "colour": pd.Series(colour, dtype="category"),
            "sold": rng.random(n) < 0.5,
            "shop": np.where(rng.random(n) < 0.1, None, rng.choice(["a", "b"], n)),
            "constant": 1.0,
            "empty": np.nan,
            "count": pd.array(rng.integers(0, 9, n), dtype="Int64"),
        }
    )
    y = (colour == "red") | (size > 0.5)
    fitted = uk.FoldClassifier(**QUICK, random_state=0).fit(frame, y)
    assert fitted.score(frame, y) > 0.9
    assert list(fitted.feature_names_in_) == list(frame.columns)
    other = frame.head(4).assign(colour=["red", "violet", "blue", None], shop="elsewhere")
    assert fitted.predict(other).dtype == bool
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"size": "length"}))
    with pytest.raises(ValueError, match="'when' holds datetime64"):
        uk.FoldClassifier(**SMALL).fit(frame.assign(when=pd.Timestamp("2020-01-01")), y)


def test_odd_tables() -> None:
    X, y = moons(10)
    ten = uk.FoldClassifier(**SMALL, random_state=0).fit(X, y)
    assert np.isnan(ten.search_[0].loss)  # nothing was held out
    assert ten.predict(X).shape == (10,)
    assert (uk.FoldClassifier(**SMALL).fit(X, np.full(10, 7)).predict(X) == 7).all()
    assert uk.FoldClassifier(**SMALL).fit(X[:1], y[:1]).predict_proba(X).shape == (10, 1)
    constant = uk.FoldRegressor(**SMALL, random_state=0).fit(X, np.full(10, 3.0))
    np.testing.assert_allclose(constant.predict(X), 3.0, atol=1.5)
    many = np.arange(1000).repeat(2)
    crowd = uk.FoldClassifier(**SMALL, random_state=0).fit(
        np.random.default_rng(0).normal(size=(2000, 3)), many
    )
    assert crowd.predict_proba(X[:, [0, 1, 0]]).shape == (10, 1000)


def test_rows_of_weight_0_are_not_there() -> None:
    X, y = moons(60)
    weights = np.ones(60)
    weights[40:] = 0
    wrong = np.where(weights > 0, y, 1 - y)
    with_weights = uk.FoldClassifier(**SMALL, random_state=0).fit(X, wrong, sample_weight=weights)
    without = uk.FoldClassifier(**SMALL, random_state=0).fit(X[:40], y[:40])
    np.testing.assert_array_equal(with_weights.predict_proba(X), without.predict_proba(X))
    with pytest.raises(ValueError, match="zero|is 0"):
        uk.FoldClassifier(**SMALL).fit(X, y, sample_weight=np.zeros(60))


def test_class_weights_move_the_boundary() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(270, 2)), rng.normal(loc=1, size=(30, 2))])
    y = np.arange(300) >= 270
    plain, balanced = (
        uk.FoldClassifier(**{**QUICK, "epochs": 2}, random_state=0, class_weight=weight)
        .fit(X, y)
        .predict(X)
        for weight in (None, "balanced")
    )
    assert balanced[y].mean() > plain[y].mean()


def test_streams() -> None:
    X, y = moons(2000)
    stream = uk.FoldClassifier(**{**SMALL, "learning_rates": (3e-2,)}, random_state=0)
    with pytest.raises(ValueError, match="first call"):
        stream.partial_fit(X, y)
    for _ in range(4):
        for i in range(0, 2000, 500):
            stream.partial_fit(X[i : i + 500], y[i : i + 500], classes=[0, 1])
    assert stream.score(X, y) > 0.9
    with pytest.raises(ValueError, match="new labels"):
        stream.partial_fit(X, y + 1)
    again = pickle.loads(pickle.dumps(stream))
    again.partial_fit(X, y)
    assert again.score(X, y) > 0.9
    table, numbers = ring()
    regressor = uk.FoldRegressor(**SMALL, random_state=0).fit(table, numbers)
    before = regressor.score(table, numbers)
    with pytest.raises(ValueError, match="as before"):
        regressor.partial_fit(table, np.stack([numbers, numbers], 1))
    assert regressor.predict(table[:3]).shape == (3,)  # what was refused has changed nothing
    for _ in range(10):
        regressor.partial_fit(table, numbers)
    assert regressor.score(table, numbers) > before


def test_it_goes_where_scikit_learn_goes() -> None:
    X, y = moons(120)
    pipeline = make_pipeline(StandardScaler(), uk.FoldClassifier(**SMALL, random_state=0))
    assert cross_val_score(pipeline, X, y, cv=2).shape == (2,)
    search = GridSearchCV(uk.FoldClassifier(**SMALL, random_state=0), {"width": [8, 16]}, cv=2).fit(X, y)
    assert search.best_params_["width"] in {8, 16}
    fitted = uk.FoldClassifier(**SMALL, random_state=0).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert not hasattr(clone(fitted), "nets_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activations": ("rellu",)}, "activation = 'rellu': expected 'relu'"),
        ({"activations": ()}, "activations"),
        ({"activations": "qfold"}, "activations"),
        ({"learning_rates": (0.0,)}, "learning_rates"),
        ({"members": 0}, "members"),
        ({"epochs": 1.5}, "epochs"),
        ({"scaling": "none"}, "scaling = 'none': expected 'quantile'"),
    ],
)
def test_parameters_that_cannot_be(change: dict[str, Any], message: str) -> None:
    X, y = moons(40)
    with pytest.raises(ValueError, match=message):
        uk.FoldClassifier(**{**SMALL, **change}).fit(X, y)
