"""Every criterion on models of any inputs and layouts: with the right value where one is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.pruning.scoring.criteria import criterion_names
from unknot.pruning.scoring.scores import FilterScores, score_filters

pytestmark = pytest.mark.numeric
N = 40


class Siamese(nn.Module):
    """Two inputs, one trunk, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Linear(6, 3)

    def trunk(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(self.trunk(a) - self.trunk(b))


class Tokens(nn.Module):
    """Numbers of words and a mask, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(11, 8), nn.Linear(8, 12)
        self.back, self.out = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor | None]:
        x = self.embed(input_ids)
        x = x + self.back(F.relu(self.inner(x)))
        weights = attention_mask[..., None].to(x)
        return {"loss": None, "logits": self.out((x * weights).sum(1) / weights.sum(1))}


class TimeFirst(nn.Module):
    """The samples are along the second axis between the first and the last line."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.back, self.out = nn.Linear(5, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.out(self.back(F.relu(self.inner(x))).mean(0))


class Folded(nn.Module):
    """Frames of a clip go through the convolutions one by one, a grouped transposed one among them; one
    parameter for all of a PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = nn.Conv2d(2, 6, 3), nn.PReLU(), nn.Conv2d(6, 6, 3)
        self.up, self.out = nn.ConvTranspose2d(6, 6, 2, groups=2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.relu(self.conv2(self.act(self.conv1(x.flatten(0, 1))))))
        return self.out(y.mean((2, 3)).reshape(len(x), -1, 6).mean(1))


def samples(name: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    x, labels = torch.randn(N, 3, 8, 8), torch.arange(N) % 3
    mask = (torch.arange(7) < torch.randint(2, 8, (N, 1))).long()
    inputs: Any = {
        "pair": (x, x.flip(0) + 1),
        "named": {"a": x, "b": x.flip(0) + 1},
        "tokens": {"input_ids": torch.randint(0, 11, (N, 7)), "attention_mask": mask},
        "time first": torch.randn(N, 4, 5),
        "frames": torch.randn(N, 3, 2, 7, 7),
    }[name]
    return inputs, labels


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "pair": (Siamese, {"conv1": 6, "conv2": 6}),
    "named": (Siamese, {"conv1": 6, "conv2": 6}),
    "tokens": (Tokens, {"inner": 12, "back": 8}),
    "time first": (TimeFirst, {"inner": 8, "back": 5}),
    "frames": (Folded, {"conv1": 6, "conv2": 6, "up": 6}),
}


def scored(name: str, criterion: str, model: nn.Module) -> FilterScores:
    inputs, labels = samples(name)
    loader = [({**inputs, "labels": labels} if isinstance(inputs, dict) else (inputs, labels))]
    return score_filters(model, loader, criterion=criterion)


@pytest.mark.parametrize("criterion", criterion_names())
@pytest.mark.parametrize("name", MODELS)
def test_every_criterion_scores_them(name: str, criterion: str) -> None:
    torch.manual_seed(1)
    make, widths = MODELS[name]
    model = make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    if (name, criterion) == ("frames", "betti"):
        with pytest.raises(uk.InputError, match="a sample has several rows"):
            scored(name, criterion, model)
        return
    scores = scored(name, criterion, model)
    assert {layer: len(rows) for layer, rows in scores.by_layer().items()} == widths
    assert all(np.isfinite(row.score) for row in scores.rows)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("criterion", ["elder-surgeon", "taylor", "elder"])
def test_arguments_by_name_and_by_place_score_alike(criterion: str) -> None:
    torch.manual_seed(1)
    model = Siamese()
    a, b = (scored(name, criterion, model) for name in ("pair", "named"))
    np.testing.assert_allclose([r.score for r in a.rows], [r.score for r in b.rows], rtol=1e-9)


def test_taylor_is_the_gradient_by_a_gate_wherever_the_samples_are() -> None:
    """Against the derivative of each sample's loss by a factor on the hidden channels, one by one."""
    torch.manual_seed(1)
    model = TimeFirst().double()
    inputs, labels = samples("time first")
    x = inputs.double()
    expected = torch.zeros(8, dtype=torch.float64)
    for sample, label in zip(x, labels, strict=True):
        gate = torch.ones(8, dtype=torch.float64, requires_grad=True)
        hidden = model.back(F.relu(model.inner(sample[None])) * gate).mean(1)
        loss = F.cross_entropy(model.out(hidden), label[None])
        expected += torch.autograd.grad(loss, gate)[0].abs() / N
    scores = score_filters(model, [(x, labels)], criterion="taylor").by_layer()["inner"]
    found = [row.score for row in scores if not row.redundant]
    kept = [row.filter for row in scores if not row.redundant]
    assert len(kept) > 4
    np.testing.assert_allclose(found, expected[kept], rtol=1e-6)


def test_a_filter_that_answers_nothing_is_dead_wherever_the_samples_are() -> None:
    torch.manual_seed(1)
    for name, layer in (("time first", "inner"), ("frames", "conv2"), ("tokens", "inner")):
        model = MODELS[name][0]()
        module: Any = model.get_submodule(layer)
        with torch.no_grad():
            module.weight[2] = 0
            module.bias[2] = -1
        rows = scored(name, "l1", model).by_layer()[layer]
        assert [row.filter for row in rows if row.note.startswith("dead")] == [2]


def test_a_probability_is_not_taken_for_a_logit() -> None:
    """The loss of a net that ends in a sigmoid is that of the net without it."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1)
    )
    x, labels = torch.randn(N, 3, 8, 8), torch.arange(N) % 2
    logits, probabilities = (
        score_filters(model, [(x, labels)], criterion="taylor", linear=())
        for model in (body, nn.Sequential(*body, nn.Sigmoid()))
    )
    wanted = [row.score for row in logits.rows]
    np.testing.assert_allclose([row.score for row in probabilities.rows], wanted, rtol=1e-4)


@pytest.mark.parametrize(
    "how",
    ["arrays", "a list of batches of arrays", "one dict"],
)
def test_loaders_of_arrays_and_pairs(how: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x, y = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32), np.arange(N) % 3
    loader: Any = {
        "arrays": [(x, y)],
        "a list of batches of arrays": [(x[:20], y[:20]), (x[20:], y[20:])],
        "one dict": [{"input": x, "labels": y}],
    }[how]
    wanted = score_filters(model, [(torch.from_numpy(x), torch.from_numpy(y))], criterion="taylor")
    assert score_filters(model, loader, criterion="taylor") == wanted


def test_the_layers_of_an_encoder_are_seen_although_torch_has_a_faster_way() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, dropout=0.0)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(40, 3)).eval()
    scores = score_filters(model, torch.randn(N, 5, 8), criterion="elder").by_layer()
    assert {name: len(rows) for name, rows in scores.items()} == {
        f"0.layers.{i}.{name}": width
        for i in range(2)
        for name, width in (("self_attn", 8), ("self_attn.out_proj", 8), ("linear1", 16), ("linear2", 8))
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "net.pt"}, "a model of type str"),
        ({"model": nn.Linear}, "a class Linear"),
        ({"model": None}, "a model of type NoneType"),
        ({"loader": "photos"}, "type str"),
        ({"criterion": None}, "criterion = None"),
        ({"linear": 3}, "linear = 3"),
        ({"linear": [nn.Linear]}, "linear = "),
        ({"structure": "mine"}, "structure of type str"),
        ({"seed": None}, "seed = None"),
        ({"max_points": "many"}, "max_points = 'many'"),
    ],
)
def test_what_is_none_of_it_is_refused(given: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {"model": TimeFirst(), "loader": torch.randn(N, 4, 5), "criterion": "l1"}
    options = usual | given
    with pytest.raises(uk.InputError, match=said):
        score_filters(options.pop("model"), options.pop("loader"), **options)
