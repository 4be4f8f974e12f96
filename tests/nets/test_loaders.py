"""Samples as people have them: the same rows from each kind, and what is no class is named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import unknot as uk
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.images import ImageData
from unknot.nets.probe import probe_samples

SCALE = uk.Scale(k=4, hops=1)
X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 2
NAMES = [["cat", "dog"][int(label)] for label in Y]


def net() -> nn.Module:
    torch.manual_seed(0)
    return uk.nets.mlp(3, 2, width=5, depth=1)


class Mapped(Dataset[Any]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return X[i], int(Y[i])


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter((x, int(y)) for x, y in zip(X, Y, strict=True))


def table() -> Any:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.numpy(), columns=["a", "b", "c"])
    return frame.assign(label=Y.numpy())


LOADERS: dict[str, Any] = {
    "batches": [(X[:32], Y[:32]), (X[32:], Y[32:])],
    "batches of arrays": [(X[:32].numpy(), Y[:32].numpy()), (X[32:].numpy(), Y[32:].tolist())],
    "batches of lists": [(X.tolist(), Y.tolist())],
    "a pair": (X, Y),
    "a list of two": [X, Y],
    "a pair of arrays": (X.numpy(), Y.numpy()),
    "a pair of lists": (X.tolist(), Y.tolist()),
    "labels [n, 1]": (X, Y[:, None]),
    "float labels": (X, Y.float()),
    "bool labels": (X, Y.bool()),
    "dicts": [{"x": X.numpy(), "label": Y.tolist()}],
    "TensorDataset": TensorDataset(X, Y),
    "Dataset": Mapped(),
    "Subset": Subset(Mapped(), range(60)),
    "IterableDataset": Streamed(),
    "DataLoader": DataLoader(Mapped(), batch_size=7),
    "DataLoader with workers": DataLoader(Mapped(), batch_size=16, num_workers=2),
    "table": table,
    "table and column": lambda: (table().drop(columns="label"), table()["label"]),
    "big-endian": (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "backwards": (X.numpy()[::-1][::-1], Y.numpy()[::-1][::-1]),
    "LabelledData": uk.nets.LabelledData("d", X, Y, X[:0], Y[:0]),
    "ImageData": ImageData(X, Y, ("a", "b"), "d"),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_every_kind_of_loader_gives_the_same_samples_and_rows(kind: str) -> None:
    loader = LOADERS[kind]() if kind.startswith("table") else LOADERS[kind]
    probe = probe_samples(loader)
    (points,) = probe.inputs.values() if isinstance(probe.inputs, dict) else (probe.inputs,)
    torch.testing.assert_close(points, X, check_dtype=False)  # type: ignore[arg-type]
    assert probe.labels is not None and torch.equal(probe.labels, Y) and probe.notes == ()
    if kind == "dicts":  # the model would get them by name
        return
    profile = uk.measure(net(), loader, scale=SCALE)
    assert profile.rows == uk.measure(net(), [(X, Y)], scale=SCALE).rows
    with uk.Monitor(net(), loader, scale=SCALE, background=False) as monitor:
        pass
    assert [(r.b0, r.b1) for r in monitor.profile.rows] == [(r.b0, r.b1) for r in profile.rows]


def test_two_inputs_as_a_tuple_or_a_dict() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.out = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            scores: Tensor = self.out(a * b)
            return scores

    model, other = Two(), torch.rand(60, 3)
    with torch.no_grad():
        right = float((model(X, other).argmax(1) == Y).float().mean())
    for inputs in ((X, other), {"b": other, "a": X}, (X.numpy(), other.numpy())):
        assert measure_accuracy(model, inputs, Y) == pytest.approx(right)
        profile = uk.measure(model, (inputs, Y), layers="out", scale=SCALE)
        assert profile.accuracy[0].probe == pytest.approx(right)
        with pytest.raises(uk.InputError, match="inputs of 2 arrays: expected one"):
            uk.nets.train(model, inputs, Y, epochs=1)


def test_fewer_labels_than_samples_are_refused() -> None:
    with pytest.raises(uk.InputError, match="50 labels for 60 samples: expected one a sample"):
        uk.measure(net(), (X, Y[:50]), by="layer", scale=SCALE)


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        (torch.eye(60)[:, :5] + torch.eye(5).repeat(12, 1), "targets of shape [60, 5] for 60 samples"),
        (nn.functional.one_hot(Y), "that look one-hot: pass labels.argmax(1), left aside"),
        (Y + 0.5, "targets that are no whole numbers below 2^53, left aside"),
        (torch.where(Y > 0, math.nan, 0.0), "targets with NaN or infinity, left aside"),
        (Y.repeat(2), "targets of shape [120] for 60 samples that are no classes, left aside"),
        (Y.double() * 1e300, "targets that are no whole numbers below 2^53"),
        ([{"boxes": X}] * 60, "targets of type object that are no classes, left aside"),
        (np.array(["2020-01-01"] * 60, "datetime64[D]"), "targets of type datetime64[D] that are no"),
    ],
    ids=["soft", "one-hot", "fractions", "NaN", "of tokens", "huge", "boxes", "dates"],
)  # fmt: skip
def test_targets_that_are_no_classes_are_named(targets: Any, what: str) -> None:
    batches = [(X, targets)]
    profile = uk.measure(net(), batches, by="layer", scale=SCALE)
    assert len(profile.notes) == 1 and what in profile.notes[0]
    assert profile.accuracy[0].probe is None
    with pytest.raises(uk.InputError, match="a loader without class labels \\(targets") as caught:
        uk.measure(net(), batches, scale=SCALE)
    assert what in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(uk.InputError, match="data without class labels \\(targets"):
        uk.nets.labelled_data(batches)


def test_negative_and_one_based_labels_are_classes_of_a_profile_and_no_accuracy() -> None:
    for labels in (Y + 1, 2 * Y - 1):
        profile = uk.measure(net(), (X, labels), scale=SCALE)
        assert {row.label for row in profile.rows} == set(labels.tolist())
        assert profile.accuracy[0].probe is None


@pytest.mark.parametrize("names", [NAMES, np.array(NAMES), np.array(NAMES, dtype=object)])
def test_names_are_numbered_in_alphabetical_order_and_said_so(names: Any) -> None:
    for loader in ((X, names), [(X[:31], names[:31]), (X[31:], names[31:])]):
        profile = uk.measure(net(), loader, scale=SCALE)
        numbered = uk.measure(net(), (X, Y), scale=SCALE)
        assert profile.rows == numbered.rows
        assert profile.notes == ("classes by name: 0 is cat, 1 is dog",)
        assert profile.accuracy[0].probe is None  # the model's numbering is not known
    with pytest.raises(uk.InputError, match="labels 'cat' and 0: expected numbers or names"):
        uk.measure(net(), [(X[:30], names[:30]), (X[30:], Y[30:])], scale=SCALE)
    for ask in (
        lambda: measure_accuracy(net(), X, names),
        lambda: uk.nets.train(net(), X, names),
        lambda: uk.score_filters(
            uk.nets.cnn(1, 2), [(torch.randn(60, 1, 8, 8), names)], criterion="taylor"
        ),
    ):
        with pytest.raises(uk.InputError) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_test_samples_are_left_out_and_said_so() -> None:
    parts = ((X, Y), (X[:20] + 5, Y[:20]))
    expected = uk.measure(net(), (X, Y), scale=SCALE).rows
    for data, note in (
        (parts, "of the two parts (train, test) the second was left out"),
        (([(X, Y)], [(X[:20], Y[:20])]), "of the two parts (train, test) the second was left out"),
        (uk.nets.labelled_data(parts), "the 20 test samples were left out"),
    ):
        profile = uk.measure(net(), data, scale=SCALE)
        assert profile.rows == expected and profile.notes == (note,)


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (DataLoader(Mapped(), batch_size=None), "a batch of one label and inputs of shape"),
        (
            [(X[0], 1)],
            r"a batch of one label and inputs of shape \(3,\): .* DataLoader with a batch_size",
        ),
        (DataLoader([{"a": object()}] * 3), "a loader that fails .TypeError"),  # type: ignore[arg-type]
        ((X[i] if i < 3 else 1 / 0 for i in range(5)), "a loader that fails .ZeroDivisionError"),
        ([X.numpy().astype(complex)], "inputs of type complex128: expected numbers"),
        ([X.to_sparse()], "inputs: a tensor of sparse_coo: expected a dense tensor"),
        ([np.array([["a", "b"]])], "inputs of type <U1"),
        ([(DataLoader(Mapped()), DataLoader(Mapped()))], "a batch of type tuple"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(loader: Any, says: str) -> None:
    with pytest.raises(uk.InputError, match=says) as caught:
        probe_samples(loader)
    assert "\n" not in str(caught.value)


def test_accuracy_and_training_take_arrays_tables_and_columns() -> None:
    model = net()
    with torch.no_grad():
        right = float((model(X).argmax(1) == Y).float().mean())
    frame = table()
    for inputs, labels in (
        (X.numpy(), Y.numpy()), (X.double().numpy(), Y.tolist()), (X.tolist(), Y.bool()), (X, Y[:, None]),
        (frame[["a", "b", "c"]], frame["label"]),
    ):  # fmt: skip
        assert measure_accuracy(model, inputs, labels) == pytest.approx(right)
    curves = []
    for inputs, labels in (
        (X, Y),
        (X.numpy(), Y[:, None].numpy()),
        (frame[["a", "b", "c"]], frame["label"]),
    ):
        curves.append(uk.nets.train(net(), inputs, labels, epochs=3))
    assert curves[0] == curves[1] == curves[2]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (Y + 1, "where they count from 1, pass labels - 1"),
        (2 * Y - 1, r"where they are signs, pass \(labels > 0\).long\(\)"),
        (torch.where(torch.arange(60) < 3, -100, Y), "leave out the samples without a class"),
        (nn.functional.one_hot(Y), r"one-hot rows: .*; pass labels.argmax\(1\)"),
        (nn.functional.one_hot(Y).float(), r"one-hot rows: .*; pass labels.argmax\(1\)"),
        (Y.float(), r"type float32: .*; pass labels.long\(\)"),
        (Y + 0.5, "type float32 with fractions: .* regression is not supported"),
        (torch.where(Y > 0, math.nan, 0.0), "with NaN or infinity: .*leave out"),
        (NAMES, "labels of type <U3: expected numbers"),
        (np.array(NAMES, dtype=object), "labels of type str: expected numbers"),
        (Y[0], "60 inputs and no labels"),
    ],
)
def test_labels_that_do_not_fit_are_told_what_they_are(labels: Any, says: str) -> None:
    for ask in (measure_accuracy, uk.nets.train):
        with pytest.raises(uk.InputError, match=says) as caught:
            ask(net(), X, labels)
        assert "\n" not in str(caught.value)


class Squeezed(nn.Module):
    """Binary logits ``[n]``, and of one sample a scalar."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x)
        return scores.squeeze()


