"""Which channels of a model go together, and what goes with them, in its parameters and sizes."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import as_it_was, call_model, copied
from unknot.pruning.structure.attention import narrow_all
from unknot.pruning.structure.layers import width_of
from unknot.pruning.structure.surgery import Cut, NewSize, cut
from unknot.pruning.structure.tracing.facts import Facts, Product
from unknot.pruning.structure.tracing.operations import RULES, is_output
from unknot.pruning.structure.tracing.tracer import Tracer, TraceTooLong

Channel: TypeAlias = tuple[str, int]  # layer, output channel
Unit: TypeAlias = tuple[Channel, ...]  # that can only go together
Units: TypeAlias = NDArray[np.int64]  # numbers of units; -1 for what stays
Removed: TypeAlias = dict[str, list[int]]  # {layer: output channels, ascending}
OUTPUT = "its channels are the model's output"
SECONDS = 120.0  # that one trace may take


@dataclass(frozen=True, eq=False)
class Pool:
    """Channels of the same layers, taken in by the same, in units that go or stay as one; not all may go.

    Attributes:
        layers: convolutions and linear layers, in the model's order; more than one where they share
            their channels.
        units: e.g. ``(("stem", 3), ("block.conv2", 3))`` for channel 3 of a residual sum.
    """

    layers: tuple[str, ...]
    units: tuple[Unit, ...]

    def some(self) -> list[Unit]:
        """Some of the units, the same each time; of each pool another share, lest shares that only fit
        by chance look right.
        """
        rng = random.Random(repr(self.layers))
        return rng.sample(self.units, rng.randint(1, max(1, len(self.units) - 1)))


def channels_of(units: Iterable[Unit]) -> Removed:
    """The channels of some units by layer."""
    removed: defaultdict[str, list[int]] = defaultdict(list)
    for unit in units:
        for layer, channel in unit:
            removed[layer].append(channel)
    return {layer: sorted(channels) for layer, channels in removed.items()}


@dataclass(frozen=True, eq=False)
class Work:
    """A convolution or matrix product.

    Attributes:
        macs: of one sample.
        factors: units along each of its axes; what is left of each multiplies.
    """

    macs: float
    factors: tuple[Units, ...]


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """All that goes with the output channels of a model's layers.

    Attributes:
        layers: {dotted name: output channels}, in the model's order.
        units: channels that may go, each with those that it can only go with.
        refused: {layer: why none of its channels may go}.
        inputs: {convolution or linear layer, also one that keeps its outputs: the number of the unit
            that each of its input channels goes with, or -1}.
        cuts: what parameters and buffers lose.
        sizes: what numbers that modules hold become.
        works: what costs multiply-accumulates.
        normalised: {module: the units that it normalises together with others}.
        handled: {module: the units that its own operations handle}.
        splits: the splits that could be seen to in another way: (number, axis, units in it).
    """

    layers: dict[str, int]
    units: tuple[Unit, ...]
    refused: dict[str, str]
    inputs: dict[str, Units]
    cuts: tuple[Cut, ...]
    sizes: tuple[NewSize, ...]
    works: tuple[Work, ...]
    normalised: dict[str, set[int]]
    handled: dict[str, set[int]]
    splits: tuple[tuple[int, int, frozenset[int]], ...]

    @cached_property
    def numbers(self) -> dict[Channel, int]:
        """The unit of each channel that is in one."""
        return {channel: number for number, unit in enumerate(self.units) for channel in unit}

    def splits_of(self, units: Iterable[Unit]) -> set[tuple[int, int]]:
        """The (number, axis) of the splits of some units that could be seen to in another way."""
        numbers = {self.numbers[unit[0]] for unit in units}
        return {(number, axis) for number, axis, of_split in self.splits if of_split & numbers}

    def pools(self) -> list[Pool]:
        """The units of each set of layers that share channels and of the layers that take these in."""
        order = {layer: i for i, layer in enumerate(self.layers)}
        consumers: list[set[str]] = [set() for _ in self.units]
        for layer, units in self.inputs.items():
            for unit in set(units.tolist()) - {-1}:
                consumers[unit].add(layer)
        pools: defaultdict[tuple[tuple[str, ...], frozenset[str]], list[Unit]] = defaultdict(list)
        for unit, taken in zip(self.units, consumers, strict=True):
            layers = tuple(sorted({layer for layer, _ in unit}, key=order.__getitem__))
            pools[layers, frozenset(taken)].append(unit)
        return [Pool(layers, tuple(units)) for (layers, _), units in pools.items()]

    def gone(self, removed: Mapping[str, Iterable[int]]) -> NDArray[np.bool_]:
        """bool ``[units + 1]``: which units ``removed`` {layer: channels} takes; the last is False."""
        gone = np.zeros(len(self.units) + 1, bool)
        numbers = [
            self.numbers.get((layer, c), -1) for layer, of_layer in removed.items() for c in of_layer
        ]
        gone[numbers] = True
        gone[-1] = False
        return gone

    def without(self, model: nn.Module, removed: Mapping[str, Iterable[int]]) -> nn.Module:
        """A copy of ``model`` without ``removed`` {layer: channels} and what goes with them."""
        return cut(model, self.cuts, self.sizes, self.gone(removed))

    def macs_without(self, removed: Mapping[str, Iterable[int]]) -> float:
        """Multiply-accumulates of one sample once ``removed`` is gone."""
        stays = ~self.gone(removed)
        return sum(w.macs * float(np.prod([stays[f].mean() for f in w.factors])) for w in self.works)

    def parameters_without(self, removed: Mapping[str, Iterable[int]]) -> float:
        """Parameters that go with ``removed``, as a number below 0."""
        stays = ~self.gone(removed)
        return -sum(
            c.size * (1 - float(np.prod([stays[u].mean() for u in c.axes.values()])))
            for c in self.cuts
            if c.trainable
        )

    def normalisations(self, removed: Mapping[str, Iterable[int]]) -> list[str]:
        """The modules that normalise what is ``removed`` together with channels that stay."""
        gone = set(np.flatnonzero(self.gone(removed)).tolist())
        return [module for module, units in self.normalised.items() if units & gone]


def trace_channels(
    model: nn.Module,
    example: Inputs,
    layers: Collection[str],
    *,
    banned: Collection[tuple[int, int]] = (),
    seconds: float = SECONDS,
) -> ChannelGraph:
    """Follow the output channels of ``layers``, by dotted name, through a model.

    ``example`` is a batch that the model takes, on its device. Its eval mode and its training mode are
    followed, the latter where it takes the example.

    Raises:
        InputError: the model does not take the example, or it takes longer than ``seconds``.
    """
    facts = trace_facts(model, example, layers, seconds)
    return resolve(model, facts, layers, banned)


def trace_facts(
    model: nn.Module,
    example: Inputs,
    layers: Collection[str],
    seconds: float,
    tell: Callable[[str], None] = lambda module: None,
) -> Facts:
    """What the runs of the model in both modes show; ``tell`` is called with each module that runs."""
    facts = Facts()
    working = narrow_all(copied(model))
    example = map_tensors(example, lambda t: t[:2])

    def follow(*, training: bool) -> None:
        tracer = Tracer(working, layers, RULES, facts, seconds, tell)
        working.train(training)
        output = tracer.run(lambda: call_model(working, example))
        is_output(tracer, output, OUTPUT)

    with as_it_was(working):
        follow(training=False)
        products = list(facts.products)
        try:
            follow(training=True)
        except TraceTooLong:
            raise
        except InputError:  # some do not take two samples in training mode
            pass
        samples = len(tensors_of(example)[0])
        # Those of eval mode are what a pass costs.
        facts.products = [Product(p.macs / samples, p.factors) for p in products]
    return facts


def resolve(
    model: nn.Module,
    facts: Facts,
    layers: Collection[str],
    banned: Collection[tuple[int, int]] = (),
    ties: Sequence[tuple[Units, Units]] = (),
) -> ChannelGraph:
    """The units that follow from what was seen.

    ``banned`` are (number of a split, axis) along which whole slices may not go after all, and ``ties``
    pairs of atoms, one by one, that can only go together after all.
    """
    outputs = {name: _same(facts.outputs[name]) for name in layers if name in facts.outputs}
    component, reasons, axes = _components(facts, banned, ties)
    refused: dict[str, str] = {}
    members: defaultdict[int, list[Channel]] = defaultdict(list)
    modules = dict(model.named_modules())
    widths = {name: width_of(modules[name]) or 0 for name in layers}
    for name in layers:
        if name not in outputs:
            refused[name] = "it takes no part in the model's output"
            continue
        atoms = outputs[name]
        if len(atoms) != widths[name]:
            refused[name] = "its channels are not where those of such a layer are"
            continue
        if widths[name] == 1:
            refused[name] = "it has a single channel"
            continue
        whys = [reasons.get(int(c), "") if a > 0 else "its channels are not followed" for a, c in
                zip(atoms, component[np.maximum(atoms, 0)], strict=True)]  # fmt: skip
        if all(whys):
            refused[name] = whys[0]
        for c, (why, atom) in enumerate(zip(whys, atoms.tolist(), strict=True)):
            if not why:
                members[int(component[atom])].append((name, c))
    units = tuple(tuple(channels) for channels in members.values())
    number_of_component = {c: i for i, c in enumerate(members)}
    of_component = np.full(facts.n_atoms + 2, -1)
    of_component[list(number_of_component)] = list(number_of_component.values())
    number = of_component[component]
    _lead_buffers(facts, component, number)
    return ChannelGraph(
        layers=widths,
        units=units,
        refused=refused,
        inputs={name: number[np.maximum(_same(calls), 0)] for name, calls in facts.inputs.items()},
        cuts=tuple(_cuts(model, facts, number)),
        sizes=tuple(
            NewSize(s.module, s.attribute, s.position, number[np.abs(s.atoms)], s.axis, s.scale)
            for s in facts.sizes
            if (number[np.abs(s.atoms)] >= 0).any()
        ),
        works=tuple(
            Work(p.macs, tuple(n for f in p.factors if ((n := number[np.abs(f)]) >= 0).any()))
            for p in facts.products
        ),
        normalised=_units_by_module(number, facts.normalised),
        handled={m: _units_in(number, np.concatenate(a)) for m, a in facts.touched.items()},
        splits=tuple(
            (i, axis, frozenset(_units_in(number, facts.splits[i].atoms))) for i, axis in axes.items()
        ),
    )


def _lead_buffers(facts: Facts, component: Units, number: Units) -> None:
    """Give the atoms of buffers, in place, the one unit that they meet; those that meet several stay."""
    met: defaultdict[int, set[int]] = defaultdict(set)
    for followers, leaders in facts.follows:
        strong = leaders > 0
        pairs = np.stack([component[followers[strong]], number[leaders[strong]]])
        for follower, unit in np.unique(pairs, axis=1).T.tolist():
            met[follower].add(unit)
    led = {follower: min(units) for follower, units in met.items() if len(units) == 1}
    if led:
        of_component = np.full(len(number) + 1, -1)
        of_component[list(led)] = list(led.values())
        free = number < 0
        number[free] = of_component[component[free]]


def _cuts(model: nn.Module, facts: Facts, number: Units) -> Iterator[Cut]:
    """What each parameter and buffer loses."""
    trainable = {name for name, _ in model.named_parameters()}
    for name, starts in facts.axes.items():
        axes = {}
        for axis, start in enumerate(starts):
            units = number[start : start + facts.shapes[name][axis]]
            if start and (units >= 0).any():
                axes[axis] = units
        if axes:
            yield Cut(name, axes, math.prod(facts.shapes[name]), name in trainable)


def _units_in(number: Units, atoms: NDArray[np.int64]) -> set[int]:
    """The units that some atoms belong to."""
    return set(np.unique(number[np.maximum(atoms, 0)]).tolist()) - {-1}


def _units_by_module(number: Units, atoms: Iterable[tuple[Any, str]]) -> dict[str, set[int]]:
    units: defaultdict[str, set[int]] = defaultdict(set)
    for of_module, module in atoms:
        units[module] |= _units_in(number, of_module)
    return {module: numbers for module, numbers in units.items() if numbers}


def _same(calls: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The atoms of the first call of a layer, to which those of the others are tied."""
    first = calls[0]
    return first if all(len(c) == len(first) for c in calls) else np.zeros_like(first)


