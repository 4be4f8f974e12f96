"""Labels move with the entries of a tensor: as torch moves a tensor that holds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unknot.pruning.structure.tracing.labels import (
    Factor,
    _groups,
    aligned,
    at_first,
    follows,
    moved,
    spans,
    squeezed,
    viewed,
)


def labelled(shape: list[int], axes: list[int]) -> Factor:
    """A factor with a label of its own for each index along ``axes``."""
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return np.arange(1, 1 + int(np.prod(sizes))).reshape(sizes)


def whole(factor: Factor, shape: list[int]) -> torch.Tensor:
    """The label of each entry."""
    return torch.from_numpy(np.broadcast_to(factor, shape).copy())


@pytest.mark.parametrize(
    ("old", "new", "groups"),
    [
        ([2, 6], [2, 2, 3], [([0], [0]), ([1], [1, 2])]),
        ([2, 2, 3], [2, 6], [([0], [0]), ([1, 2], [1])]),
        ([4, 6], [3, 8], [([0, 1], [0, 1])]),
        ([4, 6], [2, 2, 6], [([0], [0, 1]), ([1], [2])]),
        ([1, 4], [4], [([0], []), ([1], [0])]),
        ([4], [4, 1, 1], [([0], [0]), ([], [1]), ([], [2])]),
        ([4], [1, 4], [([], [0]), ([0], [1])]),
        ([1], [1, 1], [([0], [0]), ([], [1])]),
        ([], [1], [([], [0])]),
        ([1, 1], [], [([0], []), ([1], [])]),
        ([2, 1, 3], [6], [([0, 1, 2], [0])]),
    ],
)
def test_the_smallest_groups_of_axes(
    old: list[int], new: list[int], groups: list[tuple[list[int], list[int]]]
) -> None:
    assert list(_groups(old, new)) == groups


@pytest.mark.parametrize(
    ("old", "new", "shape"),
    [
        ([2, 12, 5], [2, 3, 4, 5], (1, 3, 4, 1)),  # channels into heads
        ([2, 12, 5], [2, 12, 5, 1], (1, 12, 1, 1)),
        ([2, 12, 5, 1], [2, 60], (1, 60)),  # flattened
        ([2, 12, 5], [10, 12], (10, 12)),  # places are mixed with channels: all are told apart
    ],
)
def test_a_view_spreads_a_factor_over_what_it_must(
    old: list[int], new: list[int], shape: tuple[int, ...]
) -> None:
    assert viewed(labelled(old, [1]), old, new).shape == shape


SHAPES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4)


@given(SHAPES, st.data())
def test_a_view_labels_each_entry_as_the_view_of_the_labels(
    shape: list[int], data: st.DataObject
) -> None:
    factor = labelled(shape, data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True)))
    left, new = int(np.prod(shape)), []
    for _ in range(data.draw(st.integers(0, 4))):
        new.append(data.draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0])))
        left //= new[-1]
    new.append(left)
    assert torch.equal(whole(viewed(factor, shape, new), new), whole(factor, shape).reshape(new))


@given(SHAPES, st.data())
def test_a_permutation_labels_each_entry_as_the_permutation_of_the_labels(
    shape: list[int], data: st.DataObject
) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    factor = labelled(shape, data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True)))
    expected = whole(factor, shape).permute(axes)
    assert torch.equal(whole(moved(factor, axes), list(expected.shape)), expected)


def test_axes_of_size_1_come_and_go() -> None:
    factor = labelled([2, 3, 1], [1])
    assert moved(factor, [-1, 1, -1, 0]).shape == (1, 3, 1, 1)
    assert moved(factor, [1]).tolist() == [1, 2, 3]  # the others are of size 1
    assert aligned(labelled([3], [0]), 3).shape == (1, 1, 3)


def test_what_is_the_same_along_an_axis_is_squeezed() -> None:
    factor = np.array([[1, 2], [1, 2], [1, 2]])
    assert squeezed(factor).tolist() == [[1, 2]]
    assert squeezed(factor.T).tolist() == [[1], [2]]
    assert squeezed(np.array([[1, 2], [1, 3]])).tolist() == [[1, 2], [1, 3]]
    assert squeezed(np.full((2, 3), 7)).tolist() == [[7]]


def test_axes_that_a_factor_spans_and_its_first_entries() -> None:
    factor = np.arange(1, 7).reshape(2, 1, 3)
    assert spans(factor) == {0, 2}
    assert at_first(factor, [2]).tolist() == [[[1]], [[4]]]
    assert not follows(factor) and follows(-factor)
