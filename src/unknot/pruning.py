"""PruningPlan: which filters go, and a physically smaller model without them."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from unknot.errors import InputError
from unknot.files import read_record, write_record
from unknot.scoring import FilterScore, FilterScores, conv_layers


@dataclass(frozen=True)
class PruningPlan:
    """Which filters go, and why.

    Attributes:
        removed: {layer: filters to remove, ascending}; layers whose outputs are added up share them.
        reasons: {layer: one reason for each removed filter}.
        kept_layers: {layer: why none of its filters may go}.
        filters: {layer: filters before}.
        criterion: what scored them.
        input_shape: of one sample, to trace the model's structure.
    """

    removed: dict[str, list[int]]
    reasons: dict[str, list[str]]
    kept_layers: dict[str, str]
    filters: dict[str, int]
    criterion: str
    input_shape: tuple[int, ...]

    @property
    def n_removed(self) -> int:
        return sum(len(filters) for filters in self.removed.values())

    @property
    def n_filters(self) -> int:
        """Filters before pruning, of all convolutions that the plan speaks of."""
        return sum(self.filters.values())

    def to_json(self, path: str | Path) -> None:
        """Write the plan to ``path``, whole or not at all."""
        write_record(path, "plan", asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> PruningPlan:
        """Read what `to_json` wrote."""
        return read_record(path, "plan", lambda r: cls(**{**r, "input_shape": tuple(r["input_shape"])}))


def plan_pruning(
    model: nn.Module,
    scores: FilterScores,
    example: Tensor,
    *,
    max_betti: float | None = None,
    ratio: float | None = None,
    min_filters: int = 1,
) -> PruningPlan:
    """Decide which filters go.

    A filter goes only if it may go in every layer that shares its channels (residual sums, depthwise
    convolutions). Grouped convolutions and layers whose channels reach the model's output keep all of
    theirs, with the reason in ``kept_layers``.

    Args:
        example: a batch ``[n, ...]`` that the model takes.
        max_betti: remove filters whose Betti number is above it (criterion "betti").
        ratio: instead, the share of filters to remove from each layer, in [0, 1), worst first.
        min_filters: left in each layer, the best ones by score.
    """
    if (max_betti is None) == (ratio is None):
        raise InputError(
            f"max_betti = {max_betti}, ratio = {ratio}", "exactly one budget", "pass one of them"
        )
    if max_betti is not None and (scores.criterion != "betti" or not max_betti >= 0):
        raise InputError(
            f"max_betti = {max_betti} with criterion {scores.criterion!r}",
            "a number >= 0 and the criterion 'betti'",
            "score with criterion='betti', or pass ratio=0.5",
        )
    if ratio is not None and not 0 <= ratio < 1:
        raise InputError(f"ratio = {ratio}", "a share in [0, 1)", "pass e.g. ratio=0.5")
    convolutions = conv_layers(model)
    wanted = {
        layer: _condemned(rows, scores.remove_high, max_betti, ratio, min_filters)
        for layer, rows in scores.by_layer().items()
    }
    graph = _dependency_graph(model, example)
    removed: dict[str, list[int]] = {}
    kept_layers: dict[str, str] = {}
    for layer, convolution in convolutions.items():
        if layer in removed or layer in kept_layers:
            continue
        sharing, refusal = _sharing_layers(model, graph, convolution)
        if refusal:
            kept_layers[layer] = refusal
            continue
        agreed = set.intersection(*(set(wanted.get(name, ())) for name in sharing))
        removed |= {name: sorted(agreed) for name in sharing}
    names = {
        name: [wanted[name].get(i, "with its group") for i in gone] for name, gone in removed.items()
    }
    return PruningPlan(
        removed={name: gone for name, gone in removed.items() if gone},
        reasons={name: why for name, why in names.items() if why},
        kept_layers=kept_layers,
        filters={name: conv.out_channels for name, conv in convolutions.items()},
        criterion=scores.criterion,
        input_shape=tuple(example.shape[1:]),
    )


def prune(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """A new, physically smaller model without the filters of ``plan``; ``model`` stays untouched.

    It computes what ``model`` computes with the removed channels set to zero where they enter the
    layers that consume them.

    Raises:
        InputError: the plan names a layer or a filter that the model does not have.
    """
    slim = copy.deepcopy(model)
    modules = dict(slim.named_modules())
    for layer, filters in plan.removed.items():
        convolution = modules.get(layer)
        if not isinstance(convolution, nn.Conv2d) or convolution.out_channels != plan.filters[layer]:
            raise InputError(
                f"plan for layer {layer} of {plan.filters.get(layer)} filters",
                "the model that was planned for",
                "plan again with this model",
            )
        if filters and not 0 <= min(filters) <= max(filters) < convolution.out_channels:
            raise InputError(
                f"filters {filters} of layer {layer}",
                f"numbers in [0, {convolution.out_channels})",
                "plan again with this model",
            )
    parameter = next(slim.parameters())
    graph = _dependency_graph(slim, torch.zeros(2, *plan.input_shape).to(parameter.device))
    done: set[str] = set()
    for layer, filters in plan.removed.items():
        if layer in done:
            continue
        convolution = modules[layer]
        done.update(_sharing_layers(slim, graph, convolution)[0])
        group = graph.get_pruning_group(convolution, tp.prune_conv_out_channels, idxs=list(filters))
        group.prune()
    for name, parameter in slim.named_parameters():  # pruning makes new, trainable parameters
        parameter.requires_grad_(model.get_parameter(name).requires_grad)
    return slim


def _condemned(
    rows: tuple[FilterScore, ...],
    remove_high: bool,
    max_betti: float | None,
    ratio: float | None,
    min_filters: int,
) -> dict[int, str]:
    """{filter: reason} of one layer, worst first, leaving ``min_filters``."""
    worst_first = sorted(rows, key=lambda r: (-r.score if remove_high else r.score, r.filter))
    limit = max(0, len(rows) - max(1, min_filters))
    if max_betti is not None:
        gone = [r for r in worst_first if r.score > max_betti][:limit]
        return {r.filter: f"Betti number {r.score:.0f} > {max_betti:g}" for r in gone}
    count = min(limit, int(len(rows) * (ratio or 0.0)))
    return {
        r.filter: f"{r.criterion} {r.score:.4g}, rank {rank} of {len(rows)}"
        for rank, r in enumerate(worst_first[:count], start=1)
    }


def _dependency_graph(model: nn.Module, example: Tensor) -> Any:
    """torch-pruning's graph of which channels depend on which."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    training = {m: m.training for m in model.modules()}
    # torch-pruning traces gradients, and loses frozen parameters from its graph.
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        model.eval()
        with torch.enable_grad():
            return tp.DependencyGraph().build_dependency(model, example_inputs=example[:2])
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, flag in training.items():
            module.training = flag