@pytest.mark.parametrize("classes", [1, 2])
def test_models_that_squeeze_are_judged_and_trained_whatever_is_left_for_the_last_batch(
    classes: int,
) -> None:
    model = Squeezed(classes)
    with torch.no_grad():
        scores = model.linear(X)
    answers = scores.argmax(1) if classes > 1 else (scores[:, 0] > 0).long()
    for size in (1, 59, 60, 4096):
        assert measure_accuracy(model, X, Y, batch_size=size) == int((answers == Y).sum()) / 60
    assert measure_accuracy(model, X[:1], Y[:1]) == float(answers[0] == Y[0])
    target = (X[:, 0] > 0).long()
    for size in (1, 59):
        curve = uk.nets.train(model, X, target, epochs=20, learning_rate=0.05, batch_size=size)
        assert curve.train_accuracy[-1] > 0.9
    (measured,) = uk.measure(model, (X, Y), layers="linear", scale=SCALE).accuracy
    assert measured.probe == measure_accuracy(model, X, Y)


def test_of_one_sample_only_scores_are_taken_for_its_scores() -> None:
    model = Squeezed(1)
    z = float(model.linear(X[:1]).detach())

    class Holding(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.inner, self.name = model, name

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": x.mean(), self.name: self.inner(x)}

    assert measure_accuracy(Holding("logits"), X[:1], [int(z > 0)]) == 1
    with pytest.raises(uk.InputError, match="an output of dict without scores"):
        measure_accuracy(Holding("other"), X[:1], [0])


def test_a_frozen_model_is_not_trained() -> None:
    with pytest.raises(uk.InputError, match="a model without parameters that learn"):
        uk.nets.train(net().requires_grad_(False), X, Y)
