"""Which tensors shrink with a channel: read once from torch-pruning's graph, then applied by name.

torch-pruning (MIT, Fang et al., CVPR 2023) follows channels through a network. Its gaps are guarded
here: frozen parameters, single-sample examples, arbitrary channels of grouped convolutions, groups of a
group normalisation, and removals whose indices depend on what was removed before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import call_model, copied, float_tensors
from unknot.pruning.structure.layers import width_of
from unknot.pruning.structure.masking import is_depthwise

Channel: TypeAlias = tuple[str, int]  # layer, output channel
Unit: TypeAlias = tuple[Channel, ...]  # that can only go together
OUTPUT = "its channels are the model's output"


@dataclass(frozen=True, eq=False)
class Dependency:
    """What one module or parameter loses on one side."""

    target: str  # dotted name
    shrink: Callable[[Any, list[int]], Any]  # torch-pruning's, of the module or parameter and indices
    dim: int  # of a parameter, the one that shrinks
    losses: dict[Channel, list[int]]  # {channel: indices of the target that go with it}


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """All that goes with the output channels of a model's convolutions and chosen linear layers."""

    layers: tuple[str, ...]  # these, by name
    dependencies: tuple[Dependency, ...]  # one a target and side
    units: tuple[Unit, ...]  # every channel is in one
    refused: dict[str, str]  # {layer: why none of its channels may go}

    def units_of_layers(self) -> dict[tuple[str, ...], list[Unit]]:
        """The units of each set of layers that share channels, in the model's order."""
        units: defaultdict[tuple[str, ...], list[Unit]] = defaultdict(list)
        for unit in self.units:
            units[tuple(sorted({layer for layer, _ in unit}, key=self.layers.index))].append(unit)
        return units

    def without(self, model: nn.Module, removed: Mapping[str, Iterable[int]]) -> nn.Module:
        """A copy of ``model`` without ``removed`` {layer: channels} and what goes with them."""
        slim = copied(model)
        gone = {(layer, c) for layer, channels in removed.items() for c in channels}
        modules = dict(slim.named_modules())
        for dependency in self.dependencies:
            losses, target = dependency.losses, dependency.target
            lost = sorted({i for c in gone & losses.keys() for i in losses[c]})
            if not lost:
                continue
            dependency.shrink.__self__.pruning_dim = dependency.dim  # type: ignore[attr-defined]
            if target in modules:
                _shrink_module(modules[target], dependency, lost)
            else:
                owner, _, name = target.rpartition(".")
                setattr(modules[owner], name, dependency.shrink(slim.get_parameter(target), lost))
        for name, parameter in slim.named_parameters():  # pruning makes new, trainable parameters
            parameter.requires_grad_(model.get_parameter(name).requires_grad)
        return slim


def trace_channels(model: nn.Module, example: Inputs, linear: Collection[str] = ()) -> ChannelGraph:
    """Follow the output channels of every convolution, and of the ``linear`` layers, through a model.

    ``example`` is a batch that the model takes, on its device.

    Raises:
        InputError: torch-pruning cannot follow the model at all.
    """
    working = copied(model).eval()
    for parameter in working.parameters():  # torch-pruning loses frozen parameters
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    graph = _graph(working, example)
    names: dict[Any, str] = {module: name for name, module in working.named_modules()}
    names |= graph._param_to_name
    dependencies: dict[Any, Dependency] = {}
    refused: dict[str, str] = {}
    together = DisjointSet()
    roots = {n: m for n, m in working.named_modules() if isinstance(m, _ConvNd) or n in linear}
    for layer, module in roots.items():
        if module not in graph.module2node:
            refused[layer] = "it takes no part in the model's output"
            continue
        channels = list(range(width_of(module) or 0))
        convolves = isinstance(module, _ConvNd)
        prune = tp.prune_conv_out_channels if convolves else tp.prune_linear_out_channels
        for c in channels:
            together.add((layer, c))
        for item in graph.get_pruning_group(module, prune, idxs=channels):
            why = _obstacle(graph, item, names)
            if why:
                refused.setdefault(layer, why)
            target = names.get(item.dep.target.module)
            if target is None or why:
                continue
            key = (target, item.dep.handler)
            dim = item.dep.target.pruning_dim
            losses = dependencies.setdefault(key, Dependency(*key, dim, {})).losses
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                losses.setdefault((layer, root), []).append(index)
                for partner in _partners(item.dep, target, index, roots):
                    together.add(partner)
                    together.merge((layer, root), partner)
    return ChannelGraph(tuple(roots), tuple(dependencies.values()), _units(together), refused)


