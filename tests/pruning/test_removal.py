"""Scores and plans: what goes, why, and under which budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nets import lived_in
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.cost import Cost, compare_cost, count_macs
from unknot.nets.models import cnn, mlp, resnet
from unknot.pruning.planning.plan import why_nothing_goes
from unknot.pruning.removal import PruningPlan, plan_pruning, prune
from unknot.pruning.scoring.observations import DEAD
from unknot.pruning.scoring.scores import FilterScore, FilterScores, score_filters
from unknot.topology.scale import Scale

pytestmark = pytest.mark.numeric

FACTORIES = {
    "cnn": lambda: cnn(1, 3, widths=(4, 6, 5)),
    "cnn with norm": lambda: cnn(1, 3, widths=(4, 6), batch_norm=True),
    "resnet": lambda: resnet(1, 3, widths=(8, 12), blocks=1),
}
EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def built(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return lived_in(FACTORIES[name](), seed)


def by_index(_: str, convolution: nn.Conv2d) -> np.ndarray:
    return np.arange(convolution.out_channels)


def with_scores(model: nn.Module, values: dict[str, list[float]], **notes: str) -> FilterScores:
    """Scores by hand; ``notes`` are those of the filters "layer_index"."""
    rows = [
        FilterScore(layer, i, v, "mine", note=notes.get(f"{layer}_{i}".replace(".", "_"), ""))
        for layer, of_layer in values.items()
        for i, v in enumerate(of_layer)
    ]
    return FilterScores(tuple(rows), "mine", remove_high=False)


def test_uniform_ratio_takes_its_share_of_every_layer_worst_first() -> None:
    model = built("cnn")
    plan = plan_pruning(model, score_filters(model, criterion=by_index), EXAMPLE, ratio=0.5)
    assert plan.removed == {"conv1": [0, 1], "conv2": [0, 1, 2], "conv3": [0, 1]}
    assert plan.reasons["conv2"][1] == "by_index 1, rank 2 of 6"
    assert plan.budget == "46.7% of 15 filters, 50.0% asked"


def test_layers_that_share_channels_lose_as_many_as_asked_by_the_mean_of_their_scores() -> None:
    """Members that disagree used to leave no filter to remove."""
    model = built("resnet")
    up = [float(i + 1) for i in range(8)]
    scores = with_scores(model, {"conv1": [10 * v for v in up], "block1.conv2": [1.0, *[9.0] * 6, 1.0]})
    plan = plan_pruning(model, scores, EXAMPLE, ratio=0.5)
    # Relative to their layers: conv1 goes up from 0.2 to 1.8, and conv2 is 0.14 at both ends, else 1.29.
    assert plan.removed == {"conv1": [0, 1, 2, 7], "block1.conv2": [0, 1, 2, 7]}
    sums = (["conv1", "block1.conv2"], ["block2.conv2", "block2.shortcut"])
    assert plan.shared == {layer: together for together in sums for layer in together}
    assert plan.reasons["conv1"][0] == "mine mean over conv1 10, block1.conv2 1, rank 1 of 8"


def test_the_reason_of_a_redundant_filter_is_its_note() -> None:
    model = built("cnn")
    scores = with_scores(
        model, {"conv1": [1.0, -1.0, -2.0, 1.0]}, conv1_1="duplicate of filter 3", conv1_2=DEAD
    )
    plan = plan_pruning(model, scores, EXAMPLE, ratio=0.5)
    assert plan.removed == {"conv1": [1, 2]}
    assert plan.reasons == {"conv1": ["duplicate of filter 3", DEAD]}


@pytest.mark.parametrize("allocation", ["uniform", "macs"])
@pytest.mark.parametrize("what", ["macs", "parameters"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_shares_of_macs_and_parameters_are_met_within_two_points(
    what: str, share: float, allocation: str
) -> None:
    torch.manual_seed(0)
    model = resnet(1, 3, widths=(16, 24, 32)).eval()
    scores = score_filters(model, criterion="l1")
    plan = plan_pruning(model, scores, EXAMPLE, **{what: share}, allocation=allocation)
    found = compare_cost(model, prune(model, plan), EXAMPLE, repeats=1)
    assert abs(1 - getattr(found.after, what) / getattr(found.before, what) - share) < 0.02
    assert f"{share:.1%} asked" in plan.budget


def test_allocation_by_macs_spares_layers_that_cost_little() -> None:
    model = cnn(1, 3, widths=(8, 8, 8)).eval()  # each layer takes a quarter of the pixels of the last
    scores = with_scores(model, {f"conv{i}": [1.0] * 8 for i in (1, 2, 3)})
    plan = plan_pruning(model, scores, EXAMPLE, macs=0.3, allocation="macs")
    conv1, conv2 = (len(plan.removed.get(layer, ())) for layer in ("conv1", "conv2"))
    assert "conv3" not in plan.removed and conv1 > conv2


def test_latency_goes_down_the_list_until_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of our own: a millisecond for every ten parameters."""

    def cost(model: nn.Module, example: torch.Tensor, **_: object) -> Cost:
        n = sum(p.numel() for p in model.parameters())
        return Cost(n, 0, 0, n / 10, 0.0, len(example), "cpu", 1)

    monkeypatch.setattr("unknot.pruning.planning.budget.measure_cost", cost)
    model = built("cnn")
    scores = score_filters(model, criterion="l1")
    plan = plan_pruning(model, scores, EXAMPLE, latency_ms=30)
    n = sum(p.numel() for p in prune(model, plan).parameters())
    assert 250 < n <= 300
    with pytest.raises(InputError, match="latency_ms = 0.5"):
        plan_pruning(model, scores, EXAMPLE, latency_ms=0.5)


