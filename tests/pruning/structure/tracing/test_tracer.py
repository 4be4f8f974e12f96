"""Numbers that know where they come from; what a trace gathers of small nets, by hand."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.pruning.structure.channels import trace_channels
from unknot.pruning.structure.tracing.facts import Followed


def followed(value: int) -> Followed:
    return Followed.of(value, "block", "heads", 1)


def test_a_followed_number_is_the_number() -> None:
    n = followed(12)
    assert n == 12 and isinstance(n, int) and [1] * n == [1] * 12 and f"{n}" == "12"


@pytest.mark.parametrize(
    ("made", "value", "scale"),
    [
        (lambda n: n * 3, 36, Fraction(3)),
        (lambda n: 3 * n, 36, Fraction(3)),
        (lambda n: n // 4, 3, Fraction(1, 4)),
        (lambda n: n // 4 * 8, 24, Fraction(2)),
        (lambda n: n * 2 // 3, 8, Fraction(2, 3)),
    ],
)
def test_products_and_whole_quotients_are_followed(made: object, value: int, scale: Fraction) -> None:
    found = made(followed(12))  # type: ignore[operator]
    assert isinstance(found, Followed) and found == value and found.scale == scale
    assert (found.module, found.attribute, found.position) == ("block", "heads", 1)


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (lambda n: n // 5, 2),
        (lambda n: n * -1, -12),
        (lambda n: n * 0.5, 6.0),
        (lambda n: n * followed(2), 24),
        (lambda n: n + 1, 13),
        (lambda n: n - 1, 11),
        (lambda n: n % 5, 2),
        (lambda n: -n, -12),
    ],
)
def test_what_is_no_multiple_is_a_plain_number(made: object, value: float) -> None:
    found = made(followed(12))  # type: ignore[operator]
    assert not isinstance(found, Followed) and found == value


def test_copies_are_plain_numbers() -> None:
    for n in (
        copy.deepcopy(followed(3)),
        copy.copy(followed(3)),
        pickle.loads(pickle.dumps(followed(3))),
    ):
        assert type(n) is int and n == 3


class Split(nn.Module):
    """Two halves of a map, whose size the module holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.half = nn.Conv2d(2, 8, 1), 4
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.left(x[:, : self.half]).sum((2, 3)) + self.right(x[:, self.half :]).sum((2, 3))


def test_a_size_that_a_module_holds_follows_its_channels() -> None:
    model, x = Split().eval(), torch.randn(2, 2, 3, 3)
    graph = trace_channels(model, x, ["a", "left", "right"])
    assert graph.units == tuple((("a", i),) for i in range(8))
    assert graph.inputs["left"].tolist() == [0, 1, 2, 3]
    assert graph.inputs["right"].tolist() == [4, 5, 6, 7]
    assert [pool.units for pool in graph.pools()] == [graph.units[:4], graph.units[4:]]
    slim = graph.without(model, {"a": [1, 5, 6]})
    assert slim.half == 3 and model.half == 4 and type(model.half) is int
    with torch.no_grad():
        y = model.a(x)
        y[:, [1, 5, 6]] = 0
        expected = model.left(y[:, :4]).sum((2, 3)) + model.right(y[:, 4:]).sum((2, 3))
        torch.testing.assert_close(slim(x), expected)


class Scripted(nn.Module):
    """Its middle takes no hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 3, 1)
        self.middle = torch.jit.script(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.middle(self.a(x))).mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_parts_are_followed() -> None:
    graph = trace_channels(Scripted(), torch.randn(2, 2, 3, 3), ["a", "b"])
    assert [pool.layers for pool in graph.pools()] == [("a",)]


def test_a_trace_that_takes_too_long_names_the_module() -> None:
    with pytest.raises(InputError, match=r"not followed within 1e-09 s, at 0"):
        trace_channels(nn.Sequential(nn.Conv2d(2, 4, 1)), torch.randn(2, 2, 3, 3), ["0"], seconds=1e-9)
