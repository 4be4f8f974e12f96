"""The two sentences: what the numbers and their intervals allow to say, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.results import KNN, filter_profile, profile
from helpers.untangled import LABELS, row, untangled_profile

from unknot.profiles.picture.sentences import betti_first, class_name, headline, listed
from unknot.profiles.profile import TopologyProfile

N = len(LABELS)
ONE = np.zeros(N)
SCALE = "(0 = each class one piece, 1 = random labels)"
APART = np.where(np.asarray(LABELS) == 1, 1, 0)
PLACE = "in layer fc1, the last one measured before the output"
UNTOLD = "; only epoch 0 or random weights (nulls=3) can tell whether training did that"


def with_rows(*rows: Any, **more: Any) -> TopologyProfile:
    return replace(untangled_profile(), untangling=rows, **more)


def watched(
    before: Any, after: Any, layers: tuple[str, ...] = ("input", "fc1", "out")
) -> TopologyProfile:
    """Rows by (members, tangle, more) at every layer, before training and after epoch 10."""
    rows = [row(e, x, m, t, **more) for e, (m, t, more) in ((0, before), (10, after)) for x in layers]
    return with_rows(*rows)


def test_training_took_the_classes_apart() -> None:
    assert headline(untangled_profile()) == (
        "Training took the classes apart: in layer act1, "
        "the last one measured before the output, the tangle fell "
        f"from 0.90 [0.87, 0.93] before training to 0.57 [0.54, 0.60] after epoch 1 {SCALE}. "
        "The 100 samples fall into 2 islands there, 1 before training; one holds mostly one class, one "
        "mixes cat and <b>fox</b>."
    )


def test_training_tangled_the_classes() -> None:
    text = headline(watched((APART, 0.4, {}), (ONE, 0.8, {})))
    assert text == (
        "Training tangled the classes further: in layer fc1, "
        "the last one measured before the output, the tangle rose "
        "from 0.40 [0.37, 0.43] before training "
        f"to 0.80 [0.77, 0.83] after epoch 10 {SCALE}. The 100 samples form one island there, 2 before "
        "training."
    )


def test_intervals_that_meet_tell_nothing() -> None:
    text = headline(watched((ONE, 0.80, {}), (ONE, 0.75, {})))
    assert text == (
        "Training did not measurably change how tangled the classes are: in layer fc1, the last "
        "one measured before the output, the tangle was 0.80 [0.77, "
        f"0.83] before training and 0.75 [0.72, 0.78] after epoch 10 {SCALE}. The 100 samples form one "
        "island in every layer: the classes overlap, or there are too few samples to tell: try n = 4,000."
    )


def test_without_intervals_nothing_is_claimed() -> None:
    bare = {"tangle_interval": None, "islands_interval": None}
    text = headline(watched((ONE, 0.9, bare), (APART, 0.5, bare)))
    assert text.startswith(
        "Whether training took the classes apart cannot be told for sure: in layer fc1, the last "
        "one measured before the output, the tangle went from 0.90 "
        f"before training to 0.50 after epoch 10 {SCALE}; no intervals were taken (repeats=10). "
    )


def test_the_spread_before_training_stands_for_that_after_it() -> None:
    bare = {"tangle_interval": None, "islands_interval": None}
    text = headline(watched((ONE, 0.9, {}), (APART, 0.8, bare)))
    assert text.startswith("Training took the classes apart: in layer fc1, ")
    assert "the tangle fell from 0.90 [0.87, 0.93] before training to 0.80 after epoch 10" in text
    # The interval is .06 wide: 0.82 lies .05 below it, which may be chance, and need not.
    near = headline(watched((ONE, 0.9, {}), (APART, 0.82, bare)))
    assert near.startswith(
        "Whether training took the classes apart cannot be told for sure: in layer fc1"
    )
    assert f"to 0.82 after epoch 10 {SCALE}; of the latter no interval was taken (repeats=10). " in near
    assert "did not measurably change" in headline(watched((ONE, 0.9, {}), (APART, 0.88, bare)))


def test_a_tangle_of_random_labels_is_said_to_be_one() -> None:
    high = {"shuffled": (0.97, 1.02)}
    text = headline(watched((ONE, 0.6, high), (ONE, 0.96, {})))
    assert f"after epoch 10 {SCALE}, which random labels would give too. " in text
    assert "random labels would" not in headline(watched((ONE, 0.6, high), (ONE, 0.9, {})))
    assert "random labels would" in headline(watched((ONE, 0.6, {}), (ONE, 0.98, {})))


def test_an_epoch_that_is_not_the_first_is_not_before_training() -> None:
    later = untangled_profile(epochs=3)
    text = headline(replace(later, untangling=tuple(r for r in later.untangling if r.epoch != 0)))
    assert "after epoch 1 to " in text and "before training" not in text


@pytest.mark.parametrize(
    ("tangle", "says"),
    [
        (0.5, "The model takes the classes apart further than random weights do"),
        (0.99, "The model leaves the classes more tangled than random weights do"),
        (0.85, "The model takes the classes apart no further than random weights do"),
    ],
)
def test_a_model_is_held_against_random_weights(tangle: float, says: str) -> None:
    given = [row(None, x, APART, tangle) for x in ("input", "fc1", "out")]
    null = [row(None, "fc1", ONE, t, random=i) for i, t in enumerate((0.85, 0.9))]
    text = headline(with_rows(*given, *null))
    numbers = (
        ": in layer fc1, the last one measured before the output, the tangle is "
        f"{tangle:.2f} [{tangle - 0.03:.2f}, {tangle + 0.03:.2f}], with random "
    )
    assert text.startswith(f"{says}{numbers}weights 0.85 to 0.90 [0.82, 0.93] {SCALE}")
    assert "The 100 samples fall into 2 islands there, 1 with random weights; " in text


@pytest.mark.parametrize(
    ("tangle", "says", "way"),
    [
        (0.5, "The layers take the classes apart", "falls from 0.80 [0.77, 0.83] at the input to 0.50"),
        (0.9, "The layers tangle the classes further", "rises from 0.80 [0.77, 0.83] at the input to"),
        (0.81, "The layers do not measurably change how tangled the classes are",
         "is 0.80 [0.77, 0.83] at the input and 0.81"),
    ],
)  # fmt: skip
def test_without_both_layers_are_held_against_the_input(tangle: float, says: str, way: str) -> None:
    rows = [row(None, "input", ONE, 0.8), row(None, "fc1", APART, tangle), row(None, "out", APART, 0.1)]
    text = headline(with_rows(*rows))
    assert text.startswith(f"{says}: the tangle {way}") and f"{PLACE} {SCALE}{UNTOLD}. " in text
    assert "fall into 2 islands there, 1 at the input; " in text


def test_one_layer_has_nothing_beside_it() -> None:
    text = headline(with_rows(row(None, "out", APART, 0.5)))
    assert text == (
        "In layer out the tangle of the classes is "
        f"0.50 [0.47, 0.53] {SCALE}; there is nothing to hold it "
        "against. The 100 samples fall into 2 islands there; one holds mostly one class, one mixes "
        "cat and "
        "<b>fox</b>."
    )


def test_the_last_hidden_layer_is_the_last_one_where_only_some_were_measured() -> None:
    some = {"by": "layer", "layers": ["act*"]}
    text = headline(replace(untangled_profile(), settings=some))
    assert "in layer out, the last one measured, the tangle fell" in text
    whole = headline(untangled_profile())
    assert "in layer act1, the last one measured before the output, the tangle fell" in whole


def test_what_was_not_measured_is_said_with_its_reason() -> None:
    known = [row(None, "input", ONE, 0.8)]
    constant = row(None, "fc1", [], None, note="the layer is constant")
    text = headline(with_rows(*known, constant))
    assert text == (
        "How tangled the classes are in layer fc1, the last one measured, could not be measured (the "
        "layer is constant). How many islands the samples form there could not be measured (the layer is "
        "constant)."
    )


def test_without_labels_there_is_no_tangle() -> None:
    rows = [replace(r, tangle=None) for r in untangled_profile().untangling]
    assert headline(with_rows(*rows, labels=None, names=())) == (
        "There are no labels, so how tangled the classes are in layer act1, "
        "the last one measured before the output, "
        "cannot be told. The 100 samples fall into 2 islands there, 1 before training."
    )


def test_of_one_island_in_the_last_hidden_layer_the_most_elsewhere_are_told() -> None:
    rows = [row(None, "input", ONE, 0.8), row(None, "conv", APART, 0.7),
            row(None, "fc1", ONE, 0.6), row(None, "out", ONE, 0.5)]  # fmt: skip
    text = headline(with_rows(*rows))
    assert text.endswith(
        "The 100 samples form one island there, 1 at the input; most of one layer are 2, in layer conv."
    )


def test_counts_within_their_intervals_are_not_told_apart() -> None:
    wide = {"islands_interval": (1, 3)}
    text = headline(watched((ONE, 0.9, wide), (APART, 0.5, wide)))
    assert "fall into 2 islands [1, 3] there, 1 [1, 3] before training (the intervals meet); " in text


def test_four_thousand_samples_are_enough() -> None:
    many = replace(watched((ONE, 0.80, {}), (ONE, 0.75, {})), labels=(0, 1) * 2000)
    rows = tuple(replace(r, members=(0,) * 4000) for r in many.untangling)
    text = headline(replace(many, untangling=rows))
    assert text.endswith("the classes overlap, or there are too few samples to tell.")


MIXTURES = [
    (np.asarray(LABELS), "each holds mostly one class"),
    (np.asarray(LABELS) % 2, "one holds mostly one class, one mixes cat and <b>fox</b>"),
    (np.arange(N) % 2, "none holds mostly one class, the largest mixes cat, dog and <b>fox</b>"),
    (np.where(np.arange(N) < 20, 0, 1), "one holds mostly one class, one mixes dog, <b>fox</b> and cat"),
    (np.where(np.asarray(LABELS) == 0, 0, np.where(np.arange(N) % 2, 1, 2)),
     "one holds mostly one class, the largest other mixes dog and <b>fox</b>"),
    (np.where(np.asarray(LABELS) == 0, np.arange(N) % 2, 2),
     "2 hold mostly one class each, one mixes dog and <b>fox</b>"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "says"), MIXTURES)
def test_which_classes_share_an_island(members: np.ndarray, says: str) -> None:
    assert headline(watched((ONE, 0.9, {}), (members, 0.5, {}))).endswith(f"; {says}.")


@pytest.mark.parametrize(
    ("classes", "says"), [(20, "class 0, class 2, class 4 and 7 more"), (50, "class 0 with many others")]
)
def test_an_island_of_very_many_classes_names_the_largest(classes: int, says: str) -> None:
    labels = tuple(range(classes)) * (N // classes)
    text = headline(
        replace(watched((ONE, 0.9, {}), (np.arange(N) % 2, 0.5, {})), labels=labels, names=())
    )
    assert text.endswith(f"; none holds mostly one class, the largest mixes {says}.")


def test_where_the_scale_is_determined_betti_numbers_come_first() -> None:
    settled = replace(
        untangled_profile(), scale=KNN,
        rows=tuple(replace(r, scale=KNN, b0=9 - 8 * (r.epoch or 0), b1=0) for r in profile().rows),
    )  # fmt: skip
    assert betti_first(settled) and not betti_first(untangled_profile())
    text = headline(settled)
    assert text.startswith(
        "Pieces and loops of the 2 classes fell from 18 before training to 2 after epoch 1 in layer "
        "act1, "
        "the last one measured before the output (2 = one piece each, without loops). Training took "
        "the classes apart: in layer act1 the tangle fell"
    )
    alone = replace(settled, untangling=(), rows=tuple(r for r in settled.rows if r.epoch == 1))
    assert headline(alone) == (
        "Pieces and loops of the 2 classes stayed at 2, at the input as in layer act1, the last "
        "one measured before the output (2 = one piece each, without loops)."
    )
    one = replace(alone, rows=tuple(r for r in alone.rows if r.layer == "out" and r.label == 0))
    said = "Pieces and loops of the one class in layer out: 1 (1 = one piece, without loops)."
    assert headline(one) == said
    whole = tuple(replace(r, label=None, b0=1 + (r.layer != "input")) for r in alone.rows if r.label == 0)
    assert headline(replace(alone, rows=whole)) == (
        "Pieces and loops of all samples rose from 1 at the input to 2 in layer act1, the last "
        "one measured before the output (1 = one piece, without loops)."
    )


def test_where_nothing_can_be_told_that_is_said() -> None:
    nothing = replace(untangled_profile(), untangling=())
    assert headline(nothing) == (
        "The scale is undetermined, and islands and tangle were not measured: what happened to the data "
        "cannot be told from these numbers."
    )
    assert headline(filter_profile()) == ""


def test_names() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], list("abc"), list("abcd"), list("abcde"))] == [
        "a", "a and b", "a, b and c", "a, b, c and d", "a, b, c and 2 more",
    ]  # fmt: skip
    assert class_name(untangled_profile(), 1) == "dog"
    assert class_name(replace(untangled_profile(), names=()), 1) == "class 1"