@pytest.mark.parametrize("budget", [{"ratio": 0.5}, {"macs": 0.6}, {"parameters": 0.6}])
def test_layers_keep_multiples_and_their_minimum(budget: dict[str, float]) -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(10, 16, 24)).eval()
    scores = score_filters(model, criterion="l1")
    plan = plan_pruning(model, scores, EXAMPLE, **budget, round_to=4, min_filters=8)
    left = {name: n - len(plan.removed.get(name, ())) for name, n in plan.filters.items()}
    assert plan.removed
    assert all((n % 4 == 0 and n >= 8) or n == plan.filters[name] for name, n in left.items())


def test_ignored_layers_are_left_alone() -> None:
    model = built("cnn")
    scores = score_filters(model, criterion="l1")
    plan = plan_pruning(model, scores, EXAMPLE, ratio=0.5, ignored=["conv[12]"])
    assert list(plan.removed) == ["conv3"]
    assert plan.kept_layers["conv1"] == "ignored by 'conv[12]'"


def test_betti_scores_carry_scale_and_sample_size_and_threshold_exactly() -> None:
    model = built("cnn with norm")
    inputs = torch.randn(80, 1, 8, 8)
    scores = score_filters(model, [(inputs, torch.zeros(80).long())], max_points=60, criterion="betti")
    assert scores.remove_high
    assert [(r.layer, r.filter) for r in scores.rows[:5]] == [
        *[("conv1", i) for i in range(4)],
        ("conv2", 0),
    ]
    for row in scores.rows:
        assert row.betti is not None and (row.score == sum(row.betti) or row.redundant)
        assert row.scale is not None and row.scale.radius is not None
        assert row.n_points == 60
    threshold = float(np.median([r.score for r in scores.rows]))
    plan = plan_pruning(model, scores, inputs[:2], max_betti=threshold)
    for layer, rows in scores.by_layer().items():
        expected = [r.filter for r in rows if r.score > threshold or r.redundant]
        if len(expected) == len(rows):  # one filter is left, the least tangled
            expected = [f for f in expected if f != min(rows, key=lambda r: r.score).filter]
        assert plan.removed.get(layer, []) == expected
        for filter_, why in zip(plan.removed.get(layer, []), plan.reasons.get(layer, []), strict=True):
            assert why == rows[filter_].note or f"> {threshold:g}" in why


