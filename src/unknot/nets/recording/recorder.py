"""Run a model on samples and keep what its layers return."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.errors import InputError, require_choice, require_count
from unknot.core.memory import LIMIT_VARIABLE, memory_limit
from unknot.nets.follower import (
    OUTPUT,
    After,
    Follower,
    Key,
    Place,
    Step,
    in_company,
    run_seen,
    run_trial,
)
from unknot.nets.probe import Inputs, Probe, as_inputs, tensors_of
from unknot.nets.recording.lockstep import Layers, Lockstep, in_distances
from unknot.nets.recording.outputs import (
    INPUT,
    INPUT_BESIDE,
    LayerOutput,
    LayerReading,
    LayerShape,
    Tokens,
)
from unknot.nets.recording.sweeps import Section, plan_sections
from unknot.nets.running import is_leaf, matching_layers, plain_name, unwrapped

# Layer outputs held at once; a model that returns more is run several times.
PASS_BYTES = 1 << 30
# Their outputs [n, c, l] are channels over a line, not a sequence of tokens [n, t, d].
_CHANNELS_FIRST = (
    nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm,
    nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d,
)  # fmt: skip
_TOKENS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)


def capture(
    model: nn.Module,
    inputs: Any,
    *,
    layers: str | Iterable[str] = "*",
    tokens: Tokens = "all",
    after: After = "module",
    batch_size: int = 1024,
) -> tuple[LayerOutput, ...]:
    """What a `Recording` of ``model`` gives for ``inputs``, in memory at once and without its `OUTPUT`.

    The input comes first where it is floating point, then each layer in the order in which it first ran.

    Args:
        model: any module; it comes back as it was.
        inputs: an array ``[n, ...]``; or a tuple of such (positional arguments) or a dict (keywords).
        layers: glob or globs over dotted module names; "*" is every module that `is_layer`.
        tokens: of a sequence ``[n, t, d]``: "mean" over its tokens, the "first", the "last", or "all".
        after: for convolutions: "module", or the "activation" or "pooling" that follows.
        batch_size: samples run at once; fewer where they would not fit.

    Raises:
        InputError: as of `Recording`.
    """
    recording = Recording(
        model, Probe(as_inputs(inputs)), layers=layers, tokens=tokens, after=after, batch_size=batch_size
    )
    return tuple(output for output in recording.outputs() if output.layer != OUTPUT)


class Recording:
    """What a model returns for a probe, layer by layer, in bounded memory.

    The model is run on two and on three samples first (see `run_trial`), to learn which layers run, how
    large their outputs are and which axis is that of the samples. The layers are then recorded in groups
    that fit into ``PASS_BYTES``, one run of the model a group. The model comes back as it was: the
    training flag of every module, buffers, gradients, the random state and hooks. It runs where its
    first parameter lies, in that parameter's type, without compilation, and never on one sample alone.

    A module that returns a container is represented by the first tensor in it with an axis of samples,
    the whole model by its "logits" or "scores" where it names such. A module that did not run, or that
    returned no such tensor, is left out and named in ``notes`` with the reason.

    Args:
        model: any module. `torch.compile`, DataParallel and DistributedDataParallel are looked through.
        layers, tokens, after: as of `unknot.measure`; "*" is every module that `is_layer`. Maps
            ``[n, c, l]`` of convolutions are no sequences.
        batch_size: samples run at once; fewer where they would not fit.
        distances: read what does not fit into one run in `readings`, wide layers as their distances.

    Attributes:
        shapes: the layers that ran, in order.
        notes: what was left out, and how the rest is read where that takes more than one plain run.
        input_layer: the name under which the samples themselves come.

    Raises:
        InputError: no module matches, the model does not take the samples, or one layer's output alone
            exceeds `memory_limit`.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        *,
        layers: str | Iterable[str] = "*",
        tokens: Tokens = "mean",
        after: After = "module",
        batch_size: int = 1024,
        distances: bool = False,
    ) -> None:
        require_choice("tokens", tokens, get_args(Tokens))
        require_choice("after", after, get_args(After))
        self.model = unwrapped(model)
        if not isinstance(probe, Probe) or not len(probe):
            what = "a Probe of 0 samples" if isinstance(probe, Probe) else type(probe).__name__
            raise InputError(f"a probe: {what}", "a Probe with samples", "draw it with probe_samples")
        self.probe = probe
        self._chosen = matching_layers(self.model, layers)
        taken = any(plain_name(name) == INPUT for name, _ in self.model.named_modules())
        self.input_layer = INPUT_BESIDE if taken else INPUT
        self._tokens: Tokens = tokens
        self._after: After = after
        self._lines: set[Key] = set()
        self._followed: set[Key] = set()
        self._places: dict[Key, Place] = {}
        self.shapes, self.notes = self._trial()
        batch_size = require_count("batch_size", batch_size)
        self._lockstep = Lockstep(self._layers(), probe)
        self._sections = self._planned(batch_size) if distances and after == "module" else ()
        self.notes += tuple(f"read in step: {section}" for section in self._sections)
        self._batch_size = batch_size
        if not self._sections:
            self._grouped()  # refuses what would not fit

    def outputs(self) -> Iterator[LayerOutput]:
        """The input where it is floating point, every layer in order, and last the model's `OUTPUT`.

        The last only where it may be scores ``[n]`` or ``[n, classes]``.
        """
        yield from self._input()
        result = None
        for shapes, batch_size in self._grouped():
            held = self._record(shapes, batch_size)
            result = held.pop((OUTPUT, 0), result)
            for shape in shapes:
                if shape.layer != OUTPUT:
                    values = held.pop((shape.layer, shape.call))
                    yield LayerOutput(shape.layer, shape.call, values, shape.note)
        if result is not None:
            yield LayerOutput(OUTPUT, 0, result)

    def readings(
        self, report: Callable[[str], None] | None = None
    ) -> Generator[LayerReading, None, None]:
        """`outputs`, or where they take several runs and ``distances`` was asked for, the layers in step.

        All batches then run side by side, and pause at each layer until all have come so far: one run of
        the model reads every layer, or a few runs where not all samples fit at once. Layers whose values
        take more memory than their distances, and 16 MB, come as `LayerDistances`; so does the input.
        Close the iterator if you leave it early: until then the model is at work.

        Args:
            report: gets a line on what is read next, ``steps`` times in all.
        """
        if not self._sections:
            for output in self.outputs():
                if report is not None:
                    report(output.layer)
                yield output
            return
        for given in self._input():
            if report is not None:
                report(given.layer)
            yield in_distances(given)
        for section in self._sections:
            yield from self._lockstep.read(section, report)

    @property
    def steps(self) -> int:
        """How often `readings` reports."""
        of_layers = sum(len(section.passes) * len(section.pauses) for section in self._sections)
        return (of_layers or len(self.shapes)) + (self.probe.points() is not None)

    def _grouped(self) -> list[tuple[list[LayerShape], int]]:
        return _grouped(self.shapes, len(self.probe), self._batch_size)

    def _input(self) -> Iterator[LayerOutput]:
        points = self.probe.points()
        if points is not None:
            yield LayerOutput(self.input_layer, 0, points.detach().cpu())

    def _layers(self) -> Layers:
        shapes = {shape.key: shape for shape in self.shapes}
        return Layers(self.model, self._chosen, self._places, shapes, self._reduced)

    def _planned(self, batch_size: int) -> tuple[Section, ...]:
        """None where one plain run does, or where batches cannot run side by side."""
        n, limit = len(self.probe), memory_limit()
        size = sum(shape.bytes_of(n) for shape in self.shapes if shape.layer != OUTPUT)
        if size <= min(PASS_BYTES, limit // 2):
            return ()
        pauses = self._lockstep.pauses()
        if pauses is None:
            return ()
        return plan_sections(pauses, n, batch_size, min(limit, _free_bytes(self.model)))

    def _trial(self) -> tuple[tuple[LayerShape, ...], tuple[str, ...]]:
        """Which layers run, where their samples are, and what one sample of each is."""
        leaves = {plain_name(n): m for n, m in self.model.named_modules() if is_leaf(m)}
        modules = self._chosen | leaves
        found = run_trial(self.model, self.probe, modules)
        shapes: dict[Key, LayerShape] = {}
        line = torch.Size()  # shape of the latest map [c, l]
        for key, (place, example) in found.places.items():
            if key == (OUTPUT, 0) and example.ndim > 2:  # no scores: no use for them
                continue
            module = modules.get(key[0], self.model)
            if isinstance(module, _CHANNELS_FIRST) and example.ndim == 3:
                line = example.shape[1:]
            if example.shape[1:] == line and not isinstance(module, _TOKENS_LAST):
                self._lines.add(key)
            if key[0] in self._chosen or key[0] == OUTPUT:
                self._places[key] = place
                reduced = self._reduced(key, example)
                shapes[key] = LayerShape(*key, tuple(reduced.shape[1:]), reduced.dtype, place.note)
        if self._after != "module":
            self._follow(shapes)
        silent = [n for n in self._chosen if n not in found.ran]
        refused = {key: why for key, why in found.refused.items() if key[0] in self._chosen}
        if not set(shapes) - {(OUTPUT, 0)}:
            reasons = "; ".join(sorted(set(refused.values())))
            raise InputError(
                f"{len(silent)} layers that did not run and {len({n for n, _ in refused})} without a "
                f"floating-point output{reasons and f' ({reasons})'}",
                "at least one layer with a tensor of one row a sample",
                "choose other layers",
            )
        notes = _listed(silent, "did not run")
        for why in dict.fromkeys(refused.values()):
            keys = [key for key in refused if refused[key] == why]
            notes += _listed([name if call == 0 else f"{name} (call {call})" for name, call in keys], why)
        return tuple(shapes.values()), tuple(notes)

    def _follow(self, shapes: dict[Key, LayerShape]) -> None:
        """What follows each convolution takes its place in ``shapes``."""
        sequel = _Sequel(self._after, [key for key, place in self._places.items() if place.axis == 0])
        self._run(next(self.probe.batches(2)), self._chosen, lambda *_: None, sequel)
        self._followed = set(sequel.outputs)
        for key, tensor in sequel.outputs.items():
            shapes[key] = LayerShape(*key, tuple(tensor.shape[1:]), tensor.dtype, shapes[key].note)
        for key in sequel.origins - self._followed:
            shapes[key] = replace(shapes[key], note=f"no {self._after} follows: its own output")

    def _record(self, shapes: Iterable[LayerShape], batch_size: int) -> dict[Key, Tensor]:
        n = len(self.probe)
        held = {(s.layer, s.call): torch.empty((n, *s.shape), dtype=s.dtype) for s in shapes}
        filled: Counter[Key] = Counter()
        modules = {n: m for n, m in self._chosen.items() if any(n == name for name, _ in held)}
        start = 0

        def fill(key: Key, tensor: Tensor | None) -> None:
            room = held[key][start : start + size]
            if tensor is None or tensor.shape != room.shape:
                found = "none" if tensor is None else str(tuple(tensor.shape[1:]))
                raise InputError(
                    f"layer {key[0]} of shape {found} a sample, after {tuple(room.shape[1:])}",
                    "one shape for all samples",
                    "leave the layer out",
                )
            room.copy_(tensor)  # now: what follows may change the tensor in place
            filled[key] += size

        def keep(key: Key, _module: nn.Module, output: Any) -> None:
            if key in held and key not in self._followed:
                tensor = self._places[key].rows(output, ran)
                fill(key, None if tensor is None else self._reduced(key, tensor[:size]))

        for batch in self.probe.batches(batch_size):
            size = min(batch_size, n - start)
            ran = max(2, size)
            sequel = _Sequel(self._after, held)
            self._run(in_company(batch), modules, keep, sequel)
            for key, tensor in sequel.outputs.items():
                fill(key, tensor[:size])
            start += size
        for key in held:
            if filled[key] != n:
                raise InputError(
                    f"layer {key[0]}, call {key[1]}, that ran for {filled[key]} of {n} samples",
                    "layers that run for every sample",
                    "leave the layer out",
                )
        return held

    def _run(
        self,
        batch: Inputs,
        modules: dict[str, nn.Module],
        see: Callable[[Key, nn.Module, Any], None],
        sequel: _Sequel,
    ) -> None:
        """One forward pass; ``see`` gets what every call returns while the model runs."""
        size = len(tensors_of(batch)[0])

        def see_all(key: Key, module: nn.Module, output: Any) -> None:
            see(key, module, output)
            place = self._places.get(key)
            tensor = None if place is None else place.rows(output, size)
            if tensor is not None and key[0] in self._chosen:
                sequel.start(key, module, tensor)

        watching = nullcontext() if self._after == "module" else sequel.follower.watching(self.model)
        with watching:
            run_seen(self.model, batch, modules, see_all)

    def _reduced(self, key: Key, tensor: Tensor) -> Tensor:
        """A sequence ``[n, t, d]`` as ``[n, d]``, by the rule that was asked for; the rest as it is."""
        if tensor.ndim != 3 or key in self._lines or self._tokens == "all":
            return tensor
        if self._tokens == "mean":
            return tensor.mean(dim=1)
        return tensor[:, 0 if self._tokens == "first" else -1]


class _Sequel:
    """What the activation function or the pooling after each convolution returns, copied, as ``outputs``.

    ``origins`` are the convolutions that ran: of the ``wanted``, or all where that is None.
    """

    def __init__(self, after: After, wanted: Container[Key] | None = None) -> None:
        self.after, self.wanted = after, wanted
        self.origins: set[Key] = set()
        self.outputs: dict[Key, Tensor] = {}
        self.follower = Follower(self._see)

    def start(self, key: Key, module: nn.Module, output: Tensor) -> None:
        wanted = self.wanted is None or key in self.wanted
        if self.after != "module" and wanted and isinstance(module, _ConvNd):
            self.origins.add(key)
            self.follower.follow(key, output)

    def _see(self, key: Key, step: Step) -> bool:
        if step.kind == self.after:
            self.outputs.setdefault(key, step.after.detach().clone())
        return step.kind != self.after


def _grouped(
    shapes: tuple[LayerShape, ...], samples: int, batch_size: int
) -> list[tuple[list[LayerShape], int]]:
    """Runs of layers that fit into one pass, each with how many samples to run at once."""
    limit = memory_limit()
    budget = min(PASS_BYTES, limit // 2)
    groups: list[list[LayerShape]] = [[s for s in shapes if s.layer == OUTPUT]]
    used = 0
    for shape in (s for s in shapes if s.layer != OUTPUT):
        size = shape.bytes_of(samples)
        if size > limit // 2:
            raise InputError(
                f"layer {shape.layer}: {samples} samples of shape {shape.shape} ({size / 1e9:.2g} GB)",
                f"at most {limit / 2e9:.2g} GB",
                f"lower max_points, leave the layer out, or raise {LIMIT_VARIABLE}",
            )
        if used and used + size > budget:
            groups.append([])
            used = 0
        groups[-1].append(shape)
        used += size
    # Inside the model a batch takes about what all of its layers return.
    one = sum(s.bytes_of(1) for s in shapes)
    batch = max(1, min(batch_size, budget // max(one, 1)))
    return [(group, batch) for group in groups]


def _free_bytes(model: nn.Module) -> float:
    """Of the device that the model runs on, where that has a memory of its own."""
    first = next(model.parameters(), None)
    if first is None or first.device.type != "cuda":
        return math.inf
    return 0.8 * torch.cuda.mem_get_info(first.device)[0]


def _listed(names: list[str], what: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{', '.join(names[:5])}{more} {what}"]
