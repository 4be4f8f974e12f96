"""shrink: score, plan, remove, refit, fine-tune, compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from unknot.core.errors import InputError
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.cost import compare_cost
from unknot.nets.data import LabelledData, keep_apart
from unknot.nets.training import fine_tune
from unknot.pruning.outcome import PruningOutcome, Round
from unknot.pruning.planning.plan import REMEDY
from unknot.pruning.recipe import Recipe, RoundBudgets, combine_plans
from unknot.pruning.refitting.reconstruction import refit as refit_model
from unknot.pruning.removal import PruningPlan, plan_pruning, prune
from unknot.pruning.scoring.scores import FilterScores, score_filters


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller model and how it came about.

    Attributes:
        model: the smaller one.
        scores: of the original's filters, before the first round.
        plan: of all rounds together; `prune` of the original by it gives the model's shape.
        outcome: accuracy and cost before and after, and what each round did.
    """

    model: nn.Module
    scores: FilterScores
    plan: PruningPlan
    outcome: PruningOutcome


def shrink(
    model: nn.Module,
    data: LabelledData,
    recipe: Recipe,
    *,
    repeats: int = 50,
    progress: bool = False,
) -> Shrunk:
    """Score the filters of a trained ``model``, prune it, refit, fine-tune, and compare the two.

    Filters are scored on training samples, accuracy is that of the test samples, and cost that of a
    forward pass of up to 64 of them. A budget of ``latency_ms`` is that of one sample.

    Args:
        recipe: how, and how much.
        repeats: timed forward passes of each model.

    Raises:
        InputError: no layer may lose any filter (one is named, with the reason).
    """
    watched = recipe.tune_epochs > 0 and recipe.patience is not None
    fit = keep_apart(data, seed=recipe.seed) if watched else data
    loader = [(fit.inputs, fit.labels)]
    example = fit.inputs[: 1 if recipe.budget.latency_ms is not None else 2]
    budgets = RoundBudgets(recipe.budget, recipe.rounds, model, example)
    slim, plan, first = model, None, None
    rounds: list[Round] = []
    for number in range(1, recipe.rounds + 1):
        scores = score_filters(
            slim,
            loader,
            criterion=recipe.criterion,
            linear=recipe.linear,
            max_points=recipe.max_points,
            seed=recipe.seed,
            progress=progress,
        )
        first = first or scores
        step = plan_pruning(
            slim, scores, example, **budgets.of(number, slim, plan).given,
            allocation=recipe.allocation, ignored=recipe.ignored, min_filters=recipe.min_filters,
            round_to=recipe.round_to,
        )  # fmt: skip
        if plan is None and step.refusal:
            raise InputError(step.refusal, "a model with filters that may go", REMEDY)
        plan = step if plan is None else combine_plans(plan, step, number)
        slim, done = _one_round(slim, step, data, fit, recipe, progress)
        rounds.append(done)
    assert plan is not None and first is not None
    plan = replace(plan, budget=budgets.told(slim, plan))
    costs = compare_cost(model, slim, data.test_inputs[:64], repeats=repeats)
    outcome = PruningOutcome(
        accuracy_before=measure_accuracy(model, data.test_inputs, data.test_labels),
        accuracy_after=measure_accuracy(slim, data.test_inputs, data.test_labels),
        cost_before=costs.before,
        cost_after=costs.after,
        filters_before=plan.n_filters,
        filters_after=plan.n_filters - plan.n_removed,
        verdict=costs.verdict,
        rounds=tuple(rounds),
        max_betti=recipe.budget.max_betti,
    )
    return Shrunk(slim, first, plan, outcome)


def _one_round(
    model: nn.Module,
    plan: PruningPlan,
    data: LabelledData,
    fit: LabelledData,
    recipe: Recipe,
    progress: bool,
) -> tuple[nn.Module, Round]:
    def hits() -> float:
        return measure_accuracy(slim, data.test_inputs, data.test_labels)

    slim = prune(model, plan)
    done = Round(plan.n_filters - plan.n_removed, hits())
    if recipe.refit and plan.n_removed:
        mended = refit_model(model, slim, plan, [(fit.inputs, fit.labels)], seed=recipe.seed)
        done = replace(done, refit=mended, accuracy_refit=hits())
    if recipe.tune_epochs:
        apart = fit if recipe.patience is not None else data
        tuned = fine_tune(
            slim, apart, epochs=recipe.tune_epochs, learning_rate=recipe.learning_rate,
            patience=recipe.patience, seed=recipe.seed, progress="fine-tuning" if progress else None,
        )  # fmt: skip
        done = replace(done, tuning=tuned, accuracy_tuned=hits())
    return slim, done