def test_dead_filters_have_one_component_and_no_loop() -> None:
    model = built("cnn")
    nn.init.zeros_(model.conv1.weight[1:2])  # type: ignore[index, arg-type, union-attr]
    scores = score_filters(model, torch.randn(50, 1, 8, 8), scale=Scale(radius=0.5), criterion="betti")
    dead = scores.by_layer()["conv1"][1]
    assert (dead.betti, dead.n_points) == ((1, 0), 1)


def test_no_layer_is_emptied() -> None:
    model = built("cnn")
    scores = score_filters(model, torch.randn(30, 1, 8, 8), scale=Scale(radius=1e-9), criterion="betti")
    plan = plan_pruning(model, scores, torch.randn(2, 1, 8, 8), max_betti=0, min_filters=2)
    assert {name: plan.filters[name] - len(gone) for name, gone in plan.removed.items()} == {
        "conv1": 2, "conv2": 2, "conv3": 2,
    }  # fmt: skip


def test_json_round_trips(tmp_path: Path) -> None:
    model = built("cnn")
    scores = score_filters(model, torch.randn(30, 1, 8, 8), criterion="betti")
    plan = plan_pruning(model, scores, torch.randn(2, 1, 8, 8), ratio=0.5)
    scores.to_json(tmp_path / "scores.json")
    plan.to_json(tmp_path / "plan.json")
    assert FilterScores.from_json(tmp_path / "scores.json") == scores
    assert PruningPlan.from_json(tmp_path / "plan.json") == plan
    with pytest.raises(InputError, match="a complete plan file"):
        PruningPlan.from_json(tmp_path / "scores.json")


def test_a_plan_for_another_model_is_refused() -> None:
    model = built("cnn")
    plan = plan_pruning(model, score_filters(model, criterion="l1"), torch.randn(2, 1, 8, 8), ratio=0.5)
    with pytest.raises(InputError, match="the model that was planned for"):
        prune(cnn(1, 3, widths=(9, 9, 9)), plan)
    with pytest.raises(InputError, match=r"filters \[99\] of layer conv1"):
        prune(model, replace(plan, removed={"conv1": [99]}))


def test_a_plan_that_tears_shared_channels_is_refused() -> None:
    model = built("resnet")
    plan = plan_pruning(model, score_filters(model, criterion="l1"), EXAMPLE, ratio=0.5)
    with pytest.raises(InputError, match=r"keeps filter \d of layer block1.conv2"):
        prune(model, replace(plan, removed={"conv1": plan.removed["conv1"]}))


def test_plans_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    model = built("cnn")
    plan = plan_pruning(model, score_filters(model, criterion="l1"), EXAMPLE, ratio=0.5)
    plan.to_json(tmp_path / "plan.json")
    record = json.loads((tmp_path / "plan.json").read_text())
    for name in ("shared", "budget", "inputs", "normalised"):
        del record[name]
    (tmp_path / "plan.json").write_text(json.dumps(record))
    read = PruningPlan.from_json(tmp_path / "plan.json")
    assert read.removed == plan.removed
    with torch.no_grad():
        assert torch.equal(prune(model, read)(EXAMPLE), prune(model, plan)(EXAMPLE))


def test_a_plan_tells_what_it_was_made_of() -> None:
    model = built("cnn")
    scores = with_scores(model, {"conv1": [4.0, 1.0, 2.0, 3.0], "conv2": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]})
    plan = plan_pruning(model, scores, EXAMPLE, ratio=0.5, ignored=["conv3"])
    assert plan == PruningPlan(
        removed={"conv1": [1, 2], "conv2": [3, 4, 5]},
        reasons={
            "conv1": ["mine 1, rank 1 of 4", "mine 2, rank 2 of 4"],
            "conv2": ["mine 3, rank 3 of 6", "mine 2, rank 2 of 6", "mine 1, rank 1 of 6"],
        },
        kept_layers={"conv3": "ignored by 'conv3'"},
        filters={"conv1": 4, "conv2": 6, "conv3": 5},
        criterion="mine",
        input_shape=(1, 8, 8),
        shared={},
        budget="33.3% of 15 filters, 50.0% asked",
        inputs=[{"name": None, "shape": [1, 8, 8], "dtype": "float32"}],
        choices={"banned": [], "tied": []},
    )
    assert (plan.n_removed, plan.n_filters) == (5, 15)


