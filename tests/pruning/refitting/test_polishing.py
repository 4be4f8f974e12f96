"""Polishing brings a pruned net nearer to the original, and leaves everything else as it was."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from helpers.kinds import KINDS
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import unknot as uk
from unknot.core.errors import InputError
from unknot.nets.models import cnn, resnet
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import call_model
from unknot.pruning.refitting.distilling.views import Views, choose_views
from unknot.pruning.refitting.polishing import PolishReport, polish

pytestmark = pytest.mark.numeric


def images(n: int, channels: int = 2, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth random images: neighbouring pixels go together, as in photographs."""
    noise = torch.randn(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, size=size, mode="bilinear")


def worn(model: nn.Module, by: float = 0.2) -> nn.Module:
    """A copy whose weights are off by a share, as after a rough pruning."""
    slim = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in slim.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_((by * parameter.float().square().mean().sqrt() * noise).to(parameter))
    return slim


def net(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return cnn(2, 5, widths=(8, 8), **options).eval()


def distance(model: nn.Module, slim: nn.Module, inputs: Inputs) -> float:
    """The mean square of the difference over the variance of the first tensor returned."""
    with torch.no_grad():
        wanted, found = (call_model(m.eval(), inputs) for m in (model, slim))
    return float((found - wanted).square().mean() / (wanted - wanted.mean(0)).square().mean())


def state(model: nn.Module) -> list[Tensor]:
    return [t.detach().clone() for t in (*model.parameters(), *model.buffers())]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_pruned_resnet_comes_nearer_on_fresh_images_and_the_original_stays() -> None:
    torch.manual_seed(0)
    model, inputs, fresh = resnet(2, 5, widths=(8, 12), blocks=1), images(120), images(200, seed=1)
    with torch.no_grad():
        for _ in range(20):
            model.train()(inputs)
    for parameter in model.parameters():
        if parameter.ndim == 0:  # a residual branch starts at strength 0
            nn.init.ones_(parameter)
    model.eval()
    plan = uk.plan_pruning(model, uk.score_filters(model, criterion="l1"), inputs[:2], ratio=0.5)
    slim = uk.prune(model, plan, refit=inputs)
    before, untouched, frozen = distance(model, slim, fresh), state(model), list(slim.buffers())
    statistics = [b.clone() for b in frozen]
    report = polish(model, slim, inputs, steps=60, batch_size=32)
    assert distance(model, slim, fresh) < 0.8 * before
    assert report.after < report.before and report.step > 0 and report.measure == "KL"
    assert [row.step for row in report.rows] == list(range(0, 61, 10))
    assert report.before == report.rows[0].error and report.n_points == 120
    assert report.after == pytest.approx(min(row.error for row in report.rows))
    assert same(state(model), untouched)
    assert same(list(slim.buffers()), statistics)  # of batch normalisation


def test_the_error_is_the_divergence_on_every_fifth_sample() -> None:
    model, inputs = net(), images(40)
    slim = worn(model)
    with torch.no_grad():
        was, now = (m(inputs[::5]).double().softmax(1) for m in (model, slim))
    before = float((was * (was.log() - now.log())).sum(1).mean())
    report = polish(model, slim, inputs, steps=5)
    assert report.before == pytest.approx(before, rel=1e-4)
    with torch.no_grad():
        now = slim(inputs[::5]).double().softmax(1)
    assert report.after == pytest.approx(float((was * (was.log() - now.log())).sum(1).mean()), rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_leaves_randomness_alone() -> None:
    model, inputs = net(batch_norm=True), images(40)
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    found = []
    for seed in (0, 0, 1):
        slim = worn(model)
        polish(model, slim, (inputs, torch.zeros(40).long()), steps=25, seed=seed)
        found.append(state(slim))
    assert torch.equal(torch.rand(3), drawn)
    assert same(found[0], found[1]) and not same(found[0], found[2])


def test_modes_flags_gradients_and_hooks_stay() -> None:
    model, inputs = net(batch_norm=True), images(40)
    slim = worn(model).train()
    slim.out.weight.requires_grad_(False)
    slim.out.bias.grad = torch.ones_like(slim.out.bias)
    calls: list[int] = []
    slim.register_forward_hook(lambda *_: calls.append(1))
    before, places = slim.out.weight.clone(), [p.data_ptr() for p in slim.parameters()]
    report = polish(model, slim, inputs, steps=20)
    assert report.step and calls and len(slim._forward_hooks) == 1
    assert not torch.equal(slim.out.weight, before)  # frozen ones are mended too
    assert not slim.out.weight.requires_grad and slim.out.bias.requires_grad
    assert torch.equal(slim.out.bias.grad, torch.ones(5)) and slim.conv1.weight.grad is None
    assert slim.training and all(m.training for m in slim.modules())
    assert places == [p.data_ptr() for p in slim.parameters()]
    assert not model.training


OF_ALL_KINDS = (
    "two inputs", "named inputs", "words", "tied embedding", "auxiliary head", "multihead attention",
    "gru after linear",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_ALL_KINDS)
def test_models_of_all_kinds_come_nearer(name: str) -> None:
    kind = KINDS[name]
    model, inputs = kind.built(), kind.inputs(60)
    slim = worn(model, 0.1)
    report = polish(model, slim, [(inputs, torch.zeros(60).long())], steps=40)
    assert report.after < report.before and report.notes == (
        "no views: the inputs have not the shape of images",
    )
    assert all(bool(p.isfinite().all()) for p in slim.parameters())


def test_tied_weights_stay_tied() -> None:
    model = KINDS["tied embedding"].built()
    slim = worn(model)
    polish(model, slim, [KINDS["tied embedding"].inputs(40)], steps=5)
    assert slim.head.weight is slim.emb.weight


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_computed_weights_learn_and_the_model_can_still_be_copied(norm: Any) -> None:
    model = net()
    norm(model.conv2)
    inputs = images(40)
    with torch.no_grad():
        model(inputs)
        slim = copy.deepcopy(model)
        for parameter in slim.parameters():
            parameter.mul_(1.1)
        slim(inputs)
    before = distance(model, slim, inputs)
    assert polish(model, slim, inputs, steps=20).step
    assert distance(model, slim, inputs) < before
    assert distance(copy.deepcopy(slim), slim, inputs) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_come_back_as_they_were(dtype: torch.dtype) -> None:
    model = net(batch_norm=True).to(dtype)
    slim = worn(model)
    report = polish(model, slim, images(60), steps=40)
    assert report.after < report.before
    assert all(t.dtype == dtype for t in (*slim.parameters(), *slim.buffers()) if t.is_floating_point())
    before = distance(model, worn(model), images(60).to(dtype))
    assert distance(model, slim, images(60).to(dtype)) < before


class Maps(nn.Module):
    """Two maps and a vector: ``{"mask": [n, 3, h, w], "depth": [n, h, w], "loss": []}``."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mask, self.depth = (
            nn.Conv2d(2, 8, 3, padding=1),
            nn.Conv2d(8, 3, 1),
            nn.Conv2d(8, 1, 1),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x).relu()
        return {"mask": self.mask(y), "depth": 1e3 * self.depth(y)[:, 0], "loss": y.mean()}


def test_each_tensor_returned_counts_relative_to_its_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "unknot.pruning.refitting.distilling.distillation.COLUMNS", 500
    )  # of 768 and 256 cells
    torch.manual_seed(0)
    model, inputs = Maps().eval(), images(60)
    slim = worn(model, 0.1)

    def errors() -> dict[str, float]:
        with torch.no_grad():
            was, now = model(inputs), slim(inputs)
        return {
            k: float((now[k] - was[k]).square().mean() / was[k].var(0).mean()) for k in ("mask", "depth")
        }

    before = errors()
    report = polish(model, slim, inputs, steps=60)
    assert report.measure == "relative error"
    assert report.before == pytest.approx((before["mask"] + before["depth"]) / 2, rel=0.3)
    assert all(errors()[k] < 0.5 * before[k] for k in before)


def test_probabilities_and_single_logits_are_judged_by_relative_error() -> None:
    model = nn.Sequential(net(), nn.Softmax(1))
    assert polish(model, worn(model), images(40), steps=3).measure == "relative error"


def test_a_rate_that_leads_away_is_lowered_and_what_ruins_the_weights_taken_back() -> None:
    model, inputs = net(), images(60)
    slim = worn(model, 0.01)
    before = distance(model, slim, inputs)
    report = polish(model, slim, inputs, steps=80, learning_rate=1.0)
    assert max(row.error for row in report.rows) > 10 * report.before  # so it was too high
    assert "lowered to 0.0" in report.notes[-1] and report.step > 0
    assert distance(model, slim, inputs) < before
    weights = state(slim)
    report = polish(model, slim, inputs, steps=30, learning_rate=1e30)
    assert (report.step, report.after, len(report.rows)) == (0, report.before, 4)
    assert same(state(slim), weights)


class Quiet(nn.Module):
    """Runs without gradients; or fails when they are taken."""

    def __init__(self, inner: nn.Module, way: str) -> None:
        super().__init__()
        self.inner, self.way = inner, way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "without":
            with torch.no_grad():
                return self.inner(x)
        y = self.inner(x)
        if torch.is_grad_enabled() and self.way == "raising":
            raise ValueError("not for training")
        return y


def test_what_cannot_be_trained_is_left_and_says_why() -> None:
    inputs = images(40)
    for way, word in (("without", "does not require grad"), ("raising", "not for training")):
        model = Quiet(net(), way)
        slim = worn(model)
        before = state(slim)
        report = polish(model, slim, inputs, steps=20)
        assert word in report.notes[-1] and "\n" not in report.notes[-1]
        assert report.step == 0 and same(state(slim), before)


def test_nothing_to_gain_is_said() -> None:
    model = net()
    constant = nn.Sequential(net(), nn.Linear(5, 3))
    nn.init.zeros_(constant[1].weight)
    broken = worn(model)
    nn.init.constant_(broken.conv1.weight, math.nan)
    cases: list[tuple[nn.Module, nn.Module, int, str]] = [
        (model, copy.deepcopy(model), 40, "returns what the original returns"),
        (model, worn(model), 8, "8 samples are fewer than 10"),
        (constant, worn(constant), 40, "does not vary with the sample"),
        (model, broken, 40, "NaN or infinity"),
    ]
    for original, slim, n, word in cases:
        before = [t.nan_to_num() for t in state(slim)]
        report = polish(original, slim, images(n), steps=5)
        assert word in report.notes[0] and report.step == 0
        assert same([t.nan_to_num() for t in state(slim)], before)


class Upright(nn.Module):
    """Tells left from right: a mean that is weighted by the column."""

    def __init__(self, *, blind: bool) -> None:
        super().__init__()
        ramp = torch.linspace(-1, 1, 16)
        self.register_buffer("ramp", ramp.abs() if blind else ramp)
        self.out = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((x * self.ramp).mean((2, 3)))


def test_flips_are_for_models_that_see_no_difference() -> None:
    inputs = images(200)
    for blind in (True, False):
        torch.manual_seed(0)
        model = Upright(blind=blind)
        report = polish(model, worn(model), inputs, steps=2)
        assert (report.flips, report.pixels, report.views) == (blind, 2, 8)
        assert polish(model, worn(model), inputs, steps=2, flips=not blind).flips is not blind
    report = polish(model, worn(model), inputs, steps=2, pixels=0, flips=False)
    assert (report.flips, report.pixels, report.views) == (False, 0, 1)


def test_shifts_that_make_other_images_are_left_out() -> None:
    noise = torch.randn(60, 2, 16, 16)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(512, 3))
    report = polish(model, worn(model), noise, steps=2)
    assert (report.pixels, report.flips) == (0, False) and "no shifts" in report.notes[0]


def test_a_view_shifts_and_mirrors_all_images_of_a_sample_alike() -> None:
    inputs = {"a": images(50), "b": 2 * images(50), "rows": torch.arange(50)[:, None]}
    views = Views(pixels=2, flips=True)
    moves = views.draw(50, torch.Generator().manual_seed(0), plain=10)
    seen: Any = views.of(inputs, moves)
    assert torch.equal(seen["b"], 2 * seen["a"]) and torch.equal(seen["rows"], inputs["rows"])
    assert torch.equal(seen["a"][:10], inputs["a"][:10])
    for i in range(10, 50):
        down, right = (int(s) - 2 for s in moves.shifts[:, i])
        image = seen["a"][i].flip(2) if moves.mirrored[i] else seen["a"][i]
        rows = (torch.arange(16) + down).clamp(0, 15)
        columns = (torch.arange(16) + right).clamp(0, 15)
        assert torch.equal(image, inputs["a"][i][:, rows][:, :, columns])
    assert 10 < int(moves.mirrored.sum()) < 30


def test_views_are_asked_of_the_model_only_for_images() -> None:
    def never(*_: object) -> float:
        raise AssertionError

    for inputs in (torch.randn(20, 2, 15, 16), torch.randn(20, 8), torch.ones(20, 2, 16, 16).long()):
        views, note = choose_views(inputs, 2, "auto", never, 0)
        assert not views.any and "no views" in note


def test_shrink_polishes_once_after_the_last_refit(tmp_path: Any) -> None:
    inputs, labels = images(120), torch.arange(120) % 5
    shrunk = uk.shrink(
        net(),
        ((inputs, labels), (inputs, labels)),
        ratio=0.5,
        criterion="l1",
        rounds=2,
        polish=40,
        repeats=1,
    )
    first, last = shrunk.outcome.rounds
    assert first.polish is None and first.accuracy_polished is None
    assert last.polish is not None and last.polish.after < last.polish.before
    assert last.accuracies["polished"] == last.accuracy_polished == shrunk.outcome.accuracy_after
    assert f"by the weights of step {last.polish.step}" in last.polish_note
    shrunk.outcome.to_json(tmp_path / "outcome.json")
    assert uk.pruning.PruningOutcome.from_json(tmp_path / "outcome.json") == shrunk.outcome


def test_a_report_is_a_table_and_a_picture() -> None:
    report: PolishReport = polish(net(), worn(net()), images(40), steps=20)
    assert list(report._columns()) == ["step", "error"]
    assert repr(report).startswith("PolishReport on 40 samples, ")
    axes = report.plot()
    assert axes.get_ylabel() == "KL on samples held out" and len(axes.lines[0].get_xdata()) == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 0}, "steps = 0"), ({"views": 0}, "views = 0"), ({"pixels": -1}, "pixels = -1"),
        ({"flips": "often"}, "flips = 'often'"), ({"learning_rate": 0}, "learning_rate = 0"),
        ({"batch_size": 0}, "batch_size = 0"), ({"seed": -1}, "seed = -1"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        polish(net(), net(), images(40), **options)


def test_models_and_samples_that_do_not_fit_are_refused() -> None:
    model, inputs = net(), images(40)
    with pytest.raises(InputError, match="two models that share weights"):
        polish(model, model, inputs)
    with pytest.raises(InputError, match="a pruned model that returns 4 numbers a sample"):
        polish(model, cnn(2, 4, widths=(8, 8)), inputs)
    with pytest.raises(InputError, match="samples with NaN or infinity"):
        polish(model, worn(model), map_tensors(inputs, lambda t: t / 0))
