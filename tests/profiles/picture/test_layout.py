"""Where samples stand in the picture of islands: every sample once, in an order that stays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from helpers.untangled import LABELS, row, untangled_profile
from hypothesis import given, settings
from hypothesis import strategies as st

from unknot.profiles.picture.layout import (
    GAP,
    Bar,
    IslandsPicture,
    chosen_evenly,
    colour_groups,
    flows,
    islands_picture,
)
from unknot.profiles.profile import TopologyProfile

N = len(LABELS)


def picture_of(profile: TopologyProfile) -> IslandsPicture:
    picture = islands_picture(profile)
    assert picture is not None
    return picture


def random_profile(seed: int, islands: int = 6, epochs: int = 3) -> TopologyProfile:
    rng = np.random.default_rng(seed)
    rows = [
        row(epoch, f"layer{i}", rng.integers(0, rng.integers(1, islands + 1), N) * 3 + 1, 0.5)
        for epoch in range(epochs)
        for i in range(4)
    ]
    return replace(untangled_profile(), untangling=tuple(rows))


def crossings(blocks: np.ndarray, target: np.ndarray) -> int:
    """Pairs of samples that change places between a bar and the heights ``target``; by brute force."""
    return sum(
        bool((blocks[i] - blocks[j]) * (target[i] - target[j]) < 0)
        for i in range(len(blocks))
        for j in range(i)
    )


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_every_sample_stands_once_and_with_its_island(seed: int) -> None:
    profile = random_profile(seed)
    picture = picture_of(profile)
    labels = np.asarray(LABELS)
    assert sorted(picture.classes) == [0, 1, 2]
    assert (np.asarray(picture.classes)[picture.ranks] == labels).all()
    bars = [bar for of_epoch in picture.bars for bar in of_epoch]
    for bar, measured in zip(bars, profile.untangling, strict=True):
        assert bar is not None and bar.row is measured
        assert bar.sizes.sum() == N and bar.sizes.sum(axis=1).min() > 0
        # The islands as they were, under other numbers.
        pairs = {*zip(bar.blocks.tolist(), measured.members, strict=True)}
        assert len(pairs) == len(bar.sizes) == measured.islands
        bottoms = bar.bottoms()
        assert bottoms[0, 0] == 0
        assert (bottoms[:, 1:] == bottoms[:, :-1] + bar.sizes[:, :-1]).all()  # no gap within a block
        for (lower, heights), (upper, _) in pairwise(zip(bottoms, bar.sizes, strict=True)):
            assert upper[0] == pytest.approx(lower[-1] + heights[-1] + GAP * N)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_flows_add_up_to_the_blocks_at_both_ends(seed: int) -> None:
    picture = picture_of(random_profile(seed))
    for bar, following in pairwise(picture.bars[-1]):
        assert bar is not None and following is not None
        out, into = np.zeros_like(bar.sizes), np.zeros_like(following.sizes)
        for flow in flows(bar, following, picture.ranks):
            out[flow.block, flow.rank] += flow.samples
            into[flow.next_block, flow.rank] += flow.samples
        assert (out == bar.sizes).all() and (into == following.sizes).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_other_order_of_blocks_has_fewer_crossings(seed: int) -> None:
    """Of the bar before the last, against all orders of its at most four blocks."""
    picture = picture_of(random_profile(seed, islands=4, epochs=1))
    *_, bar, last = picture.bars[-1]
    assert bar is not None and last is not None
    heights = last.blocks * 10 + picture.ranks
    orders = permutations(range(len(bar.sizes)))
    best = min(crossings(np.asarray(o)[bar.blocks], heights) for o in orders)
    assert crossings(bar.blocks, heights) == best


def test_the_order_stays_and_does_not_hang_on_the_numbers_of_islands() -> None:
    profile = random_profile(3)
    again = picture_of(profile)
    rng = np.random.default_rng(0)
    renumbered = []
    for measured in profile.untangling:
        number = rng.permutation(20)
        renumbered.append(replace(measured, members=tuple(number[list(measured.members)].tolist())))
    other = picture_of(replace(profile, untangling=tuple(renumbered)))
    assert other.classes == again.classes
    for a, b in zip(sum(other.bars, ()), sum(again.bars, ()), strict=True):
        assert a is not None and b is not None and (a.blocks == b.blocks).all()


def test_an_epoch_that_repeats_the_one_after_has_its_order() -> None:
    profile = random_profile(1, epochs=1)
    rows = tuple(replace(r, epoch=e) for e in range(3) for r in profile.untangling)
    picture = picture_of(replace(profile, untangling=rows))
    for early, late in pairwise(picture.bars):
        assert all((a.blocks == b.blocks).all() for a, b in zip(early, late, strict=True) if a and b)


def test_blocks_are_ordered_by_their_class_and_classes_stand_by_their_island() -> None:
    """Class 1 alone, 0 and 2 together: 2 stands beside 0, and the island of 0 comes first."""
    picture = picture_of(untangled_profile())
    assert picture.classes == (0, 2, 1)
    last = picture.bars[-1][-1]
    assert last is not None
    assert last.sizes.tolist() == [[40, 30, 0], [0, 0, 30]]
    assert last.bottoms().tolist() == [[0, 40, 70], [70 + GAP * N] * 3]


def test_what_is_not_known_is_an_empty_bar() -> None:
    profile = untangled_profile()
    rows = [replace(r, islands=None, members=()) if r.layer == "act1" else r for r in profile.untangling]
    dropped = [r for r in rows if (r.epoch, r.layer) != (0, "out")]
    picture = picture_of(replace(profile, untangling=tuple(dropped)))
    (_, unknown, missing), _ = picture.bars
    assert missing is None
    assert unknown is not None and unknown.sizes.shape == (0, 3) and not len(unknown.blocks)
    first = picture.bars[1][0]
    assert first is not None and flows(first, unknown, picture.ranks) == []
    bare = [replace(r, members=()) for r in rows]
    assert islands_picture(replace(profile, untangling=tuple(bare))) is None
    assert islands_picture(replace(profile, untangling=())) is None


def test_without_labels_samples_are_told_apart_by_where_they_end() -> None:
    picture = picture_of(replace(untangled_profile(), labels=None))
    assert not picture.by_class
    last = picture.bars[-1][-1]
    assert last is not None and last.sizes.tolist() == [[70, 0], [0, 30]]


def test_many_layers_are_chosen_evenly_with_the_first_and_the_last_two() -> None:
    for n in (24, 25, 26, 48, 160, 1000):
        chosen = chosen_evenly(range(n), 24)
        assert len(chosen) == 24 and chosen == sorted(set(chosen))
        assert chosen[0] == 0 and chosen[-2:] == [n - 2, n - 1]
        steps = np.diff(chosen[:-1])
        assert steps.max() - steps.min() <= 1
    layers = tuple(f"layer{i}" for i in range(160))
    picture = picture_of(untangled_profile(layers=layers))
    assert len(picture.layers) == 24 and picture.n_layers == 160
    assert picture.layers[0] == ("layer0", 0) and picture.layers[-2:] == (
        ("layer158", 0),
        ("layer159", 0),
    )


def test_of_a_thousand_classes_neighbours_share_a_colour() -> None:
    groups = colour_groups(1000)
    assert set(groups) == set(range(48)) and (np.diff(groups) >= 0).all()
    assert np.ptp(np.bincount(groups)) <= 1
    assert colour_groups(10).tolist() == list(range(10))
    assert Bar(
        row(0, "a", [], None), np.empty(0, np.int64), np.zeros((0, 3), np.int64)
    ).bottoms().shape == (0, 3)


def test_members_that_do_not_fit_the_labels_are_not_known() -> None:
    profile = untangled_profile()
    short = replace(profile.untangling[1], members=(0, 2**70, -1))
    rows = (profile.untangling[0], short, *profile.untangling[2:])
    (_, bar, _), _ = picture_of(replace(profile, untangling=rows)).bars
    assert bar is not None and not len(bar.blocks)
    assert islands_picture(replace(profile, labels=(0, 1))) is None
    huge = tuple(replace(r, members=tuple(2**70 * m for m in r.members)) for r in profile.untangling)
    for a, b in zip(
        picture_of(profile).bars, picture_of(replace(profile, untangling=huge)).bars, strict=True
    ):
        assert all((x.blocks == y.blocks).all() for x, y in zip(a, b, strict=True) if x and y)
