"""Labelled samples from whatever holds them: the same tensors, or one line that says what is wrong."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from unknot.core.errors import InputError
from unknot.nets.data import LabelledData, keep_apart, labelled_data
from unknot.nets.images import ImageData

X = torch.arange(24.0).reshape(12, 1, 2)
Y = torch.arange(12) % 3
TEST_X, TEST_Y = X[:5] + 100, Y[:5]
NAMES = [("dog", "cat", "eel")[y] for y in Y.tolist()]
NUMBERED = torch.tensor([1, 0, 2])[Y]  # in alphabetical order
BATCHES = [(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[10:], Y[10:])]


def images(x: torch.Tensor, y: torch.Tensor) -> ImageData:
    return ImageData(x, y, ("a", "b", "c"), "three")


@pytest.mark.parametrize(
    "data",
    [
        BATCHES,
        [*BATCHES[:1], {"pixels": X[5:], "labels": Y[5:]}],
        (batch for batch in BATCHES),
        DataLoader(TensorDataset(X, Y), batch_size=4),
        (X, Y),
        (X.numpy(), Y.numpy()),
        (X.numpy(), Y.tolist()),
        (X, Y.reshape(12, 1)[:, 0].double().long()),
        images(X, Y),
        TensorDataset(X, Y),
        (X.tolist(), Y[:, None].numpy()),
        [X, Y],
    ],
    ids=str.split(
        "list dict generator DataLoader tensors arrays array-and-list view ImageData Dataset lists pair"
    ),
)
def test_one_part_of_every_kind_gives_the_same_samples(data: Any) -> None:
    labelled = labelled_data(data)
    assert torch.equal(labelled.inputs, X) and torch.equal(labelled.labels, Y)
    assert labelled.inputs.dtype == torch.float32 and labelled.labels.dtype == torch.int64
    assert labelled.test_inputs.shape == (0, 1, 2) and labelled.test_labels.shape == (0,)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ((X, Y), (TEST_X, TEST_Y)),
        (BATCHES, [(TEST_X, TEST_Y)]),
        (
            DataLoader(TensorDataset(X, Y), batch_size=5),
            DataLoader(TensorDataset(TEST_X, TEST_Y), batch_size=2),
        ),
        (images(X, Y), images(TEST_X, TEST_Y)),
        ((X.numpy(), Y.numpy()), images(TEST_X, TEST_Y)),
    ],
)
def test_a_tuple_of_two_is_train_and_test(train: Any, test: Any) -> None:
    labelled = labelled_data((train, test))
    assert torch.equal(labelled.inputs, X) and torch.equal(labelled.labels, Y)
    assert torch.equal(labelled.test_inputs, TEST_X) and torch.equal(labelled.test_labels, TEST_Y)


@pytest.mark.parametrize(
    "data",
    [
        (X, NAMES),
        (X.numpy(), np.array(NAMES)),
        (X.numpy(), np.array(NAMES, object)[:, None]),
        [(X[:5], NAMES[:5]), {"pixels": X[5:], "labels": NAMES[5:]}],
        DataLoader([*zip(X, NAMES, strict=True)], batch_size=5),  # type: ignore[arg-type]
    ],
)
def test_names_are_numbered_in_alphabetical_order(data: Any) -> None:
    labelled = labelled_data(data)
    assert torch.equal(labelled.labels, NUMBERED) and labelled.names == ("cat", "dog", "eel")
    assert torch.equal(labelled.inputs, X)
    for part in (labelled.limited(4), keep_apart(labelled), labelled.without_test()):
        assert part.names == ("cat", "dog", "eel")


def test_both_parts_have_the_numbers_of_the_training_part() -> None:
    labelled = labelled_data(((X, NAMES), (X[:2], ["eel", "dog"])))
    assert labelled.test_labels.tolist() == [2, 1] and labelled.names == ("cat", "dog", "eel")


def test_a_categorical_keeps_the_order_of_its_categories() -> None:
    pandas = pytest.importorskip("pandas")
    order = ["eel", "fox", "dog", "cat"]  # no sample is of the second
    expected = [order.index(name) for name in NAMES]
    for labels in (
        pandas.Categorical(NAMES, categories=order),
        pandas.Series(pandas.Categorical(NAMES, categories=order)),
    ):
        labelled = labelled_data((X, labels))
        assert labelled.labels.tolist() == expected and labelled.names == tuple(order)
    plain = labelled_data((X, pandas.Series(NAMES, dtype="category")))
    assert torch.equal(plain.labels, NUMBERED)
    table = pandas.DataFrame({"a": range(12), "label": pandas.Categorical(NAMES, categories=order)})
    assert labelled_data(table).labels.tolist() == expected


def test_numbers_stay_what_they_are_in_every_type_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    numbers = np.array([3, 7, 9])[Y.numpy()]
    for labels in (numbers, pandas.Series(numbers, dtype="Int64"), pandas.Categorical(numbers)):
        labelled = labelled_data((X, labels))
        assert labelled.labels.tolist() == numbers.tolist() and labelled.names == ()


def test_a_list_of_two_batches_is_one_part() -> None:
    labelled = labelled_data([(X, Y), (TEST_X, TEST_Y)])
    assert len(labelled.labels) == 17 and len(labelled.test_labels) == 0


def test_labelled_data_come_back_as_they_are() -> None:
    data = LabelledData("three", X, Y, TEST_X, TEST_Y)
    assert labelled_data(data) is data


def test_a_shuffled_loader_draws_nothing_from_the_callers_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    labelled = labelled_data(DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)
    order = labelled.inputs[:, 0, 0].argsort()
    assert torch.equal(labelled.inputs[order], X) and torch.equal(labelled.labels[order], Y)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("digits", "data of type str: expected batches"),
        (3, "data of type int: expected batches"),
        (X, "data of type Tensor: expected batches"),
        ({"x": X}, "data of type dict: expected batches"),
        ([], "a loader without samples"),
        ((X[:0], Y[:0]), "a loader without samples"),
        ((BATCHES, []), "a loader without samples"),
        ((X, Y[:7]), r"inputs of shape \[12, 1, 2\] and labels of shape \[7\]: expected"),
        ((X.numpy(), Y.numpy()[:7]), r"labels of shape \[7\]"),
        ((X, torch.tensor(1)), r"labels of shape \[\]"),
        ((X.numpy(), [None] * 12), "labels of type NoneType: expected numbers"),
        (((X, NAMES), (X, ["emu", *NAMES[1:]])), "test samples of class 'emu': expected classes of the"),
        (((X, NAMES), (TEST_X, TEST_Y)), "test samples with numbers as labels: expected .*'cat', 'dog'"),
        ((X, X), r"inputs of shape \[12, 1, 2\] and labels of shape \[12, 1, 2\]"),
        ((X, Y - 1), "label -1: expected labels 0, 1, 2"),
        ((X, Y + 0.5), "data without class labels"),
        ([X], "data without class labels: expected .* one whole number a sample"),
        ([(X[:5], Y[:4])], "4 labels for 5 samples: expected one a sample"),
        ([*BATCHES, (X[:5], Y[:4])], "4 labels for 5 samples: expected one a sample"),
        ([(X[:5], Y[:4]), *BATCHES], "4 labels for 5 samples: expected one a sample"),
        ([({"a": X, "b": X}, Y)], "samples of 2 tensors: expected one tensor"),
        ([(X, Y), (X[:, :, :1], Y)], "samples of shapes"),
        (((X, Y), (X[:, :, :1], Y)), r"training samples \[1, 2\] and test samples \[1, 1\]"),
        (LabelledData("x", X, Y[:3], X, Y), r"labels of shape \[3\]"),
        (LabelledData("x", X, Y, X, Y[:3]), r"labels of shape \[3\]"),
    ],
)
def test_what_is_no_labelled_data_is_told_in_one_line(data: Any, says: str) -> None:
    with pytest.raises(InputError, match=f"^.*{says}") as caught:
        labelled_data(data)
    assert "\n" not in str(caught.value)


def test_a_loader_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.00001")
    with pytest.raises(InputError, match=r"^data of more than 3.3e-06 GB: .* raise UNKNOT_MEMORY_GB"):
        labelled_data(itertools.repeat((X, Y)))


def test_float64_arrays_keep_their_type() -> None:
    assert labelled_data((np.zeros((3, 2)), np.arange(3))).inputs.dtype == torch.float64


@pytest.mark.parametrize("where", [0, 1])
def test_labels_with_nan_are_refused_in_either_part(where: int) -> None:
    x, labels = torch.randn(6, 3), torch.tensor([0.0, 1, 2, 0, 1, 2])
    bad = labels.clone()
    bad[2] = torch.nan
    parts = [(x, labels), (x, labels)]
    parts[where] = (x, bad)
    with pytest.raises(InputError, match="labels with NaN or infinity: expected whole numbers"):
        labelled_data((parts[0], parts[1]))
