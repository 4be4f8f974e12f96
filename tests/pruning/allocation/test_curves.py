"""Curves of what the output loses: measured without shortcuts, chosen from, shown, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.core.errors import InputError
from unknot.nets.models import resnet
from unknot.pruning.allocation.held_out import HeldOut
from unknot.pruning.allocation.options import CurveOptions
from unknot.pruning.allocation.prefix import Prefix
from unknot.pruning.planning.pool_curves import PoolCurves
from unknot.pruning.refitting.losses import output_loss
from unknot.pruning.structure.layers import all_layers
from unknot.pruning.structure.pools import channels_of, find_structure

pytestmark = pytest.mark.numeric
Net = tuple[nn.Module, Tensor, Tensor]


@pytest.fixture(scope="module")
def trained() -> Net:
    """A net whose classes are the brightest quarter of an image, and 200 samples."""
    torch.manual_seed(0)
    images = torch.randn(200, 2, 8, 8)
    quarters = F.adaptive_avg_pool2d(images.sum(1, keepdim=True), 2).flatten(1)
    labels = quarters.argmax(1)
    model = resnet(2, 4, widths=(8, 12), blocks=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval(), images, labels


@pytest.fixture(scope="module")
def curves(trained: Net) -> PoolCurves:
    model, images, labels = trained
    scores = uk.score_filters(model, images)
    return uk.pruning.measure_curves(model, scores, [(images, labels)], levels=(0.75, 0.25))


def test_a_narrower_pool_loses_more_and_every_pool_is_measured(trained: Net, curves: PoolCurves) -> None:
    model, images, _ = trained
    pools = find_structure(model, images[:2]).pools
    assert list(curves.by_pool()) == list(range(len(pools)))
    assert curves.loss == "kl" and (curves.n_fit, curves.n_held_out) == (120, 80)
    assert all(0 <= row.loss < 5 for row in curves.rows)
    wide, narrow = ([rows[i].loss for rows in curves.by_pool().values()] for i in (0, 1))
    assert sum(narrow) > sum(wide)
    assert [row.kept for row in curves.by_pool()[0]] == [6, 2]


def test_what_is_reused_changes_no_number(trained: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, _ = trained
    scores = uk.score_filters(model, images)
    with_prefix = uk.pruning.measure_curves(model, scores, images, levels=(0.5,), loss="kl")
    calls = 0
    until = Prefix.until

    def nothing_known(self: Prefix, affected: Any) -> Any:
        nonlocal calls
        calls += 1
        return until(self, all_layers(model))  # all are affected: nothing is replayed

    monkeypatch.setattr(Prefix, "until", nothing_known)
    without = uk.pruning.measure_curves(model, scores, images, levels=(0.5,), loss="kl")
    assert calls == 2 * len(without.rows)
    assert [r.loss for r in with_prefix.rows] == pytest.approx([r.loss for r in without.rows], rel=1e-4)


def test_layers_in_front_of_a_cut_are_not_run_again(trained: Net) -> None:
    model, images, _ = trained
    prefix = Prefix(model, images, all_layers(model), most=2**30)
    layers = list(all_layers(model))
    with prefix.until([layers[2]]), torch.no_grad():
        hooks = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        with hooks as profile:
            outputs = model(images)
        ran = [event.key for event in profile.events() if event.key == "aten::conv2d"]
    assert len(ran) == sum(isinstance(m, nn.Conv2d) for m in all_layers(model).values()) - 2
    torch.testing.assert_close(outputs, prefix.outputs)


def test_a_call_with_other_shapes_is_made(trained: Net) -> None:
    """The model runs another way than when its results were taken: nothing stale is handed out."""
    model, images, _ = trained
    prefix = Prefix(model, images, all_layers(model), most=2**30)
    with prefix.until([]), torch.no_grad():
        fewer = model(images[:50])
    torch.testing.assert_close(fewer, prefix.outputs[:50])


def test_the_plan_spends_the_budget_by_the_curves(trained: Net, curves: PoolCurves) -> None:
    model, images, _ = trained
    scores = uk.score_filters(model, images)
    whole = uk.nets.measure_cost(model, images[:1], repeats=1)
    for budget in ({"macs": 0.5}, {"parameters": 0.5}):
        plan = uk.plan_pruning(model, scores, images[:2], curves=curves, **budget)
        cost = uk.nets.measure_cost(uk.prune(model, plan), images[:1], repeats=1)
        (name,) = budget
        assert getattr(cost, name) / getattr(whole, name) == pytest.approx(0.5, abs=0.02)
    plan = uk.plan_pruning(model, scores, images[:2], curves=curves, macs=0.5, round_to=4)
    assert all((n - len(plan.removed.get(x, ()))) % 4 == 0 for x, n in plan.filters.items())


def test_in_time(trained: Net, curves: PoolCurves) -> None:
    model, images, _ = trained
    scores = uk.score_filters(model, images)
    plan = uk.plan_pruning(model, scores, images[:32], curves=curves, latency_ms=1e6)
    assert plan.n_removed == 0 and "at most 1e+06 asked" in plan.budget
    with pytest.raises(InputError, match=r"latency_ms = 1e-06: expected at least"):
        uk.plan_pruning(model, scores, images[:32], curves=curves, latency_ms=1e-6)


def test_files_frames_and_plots(curves: PoolCurves, tmp_path: Path, drawn: Any) -> None:
    curves.to_json(tmp_path / "curves.json")
    assert PoolCurves.from_json(tmp_path / "curves.json") == curves
    frame = curves.to_frame()
    assert list(frame.columns) == ["pool", "layers", "units", "kept", "loss"]
    assert len(frame) == len(curves.rows)
    axes = curves.plot()
    assert axes.get_yscale() == "log" and axes.get_legend() is not None
    assert "on 80 others" in repr(curves)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": ()}, "levels = ()"),
        ({"levels": (0.5, 1.5)}, "levels = (0.5, 1.5)"),
        ({"max_points": 3}, "max_points = 3"),
        ({"loss": "mse"}, "loss = 'mse'"),
    ],
)
def test_wrong_options_are_one_line(trained: Net, change: dict[str, Any], says: str) -> None:
    model, images, _ = trained
    with pytest.raises(InputError) as caught:
        uk.pruning.measure_curves(model, uk.score_filters(model, images), images, **change)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


def test_what_does_not_belong_together_is_refused(trained: Net, curves: PoolCurves) -> None:
    model, images, _ = trained
    other = resnet(2, 4, widths=(8, 16), blocks=1).eval()
    scores = uk.score_filters(other, images)
    with pytest.raises(InputError, match="curves of pool"):
        uk.plan_pruning(other, scores, images[:2], curves=curves, macs=0.5)
    with pytest.raises(InputError, match="scores of"):
        uk.pruning.measure_curves(model, scores, images)
    with pytest.raises(InputError, match="9 samples to measure curves on: expected at least 10"):
        uk.pruning.measure_curves(other, scores, images[:9])


def test_losses_have_their_plain_meaning() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(50, 5), torch.randn(50, 5)
    divergence = F.kl_div(b.log_softmax(1), a.log_softmax(1), log_target=True, reduction="batchmean")
    assert output_loss("kl", a, b) == pytest.approx(float(divergence), rel=1e-5)
    one, two = a[:, :1], b[:, :1]
    p, q = (torch.cat([torch.zeros(50, 1), t], 1) for t in (one, two))
    assert output_loss("kl", one, two) == pytest.approx(output_loss("kl", p, q))
    assert output_loss("error", a, b) == pytest.approx(
        float((a - b).square().mean() / (a - a.mean(0)).square().mean()), rel=1e-5
    )
    assert output_loss("kl", a, b * torch.nan) == float("inf")


def test_less_work_means_fewer_levels_and_then_fewer_samples() -> None:
    options = CurveOptions()
    assert options.within(1e12, 1e6, 10) == options
    fewer = options.within(4e10, 1e7, 12)
    assert (fewer.levels, fewer.max_points) == ((0.6, 0.33, 0.2), 111)
    least = options.within(1e9, 1e7, 12)
    assert (least.levels, least.max_points) == ((0.5, 0.25), 10)


def test_losses_on_held_out_samples_are_not_of_the_fitted_ones(trained: Net) -> None:
    model, images, labels = trained
    probe = uk.nets.probe_samples([(images, labels)])
    structure = find_structure(model, images[:2])
    held_out = HeldOut(CurveOptions(), model, probe, structure)
    pool = structure.pools[0]
    assert held_out.loss_without(channels_of(pool.units[:4])) > 0
    seen = {tuple(x.flatten().tolist()) for x in held_out.fit}
    assert not any(tuple(x.flatten().tolist()) in seen for x in held_out.held)
