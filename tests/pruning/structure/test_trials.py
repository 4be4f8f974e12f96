"""Removals tried out: what a fault is, and when there is nothing to compare."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.pruning.structure.channels import trace_channels
from unknot.pruning.structure.pools import find_structure
from unknot.pruning.structure.trials import Deadline, Fault, Trial, disagreement

X = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    """Two convolutions; a subclass does something with what they give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))

    def between(self, x: Tensor) -> Tensor:
        return x


class Doubled(Two):
    def between(self, x: Tensor) -> Tensor:
        return x if x.shape[1] == 4 else 2 * x


class Fixed(Two):
    def between(self, x: Tensor) -> Tensor:
        if x.shape[1] != 4:
            raise ValueError("four\nof them")
        return x


class Silent(Two):
    """Returns nothing for a sample of which the first entry is not above 0, and runs no layer for it."""

    def forward(self, x: Tensor) -> Tensor:
        chosen = x[x[:, 0, 0, 0] > 0]
        return super().forward(chosen) if len(chosen) else x.new_zeros(0, 3)


class Zeros(Two):
    """All that it computes is 0: nothing tells whether it is still the same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 0)


def fault_of(model: nn.Module, removed: dict[str, list[int]], x: Tensor = X) -> Fault | None:
    graph = trace_channels(model, x, ["a", "b"])
    return disagreement(graph, model.eval(), removed, x)


def test_what_agrees_has_no_fault() -> None:
    assert fault_of(Two(), {"a": [1, 2]}) is None


def test_faults_tell_what_and_where() -> None:
    assert fault_of(Doubled(), {"a": [1, 2]}) == Fault(
        "the model would compute something else than without them", "b"
    )
    assert fault_of(Fixed(), {"a": [1, 2]}) == Fault(
        "the model does not run without them (ValueError: four)", "", crashed=True
    )


def test_an_example_of_which_nothing_comes_is_drawn_anew() -> None:
    """Both samples give nothing; of those that are drawn one does, and so the fault is found."""
    low = X.clone()
    low[:, 0, 0, 0] = -1.0
    graph = trace_channels(Silent(), X.abs(), ["a", "b"])
    assert disagreement(graph, Silent(), {"a": [1]}, low) is None

    class Faulty(Silent):
        between = Doubled.between

    assert disagreement(graph, Faulty(), {"a": [1]}, low) is not None


def test_where_nothing_tells_it_is_refused() -> None:
    model = Zeros()
    for layer in (model.a, model.b):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    fault = fault_of(model, {"a": [1]})
    assert fault == Fault("nothing that the model computes tells whether it is still the same")


def test_a_deadline_names_where_it_was() -> None:
    Deadline(60.0).check("layer a")
    with pytest.raises(InputError, match=r"cannot be planned for within 1e-09 s, at layer a: .*seconds"):
        Deadline(1e-9).check("layer a")
    graph = trace_channels(Two(), X, ["a", "b"])
    with pytest.raises(InputError, match="within 1e-09 s, at layer a:"):
        Trial(Two(), graph, X, Deadline(1e-9)).fault(graph.pools())
    with pytest.raises(InputError, match=r"not followed within 1e-09 s"):
        find_structure(Two(), X, seconds=1e-9)


class Three(nn.Module):
    """A layer at fault between two that are not, and two that are at fault together only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(4 if i else 2, 4, 1) for i in range(5))
        self.out = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        widths = []
        for layer in self.layers:
            x = layer(x)
            widths.append(x.shape[1])
        if widths[1] < 4 or (widths[2] < 4 and widths[4] < 4):
            x = 2 * x
        return self.out(x)


def test_the_pools_to_blame_are_found() -> None:
    """Of two that are at fault together the first may lose channels."""
    structure = find_structure(Three().eval(), X)
    assert {p.layers for p in structure.pools} == {(f"layers.{i}",) for i in (0, 2, 3)}
    assert set(structure.kept) == {"layers.1", "layers.4", "out"}
    assert "something else" in structure.kept["layers.1"]
