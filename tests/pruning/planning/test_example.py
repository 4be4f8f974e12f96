"""What a plan keeps of a batch makes another of its kind; what is none is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, tensors_of
from unknot.pruning.planning.example import describe, make

IMAGES, WORDS = torch.ones(5, 3, 8, 8), torch.ones(5, 7, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (IMAGES, [None]),
        ((IMAGES, WORDS), [None, None]),
        ({"ids": WORDS, "mask": WORDS.bool()}, ["ids", "mask"]),
        (IMAGES.half(), [None]),
        (torch.ones(4), [None]),  # a number a sample
    ],
)
def test_a_batch_of_the_same_kind(batch: Inputs, names: list[str | None]) -> None:
    described = describe(batch)
    assert [part["name"] for part in described] == names
    made = make(described, samples=3)
    assert type(made) is type(batch)
    if isinstance(batch, dict):
        assert isinstance(made, dict) and list(made) == list(batch)
    for new, old in zip(tensors_of(made), tensors_of(batch), strict=True):
        assert new.shape == (3, *old.shape[1:]) and new.dtype == old.dtype
        assert bool(new.isfinite().all()) and bool(new.any())


def test_it_is_told_in_words_that_go_into_a_file() -> None:
    assert describe({"ids": WORDS}) == [{"name": "ids", "shape": [7], "dtype": "int64"}]


def part(**changes: Any) -> dict[str, Any]:
    return {"name": None, "shape": [2, 3], "dtype": "float32"} | changes


@pytest.mark.parametrize(
    "described",
    [
        [],
        [{}],
        [None],
        [part(shape=3)],
        [part(shape=[-1])],
        [part(shape=[1.5])],
        [part(shape=[True])],
        [part(shape=["2"])],
        [part(dtype="nn")],
        [part(dtype="float31")],
        [part(dtype=32)],
        [part(shape=[10**9, 10**9])],
        [part(), part(name="ids")],
        [part(name="ids"), part()],
    ],
)
def test_what_describes_no_batch_is_refused_in_one_line(described: list[Any]) -> None:
    with pytest.raises(InputError, match="^plan for samples .*; plan again with this model$") as caught:
        make(described)
    assert "\n" not in str(caught.value)
