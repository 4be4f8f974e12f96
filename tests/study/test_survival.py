from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unknot.core.errors import InputError
from unknot.study.survival import (
    Comparison,
    censored_median,
    compare,
    correct,
    median_text,
    p_text,
    rank_correlation,
    ratio_text,
    survival_curve,
    times_text,
)
from unknot.study.untangling import prediction_text

CAPS = (60.0, 60.0)


def test_median_with_censored_seeds() -> None:
    assert censored_median([3, None, 5]) == 5
    assert censored_median([3, None, None]) is None
    assert censored_median([3, 4]) == 3.5
    assert censored_median([3, None]) is None


def test_survival_curve_of_one_cap_is_the_share_that_has_not_arrived() -> None:
    curve = survival_curve([1.5, 2, None, 2], cap=10)
    assert curve.epochs == (1.5, 2)
    assert curve.share == pytest.approx((0.75, 0.25))
    assert survival_curve([None, None], cap=5).epochs == ()
    assert survival_curve([3, 4], cap=5).share == pytest.approx((0.5, 0.0))


def test_ratio_of_medians_and_its_interval() -> None:
    result = compare([10, 12, 11, 14, 9], [2, 3, 2, 2, 1], caps=CAPS)
    assert result.ratio == 5.5 and not result.bound
    assert result.low is not None and result.high is not None
    assert result.low <= 5.5 <= result.high and result.low > 1
    assert result.p < 0.01
    backwards = compare([2, 3, 2, 2, 1], [10, 12, 11, 14, 9], caps=CAPS)
    assert backwards.ratio == pytest.approx(1 / 5.5)
    assert backwards.high is not None and backwards.high < 1


def test_what_was_not_reached_makes_a_bound_and_never_a_number() -> None:
    bound = compare([None] * 5, [2, 3, 2, 2, 1], caps=CAPS)
    assert (bound.ratio, bound.bound) == (30.0, True)
    failed = compare([10, 12, 11, 9, 8], [None, None, None, 2, 1], caps=CAPS)
    assert failed.ratio == 0 and not failed.bound
    nobody = compare([None] * 3, [None] * 3, caps=CAPS)
    assert nobody.ratio == 0 and nobody.p == 1


def test_log_rank_agrees_with_a_permutation_test() -> None:
    a, b = [4.0, 6, 7, None, 9, 8], [3.0, 2, 5, 4.5, 1, 6.5]

    def observed_minus_expected(first: list[float | None], second: list[float | None]) -> float:
        pool = [(60.0 if t is None else t, t is not None, which) for which, times in
                enumerate((first, second)) for t in times]  # fmt: skip
        total = 0.0
        for moment in sorted({t for t, event, _ in pool if event}):
            at_risk = [which for t, _, which in pool if t >= moment]
            dead = [which for t, event, which in pool if event and t == moment]
            total += dead.count(0) - len(dead) * at_risk.count(0) / len(at_risk)
        return abs(total)

    rng, both = np.random.default_rng(0), a + b
    seen = observed_minus_expected(a, b)
    as_far = 0
    for _ in range(4000):
        order = rng.permutation(12)
        shuffled = [both[i] for i in order]
        as_far += observed_minus_expected(shuffled[:6], shuffled[6:]) >= seen - 1e-9
    assert compare(a, b, caps=CAPS).p == pytest.approx(as_far / 4000, abs=0.02)


def test_holm_by_hand() -> None:
    assert correct([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert correct([0.5, 0.9]) == (1.0, 1.0)
    assert correct([]) == ()


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_the_p_value_and_bonferroni(p: list[float]) -> None:
    for raw, corrected in zip(p, correct(p), strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p)) or math.isclose(corrected, max(p))


def test_rank_correlation() -> None:
    rising = rank_correlation([1, 2, 3, 4, 5, 6], [1, 4, 9, 16, 25, 36])
    assert (rising.rho, rising.n) == (pytest.approx(1.0), 6)
    few = rank_correlation([1, 2, 3, 4], [1, 3, 2, 4])
    assert (few.rho, few.low, few.high) == (pytest.approx(0.8), None, None)
    assert "0.80 over 4 cells" in prediction_text(few)
    mixed = rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    assert mixed.low is not None and mixed.high is not None
    assert mixed.low < mixed.rho < 1 and mixed.low < mixed.high
    again = rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    assert again == mixed


def test_times_and_ratios_in_words() -> None:
    assert times_text([1.25, 3, 2]) == "2 [1.25 to 3]"
    assert times_text([1.25, None, 3]) == "3 [1.25 to not reached]"
    assert times_text([None, 47, None]) == "not reached [47 to not reached]"
    assert times_text([None, None]) == "not reached"
    assert median_text([None, None], 60) == "not reached in 60 epochs"
    assert median_text([None], 1) == "not reached in 1 epoch"
    assert median_text([3, None, 4], 60) == "4"
    assert ratio_text(Comparison(2.5, 1.25, 3.125, False, 0.01, 0.02)) == "2.50 [1.25, 3.12]"
    assert ratio_text(Comparison(30, 12, 60, True, 0.01, 0.02)) == ">= 30.00 [12.00, 60.00]"
    assert ratio_text(Comparison(0, 0, 0, False, 1, 1)) == "not reached"
    assert [p_text(p) for p in (0.0004, 0.001, 0.0456, 1.0)] == ["< 0.001", "0.001", "0.046", "1.000"]


@pytest.mark.parametrize("call", [
    lambda: survival_curve([], 5),
    lambda: compare([1.0], [1.0, 2.0], caps=CAPS),
    lambda: rank_correlation([1, 2], [1, 2]),
    lambda: rank_correlation([1, 1, 1], [1, 2, 3]),
])  # fmt: skip
def test_bad_input(call: object) -> None:
    with pytest.raises(InputError):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_have_no_interval(seeds: int) -> None:
    result = compare([6] * seeds, [2] * seeds, caps=CAPS)
    assert (result.ratio, result.low, result.high) == (3, None, None)
    assert ratio_text(result) == "3.00"
    assert compare([6] * 5, [2] * 5, caps=CAPS).low == 3
    assert statistics.median([result.p]) <= 1
