"""The elder rule, Taylor, weights and batch normalisation against independent computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.filters import built, plain_scores, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unknot.nets.probe import Probe
from unknot.nets.recording import capture
from unknot.pruning.scoring.elder import elder_scores, filter_distances, merge_heights, nearest_elder
from unknot.pruning.scoring.observations import observe
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.structure.layers import prunable_layers

pytestmark = pytest.mark.numeric


@st.composite
def filter_clouds(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    seed, n = draw(st.integers(0, 10_000)), draw(st.integers(1, 25))
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    if draw(st.booleans()):  # ties in distance, and filters at distance 0
        points = points.round()
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return rng.integers(0, 6, n) + 1.0, distances / max(distances.max(), 1.0)  # ties in importance


@given(filter_clouds())
@settings(max_examples=60, deadline=None)
def test_nearest_elder_by_brute_force(cloud: tuple[Any, Any]) -> None:
    importance, distances = cloud
    for i, death in enumerate(nearest_elder(importance, distances)):
        elders = [j for j in range(len(importance)) if (-importance[j], j) < (-importance[i], i)]
        assert death == min([distances[i, j] for j in elders], default=1.0)


def deaths_by_growing(importance: np.ndarray[Any, Any], distances: np.ndarray[Any, Any]) -> list[float]:
    """Join pairs in the order of their distance; the younger of two components' eldest dies."""
    n = len(importance)
    deaths, component = [1.0] * n, list(range(n))  # by number of its eldest
    pairs = sorted((float(distances[i, j]), i, j) for i in range(n) for j in range(i))
    for height, i, j in pairs:
        if component[i] != component[j]:
            elder, younger = sorted((component[i], component[j]), key=lambda c: (-importance[c], c))
            deaths[younger] = height
            component = [elder if c == younger else c for c in component]
    return deaths


@given(filter_clouds())
@settings(max_examples=200, deadline=None)
def test_merge_heights_are_those_of_growing_components(cloud: tuple[Any, Any]) -> None:
    importance, distances = cloud
    assert merge_heights(importance, distances).tolist() == deaths_by_growing(importance, distances)
    assert (merge_heights(importance, distances) <= nearest_elder(importance, distances)).all()


def test_a_copy_dies_at_0_and_the_unique_survive() -> None:
    # Filters 0 and 1 are equal, 2 is orthogonal, 3 is the opposite of 0.
    correlation = np.array([[1, 1, 0, -1], [1, 1, 0, -1], [0, 0, 1, 0], [-1, -1, 0, 1.0]])
    importance = np.array([1.0, 3.0, 2.0, 2.0])
    for strict in (False, True):
        found = elder_scores(importance, correlation, strict=strict)
        np.testing.assert_allclose(found, [0, 1.5, 1, 1])
    np.testing.assert_allclose(filter_distances(np.array([[1, 0.6], [0.6, 1]])), [[0, 0.8], [0.8, 0]])


@pytest.mark.parametrize("criterion", ["elder", "elder-h0", "elder-taylor", "elder-h0-taylor"])
def test_elder_of_a_net_is_computed_on_what_follows_the_convolution(criterion: str) -> None:
    model, inputs, labels = built("cnn with norm")
    scores = score_filters(model, [(inputs, labels)], criterion=criterion)
    maps = capture(model, inputs, layers=["act1"])[1].values  # 40 x 4 x 4 rows: all are taken
    correlation = np.nan_to_num(np.corrcoef(maps.transpose(0, 1).flatten(1).double().numpy()))
    if "taylor" in criterion:
        observed = observe(model, Probe(inputs), prunable_layers(model, ()), labels=labels)
        importance = observed["conv1"].taylor
    else:
        importance = model.conv1.weight.abs().sum((1, 2, 3)).detach().double().numpy()  # type: ignore
    expected = elder_scores(importance, correlation, strict="h0" in criterion)  # type: ignore[arg-type]
    found, keep = plain_scores(scores, "conv1")
    assert keep.sum() > 3
    np.testing.assert_allclose(found[keep], expected[keep], rtol=1e-4, atol=1e-6)


def gate_gradients(
    forward: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, labels: Tensor, c: int
) -> Any:
    """Mean over samples of |d loss / d gate|, one sample at a time, by a gate in a copied forward."""
    total = torch.zeros(c)
    for x, y in zip(inputs, labels, strict=True):
        gate = torch.ones(c, requires_grad=True)
        F.cross_entropy(forward(x[None], gate), y[None]).backward()  # type: ignore[no-untyped-call]
        assert gate.grad is not None
        total += gate.grad.abs()
    return (total / len(inputs)).numpy()


