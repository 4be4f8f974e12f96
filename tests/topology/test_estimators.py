"""The estimators: what they measure, and scikit-learn's conventions by its own checks.

scikit-learn's checks pass tables [b, m], which are no clouds, and skip an estimator that takes none. Here
each row of theirs is made a cloud of as many coordinates, so that the estimator itself is checked.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import unknot as uk
from unknot.topology import BettiNumbersTransformer, IslandsTransformer

checks = pytest.importorskip("sklearn.utils.estimator_checks")
if not hasattr(checks, "estimator_checks_generator"):  # from scikit-learn 1.6 on
    pytest.skip("scikit-learn is too old for its own checks", allow_module_level=True)

STEPS = np.linspace(-1, 1, 24)[:, None]


def as_clouds(X: Any) -> Any:
    """Each row as points on a line through it; anything else as it is."""
    rows = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    if rows.ndim != 2:
        return X
    return [STEPS * (row + np.pi) if row.dtype != object else row for row in rows]


class _OnRows:
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags

    @staticmethod
    def _clouds(X: Any) -> Any:
        return uk.topology.adapters.estimators.CloudTransformer._clouds(as_clouds(X))


class BettiNumbersOnRows(_OnRows, BettiNumbersTransformer):
    pass


class IslandsOnRows(_OnRows, IslandsTransformer):
    pass


# The error is raised, in unknot's words and not in scikit-learn's.
IN_OTHER_WORDS = {
    "check_complex_data": "'Complex data not supported'",
    "check_dtype_object": "objects are refused, not converted",
    "check_estimators_empty_data_messages": "'0 feature(s)'",
    "check_fit2d_predict1d": "'Reshape your data'",
}


@checks.parametrize_with_checks(
    [BettiNumbersOnRows(radius=0.5), BettiNumbersOnRows(k=3, max_dim=2), IslandsOnRows(prominences=2)],
    expected_failed_checks=lambda _: IN_OTHER_WORDS,
)
def test_by_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def rings(pairs: int, seed: int = 0, n: int | None = None) -> np.ndarray:
    return uk.make_shape("rings", pairs=pairs, n=n or 200 * pairs, seed=seed).points


CLOUDS = [rings(1), rings(2), rings(3)]


def test_betti_numbers_are_those_of_the_function() -> None:
    found = BettiNumbersTransformer(k=8, hops=1, max_dim=2).fit(CLOUDS)
    assert found.transform(CLOUDS).tolist() == [[2, 2, 0], [4, 4, 0], [6, 6, 0]]
    assert found.get_feature_names_out().tolist() == ["b0", "b1", "b2"]
    assert (found.n_features_in_, found.n_clouds_) == (3, 3)
    by_scale = BettiNumbersTransformer(uk.Scale(k=8, hops=1)).fit_transform(CLOUDS)
    by_radius = BettiNumbersTransformer(radius=0.1).fit_transform(np.stack([CLOUDS[0][:100]] * 2))
    assert by_scale.dtype == np.float64 and by_scale.tolist() == [[2, 2], [4, 4], [6, 6]]
    expected = uk.betti_numbers(CLOUDS[0][:100], radius=0.1).values
    assert by_radius.tolist() == [list(expected)] * 2


def test_the_scale_is_learnt_from_the_clouds_and_kept() -> None:
    found = BettiNumbersTransformer().fit(CLOUDS)
    labels = np.repeat([0, 1, 2], [200, 400, 600])
    assert found.scale_ == uk.calibrate(np.concatenate(CLOUDS), labels) and found.scale_.determined
    other = [rings(4, seed=7)]
    assert found.transform(other).tolist() == [
        list(uk.betti_numbers(other[0], scale=found.scale_).values)
    ]
    assert found.transform(other).tolist() == [[8, 8]]


def test_a_scale_that_is_not_determined_is_told() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 100, 2))
    with pytest.warns(UserWarning, match="no scale is stable"):
        found = BettiNumbersTransformer().fit(noise)
    assert not found.scale_.determined


def test_many_clouds_are_calibrated_on_whole_ones() -> None:
    circle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    clouds = np.stack([np.stack([np.cos(circle), np.sin(circle)], axis=1)] * 300)
    scale = BettiNumbersTransformer().fit(clouds).scale_
    assert scale.determined and "n = 9000" in scale.note  # every other of 18,000 points
    assert BettiNumbersTransformer().fit_transform(clouds).tolist() == [[1, 1]] * 300


def test_islands_are_those_of_the_function() -> None:
    rng = np.random.default_rng(3)
    centres = ([0.0], [0.0, 9.0], [0.0, 9.0, 18.0])
    clouds = [rng.normal(size=(400, 2)) + [(c[i % len(c)], 0) for i in range(400)] for c in centres]
    found = IslandsTransformer(prominences=2).set_output(transform="pandas").fit_transform(clouds)
    assert found.columns.tolist() == ["islands", "total", "dimension", "prominence1", "prominence2"]
    assert found["islands"].tolist() == [1, 2, 3]
    for i, single in enumerate(uk.topology.islands_batch(clouds)):
        finite = single.prominences[np.isfinite(single.prominences)]
        expected = [single.count, single.total, single.dimension, *[*finite, 0.0, 0.0][:2]]
        assert found.iloc[i].tolist() == expected


def test_a_grid_search_finds_the_scale_that_tells_rings_apart() -> None:
    clouds = [rings(pairs, seed, n=400) for seed in range(4) for pairs in (1, 2)]
    labels = [pairs for _ in range(4) for pairs in (1, 2)]
    search = GridSearchCV(
        make_pipeline(BettiNumbersTransformer(), LogisticRegression()),
        {"bettinumberstransformer__radius": [1e-6, 0.15, 100.0]},
        cv=2,
    )
    search.fit(clouds, labels)
    assert search.best_params_ == {"bettinumberstransformer__radius": 0.15} and search.best_score_ == 1
    assert search.predict([rings(2, seed=9, n=400)]).tolist() == [2]


@pytest.mark.parametrize("made", [BettiNumbersTransformer(k=8), IslandsTransformer(z=4, prominences=1)])
def test_copies_do_the_same(made: Any) -> None:
    assert clone(made).get_params() == made.get_params()
    with pytest.raises(NotFittedError):
        made.transform(CLOUDS)
    fitted = clone(made).fit(CLOUDS)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(CLOUDS), fitted.transform(CLOUDS))


@pytest.mark.parametrize(
    ("estimator", "clouds", "message"),
    [
        (BettiNumbersTransformer(k=8), CLOUDS[0], r"clouds of shape \(200, 3\)"),
        (BettiNumbersTransformer(k=8), [], "0 clouds"),
        (BettiNumbersTransformer(k=8), [[[0.0, np.nan]] * 9], "nan"),
        (BettiNumbersTransformer(k=8, radius=1.0), CLOUDS, "exactly one rule"),
        (BettiNumbersTransformer(uk.Scale(k=8), radius=1.0), CLOUDS, "drop scale"),
        (BettiNumbersTransformer("best"), CLOUDS, "a Scale or 'auto'"),
        (BettiNumbersTransformer(uk.Scale()), CLOUDS, "a radius, or k and hops"),
        (BettiNumbersTransformer(k=8, max_dim=3), CLOUDS, "max_dim = 3"),
        (BettiNumbersTransformer(), [CLOUDS[0], CLOUDS[1][:, :2]], "clouds of 2 and 3 coordinates"),
        (IslandsTransformer(k=1), CLOUDS, "k = 1"),
        (IslandsTransformer(z=0), CLOUDS, "z = 0"),
        (IslandsTransformer(prominences=-1), CLOUDS, "prominences = -1"),
        (IslandsTransformer(threads=-1), CLOUDS, "threads = -1"),
        (IslandsTransformer(), [np.zeros((9, 0))], r"clouds\[0\] of shape \(9, 0\)"),
    ],
)
def test_bad_input_is_one_line(estimator: Any, clouds: Any, message: str) -> None:
    with pytest.raises(uk.InputError, match=message):
        estimator.fit(clouds)


def test_other_coordinates_than_in_fit_are_refused() -> None:
    fitted = IslandsTransformer().fit(CLOUDS)
    with pytest.raises(uk.InputError, match=r"X has 2 features, but IslandsTransformer is expecting 3"):
        fitted.transform([CLOUDS[0][:, :2]])
    mixed = [CLOUDS[0], CLOUDS[1][:, :2]]
    found = fitted.fit(mixed)
    assert not hasattr(found, "n_features_in_") and found.transform(mixed).shape == (2, 3)


def test_an_array_of_arrays_is_a_list_of_clouds() -> None:
    ragged = np.empty(3, dtype=object)
    ragged[:] = CLOUDS
    found = BettiNumbersTransformer(k=8)
    assert np.array_equal(found.fit_transform(ragged), found.fit_transform(CLOUDS))
