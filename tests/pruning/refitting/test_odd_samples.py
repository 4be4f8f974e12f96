"""Few samples, equal ones, unlikely ones: never a worse model than without, and a line that is true."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.models import cnn
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import score_filters

pytestmark = pytest.mark.numeric


def images(n: int, seed: int = 0) -> Tensor:
    noise = torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, size=12, mode="bilinear")


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, PruningPlan]:
    torch.manual_seed(0)
    model = cnn(2, 5, widths=(16, 16), batch_norm=True)
    with torch.no_grad():
        for _ in range(60):
            model.train()(images(200))
    model.eval()
    scores = score_filters(model, criterion="random")
    return model, plan_pruning(model, scores, images(2), ratio=0.5)


def error(found: nn.Module, wanted: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        return float((found(inputs) - wanted(inputs)).square().mean())


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12, 20])
def test_few_samples_do_no_harm(net: tuple[nn.Module, PruningPlan], n: int) -> None:
    model, plan = net
    for seed in range(1, 6):
        raw, slim = prune(model, plan), prune(model, plan)
        report = refit(model, slim, plan, images(n, seed))
        assert report.n_points == n
        assert error(slim, model, images(200, 9)) <= 1.05 * error(raw, model, images(200, 9))
        if report.output_after == report.output_before:
            assert all(torch.equal(t, raw.state_dict()[k]) for k, t in slim.state_dict().items())
            assert "left as they were" in report.notes[-1]


def test_a_dozen_samples_help(net: tuple[nn.Module, PruningPlan]) -> None:
    model, plan = net
    raw, slim = prune(model, plan), prune(model, plan)
    refit(model, slim, plan, images(12))
    assert error(slim, model, images(200, 9)) < 0.5 * error(raw, model, images(200, 9))


def test_equal_samples_count_once(net: tuple[nn.Module, PruningPlan]) -> None:
    model, plan = net
    once, often = prune(model, plan), prune(model, plan)
    refit(model, once, plan, images(20))
    report = refit(model, often, plan, images(20).repeat(4, 1, 1, 1))
    assert report.n_points == 20
    assert report.notes[0] == "60 of 80 samples are equal to others and were left out"


def test_samples_unlike_those_of_training_are_told(net: tuple[nn.Module, PruningPlan]) -> None:
    model, plan = net
    usual = refit(model, prune(model, plan), plan, images(40))
    assert not any("batch normalisation" in note for note in usual.notes)
    greys = torch.linspace(0, 0.2, 40)[:, None, None, None].expand(40, 2, 12, 12)
    report = refit(model, prune(model, plan), plan, greys)
    assert any(
        "times as much as those that batch normalisation was trained on" in n for n in report.notes
    )


def test_channels_that_never_varied_tell_nothing() -> None:
    torch.manual_seed(0)
    model = cnn(2, 3, widths=(4, 6), batch_norm=True)
    first = model.get_submodule("conv1")
    first.weight.data[:3] = 0.0
    for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.momentum = None
    model.train()(images(200, 5))
    model.eval()
    plan = plan_pruning(model, score_filters(model, images(100, 5)), images(2), ratio=0.3)
    report = refit(model, prune(model, plan), plan, images(40))
    assert not any("batch normalisation" in note for note in report.notes), report.notes


def test_samples_of_one_class_are_told(net: tuple[nn.Module, PruningPlan]) -> None:
    model, plan = net
    with torch.no_grad():
        found = model(images(2000)).argmax(1)
    place = int(found.bincount().argmax())
    chosen = images(2000)[found == place]
    report = refit(model, prune(model, plan), plan, chosen)
    said = (
        f"{len(chosen[:256])} of {len(chosen[:256])} samples have their highest output in the same place"
    )
    assert len(chosen) >= 8 and any(note.startswith(f"{said}, {place}") for note in report.notes)
    mixed = refit(
        model, prune(model, plan), plan, torch.cat([chosen[:20], images(2000)[found != place][:20]])
    )
    assert not any("highest output" in note for note in mixed.notes)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (images(1), "1 sample to refit on: expected at least 2 that differ"),
        (images(1).repeat(9, 1, 1, 1), "9 equal samples to refit on"),
        (torch.zeros(9, 2, 12, 12), "9 equal samples to refit on"),
        (images(9).where(torch.arange(12) > 0, torch.nan), "samples with NaN"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    net: tuple[nn.Module, PruningPlan], samples: Tensor, says: str
) -> None:
    model, plan = net
    slim = prune(model, plan)
    before = copy.deepcopy(slim.state_dict())
    with pytest.raises(InputError, match=says):
        refit(model, slim, plan, samples)
    assert all(torch.equal(t, before[k]) for k, t in slim.state_dict().items())
