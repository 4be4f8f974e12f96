"""LatencyModel: the milliseconds of a pruned model, from its layers timed alone."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError
from unknot.core.showing.frames import Rows
from unknot.nets.probe import Inputs, tensors_of
from unknot.nets.running import as_example, copied, n_samples, placed, unwrapped
from unknot.pruning.planning.speed.calls import Call, Calls, watch_calls
from unknot.pruning.planning.speed.stopwatch import cost_of, time_passes
from unknot.pruning.planning.speed.surfaces import Surface, widths_of
from unknot.pruning.structure.channels import ChannelGraph
from unknot.pruning.structure.pools import Removed, Structure, channels_of

SECONDS = 30.0  # of timing layers alone, about
MOST_WIDTHS = (64, 32, 16, 8, 4)  # of a layer either way: as many as the time allows
SCALES = (0.5, 3.0)  # between which a layer's time among the others is that of it alone
Seen: TypeAlias = tuple[NDArray[np.bool_], float]  # of a model: which units stay, and milliseconds
REST = "all else"


@dataclass(frozen=True)
class LayerTime:
    """Where the time of a pass goes.

    Attributes:
        layer: dotted name, or "all else": what is no convolution or matrix product of a layer.
        before_ms: of the whole model.
        after_ms: of the pruned one, as predicted.
        share: of the whole time after, in [0, 1].
    """

    layer: str
    before_ms: float
    after_ms: float
    share: float


class LayerTimes(Rows[LayerTime]):
    """The layers of a model, the one that takes longest first; a table too."""

    def _title(self) -> str:
        before, after = (sum(getattr(r, key) for r in self) for key in ("before_ms", "after_ms"))
        return f"Where the time goes: {before:.3g} ms before, {after:.3g} ms after"


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a layer calls, and which units its channels go with.

    Attributes:
        surfaces: one a call.
        scales: what is left of its channels, ascending, and its time among the other layers over that of
            it alone there.
        inputs, outputs: the unit of each channel, -1 for what stays.
        groups: the same of its groups, where these go as a whole.
    """

    surfaces: tuple[Surface, ...]
    scales: tuple[tuple[float, ...], tuple[float, ...]]
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    groups: NDArray[np.int64] | None

    def milliseconds(self, stays: NDArray[np.bool_]) -> float:
        return self._alone(stays) * float(np.interp(self._left(stays), *self.scales))

    def scaled(self, seen: Sequence[Seen]) -> _Layer:
        """The same, so that it takes what was ``seen`` in models: what stays, and milliseconds."""
        scales = {}
        for stays, taken in seen:
            scale = taken / self._alone(stays)
            scales[self._left(stays)] = min(SCALES[1], max(SCALES[0], scale))
        left = sorted(scales)
        return replace(self, scales=(tuple(left), tuple(scales[x] for x in left)))

    def _left(self, stays: NDArray[np.bool_]) -> float:
        return math.sqrt(_share(stays, self.inputs) * _share(stays, self.outputs))

    def _alone(self, stays: NDArray[np.bool_]) -> float:
        return sum(self._of_call(s, stays) for s in self.surfaces)

    def _of_call(self, surface: Surface, stays: NDArray[np.bool_]) -> float:
        call = surface.call
        inputs = round(call.inputs * _share(stays, self.inputs))
        outputs = round(call.outputs * _share(stays, self.outputs))
        if self.groups is None or call.narrow:
            return surface.at(inputs, outputs)
        groups = _share(stays, self.groups)  # of the same width, only fewer
        return groups * surface.at(round(inputs / groups), round(outputs / groups))

    def elements(self, stays: NDArray[np.bool_]) -> float:
        """Numbers that it returns."""
        return _share(stays, self.outputs) * sum(s.call.elements for s in self.surfaces)


