"""What the model's output loses with each pool of channels cut alone and the rest refitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_instance
from unknot.nets.probe import Probe, map_tensors, probe_samples
from unknot.nets.running import unwrapped
from unknot.pruning.allocation.held_out import HeldOut
from unknot.pruning.allocation.options import FEWEST, CurveOptions
from unknot.pruning.planning.plan import require_scores_of
from unknot.pruning.planning.pool_curves import PoolCurves, PoolLevel
from unknot.pruning.planning.ranking import Candidate, rank_units
from unknot.pruning.scoring.scores import FilterScores
from unknot.pruning.structure.channels import channels_of
from unknot.pruning.structure.layers import linear_among, prunable_layers, width_of
from unknot.pruning.structure.pools import Structure, find_structure, require_structure_of


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
    progress: ShowProgress = "auto",
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
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

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
        structure = find_structure(model, example, ignored, linear, progress=progress)
    require_structure_of(layers, structure)
    return curves_by(options, model, scores, probe, structure, progress=progress)


def curves_by(
    options: CurveOptions,
    model: nn.Module,
    scores: FilterScores,
    probe: Probe,
    structure: Structure,
    *,
    held_out: HeldOut | None = None,
    progress: ShowProgress = "auto",
) -> PoolCurves:
    """`measure_curves` with its options in one object, on samples that were drawn before."""
    if len(probe) < FEWEST:
        raise InputError(f"{len(probe)} samples to measure curves on", f"at least {FEWEST}", "pass more")
    trial = held_out or HeldOut(options, model, probe, structure)
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
