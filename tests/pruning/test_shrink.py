"""uk.shrink: one call from a trained model to a smaller one, its options, its data, what it prints."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unknot as uk
from unknot.core.errors import InputError
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData
from unknot.nets.models import cnn
from unknot.nets.training import train
from unknot.pruning.outcomes.comparison import Baseline
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.planning.budget import Budget
from unknot.pruning.planning.options import PlanOptions
from unknot.pruning.recipe import Recipe
from unknot.pruning.scoring.betti import Betti
from unknot.pruning.structure import channels, pools
from unknot.pruning.structure.pools import find_structure


def halves(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two classes, told apart by which half is brighter."""
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(n) % 2
    x[y == 1, :, :4] += 0.7
    return x, y


TRAIN, TEST = halves(120), halves(100, seed=1)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net = cnn(1, 2, widths=(12, 16), batch_norm=True)
    train(net, *TRAIN, epochs=4, learning_rate=3e-3)
    return net


def test_names_as_labels_are_numbered_and_must_be_as_many_as_the_classes(model: nn.Module) -> None:
    (x, y), (test_x, _) = TRAIN, TEST
    named = (x, ["no" if label == 0 else "yes" for label in y]), (test_x, ["no", "yes"] * 50)
    given, by_name = (uk.shrink(model, data, macs=0.5, repeats=1) for data in ((TRAIN, TEST), named))
    assert by_name.outcome.accuracy_after == given.outcome.accuracy_after > 0.6
    assert by_name.plan.removed == given.plan.removed
    with pytest.raises(InputError, match="labels of 1 name with 2 classes: expected a name for each"):
        uk.shrink(model, (x, ["yes"] * 120), macs=0.5)


def test_a_pair_is_shrunk_to_the_budget_and_the_model_stays_as_it_was(model: nn.Module) -> None:
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    shrunk = uk.shrink(model, (TRAIN, TEST), macs=0.5, repeats=1)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    model.eval()
    outcome = shrunk.outcome
    assert (outcome.n_train, outcome.n_test, outcome.split) == (120, 100, "given")
    assert outcome.accuracy_after == measure_accuracy(shrunk.model, *TEST)
    removed = 1 - uk.count_macs(shrunk.model, TEST[0]) / uk.count_macs(model, TEST[0])
    assert removed == 1 - outcome.cost_after.macs / outcome.cost_before.macs
    assert abs(removed - 0.5) < 0.06
    assert shrunk.scores.criterion == shrunk.plan.criterion == "elder-surgeon"


def test_of_one_part_a_tenth_is_kept_apart_and_named(model: nn.Module) -> None:
    loader = [(TRAIN[0][i : i + 32], TRAIN[1][i : i + 32]) for i in range(0, 120, 32)]
    shrunk = uk.shrink(model, loader, ratio=0.5, criterion="l1", repeats=1)
    outcome = shrunk.outcome
    assert (outcome.n_train, outcome.n_test, outcome.split) == (108, 12, "kept apart")
    assert "12 samples kept apart from the 108 that filters could be scored on" in str(shrunk)
    # By l1 the samples decide nothing but which filters are dead: the same as of the tensors.
    again = uk.shrink(model, TRAIN, ratio=0.5, criterion="l1", repeats=1)
    assert again.plan == shrunk.plan and again.outcome.rounds == outcome.rounds


class Returning(nn.Module):
    """A net that hands its output on as users do."""

    def __init__(self, net: nn.Module, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.form = net, form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.net(x))


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: scores[:, 1] - scores[:, 0],
        lambda scores: (scores[:, 1:] - scores[:, :1]).view(-1),
        lambda scores: {"loss": scores.square().mean(), "logits": scores},
    ],
    ids=["n", "view", "loss"],
)
def test_an_output_of_one_number_a_sample_or_beside_a_loss_is_refitted(
    model: nn.Module, form: Callable[[Tensor], Any]
) -> None:
    shrunk = uk.shrink(Returning(model, form), (TRAIN, TEST), macs=0.5, repeats=1)

    def right(net: nn.Module) -> float:
        with torch.no_grad():
            output = net.eval()(TEST[0])
        logit = output if isinstance(output, Tensor) else output["logits"].diff(dim=1)[:, 0]
        return sum(int(v > 0) == int(y) for v, y in zip(logit, TEST[1], strict=True)) / len(TEST[1])

    outcome = shrunk.outcome
    assert (outcome.accuracy_before, outcome.accuracy_after) == (right(Returning(model, form)),
                                                                 right(shrunk.model))  # fmt: skip
    refit = outcome.rounds[0].refit
    assert refit is not None and refit.output_after < refit.output_before


def test_samples_that_leave_nothing_for_the_accuracy_are_refused(model: nn.Module) -> None:
    few = (TRAIN[0][:10], TRAIN[1][:10])  # five of each class
    with pytest.raises(InputError, match="^10 samples without a test part.*pass more, or a tuple"):
        uk.shrink(model, few, macs=0.5)


