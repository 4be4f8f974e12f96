"""How far down the list a budget goes: boundaries, ties, and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.cost import Cost
from unknot.pruning.planning.budget import Budget, Met, meet_latency, meet_share
from unknot.pruning.planning.plan import plan_pruning
from unknot.pruning.scoring.scores import score_filters

ONE_OF = (
    "expected exactly one budget; pass one of ratio=0.5, macs=0.5, parameters=0.5, latency_ms=1.0 "
    "and max_betti=300, as a flag --ratio 0.5, --macs, --parameters, --latency-ms or --max-betti"
)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, f"no budget: {ONE_OF}"),
        ({"ratio": 0.5, "latency_ms": 2}, f"ratio = 0.5, latency_ms = 2: {ONE_OF}"),
        ({"ratio": 1}, "ratio = 1: expected a share in [0, 1); pass e.g. ratio=0.5"),
        ({"macs": -0.5}, "macs = -0.5: expected a share in [0, 1); pass e.g. macs=0.5"),
        (
            {"parameters": math.nan},
            "parameters = nan: expected a share in [0, 1); pass e.g. parameters=0.5",
        ),
        ({"max_betti": -1}, "max_betti = -1: expected a number >= 0; pass e.g. max_betti=300"),
        ({"macs": "0.5"}, "macs = '0.5': expected a share in [0, 1); pass e.g. macs=0.5"),
        ({"macs": [0.5]}, "macs = [0.5]: expected a share in [0, 1); pass e.g. macs=0.5"),
        ({"max_betti": "a"}, "max_betti = 'a': expected a number >= 0; pass e.g. max_betti=300"),
        ({"latency_ms": 0}, "latency_ms = 0: expected a number > 0; pass e.g. 1.0"),
        ({"latency_ms": math.nan}, "latency_ms = nan: expected a number > 0; pass e.g. 1.0"),
    ],
)
def test_what_is_no_budget_is_told_in_one_line(given: dict[str, float], says: str) -> None:
    with pytest.raises(InputError) as caught:
        Budget(**given)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    "given",
    [{"ratio": 0}, {"macs": 0}, {"parameters": 0.999}, {"latency_ms": 0.5}, {"max_betti": 0.0}],
)
def test_the_ends_of_the_ranges_are_budgets(given: dict[str, float]) -> None:
    assert Budget(**given).given == given


def eighths(step: int) -> float:
    return step / 8


@pytest.mark.parametrize(
    ("share", "step"),
    [
        (0.0, 0),
        (0.05, 0),
        (0.0625, 0),  # as near to none as to one: the smaller step
        (0.07, 1),
        (0.125, 1),
        (0.3, 2),
        (0.3125, 2),
        (0.32, 3),
        (0.75, 6),
        (0.765, 6),  # a little more than all that may go
    ],
)
@pytest.mark.parametrize(("what", "unit"), [("macs", "MACs per sample"), ("parameters", "parameters")])
def test_the_step_nearest_to_the_share(what: str, unit: str, share: float, step: int) -> None:
    told = f"{step / 8:.1%} of the {unit}, {share:.1%} asked"
    assert meet_share(what, share, eighths, 6) == Met(step, told)


@pytest.mark.parametrize("what", ["macs", "parameters"])
def test_a_share_beyond_all_that_may_go_is_refused(what: str) -> None:
    with pytest.raises(InputError) as caught:
        meet_share(what, 0.8, eighths, 6)
    assert str(caught.value) == (
        f"{what} = 0.8: expected at most 0.75, all that may go; "
        "lower it; a plan by ratio tells in kept_layers what may not"
    )


def test_two_points_short_is_still_met() -> None:
    """Of 1 in steps of a hundredth: 0.995 is met where 0.98 is all that may go, where 0.97 is not."""

    def hundredths(step: int) -> float:
        return step / 100

    assert meet_share("macs", 0.995, hundredths, 98).steps == 98
    with pytest.raises(InputError, match="at most 0.97, all"):
        meet_share("macs", 0.995, hundredths, 97)


def test_a_gap_of_the_rounding_is_no_reason_to_refuse() -> None:
    """From none to half in one step: a third is nearer to half, a fifth to none."""

    def halved(step: int) -> float:
        return 0.0 if step < 3 else 0.5

    assert [meet_share("macs", s, halved, 4).steps for s in (0.2, 0.35)] == [2, 3]


def test_no_share_is_counted_twice_and_few_are() -> None:
    counted: list[int] = []

    def count(step: int) -> float:
        counted.append(step)
        return step / 1000

    assert meet_share("parameters", 0.4, count, 800).steps == 400
    assert len(counted) == len(set(counted)) <= 12


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, int], float]], list[int]]:
    """Times by a rule of (outputs, how often these were timed); returns what was timed."""

    def install(rule: Callable[[int, int], float]) -> list[int]:
        timed: list[int] = []

        def cost(
            model: nn.Linear, example: torch.Tensor, *, repeats: int, batch_sizes: object, progress: bool
        ) -> Cost:
            assert (repeats, batch_sizes) == (20, ())
            timed.append(model.out_features)
            latency = rule(model.out_features, timed.count(model.out_features))
            return Cost(0, 0, 0, latency, 0.0, len(example), "cpu", 1)

        monkeypatch.setattr("unknot.pruning.planning.budget.measure_cost", cost)
        return timed

    return install


Clock = Callable[[Callable[[int, int], float]], list[int]]


def one_fewer(step: int) -> nn.Module:
    return nn.Linear(1, 201 - step)


def test_a_latency_that_is_just_met_is_met(clock: Clock) -> None:
    clock(lambda n, _: n / 2)
    example = torch.zeros(3, 1)
    met = meet_latency(75.0, one_fewer, 200, example)
    assert met == Met(51, "75 ms for 3 samples, at most 75 asked")
    assert meet_latency(1000.0, one_fewer, 200, example).steps == 0
    assert meet_latency(0.5, one_fewer, 200, example).steps == 200


@pytest.mark.parametrize(
    ("steps", "limit", "found", "taken"),
    [(200, 100, 105, 96), (149, 100, 103, 98), (20, 195, 7, 194), (20, 182, 20, 181)],
)
def test_a_step_that_fails_when_timed_again_is_passed_over(
    clock: Clock, steps: int, limit: int, found: int, taken: int
) -> None:
    """By a fiftieth of the list, or by one, up to its end."""
    timed = clock(lambda n, times: n + 9.5 * (times > 1 and n == limit))
    met = meet_latency(limit, one_fewer, steps, torch.zeros(1, 1))
    assert met == Met(found, f"{taken} ms for 1 sample, at most {limit} asked")
    assert timed[-2:] == [limit, taken]


def test_the_end_of_the_list_is_not_passed_over(clock: Clock) -> None:
    clock(lambda n, times: n + 9.5 * (times > 1 and n == 102))
    assert meet_latency(102, one_fewer, 100, torch.zeros(1, 1)).steps == 100  # 99, then not 101


def test_a_latency_that_is_not_reached_is_refused(clock: Clock) -> None:
    clock(lambda n, _: n / 3)
    with pytest.raises(InputError) as caught:
        meet_latency(25.0, one_fewer, 100, torch.zeros(1, 1))
    assert str(caught.value) == (
        "latency_ms = 25: expected at least 33.7, with all gone that may go; "
        "raise it, or pass a smaller example"
    )


def test_where_nothing_can_be_compared_the_reason_is_told() -> None:
    """All weights are zero, so the smaller model returns what any would."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    scores = score_filters(model, criterion="l1")
    with pytest.raises(InputError, match="no filter of 0 may go .nothing that the model computes tells"):
        plan_pruning(model, scores, torch.randn(2, 4), macs=0.5)
