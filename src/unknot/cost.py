"""Cost: parameters, MACs, bytes and latency of a model."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unknot.errors import InputError, require_count


@dataclass(frozen=True)
class Cost:
    """What one forward pass takes.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulates of convolutions and matrix products, for the whole example batch
            (half of what torch's flop counter counts).
        bytes: parameters and buffers in memory.
        latency_ms: median milliseconds of a forward pass of the example batch.
        latency_iqr_ms: interquartile range of the same repeats, in milliseconds.
        batch_size: samples in the example.
        device: where it ran, e.g. "cpu".
        threads: torch's intra-op threads while timing.
    """

    parameters: int
    macs: int
    bytes: int
    latency_ms: float
    latency_iqr_ms: float
    batch_size: int
    device: str
    threads: int


def measure_cost(model: nn.Module, example: Tensor, *, repeats: int = 50) -> Cost:
    """Measure one model; see `compare_cost`, which is fairer for two.

    Args:
        model: moved nowhere; measured in eval mode on a copy.
        example: a batch ``[n, ...]`` that the model takes, on the model's device.
        repeats: timed forward passes after a tenth as many to warm up.
    """
    return compare_cost((model,), example, repeats=repeats)[0]


def compare_cost(
    models: tuple[nn.Module, ...], example: Tensor, *, repeats: int = 50
) -> tuple[Cost, ...]:
    """The cost of several models on one example, their timed passes taking turns.

    Interleaving spreads whatever else the machine does evenly over the models.
    """
    require_count("repeats", repeats)
    if example.ndim == 0 or len(example) == 0:
        raise InputError(
            f"example of shape {tuple(example.shape)}", "at least one sample", "pass a batch"
        )
    copies = [copy.deepcopy(model).eval() for model in models]
    times: list[list[float]] = [[] for _ in copies]
    with torch.no_grad():
        macs = [_count_macs(model, example) for model in copies]
        for repeat in range(-(repeats // 10) - 1, repeats):
            for model, taken in zip(copies, times, strict=True):
                elapsed = _time_forward(model, example)
                if repeat >= 0:
                    taken.append(elapsed)
    return tuple(
        Cost(
            parameters=sum(p.numel() for p in model.parameters()),
            macs=count,
            bytes=sum(t.numel() * t.element_size() for t in model.state_dict().values()),
            latency_ms=statistics.median(taken),
            latency_iqr_ms=_interquartile_range(taken),
            batch_size=len(example),
            device=str(example.device),
            threads=torch.get_num_threads(),
        )
        for model, count, taken in zip(copies, macs, times, strict=True)
    )


def _count_macs(model: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        model(example)
    return int(counter.get_total_flops()) // 2


def _time_forward(model: nn.Module, example: Tensor) -> float:
    if example.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    model(example)
    if example.is_cuda:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def _interquartile_range(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return high - low
