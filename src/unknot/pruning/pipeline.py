"""shrink: score, plan, remove, refit, polish, fine-tune, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from unknot.core.console import ShowProgress, announce
from unknot.core.errors import InputError
from unknot.core.memory import give_back
from unknot.core.showing import drawing
from unknot.core.showing.frames import Columns, Tabular
from unknot.nets.accuracy import measure_accuracy, require_classifier
from unknot.nets.cost import compare_cost
from unknot.nets.data import Data, LabelledData, keep_apart
from unknot.nets.probe import map_tensors
from unknot.nets.running import as_it_was, unwrapped
from unknot.nets.training import fine_tune
from unknot.pruning.allocation.choice import MEASURED, Work, choose_plan
from unknot.pruning.allocation.efforts import EFFORTS, EffortName
from unknot.pruning.allocation.forecast import TIMED, Ahead, duration_text, pass_seconds
from unknot.pruning.outcomes.closeness import compare_outputs
from unknot.pruning.outcomes.outcome import PruningOutcome, Round, draw_outcome
from unknot.pruning.planning.budget import REMEDY, Budget
from unknot.pruning.planning.options import Allocation
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.planning.pool_curves import Loss
from unknot.pruning.planning.rounds import RoundBudgets, combine_plans
from unknot.pruning.planning.speed.latency_model import LayerTimes
from unknot.pruning.recipe import AnyCriterion, Recipe, default_criterion
from unknot.pruning.refitting.polishing import polish as polish_model
from unknot.pruning.refitting.reconstruction import refit as refit_model
from unknot.pruning.removal import prune
from unknot.pruning.scoring.calibration import Calibration, calibration_samples
from unknot.pruning.scoring.scores import FilterScores, score_filters
from unknot.pruning.structure.layers import linear_layers
from unknot.pruning.structure.pools import Structure, find_structure

REPEATS = 50  # timed forward passes


@dataclass(frozen=True, eq=False, repr=False)
class Shrunk(Tabular):
    """A smaller model and how it came about; ``print`` shows what changed as a table.

    Attributes:
        model: the smaller one, in eval mode.
        scores: of the original's filters, before the first round.
        plan: of all rounds together; `prune` of the original by it gives the model's shape.
        outcome: accuracy and cost before and after, and what each round did.
        times: where the time of a pass goes, under a budget of milliseconds whose widths were measured.
    """

    model: nn.Module
    scores: FilterScores
    plan: PruningPlan
    outcome: PruningOutcome
    times: LayerTimes | None = None

    def __repr__(self) -> str:
        return f"{self._name}\n{self.outcome}"

    @property
    def _name(self) -> str:
        return f"{type(self.model).__name__} pruned by {self.scores.criterion}: {self.plan.budget}"

    def _columns(self) -> Columns:
        return self.outcome._columns()

    def _title(self) -> str:
        return f"{self._name}\n{self.outcome._title()}"

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracy at each stage, what is left of the costs, and the filters of each layer.

        Args:
            ax: matplotlib axes for the costs alone; None makes new ones for all three.

        Returns:
            The axes: those of the costs in ``ax``, else an array of three.

        Raises:
            InputError: matplotlib is not installed.
        """
        if ax is not None:
            return self.outcome.plot(ax)
        axes = drawing.axes_for(None, 13, max(3.0, 1 + 0.3 * len(self.plan.filters)), 3)
        draw_outcome(axes[:2], self.outcome)
        if self.plan.filters:
            self.plan.plot(axes[2])
        return drawing.one_or_all(axes)