def _units(together: DisjointSet) -> tuple[Unit, ...]:
    """The channels of each set; keys with negative numbers are ties, not channels."""
    units: defaultdict[Channel, list[Channel]] = defaultdict(list)
    for channel in together:
        if channel[1] >= 0:
            units[together[channel]].append(channel)
    return tuple(tuple(members) for members in units.values())


def _graph(model: nn.Module, example: Inputs) -> Any:
    def forward(model: nn.Module, inputs: Inputs) -> list[Tensor]:
        # torch-pruning itself would first try the samples of a batch as separate arguments.
        return [t for t in float_tensors(call_model(model, inputs)) if t.requires_grad]

    try:
        with torch.enable_grad():
            return tp.DependencyGraph().build_dependency(
                model,
                example_inputs=map_tensors(example, lambda t: t[:2]),
                forward_fn=forward,
                verbose=False,
            )
    except Exception as error:  # whatever the user's code or torch-pruning raises
        text = (str(error).splitlines() or [""])[0][:120]
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_of(example))
        raise InputError(
            f"an example of shape {shapes} ({type(error).__name__}: {text})",
            "samples with which the model's channels can be followed",
            "check that the model takes the example",
        ) from error


def _obstacle(graph: Any, item: Any, names: Mapping[Any, str]) -> str:
    """Why channels that reach this place cannot go, if so."""
    dep, module = item.dep, item.dep.target.module
    leaves = graph.is_out_channel_pruning_fn(dep.handler)
    if dep.target.type == tp.ops.OPTYPE.OUTPUT:
        return OUTPUT
    name = names.get(module)
    if name is None:
        return ""
    if leaves and not dep.target.outputs:  # what is last returns it
        return OUTPUT
    if isinstance(module, nn.LayerNorm):
        return f"its channels are normalised together by {name}"
    why = _odd_groups(module, name)
    size = (graph.get_out_channels if leaves else graph.get_in_channels)(dep.target)
    if not why and size is not None and max(item.idxs) >= size:
        why = f"torch-pruning loses track of its channels on the way to {name}"
    return why


def _odd_groups(module: nn.Module, name: str) -> str:
    """Why the channels of a grouped convolution cannot go, where torch-pruning would get it wrong."""
    if not isinstance(module, _ConvNd) or module.groups == 1 or is_depthwise(module):
        return ""
    if module.transposed:
        return f"its channels meet the grouped transposed convolution {name}"
    if module.in_channels != module.out_channels == module.groups:
        return f"its channels meet {name}, which gives several channels to one filter"
    return ""


def _partners(dep: Any, target: str, index: int, roots: Collection[str]) -> list[tuple[str, int]]:
    """What a channel is tied to at this place: the same name for all that can only go together."""
    module = dep.target.module
    ties = []
    leaves = "out" in dep.handler.__name__
    if isinstance(module, nn.Linear) and leaves and target in roots:
        ties.append((target, index))
    elif isinstance(module, _ConvNd):
        if leaves or is_depthwise(module):
            ties.append((target, index))
        if module.groups > 1 and not is_depthwise(module):
            # Every group must keep as many channels, and torch-pruning takes the same ones from each.
            size = (module.out_channels if leaves else module.in_channels) // module.groups
            ties.append((f"{target} {'out' if leaves else 'in'}", -1 - index % size))
    elif isinstance(module, nn.GroupNorm):
        # Statistics are those of a whole group, so a group stays or goes.
        ties.append((target, -1 - index // (module.num_channels // module.num_groups)))
    return ties


def _shrink_module(module: nn.Module, dependency: Dependency, lost: list[int]) -> None:
    size = module.num_channels // module.num_groups if isinstance(module, nn.GroupNorm) else 0
    dependency.shrink(module, lost)
    if isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_channels // size