def _sharing_layers(model: nn.Module, graph: Any, convolution: nn.Conv2d) -> tuple[list[str], str]:
    """The convolutions that lose an output channel when this one does, and why none may, if so."""
    names = {module: name for name, module in model.named_modules()}
    # None: all channels.
    group = graph.get_pruning_group(
        convolution, tp.prune_conv_out_channels, idxs=list(range(convolution.out_channels))
    )
    sharing = []
    for dependency, indices in group:
        module = dependency.target.module
        if not isinstance(module, nn.Conv2d):
            continue
        depthwise = module.groups > 1 and module.groups == module.in_channels == module.out_channels
        if module.groups > 1 and not depthwise:
            return [], f"its channels meet the grouped convolution {names[module]}"
        if dependency.handler in (tp.prune_conv_out_channels, tp.prune_depthwise_conv_out_channels):
            if list(indices) != list(range(module.out_channels)):
                return [], f"its channels are rearranged before {names[module]}"
            sharing.append(names[module])
    outputs = {names[m] for m in model.modules() if m in names and _reaches_output(graph, m)}
    if outputs & set(sharing):
        return [], "its channels are the model's output"
    return list(dict.fromkeys(sharing)), ""


def _reaches_output(graph: Any, module: nn.Module) -> bool:
    node = graph.module2node.get(module)
    return node is not None and not node.outputs
