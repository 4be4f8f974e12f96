"""Criteria against independent computations; the redundant go first; what cannot be scored is refused."""

from __future__ import annotations

import copy
import inspect
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.filters import MODELS, built, scores_of
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

import unknot as uk
from unknot.nets.probe import Probe
from unknot.pruning.scoring import criteria
from unknot.pruning.scoring.criteria import Criterion, Evidence, LayerScores, criterion_names, register
from unknot.pruning.scoring.observations import DEAD, Observations, observe
from unknot.pruning.scoring.scores import FilterScores, score_filters
from unknot.pruning.structure.layers import prunable_layers

pytestmark = pytest.mark.numeric
BUILT_IN = criterion_names()

# ---- redundant filters


def with_redundant_filters() -> tuple[nn.Module, Tensor, Tensor]:
    """conv1: filter 1 is three times filter 4, 2 is dead behind the ReLU, 5 is constant."""
    model, inputs, labels = built("cnn", n=60, seed=3)
    with torch.no_grad():
        conv: Any = model.conv1
        conv.weight[1], conv.bias[1] = 3 * conv.weight[4], 3 * conv.bias[4]
        conv.bias[2] = -100
        conv.weight[5], conv.bias[5] = 0, 2
    return model, inputs, labels


@pytest.mark.parametrize("criterion", [*BUILT_IN, lambda _, conv: -np.arange(conv.out_channels)])
def test_dead_filters_and_duplicates_go_first(criterion: Any) -> None:
    model, inputs, labels = with_redundant_filters()
    scores = score_filters(model, [(inputs, labels)], criterion=criterion)
    rows = scores.by_layer()["conv1"]
    assert rows[2].note == rows[5].note == DEAD
    twins = {i: rows[i].note if rows[i].redundant else "" for i in (1, 4)}
    assert twins in ({1: "", 4: "duplicate of filter 1"}, {1: "duplicate of filter 4", 4: ""})
    assert not rows[0].redundant and not rows[3].redundant
    sign = 1 if scores.remove_high else -1
    worst = max(sign * row.score for row in scores.rows if not row.redundant)
    assert all(sign * row.score > max(worst, 0) for row in scores.rows if row.redundant)
    plan = uk.plan_pruning(model, scores, inputs[:2], ratio=0.5)
    assert set(plan.removed["conv1"]) == {i for i in range(6) if rows[i].redundant}


def test_the_better_duplicate_stays() -> None:
    model, inputs, _ = with_redundant_filters()
    for criterion, kept in (("l1", 1), ("elder", 1), (lambda _, c: np.arange(c.out_channels), 4)):
        rows = score_filters(model, inputs, criterion=criterion).by_layer()["conv1"]
        assert not rows[kept].redundant and rows[5 - kept].redundant


def test_removing_a_duplicate_loses_nothing_that_the_other_cannot_carry() -> None:
    model, inputs, _ = with_redundant_filters()
    carried = copy.deepcopy(model)
    with torch.no_grad():
        conv2: Any = carried.conv2
        conv2.weight[:, 1] += conv2.weight[:, 4] / 3
        conv2.weight[:, 4] = 0
    torch.testing.assert_close(carried(inputs), model(inputs), rtol=1e-4, atol=1e-5)


def test_without_samples_nothing_is_called_redundant() -> None:
    model, *_ = with_redundant_filters()
    for criterion in ("l1", "fpgm", "random"):
        scores = score_filters(model, criterion=criterion)
        assert not any(row.redundant for row in scores.rows)
        assert {row.n_points for row in scores.rows} == {None}


def test_one_sample_calls_no_filter_dead() -> None:
    model, inputs, _ = built("cnn")
    assert not any(r.redundant for r in score_filters(model, inputs[:1], criterion="elder").rows)


def test_rare_filters_that_answer_together_by_chance_are_no_duplicates() -> None:
    """Each answers in one corner of one image, at different strengths."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0])[:, None, None, None])
        model[0].bias.fill_(-1)
    inputs = torch.zeros(20, 1, 8, 8)
    inputs[3, 0, 0, 0] = 5
    seen = observe(model, Probe(inputs), prunable_layers(model, ()))["0"]
    assert not seen.copies.any()


def test_shifted_filters_are_no_duplicates() -> None:
    """Correlation 1, but not equal up to a factor: one does not replace the other."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].bias.copy_(torch.tensor([0.0, 1.0]))
    seen = observe(model, Probe(torch.randn(20, 1, 8, 8)), prunable_layers(model, ()))["0"]
    assert seen.correlation[0, 1] == pytest.approx(1)
    assert not seen.copies.any() and not seen.dead.any()


