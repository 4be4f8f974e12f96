from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest

from unknot.core.errors import InputError
from unknot.core.files import typed
from unknot.topology.rules import KnnRule, RipsRule, estimate_memory
from unknot.topology.scale import Scale, require_rule

SCALES = [
    Scale(k=14, hops=2),
    Scale(radius=0.5, determined=False, note="why"),
    Scale(),
    Scale(radius=0.0),
]
TWO_RULES = "expected exactly one rule; pass radius=... or k=..., hops=..."
COUNT = "expected a whole number >= 1; pass e.g."
RADIUS = "expected a number >= 0; pass e.g. radius=0.5"


def test_fields_that_the_rule_has_not_are_none() -> None:
    knn, rips, given = Scale(k=14, hops=2), Scale(radius=0.5), Scale()
    assert (knn.k, knn.hops, knn.radius, knn.rule) == (14, 2, None, KnnRule(14, 2))
    assert (rips.k, rips.hops, rips.radius, rips.rule) == (None, None, 0.5, RipsRule(0.5))
    assert (given.k, given.hops, given.radius, given.rule) == (None, None, None, None)
    assert (given.determined, given.note) == (True, "")


def test_one_hop_where_only_k_is_given() -> None:
    assert Scale(k=5) == Scale(k=5, hops=1)
    assert hash(Scale(k=5)) == hash(Scale(k=5, hops=1))


def test_a_scale_speaks() -> None:
    assert [str(scale) for scale in SCALES] == [
        "k=14, hops=2",
        "radius=0.5 (undetermined)",
        "given edges",
        "radius=0",
    ]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_scale_travels(scale: Scale) -> None:
    assert list(asdict(scale)) == ["k", "hops", "radius", "determined", "note"]
    assert typed(Scale, json.loads(json.dumps(asdict(scale)))) == scale
    again = pickle.loads(pickle.dumps(scale))
    assert again == scale and hash(again) == hash(scale) and again.rule == scale.rule
    assert replace(scale, note="other") != scale
    assert replace(scale, note="other").rule == scale.rule


def test_a_scale_is_replaced_within_its_rule() -> None:
    assert replace(Scale(k=14, hops=2), k=3) == Scale(k=3, hops=2)
    with pytest.raises(InputError, match="k = 14 with radius = 1"):
        replace(Scale(k=14, hops=2), radius=1)


def test_numbers_of_numpy_become_those_that_json_knows() -> None:
    knn = Scale(k=np.int64(5), hops=np.int32(2))  # type: ignore[arg-type]
    assert json.loads(json.dumps(asdict(knn)))["k"] == 5
    rips = asdict(Scale(radius=np.float32(0.5)))  # type: ignore[arg-type]
    assert json.loads(json.dumps(rips))["radius"] == 0.5


@pytest.mark.parametrize(
    "record", [{"k": 0, "hops": 1}, {"hops": 2}, {"k": 3, "radius": 0.5}, {"radius": -1.0}, {"k": 1.5}]
)
def test_a_damaged_record_is_none(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="k|hops|radius"):
        typed(Scale, record)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Scale(k=5, radius=1), f"k = 5 with radius = 1: {TWO_RULES}"),
        (lambda: Scale(hops=2), "hops = 2 without k: expected both or neither; pass e.g. k=14"),
        (
            lambda: Scale(hops=2, radius=1.0),
            "hops = 2 without k: expected both or neither; drop hops",
        ),
        (lambda: Scale(k=0), f"k = 0: {COUNT} k=1"),
        (lambda: Scale(k=2.5), f"k = 2.5: {COUNT} k=1"),  # type: ignore[arg-type]
        (lambda: Scale(k=True), f"k = True: {COUNT} k=1"),
        (lambda: Scale(k=5, hops=0), f"hops = 0: {COUNT} hops=1"),
        (lambda: Scale(radius=-1), f"radius = -1: {RADIUS}"),
        (lambda: Scale(radius=float("nan")), f"radius = nan: {RADIUS}"),
        (lambda: Scale(radius="1"), f"radius = '1': {RADIUS}"),  # type: ignore[arg-type]
        (lambda: Scale(radius=True), f"radius = True: {RADIUS}"),
        (lambda: require_rule(3), "scale = 3: expected a Scale; pass Scale(k=14, hops=2)"),
        (
            lambda: require_rule("some", "'auto'"),
            "scale = 'some': expected a Scale or 'auto'; pass Scale(k=14, hops=2)",
        ),
        (
            lambda: require_rule(Scale(), "'auto'"),
            "scale = given edges: expected a radius, or k and hops; pass Scale(k=14, hops=2)",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == says


def test_hops_beyond_all_points_need_no_more_memory() -> None:
    assert estimate_memory(60_000, k=3, hops=10**12) == estimate_memory(60_000, k=3, hops=16)


def test_k_is_lowered_to_what_the_points_allow() -> None:
    scale = Scale(k=14, hops=2, determined=False, note="why")
    assert scale.lowered_to(15) is scale
    few = replace(scale, k=13, note="k lowered: few distinct points")
    assert scale.lowered_to(14) == few
    assert scale.lowered_to(2) == replace(few, k=1)
    assert scale.lowered_to(1) == replace(scale, k=1, note="one distinct point: constant")
    for other in (Scale(radius=0.5), Scale()):
        assert other.lowered_to(1) is other
