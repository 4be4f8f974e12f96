"""Which channels of a model may go, and which only together; what cannot go is refused by layer name."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.probe import tensors_of
from unknot.nets.running import as_it_was, copied, float_tensors, placed
from unknot.pruning.structure.channels import ChannelGraph, Unit, trace_channels
from unknot.pruning.structure.layers import Layer, match_globs, width_of
from unknot.pruning.structure.masking import masked_outputs

Removed: TypeAlias = dict[str, list[int]]  # {layer: output channels, ascending}


@dataclass(frozen=True, eq=False)
class Pool:
    """Channels of the same layers, in units that go or stay as one.

    Attributes:
        layers: convolutions and linear layers, in the model's order; more than one where they share
            their channels.
        units: e.g. ``(("stem", 3), ("block.conv2", 3))`` for channel 3 of a residual sum.
    """

    layers: tuple[str, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, eq=False)
class Structure:
    """What may go.

    Attributes:
        pools: of two units or more each, every one tried out.
        kept: {layer: why none of its channels may go}.
        graph: what goes with a channel.
    """

    pools: tuple[Pool, ...]
    kept: dict[str, str]
    graph: ChannelGraph


def channels_of(units: Iterable[Unit]) -> Removed:
    """The channels of some units by layer."""
    removed: defaultdict[str, list[int]] = defaultdict(list)
    for unit in units:
        for layer, channel in unit:
            removed[layer].append(channel)
    return {layer: sorted(channels) for layer, channels in removed.items()}


def find_structure(
    model: nn.Module, example: Tensor, ignored: Sequence[str] = (), linear: Sequence[str] = ()
) -> Structure:
    """Find and try out what may go.

    Half of every pool is removed from a copy with jittered parameters, which is then compared with the
    copy whose channels are masked (`masked_outputs`). Where the two differ, or the smaller one does not
    run, the pools are halved until those to blame are alone; their layers are refused.

    Args:
        model: unwrapped; not changed.
        example: a batch ``[n, ...]`` that the model takes; two samples are used.
        ignored: globs of layers that keep all of their channels.
        linear: names of the linear layers that may lose channels, beside all convolutions.

    Raises:
        InputError: the model does not take the example, or a glob matches no layer.
    """
    (example,) = tensors_of(placed(example[:2], model))
    graph = trace_channels(model, example, linear)
    with as_it_was(model):
        finite = all(bool(t.isfinite().all()) for t in float_tensors(model(example)))
    if not finite:
        raise InputError(
            "a model that returns NaN or infinity for the example", "finite outputs", "check both"
        )
    globs = match_globs("ignored", ignored, graph.layers, "convolution")
    kept = graph.refused | {layer: f"ignored by {glob!r}" for layer, glob in globs.items()}
    pools = []
    for layers, units in graph.units_of_layers().items():
        why = next((kept[layer] for layer in layers if layer in kept), "")
        why = why or ("" if len(units) > 1 else "its channels can only go together")
        if why:
            kept |= {layer: why for layer in layers if layer not in kept}
        else:
            pools.append(Pool(layers, tuple(units)))
    trial = _Trial(model, graph, example)
    for pool, why in trial.refusals(pools).items():
        kept |= {layer: why for layer in pool.layers if layer not in kept}
    free = [p for p in pools if not kept.keys() & set(p.layers)]
    return Structure(tuple(free), kept, graph)


def require_structure_of(layers: Mapping[str, Layer], structure: Structure) -> None:
    """Refuse a structure of another model than the one with these ``layers``."""
    widths = Counter(layer for unit in structure.graph.units for layer, _ in unit)
    for name, layer in layers.items():
        # A layer that takes no part in the output has no units.
        if name not in structure.graph.layers or widths[name] not in (0, width_of(layer)):
            raise InputError(
                f"a structure with {widths[name]} channels of layer {name}",
                f"{width_of(layer)} as in the model",
                "find the structure of this model, with the linear layers that are scored",
            )


def disagreement(
    graph: ChannelGraph, model: nn.Module, removed: Removed, example: Tensor, tolerance: float = 1e-4
) -> str:
    """Why ``model`` pruned is not ``model`` masked; empty where they agree.

    They do to ``tolerance`` of the largest absolute output.
    """
    expected = masked_outputs(model, removed, example)
    if any(bool(t.isnan().any()) for t in expected):
        return "its channels reach the output, or an operation that mixes channels"
    try:
        slim = graph.without(model, removed)
        with as_it_was(slim):
            outputs = list(float_tensors(slim(example)))
    except Exception as error:  # whatever the user's code or torch-pruning raises
        text = (str(error).splitlines() or [""])[0][:100]
        return f"the model does not run without them ({type(error).__name__}: {text})"
    widths = [[width_of(m.get_submodule(n)) or 0 for n in graph.layers] for m in (model, slim)]
    losses = [len(removed.get(layer, ())) for layer in graph.layers]
    if any(a - n != b for a, b, n in zip(*widths, losses, strict=True)):
        return "other channels would go with them"
    if [t.shape for t in outputs] != [t.shape for t in expected]:
        return "its channels are the model's output"
    for a, b in zip(outputs, expected, strict=True):
        if b.numel() and not float((a - b).abs().max()) <= tolerance * float(b.abs().max()) + 1e-7:
            return "the model would compute something else than without them"
    return ""


class _Trial:
    """Tries removals on a copy whose parameters are jittered, lest zeros hide a fault."""

    def __init__(self, model: nn.Module, graph: ChannelGraph, example: Tensor) -> None:
        self.model, self.graph, self.example = jittered(model), graph, example
        self.rng = random.Random(0)

    def refusals(self, pools: list[Pool]) -> dict[Pool, str]:
        refused = self._blame(pools)
        accepted: list[Pool] = []
        if self._fault([p for p in pools if p not in refused]):  # fine alone, not together
            for pool in pools:
                if pool not in refused:
                    why = self._fault([*accepted, pool])
                    if why:
                        refused[pool] = why
                    else:
                        accepted.append(pool)
        return refused

    def _blame(self, pools: list[Pool]) -> dict[Pool, str]:
        why = self._fault(pools)
        if not why or len(pools) == 1:
            return {pools[0]: why} if why else {}
        half = len(pools) // 2
        return self._blame(pools[:half]) | self._blame(pools[half:])

    def _fault(self, pools: list[Pool]) -> str:
        units = [u for p in pools for u in self.rng.sample(p.units, len(p.units) // 2)]
        return disagreement(self.graph, self.model, channels_of(units), self.example) if units else ""


def jittered(model: nn.Module) -> nn.Module:
    """A copy whose floating-point parameters differ a little from the model's, nowhere constant."""
    jittery = copied(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in jittery.parameters():
            if parameter.is_floating_point() and parameter.numel():
                size = float(parameter.float().square().mean().sqrt())
                noise = torch.randn(parameter.shape).to(parameter)
                parameter.add_(noise, alpha=0.1 * (size if size > 1e-3 else 1.0))
    return jittery
