"""All batches run through a model side by side, so that one run of it gives the distances of all layers.

Each batch runs in a thread of its own, one at a time. After the call of a layer that is read it pauses as
soon as the model calls torch again: by then what went into the layer is freed, and what came out is not
yet changed in place. When all batches have come so far, the layer is read, and on they go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.core.memory import freed_at_once
from unknot.nets.follower import OUTPUT, RANDOM, Key, Place, in_company
from unknot.nets.probe import Inputs, Probe, map_tensors
from unknot.nets.recording.outputs import LayerDistances, LayerOutput, LayerReading, LayerShape
from unknot.nets.recording.products import Part, Squares
from unknot.nets.recording.strands import Strand, stop_all
from unknot.nets.recording.surroundings import Alive, Calls, Surroundings
from unknot.nets.recording.sweeps import Pause, Section, bytes_of_distances
from unknot.nets.running import as_it_was, call_model, hooked, named_scores, placed

# Values that take no more are kept whatever their distances take: they are exact.
KEPT_BYTES = 1 << 24
# A layer whose output is whole in reach, and its key.
Reached: TypeAlias = tuple[Key, Tensor]


@dataclass(frozen=True, eq=False)
class Layers:
    """What is read of a model, and where.

    Attributes:
        model: any.
        modules: by name, whose calls are counted.
        places: of the samples in what each call returns.
        shapes: of what is read.
        reduced: makes of what a call returned what is read.
    """

    model: nn.Module
    modules: Mapping[str, nn.Module]
    places: Mapping[Key, Place]
    shapes: Mapping[Key, LayerShape]
    reduced: Callable[[Key, Tensor], Tensor]


@dataclass(eq=False)
class _Batch:
    """A batch on its way through the model."""

    inputs: Inputs
    size: int
    first: int = 0
    block: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    waiting: tuple[Key, Tensor, int | None] | None = None
    strand: Strand[Reached] = field(init=False)
    pause: Callable[[Reached], None] = field(init=False)


class Lockstep:
    """Runs batches side by side; see the module.

    Args:
        layers: what is read.
        probe: the samples.
    """

    def __init__(self, layers: Layers, probe: Probe) -> None:
        self.layers, self.probe = layers, probe
        self._wanted: set[Key] = set()
        self._running: _Batch | None = None

    def pauses(self) -> tuple[Pause, ...] | None:
        """The layers in the order in which they can be read, with what a run on two samples takes.

        None where the model cannot be run so: where it keeps something of one call for the next, as is
        seen by what two batches return together and one by one, or where it fails in another thread.
        """
        n = len(self.probe)
        found: list[Pause] = []
        samples = [[0, n // 2], [n - 1, 0]]

        def batches() -> list[_Batch]:
            chosen = (map_tensors(self.probe.inputs, itemgetter(rows)) for rows in samples)
            return [_Batch(inputs, 2) for inputs in chosen]

        prints: list[list[tuple[Key, Tensor]]] = []
        every = set(self.layers.shapes)
        try:
            for batch in batches():
                prints.append([])
                watch = Alive(self.layers.model, batch.inputs)
                with self._running_on([batch], every, watch):
                    while (reached := self._resume(batch)) is not None:
                        if len(prints) == 1:
                            found.append(self._pause(reached[0], watch))
                        prints[-1].append(_fingerprint(reached))
                        del reached
            with self._running_on(batches(), every) as running:
                for of_step in zip(*prints, strict=True):
                    for batch, (key, alone) in zip(running, of_step, strict=True):
                        reached = self._resume(batch)
                        if reached is None or reached[0] != key:
                            return None
                        random = self.layers.places[key].note == RANDOM
                        if not (random or torch.equal(_fingerprint(reached)[1], alone)):
                            return None
                        del reached
        except (InputError, ValueError):  # the latter where the two took different ways
            return None
        return tuple(found)

    def _pause(self, key: Key, watch: Alive) -> Pause:
        n, shape = len(self.probe), self.layers.shapes[key]
        alive, most, steps = (number / 2 for number in watch.take())
        wide = key != (OUTPUT, 0) and _is_wide(shape.bytes_of(n), n)
        return Pause(shape, alive, most, steps, wide)

    def read(
        self, section: Section, report: Callable[[str], None] | None = None
    ) -> Generator[LayerReading, None, None]:
        """The layers of a section, in order.

        Args:
            report: gets a line on each layer of each pass, before it is read.
        """

        def told(number: int, layer: str) -> None:
            if report is not None:
                of = f"{layer}, pass {number} of {len(section.passes)}"
                report(layer if section.blocks == 1 else of)

        n = len(self.probe)
        batches = _divided(n, section)
        if section.blocks == 1:
            with self._running_on(self._batches(batches), _keys(section)) as running:
                for pause in section.pauses:
                    told(1, pause.shape.layer)
                    held = _Held(pause, n)
                    held.add(self._reach(running, pause), set())
                    yield held.result()
            return
        all_held = [_Held(pause, n) for pause in section.pauses]
        done: set[tuple[int, int]] = set()
        for number, blocks in enumerate(section.passes, 1):
            chosen = [batch for batch in batches if batch[0] in blocks]
            with self._running_on(self._batches(chosen), _keys(section)) as running:
                for held in all_held:
                    told(number, held.pause.shape.layer)
                    held.add(self._reach(running, held.pause), done)
            done |= {(a, b) for a in blocks for b in blocks if a <= b}
        while all_held:
            yield all_held.pop(0).result()

    def _batches(self, divided: Sequence[tuple[int, int, int]]) -> list[_Batch]:
        chosen = (
            in_company(map_tensors(self.probe.inputs, itemgetter(slice(first, stop))))
            for _, first, stop in divided
        )
        return [
            _Batch(inputs, stop - first, first, block)
            for inputs, (block, first, stop) in zip(chosen, divided, strict=True)
        ]

    def _reach(self, running: Sequence[_Batch], pause: Pause) -> list[Part]:
        """Run every batch on to a layer."""
        expected, parts = pause.shape, []
        for batch in running:
            reached = self._resume(batch)
            if reached is None or reached[0] != expected.key:
                continue
            found = tuple(reached[1].shape[1:])
            if found != expected.shape:
                raise InputError(
                    f"layer {expected.layer} of shape {found} a sample, after {expected.shape}",
                    "one shape for all samples",
                    "leave the layer out",
                )
            parts.append(Part(batch.first, batch.block, reached[1]))
        ran, of = sum(len(part.values) for part in parts), sum(batch.size for batch in running)
        if ran != of:
            raise InputError(
                f"layer {expected.layer}, call {expected.call}, that ran for {ran} of {of} samples",
                "layers that run for every sample, in one order",
                "leave the layer out",
            )
        return parts

    def _resume(self, batch: _Batch) -> Reached | None:
        self._running = batch
        return batch.strand.resume()

    @contextmanager
    def _running_on(
        self, batches: list[_Batch], wanted: set[Key], watch: Alive | None = None
    ) -> Iterator[list[_Batch]]:
        """Batches that can be resumed up to each of the calls ``wanted``."""
        self._wanted = wanted
        surroundings = Surroundings()
        with freed_at_once(), as_it_was(self.layers.model), hooked(self.layers.modules, self._see):
            for batch in batches:
                batch.strand = Strand(self._work(batch, surroundings, watch))
            try:
                yield batches
            finally:
                stop_all(batch.strand for batch in batches)
                for batch in batches:
                    del batch.strand, batch.pause, batch.waiting  # a circle, which would hold tensors
                batches.clear()
                self._running = None

    def _work(
        self, batch: _Batch, surroundings: Surroundings, watch: Alive | None
    ) -> Callable[[Callable[[Reached], None]], None]:
        def work(pause: Callable[[Reached], None]) -> None:
            batch.pause = pause
            mode = Calls(lambda: self._flush(batch), watch)
            with surroundings.entered(), mode:
                inputs, model = placed(batch.inputs, self.layers.model), self.layers.model
                output = named_scores(call_model(model, inputs))
                self._take((OUTPUT, 0), batch, output)
                del output
                self._flush(batch)

        return work

    def _see(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        batch = self._running
        assert batch is not None
        key = name, batch.calls[name]
        batch.calls[name] += 1
        self._take(key, batch, output)

    def _take(self, key: Key, batch: _Batch, output: Any) -> None:
        """Remember what a call returned, to pause before the next."""
        if key not in self._wanted:
            return
        self._flush(batch)
        rows = self.layers.places[key].rows(output, max(2, batch.size))
        if rows is None:
            raise InputError(
                f"layer {key[0]} of shape none a sample, after {self.layers.shapes[key].shape}",
                "one shape for all samples",
                "leave the layer out",
            )
        tensor = self.layers.reduced(key, rows[: batch.size])
        batch.waiting = key, tensor, _version(tensor)

    def _flush(self, batch: _Batch) -> None:
        if batch.waiting is None:
            return
        key, tensor, version = batch.waiting
        batch.waiting = None
        if _version(tensor) != version:
            raise InputError(
                f"layer {key[0]}, whose output is changed in place by what is no call of torch",
                "outputs that can be read",
                "leave the layer out",
            )
        batch.pause((key, tensor))


class _Held:
    """What is known of a layer so far."""

    def __init__(self, pause: Pause, samples: int) -> None:
        self.pause = pause
        shape = pause.shape
        self._squares = Squares(samples) if pause.wide else None
        self._values = None if pause.wide else torch.empty((samples, *shape.shape), dtype=shape.dtype)

    def add(self, parts: list[Part], done: set[tuple[int, int]]) -> None:
        if self._squares is not None:
            self._squares.add(parts, done)
        if self._values is not None:
            for part in parts:
                self._values[part.first : part.first + len(part.values)] = part.values

    def result(self) -> LayerReading:
        shape = self.pause.shape
        if self._values is not None:
            return LayerOutput(shape.layer, shape.call, self._values, shape.note)
        assert self._squares is not None
        return LayerDistances(shape.layer, shape.call, *self._squares.result(), shape.note)


def in_distances(output: LayerOutput) -> LayerReading:
    """The distances of a layer output that is as wide as those that are read so."""
    n, values = len(output.values), output.values
    if not _is_wide(values.nbytes, n):
        return output
    squares = Squares(n)
    squares.add([Part(0, 0, values)])
    return LayerDistances(output.layer, output.call, *squares.result(), output.note)


def _is_wide(size: int, samples: int) -> bool:
    return size > max(KEPT_BYTES, bytes_of_distances(samples))


def _fingerprint(reached: Reached) -> tuple[Key, Tensor]:
    """The key, and two sums a row, which tell rows of two samples apart."""
    rows = reached[1].flatten(1) if reached[1].ndim > 1 else reached[1][:, None]
    sums = [rows.sum(dim=1, dtype=torch.float64), rows.square().sum(dim=1, dtype=torch.float64)]
    return reached[0], torch.stack(sums).nan_to_num().cpu()


def _version(tensor: Tensor) -> int | None:
    """How often its memory was changed in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def _keys(section: Section) -> set[Key]:
    return {pause.shape.key for pause in section.pauses}


def _divided(samples: int, section: Section) -> list[tuple[int, int, int]]:
    """The batches: the block of each, its first sample and the one after its last."""
    divided = []
    for block, numbers in enumerate(np.array_split(np.arange(samples), section.blocks)):
        count = min(-(-len(numbers) // section.batch_size), max(1, len(numbers) // 2))
        parts = np.array_split(numbers, count)
        divided += [(block, int(part[0]), int(part[-1]) + 1) for part in parts]
    return divided
