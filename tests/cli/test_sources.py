from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unknot.activations.folds import ZFold
from unknot.cli.samples import load_data
from unknot.cli.sources import StudyNet, load_model, study_activation, study_net
from unknot.core.errors import InputError


def test_shapes_and_files_are_split_without_overlap(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=np.arange(150.0).reshape(50, 3), y=np.arange(50) % 3)
    for spec in ("rings", str(tmp_path / "d.npz")):
        data = load_data(spec)
        assert len(data.test_inputs) == pytest.approx(
            0.2 * (len(data.inputs) + len(data.test_inputs)), abs=1
        )
        train, test = ({tuple(row.tolist()) for row in part} for part in (data.inputs, data.test_inputs))
        assert not train & test
    assert data.n_classes == 3


def test_image_files_keep_their_shape(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "d.npz", X=np.random.default_rng(0).normal(size=(20, 1, 8, 8)), y=np.zeros(20, int)
    )
    data = load_data(str(tmp_path / "d.npz"))
    assert data.inputs.shape == (16, 1, 8, 8)
    assert isinstance(load_model("cnn", data), nn.Sequential)


def test_models_are_seeded_and_take_an_activation() -> None:
    data = load_data("digits")
    a, b = (load_model("cnn", data, activation="zfold", seed=2) for _ in range(2))
    assert torch.equal(a.conv1.weight, b.conv1.weight)  # type: ignore[arg-type, union-attr]
    assert type(a.act1).__name__ == "ZFold"
    assert load_model("mlp", data)(data.inputs[:3]).shape == (3, 10)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"X": np.zeros((20, 2))}, "without labels"),
        ({"X": np.zeros((20, 2)), "y": np.zeros(3, int)}, "one label a sample"),
        ({"X": np.full((20, 2), np.nan), "y": np.zeros(20, int)}, "clean the data"),
        ({"X": np.zeros((20, 2)), "y": np.full(20, -1)}, "clean the data"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(3, int)}, "n >= 10"),
    ],
)
def test_bad_files(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match=says):
        load_data(str(tmp_path / "d.npz"))


@pytest.mark.parametrize(
    ("spec", "says"), [("os:getpid", "returning int: expected"), ("os:sep", "function")]
)
def test_factories_of_something_else(spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_data(spec)
    with pytest.raises(InputError, match="Module|function"):
        load_model(spec, load_data("digits"))


def test_unknown_activation() -> None:
    with pytest.raises(InputError, match="--activation magic"):
        load_model("mlp", load_data("digits"), activation="magic")


class Cube(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x**3


def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


def make_cube() -> nn.Module:
    return Cube()


def number() -> int:
    return 3


@pytest.mark.parametrize("name", ["Cube", "cube", "make_cube"])
def test_an_activation_of_ones_own_is_a_class_a_function_or_a_factory(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    make = study_activation(f"test_sources:{name}")
    assert make()(torch.tensor(2.0)) == 8
    again = pickle.loads(pickle.dumps(make))  # as it goes to another process
    assert again()(torch.tensor(2.0)) == 8


def test_functions_of_torch_are_activations() -> None:
    x = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(study_activation("torch:sin")()(x), x.sin())
    assert isinstance(study_activation("zfold")(), ZFold)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("zfould", "did you mean zfold"),
        ("test_sources:number", "a torch.nn.Module"),
        ("test_sources:gone", "importable"),
    ],
)
def test_activations_that_are_none(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(InputError, match=says):
        study_activation(name)


def test_nets_of_a_study_by_name() -> None:
    digits = load_data("digits")
    assert study_net("mlp") is None
    for name in ("cnn", "cnn-bn", "resnet", "resnet-bn"):
        net = study_net(name)
        assert net is not None and net.name == name
        made = net(digits, nn.ReLU)
        assert made(digits.inputs[:2]).shape == (2, 10)
        assert any(isinstance(m, nn.BatchNorm2d) for m in made.modules()) == name.endswith("-bn")
    with pytest.raises(InputError, match="--net vgg"):
        study_net("vgg")
    with pytest.raises(InputError, match="images"):
        StudyNet("cnn")(load_data("rings"), nn.ReLU)
