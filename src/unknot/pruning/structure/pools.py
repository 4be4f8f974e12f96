"""Which channels of a model may go, and which only together; what cannot go is refused by layer name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import as_it_was, call_model, copied, float_tensors, placed
from unknot.pruning.structure.channels import (
    SECONDS,
    ChannelGraph,
    Pool,
    Removed,
    Units,
    channels_of,
    resolve,
    trace_facts,
)
from unknot.pruning.structure.layers import Layer, match_globs, width_of
from unknot.pruning.structure.tracing.facts import Facts
from unknot.pruning.structure.trials import (
    Deadline,
    Fault,
    Trial,
    disagreement,
    in_single_precision,
)

__all__ = ["Pool", "Removed", "Structure", "channels_of", "disagreement", "find_structure"]

MOST_TIED = 8  # layers of a module whose widths may be tied


@dataclass(frozen=True)
class Choices:
    """Between ways to cut a model whose code has shapes of its own.

    Attributes:
        banned: (number of a split, axis): along which whole slices do not go.
        tied: dotted names of modules whose inner width is that of their input.
    """

    banned: tuple[tuple[int, int], ...] = ()
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Structure:
    """What may go.

    Attributes:
        pools: of two units or more each, every one tried out.
        kept: {layer: why none of its channels may go}.
        graph: what goes with a channel.
        choices: made where shapes in the model's code left one way only to cut it.
    """

    pools: tuple[Pool, ...]
    kept: dict[str, str]
    graph: ChannelGraph
    choices: Choices


def find_structure(
    model: nn.Module,
    example: Inputs,
    ignored: Sequence[str] = (),
    linear: Sequence[str] = (),
    seconds: float = SECONDS,
    choices: Choices | None = None,
    *,
    progress: ShowProgress = "auto",
) -> Structure:
    """Find and try out what may go.

    Half of every pool is removed from a copy with jittered parameters, which is then compared with the
    copy whose channels are masked (`masked_outputs`): what it returns, and what its layers do on the way.
    Where the two differ, or the smaller one does not run, the pools to blame are refused.

    Args:
        model: unwrapped; not changed.
        example: a batch that the model takes; two samples are used.
        ignored: globs of layers that keep all of their channels.
        linear: names of the linear layers that may lose channels, beside all convolutions. Embeddings
            lose those that they share with these.
        seconds: for all of it.
        choices: those of an earlier round of pruning, which are kept.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: the model does not take the example, a glob matches no layer, or the time is over.
    """
    example = map_tensors(placed(example, model), lambda t: t[:2])
    layers = _followed(model, linear)
    globs = match_globs("ignored", ignored, layers, "layer")
    with step_bar("finding what may go", None, show=progress) as step:
        deadline = Deadline(seconds, step)
        facts = trace_facts(model, example, layers, seconds, step)
        with as_it_was(model):
            finite = all(bool(t.isfinite().all()) for t in float_tensors(call_model(model, example)))
        if not finite:
            raise InputError(
                "a model that returns NaN or infinity for the example", "finite outputs", "check both"
            )
        ignoring = {layer: f"ignored by {glob!r}" for layer, glob in globs.items()}
        tried, example = in_single_precision(jittered(model), example)
        chooser = _Chooser(model, facts, choices or Choices())
        while True:
            graph = resolve(model, facts, layers, chooser.banned, _width_ties(facts, chooser.tied))
            pools, kept = _pools(graph, graph.refused | ignoring)
            trial = Trial(tried, graph, example, deadline)
            # Shapes in a model's code may forbid one way to cut it, and allow another.
            refused: dict[Pool, Fault] = {}
            free, fault = pools, trial.fault(pools)
            while fault is not None and not chooser.others_after(fault, graph):
                refused |= trial.to_blame(free, fault)
                free = [pool for pool in free if pool not in refused]
                fault = trial.fault(free)
            if fault is None and not chooser.others_than(graph, refused):
                break
        for pool, fault in refused.items():
            kept |= {layer: fault.why for layer in pool.layers if layer not in kept}
        return Structure(tuple(free), kept, graph, chooser.choices(graph))


def follow_again(
    model: nn.Module, example: Inputs, linear: Sequence[str], choices: Choices, seconds: float = SECONDS
) -> ChannelGraph:
    """The graph of a structure that was found before, with nothing tried out; arguments as there."""
    layers = _followed(model, linear)
    facts = trace_facts(model, placed(example, model), layers, seconds)
    return resolve(model, facts, layers, choices.banned, _width_ties(facts, choices.tied))


def _followed(model: nn.Module, linear: Sequence[str]) -> list[str]:
    """Names of the layers whose channels are followed."""
    chosen = set(linear)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (_ConvNd, nn.Embedding)) or name in chosen
    ]


class _Chooser:
    """What is tried otherwise where a model does not run without some channels."""

    def __init__(self, model: nn.Module, facts: Facts, first: Choices) -> None:
        self.classes = {name: type(module) for name, module in model.named_modules()}
        self.facts = facts
        self.banned = set(first.banned)
        self.tied = list(first.tied)
        self.tried: set[type] = set()  # classes whose modules have their widths tied, if that tied any

    def others_after(self, fault: Fault, graph: ChannelGraph) -> bool:
        """Whether something is left to try for the module in which a smaller model stopped."""
        if not fault.crashed:
            return False
        for name in (fault.where, fault.where.rpartition(".")[0]):
            kind = self.classes.get(name) if name else None
            if kind is None:
                continue
            alike = [n for n, c in self.classes.items() if c is kind]  # their code is the same
            further = {(i, axis) for i, axis, _ in graph.splits if self.facts.splits[i].module in alike}
            if further - self.banned:
                self.banned |= further
                return True
            if kind not in self.tried:
                self.tried.add(kind)
                if _width_ties(self.facts, alike):
                    self.tied += alike
                    return True
        return False

    def choices(self, graph: ChannelGraph) -> Choices:
        """What was chosen, so that it is chosen again whatever is left of the model."""
        others = {(i, a) for i, axis, _ in graph.splits for a in self.facts.splits[i].axes if a != axis}
        return Choices(tuple(sorted(self.banned | others)), tuple(self.tied))

    def others_than(self, graph: ChannelGraph, refused: Mapping[Pool, Fault]) -> bool:
        """Whether something is left to try for the pools that may not lose any channel."""
        further = graph.splits_of(u for pool in refused for u in pool.units) - self.banned
        self.banned |= further
        return bool(further)


def _width_ties(facts: Facts, modules: Iterable[str]) -> list[tuple[Units, Units]]:
    """For modules that take their inner width from that of their input: they go one with one."""
    ties = []
    for module in modules:
        inside = [calls[0] for name, calls in facts.inputs.items() if name.startswith(f"{module}.")]
        by_width: dict[int, list[Units]] = {}
        for atoms in inside if len(inside) <= MOST_TIED else []:
            if (atoms > 0).all():
                by_width.setdefault(len(atoms), []).append(atoms)
        for first, *others in by_width.values():
            ties += [(first, other) for other in others if (first != other).any()]
    return ties


def _pools(graph: ChannelGraph, kept: dict[str, str]) -> tuple[list[Pool], dict[str, str]]:
    """The pools that may lose channels, and {layer: why none of its channels may go}."""
    pools: list[Pool] = []
    others: dict[str, str] = {}
    for pool in graph.pools():
        why = next((kept[layer] for layer in pool.layers if layer in kept), "")
        why = why or ("" if len(pool.units) > 1 else "its channels can only go together")
        if why:
            others |= {layer: why for layer in pool.layers if layer not in others}
        else:
            pools.append(pool)
    free = {layer for pool in pools for layer in pool.layers}
    return pools, {layer: why for layer, why in (others | kept).items() if layer not in free}


def require_structure_of(layers: Mapping[str, Layer], structure: Structure) -> None:
    """Refuse a structure of another model than the one with these ``layers``."""
    widths = structure.graph.layers
    for name, layer in layers.items():
        if widths.get(name) != width_of(layer):
            raise InputError(
                f"a structure with {widths.get(name, 0)} channels of layer {name}",
                f"{width_of(layer)} as in the model",
                "find the structure of this model, with the linear layers that are scored",
            )


def jittered(model: nn.Module) -> nn.Module:
    """A copy whose floating-point parameters differ a little from the model's, nowhere constant."""
    shaken = copied(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in shaken.parameters():
            if parameter.is_floating_point() and parameter.numel():
                size = float(parameter.float().square().mean().sqrt())
                noise = torch.randn(parameter.shape).to(parameter)
                parameter.add_(noise, alpha=0.1 * (size if size > 1e-3 else 1.0))
    return shaken
