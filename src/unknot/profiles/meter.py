"""The Betti numbers of what the layers of a model return, once or again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from unknot.core.console import track
from unknot.core.errors import InputError
from unknot.core.keywords import spelled_out
from unknot.core.workforce import Workforce
from unknot.nets.accuracy import ends_in_sigmoid, share_right
from unknot.nets.follower import OUTPUT
from unknot.nets.probe import Probe, probe_samples
from unknot.nets.recording import INPUT, LayerOutput, Recording
from unknot.nets.running import plain_name
from unknot.profiles.clouds import (
    By,
    LayerCloud,
    class_members,
    layer_clouds,
    layer_named,
    require_finite,
)
from unknot.profiles.options import MeasureKeywords, MeasureOptions
from unknot.profiles.profile import EpochAccuracy, ProfileRow, TopologyProfile, library_versions
from unknot.profiles.projection import CloudView, project
from unknot.topology.batch import CloudCount, CountSettings, count_clouds
from unknot.topology.calibration import calibrate
from unknot.topology.multiscale.sweep import sensitivity as scan_scales
from unknot.topology.scale import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out(MeasureOptions)
def measure(
    model: nn.Module,
    loader: Any,
    *,
    cluster: str | None = None,
    progress: bool = False,
    **options: Unpack[MeasureKeywords],
) -> TopologyProfile:
    """Betti numbers of what the layers of ``model`` return, one row a cloud.

    Args:
        model: any module; it comes back as it was (see `Recording`).
        loader: batches of tensors, ``(inputs, labels)`` or dicts, a data set, or all samples at once;
            see `probe_samples`. Labels may be names, which are numbered in alphabetical order (the
            profile's notes say how).
        cluster: a Dask scheduler whose workers count the clouds; see `Workforce`. It pays where counting
            takes long: b2, intervals, thousands of samples.
        progress: a bar on stderr.
        options: the fields of `MeasureOptions`, each a keyword.

    Returns:
        A profile whose rows have no epoch.

    Raises:
        InputError: no labels for by="class", a glob that matches nothing, NaN in a layer output (the
            layer is named), no convolution for by="filter", outputs beyond `memory_limit`.
    """
    chosen = MeasureOptions(**options)
    probe = probe_samples(loader, max_points=chosen.max_points, seed=chosen.seed, named=True)
    meter = Meter(model, probe, chosen)
    with Workforce(cluster=cluster) as workforce:
        return meter.measure_once(workforce, progress=progress)


# Layer outputs that are measured in one call: few calls leave Python's lock to the training.
TOGETHER_BYTES = 1 << 26


@dataclass
class Reading:
    """One moment before anything is counted: accuracies, rows of the input (always the same), views."""

    epoch: int | None
    given: float | None = None
    share: float | None = None
    rows: list[ProfileRow] = field(default_factory=list)
    views: list[CloudView] = field(default_factory=list)


class Meter:
    """Measures one model on one probe, once or again and again at the same scale.

    Args:
        probe: the samples, drawn already: ``max_points`` of the options has had its say.
        threads: of the engine; 0 takes one a core.

    Attributes:
        scale: of every row.
        empty: a profile without rows, and with all that its profiles have in common.
    """

    def __init__(
        self, model: nn.Module, probe: Probe, options: MeasureOptions, *, threads: int = 0
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
        self.recording = Recording(
            model, probe, layers=chosen, tokens=options.tokens, after=options.after
        )
        self._labels = None if probe.labels is None else probe.labels.numpy()
        self._members = [] if probe.labels is None else class_members(probe.labels)
        self.scale = self._calibrated(seed) if isinstance(options.scale, str) else options.scale
        sensitivity = None
        if options.sensitivity:
            sensitivity = scan_scales(self._reference(), self._labels, scale=self.scale, seed=seed)
        settings = {
            "by": options.by,
            "layers": [layers] if isinstance(layers, str) else list(layers),
            "tokens": options.tokens,
            "after": options.after,
            "samples": len(probe),
            "repeats": options.repeats,
        }
        self.empty = TopologyProfile(
            (), seed, library_versions(), scale=self.scale, settings=settings,
            notes=(*probe.notes, *self._few(options.by), *self.recording.notes), sensitivity=sensitivity,
        )  # fmt: skip
        self._by: By = options.by
        # What the accuracy is measured on: nothing where probabilities would be taken for logits.
        unrated = probe.labels is None or bool(probe.names) or ends_in_sigmoid(model, probe.inputs)
        self._rated = None if unrated else probe.labels
        self.counting = CountSettings(self.scale, options.max_dim, threads, options.repeats, seed)
        n_views = 0 if by_filter else min(options.views, len(probe))
        picks = np.random.default_rng(seed).choice(len(probe), n_views, replace=False)
        self._drawn = torch.from_numpy(np.sort(picks))
        self._pictures: dict[tuple[str, int], Any] = {}
        self._input_rows: list[ProfileRow] | None = None

    def measure_once(self, workforce: Workforce, *, progress: bool = False) -> TopologyProfile:
        """The profile of the model as it is now, without an epoch."""
        total = len(self.recording.shapes) + (self.probe.points() is not None)
        outputs = track(self.recording.outputs(), "Betti numbers of layers", show=progress, total=total)
        return self.read(outputs, Reading(None), workforce)

    def read(
        self, outputs: Iterable[LayerOutput], reading: Reading, workforce: Workforce | None = None
    ) -> TopologyProfile:
        """Measure what the model returned, a portion at a time; needs the model no more."""
        epoch = reading.epoch
        counted = [
            self.rows(clouds, self.count(clouds, epoch, workforce), epoch)
            for clouds in self.portions(outputs, reading)
        ]
        return self.profile(reading, counted)

    def portions(self, outputs: Iterable[LayerOutput], reading: Reading) -> Iterator[list[LayerCloud]]:
        """Clouds to be counted in one call; what needs no counting goes into ``reading``."""
        together: list[LayerCloud] = []
        size = 0
        for output in outputs:
            if output.layer == OUTPUT:
                reading.share = share_right(output.values, self._rated)
                continue
            if self._by == "filter" and output.layer == self.recording.input_layer:
                continue
            if len(self._drawn):
                require_finite(output, reading.epoch)
                reading.views.append(self._view(output, reading.epoch))
            if output.layer == self.recording.input_layer and self._input_rows is not None:
                # The probe stays the same: its own rows are measured once.
                reading.rows += [replace(row, epoch=reading.epoch) for row in self._input_rows]
                continue
            together += layer_clouds(output, self._members, self._by)
            size += output.values.nbytes
            if size > TOGETHER_BYTES:
                yield together
                together, size = [], 0
        if together:
            yield together

    def count(
        self, clouds: list[LayerCloud], epoch: int | None, workforce: Workforce | None = None
    ) -> list[CloudCount]:
        """The engine's part, now."""
        with layer_named(clouds, epoch):
            return count_clouds([cloud.samples for cloud in clouds], self.counting, workforce)

    def rows(
        self, clouds: list[LayerCloud], counts: list[CloudCount], epoch: int | None
    ) -> list[ProfileRow]:
        return [self._row(*pair, epoch) for pair in zip(clouds, counts, strict=True)]

    def profile(self, reading: Reading, counted: Iterable[list[ProfileRow]]) -> TopologyProfile:
        """What `portions` has read, with the rows of each portion in order."""
        rows = [*reading.rows, *(row for portion_rows in counted for row in portion_rows)]
        if self._input_rows is None:
            self._input_rows = [row for row in rows if row.layer == self.recording.input_layer]
        if self._by == "filter" and not rows:
            raise InputError(
                "layers without a convolution output [n, c, ...]",
                "at least one convolution",
                "name one by its glob, or pass by='layer'",
            )
        accuracy = EpochAccuracy(reading.epoch, reading.share, reading.given)
        return replace(self.empty, rows=tuple(rows), accuracy=(accuracy,), views=tuple(reading.views))

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
        return next(iter(self.recording.outputs())).numpy()

    def _calibrated(self, seed: int) -> Scale:
        reference = self._reference()
        if not np.isfinite(reference).all():
            raise InputError("an input with NaN or infinity", "finite samples", "clean the data")
        return calibrate(reference, self._labels, max_points=max(2, len(reference)), seed=seed)

    def _row(self, cloud: LayerCloud, count: CloudCount, epoch: int | None) -> ProfileRow:
        output, betti = cloud.output, count.betti
        b0, b1, *b2 = betti.values
        notes = [output.note] if output.note else []
        notes += [betti.scale.note] if betti.scale != self.scale else []
        return ProfileRow(
            epoch=epoch,
            layer=output.layer,
            call=output.call,
            label=cloud.label,
            filter=cloud.filter,
            n_points=betti.n_points,
            b0=b0,
            b1=b1,
            b2=b2[0] if b2 else None,
            scale=betti.scale,
            intervals=count.intervals,
            note="; ".join(notes),
        )

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
