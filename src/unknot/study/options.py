"""What a study is told about its nets and their training, in one frozen object."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from torch import nn

from unknot.core.errors import InputError, require_count, require_items, require_number, require_share
from unknot.nets.data import LabelledData
from unknot.nets.models import mlp
from unknot.study.trials import TrialSettings

NewActivation = Callable[[], nn.Module]
NewNet = Callable[[LabelledData, NewActivation], nn.Module]
TEST_TARGET = 0.99


def _grid_axis(name: str, values: object) -> list[float]:
    """The numbers along one axis of the grid."""
    items = require_items(name, values, "a sequence of numbers", f"pass e.g. {name}=(1.0,)")
    finite = {"low": -sys.float_info.max, "high": sys.float_info.max, "example": 1.0}
    return [require_number(name, value, "finite numbers > 0", **finite) for value in items]


@dataclass(frozen=True)
class StudyOptions:
    """How the nets of a study are made and trained.

    Attributes:
        seeds: reported ones.
        epochs: the cap.
        learning_rates: of Adam; with ``gains`` the grid.
        gains: multiples of the variance-preserving gain of each activation.
        selection_seeds: seeds that choose a cell and are not reported.
        net: ``(data, factory) -> module``; None is an MLP.
        width, depth: units of a hidden layer of the MLP, and how many there are.
        batch_size: samples a step.
        stop_at, test_target: train and test accuracy at which a trial ends; with None the test accuracy
            does not count.
        topology: of so many seeds of each chosen cell Betti numbers are measured.

    Raises:
        InputError: numbers that make no study, or a net without a name.
    """

    seeds: int = 5
    epochs: int = 60
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2)
    gains: Sequence[float] = (0.6, 1.0, 2.0, 3.0)
    selection_seeds: int = 3
    net: NewNet | None = None
    width: int = 50
    depth: int = 6
    batch_size: int = 128
    stop_at: float = 0.999
    test_target: float | None = TEST_TARGET
    topology: int = 0

    def __post_init__(self) -> None:
        for name in ("learning_rates", "gains"):
            object.__setattr__(self, name, tuple(_grid_axis(name, getattr(self, name))))
        rates, gains = list(self.learning_rates), list(self.gains)
        if not rates or not gains or not min(*rates, *gains) > 0:
            raise InputError(
                f"learning rates {rates} x gains {gains}",
                "at least one of each, all > 0",
                "pass e.g. learning_rates=(1e-3,), gains=(1.0,)",
            )
        for name in ("seeds", "epochs", "batch_size"):
            require_count(name, getattr(self, name))
        for name in ("topology", "depth"):
            require_count(name, getattr(self, name), minimum=0)
        require_count("width", self.width)
        if self.chooses:
            require_count("selection_seeds", self.selection_seeds)
        require_share("stop_at", self.stop_at)
        if self.test_target is not None:
            require_share("test_target", self.test_target)
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
            data=_digest(data),
        )


DEFAULTS = StudyOptions()


def _digest(data: LabelledData) -> str:
    """Tells two sets of one name apart."""
    digest = hashlib.sha256()
    for tensor in (data.inputs, data.labels, data.test_inputs, data.test_labels):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