def _components(
    facts: Facts, banned: Collection[tuple[int, int]], ties: Sequence[tuple[Units, Units]]
) -> tuple[Units, dict[int, str], dict[int, int]]:
    """The component of each atom once all splits are rectangles.

    With {component that stays: why} and {split: the axis that was chosen where there was a choice}.
    """
    pairs = [*facts.ties, *ties]
    pairs += [(a, -b) for a, b in ((a[b < 0], b[b < 0]) for a, b in facts.follows) if len(a)]
    for calls in [*facts.outputs.values(), *facts.inputs.values()]:
        for call in calls[1:]:
            if len(call) == len(calls[0]):
                both = (call > 0) & (calls[0] > 0)
                pairs.append((calls[0][both], call[both]))
    axes: dict[int, int] = {}
    while True:
        component = _connected(facts.n_atoms, pairs)
        frozen = np.zeros(facts.n_atoms + 1, bool)
        reasons: dict[int, str] = {}
        for atoms, why in facts.frozen:
            for c in np.unique(component[atoms]).tolist():
                reasons.setdefault(c, why)
        reasons.setdefault(int(component[0]), "its channels can only go with others that stay")
        frozen[list(reasons)] = True
        more = []
        for i, split in enumerate(facts.splits):
            allowed = [a for a in split.axes if (i, a) not in banned]
            axis, pair = _rectangle(split.atoms, allowed, component, frozen)
            more += pair
            if pair and len(allowed) > 1 and axis is not None:
                axes[i] = axis
        if not more:
            return component, reasons, axes
        pairs += more