def gated_cnn(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    x = m.act1(m.pool1(m.norm1(m.conv1(x)))) * gate[:, None, None]
    x = m.act2(m.pool2(m.norm2(m.conv2(x))))
    return m.out(m.mean(x).flatten(1))  # type: ignore[no-any-return]


def gated_branch(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    """`Functional` with a gate on c, before the sum in place."""
    y = m.b(F.max_pool2d(m.a(x).relu(), 2)).relu()
    return m.out((m.c(y) * gate[:, None, None] + y).relu().mean((2, 3)))  # type: ignore[no-any-return]


def gated_pooled(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    y = m.b(F.max_pool2d(m.a(x).relu() * gate[:, None, None], 2)).relu()
    return m.out((m.c(y) + y).relu().mean((2, 3)))  # type: ignore[no-any-return]


def gated_block(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    """`uk.nets.resnet` with a gate behind the second normalisation of its first block."""
    x = m.act1(m.norm1(m.conv1(x)))
    b = m.block1
    branch = b.norm2(b.conv2(b.act1(b.norm1(b.conv1(x))))) * gate[:, None, None]
    return m.out(m.mean(m.block2(b.act2(branch + b.shortcut(x)))).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "layer", "forward"),
    [
        ("cnn with norm", "conv1", gated_cnn),
        ("functional", "c", gated_branch),
        ("functional", "a", gated_pooled),
        ("resnet", "block1.conv2", gated_block),
    ],
)
def test_taylor_is_the_gradient_of_a_gate(name: str, layer: str, forward: Any) -> None:
    model, inputs, labels = built(name)
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # frozen layers count too
    scores = score_filters(model, [(inputs, labels)], criterion="taylor")
    found, keep = plain_scores(scores, layer)
    expected = gate_gradients(lambda x, g: forward(model, x, g), inputs, labels, len(found))
    assert keep.sum() > 3
    np.testing.assert_allclose(found[keep], expected[keep], rtol=1e-3, atol=1e-6)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_taylor_knows_a_single_logit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    inputs, labels = torch.randn(20, 1, 6, 6), torch.arange(20) % 2
    found = scores_of(score_filters(model, [(inputs, labels)], criterion="taylor"), "0")
    means = model[:3](inputs)
    error = torch.sigmoid(model(inputs)) - labels[:, None]
    expected = (error * model[3].weight * means).abs().mean(0)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4)


def test_a_convolution_that_runs_twice_is_gated_in_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
            g = torch.ones(2) if gate is None else gate
            x = self.conv(x).relu() * g[:, None, None]
            return (self.conv(x).relu() * g[:, None, None]).mean((2, 3))

    torch.manual_seed(1)
    model, inputs, labels = Twice(), torch.randn(30, 2, 6, 6), torch.arange(30) % 2
    found = scores_of(score_filters(model, [(inputs, labels)], criterion="taylor"), "conv")
    np.testing.assert_allclose(found, gate_gradients(model, inputs, labels, 2), rtol=1e-3)


@pytest.mark.parametrize("name", ["cnn", "grouped", "line", "solid"])
def test_l1_and_fpgm_by_brute_force(name: str) -> None:
    model, *_ = built(name)
    l1, fpgm = (score_filters(model, criterion=c) for c in ("l1", "fpgm"))
    for layer, conv in prunable_layers(model, ()).items():
        filters = []
        for i in range(conv.out_channels):
            if conv.transposed:
                per_group, inputs = conv.weight.shape[1], conv.in_channels // conv.groups
                start = i // per_group * inputs
                filters.append(conv.weight[start : start + inputs, i % per_group].detach())
            else:
                filters.append(conv.weight[i].detach())
        norms = [float(f.double().abs().sum()) for f in filters]
        np.testing.assert_allclose(scores_of(l1, layer), norms, rtol=1e-6)
        spread = [sum(float((f.double() - g.double()).norm()) for g in filters) for f in filters]
        np.testing.assert_allclose(scores_of(fpgm, layer), spread, rtol=1e-6)


@pytest.mark.parametrize("name", ["cnn with norm", "resnet", "line"])
def test_bn_reads_gamma_and_says_where_l1_stands_in(name: str) -> None:
    model, inputs, _ = built(name)
    scores = score_filters(model, inputs, criterion="bn")
    norms = {
        "cnn with norm": {"conv1": "norm1", "conv2": "norm2"},
        "resnet": {"conv1": "norm1", "block2.conv2": "block2.norm2", "block2.shortcut": None},
        "line": {"0": "1", "3": None},
    }[name]
    for layer, norm in norms.items():
        rows = scores.by_layer()[layer]
        found, keep = plain_scores(scores, layer)
        if norm is None:
            expected = scores_of(score_filters(model, criterion="l1"), layer)
            assert {r.criterion for r in rows} == {"l1"}
            assert all("no batch normalisation follows" in r.note for r in rows if not r.redundant)
        else:
            expected = model.get_submodule(norm).weight.abs().detach().numpy()  # type: ignore[union-attr, operator]
            assert {(r.criterion, r.note) for r in rows if not r.redundant} == {("bn", "")}
        np.testing.assert_allclose(found[keep], expected[keep], rtol=1e-6)
