"""What ``--data`` may name: whatever a factory gives, the same samples come out, or one line."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from unknot.cli.samples import Batches, load_data, read_batches, read_data
from unknot.core.errors import InputError
from unknot.nets.data import LabelledData
from unknot.nets.images import ImageData
from unknot.nets.probe import probe_samples

X = torch.arange(40.0)[:, None] * torch.tensor([1.0, -0.5, 0.25])
Y = torch.arange(40) % 3


class Own(Dataset):
    """One sample at a time, arrays and plain numbers."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return X[i].numpy(), int(Y[i])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class Frame:
    """As much of a data frame as is asked of one."""

    columns = ("a", "b", "c", "species")

    def to_csv(self, index: bool) -> str:
        assert not index
        names = ["cat", "dog", "eel"]
        rows = [f"{a},{b},{c},{names[y]}" for (a, b, c), y in zip(X.tolist(), Y.tolist(), strict=True)]
        return "\n".join([",".join(self.columns), *rows])


def a_loader():
    return DataLoader(TensorDataset(X, Y), batch_size=16)


def half(first: bool):
    return slice(0, 25) if first else slice(25, 40)


WHOLE = {
    "loader": a_loader,
    "data_set": lambda: TensorDataset(X, Y),
    "own_data_set": Own,
    "stream": Stream,
    "samples": lambda: [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "batches": lambda: [(X[:25], Y[:25]), (X[25:], Y[25:])],
    "generator": lambda: ((X[half(f)], Y[half(f)]) for f in (True, False)),
    "arrays_in_batches": lambda: [(X[half(f)].numpy(), Y[half(f)].numpy()) for f in (True, False)],
    "dicts_in_batches": lambda: [{"x": X[half(f)], "label": Y[half(f)]} for f in (True, False)],
    "pair": lambda: (X, Y),
    "listed_pair": lambda: [X, Y],
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "float_labels": lambda: (X, Y.float()),
    "texts": lambda: (X, [["cat", "dog", "eel"][y] for y in Y.tolist()]),
    "gradients": lambda: (X.clone().requires_grad_(), Y),
    "a_dict": lambda: {"x": X, "y": Y},
    "a_dict_of_arrays": lambda: {"image": X.numpy(), "label": Y.numpy()},
    "images": lambda: ImageData(X, Y, ("a", "b", "c"), "mine"),
    "frame": Frame,
    "empty_test": lambda: ((X, Y), (X[:0], Y[:0])),
}
PARTS = {
    "parts": lambda: ((X[:25], Y[:25]), (X[25:], Y[25:])),
    "named_parts": lambda: {"train": (X[:25], Y[:25]), "test": (X[25:], Y[25:])},
    "loaders": lambda: tuple(DataLoader(TensorDataset(X[half(f)], Y[half(f)]), 7) for f in (True, False)),
    "data_sets": lambda: tuple(TensorDataset(X[half(f)], Y[half(f)]) for f in (True, False)),
    "labelled": lambda: LabelledData("mine", X[:25], Y[:25], X[25:], Y[25:]),
    "loader_and_arrays": lambda: ([(X[:25], Y[:25])], (X[25:].numpy(), Y[25:].numpy())),
}


def failing():
    yield X, Y
    raise OSError("the disk is gone")


BAD = {
    "nothing": (lambda: None, "returning NoneType: expected (inputs, labels), a loader"),
    "text": (lambda: "digits", "returning str"),
    "alone": (lambda: X, "--data own:alone without labels"),
    "unlabelled": (lambda: DataLoader(TensorDataset(X), 16), "data without class labels"),
    "failing": (failing, "--data own:failing (OSError: the disk is gone): expected batches that"),
    "ragged": (lambda: ([[1, 2], [3]], [0, 1]), "data own:ragged (ValueError"),
    "fractions": (lambda: (X, Y + 0.5), "labels that are no whole numbers"),
    "one_hot": (lambda: (X, torch.eye(3)[Y]), "pass one label a sample"),
    "a_column": (lambda: (X, Y[:, None]), "pass one label a sample"),
    "negative": (lambda: (X, Y - 1), "label -1"),
    "nan": (lambda: (X / 0, Y), "NaN, infinity"),
    "few": (lambda: (X[:5], Y[:5]), "n >= 10"),
    "empty": (lambda: (X[:0], Y[:0]), "n >= 10"),
    "no_batch": (list, "a loader without samples"),
    "two_inputs": (lambda: {"a": X, "b": X, "labels": Y}, "samples of 2 tensors"),
    "other_shape": (lambda: ((X, Y), (X[:, :2], Y)), "samples of one shape"),
    "objects": (lambda: (np.array([object()] * 40), Y), "types object"),
}  # fmt: skip


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module that flags name, made of the factories of this file."""
    module = types.ModuleType("own")
    made = {**WHOLE, **PARTS, **{name: make for name, (make, _) in BAD.items()}}
    vars(module).update(made)
    monkeypatch.setitem(sys.modules, "own", module)
    return "own"


@pytest.mark.parametrize("name", WHOLE)
def test_every_kind_of_data_gives_the_same_samples(name: str, own: str) -> None:
    data = read_data(f"{own}:{name}")
    assert torch.equal(data.inputs, X) and data.inputs.dtype == torch.float32
    assert torch.equal(data.labels, Y) and data.labels.dtype == torch.int64
    assert not len(data.test_labels)
    held_out = load_data(f"{own}:{name}", seed=3)
    assert (len(held_out.labels), len(held_out.test_labels)) == (32, 8)
    assert {*held_out.inputs[:, 0].tolist(), *held_out.test_inputs[:, 0].tolist()} == set(range(40))


@pytest.mark.parametrize("name", PARTS)
def test_parts_stay_parts(name: str, own: str) -> None:
    for data in (read_data(f"{own}:{name}"), load_data(f"{own}:{name}")):
        assert torch.equal(data.inputs, X[:25]) and torch.equal(data.test_inputs, X[25:])
        assert torch.equal(data.labels, Y[:25]) and torch.equal(data.test_labels, Y[25:])
    whole = read_batches(f"{own}:{name}")
    assert isinstance(whole, LabelledData)
    assert torch.equal(whole.inputs, X) and torch.equal(whole.labels, Y)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_is_one_line(name: str, own: str) -> None:
    with pytest.raises(InputError) as refused:
        read_data(f"{own}:{name}")
    assert BAD[name][1] in str(refused.value) and "\n" not in str(refused.value)


def test_texts_say_which_number_they_are(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    read_data(f"{own}:texts")
    assert capsys.readouterr().err == "--data own:texts: labels cat = 0, dog = 1, eel = 2\n"
    read_data(f"{own}:frame")
    assert "labels in column 4 (species): cat = 0, dog = 1, eel = 2" in capsys.readouterr().err


def test_a_frame_of_pandas_is_read_as_its_file_would_be(
    own: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.numpy(), columns=["a", "b", "c"])
    frame["kind"] = ["cat", "dog"] * 20
    frame.to_csv(tmp_path / "f.csv")
    monkeypatch.setattr(sys.modules["own"], "frame", lambda: frame)
    for spec in (f"{own}:frame", str(tmp_path / "f.csv")):
        data = read_data(spec, label_column="kind")
        assert torch.equal(data.inputs, X) and data.labels.tolist() == [0, 1] * 20
        with pytest.raises(InputError, match=r"line 2, column \d \(kind\) = cat"):
            read_data(spec)
    frame.loc[3, "b"] = None
    with pytest.raises(InputError, match=r"frame of own:frame as .csv, line 5, column 2 \(b\) is empty"):
        read_data(f"{own}:frame", label_column="kind")


@pytest.mark.parametrize("name", ["alone", "unlabelled", "two_inputs", "loader"])
def test_batches_to_measure_on_are_counted_and_need_no_labels(name: str, own: str) -> None:
    batches = read_batches(f"{own}:{name}")
    assert isinstance(batches, Batches)
    probe = probe_samples(batches, max_points=20)
    assert batches.n == 40 and 15 < len(probe) <= 20


def test_files_of_tables_and_their_names(own: str, tmp_path: Path) -> None:
    rows = [f"{a},{b},{y}" for (a, b, _), y in zip(X.tolist(), Y.tolist(), strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(["p,q,label", *rows]))
    data = read_data(str(tmp_path / "mine.csv"))
    assert data.name == "mine" and torch.equal(data.inputs, X[:, :2]) and torch.equal(data.labels, Y)
    with pytest.raises(InputError, match="without labels"):
        read_data(str(tmp_path / "mine.csv"), label_column="none")
    batches = read_batches(str(tmp_path / "mine.csv"), label_column="none")
    assert isinstance(batches, Batches) and next(iter(batches)).shape == (40, 3)
    for spec in ("rings", f"{own}:pair"):
        with pytest.raises(InputError, match=f"--label-column q with --data {spec}"):
            read_data(spec, label_column="q")
