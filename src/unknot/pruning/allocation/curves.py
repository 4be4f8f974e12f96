"""What the model's output loses with each pool of channels cut alone and the rest refitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unknot.core.console import track
from unknot.core.errors import InputError, require_count, require_instance
from unknot.core.memory import memory_limit
from unknot.nets.probe import Probe, map_tensors, probe_samples
from unknot.nets.running import as_it_was, call_model, n_samples, placed, unwrapped
from unknot.pruning.allocation.prefix import Prefix
from unknot.pruning.planning.plan import require_scores_of
from unknot.pruning.planning.pool_curves import PoolCurves, PoolLevel
from unknot.pruning.planning.ranking import Candidate, rank_units
from unknot.pruning.refitting.fitting import Fitting
from unknot.pruning.refitting.losses import comparable, loss_for, output_loss
from unknot.pruning.refitting.original import Original
from unknot.pruning.refitting.reconstruction import seen_alike
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.channels import Removed, channels_of
from unknot.pruning.structure.layers import all_layers, linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import Structure, find_structure, require_structure_of

LEVELS = (0.75, 0.5, 0.33, 0.2)
HELD_OUT = 0.4  # of the samples
PLACES = 12  # of each sample's layer outputs, that the rest is refitted on


@dataclass(frozen=True)
class CurveOptions:
    """How curves are measured: the keywords of `measure_curves`.

    Raises:
        InputError: levels outside (0, 1), too few samples.
    """

    levels: Sequence[float] = LEVELS
    max_points: int = 384
    loss: Literal["auto", "kl", "error"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise InputError(
                f"levels = {self.levels}", "shares of channels in (0, 1)", "pass e.g. (0.5,)"
            )
        if self.loss not in ("auto", "kl", "error"):
            raise InputError(f"loss = {self.loss!r}", "'auto', 'kl' or 'error'", "pass 'auto'")
        require_count("max_points", self.max_points, minimum=10)
        require_count("seed", self.seed, minimum=0)


def measure_curves(
    model: nn.Module,
    scores: FilterScores,
    loader: Iterable[Any] | Tensor,
    *,
    levels: Sequence[float] = CurveOptions.levels,
    max_points: int = CurveOptions.max_points,
    loss: Literal["auto", "kl", "error"] = CurveOptions.loss,
    ignored: Sequence[str] = (),
    seed: int = CurveOptions.seed,
    structure: Structure | None = None,
    progress: bool = False,
) -> PoolCurves:
    """Cut each pool of channels alone, to several widths, refit the rest and see what the output loses.

    `plan_pruning` chooses widths by it: `curves=`. No labels are used.

    Args:
        model: not changed.
        scores: of its filters; the worst go first.
        loader: samples; see `probe_samples`.
        levels: the shares of each pool's channels that are left, one after the other.
        max_points: samples; two fifths of them are held out to measure the loss on.
        loss: "kl", the KL divergence of class probabilities, for models that return one score a class (or
            one logit); "error", the squared error of all outputs over their variance; "auto": "kl" where
            the loader has class labels and the model returns scores of them, else "error".
        ignored: globs of layers to leave alone, as in `plan_pruning`.
        seed: of the choice of samples, and of the places at which layer outputs are looked at.
        structure: what `find_structure` found in this model for these ``ignored`` and the scored linear
            layers; found anew where None.
        progress: a bar with the time left on stderr, where that is a terminal.

    Raises:
        InputError: scores or a structure of another model, fewer than 10 samples, samples or layers with
            NaN, outputs that have no classes where "kl" is asked for.
    """
    options = CurveOptions(tuple(levels), max_points, loss, seed)
    require_instance("scores", scores, FilterScores, "pass what score_filters gave")
    model = unwrapped(model)
    probe = probe_samples(loader, max_points=max_points, seed=seed)
    linear = linear_among(model, scores.by_layer())
    layers = prunable_layers(model, linear)
    require_scores_of({name: width_of(layer) or 0 for name, layer in layers.items()}, scores)
    if structure is None:
        example = map_tensors(probe.inputs, lambda t: t[:2])
        structure = find_structure(model, example, ignored, linear)
    require_structure_of(layers, structure)
    return curves_by(options, model, scores, probe, structure, progress=progress)


def curves_by(
    options: CurveOptions,
    model: nn.Module,
    scores: FilterScores,
    probe: Probe,
    structure: Structure,
    *,
    progress: bool = False,
) -> PoolCurves:
    """`measure_curves` with its options in one object, on samples that were drawn before."""
    if len(probe) < 10:
        raise InputError(f"{len(probe)} samples to measure curves on", "at least 10", "pass more")
    trial = _Trial(options, model, probe, structure)
    cuts = [
        (number, pool, kept)
        for number, pool in enumerate(_by_number(structure, scores))
        for kept in widths_of(len(pool), options.levels)
    ]
    rows = [
        PoolLevel(
            number, pool[0].pool.layers, len(pool), kept,
            trial.loss_without(channels_of(c.unit for c in pool[: len(pool) - kept])),
        )
        for number, pool, kept in track(cuts, "measuring widths", show=progress)
    ]  # fmt: skip
    return PoolCurves(
        tuple(rows), trial.kind, scores.criterion, trial.n_fit, len(probe) - trial.n_fit, options.seed
    )


def widths_of(units: int, levels: Sequence[float]) -> list[int]:
    """The widths at which a pool is measured, the widest first."""
    return sorted({max(1, round(units * level)) for level in levels} - {units}, reverse=True)


def _by_number(structure: Structure, scores: FilterScores) -> list[list[Candidate]]:
    """The candidates of each of the structure's pools; empty where they have no scores."""
    ranked = {id(of_pool[0].pool): of_pool for of_pool in rank_units(structure.pools, scores)}
    return [ranked.get(id(pool), []) for pool in structure.pools]


class _Trial:
    """The samples, what the original returns for them, and what a cut model loses on those held out."""

    def __init__(
        self, options: CurveOptions, model: nn.Module, probe: Probe, structure: Structure
    ) -> None:
        self.model, self.graph = model, structure.graph
        inputs = placed(probe.inputs, model)
        held = torch.from_numpy(
            np.random.default_rng(options.seed).permutation(len(probe)) < round(HELD_OUT * len(probe))
        )
        self.fit = map_tensors(inputs, lambda t: t[~held])
        self.held = map_tensors(inputs, lambda t: t[held])
        self.n_fit, n_held = n_samples(self.fit), n_samples(self.held)
        original, _ = seen_alike(model, model)
        layers, room = all_layers(original), memory_limit() // 8
        self.prefixes = [Prefix(original, part, layers, room) for part in (self.fit, self.held)]
        output = self.prefixes[1].outputs
        self.kind = loss_for(options.loss, output, n_held, classes=probe.labels is not None)
        self.wanted = comparable(self.kind, output, n_held)
        self.original = Original(original, self.fit, seed=options.seed, rows=PLACES * self.n_fit)

    def loss_without(self, removed: Removed) -> float:
        """Of the model without ``removed`` {layer: channels}, the rest refitted."""
        slim = self.graph.without(self.model, removed)
        _, seen = seen_alike(self.model, slim)
        gone = self.graph.gone(removed)
        affected = {layer for layer, units in self.graph.inputs.items() if gone[units].any()} | set(
            removed
        )
        fit, held = self.prefixes
        with fit.until(affected):
            Fitting(self.original, seen, removed).front_to_back(self.fit)
        with held.until(affected), as_it_was(seen):
            output = call_model(seen, self.held)
        return output_loss(self.kind, self.wanted, comparable(self.kind, output, len(self.wanted)))