@dataclass(frozen=True, eq=False, repr=False)
class LatencyModel:
    """Predicts how long a forward pass takes once channels are gone; made by `measure`.

    Every different convolution and matrix product is timed alone at some widths, and scaled to what it
    takes inside of the model and of one with half of its channels, where caches and memory are shared.
    The rest (normalisation, activations, sums) is a part that stays and one that shrinks with the numbers
    that layers return, by these two models.

    Attributes:
        graph: what goes with the channels of the model.
        layers: what each layer calls.
        rest_ms: (what stays, what shrinks) of the rest.
        whole_ms: of the whole model.
        batch_size: samples in the example.
        device: where it was measured, e.g. "cpu".
        threads: torch's intra-op threads meanwhile.
    """

    graph: ChannelGraph
    layers: Mapping[str, _Layer]
    rest_ms: tuple[float, float]
    whole_ms: float
    batch_size: int
    device: str
    threads: int

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        structure: Structure,
        example: Inputs,
        *,
        seconds: float = SECONDS,
        progress: ShowProgress = "auto",
    ) -> LatencyModel:
        """Time the layers of ``model`` on this machine, with the threads that torch now uses.

        Args:
            model: in eval mode on a copy, where it is.
            structure: what `find_structure` found in it.
            example: the batch whose forward pass is meant, as of `plan_pruning`.
            seconds: to spend on timing layers, about: where a net has many, fewer widths of each.
            progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

        Raises:
            InputError: bad ``seconds``; an example that the model does not take.
        """
        if not seconds > 0:
            raise InputError(f"seconds = {seconds}", "a number > 0", f"pass e.g. {SECONDS:g}")
        working = copied(unwrapped(model)).eval()
        example = placed(as_example(example), working)
        half = _half(structure)
        smaller = structure.graph.without(working, half)
        calls = watch_calls(working, example)
        calls_of_half = watch_calls(smaller, example)
        whole_ms, half_ms = (t.median_ms for t in time_passes([working, smaller], example))
        surfaces = _surfaces(calls, seconds, progress)
        every, left = (~structure.graph.gone(removed) for removed in ({}, half))
        seen = ((left, calls_of_half.milliseconds), (every, calls.milliseconds))
        layers = {
            name: layer.scaled([(stays, taken[name]) for stays, taken in seen if name in taken])
            for name, layer in layer_times(calls, surfaces, structure.graph).items()
        }
        return cls(
            structure.graph,
            layers,
            _rest(layers.values(), (every, whole_ms), (left, half_ms)),
            whole_ms,
            n_samples(example),
            str(tensors_of(example)[0].device),
            torch.get_num_threads(),
        )

    def milliseconds(self, removed: Removed) -> float:
        """Of a forward pass of the example without ``removed`` {layer: output channels}."""
        stays = ~self.graph.gone(removed)
        layers = sum(layer.milliseconds(stays) for layer in self.layers.values())
        return layers + self._rest(stays)

    def where(self, removed: Removed | None = None) -> LayerTimes:
        """The time of each layer before, and after ``removed`` is gone."""
        every = ~self.graph.gone({})
        stays = ~self.graph.gone(removed or {})
        times = {n: (x.milliseconds(every), x.milliseconds(stays)) for n, x in self.layers.items()}
        times[REST] = self._rest(every), self._rest(stays)
        whole = sum(after for _, after in times.values())
        rows = [LayerTime(name, *both, both[1] / whole) for name, both in times.items()]
        return LayerTimes(sorted(rows, key=lambda row: -row.after_ms))

    def __repr__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        of = ", ".join(filter(None, (f"batch {self.batch_size}", threads, self.device)))
        return f"LatencyModel({self.whole_ms:.3g} ms, {of}, {len(self.layers)} layers)"

    def _rest(self, stays: NDArray[np.bool_]) -> float:
        return self.rest_ms[0] + self.rest_ms[1] * _elements(self.layers.values(), stays)


def _half(structure: Structure) -> Removed:
    """Half of the units of every pool."""
    return channels_of(unit for pool in structure.pools for unit in pool.units[len(pool.units) // 2 :])


def _surfaces(calls: Calls, seconds: float, progress: ShowProgress) -> dict[Call, Surface]:
    """The time of each different call at as many widths as fit into ``seconds``."""
    longest: dict[Call, float] = {}
    for name, of_layer in calls.by_layer.items():
        for call in of_layer:
            taken = calls.milliseconds[name] / len(of_layer)
            longest[call] = max(taken, longest.get(call, 1e-3))

    surfaces: dict[Call, Surface] = {}
    begun = time.perf_counter()
    with step_bar("timing layers", len(longest), show=progress) as step:
        for number, call in enumerate(longest, start=1):
            step(f"{number} of {len(longest)}")
            rest = {call: taken for call, taken in longest.items() if call not in surfaces}
            left = seconds - (time.perf_counter() - begun)
            most = next((n for n in MOST_WIDTHS if _cost(rest, n) <= left), MOST_WIDTHS[-1])
            surfaces[call] = Surface.measure(call, most)
    return surfaces


def _cost(longest: Mapping[Call, float], most: int) -> float:
    """About how many seconds calls of so many milliseconds take at up to ``most`` widths."""
    return sum(cost_of(_pairs(call, most), taken) for call, taken in longest.items())


def _pairs(call: Call, most: int) -> int:
    """About how many pairs of widths `Surface.measure` times."""
    along = len(widths_of(call.inputs, 1 if call.narrow else call.groups, most))
    return along if call.narrow else along + len(widths_of(call.outputs, call.groups, most)) + 15


def layer_times(calls: Calls, surfaces: Mapping[Call, Surface], graph: ChannelGraph) -> dict[str, _Layer]:
    """The time of each layer at any width, by the ``surfaces`` of what it calls."""
    return {name: _layer(name, calls, surfaces, graph) for name in calls.by_layer}


def _layer(name: str, calls: Calls, surfaces: Mapping[Call, Surface], graph: ChannelGraph) -> _Layer:
    of_layer = tuple(surfaces[call] for call in calls.by_layer[name])
    outputs = np.array([graph.numbers.get((name, c), -1) for c in range(graph.layers.get(name, 0))])
    groups = next((s.units for s in graph.sizes if (s.module, s.attribute) == (name, "groups")), None)
    inputs = graph.inputs.get(name, np.zeros(0))
    if groups is not None:
        groups = groups.reshape(len(groups), -1)[:, 0]
    return _Layer(of_layer, ((1.0,), (1.0,)), inputs.astype(int), outputs.astype(int), groups)


def _rest(layers: Collection[_Layer], whole: Seen, half: Seen) -> tuple[float, float]:
    """What stays and what shrinks of all that is not in ``layers``, by two models."""
    rest, rest_of_half = (
        max(0.0, taken - sum(layer.milliseconds(stays) for layer in layers))
        for stays, taken in (whole, half)
    )
    gone = 1 - _elements(layers, half[0])
    shrinks = min(rest, max(0.0, (rest - rest_of_half) / gone)) if gone > 0 else 0.0
    return rest - shrinks, shrinks


def _elements(layers: Collection[_Layer], stays: NDArray[np.bool_]) -> float:
    """Share of the numbers that layers return which is left."""
    every = np.ones_like(stays)
    whole = sum(layer.elements(every) for layer in layers)
    return sum(layer.elements(stays) for layer in layers) / whole if whole else 1.0


def _share(stays: NDArray[np.bool_], units: NDArray[np.int64]) -> float:
    return float(stays[units].mean()) if len(units) else 1.0
