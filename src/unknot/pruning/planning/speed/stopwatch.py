"""Timing of one call with many numbers of channels, on a machine that does other things too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import nn

from unknot.nets.probe import Inputs, tensors_of
from unknot.nets.running import caller, n_samples
from unknot.nets.timing import Latency, latency_of, time_in_turns
from unknot.pruning.planning.speed.calls import Call, Store

Pair: TypeAlias = tuple[int, int]  # inputs, outputs
SHORT_MS = 3.0  # short calls are repeated until they took so long
FEWEST, MOST = 3, 20  # timed repeats


def time_call(call: Call, pairs: Sequence[Pair]) -> dict[Pair, float]:
    """Milliseconds of ``call`` with each of ``pairs`` of inputs and outputs: the fastest of some turns.

    What else the machine does only ever adds to a time; in turns, it hits none of the pairs each time.
    """
    store = Store(call)
    cuda = call.device.startswith("cuda")
    with torch.no_grad():
        whole = [call.prepare(store, call.inputs, call.outputs)]
        first = min(time_in_turns(whole, repeats=2, cuda=cuda)[0])
        repeats = min(MOST, max(FEWEST, math.ceil(SHORT_MS / first)))
        prepared = [call.prepare(store, *pair) for pair in pairs]
        times = time_in_turns(prepared, repeats=repeats, cuda=cuda)
    return {pair: min(taken) for pair, taken in zip(pairs, times, strict=True)}


def cost_of(n: int, milliseconds: float) -> float:
    """About how many seconds `time_call` takes for ``n`` pairs of a call of so many milliseconds."""
    repeats = min(MOST, max(FEWEST, SHORT_MS / milliseconds))
    making = 5.0  # ms, of a kernel for a new width
    return 1e-3 * n * (making + 0.6 * milliseconds * (repeats + 1 + repeats // 10))


def time_passes(models: Sequence[nn.Module], example: Inputs, seconds: float = 2.0) -> list[Latency]:
    """How long each of ``models`` takes for ``example``, in turns, within about so many seconds."""
    cuda = tensors_of(example)[0].device.type == "cuda"
    calls = [partial(caller(model, example), example) for model in models]
    with torch.no_grad():
        once = sum(min(taken) for taken in time_in_turns(calls, repeats=2, cuda=cuda))
        repeats = min(200, max(7, round(1e3 * seconds / once)))
        times = time_in_turns(calls, repeats=repeats, cuda=cuda)
    return [latency_of(n_samples(example), taken) for taken in times]
