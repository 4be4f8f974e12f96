"""What a study is told: its data, its activations, and in one frozen object how its nets are trained."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.core.errors import (
    InputError,
    require_choice,
    require_count,
    require_items,
    require_number,
    require_share,
)
from unknot.core.tables import Task
from unknot.nets.data import Data, LabelledData, labelled_data
from unknot.nets.models import mlp
from unknot.nets.running import call_model, require_module
from unknot.study.trials import CLASSES, REGRESSION, TrialSettings

NewActivation = Callable[[], nn.Module]
NewNet = Callable[[LabelledData, NewActivation], nn.Module]
TEST_TARGET = 0.99


def numbers_of(name: str, values: object) -> list[float]:
    """Finite numbers in a sequence."""
    items = require_items(name, values, "a sequence of numbers", f"pass e.g. {name}=(1.0,)")
    finite = {"low": -sys.float_info.max, "high": sys.float_info.max, "example": 1.0}
    return [require_number(name, value, "finite numbers > 0", **finite) for value in items]


@dataclass(frozen=True)
class NetOptions:
    """What nets are made and tuned by, whatever is asked of them.

    Args:
        seeds: reported ones.
        learning_rates: of Adam; with ``gains`` the grid.
        gains: multiples of the variance-preserving gain of each activation.
        selection_seeds: seeds that choose a cell and are not reported.
        net: ``(data, factory) -> module``; None is an MLP.
        width: units of a hidden layer of the MLP.
        depth: hidden layers of the MLP.
        batch_size: samples a step.
        task: "classes"; "regression": targets are numbers; or "auto": by the labels, see `labelled_data`.
    """

    seeds: int = 5
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    gains: Sequence[float] = (0.6, 1.0, 2.0, 3.0)
    selection_seeds: int = 3
    net: NewNet | None = None
    width: int = 50
    depth: int = 6
    batch_size: int = 128
    task: Task = "auto"

    def __post_init__(self) -> None:
        for name in ("learning_rates", "gains"):
            object.__setattr__(self, name, tuple(numbers_of(name, getattr(self, name))))
        rates, gains = list(self.learning_rates), list(self.gains)
        if not rates or not gains or not min(*rates, *gains) > 0:
            raise InputError(
                f"learning rates {rates} x gains {gains}",
                "at least one of each, all > 0",
                "pass e.g. learning_rates=(1e-3,), gains=(1.0,)",
            )
        for name in ("seeds", "batch_size", "width"):
            require_count(name, getattr(self, name))
        require_count("depth", self.depth, minimum=0)
        if self.chooses:
            require_count("selection_seeds", self.selection_seeds)
        require_choice("task", self.task, ("auto", CLASSES, REGRESSION))
        _ = self.net_name

    @property
    def cells(self) -> tuple[tuple[float, float], ...]:
        """The grid: (learning rate, gain) pairs."""
        pairs = product(self.learning_rates, self.gains)
        return tuple((float(rate), float(gain)) for rate, gain in pairs)

    @property
    def chooses(self) -> bool:
        """Whether there are cells to choose from."""
        return len(self.cells) > 1

    @property
    def net_name(self) -> str:
        """It tells trials of two nets apart when they are resumed."""
        if self.net is None:
            return f"mlp {self.depth} x {self.width}"
        name = getattr(self.net, "name", None) or getattr(self.net, "__name__", None)
        if not isinstance(name, str) or name == "<lambda>" or not callable(self.net):
            raise InputError(
                f"net = {self.net!r}", "a function or object with a name", "define it with def"
            )
        return name

    def new_net(self, data: LabelledData, activation: NewActivation) -> nn.Module:
        """A net for the data; its weights are still to be drawn.

        Args:
            data: tells the shape of the inputs and the number of classes.
            activation: makes each activation module of the net.
        """
        if self.net is not None:
            return self.net(data, activation)
        size = data.inputs[0].numel()
        return mlp(size, data.n_classes, width=self.width, depth=self.depth, activation=activation)

    def initialised(
        self, data: LabelledData, new_activation: NewActivation, gain: float, seed: int
    ) -> nn.Module:
        """A net with weights drawn by the gain and seed."""
        torch.manual_seed(seed)
        model = self.new_net(data, new_activation)
        return init_by_gain(model, new_activation(), multiplier=gain, seed=seed)

    def try_net(self, data: LabelledData, activation: str, new_activation: NewActivation) -> None:
        """Refuse a net that cannot be trained here and now, rather than in a process and later."""
        try:
            module = new_activation()
            model = self.new_net(data, new_activation)
        except InputError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                f"net {self.net_name} or activation {activation} ({type(error).__name__}: {error})",
                "a net made by (data, new_activation), a module by new_activation()",
                "call them yourself first",
            ) from error
        require_module(module)
        require_module(model)
        with torch.no_grad():
            out = call_model(model.eval(), data.inputs[:2])
        numbers = task_of(data) == REGRESSION
        columns = out.shape[1] if isinstance(out, Tensor) and out.ndim == 2 else 0
        if columns < data.n_classes or (numbers and columns > 1):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"net {self.net_name} returning {shape} on set {data.name}",
                "numbers [n, 1]" if numbers else f"scores [n, at least {data.n_classes}]",
                f"end it with a linear layer of one unit{'' if numbers else ' a class'}",
            )


@dataclass(frozen=True)
class StudyOptions(NetOptions):
    """How the nets of a study of epochs to a target are made and trained.

    Attributes:
        epochs: the cap.
        stop_at, test_target: train and test accuracy, or R^2, at which a trial ends; with None the test
            accuracy does not count.
        topology: of so many seeds of each chosen cell Betti numbers are measured.
        seeds, learning_rates, gains, selection_seeds, net, width, depth, batch_size, task: as of
            `NetOptions`.

    Raises:
        InputError: numbers that make no study, or a net without a name.
    """

    epochs: int = 60
    stop_at: float = 0.999
    test_target: float | None = TEST_TARGET
    topology: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("epochs", self.epochs)
        require_count("topology", self.topology, minimum=0)
        require_share("stop_at", self.stop_at)
        if self.test_target is not None:
            require_share("test_target", self.test_target)

    def settings(self, data: LabelledData) -> TrialSettings:
        """What is written down with each trial on these data."""
        return TrialSettings(
            net=self.net_name,
            epochs=self.epochs,
            batch_size=self.batch_size,
            train_target=self.stop_at,
            test_target=self.test_target,
            grid=json.dumps(self.cells),
            selection_seeds=self.selection_seeds if self.chooses else 0,
            data=digest_of(data),
            task=task_of(data),
        )


DEFAULTS = StudyOptions()


def task_of(data: LabelledData) -> str:
    """ "classes", or "regression" where the labels are floats."""
    return REGRESSION if data.labels.is_floating_point() else CLASSES


def digest_of(data: LabelledData) -> str:
    """Tells two sets of one name apart."""
    digest = hashlib.sha256()
    for tensor in (data.inputs, data.labels, data.test_inputs, data.test_labels):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def named_sets(sets: Mapping[str, Data], task: Task) -> dict[str, LabelledData]:
    """The sets of a study, as its nets take them."""
    if not isinstance(sets, Mapping) or not sets or not all(isinstance(n, str) for n in sets):
        raise InputError(
            f"sets = {sets if isinstance(sets, (Mapping, str)) else type(sets).__name__}",
            "{name: data}, at least one",
            'pass e.g. {"mine": (inputs, labels)}',
        )
    return {name: _as_data(name, samples, task) for name, samples in sets.items()}


def _as_data(name: str, samples: Data, task: Task) -> LabelledData:
    given = labelled_data(samples, task=task)
    inputs, test_inputs = (_as_float(t) for t in (given.inputs, given.test_inputs))
    kind = torch.float32 if task_of(given) == REGRESSION else torch.int64
    labels, test_labels = (t.to(kind) for t in (given.labels, given.test_labels))
    data = LabelledData(name, inputs, labels, test_inputs, test_labels, given.names)
    if len(inputs) == 0:
        raise InputError(f"set {name} with 0 inputs", "at least one", "check the data")
    if not bool(inputs.isfinite().all()):
        raise InputError(f"set {name} with NaN or infinite inputs", "finite numbers", "clean the data")
    for part in (labels, test_labels) if kind is torch.float32 else ():
        if len(part) and not bool((part != part[0]).any()):
            raise InputError(
                f"set {name} with targets all alike", "numbers that differ", "check the data"
            )
    return data


def _as_float(inputs: Tensor) -> Tensor:
    """What the nets of a study take, which are float32; whole numbers (tokens) stay."""
    return inputs.float() if inputs.is_floating_point() else inputs


def standardised(data: LabelledData) -> tuple[LabelledData, float]:
    """Targets that are numbers about their mean in training, in units of their spread; and the spread.

    Classes stay as they are, and have a spread of 1.
    """
    if task_of(data) == CLASSES:
        return data, 1.0
    training = data.labels.double()
    mean, spread = training.mean(), float(training.std(correction=0))
    labels, test = (((t.double() - mean) / spread).float() for t in (data.labels, data.test_labels))
    return replace(data, labels=labels, test_labels=test), spread


def named_factories(
    activations: str | Sequence[str] | Mapping[str, NewActivation],
) -> dict[str, NewActivation]:
    """{name: what makes one} of what a study is given as activations."""
    if isinstance(activations, Mapping):
        for name, new in activations.items():
            if not isinstance(name, str) or not callable(new) or isinstance(new, nn.Module):
                raise InputError(
                    f"activation {name!r}: {new!r}",
                    "a name, and a function that makes a module",
                    'pass e.g. {"relu": torch.nn.ReLU}',
                )
        factories = dict(activations)
    else:
        words = f"one of {', '.join(ACTIVATIONS)}", "pick one"
        single = isinstance(activations, str)
        names: Any = [activations] if single else require_items("activations", activations, *words)
        for name in names:
            if not isinstance(name, str) or name not in ACTIVATIONS:
                raise InputError(f"activation {name!r}", *words)
        factories = {name: ACTIVATIONS[name] for name in names}
    if not factories:
        raise InputError("no activations", "at least one", 'pass e.g. ["relu", "zfold"]')
    return factories
