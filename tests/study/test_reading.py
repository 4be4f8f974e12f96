from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unknot.study.stacked_training import BLOCK, Reader


class Answers:
    """Nets whose answers are known; keeps how many samples each was asked for."""

    def __init__(self, right: Tensor) -> None:
        self.right, self.asked = right, [0] * len(right)

    def __call__(self, inputs: Tensor, labels: Tensor, nets: list[int]) -> list[float]:
        assert len(inputs) == len(labels)
        for net in nets:
            self.asked[net] += len(inputs)
        return [float((~self.right[net, inputs]).sum()) for net in nets]


def drawn(n: int, shares: list[float], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.rand(n, generator=generator) < share for share in shares])


@given(
    n=st.integers(1, 5 * BLOCK),
    shares=st.lists(st.sampled_from([0.0, 0.5, 0.9, 0.985, 0.99, 0.995, 1.0]), min_size=1, max_size=5),
    exact_from=st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]),
    seed=st.integers(0, 9),
)
def test_what_is_at_least_the_target_is_exact(
    n: int, shares: list[float], exact_from: float, seed: int
) -> None:
    answers = Answers(drawn(n, shares, seed))
    reader = Reader(torch.arange(n), torch.zeros(n).long(), exact_from)
    true = [float(row.sum()) / n for row in answers.right]
    read = reader.read(answers, len(shares))
    for accuracy, exact, asked in zip(read, true, answers.asked, strict=True):
        assert (accuracy >= exact_from) == (exact >= exact_from)
        assert accuracy == exact or (accuracy < exact_from and min(n, BLOCK) <= asked < n)
    assert reader.read(answers, len(shares), whole=range(len(shares))) == true
    some = reader.read(answers, len(shares), whole=[0])
    assert some == [true[0], *read[1:]]


def test_a_net_is_read_as_it_would_be_alone() -> None:
    right = drawn(3000, [0.6, 0.98, 1.0, 0.9], 0)
    reader = Reader(torch.arange(3000), torch.zeros(3000).long(), 0.99)
    together = Answers(right)
    read = reader.read(together, 4)
    assert [reader.read(Answers(row[None]), 1) for row in right] == [[a] for a in read]
    assert together.asked[0] == BLOCK < together.asked[3] < together.asked[1] < together.asked[2] == 3000


def test_sorted_samples_are_read_at_random() -> None:
    right = torch.arange(3000)[None] < 1500  # the first half is right
    (read,) = Reader(torch.arange(3000), torch.zeros(3000).long(), 0.99).read(Answers(right), 1)
    assert read == pytest.approx(0.5, abs=0.1)


def test_no_samples_have_no_accuracy() -> None:
    assert math.isnan(
        Reader(torch.zeros(0, 2), torch.zeros(0).long()).read(Answers(torch.ones(1, 0)), 1)[0]
    )
