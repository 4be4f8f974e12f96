"""What an activation costs: time and memory of a training step, in multiples of ReLU's.

Every activation is measured in every round, in random order, and compared with ReLU of the same
round, so that other work on the machine hits all alike; "relu again" shows what noise is left. A step
is forward, cross entropy, backward and Adam. Kept for backward: bytes of all distinct storages that
autograd saves in a step, without the parameters.

    python benchmarks/activations/activation_cost.py  # about 3 minutes, on a machine without other work
    python benchmarks/activations/activation_cost.py --quick    # a few rounds, to see that it works
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS, QFold, ZFold
from unknot.core.console import print_table, track
from unknot.core.files import write_text
from unknot.nets.models import cnn, mlp

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "activation_cost.json"
Step = Callable[[], None]


class Sin(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


FOLDS = ["zfold", "smooth_zfold", "qfold", "centred_abs", "triangle_wave"]
CONTROLS = ["zfold_held", "smooth_zfold_held", "qfold_held", "centred_relu"]
MEASURED: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu again": nn.ReLU,
    **{name: ACTIVATIONS[name] for name in ("gelu", "silu", "tanh", "hardtanh")},
    "sin": Sin,
    **{name: ACTIVATIONS[name] for name in FOLDS},
    "qfold, w = 2": partial(QFold, 2.0),
    "zfold, learnable": partial(ZFold, learnable=True),
    **{name: ACTIVATIONS[name] for name in CONTROLS},
}


def element_step(activation: Callable[[], nn.Module], device: str) -> Step:
    fold = activation().to(device)
    x = torch.randn(10**6, device=device, requires_grad=True)
    g = torch.randn(10**6, device=device)

    def step() -> None:
        x.grad = None
        fold(x).backward(g)

    return step


def training_step(model: nn.Module, x: Tensor, labels: Tensor) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def mlp_step(activation: Callable[[], nn.Module], device: str, batch: int) -> Step:
    torch.manual_seed(0)
    model = mlp(3, 2, activation=activation).to(device)
    x, labels = torch.randn(batch, 3, device=device), torch.randint(0, 2, (batch,), device=device)
    return training_step(model, x, labels)


def cnn_step(activation: Callable[[], nn.Module], device: str, batch_norm: bool = False) -> Step:
    torch.manual_seed(0)
    model = cnn(3, 10, activation=activation, batch_norm=batch_norm).to(device)
    x, labels = torch.randn(128, 3, 32, 32, device=device), torch.randint(0, 10, (128,), device=device)
    return training_step(model, x, labels)


WORK: dict[str, tuple[Callable[..., Step], int]] = {  # and how many steps are timed together
    "1e6 elements, forward + backward": (element_step, 2),
    "MLP 6 x 50, batch 128": (partial(mlp_step, batch=128), 10),
    "MLP 6 x 50, batch 512": (partial(mlp_step, batch=512), 8),
    "CNN 16-32-32 on 32 x 32, batch 128": (cnn_step, 1),
}


def measure(make: Callable[..., Step], repeat: int, rounds: int, device: str, label: str) -> list[Any]:
    """One record for each activation: ratios to ReLU, milliseconds and bytes kept."""
    steps = {name: make(activation, device) for name, activation in MEASURED.items()}
    kept = {name: kept_bytes(make, activation, device) for name, activation in MEASURED.items()}
    names, clocks = list(steps), np.zeros((rounds, len(steps), 2))
    order = np.random.default_rng(0)
    for name in names:
        timed(steps[name], 3 * repeat, device)
    for i in track(range(rounds), label):
        for j in order.permutation(len(names)):
            clocks[i, j] = timed(steps[names[j]], repeat, device)
    ratios = clocks / clocks[:, :1]
    return [
        {
            "activation": name,
            "ratio": quartiles(ratios[:, j, 0]),
            "cpu_ratio": quartiles(ratios[:, j, 1]) if device == "cpu" else None,
            "milliseconds": round(float(np.median(clocks[:, j, 0])) * 1e3, 4),
            "kept_bytes": kept[name],
            "kept_ratio": round(kept[name] / kept["relu"], 3),
        }
        for j, name in enumerate(names)
    ]


def timed(step: Step, repeat: int, device: str) -> tuple[float, float]:
    """Wall and processor seconds of one step."""
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeat):
        step()
    synchronize()
    return (time.perf_counter() - wall) / repeat, (time.process_time() - cpu) / repeat


def kept_bytes(make: Callable[..., Step], activation: Callable[[], nn.Module], device: str) -> int:
    """Bytes of the distinct storages that autograd saves in one step, without the parameters."""
    step = make(activation, device)
    storages: dict[int, int] = {}
    alive: list[Tensor] = []  # lest an address be used twice

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storages.values())


def quartiles(values: Any) -> list[float]:
    """Median, lower and upper quartile."""
    return [round(float(q), 4) for q in np.quantile(values, [0.5, 0.25, 0.75])]


def settings() -> list[tuple[str, int]]:
    cpu = [("cpu", threads) for threads in sorted({1, min(2, os.cpu_count() or 1)})]
    return [*cpu, ("cuda", 1)] if torch.cuda.is_available() else cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    rounds = 3 if parser.parse_args().quick else 40
    tables, load = [], os.getloadavg()
    for device, threads in settings():
        torch.set_num_threads(threads)
        for work, (make, repeat) in WORK.items():
            title = f"{work}; {device}, {threads} thread{'s' * (threads > 1)}"
            rows = measure(make, repeat, rounds, device, title)
            tables.append({"work": work, "device": device, "threads": threads, "rows": rows})
            columns = ["activation", "time / ReLU", "processor time / ReLU", "ms", "kept / ReLU"]
            print_table(title, columns, [cells(row) for row in rows])
    record = {
        **provenance("python benchmarks/activations/activation_cost.py"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "rounds": rounds,
        "load": {"before": load, "after": os.getloadavg()},
        "tables": tables,
    }
    if rounds > 3:
        write_text(RESULTS, json.dumps(record, indent=1))


def cells(row: dict[str, Any]) -> tuple[object, ...]:
    spans = [
        "" if r is None else f"{r[0]:.3f} [{r[1]:.3f}-{r[2]:.3f}]"
        for r in (row["ratio"], row["cpu_ratio"])
    ]
    return row["activation"], *spans, row["milliseconds"], row["kept_ratio"]


if __name__ == "__main__":
    main()
