"""Removals tried out: the pruned model beside the masked one, and which channels are to blame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import copied, hooked, hooked_before
from unknot.pruning.structure.channels import ChannelGraph, Pool, Removed, channels_of
from unknot.pruning.structure.masking import Run, masked_run, recorded_run

TOLERANCE = 1e-4  # of the largest absolute value of a tensor


class Deadline:
    """When what takes long is given up; ``tell`` is called with where it is at."""

    def __init__(self, seconds: float, tell: Callable[[str], None] = lambda where: None) -> None:
        self.seconds, self.end, self.tell = seconds, time.monotonic() + seconds, tell

    def check(self, where: str) -> None:
        """
        Raises:
            InputError: the time is over; ``where`` it was at, e.g. a layer.
        """
        self.tell(where)
        if time.monotonic() > self.end:
            raise InputError(
                f"a model that cannot be planned for within {self.seconds:g} s, at {where}",
                "a smaller example, or more time",
                "pass fewer or smaller samples, name layers to leave alone (ignored), or raise seconds",
            )


@dataclass(frozen=True)
class Fault:
    """Why a removal is none that can be made, and the layer or module where it shows."""

    why: str
    where: str = ""
    crashed: bool = False


def in_single_precision(model: nn.Module, example: Inputs) -> tuple[nn.Module, Inputs]:
    """Both in float32 where the model has less: its rounding would hide what is to be compared."""
    if not any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        return model, example
    return copied(model).float(), map_tensors(
        example, lambda t: t.float() if t.is_floating_point() else t
    )


def disagreement(
    graph: ChannelGraph, model: nn.Module, removed: Removed, example: Inputs
) -> Fault | None:
    """Where ``model`` pruned is not ``model`` masked; None where they agree in all that was computed.

    They are compared in what they return and in what each layer returns on the way, to `TOLERANCE`.
    Where there is nothing to compare, another example is drawn once.
    """
    fault, compared = _compare(graph, model, removed, example)
    if fault is None and not compared:
        fault, compared = _compare(graph, model, removed, _redrawn(example))
    if fault is None and not compared:
        return Fault("nothing that the model computes tells whether it is still the same")
    return fault


def _compare(
    graph: ChannelGraph, model: nn.Module, removed: Removed, example: Inputs
) -> tuple[Fault | None, bool]:
    """A fault, and whether any number other than 0 was compared."""
    expected = masked_run(model, removed, example, graph.layers)
    running: list[str] = []
    try:
        slim = graph.without(model, removed)
        with _entered(slim, running):
            found = recorded_run(slim, example, graph.layers)
    except Exception as error:  # whatever the user's code raises
        text = (str(error.__cause__ or error).splitlines() or [""])[0][:100]
        name = type(error.__cause__ or error).__name__
        where = running[-1] if running else ""
        return Fault(f"the model does not run without them ({name}: {text})", where, True), True
    fault = _first_difference(expected, found, removed)
    values = [*expected.outputs, *(t for calls in expected.layers.values() for t in calls)]
    return fault, any(bool((t.nan_to_num(0.0) != 0).any()) for t in values)


def _first_difference(expected: Run, found: Run, removed: Removed) -> Fault | None:
    for layer, calls in expected.layers.items():
        gone = set(removed.get(layer, ()))
        others = found.layers.get(layer, [])
        if len(calls) != len(others):
            return Fault("the model would run other layers than without them", layer)
        for wanted, given in zip(calls, others, strict=True):
            stays = [c for c in range(wanted.shape[-1]) if c not in gone]
            if given.shape[-1] != len(stays):
                return Fault("other channels would go with them", layer)
            why = _difference(_unmarked(wanted[..., stays], given.shape), given)
            if why:
                return Fault(why, layer)
    if len(expected.outputs) != len(found.outputs):
        return Fault("the model would return something else than without them")
    for wanted, given in zip(expected.outputs, found.outputs, strict=True):
        why = _difference(wanted, given)
        if why:
            return Fault(why)
    return None


def _unmarked(wanted: Tensor, shape: torch.Size) -> Tensor:
    """Without what is marked along axes that are shorter in ``shape``, e.g. in a layer along tokens."""
    for axis in range(min(wanted.ndim, len(shape))):
        if wanted.shape[axis] > shape[axis]:
            marked = wanted.isnan().movedim(axis, 0).flatten(1).all(1)
            wanted = wanted.index_select(axis, (~marked).nonzero().flatten())
    return wanted


def _difference(wanted: Tensor, given: Tensor) -> str:
    if bool(wanted.isnan().any()):
        return "its channels reach the output, or an operation that mixes channels"
    if wanted.shape != given.shape:
        return "a tensor that its channels reach would change its shape"
    limit = TOLERANCE * float(wanted.abs().max()) + 1e-7 if wanted.numel() else 0.0
    if wanted.numel() and not float((wanted - given).abs().max()) <= limit:
        return "the model would compute something else than without them"
    return ""


def _redrawn(example: Inputs) -> Inputs:
    """Another example: normal values of the same size, whole numbers in another order."""
    generator = torch.Generator().manual_seed(1)

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            return tensor.flatten()[order].view(tensor.shape)
        size = float(tensor.float().square().mean().sqrt()) or 1.0
        return (size * torch.randn(tensor.shape, generator=generator)).to(tensor)

    return map_tensors(example, draw)


@contextmanager
def _entered(model: nn.Module, running: list[str]) -> Iterator[None]:
    """``running`` as the names of the modules that run, outermost first."""
    modules = {n: m for n, m in model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}

    def leave(*_: object) -> None:
        running.pop()

    with hooked_before(modules, lambda name, *_: running.append(name)), hooked(modules, leave):
        yield


class Trial:
    """Tries removals on a copy whose parameters are jittered, lest zeros hide a fault."""

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, example: Inputs, deadline: Deadline
    ) -> None:
        self.model, self.graph, self.example, self.deadline = model, graph, example, deadline

    def to_blame(self, pools: list[Pool], fault: Fault) -> dict[Pool, Fault]:
        """{pool that may not lose any: why}: some of those to blame for what is wrong with all."""
        near = self.graph.handled.get(fault.where, set()) | set(
            self.graph.inputs.get(fault.where, np.array([-1])).tolist()
        )
        suspects = [p for p in pools if any(self.graph.numbers[u[0]] in near for u in p.units)]
        if not suspects or len(suspects) == len(pools) or self.fault(suspects) is None:
            suspects = pools
        blamed = self._faulty_alone(suspects)
        if blamed:
            return blamed
        # Fine alone, not together: those that come last must not go.
        accepted = [p for p in pools if p not in suspects]
        for pool in suspects:
            alone = self.fault([*accepted, pool])
            if alone is None:
                accepted.append(pool)
            else:
                blamed[pool] = alone
        return blamed or dict.fromkeys(pools, fault)

    def _faulty_alone(self, pools: list[Pool]) -> dict[Pool, Fault]:
        fault = self.fault(pools)
        if fault is None or len(pools) == 1:
            return {pools[0]: fault} if fault else {}
        half = len(pools) // 2
        return self._faulty_alone(pools[:half]) | self._faulty_alone(pools[half:])

    def fault(self, pools: Sequence[Pool]) -> Fault | None:
        """What is wrong once each of the pools has lost some of its units."""
        if not pools:
            return None
        self.deadline.check(f"layer {pools[0].layers[0]}")
        units = [u for p in pools for u in p.some()]
        return disagreement(self.graph, self.model, channels_of(units), self.example)