def test_unless_told_otherwise_one_filter_may_be_all_that_stays() -> None:
    model = built("cnn")
    plan = plan_pruning(model, score_filters(model, criterion=by_index), EXAMPLE, ratio=0.99)
    assert plan.removed == {"conv1": [0, 1, 2], "conv2": [0, 1, 2, 3, 4], "conv3": [0, 1, 2, 3]}
    assert plan_pruning(model, score_filters(model, criterion=by_index), EXAMPLE, ratio=0).removed == {}


@pytest.mark.parametrize(("least", "left"), [(0, 1), (1, 1), (3, 3)])
def test_a_threshold_below_all_scores_leaves_the_minimum(least: int, left: int) -> None:
    model = built("cnn")
    rows = [FilterScore("conv2", i, v, "betti") for i, v in enumerate([5.0, 9.0, 4.0, 3.0, 8.0, 7.0])]
    scores = FilterScores(tuple(rows), "betti", remove_high=True)
    plan = plan_pruning(model, scores, EXAMPLE, max_betti=0, min_filters=least)
    assert plan.removed == {"conv2": sorted([1, 4, 5, 0, 2, 3][: 6 - left])}
    assert plan.budget == "Betti numbers above 0"
    assert plan.reasons["conv2"][plan.removed["conv2"].index(1)] == "Betti number 9 > 0"
    exact = plan_pruning(model, scores, EXAMPLE, max_betti=7)
    assert exact.removed == {"conv2": [1, 4]} and exact.budget == "Betti numbers above 7"


