"""Which units go first, for which reason, and what a layer can spare."""

from __future__ import annotations

import pytest

from unknot.pruning.planning.ranking import Candidate, rank_units, remove_first
from unknot.pruning.scoring.observations import DEAD
from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.pruning.structure.channels import Unit
from unknot.pruning.structure.pools import Pool


def pool(n: int, *layers: str) -> Pool:
    """n units, each a channel of every layer."""
    return Pool(layers, tuple(tuple((layer, i) for layer in layers) for i in range(n)))


def scored(
    values: dict[str, list[float]],
    criterion: str = "l1",
    *,
    high: bool = False,
    comparable: bool = False,
    **notes: str,
) -> FilterScores:
    """``notes`` are those of the filters "layer_index"."""
    rows = [
        FilterScore(layer, i, value, criterion, note=notes.get(f"{layer}_{i}", ""))
        for layer, of_layer in values.items()
        for i, value in enumerate(of_layer)
    ]
    return FilterScores(tuple(rows), criterion, remove_high=high, comparable=comparable)


def order(ranked: list[Candidate]) -> list[int]:
    return [c.unit[0][1] for c in ranked]


def test_low_scores_go_first_relative_to_the_mean_of_their_layer() -> None:
    (found,) = rank_units([pool(4, "a")], scored({"a": [6.0, 1.0, 3.0, 2.0]}))
    assert order(found) == [1, 3, 2, 0]
    assert [c.importance for c in found] == [pytest.approx(v / 3) for v in (1, 2, 3, 6)]
    assert [c.place for c in found] == [0.125, 0.375, 0.625, 0.875]
    assert [c.betti for c in found] == [1, 2, 3, 6]
    assert found[1].reason == "l1 2, rank 2 of 4"


def test_below_zero_the_lowest_score_is_worth_nothing() -> None:
    (found,) = rank_units([pool(3, "a")], scored({"a": [3.0, -2.0, 1.0]}))
    assert order(found) == [1, 2, 0]
    assert [c.importance for c in found] == [0.0, 1.5, 2.5]  # the mean size is 2


def test_high_scores_go_first_where_they_are_bad() -> None:
    (found,) = rank_units([pool(3, "a")], scored({"a": [10.0, 40.0, 25.0]}, "betti", high=True))
    assert order(found) == [1, 2, 0]
    assert [c.importance for c in found] == [0.0, 0.6, 1.2]
    assert [c.reason for c in found][1:] == [
        "Betti number 25, rank 2 of 3",
        "Betti number 10, rank 3 of 3",
    ]


def test_scores_that_can_be_compared_are_taken_as_they_are() -> None:
    scores = scored({"a": [0.5, 8.0], "b": [0.0, 0.0]}, comparable=True)
    found = rank_units([pool(2, "a"), pool(2, "b")], scores)
    assert [[c.importance for c in of_pool] for of_pool in found] == [[0.5, 8.0], [0.0, 0.0]]
    signed = rank_units([pool(2, "a")], scored({"a": [-0.5, 0.25]}, comparable=True))
    assert [c.importance for c in signed[0]] == [0.0, 0.75]


@pytest.mark.parametrize("comparable", [True, False])
def test_a_layer_of_zeros_or_of_redundant_filters_is_worth_nothing(comparable: bool) -> None:
    scores = scored({"a": [0.0, 0.0], "b": [3.0, 4.0]}, comparable=comparable, b_0=DEAD, b_1=DEAD)
    found = rank_units([pool(2, "a"), pool(2, "b")], scores)
    assert [[c.importance for c in of_pool] for of_pool in found] == [[0.0, 0.0], [0.0, 0.0]]
    assert [c.betti for c in found[1]] == [None, None]


def test_redundant_filters_go_before_the_worst_and_count_in_no_mean() -> None:
    low = scored({"a": [0.0, 4.0, -1.0]}, a_2=f"{DEAD} here")
    (found,) = rank_units([pool(3, "a")], low)
    assert order(found) == [2, 0, 1]
    assert [c.importance for c in found] == [0.0, 0.0, 2.0]
    assert [c.reason for c in found] == [f"{DEAD} here", "l1 0, rank 2 of 3", "l1 4, rank 3 of 3"]
    high = scored({"a": [9.0, 3.0, 10.0]}, "betti", high=True, a_2=DEAD)
    (found,) = rank_units([pool(3, "a")], high)
    assert order(found) == [2, 0, 1]
    assert [c.importance for c in found] == [0.0, 0.0, 1.0]


def test_equal_scores_go_in_the_order_of_the_channels() -> None:
    (found,) = rank_units([pool(3, "a")], scored({"a": [1.0, 1.0, 1.0]}))
    assert order(found) == [0, 1, 2]


def test_shared_channels_count_by_the_mean_of_their_members() -> None:
    scores = scored({"a": [1.0, 3.0], "b": [30.0, 10.0]})
    (found,) = rank_units([pool(2, "a", "b")], scores)
    assert [c.importance for c in found] == [1.0, 1.0]  # 0.5 and 1.5, both ways round
    assert order(found) == [1, 0]  # then by the mean of the scores as they are: 6.5 and 15.5
    assert [c.betti for c in found] == [6.5, 15.5]
    assert found[0].reason == "l1 mean over a 3, b 10, rank 1 of 2"


