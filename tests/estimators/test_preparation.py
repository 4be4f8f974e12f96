"""What a net is given of a table's columns."""

from __future__ import annotations

import numpy as np

from unknot.estimators.preparation import Preparation


def test_a_value_that_many_rows_have_stays_among_the_others() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(2000) < 0.6, 0.0, rng.gamma(2.0, size=2000))  # 60 % zeros
    table = np.stack([values, -values], axis=1)
    many, few = Preparation(table, "quantile", 0)(table).numpy().T
    assert np.allclose(many, -few, atol=1e-5)  # the same at both ends
    zeros, others = many[values == 0], many[values > 0]
    assert len(np.unique(zeros)) == 1
    # Nearer to the least of the others than these lie apart, and in their order.
    assert 0 < others.min() - zeros[0] < others.max() - others.min()
    assert (np.argsort(others) == np.argsort(values[values > 0])).all()


def test_rows_beyond_those_that_were_fitted_stay_near() -> None:
    table = np.random.default_rng(0).normal(size=(500, 1))
    prepare = Preparation(table, "quantile", 0)
    below, least, most, above = prepare(np.array([[-1e30], table.min(0), table.max(0), [1e30]])).ravel()
    assert below == least and above == most
    assert 2 < most < 5 and -5 < least < -2