def shrink(
    model: nn.Module,
    data: Data | Tensor,
    *,
    macs: float | None = None,
    parameters: float | None = None,
    latency_ms: float | None = None,
    latency_batch: int = Recipe.latency_batch,
    max_betti: float | None = None,
    ratio: float | None = None,
    criterion: AnyCriterion | None = None,
    linear: Sequence[str] | None = Recipe.linear,
    max_points: int = Recipe.max_points,
    allocation: Allocation = Recipe.allocation,
    ignored: Sequence[str] = Recipe.ignored,
    min_filters: int = Recipe.min_filters,
    round_to: int | None = Recipe.round_to,
    seconds: float = Recipe.seconds,
    rounds: int = Recipe.rounds,
    refit: bool = Recipe.refit,
    effort: EffortName = Recipe.effort,
    polish: int = Recipe.polish,
    finetune: int = Recipe.finetune,
    learning_rate: float = Recipe.learning_rate,
    patience: int | None = Recipe.patience,
    repeats: int = REPEATS,
    seed: int = Recipe.seed,
    progress: ShowProgress = "auto",
) -> Shrunk:
    """A trained model made smaller under exactly one budget: what ``unknot prune`` does.

    Filters are scored, planned, removed and the remaining weights refitted on the training samples;
    with ``polish`` the model is trained to return what the original returns for them, with ``finetune``
    on their labels too. Accuracy is that of the test samples, cost that
    of a forward pass of up to 64 of them.

    Args:
        model: trained; with labels a classifier; not changed. It may take one tensor, several (a tuple)
            or keywords (a dict).
        data: samples that fit into memory: an iterable of batches ``(inputs, labels)`` such as a
            DataLoader, arrays or tensors ``(inputs, labels)``, an ImageData, or a tuple ``(train,
            test)`` of two of these; or a LabelledData. Or samples without labels, for any model:
            batches of inputs or one tensor ``[n, ...]``, of two parts ``([train], [test])``; the outcome
            then says how close the outputs are to the original's, ``agreement`` and ``output_error``,
            instead of the accuracy. Where there is no test part, a tenth of the samples, stratified by
            class where known, is kept apart to tell that alone; ``outcome.split``, ``.n_train`` and
            ``.n_test`` say so.
            Names as labels are numbered in alphabetical order: the model must have been trained on these
            numbers.
        macs: the share of multiply-accumulates to remove, in [0, 1).
        parameters: the share of parameters to remove, likewise.
        latency_ms: remove until a forward pass takes at most so many milliseconds, here and now.
        latency_batch: samples of that pass.
        max_betti: remove filters whose Betti number is above it, by the criterion "betti".
        ratio: the share of filters to remove, in [0, 1): from each layer, or with the allocation "macs",
            which the default criterion takes, of all layers together.
        criterion: what goes first, by name or a callable; see `score_filters`. None: "betti" with
            ``max_betti``, else "elder-surgeon".
        linear: globs of the linear layers to prune beside the convolutions, e.g. ``["*pwconv1"]``; None:
            all but the last layer of the model; ``()``: none.
        max_points: samples that filters are scored on.
        allocation: "uniform", the same share of every layer; "macs", the lowest score for its MACs
            first; "auto": under a budget of MACs or parameters as the ``effort`` says, else "macs" where
            scores of different layers can be compared, and "uniform" where not.
        ignored: globs of layers to leave alone.
        min_filters: left in each layer, the best ones by score.
        round_to: keep a multiple of so many filters in each layer, or all; None: where widths are
            measured, and layers have 128 filters or more, the multiples that are found to be fast on this
            machine, else any number.
        seconds: after which planning a round is given up, with the layer that it was at.
        rounds: of pruning, refitting and fine-tuning, each for an equal part of the budget.
        refit: mend the layers that lost inputs in closed form, without labels; see `refit`.
        effort: "fast": no widths are measured; a ResNet-18 at 32 x 32 takes seconds. "balanced": the
            widths that lose least in the model's output, by `measure_curves`; a minute. "best": more
            widths, on more samples; minutes.
        polish: steps of training towards the original's outputs, without labels, after the last refit;
            see `polish`.
        finetune: epochs of fine-tuning with Adam, at most, in each round.
        learning_rate: of fine-tuning.
        patience: stop fine-tuning after so many epochs without better accuracy on a tenth of the
            training samples, kept apart for that, and take the best weights. None: train on all
            samples, to the end.
        repeats: timed forward passes of each model.
        seed: of everything random.
        progress: how long it will take, and bars, on stderr where that is a terminal: True, or "auto",
            bars from two seconds on.

    Returns:
        The smaller model with its scores, plan and outcome; it prints as a table.

    Raises:
        InputError: not one budget, or one that cannot be met; bad options; data without labels or
            samples; no layer may lose any filter (one is named, with the reason).
    """
    budget = Budget(max_betti, ratio, macs, parameters, latency_ms)
    criterion = default_criterion(budget) if criterion is None else criterion
    recipe = Recipe(
        budget, allocation, ignored, min_filters, round_to, seconds, criterion, linear, max_points,
        rounds, refit, effort, polish, finetune, learning_rate, patience, seed, latency_batch,
    )  # fmt: skip
    return follow_recipe(model, calibration_samples(data), recipe, repeats=repeats, progress=progress)