def test_inputs_in_another_type_are_placed_where_the_model_is(model: nn.Module) -> None:
    arrays = (TRAIN[0].double().numpy(), TRAIN[1].to(torch.int32).numpy())
    shrunk = uk.shrink(model, (arrays, TEST), ratio=0.5, criterion="l1", repeats=1)
    assert shrunk.plan == uk.shrink(model, (TRAIN, TEST), ratio=0.5, criterion="l1", repeats=1).plan


def test_what_came_of_it_is_printed_as_a_table(model: nn.Module) -> None:
    data = LabelledData("halves", *TRAIN, *TEST)
    shrunk = uk.shrink(model, data, parameters=0.4, criterion="l1", repeats=1)
    title, header, *rows = repr(shrunk).splitlines()
    assert title == f"Sequential pruned by l1: {shrunk.plan.budget}"
    assert header.split() == ["before", "after", "ratio"]
    cost = shrunk.outcome.cost_after
    cells = {row.split("  ")[0]: row.split()[-3:] for row in rows}
    assert cells["filters"] == ["28", str(shrunk.outcome.filters_after),
                                f"{shrunk.outcome.filters_after / 28:.2f}"]  # fmt: skip
    assert cells["parameters"][1] == f"{cost.parameters:,}"
    assert cells["MACs per sample"][1] == f"{cost.macs:,}"
    assert cells["accuracy"][:2] == [f"{shrunk.outcome.accuracy_before:.2%}",
                                     f"{shrunk.outcome.accuracy_after:.2%}"]  # fmt: skip
    assert sum(row.startswith("latency at batch") for row in rows) == 2
    assert len({len(row) for row in (header, *rows[:8])}) == 1  # the columns stand in line
    assert rows[8].startswith("Accuracy on 100 test samples; costs of one forward pass of 64 samples")
    assert rows[9] == shrunk.outcome.verdict


def test_every_option_of_the_recipe_is_a_keyword_with_its_default_and_is_explained() -> None:
    parameters = dict(inspect.signature(uk.shrink).parameters)
    options = [f for f in fields(Recipe) if f.default is not MISSING]
    assert {f.name for f in options} | {f.name for f in fields(Budget)} == set(parameters) - {
        "model", "data", "repeats", "progress",
    }  # fmt: skip
    # The criterion's default depends on the budget.
    assert parameters.pop("criterion").default is None
    assert all(parameters[f.name].default == f.default for f in options if f.name != "criterion")
    assert Recipe(Budget(macs=0.5)).criterion == Recipe.criterion == "elder-surgeon"
    planning = inspect.signature(uk.plan_pruning).parameters
    assert all(planning[f.name].default == f.default for f in fields(PlanOptions)[1:])
    named = (uk.shrink, uk.plan_pruning, uk.prune, uk.save_pruned, uk.load_pruned, uk.export_onnx)
    mending = (uk.pruning.refit, uk.pruning.polish)
    for function in (*named, *mending, uk.pruning.find_structure, uk.pruning.compare_criteria):
        text = inspect.getdoc(function) or ""
        for name in inspect.signature(function).parameters:
            assert f"    {name}: " in text, (function, name)


