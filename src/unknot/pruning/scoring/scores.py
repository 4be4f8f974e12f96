"""FilterScores: how much each convolution filter matters, by a criterion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from unknot.core.console import ShowProgress
from unknot.core.errors import InputError, require_count, require_instance
from unknot.core.files import Saved
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.nets.probe import Probe, probe_samples
from unknot.nets.running import unwrapped
from unknot.pruning.scoring.betti import Betti, Clouds, Number, ScaleRule
from unknot.pruning.scoring.criteria import (
    DEFAULT,
    Criterion,
    Evidence,
    LayerScores,
    find_criterion,
    gives_betti,
    naming,
)
from unknot.pruning.scoring.observations import (
    DEAD,
    DUPLICATE,
    Observations,
    observe,
    redundancy_notes,
)
from unknot.pruning.structure.layers import prunable_layers, width_of
from unknot.pruning.structure.pools import Structure, require_structure_of
from unknot.topology.scale import Scale


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


@dataclass(frozen=True, repr=False)
class FilterScores(Tabular, Saved):
    """Scores of every prunable filter.

    Attributes:
        rows: one record a filter, layer by layer.
        criterion: its name.
        remove_high: True where a high score is a reason to remove (Betti numbers), False where a low
            one is (importance).
        comparable: whether scores of different layers can be compared as they are.
        are_betti: whether they are Betti numbers; None in the files of earlier versions.
    """

    file_kind = "scores"

    rows: tuple[FilterScore, ...]
    criterion: str
    remove_high: bool
    comparable: bool = False
    are_betti: bool | None = None

    @property
    def gives_betti(self) -> bool:
        """Whether a plan can set a threshold on them: they are Betti numbers."""
        return gives_betti(self.criterion) if self.are_betti is None else self.are_betti

    def _columns(self) -> dict[str, list[Any]]:
        plain = ("layer", "filter", "score", "criterion", "n_points")
        columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in self.rows] for name in plain}
        if any(row.scale for row in self.rows):
            columns["scale"] = [None if row.scale is None else str(row.scale) for row in self.rows]
        if any(row.betti for row in self.rows):
            for i, name in enumerate(("b0", "b1")):
                columns[name] = [None if row.betti is None else row.betti[i] for row in self.rows]
        return {**columns, "note": [row.note for row in self.rows]}

    def _title(self) -> str:
        layers, first = len(self.by_layer()), "highest" if self.remove_high else "lowest"
        n = len(self.rows)
        of = f"{n:,} filter{'s' * (n != 1)} of {layers:,} layer{'s' * (layers != 1)}"
        return f"FilterScores by {self.criterion}: {of}; the {first} go first"

    def plot(self, ax: Any = None, *, removed: Mapping[str, Sequence[int]] | None = None) -> Any:
        """Draw the scores, sorted within each layer.

        Args:
            ax: matplotlib axes; None makes new ones.
            removed: {layer: filters} that go, e.g. ``plan.removed``; they are drawn as crosses.

        Returns:
            The axes. Dead and duplicate filters, whose scores say no more than that they go first, are
            drawn at the edge.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        drawing.require_rows(self.rows, "scores")
        (axes,) = drawing.axes_for(ax, 7, 3.2)
        first = edge_score(self.rows, self.remove_high)
        start, ticks, layers = 0, [], self.by_layer()
        gap = max(1, len(self.rows) // 40)
        gone = {(layer, i) for layer, filters in (removed or {}).items() for i in filters}
        marks: dict[bool, list[tuple[int, float]]] = {False: [], True: []}
        for layer, rows in layers.items():
            heights = [(first if r.redundant else r.score, (layer, r.filter) in gone) for r in rows]
            for i, (height, goes) in enumerate(sorted(heights)):
                marks[goes].append((start + i, height))
            ticks.append(start + (len(rows) - 1) / 2)
            start += len(rows) + gap
        for goes, name in ((False, "stays"), (True, "is removed")):
            tone, symbol = (drawing.GONE, "x") if goes else (drawing.KEPT, "o")
            if marks[goes]:
                axes.scatter(*zip(*marks[goes], strict=True), s=12, color=tone, marker=symbol, label=name)
        scores = [height for of in marks.values() for _, height in of]
        if min(scores) > 0 and drawing.is_wide([score / min(scores) for score in scores]):
            axes.set_yscale("log")
        elif min(scores) >= 0:
            drawing.scale_counts(axes, "y", scores)
        axes.set_xticks(
            ticks, [drawing.short(layer, 18) for layer in layers], rotation=20 * (len(ticks) > 6)
        )
        axes.tick_params(axis="x", length=0)
        named = "Betti number" if self.gives_betti else drawing.short(self.criterion)
        axes.set(ylabel=f"score: {named}", xlabel="filters by layer, sorted")
        if gone:
            axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes

    def by_layer(self) -> dict[str, tuple[FilterScore, ...]]:
        """The rows of each layer, in the order of its filters."""
        layers: dict[str, list[FilterScore]] = defaultdict(list)
        for row in self.rows:
            layers[row.layer].append(row)
        return {layer: tuple(rows) for layer, rows in layers.items()}


def edge_score(rows: Sequence[FilterScore], remove_high: bool) -> float:
    """The score of the filter that goes first of those that are not redundant; 0 where all are."""
    scores = [row.score for row in rows if not row.redundant]
    return (max if remove_high else min)(scores, default=0.0)


def score_filters(
    model: nn.Module,
    loader: Iterable[Any] | Tensor | None = None,
    *,
    criterion: str | Criterion | Callable[[str, Any], ArrayLike] = DEFAULT,
    linear: Sequence[str] | None = None,
    scale: ScaleRule = "auto",
    number: Number = "sum",
    clouds: Clouds = "all",
    classes: tuple[int, int] | None = None,
    max_points: int = 400,
    seed: int = 0,
    structure: Structure | None = None,
    cluster: str | None = None,
    progress: ShowProgress = "auto",
) -> FilterScores:
    """Score every filter of every convolution, and every output of the linear layers.

    With a loader, filters that are dead (one output for all samples) or duplicates (equal to a better
    one up to a positive factor) are found under every criterion; their ``note`` says so, and their
    scores make them go first.

    Args:
        model: not changed.
        loader: samples, with labels for the criteria with "taylor"; see `probe_samples`. "l1", "fpgm",
            "random" and callables do without.
        criterion: one of these names, or of those added by `register`:
            "surgeon": the error of the layers that take in the filter once their weights are refitted
            to do without (see `removal_costs`); no labels;
            "elder-surgeon", the default: this times the distance to the nearest filter that is dearer;
            "elder": L1 norm times the distance to the nearest more important filter;
            "elder-h0": L1 norm times the death in H0 by the elder rule;
            "elder-taylor", "elder-h0-taylor": the same with Taylor in place of the L1 norm;
            "taylor": first-order change of the loss;
            "l1": sum of absolute weights;
            "bn": |scale| of the batch normalisation that follows;
            "fpgm": distance to the other filters;
            "random";
            "betti": Betti numbers of the filter's outputs, one point a sample; high is tangled, hence
            removed (arXiv 2109.01572).
            Or a callable: it gets the dotted name and the module of each layer, and gives an array or a
            tensor of one finite number a filter, of which low ones go. Or a `Criterion`.
        linear: globs of the linear layers whose outputs are scored, and then pruned, like filters, e.g.
            "*pwconv1"; None: all but the last layer of the model; ``()``: none.
        scale: for "betti". "auto": for each layer the Rips radius at the 2 % quantile of the distances
            between its filters' outputs, a convention; "calibrate": the kNN-hop scale that `calibrate`
            finds on the layer's output, marked where it finds none; or a Scale.
        number: for "betti": "b0", "b1" or their "sum".
        clouds: for "betti": "all" samples as one cloud; the mean over one cloud a "class"; or the
            samples of a "pair" of classes as one cloud.
        classes: for "betti" with ``clouds="pair"``: the labels of the two.
        max_points: samples, stratified by class and seeded.
        seed: of the samples, of "random", and of what is drawn from layer outputs.
        structure: for the criteria with "surgeon": what `find_structure` found for this model and the
            same linear layers; without it they follow the channels themselves.
        cluster: for "betti": a Dask scheduler whose workers count; see `Workforce`.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: no layer to prune, a glob that matches no linear layer, no such criterion, no samples
            or labels where they are needed, scores that are not one finite number a filter, a structure
            of another model, NaN in a layer output (the layer is named).
    """
    model = unwrapped(model)
    layers = prunable_layers(model, linear)
    betti = Betti(scale, number, clouds, classes)
    name, chosen = find_criterion(criterion)
    if name == "betti":
        chosen = betti
    elif betti != Betti():
        raise InputError(
            f"scale, number, clouds or classes with the criterion {name!r}",
            "the criterion 'betti', which alone takes them",
            "pass criterion='betti', or leave them out",
        )
    require_count("seed", seed, minimum=0)
    if structure is not None:
        require_instance("structure", structure, Structure, "pass what find_structure gave")
        require_structure_of(layers, structure)
    if chosen.needs != "weights" and loader is None:
        raise InputError(
            "loader = None",
            f"samples for the criterion {name!r}",
            "pass a loader, or criterion='l1', which needs none",
        )
    probe = None if loader is None else probe_samples(loader, max_points=max_points, seed=seed)
    observations: dict[str, Observations] = {}
    if probe is not None:
        labels = _labels(name, probe) if chosen.needs == "labels" else None
        observations = observe(model, probe, layers, labels=labels, seed=seed, progress=progress)
    if chosen.needs != "weights":
        layers = {name: layer for name, layer in layers.items() if name in observations}
    evidence = Evidence(model, layers, probe, observations, structure, seed, cluster, progress)
    rows = _rows(name, chosen, evidence)
    if chosen.redundant_first:
        rows = _redundant_first(rows, observations, chosen.remove_high)
    return FilterScores(
        tuple(rows), name, chosen.remove_high, chosen.comparable, are_betti=chosen.gives_betti
    )


def _labels(criterion: str, probe: Probe) -> Tensor:
    if probe.labels is None:
        raise InputError(
            f"a loader without class labels{f' ({probe.notes[0]})' if probe.notes else ''}",
            f"(inputs, labels [n]) for the criterion {criterion!r}",
            f"add them, or pass criterion={DEFAULT!r}, which needs none",
        )
    if len(set(probe.labels.tolist())) < 2:
        raise InputError(
            f"samples of class {int(probe.labels[0])} alone",
            f"samples of two classes or more for the criterion {criterion!r}",
            f"pass a loader that covers the classes, or criterion={DEFAULT!r}",
        )
    return probe.labels


def _rows(name: str, criterion: Criterion, evidence: Evidence) -> list[FilterScore]:
    samples = None
    if criterion.needs != "weights" and evidence.probe is not None:
        samples = len(evidence.probe)
    with naming(f"criterion {name}", criterion):
        by_layer = criterion.score(evidence)
    if not isinstance(by_layer, Mapping) or set(by_layer) - set(evidence.layers):
        what = sorted(map(str, by_layer)) if isinstance(by_layer, Mapping) else type(by_layer).__name__
        raise InputError(
            f"criterion {name} that scored {what}",
            f"a dict whose keys are among {', '.join(evidence.layers)}",
            "return {layer: scores} of evidence.layers",
        )
    rows = []
    for layer, given in by_layer.items():
        scores = given if isinstance(given, LayerScores) else LayerScores(given)
        values = _one_a_filter(name, layer, scores.values, width_of(evidence.layers[layer]) or 0)
        of_layer = [
            FilterScore(layer, i, value, scores.stand_in or name, samples, note=scores.note)
            for i, value in enumerate(values)
        ]
        if scores.betti:
            of_layer = [replace(r, **vars(c)) for r, c in zip(of_layer, scores.betti, strict=True)]
        rows += of_layer
    return rows


def _one_a_filter(name: str, layer: str, values: object, width: int) -> list[float]:
    given = type(values).__name__
    if isinstance(values, Tensor):
        values = values.detach().cpu().tolist()  # numpy knows no bfloat16
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiubO":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        what = f"{given} without real numbers"
    else:
        if array.shape == (width,) and np.isfinite(array).all():
            return array.tolist()  # type: ignore[no-any-return]
        what = f"shape {array.shape}" if array.shape != (width,) else "NaN or infinity"
    raise InputError(
        f"criterion {name} gave {what} for layer {layer}",
        f"({width},) finite scores",
        "return one finite number a filter",
    )


def _redundant_first(
    rows: list[FilterScore], observations: Mapping[str, Observations], remove_high: bool
) -> list[FilterScore]:
    """Notes on dead filters and duplicates, and scores beyond 0 and all others: the dead go first."""
    sign = 1.0 if remove_high else -1.0
    beyond = max([0.0, *(sign * row.score for row in rows)])
    notes: dict[tuple[str, int], str] = {}
    for layer, of_layer in FilterScores(tuple(rows), "", remove_high).by_layer().items():
        if layer in observations:
            badness = [sign * row.score for row in of_layer]
            notes |= {(layer, i): n for i, n in redundancy_notes(badness, observations[layer]).items()}
    return [
        row
        if (note := notes.get((row.layer, row.filter))) is None
        else replace(row, note=note, score=sign * (beyond + (2.0 if note == DEAD else 1.0)))
        for row in rows
    ]
