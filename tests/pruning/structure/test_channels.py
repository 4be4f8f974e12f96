"""What goes with channels: sizes and costs against those of the pruned net, over the kinds of nets."""

from __future__ import annotations

import pytest
from helpers.kinds import KINDS, Kind

from unknot.nets.cost import count_macs
from unknot.nets.probe import Inputs, map_tensors
from unknot.pruning.structure.channels import channels_of
from unknot.pruning.structure.layers import linear_layers
from unknot.pruning.structure.pools import Structure, find_structure

CHOSEN = [
    "chunk", "shuffle", "whole groups", "depthwise", "transposed, groups to twice the width",
    "squeeze by linear layers", "layer norm over maps", "weight norm", "pixel shuffle",
    "attention over maps", "separate attention, sdpa", "multihead attention", "einsum attention",
    "grouped queries", "encoder layer, norm first", "vision transformer", "lstm after linear",
    "gru after convolutions", "two inputs", "named inputs", "words", "flattened maps",
]  # fmt: skip
chosen = pytest.mark.parametrize("kind", [KINDS[name] for name in CHOSEN], ids=CHOSEN)


def found(kind: Kind) -> tuple[object, Structure, Inputs]:
    model, inputs = kind.built(), kind.inputs()
    linear = linear_layers(model, kind.linear)
    return model, find_structure(model, inputs, linear=linear), map_tensors(inputs, lambda t: t[:1])


@chosen
def test_macs_and_parameters_are_those_of_the_pruned_net(kind: Kind) -> None:
    model, structure, example = found(kind)
    graph = structure.graph
    removed = channels_of(u for pool in structure.pools for u in pool.some())
    slim = graph.without(model, removed)  # type: ignore[arg-type]
    assert graph.macs_without({}) == count_macs(model, example)  # type: ignore[arg-type]
    assert graph.macs_without(removed) == pytest.approx(count_macs(slim, example), rel=1e-9)
    whole, left = (sum(p.numel() for p in m.parameters()) for m in (model, slim))  # type: ignore[attr-defined]
    assert left - whole == pytest.approx(graph.parameters_without(removed), rel=1e-9)
    assert left < whole