def _connected(n_atoms: int, pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Any:
    a = np.concatenate([np.zeros(1, np.int64), *(p[0] for p in pairs)])
    b = np.concatenate([np.zeros(1, np.int64), *(p[1] for p in pairs)])
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(n_atoms + 1, n_atoms + 1))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _rectangle(
    atoms: Units, axes: Sequence[int], component: Units, frozen: NDArray[np.bool_]
) -> tuple[int | None, list[tuple[Units, Units]]]:
    """The axis of ``axes`` of which whole slices go, that of most choice, and the ties it takes."""
    strong = np.maximum(atoms, 0)
    stays = frozen[component[strong]] | (strong == 0)
    seen = np.where(stays, -1, component[strong])
    best, most = None, -1
    for axis in axes:
        rows = np.moveaxis(seen, axis, 0).reshape(seen.shape[axis], -1)
        if (rows == rows[:, :1]).all():
            return axis, []
        whole = rows[~(rows == -1).any(1)]  # of which nothing stays
        choice = len(np.unique(whole)) if len(whole) else 0
        if choice >= most:
            best, most = axis, choice
    # Without an axis all of it can only go together.
    flat = (strong if best is None else np.moveaxis(strong, best, 0)).reshape(
        1 if best is None else strong.shape[best], -1
    )
    if best is None and (seen == seen.flat[0]).all():
        return None, []
    return best, [(np.broadcast_to(flat[:, :1], flat.shape).ravel(), flat.ravel())]
