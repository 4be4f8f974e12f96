"""Betti numbers of the outputs of each filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.nets.probe import Probe, map_tensors
from unknot.nets.recording import LayerOutput, Recording
from unknot.profiles.clouds import channel_clouds, require_finite
from unknot.pruning.scoring.criteria import Criterion, Evidence, FilterBetti, LayerScores, register
from unknot.pruning.structure.layers import is_attention, width_of
from unknot.pruning.structure.linear_maps import by_sample
from unknot.topology.batch import CountSettings, count_clouds
from unknot.topology.calibration import calibrate
from unknot.topology.cloud import FloatArray
from unknot.topology.scale import Scale, require_rule

Number = Literal["b0", "b1", "sum"]
Clouds = Literal["all", "class", "pair"]
ScaleRule = Scale | Literal["auto", "calibrate"]
QUANTILE = 0.02
SAMPLED_PAIRS = 2000


@dataclass(frozen=True)
class Betti(Criterion):
    """Betti numbers of each filter's outputs, one point a sample (arXiv 2109.01572).

    Attributes:
        scale, number, clouds, classes: as of `score_filters`.

    Raises:
        InputError: one of them is bad, or two do not go together.
    """

    needs = "samples"
    remove_high = True
    gives_betti = True

    scale: ScaleRule = "auto"
    number: Number = "sum"
    clouds: Clouds = "all"
    classes: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.scale not in ("auto", "calibrate"):
            require_rule(self.scale, "'auto' or 'calibrate'")
        _check_word("number", self.number, ("b0", "b1", "sum"))
        _check_word("clouds", self.clouds, ("all", "class", "pair"))
        if (self.clouds == "pair") != (self.classes is not None):
            raise InputError(
                f"clouds = {self.clouds!r} with classes = {self.classes}",
                "two classes for clouds='pair', and only there",
                "pass e.g. clouds='pair', classes=(3, 5)",
            )

    def score(self, evidence: Evidence) -> dict[str, LayerScores]:
        """Layer by layer, in the order in which they ran; attention has none.

        Raises:
            InputError: NaN (the layer is named), labels missing, a class without samples.
        """
        assert evidence.probe is not None
        probe, groups = self._groups(evidence.probe)
        rng = np.random.default_rng(evidence.seed)
        scores = {}
        layers = [name for name, layer in evidence.layers.items() if not is_attention(layer)]
        outputs = conv_outputs(evidence.model, layers, probe, progress=evidence.progress)
        with Workforce(cluster=evidence.cluster) as workforce:
            for output in outputs:
                scale = self._scale(output, probe, rng, evidence.seed)
                of_groups = [_counts(output, rows, scale, workforce) for rows in groups]
                counts = [_mean(of_filter, scale) for of_filter in zip(*of_groups, strict=True)]
                values = [self.chosen(count.betti) for count in counts]
                scores[output.layer] = LayerScores(values, counts)
        return scores

    def chosen(self, betti: Sequence[float]) -> float:
        """b0, b1 or their sum, as ``number`` says."""
        return float(sum(betti) if self.number == "sum" else betti[int(self.number[1])])

    def _scale(self, output: LayerOutput, probe: Probe, rng: np.random.Generator, seed: int) -> Scale:
        if isinstance(self.scale, Scale):
            return self.scale
        if self.scale == "auto":
            return layer_scales(output.values, (QUANTILE,), rng)[0]
        return _calibrated(output, probe.labels if self.clouds == "class" else None, seed)

    def _groups(self, probe: Probe) -> tuple[Probe, list[Tensor]]:
        """The probe, and the rows of the samples that are measured as one cloud."""
        labels = probe.labels
        if self.clouds == "all":
            return probe, [torch.arange(len(probe))]
        if labels is None:
            raise InputError(
                f"clouds = {self.clouds!r} with a loader without class labels",
                "(inputs, labels [n])",
                "add them or pass clouds='all'",
            )
        present = torch.unique(labels).tolist()
        if self.classes is None:
            return probe, [(labels == label).nonzero()[:, 0] for label in present]
        if len(set(self.classes)) != 2 or not set(self.classes) <= set(present):
            raise InputError(
                f"classes = {self.classes}",
                f"two different classes of {present}",
                "pass e.g. classes=(3, 5)",
            )
        rows = torch.isin(labels, torch.tensor(self.classes))
        pair = Probe(map_tensors(probe.inputs, lambda tensor: tensor[rows]), labels[rows])
        return pair, [torch.arange(len(pair))]


def conv_outputs(
    model: nn.Module, layers: list[str], probe: Probe, *, progress: ShowProgress = False
) -> Iterator[LayerOutput]:
    """What each of ``layers`` returned in its first call, finite, in bounded memory.

    Those whose own forward moved their channels elsewhere are left out.
    """
    recording = Recording(model, probe, layers=layers, tokens="all")
    total = len(recording.shapes)
    for output in track(recording.outputs(), "Betti numbers of filters", show=progress, total=total):
        if output.layer in layers and output.call == 0:
            require_finite(output, None)
            layer = recording.model.get_submodule(output.layer)
            values = by_sample(layer, output.values, len(output.values))
            if values.shape[1] == width_of(layer) and len(values) == len(output.values):
                yield replace(output, values=values)


def layer_scales(
    values: Tensor, quantiles: tuple[float, ...], rng: np.random.Generator
) -> tuple[Scale, ...]:
    """The radii that join such shares of pairs of samples, over all filters of ``[n, c, ...]``."""
    if len(values) < 2:
        raise InputError("1 sample", "at least 2 samples for a scale", "pass more samples, or a Scale")
    flat = values.flatten(2).float()  # [n, c, positions]
    pairs = [torch.from_numpy(rng.integers(len(flat), size=SAMPLED_PAIRS)) for _ in range(2)]
    block = max(1, (1 << 26) // flat[0].numel())  # 256 MB of differences
    parts = [
        (flat[a] - flat[b]).norm(dim=2)[a != b]
        for a, b in zip(*(torch.split(p, block) for p in pairs), strict=True)
    ]
    distances = torch.cat(parts).flatten()[:1_000_000]
    radii = torch.quantile(distances, torch.tensor(quantiles)).tolist()
    return tuple(
        Scale(
            radius=radius,
            determined=False,
            note=f"{100 * quantile:g}% quantile of the layer's distances, a convention",
        )
        for quantile, radius in zip(quantiles, radii, strict=True)
    )


def filter_clouds(output: LayerOutput, rows: Tensor) -> list[FloatArray]:
    """The cloud of each filter ``[r, d]``, of some of the samples."""
    part = replace(output, values=output.values[rows])
    return channel_clouds(part)


def _counts(output: LayerOutput, rows: Tensor, scale: Scale, workforce: Workforce) -> list[FilterBetti]:
    """Those of each filter, on some of the samples."""
    counts = count_clouds(filter_clouds(output, rows), CountSettings(scale), workforce)
    return [FilterBetti(c.betti.values, c.betti.n_points, c.betti.scale) for c in counts]


def _mean(of_groups: tuple[FilterBetti, ...], scale: Scale) -> FilterBetti:
    """Betti numbers averaged over the groups of samples, points of all together."""
    if len(of_groups) == 1:
        return of_groups[0]
    columns = zip(*(group.betti for group in of_groups), strict=True)
    if any(group.scale != scale for group in of_groups):
        scale = replace(scale, note="; ".join(filter(None, (scale.note, "k lowered in some classes"))))
    betti = tuple(sum(column) / len(of_groups) for column in columns)
    return FilterBetti(betti, sum(group.n_points for group in of_groups), scale)


def _calibrated(output: LayerOutput, labels: Tensor | None, seed: int) -> Scale:
    samples = output.numpy()
    if (samples == samples[0]).all():
        return Scale(k=1, hops=1, determined=False, note="a constant layer")
    return calibrate(samples, None if labels is None else labels.numpy(), seed=seed)


def _check_word(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} = {value!r}", " or ".join(map(repr, allowed)), f"pass {allowed[0]!r}")


register("betti", Betti())
