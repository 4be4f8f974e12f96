"""FilterScores: how tangled, or how important, each convolution filter is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.core.files import read_record, typed, write_record
from unknot.core.workforce import Workforce
from unknot.nets.probe import Probe, probe_samples
from unknot.nets.running import unwrapped
from unknot.pruning.scoring.betti import Clouds, Number, ScaleRule, TangleRule, measure_tangles
from unknot.pruning.scoring.elder import elder_scores, filter_distances, nearest_elder
from unknot.pruning.scoring.observations import (
    DEAD,
    DUPLICATE,
    Observations,
    fpgm,
    l1,
    observe,
    redundancy_notes,
)
from unknot.pruning.scoring.surgeon import removal_costs
from unknot.pruning.structure.channels import Channel
from unknot.pruning.structure.layers import Layer, prunable_layers, width_of
from unknot.topology.scale import Scale

Criterion = Callable[[str, Any], "NDArray[Any]"]
CRITERIA = (
    "betti", "l1", "random", "elder", "elder-taylor", "elder-h0", "elder-h0-taylor", "taylor", "bn",
    "fpgm", "surgeon", "elder-surgeon",
)  # fmt: skip
_ELDERS = {"elder": False, "elder-taylor": False, "elder-h0": True, "elder-h0-taylor": True}
_OF_LABELS = ("taylor", "elder-taylor", "elder-h0-taylor")
_OF_READERS = ("surgeon", "elder-surgeon")
_OF_SAMPLES = ("betti", "bn", *_ELDERS, *_OF_LABELS, *_OF_READERS)


@dataclass(frozen=True)
class FilterScore:
    """The score of one filter.

    Attributes:
        layer: dotted module name of the convolution or linear layer.
        filter: its output channel.
        score: by ``criterion``; of a redundant filter, beyond those of all others.
        criterion: its name.
        n_points: distinct points of "betti", samples of the other criteria that need them, else None.
        scale: the neighbour rule of "betti", else None.
        betti: (b0, b1) for the criterion "betti"; means over the classes where each was measured.
        note: why the filter is redundant, or why another criterion stands in; empty otherwise.
    """

    layer: str
    filter: int
    score: float
    criterion: str
    n_points: int | None = None
    scale: Scale | None = None
    betti: tuple[float, ...] | None = None
    note: str = ""

    @property
    def redundant(self) -> bool:
        """Whether the filter goes first: it is dead or a duplicate, as ``note`` tells."""
        return self.note.startswith((DEAD, DUPLICATE))


@dataclass(frozen=True)
class FilterScores:
    """Scores of every prunable filter.

    Attributes:
        rows: one record a filter, layer by layer.
        criterion: its name.
        remove_high: True where a high score is a reason to remove (Betti numbers), False where a low
            one is (importance).
        comparable: whether scores of different layers can be compared as they are.
    """

    rows: tuple[FilterScore, ...]
    criterion: str
    remove_high: bool
    comparable: bool = False

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
        return read_record(path, "scores", lambda record: typed(cls, record))


def score_filters(
    model: nn.Module,
    loader: Iterable[Any] | Tensor | None = None,
    *,
    criterion: str | Criterion = "betti",
    linear: Sequence[str] = (),
    scale: ScaleRule = "auto",
    number: Number = "sum",
    clouds: Clouds = "all",
    classes: tuple[int, int] | None = None,
    max_points: int = 400,
    seed: int = 0,
    cluster: str | None = None,
    progress: bool = False,
) -> FilterScores:
    """Score every filter of every convolution, and every output of the linear layers asked for.

    With a loader, filters that are dead (one output for all samples) or duplicates (equal to a better
    one up to a positive factor) are found under every criterion; their ``note`` says so, and their
    scores make them go first.

    Args:
        model: not changed.
        loader: samples, with labels for the criteria with "taylor"; see `probe_samples`. "l1", "fpgm",
            "random" and callables do without.
        criterion: "elder" (L1 norm x distance to the nearest more important filter), "elder-h0" (x
            the death in H0 by the elder rule), either with "-taylor" in place of the L1 norm; "taylor"
            (first-order change of the loss); "l1"; "bn" (|scale| of the batch normalisation that
            follows); "fpgm" (distance to the other filters); "surgeon" (error of the layers that read
            the filter once their weights are refitted to do without, see `removal_costs`; no labels),
            or "elder-surgeon" (x the distance to the nearest filter that is dearer); "random"; "betti"
            (Betti numbers of the filter's outputs, one point a sample: high is tangled, hence removed;
            arXiv 2109.01572); or a callable ``(layer name, convolution) -> scores [filters]`` whose
            low scores go.
        linear: globs of linear layers whose outputs are scored, and then pruned, like filters: 1 x 1
            convolutions written as linear layers, e.g. "*pwconv1" of a ConvNeXt, or the inner ones of
            any multilayer perceptron.
        scale: for "betti". "auto": for each layer the Rips radius at the 2 % quantile of the distances
            between its filters' outputs, a convention; "calibrate": the kNN-hop scale that `calibrate`
            finds on the layer's output, marked where it finds none; or a Scale.
        number: for "betti": "b0", "b1" or their "sum".
        clouds: for "betti": "all" samples as one cloud; the mean over one cloud a "class"; or the
            samples of a "pair" of ``classes`` as one cloud.
        max_points: samples, stratified by class and seeded.
        seed: of the samples, of "random", and of what is drawn from layer outputs.
        cluster: for "betti": a Dask scheduler whose workers count; see `Workforce`.

    Raises:
        InputError: no convolution, a glob that matches no linear layer, an unknown criterion, no samples
            or labels where they are needed, NaN in a layer output (the layer is named).
    """
    model = unwrapped(model)
    convolutions = prunable_layers(model, linear)
    rule = TangleRule(scale, number, clouds, classes)
    name = _checked_name(criterion, loader is not None)
    probe = None if loader is None else probe_samples(loader, max_points=max_points, seed=seed)
    labels = _labels(probe) if probe is not None and name in _OF_LABELS else None
    seen: dict[str, Observations] = {}
    if probe is not None:
        seen = observe(model, probe, convolutions, labels=labels, seed=seed, progress=progress)
    rows: list[FilterScore] = []
    if name == "betti" and probe is not None:
        ran = [layer for layer in convolutions if layer in seen]
        with Workforce(cluster=cluster) as workforce:
            tangles = measure_tangles(
                model, ran, probe, rule, seed=seed, workforce=workforce, progress=progress
            )
            rows = [
                FilterScore(t.layer, t.filter, t.value(number), name, t.n_points, t.scale, t.betti)
                for t in tangles
            ]
    else:
        samples = len(probe) if probe is not None and name in _OF_SAMPLES else None
        costs = {}
        if name in _OF_READERS and probe is not None:
            named = [n for n, layer in convolutions.items() if isinstance(layer, nn.Linear)]
            costs = removal_costs(model, probe, linear=named, seed=seed, progress=progress)
        score = criterion if callable(criterion) else _named(name, seen, costs, seed)
        for layer, convolution in convolutions.items():
            if layer in seen or name not in _OF_SAMPLES:
                rows += _scored(layer, convolution, name, score, samples)
        rows = _with_stand_ins(rows, convolutions, seen) if name == "bn" else rows
    remove_high = name == "betti"
    comparable = name in _OF_READERS
    return FilterScores(_redundant_first(rows, seen, remove_high), name, remove_high, comparable)


def _checked_name(criterion: str | Criterion, has_loader: bool) -> str:
    if callable(criterion):
        return getattr(criterion, "__name__", "callable")
    if criterion not in CRITERIA:
        known = ", ".join(map(repr, CRITERIA))
        raise InputError(f"criterion = {criterion!r}", f"{known} or a callable", "pick one")
    if criterion in _OF_SAMPLES and not has_loader:
        raise InputError("loader = None", f"samples for the criterion {criterion!r}", "pass a loader")
    return criterion


def _labels(probe: Probe) -> Tensor:
    if probe.labels is None:
        raise InputError(
            "a loader without class labels",
            "(inputs, labels [n]) for a criterion with 'taylor'",
            "add them, or pass criterion='elder'",
        )
    if len(set(probe.labels.tolist())) < 2:
        raise InputError(
            f"samples of class {int(probe.labels[0])} alone",
            "samples of two classes or more for a criterion with 'taylor'",
            "pass a loader that covers the classes",
        )
    return probe.labels


def _named(name: str, seen: dict[str, Observations], costs: dict[Channel, float], seed: int) -> Criterion:
    """The criterion of that name as a function of layer name and convolution."""
    rng = np.random.default_rng(seed)

    def taylor(layer: str, _: Layer) -> NDArray[Any]:
        found = seen[layer].taylor
        assert found is not None
        return found

    def elder(layer: str, convolution: Layer) -> NDArray[Any]:
        importance = taylor(layer, convolution) if name in _OF_LABELS else l1(convolution)
        return elder_scores(importance, seen[layer].correlation, strict=_ELDERS[name])

    def surgeon(layer: str, convolution: Layer) -> NDArray[Any]:
        # Of channels that no other layer reads the model's output depends, hence they cost everything.
        cost = np.array([costs.get((layer, i), 1.0) for i in range(width_of(convolution) or 0)])
        if name == "surgeon":
            return cost
        return np.asarray(cost * nearest_elder(cost, filter_distances(seen[layer].correlation)))

    def bn(layer: str, convolution: Layer) -> NDArray[Any]:
        gamma = seen[layer].gamma
        return l1(convolution) if gamma is None else gamma

    return {
        "l1": lambda _, conv: l1(conv),
        "fpgm": lambda _, conv: fpgm(conv),
        "random": lambda _, conv: rng.random(width_of(conv)),
        "taylor": taylor,
        "bn": bn,
        "surgeon": surgeon,
        "elder-surgeon": surgeon,
    }.get(name, elder)


def _scored(
    layer: str, convolution: Layer, name: str, score: Criterion, samples: int | None
) -> list[FilterScore]:
    values = np.asarray(score(layer, convolution), dtype=np.float64)
    if values.shape != (width_of(convolution),) or not np.isfinite(values).all():
        raise InputError(
            f"criterion {name} gave shape {values.shape} for layer {layer}",
            f"({width_of(convolution)},) finite scores",
            "return one finite number a filter",
        )
    return [FilterScore(layer, i, float(v), name, samples) for i, v in enumerate(values)]


def _with_stand_ins(
    rows: list[FilterScore], convolutions: dict[str, Layer], seen: dict[str, Observations]
) -> list[FilterScore]:
    note = "no batch normalisation follows: L1 norm"
    without = {layer for layer in convolutions if layer in seen and seen[layer].gamma is None}
    return [replace(r, criterion="l1", note=note) if r.layer in without else r for r in rows]


def _redundant_first(
    rows: list[FilterScore], seen: dict[str, Observations], remove_high: bool
) -> tuple[FilterScore, ...]:
    """Notes on dead filters and duplicates, and scores beyond 0 and all others: the dead go first."""
    sign = 1.0 if remove_high else -1.0
    beyond = max([0.0, *(sign * row.score for row in rows)])
    notes: dict[tuple[str, int], str] = {}
    for layer, of_layer in FilterScores(tuple(rows), "", remove_high).by_layer().items():
        if layer in seen:
            badness = [sign * row.score for row in of_layer]
            notes |= {(layer, i): n for i, n in redundancy_notes(badness, seen[layer]).items()}
    return tuple(
        row
        if (note := notes.get((row.layer, row.filter))) is None
        else replace(row, note=note, score=sign * (beyond + (2.0 if note == DEAD else 1.0)))
        for row in rows
    )
