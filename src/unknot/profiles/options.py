"""The options of measuring: declared, explained and checked here, for the library, callbacks and command.

Each dataclass has a twin for type checkers, which know keywords by a TypedDict only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Literal, TypedDict, get_args

from unknot.core.errors import InputError, require_choice, require_count, require_items
from unknot.nets.follower import After
from unknot.nets.recording.outputs import Tokens
from unknot.nets.running import require_globs
from unknot.profiles.clouds import By
from unknot.profiles.profile import TopologyProfile
from unknot.topology.scale import Scale, require_rule


@dataclass(frozen=True)
class MeasureOptions:
    """Which layer outputs are measured, and how they become numbers.

    Args:
        layers: glob or globs over dotted module names; "*" is every module that computes by itself (a
            leaf, or one with parameters of its own beside children), by filter every convolution. The
            input is always measured too, except by filter or where it is whole numbers.
        by: "class": one cloud a label; "layer": all samples together; "filter": one cloud each output
            channel of every convolution, of all samples together.
        scale: "auto" calibrates on the input, class by class, and holds that scale for all layers.
            Where the input is whole numbers (tokens), the first layer takes its place.
        tokens: what becomes of a sequence ``[n, t, d]``: "mean" over its tokens, the "first", the "last",
            or "all" side by side.
        after: for convolutions: "module", or the "activation" or "pooling" that follows.
        max_points: samples measured at most, stratified by class and seeded.
        max_dim: 1, or 2 for b2 as well.
        repeats: 0, or how many subsamples give each row an interval; see `betti_interval`. Islands,
            tangle and purity have one over 10 half-samples at least; in a Monitor at epoch 0, and
            later only with ``repeats``.
        untangling: also islands, tangle and purity of each layer output. Not by filter.
        nulls: 0, or how many copies of the model with random weights are measured beside it, and tangle
            under 20 shuffles of the labels; in a Monitor at epoch 0. Not by filter.
        views: 0, or how many samples of each layer are kept in three dimensions for the report.
        sensitivity: also measure the input over a grid of scales, for the report.
        seed: of everything random: the samples, the scale, subsamples and views.
    """

    layers: str | Iterable[str] = "*"
    by: By = "class"
    scale: Scale | Literal["auto"] = "auto"
    tokens: Tokens = "mean"
    after: After = "module"
    max_points: int = 1000
    max_dim: int = 1
    repeats: int = 0
    untangling: bool = True
    nulls: int = 0
    views: int = 0
    sensitivity: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        globs = require_globs(self.layers)
        object.__setattr__(self, "layers", self.layers if isinstance(self.layers, str) else globs)
        require_choice("by", self.by, get_args(By))
        if not isinstance(self.scale, str) or self.scale != "auto":
            require_rule(self.scale, "'auto'")
        if (
            isinstance(self.max_dim, bool)
            or not isinstance(self.max_dim, Integral)
            or not 1 <= self.max_dim <= 2
        ):
            raise InputError(f"max_dim = {self.max_dim!r}", "1 or 2", "pass 2 for b2 as well")
        for name in ("repeats", "nulls", "views", "seed"):
            require_count(name, getattr(self, name), minimum=0)
        if self.nulls and (self.by == "filter" or not self.untangling):
            without = "by = 'filter'" if self.by == "filter" else f"untangling = {self.untangling}"
            expected = "by = 'class' or 'layer', and untangling = True"
            raise InputError(f"nulls = {self.nulls} with {without}", expected, "pass nulls=0")


class MeasureKeywords(TypedDict, total=False):
    """The fields of `MeasureOptions`."""

    layers: str | Iterable[str]
    by: By
    scale: Scale | Literal["auto"]
    tokens: Tokens
    after: After
    max_points: int
    max_dim: int
    repeats: int
    untangling: bool
    nulls: int
    views: int
    sensitivity: bool
    seed: int


@dataclass(frozen=True)
class MonitorOptions(MeasureOptions):
    """What is measured while a model trains, how often, and what becomes of it.

    Args:
        every: record only epochs that are multiples of this.
        out: a ``.jsonl`` or ``.parquet`` file to which every epoch is added as soon as it is measured.
        resume: go on with an existing ``out`` at the scale that it was measured at; epoch 0 is not
            measured again. A callback does so by itself where its training goes on from a checkpoint.
        on_record: a function, or several, called with the profile of each measured epoch, in order, on
            the thread that trains; e.g. a writer of ``unknot.integrations``.
        background: measure in a process beside the training; False measures while the training waits.
        threads: of the engine; 0 takes one a core.
    """

    every: int = 1
    out: str | Path | None = None
    resume: bool = False
    on_record: Iterable[Callable[[TopologyProfile], None]] = ()
    background: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("every", self.every)
        require_count("threads", self.threads, minimum=0)
        if self.resume and self.out is None:
            raise InputError("resume = True without out", "the file to go on with", "pass out=...")
        words = "functions of a profile", "pass e.g. [print]"
        single = callable(self.on_record)
        listeners = (self.on_record,) if single else require_items("on_record", self.on_record, *words)
        if not all(map(callable, listeners)):
            raise InputError(f"on_record = {self.on_record!r}", *words)
        object.__setattr__(self, "on_record", listeners)


class MonitorKeywords(MeasureKeywords, total=False):
    """The fields of `MonitorOptions`."""

    every: int
    out: str | Path | None
    resume: bool
    on_record: Iterable[Callable[[TopologyProfile], None]]
    background: bool
    threads: int
