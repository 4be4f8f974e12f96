"""Betti numbers, islands and tangle of a model's layers while it trains."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from joblib.externals.loky import ProcessPoolExecutor
from torch import nn

from unknot.core.errors import InputError, require_count
from unknot.core.keywords import spelled_out
from unknot.nets.probe import probe_samples
from unknot.nets.recording import PASS_BYTES
from unknot.profiles.clouds import Portion, layer_named
from unknot.profiles.journal import joined, open_journal
from unknot.profiles.meter import Counted, Meter, Reading
from unknot.profiles.options import MonitorKeywords, MonitorOptions
from unknot.profiles.profile import TopologyProfile
from unknot.topology.multiscale.untangling import CloudSettings, measure_clouds, warm_up

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Epochs that may wait to be measured; then `record` waits too, so that memory stays bounded.
MAX_WAITING = 2


# An epoch whose clouds are being counted, portion by portion.
_Waiting: TypeAlias = tuple[Reading, list[tuple[Portion, Future[Counted]]]]


def _share(accuracy: Any) -> float:
    """An accuracy, a scalar of torch or numpy included, as a float."""
    try:
        share = math.nan if isinstance(accuracy, (str, bytes)) else float(accuracy)
    except (TypeError, ValueError, RuntimeError):  # the last of torch, for several numbers
        share = math.nan
    if not 0 <= share <= 1:
        raise InputError(f"accuracy = {accuracy!r}", "a number in [0, 1]", "divide percents by 100")
    return share


def _submitted(worker: Any, portion: Portion, how: CloudSettings) -> Future[Any]:
    """Of a process that is known to be dead: a future that says so, as one of its last tasks would."""
    try:
        future: Future[Any] = worker.submit(measure_clouds, portion.samples, how)
    except BrokenProcessPool as error:
        future = Future()
        future.set_exception(error)
    return future


@spelled_out(MonitorOptions)
class Monitor:
    """Measures a model on a fixed probe set while it trains.

    The probe is drawn and the scale calibrated once, so that the epochs differ by the model alone. Epoch
    0, before any training, is recorded on entering: a wide random net can merge components by being
    undersampled, and only what changes from there was learnt.

    >>> with uk.Monitor(model, loader, out="run.jsonl") as monitor:      # doctest: +SKIP
    ...     for epoch in range(1, 11):
    ...         train_one_epoch(model)
    ...         monitor.record(epoch)
    >>> monitor.profile.rows                                             # doctest: +SKIP

    `record` runs the model on the probe and returns; the homology is computed beside the training, by a
    process of its own, so that the two do not wait for Python's lock.

    Without ``with``, call ``record(0)`` before the training and `close` after it.

    Args:
        model: watched; never changed.
        probe: samples, as the loader of `measure`.
        options: the fields of `MonitorOptions`, each a keyword.

    Attributes:
        scale: of every row.
    """

    def __init__(self, model: nn.Module, probe: Any, **options: Unpack[MonitorKeywords]) -> None:
        chosen = MonitorOptions(**options)
        self.every = chosen.every
        self._journal = None if chosen.out is None else open_journal(chosen.out, resume=chosen.resume)
        earlier = self._journal.earlier if self._journal else None
        if earlier is not None and earlier.scale is not None and chosen.scale == "auto":
            chosen = replace(chosen, scale=earlier.scale)
        self._worker: Any = None
        if chosen.background:
            self._started().submit(warm_up)  # the process starts while the scale is calibrated
        samples = probe_samples(probe, max_points=chosen.max_points, seed=chosen.seed, named=True)
        self._meter = Meter(model, samples, chosen, threads=chosen.threads, halves=0)
        self.scale = self._meter.scale
        self._parts = [] if earlier is None else [earlier]
        if earlier is not None:
            joined([earlier, self._meter.empty])  # refuses other settings before any training
        self._listeners = list(chosen.on_record)
        self._bytes = sum(shape.bytes_of(len(samples)) for shape in self._meter.recording.shapes)
        self._nulls = chosen.nulls
        self._background = chosen.background and self._bytes <= PASS_BYTES
        self._waiting: deque[_Waiting] = deque()
        self._begun = bool(self._parts)

    def __enter__(self) -> Monitor:
        if not self._parts:
            self.record(0)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.close()
        except InputError:
            if error[0] is None:  # else the training's own error is the one to see
                raise

    def record(self, epoch: int, accuracy: float | None = None, *, always: bool = False) -> None:
        """Measure now and keep the rows under ``epoch``, if it is one of ``every``.

        Args:
            epoch: how much training there was: 0 is none. An epoch recorded again replaces the earlier.
            accuracy: in [0, 1], e.g. on a test set, kept beside the accuracy on the probe.
            always: record it whatever ``every`` is, e.g. the last epoch.

        Raises:
            InputError: an epoch or accuracy that is none; an epoch after training where epoch 0 was not
                recorded; NaN in a layer output, named with the epoch
                in which it arose; with ``background`` it may be raised by the next call.
        """
        if require_count("epoch", epoch, minimum=0) and not self._begun:
            raise InputError(
                f"epoch {epoch} of a Monitor outside a with block, without epoch 0",
                "epoch 0 first, to tell what training did",
                "write `with uk.Monitor(...) as monitor:` around it, or call record(0) before it",
            )
        self.take(Reading(epoch, None if accuracy is None else _share(accuracy)), always=always)

    def begin(self, epoch: int) -> None:
        """Record the first epoch of a training that goes on, which need not be epoch 0."""
        self._begun = True
        self.record(epoch)

    def take(self, reading: Reading, *, always: bool = False) -> None:
        """`record` for callbacks, whose metric may be any finite number, e.g. a loss."""
        reading.epoch = require_count("epoch", reading.epoch, minimum=0)
        self._begun = True
        if reading.epoch % self.every and not always:
            return
        copies = 0 if reading.epoch else self._nulls
        if not self._background or self._bytes * (1 + copies) > PASS_BYTES:  # all would wait in memory
            self._collect(0)
            self._keep(self._meter.read(reading))
            return
        self._collect(MAX_WAITING - 1)
        worker = self._started()
        portions = [
            (portion, _submitted(worker, portion, self._meter.how(portion, reading.epoch)))
            for portion in self._meter.portions(reading)
        ]
        self._waiting.append((reading, portions))

    def close(self) -> None:
        """Wait for what is being measured; `record` may be called again later."""
        try:
            self._collect(0)
        finally:
            if self._worker is not None:
                self._worker.shutdown()
                self._worker = None

    @property
    def profile(self) -> TopologyProfile:
        """Everything recorded so far; waits for what is being measured."""
        self._collect(0)
        return joined(self._parts) if self._parts else self._meter.empty

    def _started(self) -> Any:
        if self._worker is None:
            self._worker = ProcessPoolExecutor(1)
        return self._worker

    def _collect(self, allowed: int) -> None:
        """Take over what has been counted; wait until no more than ``allowed`` epochs are waiting."""
        while self._waiting:
            reading, portions = self._waiting[0]
            if len(self._waiting) <= allowed and not all(future.done() for _, future in portions):
                return
            self._waiting.popleft()
            counted = [
                self._meter.rows(portion, self._counted(portion, future, reading.epoch), reading.epoch)
                for portion, future in portions
            ]
            self._keep(self._meter.profile(reading, counted))

    def _counted(self, portion: Portion, future: Future[Counted], epoch: int | None) -> Counted:
        try:
            with layer_named(portion.outputs, epoch):
                return future.result()
        except BrokenProcessPool:  # it was killed, e.g. for memory: nothing is lost, it is counted here
            self._background, self._worker = False, None
            return self._meter.count(portion, epoch)

    def _keep(self, part: TopologyProfile) -> None:
        if self._journal is not None:
            self._journal.add(part)
        self._parts.append(part)
        for listener in self._listeners:
            listener(part)