def by_price(model: nn.Module, scores: FilterScores) -> list[tuple[str, int]]:
    """Filters of unshared layers, the lowest score for the MACs of the lower half of its layer first."""
    empty = plan_pruning(model, scores, EXAMPLE, ratio=0)
    whole, found = count_macs(model, EXAMPLE[:1]), []
    for layer, rows in scores.by_layer().items():
        lowest = [r.filter for r in sorted(rows, key=lambda r: r.score)]
        half = sorted(lowest[: max(1, len(lowest) // 2)])
        slim = prune(model, replace(empty, removed={layer: half}, reasons={layer: ["tried"] * len(half)}))
        price = (whole - count_macs(slim, EXAMPLE[:1])) / len(half)
        mean = 1.0 if scores.comparable else float(np.mean([r.score for r in rows]))
        found += [(r.score / mean / price, layer, r.filter) for r in rows]
    return [(layer, i) for _, layer, i in sorted(found)]


@pytest.mark.parametrize("comparable", [True, False])
def test_by_macs_the_lowest_score_for_its_price_goes_first(comparable: bool) -> None:
    model = built("cnn")
    rng = np.random.default_rng(0)
    sizes = {"conv1": (4, 2.0), "conv2": (6, 1.0), "conv3": (5, 0.5)}
    values = {layer: list(top * rng.random(n)) for layer, (n, top) in sizes.items()}
    scores = replace(with_scores(model, values), comparable=comparable)
    asked = by_price(model, scores)
    for ratio in (0.2, 0.34, 0.47):
        plan = plan_pruning(model, scores, EXAMPLE, ratio=ratio, allocation="macs")
        expected = asked[: int(15 * ratio)]
        assert {(layer, i) for layer, gone in plan.removed.items() for i in gone} == set(expected)
        assert plan.budget == f"{len(expected) / 15:.1%} of 15 filters, {ratio:.1%} asked"
    # "auto" goes by the scores: over all layers where they can be compared.
    one, other = (
        plan_pruning(model, scores, EXAMPLE, macs=0.5, allocation=a) for a in ("macs", "uniform")
    )
    assert one.removed != other.removed
    assert plan_pruning(model, scores, EXAMPLE, macs=0.5) == (one if comparable else other)


@pytest.mark.parametrize("what", ["macs", "parameters"])
def test_a_uniform_share_takes_as_much_of_every_layer(what: str) -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(8, 16, 24)).eval()
    plan = plan_pruning(model, score_filters(model, criterion="l1"), EXAMPLE, **{what: 0.5})
    shares = [len(plan.removed[f"conv{i + 1}"]) / n for i, n in enumerate((8, 16, 24))]
    assert max(shares) - min(shares) <= 1 / 8
    before, after = (
        count_macs(m, EXAMPLE[:1]) if what == "macs" else sum(p.numel() for p in m.parameters())
        for m in (model, prune(model, plan))
    )
    unit = "MACs per sample" if what == "macs" else "parameters"
    assert plan.budget == f"{1 - after / before:.1%} of {before:,} {unit}, 50.0% asked"


class Fickle(nn.Module):
    """Computes something else without some of its channels, but only while a bias is zero: the copy that
    is tried out before the plan has jittered parameters.
    """

    def __init__(self, together: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Linear(8, 3)
        self.together = together
        nn.init.zeros_(self.b.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        y = self.b(x).relu().mean((2, 3))
        fewer = x.shape[1] < 8 and (y.shape[1] < 8 or not self.together)
        return self.out(y * 2 if fewer and not bool(self.b.bias.any()) else y)  # type: ignore[union-attr]


@pytest.mark.parametrize(("together", "left"), [(False, {"b": [0, 1, 2, 3]}), (True, {})])
def test_what_harms_after_all_is_kept(together: bool, left: dict[str, list[int]]) -> None:
    torch.manual_seed(0)
    model = Fickle(together).eval()
    scores = score_filters(model, criterion=by_index)
    plan = plan_pruning(model, scores, EXAMPLE, ratio=0.5)
    assert plan.removed == left
    why = "the model would compute something else than without them"
    assert plan.kept_layers == dict.fromkeys({"a", "b"} - left.keys(), why)


SCORES = FilterScores((), "l1", remove_high=False)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: score_filters(m), "loader = None"),
        (lambda m, x: score_filters(m, criterion="magic"), "'elder-surgeon', 'betti', 'l1', .*'random'"),
        (lambda m, x: score_filters(m, criterion=lambda _, c: np.ones(1)), "gave shape"),
        (lambda m, x: score_filters(nn.Linear(2, 2), x), "without convolutions or inner linear layers"),
        (lambda m, x: score_filters(mlp(2, 2), x, linear=()), "without convolutions: .*name linear"),
        (lambda m, x: plan_pruning(m, SCORES, x), "^no budget: expected exactly one"),
        (lambda m, x: plan_pruning(m, SCORES, x, ratio=0.5, macs=0.5), "ratio = 0.5, macs = 0.5"),
        (lambda m, x: plan_pruning(m, SCORES, x, macs=-1), "macs = -1"),
        (lambda m, x: plan_pruning(m, SCORES, x, macs=0.5), "at most 0, all that may go"),
        (
            lambda m, x: plan_pruning(m, score_filters(m, criterion="l1"), x, macs=0.5, min_filters=100),
            "at most 0, all that may go with min_filters = 100; lower it or min_filters = 100$",
        ),
        (lambda m, x: plan_pruning(m, SCORES, x, latency_ms=0), "latency_ms = 0"),
        (lambda m, x: plan_pruning(m, SCORES, x, ratio=0.5, round_to=0), "^round_to = 0: .* >= 1; "),
        (
            lambda m, x: plan_pruning(m, SCORES, x, ratio=0.5, min_filters=-1),
            "^min_filters = -1: .* >= 0; ",
        ),
        (
            lambda m, x: plan_pruning(m, SCORES, x, ratio=0.5, allocation="best"),
            "^allocation = 'best': expected 'auto', 'uniform' or 'macs'; pass 'auto'$",
        ),
        (lambda m, x: plan_pruning(m, SCORES, x, ratio=0.5, ignored=["z"]), "ignored = 'z'"),
        (lambda m, x: plan_pruning(m, SCORES, x[0, 0], ratio=0.5), r"^a batch of shape \(2, 8\)"),
        (
            lambda m, x: plan_pruning(
                cnn(1, 3, widths=(9, 9)), score_filters(m, criterion="l1"), x, ratio=0.5
            ),
            "^scores of 4 filters of layer conv1: expected 9 as in the model; "
            "score the filters of this model$",
        ),
        (
            lambda m, x: plan_pruning(m, with_scores(m, {"conv9": [1.0]}), x, ratio=0.5),
            "^scores of 1 filters of layer conv9: expected no such layer as in the model; ",
        ),
        (lambda m, x: plan_pruning(m, SCORES, x, ratio=1.0), "ratio = 1"),
        (
            lambda m, x: plan_pruning(m, SCORES, x, max_betti=3),
            "^max_betti = 3 with criterion 'l1': expected the criterion 'betti'; "
            "score with criterion='betti', or pass ratio=0.5$",
        ),
        (
            lambda m, x: plan_pruning(m, replace(SCORES, criterion="betti"), x, max_betti=-1),
            "^max_betti = -1: expected a number >= 0",
        ),
        (lambda m, x: score_filters(m, x * float("nan")), "finite outputs"),
        (lambda m, x: plan_pruning(m, SCORES, x * float("nan"), ratio=0.5), "returns NaN"),
    ],
)
def test_bad_input(call: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call(built("cnn"), torch.randn(10, 1, 8, 8))  # type: ignore[operator]


def test_a_share_between_two_multiples_is_met_as_nearly_as_they_let_it() -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, widths=(32, 96)).eval()
    scores = score_filters(model, criterion="l1")
    plan = plan_pruning(model, scores, EXAMPLE, macs=0.4, round_to=32)
    assert plan.removed.keys() == {"conv2"} and plan.n_removed == 32  # a third; the next step is two
    removed = 1 - count_macs(prune(model, plan), EXAMPLE) / count_macs(model, EXAMPLE)
    assert f"{removed:.1%} of" in plan.budget and 0.3 < removed < 0.34


def test_counting_macs_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock() -> float:
        raise AssertionError("a budget in MACs timed a forward pass")

    monkeypatch.setattr("time.perf_counter", clock)
    model = built("cnn")
    scores = score_filters(model, criterion="l1")
    assert plan_pruning(model, scores, EXAMPLE, macs=0.5, allocation="macs").removed


def test_why_nothing_goes_counts_the_other_layers() -> None:
    assert why_nothing_goes({"a": "x"}, {"a": 4, "b": 4}) == ""
    assert why_nothing_goes({"a": "x"}, {"a": 4}) == "no filter of a may go (x)"
    assert why_nothing_goes({"a": "x", "b": "y"}, {"a": 4, "b": 4}) == (
        "no filter of a may go (x), nor may those of 1 other layer"
    )


@pytest.mark.parametrize("budget", ["macs", "parameters"])
def test_a_share_of_a_net_of_which_nothing_may_go_is_refused_with_the_reason(budget: str) -> None:
    model, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(1)), torch.randn(2, 1, 6, 6)
    scores = score_filters(model, criterion="l1")
    with pytest.raises(InputError) as refused:
        plan_pruning(model, scores, x, **{budget: 0.25}, ignored=["0"])
    assert str(refused.value) == (
        f"{budget} = 0.25: no filter of 0 may go (ignored by '0'): expected a model with filters that "
        "may go; the reason tells what stands in the way; ignore fewer layers, or name others, e.g. "
        "linear=['*pwconv1'] or --linear '*pwconv1'"
    )
    assert plan_pruning(model, scores, x, **{budget: 0.0}, ignored=["0"]).n_removed == 0
