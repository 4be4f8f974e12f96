"""The models and activations that flags name: built-in, or ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.core.errors import InputError
from unknot.nets.data import LabelledData
from unknot.nets.models import cnn, mlp, resnet
from unknot.nets.training import one_thread
from unknot.study.options import NewActivation


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
                f"--model {spec} with a loader or data without labels",
                "data of a known size",
                "pass (inputs, labels)",
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
    return _require_module(call_factory(spec, "--model"), f"--model {spec}")


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
            model = call_factory(self.name, "--net", data, activation, taking="on (data, new_activation)")
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


def call_factory(spec: str, flag: str, *arguments: Any, taking: str = "without arguments") -> Any:
    """What the user's factory gives; whatever it raises is told in one line."""
    factory = load_factory(spec, flag)
    try:
        return factory(*arguments)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{flag} {spec} ({type(error).__name__}: {error})",
            f"a factory that runs {taking}",
            "mend it; --debug shows the traceback",
        ) from error


@contextmanager
def one_thread_unless_told() -> Iterator[None]:
    """Let torch use one thread unless ``$OMP_NUM_THREADS`` says how many.

    Its threads wait for each other: on a busy machine two can be a thousand times slower than one.
    """
    with nullcontext() if os.environ.get("OMP_NUM_THREADS") else one_thread():
        yield