def follow_recipe(
    model: nn.Module,
    data: LabelledData | Calibration,
    recipe: Recipe,
    *,
    repeats: int = REPEATS,
    progress: ShowProgress = "auto",
) -> Shrunk:
    """`shrink` with its options in one object.

    Args:
        model, data: as of `shrink`.
        recipe: how, and how much.
        repeats: timed forward passes of each model.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.
    """
    model = unwrapped(model)
    data = _samples(model, data, recipe)
    fit = _to_fit(data, recipe)
    example = fit.first(recipe.latency_batch if recipe.budget.latency_ms is not None else 2)
    budgets = RoundBudgets(recipe.budget, recipe.rounds, model, example)
    slim, plan, first_scores, choices, times = model, None, None, None, None
    rounds: list[Round] = []
    for number in range(1, recipe.rounds + 1):
        structure = find_structure(
            slim, example, recipe.ignored, linear_layers(slim, recipe.linear), recipe.seconds, choices,
            progress=progress,
        )  # fmt: skip
        choices = structure.choices
        if number == 1:
            announce(partial(_forecast, model, structure, fit, recipe), show=progress)
        scores = score_filters(
            slim,
            fit.loader,
            criterion=recipe.criterion,
            linear=recipe.linear,
            max_points=recipe.max_points,
            seed=recipe.seed,
            structure=structure,
            progress=progress,
        )
        first_scores = first_scores or scores
        options = replace(recipe, budget=budgets.for_round(number, slim, plan))
        loss: Loss | None = None if data.labels is None else "kl"
        work = Work(EFFORTS[recipe.effort], loss, recipe.seed, progress)
        chosen = choose_plan(options, slim, scores, fit.loader, example, structure, work)
        step, times = chosen.plan, chosen.times
        give_back()
        if plan is None and step.refusal:
            raise InputError(step.refusal, "a model with filters that may go", REMEDY)
        plan = step if plan is None else combine_plans(plan, step, number)
        before, slim = slim, prune(slim, step, structure=structure)
        last = number == recipe.rounds
        original = model if last and plan.n_removed else None
        rounds.append(_mend((before, original), slim, step, data, fit, recipe, progress))
        give_back()
    assert plan is not None and first_scores is not None
    plan = replace(plan, budget=budgets.describe(slim, plan))
    batch = map_tensors(data.test_inputs, lambda t: t[:64])
    costs = compare_cost(model, slim, batch, repeats=repeats, progress=progress)
    close = compare_outputs(model, slim, data.test_inputs) if data.labels is None else None
    with as_it_was(model):
        accuracy_before = _accuracy(model, data, progress)
    outcome = PruningOutcome(
        accuracy_before=accuracy_before,
        accuracy_after=_accuracy(slim, data, progress),
        cost_before=costs.before,
        cost_after=costs.after,
        filters_before=plan.n_filters,
        filters_after=plan.n_filters - plan.n_removed,
        verdict=costs.verdict,
        rounds=tuple(rounds),
        max_betti=recipe.budget.max_betti,
        n_train=data.n,
        n_test=data.n_test,
        split="given" if data.given else "kept apart",
        agreement=close.agreement if close else None,
        output_error=close.error if close else None,
    )
    give_back()
    return Shrunk(slim, first_scores, plan, outcome, times)


