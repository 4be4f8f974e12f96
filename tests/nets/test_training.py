from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unknot.activations.folds import ZFold
from unknot.core.errors import InputError
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData
from unknot.nets.models import cnn, mlp
from unknot.nets.training import TrainingCurve, epochs_to, train

pytestmark = pytest.mark.numeric


def halves(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def test_learns_and_stops_at_the_target() -> None:
    torch.manual_seed(0)
    x, y = halves()
    model = mlp(2, 2, depth=1)
    curve = train(model, x, y, epochs=200, learning_rate=1e-2, stop_at=0.97)
    assert curve.train_accuracy[-1] >= 0.97
    assert all(a < 0.97 for a in curve.train_accuracy[:-1])
    assert curve.epochs_to(0.97) == len(curve.train_accuracy)
    assert measure_accuracy(model, x, y) == curve.train_accuracy[-1]
    assert not model.training


def test_is_reproducible_and_calls_back_each_epoch() -> None:
    x, y = halves()
    curves, epochs = [], []
    for _ in range(2):
        torch.manual_seed(5)
        curves.append(train(mlp(2, 2), x, y, epochs=3, seed=7, on_epoch=epochs.append))
    assert curves[0] == curves[1]
    assert epochs == [1, 2, 3, 1, 2, 3]


def test_censored_is_none_and_never_a_number() -> None:
    assert TrainingCurve((0.5, 0.6), (1.0, 0.9)).epochs_to(0.99) is None


def test_the_first_epoch_at_the_target_counts() -> None:
    accuracies, epochs = [0.5, 0.9, 0.8, 0.95], [0.125, 0.25, 0.375, 0.5]
    assert epochs_to(0.9, accuracies, epochs) == 0.25
    assert epochs_to(0.91, accuracies, epochs) == 0.5
    assert epochs_to(0.0, accuracies, epochs) == 0.125
    assert epochs_to(0.96, accuracies, epochs) is None
    assert epochs_to(0.0, [], epochs) is None
    assert TrainingCurve((0.5, 0.9, 0.8), (1.0,) * 3).epochs_to(0.9) == 2


def test_training_ends_where_the_callback_returns_true() -> None:
    model = mlp(2, 2, depth=1)
    curve = train(model, *halves(), epochs=9, on_epoch=lambda epoch: epoch == 4)
    assert len(curve.train_accuracy) == len(curve.loss) == 4 and not model.training


def test_a_batch_of_one_sample_is_trained_on() -> None:
    model, (x, y) = mlp(2, 2, depth=1), halves(20)
    before = [p.clone() for p in model.parameters()]
    assert train(model, x, y, epochs=1, batch_size=1).loss[0] > 0
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_loss_is_the_mean_over_the_steps_of_adam() -> None:
    """The loop by hand, on the same order of the samples."""
    x, y = halves(70)
    model = mlp(2, 2, depth=1)
    by_hand = copy.deepcopy(model)
    curve = train(model, x, y, epochs=2, batch_size=32, learning_rate=1e-2, seed=3)
    order = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-2)
    for epoch in range(2):
        losses = []
        for batch in torch.randperm(70, generator=order).split(32):
            loss = nn.functional.cross_entropy(by_hand(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert curve.loss[epoch] == pytest.approx(sum(losses) / 3)
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_last_batch_of_one_sample_survives_batch_norm() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x, y = halves(33)
    assert len(train(model, x, y, epochs=1, batch_size=32).loss) == 1


def test_reference_nets_have_the_shapes_they_say() -> None:
    assert mlp(12, 3, width=7, depth=2)(torch.randn(5, 3, 4)).shape == (5, 3)
    model = cnn(3, 4, widths=(5, 6), activation=ZFold, batch_norm=True)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [5, 6]
    assert mlp(3, 2, depth=0)(torch.randn(1, 3)).shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": -1}, "epochs = -1"),
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_bad_numbers(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        train(mlp(2, 2), *halves(), **change)  # type: ignore[arg-type]


def test_no_data_and_nan_loss() -> None:
    x, y = halves()
    with pytest.raises(InputError, match="0 inputs"):
        train(mlp(2, 2), x[:0], y[:0])
    with pytest.raises(InputError, match="loss = nan in epoch 1"):
        train(mlp(2, 2), x * float("nan"), y, epochs=2)


def test_bad_widths() -> None:
    with pytest.raises(InputError, match="width = 0"):
        mlp(2, 2, width=0)
    with pytest.raises(InputError, match="widths = -3"):
        cnn(1, 2, widths=(4, -3))


def test_limited_data_are_drawn_by_the_seed() -> None:
    x = torch.arange(40.0).view(40, 1)
    data = LabelledData("d", x[:30], torch.arange(30) % 3, x[30:], torch.arange(10) % 3)
    few, again, other = (data.limited(12, seed) for seed in (0, 0, 1))
    assert (len(few.inputs), len(few.test_inputs), few.name) == (12, 10, "d")
    assert torch.equal(few.inputs, again.inputs) and not torch.equal(few.inputs, other.inputs)
    assert torch.equal(data.labels[few.inputs[:, 0].long()], few.labels)
    with pytest.raises(InputError, match="most = 0"):
        data.limited(0)
