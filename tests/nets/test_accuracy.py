"""One accuracy and one loss, whatever shape a classifier returns: for training, measuring and scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.nets.accuracy import class_loss, class_scores, measure_accuracy


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


# What is made of a logit z [n] of class 1; each tells class 1 where z > 0, but for the last two with the
# cross entropy of the single logit.
HEADS: dict[str, Callable[[Tensor], Any]] = {
    "[n]": lambda z: z,
    "[n, 1]": lambda z: z[:, None],
    "[n, 2]": lambda z: torch.stack([torch.zeros_like(z), z], 1),
    "[n, 3]": lambda z: torch.stack([torch.zeros_like(z), z, torch.full_like(z, -1e4)], 1),
    "tuple": lambda z: (z[:, None], z.repeat(3, 1).T),
    "dict": lambda z: {"loss": z.mean(), "logits": torch.stack([torch.zeros_like(z), z], 1)},
    "dict, features first": lambda z: {"features": z.new_zeros(len(z), 7), "logits": z},
    "scores, not features": lambda z: {"features": z.new_zeros(len(z), 7), "scores": z[:, None]},
    "named tuple": lambda z: Named(z.new_zeros(len(z), 7), z),
    "dict of one logit": lambda z: {"loss": z.mean(), "ids": z.long(), "logits": z},
}
OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "maps": lambda z: z[:, None, None, None].expand(-1, 2, 3, 3),
    "tokens": lambda z: z[:, None, None].expand(-1, 5, 2),
    "nothing": lambda z: {"loss": z.mean()},
    "classes": lambda z: (z > 0).long(),
}


class Net(nn.Module):
    """A convolution of 1 x 1 images of two channels, of which the first one tells the class."""

    def __init__(self, head: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.out, self.head = nn.Conv2d(2, 3, 1), nn.Linear(3, 1), head
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1]]).view(3, 2, 1, 1))
            self.out.weight.copy_(torch.tensor([[1.0, -1, 0]]))
            self.conv.bias.zero_()  # type: ignore[union-attr]
            self.out.bias.zero_()

    def forward(self, x: Tensor) -> Any:
        return self.head(self.out(self.conv(x).relu().flatten(1))[:, 0])


def samples(n: int = 200, wrong: int = 20) -> tuple[Tensor, Tensor]:
    """Of which `Net` takes ``wrong`` for the other class."""
    inputs = torch.randn(n, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0, 0, 0] > 0).long()
    labels[:wrong] = 1 - labels[:wrong]
    return inputs, labels


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_accuracy_is_the_share_of_right_answers(head: str, dtype: torch.dtype) -> None:
    model, (inputs, labels) = Net(HEADS[head]).to(dtype), samples()
    if head == "[n, 3]":
        labels[20:30] = 2  # which it never answers
    right = 180 - 10 * (head == "[n, 3]")
    assert measure_accuracy(model, inputs, labels) == right / 200
    assert measure_accuracy(model, inputs, labels.bool() if right == 180 else labels.int()) == right / 200
    (measured,) = uk.measure(model, [(inputs, labels)], layers="conv", by="layer").accuracy
    assert measured.probe == right / 200


def test_accuracy_of_a_transformers_output() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    inputs, labels = samples()
    for name in ("[n, 1]", "[n, 2]"):
        model = Net(lambda z, name=name: outputs.SequenceClassifierOutput(z.mean(), HEADS[name](z)))  # type: ignore[misc]
        assert measure_accuracy(model, inputs, labels) == 0.9


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_trained_alike(head: str) -> None:
    """The cross entropy of (0, z) is the binary one of z, so the steps are the same."""
    inputs, labels = samples()
    one, other = Net(HEADS["[n, 2]"]), Net(HEADS[head])
    curves = [uk.nets.train(net, inputs, labels, epochs=3, learning_rate=0.1) for net in (one, other)]
    assert curves[0].train_accuracy == curves[1].train_accuracy
    assert curves[0].loss == pytest.approx(curves[1].loss, rel=1e-5)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_net_of_one_logit_learns() -> None:
    inputs, labels = samples(wrong=0)
    model = Net(HEADS["[n, 1]"])
    nn.init.constant_(model.out.weight, -1.0)  # class 1 for nothing
    assert measure_accuracy(model, inputs, labels) == int((labels == 0).sum()) / 200
    curve = uk.nets.train(model, inputs, labels, epochs=60, learning_rate=0.1)
    assert curve.train_accuracy[-1] == measure_accuracy(model, inputs, labels) > 0.97
    tuned = uk.nets.fine_tune(
        model, uk.nets.LabelledData("d", inputs, labels, inputs, labels), epochs=2, patience=1
    )
    assert tuned.validation[0] == curve.train_accuracy[-1]


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_filters_the_same_taylor_score(head: str) -> None:
    inputs, labels = samples(40)

    def scores(name: str) -> list[float]:
        rows = uk.score_filters(Net(HEADS[name]), [(inputs, labels)], criterion="taylor").rows
        return [row.score for row in rows if row.layer == "conv"]

    z = inputs[:, 0, 0, 0].double()
    error = (torch.sigmoid(z) - labels).abs()
    expected = [float((error * z.clamp(min=0)).mean()), float((error * (-z).clamp(min=0)).mean()), 0.0]
    np.testing.assert_allclose(scores(head), expected, rtol=1e-5, atol=1e-7)


def test_the_loss_is_torchs_and_half_precision_is_widened() -> None:
    z, labels = torch.randn(50, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 2
    expected = F.binary_cross_entropy_with_logits(z, labels.float())
    torch.testing.assert_close(class_loss(z[:, None], labels), expected)
    wide = torch.stack([z, -z, 2 * z], 1)
    torch.testing.assert_close(class_loss(wide, labels), F.cross_entropy(wide, labels))
    torch.testing.assert_close(class_loss(wide, labels, reduction="sum"), 50 * class_loss(wide, labels))
    half = class_loss(wide.half(), labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, F.cross_entropy(wide, labels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", OTHERS)
def test_outputs_that_are_no_scores_are_refused(head: str) -> None:
    model, (inputs, labels) = Net(OTHERS[head]), samples()
    says = {"maps": r"scores of shape \(200, 2, 3, 3\)", "tokens": r"scores of shape \(200, 5, 2\)",
            "nothing": "an output of dict without scores",
            "classes": r"an output of shape \(200,\) without scores"}[head]  # fmt: skip
    with pytest.raises(uk.InputError, match=f"^{says}: expected a classifier that returns") as caught:
        measure_accuracy(model, inputs, labels)
    assert "\n" not in str(caught.value)
    with pytest.raises(uk.InputError, match="a classifier that returns"):
        uk.nets.train(model, inputs, labels)
    with pytest.raises(uk.InputError, match="a classifier that returns"):
        uk.score_filters(model, [(inputs, labels)], criterion="taylor")
    assert uk.nets.train(model, inputs, labels, epochs=0).loss == ()  # nothing is asked of it
    (measured,) = uk.measure(model, [(inputs, labels)], layers="conv", by="layer").accuracy
    assert measured.probe is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: y + 1, "labels from 1 to 2 with 2 classes"),
        (lambda y: -y, "labels from -1 to 0 with 2 classes"),
        (lambda y: y.float(), r"labels of shape \(200,\) and type float32"),
        (F.one_hot, r"labels of shape \(200, 2\) and type int64"),
        (lambda y: y[:, None].float(), r"labels of shape \(200, 1\) and type float32"),
        (lambda y: y[:50], "200 inputs and 50 labels"),
    ],
)
@pytest.mark.parametrize("head", ["[n]", "[n, 1]", "[n, 2]"])
def test_labels_that_do_not_fit_are_refused(
    head: str, change: Callable[[Tensor], Tensor], says: str
) -> None:
    model, (inputs, labels) = Net(HEADS[head]), samples()
    for ask in (measure_accuracy, uk.nets.train):
        before = model.out.weight.clone()
        with pytest.raises(uk.InputError, match=says) as caught:
            ask(model, inputs, change(labels))
        assert "\n" not in str(caught.value) and torch.equal(before, model.out.weight)


@pytest.mark.parametrize("change", [lambda y: y + 1, lambda y: -y, lambda y: F.one_hot(y).float()])
def test_a_profile_has_no_accuracy_where_the_labels_do_not_fit(change: Any) -> None:
    inputs, labels = samples()
    profile = uk.measure(Net(HEADS["[n]"]), [(inputs, change(labels))], layers="conv", by="layer")
    assert profile.accuracy[0].probe is None


def test_no_samples_have_no_accuracy() -> None:
    inputs, labels = samples()
    with pytest.raises(uk.InputError, match="on 0 samples"):
        measure_accuracy(Net(HEADS["[n]"]), inputs[:0], labels[:0])


def test_a_last_batch_of_one_sample_is_read() -> None:
    inputs, labels = samples(65, wrong=13)
    assert measure_accuracy(Net(HEADS["[n]"]), inputs, labels, batch_size=64) == 0.8


def test_scores_are_found_by_their_rows() -> None:
    two, five = torch.zeros(2, 3), torch.zeros(5, 4)
    assert class_scores([two, {"a": five}], 5) is five
    with pytest.raises(uk.InputError, match=r"scores of shape \(2, 0\)"):
        class_scores(two[:, :0], 2)


@pytest.mark.parametrize("head", ["[n]", "[n, 1]", "[n, 2]", "[n, 3]"])
def test_scores_with_nan_are_never_right(head: str) -> None:
    inputs, labels = samples(wrong=0)
    model = Net(lambda z: HEADS[head](torch.where(torch.arange(len(z)) < 50, torch.nan, z)))
    with pytest.warns(UserWarning, match="50 of 200 samples have NaN among their scores"):
        assert measure_accuracy(model, inputs, labels) == 0.75
    (measured,) = uk.measure(model, [(inputs, labels)], layers="conv", by="layer").accuracy
    assert measured.probe == 0.75


SIGMOIDS: dict[str, Callable[[Tensor], Any]] = {
    "[n]": torch.sigmoid,
    "[n, 1]": lambda z: z[:, None].sigmoid(),
    "squeezed": lambda z: z[:, None].sigmoid().squeeze(1),
    "reshaped, copied, widened": lambda z: z.sigmoid().reshape(-1, 1).clone().double(),
    "dict": lambda z: {"features": z.new_zeros(len(z), 7), "logits": z[:, None].sigmoid()[:, 0]},
    "in place": lambda z: (z + 0).sigmoid_(),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("head", SIGMOIDS)
def test_a_probability_is_not_taken_for_a_logit(head: str, frozen: bool) -> None:
    model, (inputs, labels) = Net(SIGMOIDS[head]).requires_grad_(not frozen), samples()

    def shrink(model: nn.Module, inputs: Tensor, labels: Tensor) -> object:
        return uk.shrink(model, ((inputs, labels), (inputs, labels)), ratio=0.4)

    for ask in (measure_accuracy, uk.nets.train, shrink):
        with pytest.raises(uk.InputError, match="^a model that ends in a sigmoid: expected a logit") as e:
            ask(model, inputs, labels)
        assert str(e.value).endswith("; return what enters the sigmoid") and "\n" not in str(e.value)
    (measured,) = uk.measure(model, [(inputs, labels)], layers="conv", by="layer").accuracy
    assert measured.probe is None


@pytest.mark.parametrize(
    ("head", "right"),
    [
        (lambda z: z.clamp(0, 1), 0.9),  # logits that happen to lie in [0, 1]
        (lambda z: z.sigmoid() - 0.5, 0.9),
        (lambda z: torch.stack([(-z).sigmoid(), z.sigmoid()], 1), 0.9),  # the larger is the class
        (
            lambda z: z[:, None].sigmoid().expand(-1, 2) * torch.tensor([-1, 1]) + torch.tensor([1, 0]),
            0.9,
        ),
    ],
)
def test_other_outputs_between_0_and_1_are_scores(head: Any, right: float) -> None:
    model, (inputs, labels) = Net(head), samples()
    assert measure_accuracy(model, inputs, labels) == right
    (measured,) = uk.measure(model, [(inputs, labels)], layers="conv", by="layer").accuracy
    assert measured.probe == right