# ---- any model, seeds, files


@pytest.mark.parametrize("criterion", BUILT_IN)
@pytest.mark.parametrize("name", MODELS)
def test_every_criterion_scores_every_filter_and_leaves_the_model(name: str, criterion: str) -> None:
    model, inputs, labels = built(name)
    model.train()
    before = copy.deepcopy(model.state_dict())
    loader = [(inputs[:15], labels[:15]), (inputs[15:], labels[15:])]
    state = torch.get_rng_state()
    scores = score_filters(model, loader, criterion=criterion, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    counts = {layer: len(rows) for layer, rows in scores.by_layer().items()}
    assert counts == {n: c.out_channels for n, c in prunable_layers(model, ()).items()}
    assert all(np.isfinite(row.score) for row in scores.rows)
    assert scores == score_filters(model, loader, criterion=criterion, seed=1)
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_batches_do_not_change_the_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, labels = built("resnet", n=50)

    def seen() -> dict[str, Observations]:
        return observe(model, Probe(inputs), prunable_layers(model, ()), labels=labels)

    whole = seen()
    monkeypatch.setattr("unknot.pruning.scoring.responses.MOST_AT_ONCE", 7)
    for layer, one in seen().items():
        np.testing.assert_allclose(one.correlation, whole[layer].correlation, atol=1e-5)
        np.testing.assert_allclose(one.taylor, whole[layer].taylor, rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]
        assert (one.dead == whole[layer].dead).all() and (one.copies == whole[layer].copies).all()


def test_a_convolution_that_does_not_run_has_no_score_from_samples() -> None:
    _, inputs, labels = built("cnn")

    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spare, self.net = nn.Conv2d(1, 2, 1), uk.nets.cnn(1, 3, widths=(6, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)  # type: ignore[no-any-return]

    for criterion in BUILT_IN:
        layers = set(score_filters(Skips(), [(inputs, labels)], criterion=criterion).by_layer())
        assert layers == {"net.conv1", "net.conv2"} | (
            {"spare"} if criterion in "l1 fpgm random" else set()
        )


def test_random_depends_on_the_seed() -> None:
    model, *_ = built("cnn")
    first, second, third = (score_filters(model, criterion="random", seed=s) for s in (0, 0, 1))
    assert first == second != third


@pytest.mark.parametrize("criterion", ["elder", "betti", "bn"])
def test_json_round_trip_keeps_notes(tmp_path: Path, criterion: str) -> None:
    model, inputs, labels = with_redundant_filters()
    options: dict[str, Any] = {"clouds": "class"} if criterion == "betti" else {}
    scores = score_filters(model, [(inputs, labels)], criterion=criterion, **options)
    scores.to_json(tmp_path / "scores.json")
    assert FilterScores.from_json(tmp_path / "scores.json") == scores
    assert any(row.note for row in scores.rows)


def test_scores_written_before_there_were_notes_are_read(tmp_path: Path) -> None:
    old = {"layer": "a", "filter": 0, "score": 1.0, "criterion": "l1"}
    old |= dict.fromkeys(("n_points", "scale", "betti"))
    text = json.dumps({"unknot": "scores", "rows": [old], "criterion": "l1", "remove_high": False})
    (tmp_path / "old.json").write_text(text)
    assert FilterScores.from_json(tmp_path / "old.json").rows[0].note == ""


# ---- the default, a structure found before, and criteria of one's own


def test_the_default_is_the_elder_surgeon_and_needs_no_labels() -> None:
    model, inputs, _ = built("cnn")
    scores = score_filters(model, inputs)
    assert scores.criterion == "elder-surgeon" and scores.comparable and not scores.remove_high
    assert scores == score_filters(model, inputs, criterion="elder-surgeon")


def test_every_keyword_and_every_criterion_is_explained() -> None:
    text = score_filters.__doc__ or ""
    for name in inspect.signature(score_filters).parameters:
        assert re.search(rf"^        {name}: ", text, re.MULTILINE), name
    for name in BUILT_IN:
        assert f'"{name}"' in text
        assert f"`{name}`" in (Path(__file__).parents[3] / "docs" / "criteria.md").read_text()


@pytest.mark.parametrize("criterion", ["surgeon", "elder-surgeon"])
def test_a_structure_found_before_is_used_and_gives_the_same_scores(
    criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, _ = built("resnet")
    expected = score_filters(model, inputs, criterion=criterion)
    structure = uk.pruning.find_structure(model, inputs[:2])

    def traced(*_: Any) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr("unknot.pruning.scoring.surgeon.trace_channels", traced)
    assert score_filters(model, inputs, criterion=criterion, structure=structure) == expected


def test_a_structure_of_another_model_is_refused() -> None:
    model, inputs, _ = built("cnn")
    structure = uk.pruning.find_structure(model, inputs[:2])
    for other, options in (
        (uk.nets.cnn(1, 3, widths=(6, 4)), {}),
        (model, {"linear": ["out"]}),
    ):
        with pytest.raises(uk.InputError, match=r"a structure with \d channels of layer (conv2|out)"):
            score_filters(other, inputs, structure=structure, **options)


def test_the_surgeon_takes_several_inputs_and_refuses_what_it_cannot_follow() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.out((self.conv(x) + self.conv(y)).relu().mean((2, 3)))  # type: ignore[no-any-return]

    x = torch.randn(20, 1, 6, 6)
    loader = [((x, x.flip(0)), torch.arange(20) % 2)]
    scores = score_filters(Pair(), loader).rows
    assert len(scores) == 4 and all(0 < row.score < 1 for row in scores)

    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            if _get_current_dispatch_mode() is not None:  # its operations cannot be watched
                raise RuntimeError("no modes\nhere")
            return self.out(self.conv(x).mean((2, 3)))  # type: ignore[no-any-return]

    with pytest.raises(uk.InputError, match=r"cannot be followed \(no modes\).*criterion='elder'"):
        score_filters(Picky(), x)
    assert len(score_filters(Picky(), x, criterion="elder").rows) == 4


class Named(Criterion):
    """Gives what it was made with."""

    def __init__(self, scores: Any = None) -> None:
        self.scores = scores

    def score(self, evidence: Evidence) -> Any:
        return self.scores


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(criteria, "_REGISTRY", dict(criteria._REGISTRY))


@pytest.mark.usefixtures("registry")
def test_a_registered_class_is_known_by_name_to_scores_plans_and_recipes() -> None:
    @register("spread")
    class Spread(Criterion):
        """The standard deviation of a filter's weights, whatever it does; the largest go."""

        needs = "samples"
        remove_high, comparable, redundant_first = True, True, False

        def score(self, evidence: Evidence) -> dict[str, Tensor | LayerScores]:
            assert evidence.probe is not None and evidence.observations.keys() == evidence.layers.keys()
            spread = {n: m.weight.flatten(1).std(1) for n, m in evidence.layers.items()}
            return {"conv1": spread["conv1"], "conv2": LayerScores(spread["conv2"].tolist(), note="why")}

    assert isinstance(Spread(), Criterion) and "spread" in criterion_names()
    model, inputs, labels = with_redundant_filters()
    scores = score_filters(model, inputs, criterion="spread", max_points=30)
    assert (scores.criterion, scores.remove_high, scores.comparable) == ("spread", True, True)
    assert {(r.criterion, r.n_points) for r in scores.rows} == {("spread", 30)}
    assert {r.note for r in scores.rows} == {"", "why"}  # no word of the dead and the duplicates
    expected = model.conv1.weight.flatten(1).std(1).detach().numpy()  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(scores_of(scores, "conv1"), expected, rtol=1e-6)
    plan = uk.plan_pruning(model, scores, inputs[:2], ratio=0.2, allocation="uniform")
    assert plan.removed["conv1"] == [int(expected.argmax())]
    with pytest.raises(uk.InputError, match="max_betti = 3 with criterion 'spread'"):
        uk.plan_pruning(model, scores, inputs[:2], max_betti=3)
    data = uk.nets.LabelledData("d", inputs, labels, inputs, labels)
    shrunk = uk.shrink(model, data, ratio=0.2, criterion="spread", refit=False, repeats=1)
    assert shrunk.plan.criterion == "spread"
    with pytest.raises(uk.InputError, match="samples for the criterion 'spread'"):
        score_filters(model, criterion="spread")


@pytest.mark.usefixtures("registry")
def test_functions_are_criteria_registered_or_not() -> None:
    model, *_ = built("cnn")

    @register("bias")
    def by_bias(layer: str, module: Any) -> Tensor:
        assert model.get_submodule(layer) is module
        return module.bias.abs()  # type: ignore[no-any-return]

    scores = score_filters(model, criterion="bias")
    assert scores.criterion == "bias" and not scores.remove_high and not scores.comparable
    assert scores_of(scores, "conv2").tolist() == model.conv2.bias.abs().tolist()  # type: ignore[union-attr, operator]
    plain = score_filters(model, criterion=by_bias)
    assert plain.criterion == "by_bias"
    assert [r.score for r in plain.rows] == [r.score for r in scores.rows]


def test_a_function_with_a_name_that_is_taken_is_not_taken_for_what_has_it() -> None:
    def betti(layer: str, module: Any) -> Any:
        return np.arange(module.out_channels)

    model, inputs, _ = built("cnn")
    scores = score_filters(model, inputs, criterion=betti)
    assert scores.criterion == "betti of one's own" and not scores.remove_high
    with pytest.raises(uk.InputError, match="expected the criterion 'betti'"):
        uk.plan_pruning(model, scores, inputs[:2], max_betti=3)


@pytest.mark.parametrize("criterion", [c for c in BUILT_IN if "taylor" not in c and c != "betti"])
@pytest.mark.parametrize("rows", [[0], [0, 0, 0, 0]])
def test_one_sample_and_equal_samples_give_finite_scores(criterion: str, rows: list[int]) -> None:
    model, inputs, _ = built("cnn")
    scores = score_filters(model, inputs[rows], criterion=criterion)
    assert len(scores.rows) == 11 and all(np.isfinite(row.score) for row in scores.rows)


@pytest.mark.usefixtures("registry")
def test_a_registered_criterion_that_needs_labels_gets_them() -> None:
    class Gates(Criterion):
        needs = "labels"

        def score(self, evidence: Evidence) -> dict[str, Any]:
            assert evidence.probe is not None and evidence.probe.labels is not None
            return {name: evidence.observations[name].taylor for name in evidence.layers}

    register("gates", Gates())
    model, inputs, labels = built("cnn")
    gates, taylor = (score_filters(model, [(inputs, labels)], criterion=c) for c in ("gates", "taylor"))
    assert [r.score for r in gates.rows] == [r.score for r in taylor.rows]
    with pytest.raises(uk.InputError, match=r"labels \[n\]\) for the criterion 'gates'"):
        score_filters(model, inputs, criterion="gates")


@pytest.mark.usefixtures("registry")
def test_names_that_are_taken_and_what_is_no_criterion_are_refused_in_one_line() -> None:
    for name in (*BUILT_IN, "", None):
        with pytest.raises(uk.InputError, match="one that is not taken; choose another") as caught:
            register(name, lambda layer, module: [0.0])  # type: ignore[call-overload]
        assert "\n" not in str(caught.value)
    with pytest.raises(uk.InputError, match="a name, a Criterion or a callable"):
        register("mine", 3)
    Odd = type("Odd", (Named,), {"needs": "luck"})
    with pytest.raises(uk.InputError, match="needs = 'luck' of criterion Odd"):
        register("mine", Odd())
    assert "mine" not in criterion_names()


# ---- bad input


class Failing(Criterion):
    def score(self, evidence: Evidence) -> dict[str, list[float]]:
        return {layer: [1 / 0] for layer in evidence.layers}


def poisoned() -> tuple[nn.Module, Tensor, Tensor]:
    model, inputs, labels = built("cnn")
    nn.init.constant_(model.conv2.weight, float("nan"))  # type: ignore[union-attr, arg-type]
    return model, inputs, labels


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"criterion": "magic"}, "'elder-surgeon', .*'fpgm', .* or a callable"),
        ({"criterion": None}, "criterion = None"),
        ({"criterion": "elder", "loader": None}, "loader = None.*samples for the criterion 'elder'"),
        ({"criterion": "bn", "loader": None}, "loader = None"),
        ({"criterion": "taylor", "labels": None}, "without class labels.*criterion='elder-surgeon'"),
        ({"criterion": "elder-h0-taylor", "labels": None}, "without class labels"),
        ({"criterion": "taylor", "labels": 1}, "samples of class 1 alone"),
        ({"criterion": "taylor", "labels": "shifted"}, r"labels from 0 to 3 with 3 classes"),
        (
            {"criterion": "betti", "clouds": "class", "labels": None},
            "clouds = 'class' with a loader without class labels",
        ),
        ({"clouds": "pair"}, "two classes for clouds='pair'"),
        ({"classes": (0, 1)}, "two classes for clouds='pair'"),
        (
            {"criterion": "betti", "clouds": "pair", "classes": (0, 9)},
            r"two different classes of \[0, 1, 2\]",
        ),
        ({"criterion": "betti", "clouds": "pair", "classes": (1, 1)}, "two different classes"),
        ({"clouds": "some"}, "clouds = 'some'"),
        ({"clouds": "class"}, "clouds or classes with the criterion 'elder-surgeon'.*criterion='betti'"),
        ({"loader": None}, "samples for the criterion 'elder-surgeon'.*criterion='l1'"),
        ({"criterion": 3}, "a name, a Criterion or a callable"),
        ({"criterion": lambda layer: [1.0]}, "criterion <lambda> .*let it take the two"),
        (
            {"criterion": lambda n, m: [1.0]},
            r"<lambda> gave shape \(1,\) for layer conv1: expected \(6,\)",
        ),
        ({"criterion": lambda n, m: ["a"] * 6}, "gave list without real numbers"),
        ({"criterion": lambda n, m: ["1"] * 6}, "gave list without real numbers for layer conv1"),
        ({"criterion": lambda n, m: m.bias * 1j}, "gave Tensor without real numbers for layer conv1"),
        ({"criterion": lambda n, m: np.ones(6) * 1j}, "gave ndarray without real numbers"),
        (
            {"criterion": lambda n, m: {}["mine"]},
            r"^criterion <lambda> on layer conv1 \(KeyError: 'mine'\): expected one finite score",
        ),
        (
            {"criterion": Failing()},
            r"^criterion Failing \(ZeroDivisionError: division by zero\): expected",
        ),
        ({"criterion": lambda n, m: None}, r"gave shape \(\)|NoneType without"),
        ({"criterion": lambda n, m: m.bias / 0}, "gave NaN or infinity for layer conv1"),
        ({"criterion": Named({"gone": [1.0]})}, r"scored \['gone'\].*among conv1, conv2"),
        ({"criterion": Named([1.0])}, "Named that scored list"),
        ({"criterion": Criterion}, "criterion Criterion .*define score"),
        ({"number": "b3"}, "number = 'b3'"),
        ({"scale": "small"}, "scale = 'small'"),
        ({"scale": uk.Scale()}, "a radius, or k and hops"),
        ({"max_points": 1}, "max_points = 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: dict[str, Any], says: str) -> None:
    model, inputs, labels = built("cnn")
    given_labels = arguments.pop("labels", "own")
    if given_labels == "own":
        loader: Any = [(inputs, labels)]
    elif given_labels == "shifted":
        loader = [(inputs, torch.arange(len(inputs)) % 4)]
    else:
        loader = inputs if given_labels is None else [(inputs, torch.full((len(inputs),), given_labels))]
    loader = arguments.pop("loader", loader)
    with pytest.raises(uk.InputError, match=says) as caught:
        score_filters(model, loader, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("criterion", BUILT_IN)
def test_nan_names_the_layer(criterion: str) -> None:
    model, inputs, labels = poisoned()
    with pytest.raises(uk.InputError, match="layer conv2 with NaN"):
        score_filters(model, [(inputs, labels)], criterion=criterion)


def test_what_taylor_cannot_differentiate_is_refused() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 2, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.conv(x).relu()
            return self.out(x.mean((2, 3)))  # type: ignore[no-any-return]

    inputs, labels = torch.randn(10, 1, 5, 5), torch.arange(10) % 2
    with pytest.raises(uk.InputError, match="layer conv that is computed without gradients"):
        score_filters(Frozen(), [(inputs, labels)], criterion="taylor")

    class Detached(Frozen):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.conv(x).relu().mean((2, 3))).detach()  # type: ignore[no-any-return]

    with pytest.raises(uk.InputError, match="an output that is computed without gradients"):
        score_filters(Detached(), [(inputs, labels)], criterion="taylor")
    maps = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(uk.InputError, match="a classifier that returns"):
        score_filters(maps, [(inputs, labels)], criterion="taylor")


def test_every_pair_of_criteria_differs() -> None:
    """A name that silently gave another criterion's numbers would pass many other tests."""
    model, inputs, labels = built("cnn with norm", n=80)
    found = {c: score_filters(model, [(inputs, labels)], criterion=c) for c in BUILT_IN}
    for one, other in combinations(set(BUILT_IN) - {"elder-h0", "elder-h0-taylor"}, 2):
        assert scores_of(found[one], "conv2").tolist() != scores_of(found[other], "conv2").tolist()
