"""Gains of what is no function of a tensor, and weights that are computed from others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import unknot as uk
from unknot.activations.gains import gain, init_by_gain


@pytest.mark.parametrize(
    ("activation", "says"),
    [
        (uk.ZFold, r"expected a function or module of a tensor; pass ZFold\(\)"),
        (nn.ReLU, r"pass ReLU\(\)"),
        ("relu", "activation 'relu': expected a function"),
        (math.sin, "call it yourself first"),
        (lambda z: z.sum(), "expected one number for each"),
        (nn.Softmax(0), "that mixes the numbers: expected a function of each number by itself"),
        (torch.rand_like, "that mixes the numbers"),
        (nn.Linear(2, 2), "expected a function of a tensor"),
        (lambda z: "x", "call it yourself first"),
        (lambda z: 0 * z, "a positive finite second moment"),
    ],
)
def test_what_is_no_function_of_a_tensor_has_no_gain(activation: Any, says: str) -> None:
    with pytest.raises(uk.InputError, match=says) as caught:
        gain(activation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_weights_with_a_parametrization_are_drawn_through_it(norm: Any) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 2))
    model = nn.Sequential(norm(nn.Linear(40, 30)), nn.ReLU(), norm(nn.Linear(30, 2)))
    for net in (plain, model):
        init_by_gain(net.eval(), nn.ReLU(), seed=3)
    drawn, found = plain[0].weight.detach(), model[0].weight.detach()
    if norm is parametrizations.weight_norm:
        torch.testing.assert_close(found, drawn)
        assert float(found.square().mean()) == pytest.approx(2 / 40, rel=0.1)
    else:  # its largest singular value is 1, whatever is drawn
        torch.testing.assert_close(found / found.norm(), drawn / drawn.norm(), rtol=1e-4, atol=1e-5)
    assert not model[0].bias.any()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_weight_that_a_hook_computes_is_not_silently_left_as_it_was() -> None:
    with pytest.raises(uk.InputError, match="Linear whose weight is computed by a hook"):
        init_by_gain(nn.Sequential(weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2)), nn.ReLU())


def test_a_parametrization_without_inverse_is_refused() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    layer = nn.Linear(4, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    with pytest.raises(uk.InputError, match="give it a right_inverse"):
        init_by_gain(nn.Sequential(layer, nn.Linear(3, 2)), nn.ReLU())