def test_a_shared_channel_of_one_redundant_member_counts_by_the_others() -> None:
    scores = scored({"a": [5.0, 3.0], "b": [-1.0, 10.0]}, b_0=DEAD)
    (found,) = rank_units([pool(2, "a", "b")], scores)
    first = next(c for c in found if c.unit[0][1] == 0)
    assert first.betti == 5.0 and first.importance == 5 / 4 / 2
    assert first.reason == f"l1 mean over a 5, b {DEAD}, rank 1 of 2"


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ("abcd", "a 1, b 1, c 1, d 1, rank"),
        ("abcde", "a 1, b 1, c 1, d 1 and 1 more, rank"),
        ("abcdef", "a 1, b 1, c 1, d 1 and 2 more, rank"),
    ],
)
def test_a_reason_names_four_layers(layers: str, named: str) -> None:
    (found,) = rank_units([pool(2, *layers)], scored({layer: [1.0, 2.0] for layer in layers}))
    assert found[0].reason == f"l1 mean over {named} 1 of 2"


def test_a_note_that_is_no_redundancy_is_added_to_the_reason() -> None:
    (found,) = rank_units([pool(2, "a")], scored({"a": [1.0, 2.0]}, a_1="stands in for taylor"))
    assert [c.reason for c in found] == ["l1 1, rank 1 of 2", "l1 2, rank 2 of 2 (stands in for taylor)"]


def test_units_without_a_score_stay_out() -> None:
    found = rank_units([pool(2, "b"), pool(3, "a", "c"), pool(2, "d")], scored({"a": [2.0, 1.0]}))
    assert [order(of_pool) for of_pool in found] == [[1, 0]]
    assert [c.place for c in found[0]] == [0.25, 0.75]
    assert found[0][0].reason == "l1 1, rank 1 of 2"


def test_a_threshold_is_exceeded_from_above_only() -> None:
    (found,) = rank_units([pool(3, "a")], scored({"a": [3.0, 2.0, 9.0]}, "betti", high=True, a_2=DEAD))
    assert [c.exceeds(2.0) for c in found] == [True, True, False]
    assert [c.exceeds(3.0) for c in found] == [True, False, False]
    assert found[0].with_threshold(2.0) is found[0]
    assert found[1].with_threshold(2.5).reason == "Betti number 3 > 2.5"
    assert found[1].with_threshold(2.5).unit == found[1].unit


def test_the_threshold_of_shared_channels_names_them() -> None:
    (found,) = rank_units(
        [pool(2, "a", "b")], scored({"a": [3.0, 1.0], "b": [4.0, 1.0]}, "betti", high=True)
    )
    assert found[0].with_threshold(2.0).reason == "Betti number 3.5 > 2, the mean of a, b"


def candidates(*units: Unit) -> list[Candidate]:
    """In this order; units of the same layers are of one pool, of which another unit stays."""
    pools: dict[tuple[str, ...], list[Unit]] = {}
    for unit in units:
        layers = tuple(dict.fromkeys(x for x, _ in unit))
        pools.setdefault(layers, [((layers[0], 99),)]).append(unit)
    made = {layers: Pool(layers, tuple(of_pool)) for layers, of_pool in pools.items()}
    return [Candidate(made[tuple(dict.fromkeys(x for x, _ in u))], u, 0.0, 0.5, None, "") for u in units]


def single(layer: str, n: int) -> list[Unit]:
    return [((layer, i),) for i in range(n)]


def removed(
    units: list[Unit], filters: dict[str, int], at_least: int = 1, multiple: int = 1
) -> list[Unit]:
    return [c.unit for c in remove_first(candidates(*units), filters, at_least, multiple)]


@pytest.mark.parametrize("at_least", [0, 1, 2, 5])
def test_a_layer_keeps_its_minimum(at_least: int) -> None:
    assert removed(single("a", 5), {"a": 5}, at_least) == single("a", 5 - at_least)


def test_each_pool_of_a_layer_keeps_a_unit() -> None:
    """Layer a has two pools, e.g. halves that other layers take in: neither may vanish."""
    first, second = (
        Pool(("a",), tuple((("a", i),) for i in numbers)) for numbers in (range(3), range(3, 6))
    )
    order = [Candidate(p, u, 0.0, 0.5, None, "") for p in (first, second) for u in p.units]
    assert [c.unit[0][1] for c in remove_first(order, {"a": 6}, 1, 1)] == [0, 1, 3, 4]


def test_units_that_a_layer_cannot_spare_are_passed_over() -> None:
    both: Unit = (("a", 0), ("b", 0))
    two: Unit = (("b", 1), ("b", 2))
    one: Unit = (("b", 3),)
    assert removed([both, two, one], {"a": 1, "b": 3}) == [two]
    assert removed([both, two, one], {"a": 2, "b": 3}) == [both, one]
    assert removed([both, two, one], {"a": 2, "b": 4}) == [both, two]


@pytest.mark.parametrize(
    ("asked", "gone"), [(0, 0), (1, 0), (3, 0), (4, 4), (6, 4), (7, 4), (8, 8), (9, 8)]
)
def test_layers_keep_a_multiple_or_all(asked: int, gone: int) -> None:
    """Of twelve in fours, worst first: the last ones to go come back."""
    assert removed(single("a", asked), {"a": 12}, multiple=4) == single("a", gone)


def test_an_odd_layer_may_stay_whole_or_lose_what_makes_it_odd() -> None:
    assert removed(single("a", 1), {"a": 6}, multiple=4) == []
    assert removed(single("a", 3), {"a": 6}, multiple=4) == single("a", 2)


def test_what_comes_back_comes_back_to_its_layer_alone() -> None:
    units = [*single("a", 3), *single("b", 2)]
    assert removed(units, {"a": 4, "b": 4}, multiple=2) == [*single("a", 2), *single("b", 2)]


def test_shared_channels_come_back_together() -> None:
    shared: list[Unit] = [(("a", i), ("b", i)) for i in range(3)]
    # b is left with three of six: the third comes back, and with it that of a.
    assert removed(shared, {"a": 5, "b": 6}, multiple=2) == []
    assert removed(shared, {"a": 6, "b": 6}, multiple=2) == shared[:2]
