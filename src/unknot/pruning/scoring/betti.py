"""How tangled the outputs of each filter are: Betti numbers, filter by filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.console import track
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.nets.probe import Probe, map_tensors
from unknot.nets.recording import LayerOutput, Recording
from unknot.profiles.clouds import layer_clouds, require_finite
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
class Tangle:
    """Betti numbers of one filter's outputs, one point a sample.

    Attributes:
        layer, filter: whose.
        betti: (b0, b1); means over the classes where each class was measured.
        n_points: distinct points, of all measured clouds together.
        scale: the neighbour rule.
    """

    layer: str
    filter: int
    betti: tuple[float, ...]
    n_points: int
    scale: Scale

    def value(self, number: Number) -> float:
        """b0, b1 or their sum."""
        return float(sum(self.betti) if number == "sum" else self.betti[int(number[1])])


@dataclass(frozen=True)
class TangleRule:
    """How `measure_tangles` measures; the arguments of `score_filters` of the same names."""

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


def measure_tangles(
    model: nn.Module,
    layers: list[str],
    probe: Probe,
    rule: TangleRule,
    *,
    seed: int = 0,
    workforce: Workforce | None = None,
    progress: bool = False,
) -> Iterator[Tangle]:
    """The Betti numbers of every filter of ``layers``, layer by layer.

    Args:
        probe: with labels unless ``rule.clouds`` is "all".
        seed: of the distances from which "auto" takes its radius, and of "calibrate".
        workforce: see `count_clouds`.

    Raises:
        InputError: NaN (the layer is named), labels missing, a class without samples.
    """
    probe, groups = _groups(probe, rule)
    rng = np.random.default_rng(seed)
    for output in conv_outputs(model, layers, probe, progress=progress):
        if rule.scale == "auto":
            scale = layer_scales(output.values, (QUANTILE,), rng)[0]
        elif rule.scale == "calibrate":
            scale = _calibrated(output, probe.labels if rule.clouds == "class" else None, seed)
        else:
            scale = rule.scale
        found = [_of_group(output, group, scale, workforce) for group in groups]
        for i, of_classes in enumerate(zip(*found, strict=True)):
            yield _together(output.layer, i, of_classes, scale)


def conv_outputs(
    model: nn.Module, layers: list[str], probe: Probe, *, progress: bool = False
) -> Iterator[LayerOutput]:
    """What each of ``layers`` returned in its first call, finite, in bounded memory."""
    recording = Recording(model, probe, layers=layers, tokens="all")
    total = len(recording.shapes)
    for output in track(recording.outputs(), "Betti numbers of filters", show=progress, total=total):
        if output.layer in layers and output.call == 0:
            require_finite(output, None)
            if isinstance(recording.model.get_submodule(output.layer), nn.Linear):  # [n, ..., c]
                values = output.values
                values = values.movedim(-1, 1) if values.ndim > 2 else values[..., None]
                output = replace(output, values=values)  # noqa: PLW2901
            yield output


def layer_scales(
    values: Tensor, quantiles: tuple[float, ...], rng: np.random.Generator
) -> tuple[Scale, ...]:
    """The radii that join such shares of sampled pairs of samples, over all filters of a layer.

    Args:
        values: ``[n, c, ...]``.
        quantiles: in [0, 1].
    """
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


def _groups(probe: Probe, rule: TangleRule) -> tuple[Probe, list[Tensor]]:
    """The probe, and the rows of the samples that are measured as one cloud."""
    labels = probe.labels
    if rule.clouds == "all":
        return probe, [torch.arange(len(probe))]
    if labels is None:
        raise InputError(
            f"clouds = {rule.clouds!r} with a loader without class labels",
            "(inputs, labels [n])",
            "add them or pass clouds='all'",
        )
    present = torch.unique(labels).tolist()
    if rule.classes is None:
        return probe, [(labels == label).nonzero()[:, 0] for label in present]
    if len(set(rule.classes)) != 2 or not set(rule.classes) <= set(present):
        raise InputError(
            f"classes = {rule.classes}", f"two different classes of {present}", "pass e.g. classes=(3, 5)"
        )
    rows = torch.isin(labels, torch.tensor(rule.classes))
    pair = Probe(map_tensors(probe.inputs, lambda tensor: tensor[rows]), labels[rows])
    return pair, [torch.arange(len(pair))]


def _of_group(
    output: LayerOutput, rows: Tensor, scale: Scale, workforce: Workforce | None
) -> list[tuple[tuple[int, ...], int, Scale]]:
    part = LayerOutput(output.layer, output.call, output.values[rows])
    clouds: list[FloatArray] = [cloud.samples for cloud in layer_clouds(part, [], "filter")]
    found = [count.betti for count in count_clouds(clouds, CountSettings(scale), workforce)]
    return [(betti.values, betti.n_points, betti.scale) for betti in found]


def _together(
    layer: str, channel: int, found: tuple[tuple[tuple[int, ...], int, Scale], ...], scale: Scale
) -> Tangle:
    if len(found) == 1:
        values, n_points, at = found[0]
        return Tangle(layer, channel, values, n_points, at)
    means = tuple(sum(column) / len(found) for column in zip(*(v for v, _, _ in found), strict=True))
    if any(at != scale for _, _, at in found):
        scale = replace(scale, note="; ".join(filter(None, (scale.note, "k lowered in some classes"))))
    return Tangle(layer, channel, means, sum(n for _, n, _ in found), scale)


def _calibrated(output: LayerOutput, labels: Tensor | None, seed: int) -> Scale:
    samples = output.numpy()
    if (samples == samples[0]).all():
        return Scale(k=1, hops=1, determined=False, note="a constant layer")
    return calibrate(samples, None if labels is None else labels.numpy(), seed=seed)


def _check_word(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} = {value!r}", " or ".join(map(repr, allowed)), f"pass {allowed[0]!r}")
