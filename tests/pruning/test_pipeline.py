"""Shrinking as a whole: recipes, rounds, fine-tuning with early stop, baselines, the outcome on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unknot.core.errors import InputError
from unknot.nets import training
from unknot.nets.cost import count_macs
from unknot.nets.data import LabelledData, keep_apart
from unknot.nets.models import cnn, resnet
from unknot.nets.timing import Latency
from unknot.nets.training import Tuning, fine_tune, train
from unknot.pruning.artifact import load_pruned, save_pruned
from unknot.pruning.exports.onnx import ExportReport
from unknot.pruning.exports.parity import Parity
from unknot.pruning.outcomes import comparison
from unknot.pruning.outcomes.comparison import compare_criteria
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.pipeline import Shrunk, follow_recipe
from unknot.pruning.planning.budget import Budget
from unknot.pruning.planning.plan import plan_pruning
from unknot.pruning.planning.rounds import RoundBudgets, combine_plans
from unknot.pruning.recipe import Recipe
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.scoring.thresholds import threshold_sensitivity

pytestmark = pytest.mark.numeric


def images(n: int = 120) -> LabelledData:
    """Two classes, told apart by which half is brighter."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * n, 1, 8, 8, generator=generator)
    y = torch.arange(2 * n) % 2
    x[y == 1, :, :4] += 0.7
    return LabelledData("halves", x[:n], y[:n], x[n:], y[n:])


def trained(make: str = "cnn") -> nn.Module:
    torch.manual_seed(0)
    if make == "cnn":
        model: nn.Module = cnn(1, 2, widths=(12, 16), batch_norm=True)
    else:
        model = resnet(1, 2, widths=(12, 16))
    data = images()
    train(model, data.inputs, data.labels, epochs=4, learning_rate=3e-3)
    return model


def filters_left(shrunk: Shrunk) -> dict[str, int]:
    plan = shrunk.plan
    return {layer: n - len(plan.removed.get(layer, ())) for layer, n in plan.filters.items()}


@pytest.mark.parametrize("make", ["cnn", "resnet"])
@pytest.mark.parametrize("budget", [Budget(macs=0.5), Budget(parameters=0.5), Budget(ratio=0.5)])
def test_rounds_reach_the_budget_and_their_plan_is_the_originals(
    tmp_path: Path, make: str, budget: Budget
) -> None:
    model, data = trained(make), images()
    recipe = Recipe(budget, criterion="l1", rounds=3, finetune=1, patience=None)
    shrunk = follow_recipe(model, data, recipe, repeats=1)
    done = shrunk.outcome.rounds
    assert [r.filters for r in done] == sorted((r.filters for r in done), reverse=True)
    assert done[0].filters < shrunk.outcome.filters_before
    assert done[-1].filters == shrunk.outcome.filters_after == sum(filters_left(shrunk).values())
    before, after = shrunk.outcome.cost_before, shrunk.outcome.cost_after
    share = {
        "macs": 1 - after.macs / before.macs,
        "parameters": 1 - after.parameters / before.parameters,
        "ratio": shrunk.plan.n_removed / shrunk.plan.n_filters,
    }[next(iter(budget.given))]
    assert abs(share - 0.5) < 0.06  # a filter of these small nets is some points
    assert "50.0% asked, in 3 rounds" in shrunk.plan.budget and f"{share:.1%} of" in shrunk.plan.budget
    # The reasons of later rounds say so, and one stands with every filter.
    told = [reason for of_layer in shrunk.plan.reasons.values() for reason in of_layer]
    assert len(told) == shrunk.plan.n_removed
    assert any(reason.startswith("round 3: l1") for reason in told)
    # The plan of all rounds gives the model's shape from the original's, so that it can be loaded.
    save_pruned(shrunk.model, shrunk.plan, tmp_path / "model")
    torch.manual_seed(9)
    loaded = load_pruned(lambda: trained(make), tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded(data.test_inputs), shrunk.model(data.test_inputs))


def test_a_ratio_in_rounds_takes_as_many_filters_as_at_once() -> None:
    model, data = trained(), images()
    once = follow_recipe(model, data, Recipe(Budget(ratio=0.5), criterion="l1"), repeats=1)
    often = follow_recipe(model, data, Recipe(Budget(ratio=0.5), criterion="l1", rounds=4), repeats=1)
    assert sum(filters_left(once).values()) == sum(filters_left(often).values()) == 14


