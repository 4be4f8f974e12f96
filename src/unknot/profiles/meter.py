"""Betti numbers, islands and tangle of what the layers of a model return, once or again and again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.console import ShowProgress, step_bar
from unknot.core.errors import InputError
from unknot.core.keywords import spelled_out
from unknot.core.workforce import Workforce
from unknot.nets.accuracy import ends_in_sigmoid, share_right
from unknot.nets.follower import OUTPUT
from unknot.nets.probe import NAMES_SHOWN, Probe, probe_samples
from unknot.nets.recording import INPUT, LayerDistances, LayerOutput, Recording, as_points
from unknot.nets.running import plain_name
from unknot.profiles.clouds import (
    By,
    Portion,
    class_members,
    layer_named,
    portion_of,
    require_finite,
    require_weights,
)
from unknot.profiles.nulls import random_copy
from unknot.profiles.options import MeasureKeywords, MeasureOptions
from unknot.profiles.profile import (
    EpochAccuracy,
    ProfileRow,
    TopologyProfile,
    UntanglingRow,
    library_versions,
)
from unknot.profiles.projection import CloudView, project
from unknot.profiles.records import betti_row, untangling_row, with_untangling
from unknot.topology.batch import CloudCount, CountSettings
from unknot.topology.calibration import calibrate
from unknot.topology.multiscale.sweep import sensitivity as scan_scales
from unknot.topology.multiscale.untangling import (
    CloudSettings,
    Untangled,
    UntanglingSettings,
    measure_clouds,
)
from unknot.topology.scale import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out(MeasureOptions)
def measure(
    model: nn.Module,
    loader: Any,
    *,
    cluster: str | None = None,
    progress: ShowProgress = "auto",
    **options: Unpack[MeasureKeywords],
) -> TopologyProfile:
    """Betti numbers, islands and tangle of what the layers of ``model`` return.

    Betti numbers hang on a scale; ``rows`` has one record a cloud. Islands and tangle (`unknot.islands`,
    `unknot.tangle`) hang on none; ``untangling`` has one record a layer output, all classes together.

    Args:
        model: any module; it comes back as it was (see `Recording`).
        loader: batches of tensors, ``(inputs, labels)`` or dicts, a data set, or all samples at once;
            see `probe_samples`. Labels may be names, which are numbered in alphabetical order (the
            profile's notes say how).
        cluster: a Dask scheduler whose workers count the clouds; see `Workforce`. It pays where counting
            takes long: b2, intervals, thousands of samples.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.
        options: the fields of `MeasureOptions`, each a keyword.

    Returns:
        A profile whose rows have no epoch.

    Raises:
        InputError: no labels for by="class", a glob that matches nothing, NaN in a layer output (the
            layer is named), no convolution for by="filter", outputs beyond `memory_limit`.
    """
    chosen = MeasureOptions(**options)
    probe = probe_samples(loader, max_points=chosen.max_points, seed=chosen.seed, named=True)
    meter = Meter(model, probe, chosen, progress=progress)
    with Workforce(cluster=cluster) as workforce:
        return meter.measure_once(workforce, progress=progress)


def _left_out(probe: Probe, options: MeasureOptions) -> list[str]:
    if probe.seen is None or probe.seen == len(probe):
        return []
    return [f"measured {len(probe):,} of {probe.seen:,} samples: max_points = {options.max_points}"]


# Layer outputs that are measured in one call: few calls leave Python's lock to the training.
TOGETHER_BYTES = 1 << 26
# For intervals of islands and tangle, and of labels for the range of tangle by chance.
HALVES, SHUFFLES = 10, 20

Counted: TypeAlias = tuple[list[CloudCount], list[Untangled]]
Rows: TypeAlias = tuple[list[ProfileRow], list[UntanglingRow]]


@dataclass
class Reading:
    """One moment before anything is counted: accuracies, views, rows of what cannot be measured."""

    epoch: int | None
    given: float | None = None
    share: float | None = None
    untangling: list[UntanglingRow] = field(default_factory=list)
    views: list[CloudView] = field(default_factory=list)
    progress: ShowProgress = False


class Meter:
    """Measures one model on one probe, once or again and again at the same scale.

    Args:
        probe: the samples, drawn already: ``max_points`` of the options has had its say.
        threads: of the engine; 0 takes one a core.
        halves: half-samples for the intervals of islands and tangle, at least; more with ``repeats``.
            Before any training (epoch 0 or None) there are 10 at least.
        progress: of the bar while the scale is looked for.

    Attributes:
        scale: of every row.
        empty: a profile without rows, and with all that its profiles have in common.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        options: MeasureOptions,
        *,
        threads: int = 0,
        halves: int = HALVES,
        progress: ShowProgress = "auto",
    ) -> None:
        if options.by == "class" and probe.labels is None:
            why = f" ({'; '.join(probe.notes)})" if probe.notes else ""
            raise InputError(
                f"a loader without class labels{why}",
                "(inputs, labels [n])",
                "add them or pass by='layer'",
            )
        by_filter, layers, seed = options.by == "filter", options.layers, options.seed
        chosen = _convolutions(model) if by_filter and layers == "*" else layers
        self.probe = probe
        self._recorded = partial(
            Recording, probe=probe, layers=chosen, tokens=options.tokens, after=options.after,
            distances=not by_filter,
        )  # fmt: skip
        self.recording = self._recorded(model)
        self._require_weights(None)
        self._labels = None if probe.labels is None else probe.labels.numpy()
        self._members = [] if probe.labels is None else class_members(probe.labels)
        scale = options.scale
        self.scale = self._calibrated(seed, progress) if isinstance(scale, str) else scale
        sensitivity = None
        if options.sensitivity:
            how: Any = {"scale": self.scale, "seed": seed, "progress": progress}
            sensitivity = scan_scales(self._reference(), self._labels, **how)
        settings: dict[str, Any] = {
            "by": options.by,
            "layers": [layers] if isinstance(layers, str) else list(layers),
            "tokens": options.tokens,
            "after": options.after,
            "samples": len(probe),
            "repeats": options.repeats,
        }
        self._untangling: UntanglingSettings | None = None
        if options.untangling and not by_filter:
            self._untangling = UntanglingSettings(
                repeats=max(options.repeats, halves), threads=threads, seed=seed
            )
            settings["islands"] = f"k = {self._untangling.k}, z = {self._untangling.z:g}"
        self.empty = TopologyProfile(
            (), seed, library_versions(), scale=self.scale, settings=settings,
            notes=(
                *probe.notes, *_left_out(probe, options), *self._few(options.by), *self.recording.notes
            ),
            sensitivity=sensitivity,
            labels=None if self._labels is None else tuple(self._labels.tolist()), names=probe.names,
        )  # fmt: skip
        self._nulls = options.nulls
        self._by: By = options.by
        # What the accuracy is measured on: nothing where probabilities would be taken for logits.
        unrated = probe.labels is None or bool(probe.names) or ends_in_sigmoid(model, probe.inputs)
        self._rated = None if unrated else probe.labels
        self._counting = CountSettings(self.scale, options.max_dim, threads, options.repeats, seed)
        n_views = 0 if by_filter else min(options.views, len(probe))
        picks = np.random.default_rng(seed).choice(len(probe), n_views, replace=False)
        self._drawn = torch.from_numpy(np.sort(picks))
        self._pictures: dict[tuple[str, int], Any] = {}
        self._input_rows: Rows | None = None

    def measure_once(self, workforce: Workforce, *, progress: ShowProgress = False) -> TopologyProfile:
        """The profile of the model as it is now, without an epoch."""
        return self.read(Reading(None, progress=progress), workforce)

    def read(self, reading: Reading, workforce: Workforce | None = None) -> TopologyProfile:
        """Measure the model now, a portion at a time."""
        with closing(self.portions(reading)) as portions:  # where counting fails, no run stays open
            counted = [
                self.rows(portion, self.count(portion, reading.epoch, workforce), reading.epoch)
                for portion in portions
            ]
        return self.profile(reading, counted)

    def portions(self, reading: Reading) -> Generator[Portion, None, None]:
        """Run the model, and before any training its random copies: what is to be counted in one call.

        What needs no counting goes into ``reading``.
        """
        self._require_weights(reading.epoch)
        outputs = self._outputs(self.recording, "topology of layers", reading.progress)
        yield from self._together(self._seen(outputs, reading))
        if not reading.epoch:
            for number in range(self._nulls):
                yield from self._together(self._random_outputs(number, reading), number)

    def _require_weights(self, epoch: int | None) -> None:
        layers = (shape.layer for shape in self.recording.shapes)
        require_weights(self.recording.model, layers, epoch)

    def how(self, portion: Portion, epoch: int | None) -> CloudSettings:
        """What is measured of a portion; survives pickling."""
        given = portion.random is None
        untangling = self._untangling
        if untangling is not None and not epoch:
            shuffles = SHUFFLES if self._nulls and given else 0
            repeats = max(untangling.repeats, HALVES)
            untangling = replace(untangling, repeats=repeats, shuffles=shuffles)
        groups = tuple(members for _, members in self._members) if self._by == "class" else None
        return CloudSettings(self._counting if given else None, groups, untangling, self._labels)

    def count(self, portion: Portion, epoch: int | None, workforce: Workforce | None = None) -> Counted:
        """The engine's part, now."""
        with layer_named(portion.outputs, epoch):
            return measure_clouds(portion.samples, self.how(portion, epoch), workforce)

    def rows(self, portion: Portion, counted: Counted, epoch: int | None) -> Rows:
        counts, found = counted
        untangling = [
            untangling_row(output, one, len(self.probe), epoch, portion.random)
            for output, one in zip(portion.outputs, found, strict=bool(found))
        ]
        if portion.random is not None:
            return [], untangling
        rows = [
            betti_row(output, (label, channel), count, epoch, self.scale)
            for (output, label, channel), count in zip(portion.places, counts, strict=True)
        ]
        if self._by == "layer" and untangling:
            rows = [with_untangling(*pair) for pair in zip(rows, untangling, strict=True)]
        return rows, untangling

    def profile(self, reading: Reading, counted: Iterable[Rows]) -> TopologyProfile:
        """What `portions` has read, with the rows of each portion in order."""
        rows: list[ProfileRow] = []
        untangling = list(reading.untangling)
        for new_rows, new_untangling in counted:
            rows += new_rows
            untangling += new_untangling
        given = [row for row in untangling if row.random is None]
        name = self.recording.input_layer
        if self._input_rows is None:
            of_input = [row for row in given if row.layer == name]
            self._input_rows = [row for row in rows if row.layer == name], of_input
        else:  # the probe stays the same, and so do its rows, even where it was measured again
            of_input = [replace(row, epoch=reading.epoch, shuffled=None) for row in self._input_rows[1]]
            given = of_input + [row for row in given if row.layer != name]
            known = [replace(row, epoch=reading.epoch) for row in self._input_rows[0]]
            rows = known + [row for row in rows if row.layer != name]
        for number in range(self._nulls):  # their input is the same
            of_copy = [row for row in untangling if row.random == number]
            same = [replace(row, random=number, shuffled=None) for row in of_input if of_copy]
            given += [*same, *of_copy]
        if self._by == "filter" and not rows:
            raise InputError(
                "layers without a convolution output [n, c, ...]",
                "at least one convolution",
                "name one by its glob, or pass by='layer'",
            )
        accuracy = EpochAccuracy(reading.epoch, reading.share, reading.given)
        return replace(
            self.empty,
            rows=tuple(rows),
            accuracy=(accuracy,),
            views=tuple(reading.views),
            untangling=tuple(given),
        )

    def _together(self, outputs: Iterable[LayerOutput], random: int | None = None) -> Iterator[Portion]:
        classes = [label for label, _ in self._members]
        held: list[LayerOutput] = []
        for output in outputs:
            held.append(output)
            if sum(one.values.nbytes for one in held) > TOGETHER_BYTES:
                yield portion_of(held, classes, self._by, random)
                held = []
        if held:
            yield portion_of(held, classes, self._by, random)

    def _outputs(self, recording: Recording, label: str, progress: ShowProgress) -> Iterator[LayerOutput]:
        """What the layers return; of those read as distances, points that lie as far apart."""
        with (
            step_bar(label, recording.steps, show=progress) as report,
            closing(recording.readings(report)) as readings,
        ):
            for one in readings:
                yield self._pointed(one) if isinstance(one, LayerDistances) else one

    def _pointed(self, layer: LayerDistances) -> LayerOutput:
        ks = (self.scale.k, None if self._untangling is None else self._untangling.k)
        return as_points(layer, [k for k in ks if k is not None])

    def _seen(self, outputs: Iterable[LayerOutput], reading: Reading) -> Iterator[LayerOutput]:
        """Those of the layers, and an input yet unknown; answer and views go into ``reading``."""
        for output in outputs:
            of_input = output.layer == self.recording.input_layer
            if output.layer == OUTPUT:
                reading.share = share_right(output.values, self._rated)
                continue
            if self._by == "filter" and (of_input or output.values.ndim < 3):
                continue
            if len(self._drawn):
                require_finite(output, reading.epoch)
                reading.views.append(self._view(output, reading.epoch))
            if not of_input or self._input_rows is None:  # which are those of the first reading
                yield output

    def _random_outputs(self, number: int, reading: Reading) -> Iterator[LayerOutput]:
        """What a copy of the model with random weights returns; nothing for the input."""
        copy, permuted = random_copy(self.recording.model, self.empty.seed + number)
        if permuted:
            names = ", ".join(permuted[:NAMES_SHOWN]) + ", ..." * (len(permuted) > NAMES_SHOWN)
            note = f"random weights: the model's own, in random order, for {names}"
            self.empty = replace(self.empty, notes=tuple(dict.fromkeys((*self.empty.notes, note))))
        recording = self._recorded(copy)
        for output in self._outputs(recording, f"random weights, copy {number}", reading.progress):
            if output.layer in (OUTPUT, recording.input_layer):
                continue
            if bool(torch.isfinite(output.values).all()):
                yield output
            else:
                lacking = Untangled(None, None, note="NaN or infinity with random weights")
                row = untangling_row(output, lacking, len(self.probe), reading.epoch, number)
                reading.untangling.append(row)

    def _few(self, by: By) -> Iterator[str]:
        """Which clouds have too few samples for k, and the k that they get."""
        sizes = {f"class {label}": len(members) for label, members in self._members}
        for name, size in (sizes if by == "class" else {"the probe": len(self.probe)}).items():
            lowered = self.scale.lowered_to(size)
            if lowered.k != self.scale.k:
                samples = f"{size} sample{'s' if size > 1 else ''}"
                yield f"{name} has {samples}: k = {lowered.k} there, not {self.scale.k}"

    def _reference(self) -> Any:
        """What the scale is calibrated on: the input, or the first layer where that is tokens."""
        points = self.probe.points()
        if points is not None:
            return LayerOutput(INPUT, 0, points.detach().cpu()).numpy()
        first = self._recorded(
            self.recording.model, layers=[self.recording.shapes[0].layer], distances=False
        )
        return next(iter(first.outputs())).numpy()

    def _calibrated(self, seed: int, progress: ShowProgress) -> Scale:
        reference = self._reference()
        if not np.isfinite(reference).all():
            raise InputError("an input with NaN or infinity", "finite samples", "clean the data")
        most = max(2, len(reference))
        return calibrate(reference, self._labels, max_points=most, seed=seed, progress=progress)

    def _view(self, output: LayerOutput, epoch: int | None) -> CloudView:
        key = (output.layer, output.call)
        drawn = LayerOutput(*key, output.values[self._drawn]).numpy()
        picture, explained = project(drawn, self._pictures.get(key))
        self._pictures[key] = picture
        labels = None if self._labels is None else tuple(self._labels[self._drawn.numpy()].tolist())
        points = tuple((x, y, z) for x, y, z in picture.round(3).tolist())
        return CloudView(epoch, *key, labels, points, round(explained, 4))


def _convolutions(model: nn.Module) -> list[str] | str:
    return [plain_name(n) for n, m in model.named_modules() if isinstance(m, _ConvNd)] or "*"