def test_every_option_reaches_the_recipe(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    options: dict[str, Any] = {
        "criterion": "fpgm", "linear": ("*fc",), "max_points": 33, "allocation": "macs",
        "ignored": ("conv1",), "min_filters": 2, "round_to": 4, "rounds": 2, "refit": False, "polish": 3,
        "effort": "fast", "latency_batch": 5,
        "finetune": 1, "learning_rate": 0.5, "patience": None, "seed": 7, "seconds": 55.0,
    }  # fmt: skip
    assert set(options) == {f.name for f in fields(Recipe)} - {"budget"}
    recipes: list[Recipe] = []
    follow = uk.pruning.follow_recipe

    def spy(model: nn.Module, data: LabelledData, recipe: Recipe, **others: Any) -> object:
        recipes.append(recipe)
        return follow(model, data, replace(recipe, linear=(), finetune=0), **others)

    monkeypatch.setattr("unknot.pruning.pipeline.follow_recipe", spy)
    uk.shrink(model, (TRAIN, TEST), parameters=0.3, repeats=1, **options)
    assert recipes == [Recipe(Budget(parameters=0.3), **options)]


def test_a_betti_threshold_is_one_of_betti_numbers(model: nn.Module) -> None:
    shrunk = uk.shrink(model, (TRAIN, TEST), max_betti=20, max_points=40, repeats=1)
    assert shrunk.scores.criterion == "betti" and shrunk.outcome.max_betti == 20
    own = uk.shrink(model, (TRAIN, TEST), max_betti=20, criterion=Betti(), max_points=40, repeats=1)
    assert own.scores.criterion == "Betti" and own.plan.reasons == shrunk.plan.reasons
    assert own.plan.removed == shrunk.plan.removed and shrunk.plan.n_removed
    for criterion in ("l1", "elder-surgeon"):
        with pytest.raises(InputError, match=f"max_betti = 20 with criterion '{criterion}'"):
            uk.shrink(model, (TRAIN, TEST), max_betti=20, criterion=criterion)
    with pytest.raises(InputError, match="max_betti = 20 with criterion 'mine'"):
        uk.shrink(model, (TRAIN, TEST), max_betti=20, criterion=mine)


def mine(_layer: str, convolution: Any) -> Any:
    return -convolution.weight.detach().flatten(1).norm(dim=1).numpy()


def test_a_criterion_of_ones_own_decides(model: nn.Module) -> None:
    shrunk = uk.shrink(model, (TRAIN, TEST), ratio=0.5, criterion=mine, repeats=1)
    assert shrunk.scores.criterion == shrunk.plan.criterion == "mine"
    norms = model.get_submodule("conv1").weight.detach().flatten(1).norm(dim=1)  # type: ignore[operator]
    assert shrunk.plan.removed["conv1"] == sorted(norms.argsort(descending=True)[:6].tolist())
    rows = uk.pruning.compare_criteria(
        model, LabelledData("halves", *TRAIN, *TEST), Recipe(Budget(ratio=0.5), criterion=mine),
        scores=shrunk.scores, baselines=("l1",), shares=(0.3,),
    )  # fmt: skip
    assert [row.criterion for row in rows] == ["mine", "l1"]


@pytest.mark.parametrize("criterion", ["elder-surgeon", "l1"])
@pytest.mark.parametrize(("rounds", "baselines"), [(1, False), (3, False), (1, True)])
def test_the_channels_are_traced_once_a_round(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, criterion: str, rounds: int, baselines: bool
) -> None:
    traced: list[object] = []
    trace = channels.trace_facts

    def counted(*args: Any) -> Any:
        traced.append(args)
        return trace(*args)

    for module in (channels, pools):
        monkeypatch.setattr(module, "trace_facts", counted)
    shrunk = uk.shrink(model, (TRAIN, TEST), macs=0.5, criterion=criterion, rounds=rounds, repeats=1)
    assert len(traced) == rounds
    if baselines:  # one more for all criteria and budgets
        recipe = Recipe(Budget(macs=0.5), criterion=criterion)
        data = LabelledData("halves", *TRAIN, *TEST)
        uk.pruning.compare_criteria(model, data, recipe, scores=shrunk.scores, seconds=600)
        assert len(traced) == rounds + 1


def test_a_structure_that_was_found_gives_the_same_plan_and_model(model: nn.Module) -> None:
    example = TRAIN[0][:2]
    scores = uk.score_filters(model, criterion="l1")
    structure = find_structure(model, example, ["conv1"])
    plan = uk.plan_pruning(model, scores, example, ratio=0.5, ignored=["conv1"])
    assert uk.plan_pruning(model, scores, example, ratio=0.5, structure=structure) == plan
    alone, given = uk.prune(model, plan), uk.prune(model, plan, structure=structure)
    assert set(plan.removed) == {"conv2"}
    with torch.no_grad():
        assert torch.equal(alone(example), given(example))
    other = find_structure(cnn(1, 2, widths=(12, 20)), example)
    with pytest.raises(InputError, match="a structure with 20 channels of layer conv2: expected 16"):
        uk.plan_pruning(model, scores, example, ratio=0.5, structure=other)
    with pytest.raises(InputError, match="a structure with 20 channels of layer conv2: expected 16"):
        uk.prune(model, plan, structure=other)


def test_an_outcome_of_an_earlier_version_loads(tmp_path: Path, model: nn.Module) -> None:
    outcome = uk.shrink(model, (TRAIN, TEST), ratio=0.5, criterion="l1", repeats=1).outcome
    row = Baseline("random", 0.5, 0.49, 0.8)
    replace(outcome, baselines=(row,)).to_json(tmp_path / "outcome.json")
    record = json.loads((tmp_path / "outcome.json").read_text())
    record["rivals"] = record.pop("baselines")
    for name in ("n_train", "n_test", "split"):
        del record[name]
    for cost in (record["cost_before"], record["cost_after"]):
        del cost["latencies"], cost["activation_bytes"]
    (tmp_path / "old.json").write_text(json.dumps(record))
    old = PruningOutcome.from_json(tmp_path / "old.json")
    assert old.baselines == (row,) and old.n_test is None and old.split is None
    assert [what for what, *_ in old.table()] == [
        "accuracy",
        "filters",
        "parameters",
        "MACs per sample",
        "bytes",
    ]
    assert "Accuracy on test samples; costs of one forward pass of 64 samples, on cpu" in str(old)