def _forecast(model: nn.Module, structure: Structure, fit: Calibration, recipe: Recipe) -> str:
    """The line that says how long it will take from here on."""
    effort = EFFORTS[recipe.effort]
    ahead = Ahead(
        effort,
        scored=min(recipe.max_points, fit.n),
        fitted=min(effort.refit_samples, fit.n) if recipe.refit else 0,
        cuts=recipe.allocation == "auto" and recipe.budget.given.keys() <= {*MEASURED},
        rounds=recipe.rounds,
        polish=recipe.polish,
        trained=recipe.rounds * recipe.finetune * fit.n,
    )
    seconds = ahead.seconds(structure, pass_seconds(model, fit.first(TIMED)))
    return f"shrinking: {duration_text(seconds)} here, judged by one pass"


def with_test_part(data: LabelledData, seed: int) -> LabelledData:
    """The data, a tenth of the only samples there are as their test samples: `keep_apart`."""
    return calibration_samples(data).with_test_part(seed).labelled()


def _samples(model: nn.Module, data: LabelledData | Calibration, recipe: Recipe) -> Calibration:
    """The samples where the model is, a part of them for the test; checked against it."""
    data = data if isinstance(data, Calibration) else calibration_samples(data)
    data = data.with_test_part(recipe.seed).on_device_of(model)
    data.require_numbers()
    if data.labels is not None:
        with as_it_was(model):
            require_classifier(model, data.inputs, data.labels, data.names)
    if recipe.finetune:
        data.labelled()
    return data


def _to_fit(data: Calibration, recipe: Recipe) -> Calibration:
    """What filters are scored and weights fitted on; the test part of it is to stop fine-tuning by."""
    watched = recipe.finetune > 0 and recipe.patience is not None
    return calibration_samples(keep_apart(data.labelled(), seed=recipe.seed)) if watched else data


def _accuracy(model: nn.Module, data: Calibration, progress: ShowProgress) -> float | None:
    """On the test samples; None without labels."""
    if data.test_labels is None:
        return None
    return measure_accuracy(model, data.test_inputs, data.test_labels, progress=progress)


def _mend(
    models: tuple[nn.Module, nn.Module | None],
    slim: nn.Module,
    plan: PruningPlan,
    data: Calibration,
    fit: Calibration,
    recipe: Recipe,
    progress: ShowProgress,
) -> Round:
    """Refit, polish and fine-tune ``slim`` in place as the recipe says, and tell the accuracy after each.

    It is refitted to the first of ``models``, what it was pruned from, and polished towards the second,
    where there is one.
    """
    model, original = models
    done = Round(plan.n_filters - plan.n_removed, _accuracy(slim, data, progress))
    if recipe.refit and plan.n_removed:
        report = refit_model(
            model, slim, plan, fit.loader,
            max_points=EFFORTS[recipe.effort].refit_samples, seed=recipe.seed, progress=progress,
        )  # fmt: skip
        done = replace(done, refit=report, accuracy_refit=_accuracy(slim, data, progress))
    if recipe.polish and original is not None:
        polished = polish_model(
            original, slim, fit.loader, steps=recipe.polish, seed=recipe.seed, progress=progress
        )
        done = replace(done, polish=polished, accuracy_polished=_accuracy(slim, data, progress))
    if recipe.finetune:
        tuning = fine_tune(
            slim, fit.labelled(), epochs=recipe.finetune, learning_rate=recipe.learning_rate,
            patience=recipe.patience, seed=recipe.seed, progress="fine-tuning" if progress else None,
        )  # fmt: skip
        done = replace(done, tuning=tuning, accuracy_tuned=_accuracy(slim, data, progress))
    return done
