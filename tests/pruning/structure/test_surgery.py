"""Smaller copies: weights by hand, what is tied, the numbers by which layers describe themselves."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from unknot.pruning.structure.surgery import Cut, NewSize, cut, weight_norms

GONE = np.array([False, True, False, True, False])  # units 0 to 3, and what stays


def size(units: list[int] | list[list[int]], axis: int = 0, scale: Fraction = Fraction(1)) -> NewSize:
    return NewSize("", "n", None, np.array(units), axis, scale)


@pytest.mark.parametrize(
    ("new", "count"),
    [
        (size([0, 1, 2, 3]), 2),
        (size([-1, -1, 1]), 2),
        (size([0, 1, 2, 3], scale=Fraction(2)), 1),
        (size([0, 1, 2, 3], scale=Fraction(1, 3)), 6),
        (size([0, 1, 2], scale=Fraction(3)), None),  # two of them are no multiple of three
        (size([[0, 1], [1, 3], [2, 2]]), 2),  # a row stays where any of it does
        (size([[0, 1], [1, 3], [2, 3]], axis=1), 1),
        (size([[0, 1], [2, 2]], axis=1), 2),
    ],
)
def test_a_size_counts_what_is_left(new: NewSize, count: int | None) -> None:
    assert new.count(GONE) == count


def rows(name: str, n: int) -> Cut:
    return Cut(name, {0: np.arange(n)}, n, True)


@pytest.mark.parametrize(
    ("norm", "names"),
    [
        (
            parametrizations.weight_norm,
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ),
        (nn.utils.weight_norm, ("weight_g", "weight_v")),
    ],
)
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_weights_that_a_weight_norm_makes_stay(
    norm: Callable[..., nn.Module], names: tuple[str, str], dim: int | None
) -> None:
    """Without columns of the directions the lengths are scaled to those of what is left."""
    torch.manual_seed(0)
    layer = norm(nn.Linear(4, 3), dim=dim)
    (length, direction), before = weight_norms(layer)[0], layer.weight.detach().clone()
    with torch.no_grad():
        length.mul_(1.7)
        layer(torch.zeros(1, 4))
    before = before * 1.7
    columns = {1: np.arange(4)}
    cuts = [Cut(names[1], columns, direction.numel(), True)]
    if dim == 1:
        cuts.append(Cut(names[0], columns, length.numel(), True))
    slim = cut(layer, cuts, [], GONE)
    slim(torch.zeros(1, 2))  # the older kind makes its weight when it is called
    torch.testing.assert_close(slim.weight.detach(), before[:, [0, 2]])
    layer(torch.zeros(1, 4))
    torch.testing.assert_close(layer.weight.detach(), before)


@pytest.mark.parametrize(
    ("layer", "cuts", "numbers"),
    [
        (nn.Linear(4, 4), [rows("weight", 4), rows("bias", 4)], {"in_features": 4, "out_features": 2}),
        (nn.Conv2d(3, 4, 1), [rows("weight", 4), rows("bias", 4)], {"in_channels": 3, "out_channels": 2}),
        (nn.ConvTranspose2d(4, 3, 1), [rows("weight", 4)], {"in_channels": 2, "out_channels": 3}),
        (nn.Embedding(4, 3), [Cut("weight", {1: np.array([0, 1, -1])}, 12, True)],
         {"num_embeddings": 4, "embedding_dim": 2}),
        (nn.LayerNorm(4), [rows("weight", 4), rows("bias", 4)], {"normalized_shape": (2,)}),
        (nn.GroupNorm(1, 4), [rows("weight", 4), rows("bias", 4)], {"num_channels": 2}),
        (nn.PReLU(4), [rows("weight", 4)], {"num_parameters": 2}),
        (nn.BatchNorm1d(4, affine=False), [rows("running_mean", 4), rows("running_var", 4)],
         {"num_features": 2}),
    ],
)  # fmt: skip
def test_layers_describe_themselves_as_they_are(
    layer: nn.Module, cuts: list[Cut], numbers: dict[str, object]
) -> None:
    slim = cut(layer, cuts, [], GONE)
    assert {name: getattr(slim, name) for name in numbers} == numbers
    for lost in cuts:
        kept = getattr(layer, lost.name)
        for axis in lost.axes:
            kept = kept.index_select(
                axis, torch.tensor([i for i in range(kept.shape[axis]) if i not in (1, 3)])
            )
        assert torch.equal(getattr(slim, lost.name), kept)


def test_what_is_tied_stays_tied_and_frozen_stays_frozen() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.requires_grad_(False)
    slim = cut(model, [rows("0.weight", 4)], [], GONE)
    assert slim[0].weight is slim[1].weight and slim[0].weight.shape == (2, 3)
    assert not slim[0].weight.requires_grad and slim[1].out_features == 2
    assert model[0].weight.shape == (4, 3)


def test_numbers_and_entries_of_lists_are_set_where_they_count() -> None:
    model = nn.Linear(3, 4)
    model.n, model.sizes = 8, (4, 4)
    units = np.arange(4)
    sizes = [
        NewSize("", "n", None, units, 0, Fraction(2)),
        NewSize("", "sizes", 1, units, 0, Fraction(1)),
        NewSize("", "sizes", 0, np.array([0, 2]), 0, Fraction(1)),  # loses nothing
    ]
    slim = cut(model, [rows("weight", 4), rows("bias", 4)], sizes, GONE)
    assert (slim.n, slim.sizes) == (1, (4, 2)) and (model.n, model.sizes) == (8, (4, 4))
