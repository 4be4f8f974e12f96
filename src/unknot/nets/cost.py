"""Cost: parameters, MACs, bytes, memory and latency of a model; and how two models compare."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import require_count
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import (
    as_example,
    as_it_was,
    call_model,
    caller,
    copied,
    n_samples,
    placed,
    unwrapped,
)
from unknot.nets.timing import Latency, Speed, latency_of, speed_of, time_in_turns

BATCH_SIZES = (1, 64)
ACTIVATIONS = "peak activation memory, bytes"
LATENCY = "latency at batch {} in ms"


def _attention_flops(query: Any, key: Any, value: Any, *_others: Any, **_named: Any) -> int:
    """Of shapes ``[b, heads, t, d]`` of both products."""
    return 2 * int(query[0] * query[1] * query[2] * key[2] * (query[3] + value[3]))


def _recurrent_flops(inputs: Any, weights: Any, recurrent: Any, *_others: Any, **_named: Any) -> int:
    """Of shapes ``[t, n, d]``, ``[gates, d]`` and ``[gates, hidden]``."""
    return 2 * int(inputs[0] * inputs[1] * weights[0] * (weights[1] + recurrent[1]))


# What torch's counter lacks, of the CPU.
_UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
}


@dataclass(frozen=True, repr=False)
class Cost(Tabular):
    """What a model takes, in memory and for a forward pass.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulates of convolutions and matrix products for one sample (half of what
            torch's flop counter counts).
        bytes: parameters and buffers in memory.
        latency_ms, latency_iqr_ms: median and interquartile range of a forward pass of the example batch,
            in milliseconds.
        batch_size: samples in the example.
        device: where it ran, e.g. "cpu".
        threads: torch's intra-op threads while timing.
        activation_bytes: of the example batch, see `peak_activation_bytes`; None where not measured.
        latencies: at the batch sizes asked for, 1 and 64 by default.
    """

    parameters: int
    macs: int
    bytes: int
    latency_ms: float
    latency_iqr_ms: float
    batch_size: int
    device: str
    threads: int
    activation_bytes: int | None = None
    latencies: tuple[Latency, ...] = ()

    def quantities(self) -> dict[str, float]:
        """The numbers by what they are, for tables; those of the latencies have their batch sizes."""
        activations = {} if self.activation_bytes is None else {ACTIVATIONS: self.activation_bytes}
        times = {LATENCY.format(time.batch_size): time.median_ms for time in self.latencies}
        counted = {"parameters": self.parameters, "MACs per sample": self.macs, "bytes": self.bytes}
        return {**counted, **activations, **(times or {LATENCY.format(self.batch_size): self.latency_ms})}

    def _columns(self) -> dict[str, list[Any]]:
        quantities = self.quantities()
        return {"what": list(quantities), "value": list(quantities.values())}

    def _title(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        return f"Cost on {self.device}{threads}, example of {self.batch_size:,} samples"


@dataclass(frozen=True, repr=False)
class CostComparison(Tabular):
    """Two models on one example.

    Attributes:
        before, after: their costs.
        speeds: the second's time over the first's at each batch size, of passes that took turns.
    """

    before: Cost
    after: Cost
    speeds: tuple[Speed, ...]

    def _columns(self) -> dict[str, list[Any]]:
        return compared(self.before.quantities(), self.after.quantities())

    def _title(self) -> str:
        return self.verdict

    def plot(self, ax: Any = None) -> Any:
        """Draw what is left of each quantity.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: matplotlib is not installed.
        """
        columns = self._columns()
        (axes,) = drawing.axes_for(ax, 6, 1 + 0.35 * len(columns["what"]))
        drawing.ratio_bars(axes, columns["what"], columns["before"], columns["after"])
        return axes

    @property
    def verdict(self) -> str:
        """Whether the second is faster, in plain sentences."""
        where = f"on {self.after.device}"
        if self.after.device == "cpu":
            where += f", {self.after.threads} thread" + "s" * (self.after.threads != 1)
        sentences = [
            f"at batch {speed.batch_size} it takes {speed}"
            if speed.faster
            else f"at batch {speed.batch_size} there are too few timed passes to tell: {speed}"
            if speed.high == math.inf
            else f"at batch {speed.batch_size} the timings scatter too much to tell: {speed}"
            if speed.undecided
            else f"at batch {speed.batch_size} it is not faster: {speed}"
            for speed in self.speeds
        ]
        timings = f"Against the original, {where}: {'; '.join(sentences)}."
        if all(speed.faster or speed.undecided for speed in self.speeds):
            return timings
        share = self.after.macs / self.before.macs if self.before.macs else 1.0
        return (
            f"{timings} It has {share:.0%} of the multiply-accumulates, but where the time goes into "
            "calling many small operations or moving data, fewer of them save none."
        )


def compared(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, list[Any]]:
    """Columns "what", "before", "after" and "ratio" (None of nothing) of what both name."""
    names = [name for name in before if name in after]
    ratios = [after[name] / before[name] if before[name] else None for name in names]
    return {
        "what": names,
        "before": [before[name] for name in names],
        "after": [after[name] for name in names],
        "ratio": ratios,
    }


def measure_cost(
    model: nn.Module,
    example: Inputs,
    *,
    repeats: int = 50,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    progress: ShowProgress = "auto",
) -> Cost:
    """Measure one model; `compare_cost`, which explains the arguments, is fairer for two."""
    return _measure((model,), example, repeats, batch_sizes, progress)[0][0]


def compare_cost(
    before: nn.Module,
    after: nn.Module,
    example: Inputs,
    *,
    repeats: int = 50,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    progress: ShowProgress = "auto",
) -> CostComparison:
    """The cost of two models on one example, their timed passes taking turns.

    Taking turns spreads whatever else the machine does evenly over both, and lets each round be
    compared with itself.

    Args:
        before, after: measured in eval mode on copies, where ``before`` is: on the CPU, or on a GPU by
            CUDA events.
        example: a batch that both take: a tensor ``[n, ...]``, or a tuple or dict of such, the
            positional or keyword arguments.
        repeats: timed forward passes after a tenth as many to warm up; at least six of them, and no
            more once they took five seconds.
        batch_sizes: further batches to time, made of the example's samples, over and over if need be.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.
    """
    costs, times = _measure((before, after), example, repeats, batch_sizes, progress)
    sizes = sorted(set(batch_sizes)) or sorted(times)
    speeds = tuple(speed_of(size, *times[size]) for size in sizes)
    return CostComparison(costs[0], costs[1], speeds)


def count_macs(model: nn.Module, example: Inputs) -> int:
    """Multiply-accumulates of convolutions and matrix products for one sample, in eval mode.

    Args:
        model: any module that takes the example.
        example: a batch as of `compare_cost`, whose total is divided by its size; it is moved to the
            model's device and precision.

    Raises:
        InputError: an example that is no batch, or that the model does not take.
    """
    model, example = unwrapped(model), as_example(example)
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:  # the counter stumbles over a view of one that enters a module
            parameter.requires_grad_(False)
        with as_it_was(model), counter:
            call_model(model, placed(example, model))
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    return round(int(counter.get_total_flops()) / 2 / n_samples(example))


def _measure(
    models: tuple[nn.Module, ...],
    example: Inputs,
    repeats: int,
    batch_sizes: Sequence[int],
    progress: ShowProgress,
) -> tuple[list[Cost], dict[int, list[list[float]]]]:
    """The costs, and {batch size: the times of each model}, that of the example among them."""
    require_count("repeats", repeats)
    sizes = {require_count("batch_sizes", size) for size in batch_sizes}
    copies = [copied(unwrapped(model)).eval() for model in models]
    example = placed(as_example(example), copies[0])
    n, device = n_samples(example), tensors_of(example)[0].device
    times = {}
    bar = step_bar("measuring cost", 1 + len(sizes | {n}), show=progress, timed=True)
    with torch.no_grad(), bar as step:
        step("counting")
        macs = [count_macs(model, example) for model in copies]
        memory = [peak_activation_bytes(model, example) for model in copies]
        for size in sorted(sizes | {n}):
            step(f"timing batch {size}")
            batch = batch_of(example, size)
            calls = [partial(caller(model, batch), batch) for model in copies]
            times[size] = time_in_turns(calls, repeats=repeats, cuda=device.type == "cuda")
    costs = []
    for i, model in enumerate(copies):
        latencies = {size: latency_of(size, taken[i]) for size, taken in times.items()}
        costs.append(
            Cost(
                parameters=sum(p.numel() for p in model.parameters()),
                macs=macs[i],
                bytes=sum(t.numel() * t.element_size() for t in model.state_dict().values()),
                latency_ms=latencies[n].median_ms,
                latency_iqr_ms=latencies[n].iqr_ms,
                batch_size=n,
                device=str(device),
                threads=torch.get_num_threads(),
                activation_bytes=memory[i],
                latencies=tuple(latencies[size] for size in sorted(sizes)),
            )
        )
    return costs, times


def batch_of(example: Inputs, size: int) -> Inputs:
    """The example's samples, over and over, as a batch of ``size``."""
    return map_tensors(example, lambda t: t[torch.arange(size, device=t.device) % len(t)])


def peak_activation_bytes(model: nn.Module, example: Inputs) -> int:
    """The most bytes that a forward pass in eval mode holds at one time beyond weights and input.

    On a GPU what the allocator reports, workspaces included. On the CPU every operation's results are
    followed until they are freed: the same number on every machine, but without what a kernel takes for
    itself, and with the fused folds counted as the operations that they stand for.

    Args:
        model: any module that takes the example.
        example: a batch as of `compare_cost`; it is moved to the model's device and precision, which
            counts not.

    Raises:
        InputError: an example that is no batch, or that the model does not take.
    """
    model = unwrapped(model)
    example = placed(as_example(example), model)
    device = tensors_of(example)[0].device
    with as_it_was(model):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            call_model(model, example)
            return int(torch.cuda.max_memory_allocated(device)) - before
        known = [*tensors_of(example), *model.parameters(), *model.buffers()]
        with _Following(t.untyped_storage() for t in known if t.layout is torch.strided) as following:
            call_model(model, example)
        return int(following.peak)


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, each until it is freed."""

    def __init__(self, known: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        # By address of the storage itself; an address is free again when its storage is dead.
        self.seen: dict[int, Any] = {storage._cdata: storage for storage in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor) and value.layout is torch.strided:
                self._see(value.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self.seen:
            return
        self.now += size

        def freed(_reference: Any) -> None:
            self.now -= size
            del self.seen[address]

        self.seen[address] = weakref.ref(storage, freed)
