"""What ``--data`` and ``--model`` name: a built-in, a file, or ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.core.errors import InputError
from unknot.nets.data import LabelledData
from unknot.nets.images import DATA_SETS, FOLDER_VARIABLE, load_images
from unknot.nets.models import cnn, mlp, resnet
from unknot.study.options import NewActivation
from unknot.topology.point_files import load_arrays
from unknot.topology.shapes import SHAPES, make_shape

TEST_SHARE = 0.2
MOST_CLASSES = 1_000_000  # a net has an output for each


def load_data(spec: str, *, seed: int = 0) -> LabelledData:
    """Data by name.

    Args:
        spec: a shape (e.g. "rings"); an image set as of `load_images` ("digits", one in
            ``$UNKNOT_DATA``, a folder, a hub name with a slash); a ``.npz`` file with X and y (or points
            and labels); or ``package.module:factory`` where the factory returns ``(inputs, labels)``.
        seed: of the shape and of the 20 % that are held out; image sets have their own test split.
    """
    if _names_images(spec):
        train, test = load_images(spec, split="train"), load_images(spec, split="test")
        return LabelledData(spec, train.images, train.labels, test.images, test.labels)
    if spec in SHAPES:
        shape = make_shape(spec, seed=seed)
        return _hold_out(spec, shape.points, shape.labels, seed)
    if ":" in spec:
        pair = _call(spec, "--data")
        if not _is_pair(pair):
            raise InputError(f"--data {spec}", "a factory that returns (inputs, labels)", "return both")
        return _hold_out(spec, pair[0], pair[1], seed)
    if Path(spec).suffix in (".npz", ".npy", ".csv"):
        inputs, labels = load_arrays(spec)
        if labels is None:
            raise InputError(f"file {spec} without labels", "an .npz with X and y", "add y")
        return _hold_out(Path(spec).stem, inputs, labels, seed)
    raise InputError(
        f"--data {spec}",
        f"one of {', '.join([*SHAPES, *DATA_SETS])}, a folder of images, a .npz file, or module:factory",
        "check the name",
    )


def load_batches(spec: str, *, seed: int = 0) -> LabelledData | Iterable[Any]:
    """Data by name to measure on: as `load_data`, or the loader that ``package.module:factory`` returns.

    A loader yields what `probe_samples` takes, e.g. the dicts of a Hugging Face collator.
    """
    if ":" not in spec:
        return load_data(spec, seed=seed)
    data = _call(spec, "--data")
    if _is_pair(data):
        return _hold_out(spec, data[0], data[1], seed)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise InputError(
            f"--data {spec} returning {type(data).__name__}", "(inputs, labels) or a loader", "return one"
        )
    return data


def load_model(
    spec: str, data: LabelledData | Iterable[Any], *, activation: str = "relu", seed: int = 0
) -> nn.Module:
    """A model by name.

    Args:
        spec: "mlp", "cnn" or "resnet", sized for the data, or ``package.module:factory`` (no arguments)
            that returns a module.
        activation: a built-in name, for these three.
        seed: of the initial weights.
    """
    torch.manual_seed(seed)
    if activation not in ACTIVATIONS:
        raise InputError(f"--activation {activation}", f"one of {', '.join(ACTIVATIONS)}", "pick one")
    if spec in ("mlp", "cnn", "resnet"):
        if not isinstance(data, LabelledData):
            raise InputError(
                f"--model {spec} with a loader", "data of a known size", "return (inputs, labels)"
            )
        new = ACTIVATIONS[activation]
        if spec != "mlp":
            return _image_net("--model", spec, data, new, batch_norm=spec == "resnet")
        # At torch's default initialisation a fold hardly folds, and six layers of it do not train.
        size = data.inputs[0].numel()
        return init_by_gain(mlp(size, data.n_classes, activation=new), new(), seed=seed)
    if ":" not in spec:
        raise InputError(
            f"--model {spec}", "mlp, cnn, resnet or package.module:factory", "check the name"
        )
    return _require_module(_call(spec, "--model"), f"--model {spec}")


def _require_module(model: Any, named: str) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{named} returning {type(model).__name__}", "a torch.nn.Module", "return the model"
        )
    return model


def _image_net(
    flag: str, name: str, data: LabelledData, new: NewActivation, *, batch_norm: bool
) -> nn.Module:
    shape = tuple(data.inputs.shape[1:])
    if len(shape) != 3:
        raise InputError(
            f"{flag} {name} with samples of shape {shape}",
            "images [c, h, w]",
            f"pass {flag} mlp, or image data",
        )
    make = cnn if name.startswith("cnn") else resnet
    return make(shape[0], data.n_classes, activation=new, batch_norm=batch_norm)


@dataclass(frozen=True)
class StudyNet:
    """A net of a study by name; processes make it for themselves.

    Attributes:
        name: "cnn", "cnn-bn", "resnet", "resnet-bn" or ``package.module:factory``.
    """

    name: str

    def __call__(self, data: LabelledData, activation: NewActivation) -> nn.Module:
        if ":" in self.name:
            model = _call(self.name, "--net", data, activation, taking="on (data, new_activation)")
            return _require_module(model, f"--net {self.name}")
        batch_norm = self.name.endswith("-bn")
        return _image_net("--net", self.name, data, activation, batch_norm=batch_norm)


def study_net(spec: str) -> StudyNet | None:
    """What ``--net`` names; None is the built-in MLP."""
    if spec == "mlp":
        return None
    if ":" in spec:
        load_factory(spec, "--net")
    elif spec not in ("cnn", "cnn-bn", "resnet", "resnet-bn"):
        raise InputError(
            f"--net {spec}",
            "mlp, cnn, cnn-bn, resnet, resnet-bn or package.module:factory",
            "check the name",
        )
    return StudyNet(spec)


@dataclass(frozen=True)
class OwnActivation:
    """An activation of the user's, by ``package.module:name``; processes import it for themselves."""

    name: str

    def __call__(self) -> nn.Module:
        factory = load_factory(self.name, "--activations")
        if not isinstance(factory, type) and _takes_a_tensor(factory):
            return _Function(factory)
        activation = factory()
        if not isinstance(activation, nn.Module):
            raise InputError(
                f"--activations {self.name} making a {type(activation).__name__}",
                "a torch.nn.Module",
                "name a module class, its factory or a function of a tensor",
            )
        return activation


