"""Accuracy against MACs: a criterion beside others at the same budgets, pruned and refitted alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from unknot.core.console import track
from unknot.core.errors import InputError
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.cost import count_macs
from unknot.nets.data import LabelledData
from unknot.pruning.planning.plan import plan_pruning
from unknot.pruning.recipe import Recipe
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import FilterScores, score_filters

RIVALS = ("random", "l1", "taylor")
SHARES = (0.5, 0.75, 0.3)
SECONDS = 20.0


@dataclass(frozen=True)
class Rival:
    """One criterion at one budget, pruned at one go, refitted or not as the recipe says, not tuned.

    Attributes:
        criterion: what scored the filters.
        asked: share of the MACs that was to go.
        removed: share that went.
        accuracy: on test samples.
    """

    criterion: str
    asked: float
    removed: float
    accuracy: float


def compare_criteria(
    model: nn.Module,
    data: LabelledData,
    recipe: Recipe,
    *,
    scores: FilterScores | None = None,
    rivals: Sequence[str] = RIVALS,
    shares: Sequence[float] = SHARES,
    seconds: float = SECONDS,
    progress: bool = False,
) -> tuple[Rival, ...]:
    """The recipe's criterion and its rivals at several shares of MACs.

    Args:
        recipe: its budget, rounds and fine-tuning are left aside; "random" is one draw of its seed.
        scores: of the recipe's criterion, where there are some already.
        shares: of the MACs to remove, in the order in which they are tried.
        seconds: after the first share, no other one is begun that would not be done by then.

    Returns:
        All criteria that the data allow at each share that all could meet and that was tried in time.
    """
    start = time.monotonic()
    loader = [(data.inputs, data.labels)]
    example = data.inputs[:2]
    found: dict[str, FilterScores] = {}
    for name in dict.fromkeys((recipe.criterion, *rivals)):
        if scores is not None and scores.criterion == name:
            found[name] = scores
            continue
        with suppress(InputError):  # e.g. "taylor" where there is one class
            found[name] = score_filters(
                model, loader, criterion=name, linear=recipe.linear,
                max_points=recipe.max_points, seed=recipe.seed,
            )  # fmt: skip
    whole = count_macs(model, example[:1])
    scored = time.monotonic()
    rows: list[Rival] = []
    for done, share in enumerate(track(shares, "comparing criteria", show=progress)):
        now = time.monotonic()
        if done and now + (now - scored) / done > start + seconds:
            break
        try:
            at_share = []
            for name, of_criterion in found.items():
                plan = plan_pruning(
                    model, of_criterion, example, macs=share, allocation=recipe.allocation,
                    ignored=recipe.ignored, min_filters=recipe.min_filters, round_to=recipe.round_to,
                )  # fmt: skip
                slim = prune(model, plan)
                if recipe.refit and plan.n_removed:
                    refit(model, slim, plan, loader, seed=recipe.seed)
                removed = 1 - count_macs(slim, example[:1]) / whole
                hits = measure_accuracy(slim, data.test_inputs, data.test_labels)
                at_share.append(Rival(name, share, removed, hits))
        except InputError:  # so much cannot go
            continue
        rows += at_share
    return tuple(rows)
