"""Run a model on samples and keep what its layers return. The only forward hooks in the project."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unknot.errors import InputError, require_count

INPUT = "input"


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What one call of one module returned for every sample.

    Attributes:
        layer: dotted module name, or "input" for the samples themselves.
        call: 0 for the module's first call in a forward pass, 1 for the second, ...
        values: ``[n, ...]`` on the CPU, in the order of the samples, detached.
    """

    layer: str
    call: int
    values: Tensor

    def numpy(self) -> Any:
        """float32 or float64 array ``[n, d]``, half precision widened to float32."""
        flat = self.values.flatten(1) if self.values.ndim > 1 else self.values[:, None]
        return (flat if flat.dtype == torch.float64 else flat.float()).numpy()


def probe_samples(
    loader: Iterable[Any] | Tensor, *, max_points: int = 1000, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """A seeded sample of a loader, stratified by class, in one pass and bounded memory.

    Args:
        loader: yields ``(inputs, labels)`` or inputs alone; or one tensor of inputs.
        max_points: at most this many samples in all; every class keeps its share, and at least one.

    Returns:
        inputs ``[n, ...]`` and labels int64 ``[n]`` (None where the loader gives none), in the
        loader's order.
    """
    require_count("max_points", max_points, minimum=2)
    rng = np.random.default_rng(seed)
    seen: Counter[int] = Counter()
    kept: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)  # a reservoir for each class
    labelled = False
    position = 0
    for batch in [loader] if isinstance(loader, Tensor) else loader:
        inputs, labels = _split(batch)
        labelled = labels is not None
        for row, label in zip(inputs, labels.tolist() if labels is not None else [0] * len(inputs),
                              strict=True):  # fmt: skip
            seen[label] += 1
            if len(kept[label]) < max_points:
                kept[label].append((position, row))
            elif (slot := int(rng.integers(seen[label]))) < max_points:
                kept[label][slot] = (position, row)
            position += 1
    if not seen:
        raise InputError("a loader without samples", "at least one batch", "check the data")
    share = min(1.0, max_points / position)
    chosen: list[tuple[int, Tensor, int]] = []
    for label, reservoir in kept.items():
        size = max(1, int(seen[label] * share))
        picks = rng.choice(len(reservoir), min(size, len(reservoir)), replace=False)
        chosen += [(*reservoir[pick], label) for pick in picks]
    chosen.sort(key=lambda sample: sample[0])
    return torch.stack([row for _, row, _ in chosen]), (
        torch.tensor([label for *_, label in chosen]) if labelled else None
    )


def matching_layers(model: nn.Module, layers: str | Iterable[str]) -> dict[str, nn.Module]:
    """The modules whose dotted name matches one of the globs; "*" means every leaf module.

    Raises:
        InputError: a glob matches nothing; names that come near are listed.
    """
    named = {name: module for name, module in model.named_modules() if name} or {"": model}
    chosen: dict[str, nn.Module] = {}
    for glob in [layers] if isinstance(layers, str) else layers:
        if glob == "*":
            found = {n: m for n, m in named.items() if next(m.children(), None) is None}
        else:
            found = {n: m for n, m in named.items() if fnmatchcase(n, glob)}
        if not found:
            near = difflib.get_close_matches(glob, named, n=5, cutoff=0.3) or list(named)[:5]
            raise InputError(
                f"layers = {glob!r}", "a glob that matches a module", f"try {', '.join(near)}"
            )
        chosen |= found
    return {name: module for name, module in named.items() if name in chosen}


def capture(
    model: nn.Module,
    inputs: Tensor,
    *,
    layers: str | Iterable[str] = "*",
    batch_size: int = 256,
) -> tuple[LayerOutput, ...]:
    """Run ``model`` in eval mode without gradients and collect the outputs of its layers.

    The model comes back as it was: the training flag of every module, the random state and the hooks.
    A module that returns a tuple or list is represented by its first tensor; one that returns no
    tensor with one row a sample, or did not run, is left out.

    Args:
        inputs: ``[n, ...]``, moved to the model's device batch by batch.
        layers: glob or globs over dotted module names; "*" is every leaf.

    Returns:
        The input first, then each layer in the order in which it first ran.
    """
    chosen = matching_layers(model, layers)
    pieces: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    calls: Counter[str] = Counter()
    first = next(model.parameters(), torch.empty(0))

    def keep(name: str, size: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        tensor = output
        if isinstance(output, (tuple, list)):
            tensor = next((item for item in output if isinstance(item, Tensor)), None)
        if isinstance(tensor, Tensor) and tensor.ndim > 0 and tensor.shape[0] == size:
            pieces[name, calls[name]].append(tensor.detach().cpu())
            calls[name] += 1

    with _as_it_was(model), torch.no_grad():
        for batch in torch.split(inputs, batch_size):
            calls.clear()
            handles = [
                module.register_forward_hook(partial(keep, name, len(batch)))
                for name, module in chosen.items()
            ]
            try:
                model(batch.to(first.device))
            except (RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    f"a batch of shape {tuple(batch.shape)} ({str(error).splitlines()[0][:120]})",
                    "samples that the model takes",
                    "check the shape and type of what the loader yields",
                ) from error
            finally:
                for handle in handles:
                    handle.remove()
    outputs = [LayerOutput(INPUT, 0, inputs.detach().cpu())]
    outputs += [LayerOutput(name, call, torch.cat(parts)) for (name, call), parts in pieces.items()]
    return tuple(outputs)


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, flag in training.items():
            module.training = flag


def _split(batch: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and len(batch) >= 1 and isinstance(batch[0], Tensor):
        labels = batch[1] if len(batch) > 1 else None
        if labels is None or (isinstance(labels, Tensor) and labels.shape == batch[0].shape[:1]):
            return batch[0], labels
    raise InputError(
        f"a batch of type {type(batch).__name__}",
        "a tensor, or (inputs, labels) with one label a sample",
        "wrap the loader so that it yields such pairs",
    )