def study_activation(name: str) -> NewActivation:
    """What makes the activation: a built-in by name, or the user's by ``package.module:name``."""
    if ":" in name:
        own = OwnActivation(name)
        own()  # refuse now rather than in a process
        return own
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(name, ACTIVATIONS, 1)
        raise InputError(
            f"activation {name!r}",
            f"one of {', '.join(ACTIVATIONS)}, or package.module:name",
            f"did you mean {near[0]}?" if near else "pick one",
        )
    return ACTIVATIONS[name]


class _Function(nn.Module):
    """A function of a tensor as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(x)
        return out


def _takes_a_tensor(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin such as torch.sin
        return True
    required = (p for p in parameters if p.default is p.empty)
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in required)


def load_factory(spec: str, flag: str) -> Callable[..., Any]:
    """The function or class that ``package.module:name`` names, see `load_object`."""
    factory = load_object(spec, flag)
    if not callable(factory):
        raise InputError(f"{flag} {spec}", "a function or class", f"got {type(factory).__name__}")
    return factory  # type: ignore[no-any-return]


def load_object(spec: str, flag: str) -> Any:
    """What ``package.module:name`` names; the working directory is searched too."""
    module_name, _, name = spec.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{flag} {spec} ({error})", "an importable package.module:factory", "check both names"
        ) from None
    finally:
        sys.path.pop(0)


def _call(spec: str, flag: str, *arguments: Any, taking: str = "without arguments") -> Any:
    factory = load_factory(spec, flag)
    try:
        return factory(*arguments)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{flag} {spec} ({type(error).__name__}: {error})",
            f"a factory that runs {taking}",
            "mend it; --debug shows the traceback",
        ) from error


def _names_images(spec: str) -> bool:
    folder = os.environ.get(FOLDER_VARIABLE)
    if spec in DATA_SETS or Path(spec).is_dir() or (folder and (Path(folder) / spec).is_dir()):
        return spec not in SHAPES
    return "/" in spec and ":" not in spec and not Path(spec).suffix


def _is_pair(returned: Any) -> bool:
    """(inputs, labels), and no list of two batches."""
    return (
        isinstance(returned, (tuple, list))
        and len(returned) == 2
        and all(hasattr(part, "__len__") and not isinstance(part, (dict, tuple)) for part in returned)
    )


def _hold_out(name: str, inputs: Any, labels: Any, seed: int) -> LabelledData:
    values, classes = np.asarray(inputs), np.asarray(labels)
    if values.dtype.kind not in "fiub" or classes.dtype.kind not in "fiub":
        raise InputError(f"data {name} of types {values.dtype} and {classes.dtype}",
                         "numbers, and labels 0, 1, 2, ...", "encode them")  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below
        x = torch.from_numpy(values.astype(np.float32))
        y = torch.from_numpy(classes.astype(np.int64))
    if x.ndim < 2 or y.shape != x.shape[:1] or len(x) < 10:
        raise InputError(
            f"data {name} of shapes {tuple(x.shape)} and {tuple(y.shape)}",
            "inputs [n, ...] and labels [n] with n >= 10",
            "pass one label a sample",
        )
    if not bool(x.isfinite().all()) or int(y.min()) < 0 or not np.array_equal(y.numpy(), classes):
        raise InputError(f"data {name} with NaN, infinity or labels that are no whole numbers >= 0",
                         "finite inputs and labels 0, 1, 2, ...", "clean the data")  # fmt: skip
    if int(y.max()) >= MOST_CLASSES:
        raise InputError(f"data {name} with label {int(y.max())}", f"labels below {MOST_CLASSES}",
                         "encode the classes as 0, 1, 2, ...")  # fmt: skip
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, train = order.tensor_split([int(len(x) * TEST_SHARE)])
    return LabelledData(name, x[train], y[train], x[test], y[test])
