"""What a study takes for its data, activations and numbers, and when it looks at Betti numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unknot as uk
from unknot.nets.data import LabelledData
from unknot.study.options import StudyOptions
from unknot.study.task import TOPOLOGY_GROWTH, Task, run_task

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
SMALL: dict[str, Any] = {
    "seeds": 1, "epochs": 2, "learning_rates": [0.01], "gains": [1.0], "width": 4, "depth": 1,
    "batch_size": 16,
}  # fmt: skip


def curves(path: Path, sets: Any, activations: Any = ("relu",), **change: Any) -> list[Any]:
    study = uk.Study(path)
    study.run(sets, activations, **{**SMALL, **change})
    return [(trial.activation, trial.curve) for trial in study.trials()]


def test_every_kind_of_data_is_trained_alike(tmp_path: Path) -> None:
    kinds = {
        "pair": (X, Y), "arrays": (X.numpy(), Y.numpy()), "float64": (X.double(), Y[:, None]),
        "lists": (X.tolist(), Y.tolist()), "bool": (X, Y.bool()),
        "names": (X, ["ny"[y] for y in Y.tolist()]), "data set": TensorDataset(X, Y),
        "loader": DataLoader(TensorDataset(X, Y), batch_size=10),
        "name": LabelledData("n", X, Y, X[:0], Y[:0]),
    }  # fmt: skip
    found = [curves(tmp_path / f"{name}.sqlite", {"set": kind}) for name, kind in kinds.items()]
    assert all(one == found[0] for one in found[1:])
    assert curves(tmp_path / "text.sqlite", {"set": (X, Y)}, "relu") == found[0]
    assert (
        curves(tmp_path / "np.sqlite", {"set": (X, Y)}, np.array(["relu"]), seeds=np.int64(1)) == found[0]
    )
    split = curves(tmp_path / "split.sqlite", {"set": ((X, Y), (X[:9], Y[:9]))})
    assert split[0][1].test_accuracy and not found[0][0][1].test_accuracy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sets": {}}, r"sets = \{\}: expected .*at least one"),
        ({"sets": (X, Y)}, r"sets = tuple: expected \{name: data\}"),
        ({"sets": {1: (X, Y)}}, "expected {name: data}"),
        ({"sets": {"a": X}}, "data of type Tensor"),
        ({"sets": {"a": (X, [None] * 64)}}, "labels of type NoneType: expected numbers"),
        ({"sets": {"a": (X, Y - 1)}}, "label -1"),
        (
            {"sets": {"a": (X, Y + 0.5)}},
            "2 different labels that are floats with fractions: .* say which",
        ),
        ({"sets": {"a": (X, Y + 0.5)}, "task": "classes"}, "data without class labels .targets that are"),
        (
            {"sets": {"a": (X, torch.arange(64.0))}},
            "64 different labels that are floats without fractions",
        ),
        ({"sets": {"a": (X, torch.ones(64))}, "task": "regression"}, "set a with targets all alike"),
        ({"sets": {"a": (X, list("ab" * 32))}, "task": "regression"}, "targets that are no numbers"),
        (
            {"sets": {"a": (X, X[:, 0])}, "topology": 1},
            "topology = 1 on set a, whose targets are numbers",
        ),
        ({"task": "sums"}, "task = 'sums'"),
        ({"sets": {"a": (X, nn.functional.one_hot(Y))}}, r"labels of shape \[64, 2\]"),
        ({"sets": {"a": (X[:0], Y[:0])}}, "without samples"),
        ({"sets": {"a": (X * float("nan"), Y)}}, "set a with NaN"),
        ({"activations": []}, "no activations"),
        ({"activations": {}}, "no activations"),
        ({"activations": "gone"}, "activation 'gone'"),
        ({"activations": [nn.ReLU]}, "expected one of relu"),
        ({"activations": {"a": nn.ReLU()}}, "a function that makes a module"),
        ({"activations": {"a": 5}}, "a function that makes a module"),
        ({"activations": {"a": lambda: 5}}, "activation that makes a int"),
        ({"activations": {"a": lambda: 1 / 0}}, "ZeroDivisionError"),
        ({"stop_at": 5}, r"stop_at = 5: expected a number in \[0, 1\]"),
        ({"test_target": 99}, "test_target = 99"),
        ({"learning_rates": 0.1}, "learning_rates = 0.1: expected a sequence"),
        ({"gains": ["a"]}, "gains = 'a'"),
        ({"net": "cnn"}, "net = 'cnn'"),
        ({"depth": -1}, "depth = -1"),
    ],
)
def test_what_makes_no_study_is_told_in_one_line(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    given = {"sets": {"a": (X, Y)}, "activations": ["relu"], **SMALL, **change}
    with pytest.raises(uk.InputError, match=says) as caught:
        uk.Study(tmp_path / "s.sqlite").run(**given)
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_net_that_fails_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    def one_argument(data: Any) -> nn.Module:
        return nn.Linear(3, 2)

    def no_module(data: Any, new: Any) -> Any:
        return "net"

    def wrong_size(data: Any, new: Any) -> nn.Module:
        return nn.Linear(4, 2)

    def exported(data: Any, new: Any) -> nn.Module:
        return torch.export.export(nn.Linear(3, 2), (X[:2],)).module()

    for net, says in (
        (one_argument, "net one_argument or activation relu .TypeError"),
        (no_module, "a model of type str"), (wrong_size, "a batch of shape"),
        (exported, "made by torch.export"),
    ):  # fmt: skip
        with pytest.raises(uk.InputError, match=says) as caught:
            uk.Study(tmp_path / "s.sqlite").run({"a": (X, Y)}, ["relu"], **{**SMALL, "net": net})
        assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_numbers_are_come_close_to(tmp_path: Path) -> None:
    """Inferred from floats with fractions, whatever holds them, and told apart from classes."""
    target, test = 1000 + 50 * X[:, 0], (X[:20], 1000 + 50 * X[:20, 0])
    kinds = {
        "pair": (X, target), "column": (X.numpy(), target[:, None].numpy()),
        "lists": (X.tolist(), target.tolist()), "data set": TensorDataset(X, target),
        "loader": DataLoader(TensorDataset(X, target), batch_size=10),
        "labelled": LabelledData("n", X, target, X[:0], target[:0]),
    }  # fmt: skip
    change = {"epochs": 60, "learning_rates": [0.03], "width": 16, "test_target": None, "stop_at": 0.97}
    found = {
        name: curves(tmp_path / f"{name}.sqlite", {"set": kind}, **change) for name, kind in kinds.items()
    }
    curve = found["pair"][0][1]
    assert curve.ended == "done" and curve.train_accuracy[0] < 0.9 <= curve.train_accuracy[-1]
    for one in found.values():
        np.testing.assert_allclose(one[0][1].train_accuracy, curve.train_accuracy, atol=0.01)
    path = tmp_path / "split.sqlite"
    assert curves(path, {"set": ((X, target), test)}, **change)[0][1].test_accuracy[-1] > 0.9
    study = uk.Study(path)
    (row,) = study.summary([0.9])
    assert row.metric == "R^2" and row.reached == 1
    assert study.trials()[0].settings.task == "regression"
    whole = {"set": (X, target.round().int())}
    assert curves(path, whole, **change, task="regression")[0][0] == "relu"
    with pytest.raises(
        uk.InputError, match=r"net with_two returning \(2, 2\) on set set: expected numbers"
    ):
        curves(path, {"set": (X, target)}, net=with_two)
    normed = curves(path, {"set": (X, target)}, net=with_norm_for_one, **change)
    assert normed[-1][1].train_accuracy[-1] > 0.5


def with_two(data: LabelledData, new: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), new())


def with_norm_for_one(data: LabelledData, new: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), new(), nn.Linear(16, data.n_classes))


def with_norm(data: LabelledData, new: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), new(), nn.Linear(4, 2))


def test_betti_numbers_are_read_as_seldom_of_nets_with_buffers_as_of_others() -> None:
    data = LabelledData("a", X, Y, X[:0], Y[:0])
    epochs = {}
    for name, net in (("stacked", None), ("alone", with_norm)):
        options = StudyOptions(
            seeds=1, epochs=20, learning_rates=[1e-6], gains=[1.0], width=4, depth=1, batch_size=16,
            topology=1, net=net,
        )  # fmt: skip
        task = Task(
            "a", "relu", nn.ReLU, options, options.settings(data), options.cells, (0,),
            scale=uk.Scale(k=4, hops=1),
        )  # fmt: skip
        (trial,) = run_task(task, data)
        assert trial.curve.ended == "cap"
        epochs[name] = sorted({row.epoch for row in trial.topology})
    assert epochs["alone"] == epochs["stacked"]
    assert epochs["alone"][0] == 0 and epochs["alone"][-1] == 20
    between = epochs["alone"][1:-1]
    assert all(b >= a * (1 + TOPOLOGY_GROWTH) for a, b in pairwise(between))
    assert 5 < len(between) < len(trial.curve.epochs) / 3
