"""Accuracy against MACs: a criterion beside baselines at the same budgets, pruned and refitted alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError
from unknot.core.showing import drawing
from unknot.core.showing.frames import Rows
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.cost import count_macs
from unknot.nets.data import LabelledData
from unknot.pruning.planning.budget import Budget
from unknot.pruning.planning.plan import plan_by
from unknot.pruning.recipe import Recipe
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.removal import prune
from unknot.pruning.scoring.criteria import find_criterion
from unknot.pruning.scoring.scores import FilterScores, score_filters
from unknot.pruning.structure.layers import linear_layers
from unknot.pruning.structure.pools import find_structure

BASELINES = ("random", "l1", "taylor")
SHARES = (0.5, 0.75, 0.3)
SECONDS = 20.0


@dataclass(frozen=True)
class Baseline:
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


class Baselines(Rows[Baseline]):
    """Criteria at several budgets: a tuple of `Baseline` that can be drawn."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracy over the share of MACs left, a line a criterion.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no rows, matplotlib is not installed.
        """
        drawing.require_rows(self, "a comparison")
        (axes,) = drawing.axes_for(ax, 4.8, 3)
        draw_baselines(axes, self)
        return axes


def draw_baselines(axes: Any, rows: Sequence[Baseline], before: float | None = None) -> None:
    """What `Baselines.plot` draws; dashed the accuracy ``before`` pruning."""
    for i, name in enumerate(dict.fromkeys(row.criterion for row in rows)):
        points = sorted((1 - row.removed, row.accuracy) for row in rows if row.criterion == name)
        style = {"color": drawing.colour(i), "marker": drawing.mark(i), "markersize": 5}
        axes.plot(*zip(*points, strict=True), label=drawing.short(name), **style)
    if before is not None:
        axes.axhline(before, color=drawing.SOFT, linestyle="--", linewidth=1, label="before pruning")
    axes.set(xlabel="MACs left", ylabel="accuracy on test samples")
    axes.set_xlim(1.05 * (max(1 - row.removed for row in rows) if before is None else 1), 0)
    for which in ("x", "y"):
        drawing.percent_axis(axes, which)
    axes.legend(frameon=False, fontsize=drawing.SMALL)
    drawing.plain(axes)


def compare_criteria(
    model: nn.Module,
    data: LabelledData,
    recipe: Recipe,
    *,
    scores: FilterScores | None = None,
    baselines: Sequence[str] = BASELINES,
    shares: Sequence[float] = SHARES,
    seconds: float = SECONDS,
    progress: ShowProgress = "auto",
) -> Baselines:
    """The recipe's criterion and the baselines at several shares of MACs.

    Args:
        model: trained; not changed.
        data: filters are scored and weights refitted on its training samples, accuracy is that of its
            test samples.
        recipe: its budget, rounds and fine-tuning are left aside; "random" is one draw of its seed.
        scores: of the recipe's criterion, where there are some already.
        baselines: further criteria of `score_filters`, by name.
        shares: of the MACs to remove, in the order in which they are tried.
        seconds: after the first share, no other one is begun that would not be done by then.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Returns:
        All criteria that the data allow at each share that all could meet and that was tried in time.
    """
    start = time.monotonic()
    loader = [(data.inputs, data.labels)]
    example = data.inputs[:2]
    structure = find_structure(
        model, example, recipe.ignored, linear_layers(model, recipe.linear), recipe.seconds,
        progress=progress,
    )  # fmt: skip
    scores_of = {} if scores is None else {scores.criterion: scores}
    for criterion in (recipe.criterion, *baselines):
        if find_criterion(criterion)[0] not in scores_of:
            with suppress(InputError):  # e.g. "taylor" where there is one class
                scored = score_filters(
                    model, loader, criterion=criterion, linear=recipe.linear,
                    max_points=recipe.max_points, seed=recipe.seed, structure=structure,
                    progress=progress,
                )  # fmt: skip
                scores_of[scored.criterion] = scored
    whole = count_macs(model, example[:1])
    begin = time.monotonic()
    rows: list[Baseline] = []
    for done, share in enumerate(track(shares, "comparing criteria", show=progress)):
        now = time.monotonic()
        if done and now + (now - begin) / done > start + seconds:
            break
        options = replace(recipe, budget=Budget(macs=share))
        try:
            at_share = []
            for criterion, scored in scores_of.items():
                plan = plan_by(options, model, scored, example, structure)
                slim = prune(model, plan, structure=structure)
                if recipe.refit and plan.n_removed:
                    refit(model, slim, plan, loader, seed=recipe.seed, progress=False)
                removed = 1 - count_macs(slim, example[:1]) / whole
                samples = data.test_inputs, data.test_labels
                accuracy = measure_accuracy(slim, *samples, progress=False)
                at_share.append(Baseline(criterion, share, removed, accuracy))
        except InputError:  # so much cannot go
            continue
        rows += at_share
    return Baselines(rows)