def test_parts_of_a_latency_go_from_now_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole:
        latency_ms = 9.0

    monkeypatch.setattr("unknot.pruning.planning.budget.measure_cost", lambda *_, **__: Whole)
    parts = RoundBudgets(Budget(latency_ms=3.0), 3, nn.Identity(), torch.zeros(1))
    limits = [parts.for_round(k, nn.Identity(), None).latency_ms for k in (1, 2, 3)]
    assert limits == pytest.approx([7.0, 5.0, 3.0])


def test_combined_plans_name_the_originals_filters() -> None:
    model = trained()
    example = images().inputs[:2]
    first = plan_pruning(model, score_filters(model, criterion="l1"), example, ratio=0.25)
    slim = prune(model, first)
    then = plan_pruning(slim, score_filters(slim, criterion="l1"), example, ratio=0.3)
    both = combine_plans(first, then, 2)
    twice, once = prune(slim, then), prune(model, both)
    assert both.filters == first.filters
    with torch.no_grad():
        torch.testing.assert_close(once(example), twice(example), atol=1e-6, rtol=1e-5)
    for layer, gone in both.removed.items():
        assert gone == sorted(set(gone)) and set(first.removed[layer]) < set(gone)
        assert sum(r.startswith("round 2: ") for r in both.reasons[layer]) == len(then.removed[layer])


def test_the_recipe_reaches_the_plan() -> None:
    recipe = Recipe(
        Budget(macs=0.3), criterion="l1", allocation="macs", ignored=("conv1",), min_filters=2, round_to=4
    )
    shrunk = follow_recipe(trained(), images(), recipe, repeats=1)
    assert shrunk.plan.kept_layers["conv1"] == "ignored by 'conv1'"
    assert filters_left(shrunk)["conv2"] % 4 == 0 and "conv2" in shrunk.plan.removed


def test_the_stages_of_a_round_are_recorded() -> None:
    data = images()
    recipe = Recipe(Budget(ratio=0.5), criterion="l1", finetune=2, patience=1)
    done = follow_recipe(trained(), data, recipe, repeats=1).outcome.rounds[0]
    assert done.refit is not None and done.refit.n_points <= 108  # a tenth is kept apart
    assert done.tuning is not None and done.tuning.n_validation == 12
    assert done.accuracy_refit is not None and done.accuracy_tuned is not None
    bare = follow_recipe(trained(), data, replace(recipe, refit=False, finetune=0), repeats=1)
    assert (bare.outcome.rounds[0].refit, bare.outcome.rounds[0].accuracy_tuned) == (None, None)
    assert bare.outcome.rounds[0].accuracy_pruned == bare.outcome.accuracy_after
    assert "Against the original, on cpu" in bare.outcome.verdict


def test_kept_apart_samples_are_stratified_seeded_and_disjoint() -> None:
    data = images(100)
    data = replace(data, labels=torch.cat([torch.zeros(70), torch.ones(28), torch.full((2,), 2)]).long())
    split = keep_apart(data, share=0.1, seed=3)
    assert split.test_labels.bincount(minlength=3).tolist() == [7, 3, 0]
    assert len(split.labels) == 90
    whole = torch.cat([split.inputs, split.test_inputs]).flatten(1).sum(1).sort().values
    assert torch.equal(whole, data.inputs.flatten(1).sum(1).sort().values)
    assert torch.equal(keep_apart(data, seed=3).test_inputs, split.test_inputs)
    assert not torch.equal(keep_apart(data, seed=4).test_inputs, split.test_inputs)
    with pytest.raises(InputError, match="share = 1"):
        keep_apart(data, share=1)


def test_fine_tuning_stops_and_takes_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    split = keep_apart(images())
    marks = iter([(0.5, 0.0), (0.6, 0.0), (0.9, -1.0), (0.9, -2.0), (0.8, 0.0), (1.0, 0.0)])
    seen: list[dict[str, torch.Tensor]] = []

    def mark(model: nn.Module, *_: object) -> tuple[float, float]:
        seen.append({name: t.clone() for name, t in model.state_dict().items()})
        return next(marks)

    monkeypatch.setattr(training, "_mark", mark)
    model = trained()
    done = fine_tune(model, split, epochs=9, patience=2)
    # Epoch 2 is best: epoch 3 has its accuracy, but a higher loss; after epoch 4 patience is over.
    assert done == Tuning(4, 2, (0.5, 0.6, 0.9, 0.9, 0.8), 12)
    assert all(torch.equal(t, seen[2][name]) for name, t in model.state_dict().items())
    assert not model.training


