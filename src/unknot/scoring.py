"""FilterScores: how tangled, or how important, each convolution filter is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unknot.capture import Recording
from unknot.clouds import cloud_betti, layer_clouds, require_finite
from unknot.console import track
from unknot.errors import InputError
from unknot.files import read_record, write_record
from unknot.graph import Scale
from unknot.probe import Probe, probe_samples

Criterion = Callable[[str, nn.Conv2d], "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class FilterScore:
    """The score of one filter.

    Attributes:
        layer: dotted module name of the convolution.
        filter: its output channel.
        score: by ``criterion``.
        criterion: its name.
        n_points: distinct points the score was measured on, None for criteria of the weights alone.
        scale: the neighbour rule, None likewise.
        betti: (b0, b1) for the criterion "betti".
    """

    layer: str
    filter: int
    score: float
    criterion: str
    n_points: int | None = None
    scale: Scale | None = None
    betti: tuple[int, ...] | None = None


@dataclass(frozen=True)
class FilterScores:
    """Scores of every prunable filter.

    Attributes:
        rows: one record a filter, layer by layer.
        criterion: its name.
        remove_high: True where a high score is a reason to remove (Betti numbers), False where a low
            one is (importance).
    """

    rows: tuple[FilterScore, ...]
    criterion: str
    remove_high: bool

    def by_layer(self) -> dict[str, tuple[FilterScore, ...]]:
        """The rows of each layer, in the order of its filters."""
        layers: dict[str, list[FilterScore]] = defaultdict(list)
        for row in self.rows:
            layers[row.layer].append(row)
        return {layer: tuple(rows) for layer, rows in layers.items()}

    def to_json(self, path: str | Path) -> None:
        """Write the scores to ``path``, whole or not at all."""
        write_record(path, "scores", asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> FilterScores:
        """Read what `to_json` wrote."""
        return read_record(path, "scores", _parse_scores)


def score_filters(
    model: nn.Module,
    loader: Iterable[Any] | Tensor | None = None,
    *,
    criterion: str | Criterion = "betti",
    scale: Scale | Literal["auto"] = "auto",
    max_points: int = 400,
    seed: int = 0,
    progress: bool = False,
) -> FilterScores:
    """Score every filter of every two-dimensional convolution.

    Args:
        model: not changed.
        loader: samples for "betti"; the criteria of the weights need none.
        criterion: "betti" (b0 + b1 of the filter's outputs, one point a sample: high is tangled, hence
            removed; arXiv 2109.01572), "l1" (sum of absolute weights), "random", or a callable
            ``(layer name, convolution) -> scores [filters]`` whose low scores go.
        scale: for "betti". "auto" is, for each layer, the Rips radius at the 2 % quantile of the
            distances between its filters' outputs; a Betti number of a filter says more about this
            scale and about ``max_points`` than about the filter, so it stands in every row.
        max_points: samples, stratified by class and seeded.
        seed: of the samples, of "random", and of the sampled distances.
    """
    convolutions = conv_layers(model)
    if criterion == "betti":
        if loader is None:
            raise InputError("loader = None", "samples for the criterion 'betti'", "pass a loader")
        probe = probe_samples(loader, max_points=max_points, seed=seed)
        rows = _betti_scores(model, list(convolutions), probe, scale, seed, progress)
        return FilterScores(rows, "betti", remove_high=True)
    rng = np.random.default_rng(seed)
    named: dict[str, Criterion] = {
        "l1": lambda _, conv: conv.weight.detach().abs().flatten(1).sum(1).cpu().double().numpy(),
        "random": lambda _, conv: rng.random(conv.out_channels),
    }
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "callable")
    function = named.get(criterion) if isinstance(criterion, str) else criterion
    if function is None:
        raise InputError(
            f"criterion = {criterion!r}", "'betti', 'l1', 'random' or a callable", "pick one"
        )
    scored = []
    for layer, convolution in convolutions.items():
        values = np.asarray(function(layer, convolution), dtype=np.float64)
        if values.shape != (convolution.out_channels,) or not np.isfinite(values).all():
            raise InputError(
                f"criterion {name} gave shape {values.shape} for layer {layer}",
                f"({convolution.out_channels},) finite scores",
                "return one finite number a filter",
            )
        scored += [FilterScore(layer, i, float(v), name) for i, v in enumerate(values)]
    return FilterScores(tuple(scored), name, remove_high=False)


def conv_layers(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Every two-dimensional convolution by dotted name.

    Raises:
        InputError: there is none.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if not found:
        raise InputError(
            f"a {type(model).__name__} without two-dimensional convolutions",
            "at least one nn.Conv2d",
            "pruning removes convolution filters; pass a convolution net",
        )
    return found


def _betti_scores(
    model: nn.Module,
    layers: list[str],
    probe: Probe,
    scale: Scale | Literal["auto"],
    seed: int,
    progress: bool,
) -> tuple[FilterScore, ...]:
    recording = Recording(model, probe, layers=layers, tokens="all")
    rng = np.random.default_rng(seed)
    rows: list[FilterScore] = []
    outputs = track(
        recording.outputs(), "Betti numbers of filters", show=progress, total=len(recording.shapes)
    )
    for output in outputs:
        if output.layer not in layers or output.call > 0:
            continue
        require_finite(output, None)
        at = _layer_radius(output.values, rng) if scale == "auto" else scale
        clouds = [cloud.samples for cloud in layer_clouds(output, None, "filter")]
        rows += [
            FilterScore(output.layer, i, float(b.total), "betti", b.n_points, b.scale, b.values)
            for i, b in enumerate(cloud_betti(clouds, at))
        ]
    return tuple(rows)


def _layer_radius(values: Tensor, rng: np.random.Generator, quantile: float = 0.02) -> Scale:
    """The radius that joins 2 % of sampled pairs of samples, over all filters of a layer."""
    flat = values.flatten(2).float()  # [n, filters, h * w]
    a, b = (torch.from_numpy(rng.integers(len(flat), size=2000)) for _ in range(2))
    distances = (flat[a] - flat[b]).norm(dim=2)[a != b]
    radius = float(torch.quantile(distances.flatten()[:1_000_000], quantile))
    if not math.isfinite(radius):
        raise InputError("a layer output with NaN or infinity", "finite outputs", "check the model")
    note = f"{quantile:.0%} quantile of the layer's distances, a convention"
    return Scale(radius=radius, determined=False, note=note)


def _parse_scores(record: dict[str, Any]) -> FilterScores:
    rows = []
    for row in record["rows"]:
        scale = None if row["scale"] is None else Scale(**row["scale"])
        betti = None if row["betti"] is None else tuple(row["betti"])
        rows.append(FilterScore(**{**row, "scale": scale, "betti": betti}))
    return FilterScores(tuple(rows), record["criterion"], record["remove_high"])
