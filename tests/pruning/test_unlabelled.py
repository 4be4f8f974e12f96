"""Shrinking without labels, and models of several inputs: what is told instead of the accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unknot as uk
from unknot.nets.training import train
from unknot.pruning.outcomes.closeness import compare_outputs
from unknot.pruning.outcomes.outcome import PruningOutcome

torch.manual_seed(0)
LABELS = torch.arange(300) % 3
MEANS = 2 * torch.randn(3, 1, 8, 8)
IMAGES = MEANS[LABELS] + torch.randn(300, 1, 8, 8)


class Net(nn.Module):
    """Classes of an image, or pictures where ``ends`` says so; further inputs are added to it."""

    def __init__(self, ends: str = "classes") -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.last = nn.Conv2d(12, 1, 1) if ends == "pictures" else nn.Linear(12, 3)
        self.ends = ends

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        x = x if other is None else x + other
        x = self.second(self.first(x).relu()).relu()
        if self.ends == "pictures":
            return self.last(x)
        scores = self.last(x.mean((2, 3)))
        return (scores, x.mean((2, 3))) if self.ends == "two" else scores


@pytest.fixture(scope="module")
def classifier() -> Net:
    torch.manual_seed(1)
    model = Net()
    train(model, IMAGES, LABELS, epochs=4, batch_size=32, learning_rate=1e-2)
    return model.eval()


def test_a_tensor_is_enough_and_the_outcome_tells_how_close_the_outputs_are(
    classifier: Net, tmp_path: Path
) -> None:
    shrunk = uk.shrink(classifier, IMAGES, macs=0.4, effort="fast", repeats=1)
    outcome = shrunk.outcome
    assert outcome.accuracy_before is outcome.accuracy_after is None
    assert (outcome.n_train, outcome.n_test, outcome.split) == (270, 30, "kept apart")
    assert outcome.agreement is not None and 0.5 < outcome.agreement <= 1
    assert outcome.output_error is not None and 0 < outcome.output_error < 0.5
    (row,) = [r for r in outcome.table() if r[0] == "agreement with the original"]
    assert row[1] == "100.00%" and row[3] == outcome.agreement
    assert "on 30 samples kept apart from the 270" in str(outcome) and "accuracy" not in str(outcome)
    outcome.to_json(tmp_path / "outcome.json")
    assert PruningOutcome.from_json(tmp_path / "outcome.json") == outcome
    uk.write_report(tmp_path / "report.html", outcome)
    assert "no labels, no accuracy" in (tmp_path / "report.html").read_text(encoding="utf-8")
    pytest.importorskip("matplotlib").use("agg")
    shrunk.plot()


def test_the_same_model_comes_of_the_same_samples_with_or_without_labels(classifier: Net) -> None:
    test = (IMAGES[:50], LABELS[:50])
    with_labels = uk.shrink(classifier, ((IMAGES, LABELS), test), macs=0.4, effort="fast", repeats=1)
    without = uk.shrink(classifier, ([IMAGES], [IMAGES[:50]]), macs=0.4, effort="fast", repeats=1)
    # Of a class's own share as many are drawn; which ones may differ.
    assert with_labels.outcome.filters_after == without.outcome.filters_after
    assert without.outcome.split == "given" and without.outcome.n_test == 50
    with torch.no_grad():
        same = (without.model(IMAGES[:50]).argmax(1) == classifier(IMAGES[:50]).argmax(1)).float().mean()
    assert float(same) == pytest.approx(without.outcome.agreement)


@pytest.mark.parametrize("ends", ["pictures", "two"])
def test_models_that_are_no_classifiers_are_told_by_their_error_alone(ends: str) -> None:
    torch.manual_seed(2)
    model = Net(ends).eval()
    shrunk = uk.shrink(model, [IMAGES[:200]], macs=0.3, effort="balanced", repeats=1)
    outcome = shrunk.outcome
    assert outcome.agreement is None and outcome.output_error is not None
    assert outcome.output_error < 0.5 and outcome.cost_after.macs < 0.75 * outcome.cost_before.macs
    assert "Outputs that differ from the original's" in str(outcome)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_models_take_several_inputs(classifier: Net, named: bool, labelled: bool) -> None:
    half = {"x": IMAGES / 2, "other": IMAGES / 2}
    inputs: Any = half if named else tuple(half.values())
    data = [(inputs, LABELS)] if labelled else [(inputs,)]
    outcome = uk.shrink(classifier, data, macs=0.4, effort="fast", repeats=1).outcome
    assert outcome.cost_after.macs < 0.65 * outcome.cost_before.macs
    if labelled:
        assert outcome.accuracy_before is not None and outcome.accuracy_before > 0.8
        assert outcome.agreement is None
    else:
        assert outcome.agreement is not None and outcome.agreement > 0.5


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, {"finetune": 1}, "fine-tuning on samples without labels: expected labels"),
        (IMAGES, {"criterion": "taylor"}, "without class labels"),
        ([((IMAGES, IMAGES), LABELS)], {"finetune": 1}, "fine-tuning on samples of 2 tensors"),
        ((IMAGES, LABELS + 0.5), {}, "data without class labels .*pass the inputs alone"),
        (([IMAGES], [(IMAGES, LABELS)]), {}, "without labels and test samples .* with labels"),
        (([IMAGES], [IMAGES[..., 1:]]), {}, r"samples \[1, 8, 8\] without labels and test samples"),
        (IMAGES[:4], {}, "4 samples without a test part"),
        (
            (IMAGES[:200], IMAGES[200:]),
            {},
            r"arrays \[200, 1, 8, 8\] and .* pass \(\[train\], \[test\]\)",
        ),
        ("images", {}, "data of type str"),
    ],
)
def test_what_cannot_be_is_refused(
    classifier: Net, data: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(uk.InputError, match=message):
        uk.shrink(classifier, data, macs=0.4, repeats=1, **options)


def test_closeness_is_what_its_definition_says() -> None:
    class Gives(nn.Module):
        def __init__(self, values: Tensor) -> None:
            super().__init__()
            self.values = values

        def forward(self, x: Tensor) -> Tensor:
            return self.values[x[:, 0].long()]

    wanted, found = torch.randn(200, 4), torch.randn(200, 4)
    rows = torch.arange(200.0)[:, None]
    close = compare_outputs(Gives(wanted), Gives(found), rows)
    assert close.agreement == pytest.approx(float((wanted.argmax(1) == found.argmax(1)).float().mean()))
    expected = (wanted - found).square().mean() / wanted.var(0, correction=0).mean()
    assert close.error == pytest.approx(float(expected), rel=1e-5)
    alone = compare_outputs(Gives(wanted), Gives(found), rows[:1]).error
    expected = (wanted - found)[0].square().mean() / wanted[0].square().mean()
    assert alone == pytest.approx(float(expected), rel=1e-5)
    found[3] = wanted[3] = float("nan")
    close = compare_outputs(Gives(wanted), Gives(found), rows)
    assert close.error == float("inf") and close.agreement < 1


@pytest.mark.parametrize("part", ["samples", "test samples"])
def test_samples_with_nan_are_refused_before_any_work(part: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    parts = [torch.randn(20, 1, 8, 8), torch.randn(10, 1, 8, 8)]
    parts[part != "samples"][3, 0, 0, 0] = torch.nan
    with pytest.raises(uk.InputError, match=rf"1 of \d0 {part} with NaN: expected numbers"):
        uk.shrink(model, ([parts[0]], [parts[1]]), macs=0.3)


def test_what_makes_one_doubt_the_refit_is_printed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3)).eval()
    images = torch.randn(6, 1, 8, 8).repeat(4, 1, 1, 1)
    test = torch.randn(10, 1, 8, 8)
    shrunk = uk.shrink(model, ([images], [test]), macs=0.3, effort="fast", repeats=1)
    assert "Refit: 18 of 24 samples are equal to others and were left out" in repr(shrunk)