def test_where_tuning_only_harms_the_weights_before_it_stay() -> None:
    split = keep_apart(images())
    model = trained()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    done = fine_tune(model, split, epochs=6, learning_rate=30.0, patience=2)
    assert (done.epochs, done.best_epoch) == (2, 0)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_without_patience_tuning_is_plain_training() -> None:
    data = images()
    tuned, plain = trained(), trained()
    done = fine_tune(tuned, data, epochs=2, patience=None, seed=5)
    train(plain, data.inputs, data.labels, epochs=2, seed=5)
    assert (done.epochs, done.best_epoch, done.validation) == (2, 2, ())
    assert all(
        torch.equal(a, b)
        for a, b in zip(tuned.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_baselines_meet_the_same_budgets() -> None:
    model, data = trained(), images()
    recipe = Recipe(Budget(ratio=0.3), criterion="l1")
    rows = compare_criteria(model, data, recipe, shares=(0.5, 0.3))
    assert [(r.criterion, r.asked) for r in rows] == [
        (name, share) for share in (0.5, 0.3) for name in ("l1", "random", "taylor")
    ]
    assert all(abs(r.removed - r.asked) < 0.06 and 0.4 < r.accuracy <= 1 for r in rows)
    # By l1 the row is what the library does by hand.
    plan = plan_pruning(
        model, score_filters(model, [(data.inputs, data.labels)], criterion="l1", max_points=400),
        data.inputs[:2], macs=0.5,
    )  # fmt: skip
    slim = prune(model, plan)
    assert rows[0].removed == 1 - count_macs(slim, data.inputs[:1]) / count_macs(model, data.inputs[:1])


def test_baselines_that_the_data_do_not_allow_are_left_out() -> None:
    model, data = trained(), images()
    one = replace(data, inputs=data.inputs[::2], labels=data.labels[::2])
    rows = compare_criteria(model, one, Recipe(Budget(ratio=0.3), criterion="l1"), shares=(0.3,))
    assert [r.criterion for r in rows] == ["l1", "random"]


def test_baselines_that_take_too_long_or_cannot_be_met_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data = trained(), images()
    recipe = Recipe(Budget(ratio=0.3), criterion="l1", min_filters=8, refit=False)
    assert {r.asked for r in compare_criteria(model, data, recipe, shares=(0.9, 0.3))} == {0.3}
    ticks = iter([0.0, 1.0, 1.0, 9.0, 90.0])
    monkeypatch.setattr(comparison, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    rows = compare_criteria(model, data, recipe, shares=(0.3, 0.2), baselines=(), seconds=10.0)
    assert {r.asked for r in rows} == {0.3}


def test_an_outcome_with_everything_comes_back(tmp_path: Path) -> None:
    model, data = trained(), images()
    recipe = Recipe(Budget(max_betti=20.0), criterion="betti", finetune=1, patience=1)
    shrunk = follow_recipe(model, data, recipe, repeats=1)
    time = (Latency(1, 0.5, 0.1, 9),)
    outcome = replace(
        shrunk.outcome,
        baselines=compare_criteria(model, data, recipe, scores=shrunk.scores, shares=(0.5,)),
        thresholds=threshold_sensitivity(model, data.inputs, 20.0, sizes=(20, 40), quantiles=(0.02, 0.1)),
        export=ExportReport("m.onnx", 1, 20, (Parity(1, 0.0, 0.0),), time, time, 1, {"torch": "2"}),
    )
    outcome.to_json(tmp_path / "outcome.json")
    assert PruningOutcome.from_json(tmp_path / "outcome.json") == outcome
    assert outcome.max_betti == 20 and outcome.baselines and outcome.thresholds
    for what, before, after, _ in outcome.table():
        assert what and before and after
    assert len(outcome.table()) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"criterion": "magic"}, "criterion = 'magic'"),
        ({"budget": Budget(max_betti=3), "criterion": "l1"}, "criterion='betti'"),
        (
            {"budget": Budget(max_betti=3), "criterion": "betti", "rounds": 2},
            "2 rounds with max_betti = 3",
        ),
        ({"allocation": "best"}, "allocation = 'best'"),
        ({"rounds": 0}, "rounds = 0"),
        ({"round_to": 0}, "round_to = 0"),
        ({"min_filters": -1}, "min_filters = -1"),
        ({"finetune": -1}, "finetune = -1"),
        ({"patience": 0}, "patience = 0"),
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"max_points": 1}, "max_points = 1"),
        ({"seed": -1}, "^seed = -1: expected a whole number >= 0"),
        ({"seed": None}, "^seed = None: expected a whole number >= 0"),
        ({"seed": 1.5}, "^seed = 1.5: expected a whole number >= 0"),
    ],
)
def test_bad_recipes_are_refused_before_anything_runs(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Recipe(**({"budget": Budget(ratio=0.5), "criterion": "l1"} | change))  # type: ignore[arg-type]
