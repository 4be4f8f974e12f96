"""What torch-pruning and unknot each do where pruning goes wrong, run for real.

A pruned network is right where it equals the original with the removed channels zeroed where they enter
the layers that consume them (`unknot.pruning.structure.masking`, which knows nothing of
torch-pruning), to 1e-4 of the
largest output.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.cost import compare_cost
from unknot.nets.models import cnn
from unknot.nets.running import float_tensors
from unknot.pruning.artifact import load_pruned, save_pruned
from unknot.pruning.planning.plan import PruningPlan, plan_pruning
from unknot.pruning.removal import prune
from unknot.pruning.scoring.scores import prunable_layers, score_filters, width_of
from unknot.pruning.structure.masking import masked_outputs
from unknot.pruning.structure.pools import find_structure

Case = dict[str, str]
SMALL: dict[str, Any] = {"hidden_sizes": [16, 32], "depths": [1, 2], "num_labels": 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "ResNet": {**SMALL, "embedding_size": 8, "layer_type": "bottleneck"},
    "MobileNetV2": {"depth_multiplier": 0.1, "image_size": 32, "num_labels": 3},
    "ConvNext": {**SMALL, "num_stages": 2, "layer_scale_init_value": 1.0},
    "RegNet": {**SMALL, "embedding_size": 8, "groups_width": 4},
    "EfficientNet": {
        "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128, "num_labels": 3,
    },
}  # fmt: skip
LINEAR = {"ConvNext": ("*pwconv1",)}
RATIO = 0.4


def run_cases() -> list[Case]:
    """One row a case: its name, and what came of it in torch-pruning and in unknot."""
    rows = [
        _case("frozen parameters", _frozen_theirs, _frozen_ours),
        _case("channels 0, 1 and 5 of a convolution with 2 groups of 4", _grouped_theirs, _grouped_ours),
    ]
    for name in FAMILIES:
        rows.append(
            _case(
                f"Hugging Face {name}, {RATIO:.0%} of every layer",
                lambda name=name: _family_theirs(name),
                lambda name=name: _family_ours(name),
            )
        )
        rows.append(
            _case(
                f"Hugging Face {name}, filters chosen by hand",
                lambda name=name: _by_hand_theirs(name),
                lambda name=name: _by_hand_ours(name),
            )
        )
    return [
        *rows,
        _case("saved and loaded with weights_only", _saved_theirs, _saved_ours),
        _case("latency on the CPU", _latency_theirs, _latency_ours),
        _case("a reason for each removed filter", _reasons_theirs, _reasons_ours),
        _case("two pruners with default arguments", _defaults_theirs, _defaults_ours),
    ]


def _by_hand_theirs(name: str) -> str:
    """The first two filters off every ungrouped convolution, by the graph, where its check agrees."""
    slim = _family(name)
    graph = tp.DependencyGraph().build_dependency(slim, example_inputs=_images(1))
    done = 0
    for module in [m for m in slim.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]:
        group = graph.get_pruning_group(module, tp.prune_conv_out_channels, idxs=[0, 1])
        if graph.check_pruning_group(group):
            group.prune()
            done += 1
    try:
        _output(slim)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        return f"crash in forward after its check had passed {done} groups: {text[:70]}..."
    return f"runs, {done} groups"


def _by_hand_ours(name: str) -> str:
    """The same filters, worst by a criterion of one's own."""
    model = _family(name)
    scores = score_filters(model, criterion=_by_number, linear=LINEAR.get(name, ()))
    plan = plan_pruning(model, scores, _images(2), ratio=0.2)
    return _verdict(model, prune(model, plan), plan.removed)


def _by_number(_: str, layer: nn.Module) -> Any:
    return np.arange(width_of(layer) or 0)


def _case(name: str, theirs: Callable[[], str], ours: Callable[[], str]) -> Case:
    return {"case": name, "torch_pruning": _told(theirs), "unknot": _told(ours)}


def _told(run: Callable[[], str]) -> str:
    torch.manual_seed(0)
    try:
        return run()
    except InputError as error:
        return f"refused: {error}"
    except Exception as error:  # the point of it
        text = " ".join(str(error).split())
        return f"crash: {type(error).__name__}: {text[:90]}{'...' if len(text) > 90 else ''}"


def _net() -> nn.Module:
    return cnn(3, 3, widths=(8, 12), batch_norm=True).eval()


def _images(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _output(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return next(float_tensors(model(_images())))


def _verdict(model: nn.Module, slim: nn.Module, removed: dict[str, list[int]]) -> str:
    found = _output(slim)
    expected = masked_outputs(model, removed, _images())[0]
    n = sum(len(gone) for gone in removed.values())
    kept = find_structure(model, _images(2), linear=list(prunable_layers(model, ["*"]))).kept
    mixed = next((kept[x] for x in removed if "normalised together" in kept.get(x, "")), None)
    if mixed:
        return (
            f"runs, but is another function: {n} channels gone, although {mixed}, whose statistics change"
        )
    off = float((found - expected).abs().max() / expected.abs().max())
    if off > 1e-4:
        return f"silently wrong: {n} channels gone, outputs off by {off:.0%} of the largest"
    return f"right: {n} channels gone"


def _planned(model: nn.Module, linear: tuple[str, ...] = ()) -> PruningPlan:
    return plan_pruning(
        model, score_filters(model, criterion="l1", linear=linear), _images(2), ratio=RATIO
    )


def _frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def _frozen_theirs() -> str:
    model = _frozen(_net())
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=_images(1))
    slim = model
    graph.get_pruning_group(slim.conv1, tp.prune_conv_out_channels, idxs=[0, 1]).prune()
    return _verdict(_frozen(_net()), slim, {"conv1": [0, 1]})


def _frozen_ours() -> str:
    model = _frozen(_net())
    plan = _planned(model)
    slim = prune(model, plan)
    assert not any(p.requires_grad for p in slim.parameters())
    return f"{_verdict(model, slim, plan.removed)}; they stay frozen"


def _groups() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(),
        nn.Linear(4 * 26 * 26, 3),
    ).eval()  # fmt: skip


def _grouped_theirs() -> str:
    model = _groups()
    slim = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(slim, example_inputs=_images(1))
    group = graph.get_pruning_group(slim[1], tp.prune_conv_out_channels, idxs=[0, 1, 5])
    checked = graph.check_pruning_group(group)
    group.prune()
    try:
        return _verdict(model, slim, {"1": [0, 1, 5]})
    except RuntimeError as error:
        text = " ".join(str(error).split())
        return f"crash in forward after its check had said {checked}: {text[:70]}..."


def _grouped_ours() -> str:
    model = _groups()
    plan = _planned(model)
    return _verdict(model, prune(model, replace(plan, removed={"1": [0, 1, 5]})), {"1": [0, 1, 5]})


def _family(name: str) -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**FAMILIES[name])
    model = getattr(transformers, f"{name}ForImageClassification")(config)
    for module in model.modules():  # as they start, the deep ones return nothing but rounding
        if width_of(module):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        model.train()(_images(64))
    return model.eval()


def _family_theirs(name: str) -> str:
    """Their pruner with its defaults; what it removed is kept book of in the original's numbers."""
    model = _family(name)
    slim = copy.deepcopy(model)
    head = [m for m in slim.modules() if isinstance(m, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        slim, _images(1), importance=tp.importance.GroupMagnitudeImportance(p=1), pruning_ratio=RATIO,
        ignored_layers=[head],
    )  # fmt: skip
    names = {module: n for n, module in slim.named_modules()}
    every = prunable_layers(model, ["*"])
    left = {n: list(range(width_of(layer) or 0)) for n, layer in every.items()}
    for group in pruner.step(interactive=True):
        lost = {
            (names.get(dep.target.module, ""), i)
            for dep, idxs in group
            if pruner.DG.is_out_channel_pruning_fn(dep.handler)
            for i in idxs
        }
        group.prune()
        left = {x: [c for i, c in enumerate(of) if (x, i) not in lost] for x, of in left.items()}
    removed = {n: sorted(set(range(width_of(layer) or 0)) - set(left[n])) for n, layer in every.items()}
    return _verdict(model, slim, {n: gone for n, gone in removed.items() if gone})


def _family_ours(name: str) -> str:
    model = _family(name)
    told = ""
    if name in LINEAR:
        refusal = _planned(model).refusal
        told = f" of {LINEAR[name][0]}; where no linear layers are named, refused: {refusal}"
    plan = _planned(model, LINEAR.get(name, ()))
    return _verdict(model, prune(model, plan), plan.removed) + told


def _saved_theirs() -> str:
    slim = _net()
    graph = tp.DependencyGraph().build_dependency(slim, example_inputs=_images(1))
    graph.get_pruning_group(slim.conv1, tp.prune_conv_out_channels, idxs=[0, 1]).prune()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for what, content in (("the model", slim), ("tp.state_dict", tp.state_dict(slim))):
            file = Path(folder) / "model.pt"
            torch.save(content, file)
            try:
                found = torch.load(file, weights_only=True)
                model = tp.load_state_dict(_net(), found) if isinstance(found, dict) else found
                same = torch.equal(_output(model), _output(slim))
                results.append(f"{what}: {'right' if same else 'wrong'}")
            except Exception as error:
                results.append(f"{what}: refused ({type(error).__name__})")
    return f"torch.load of {', of '.join(results)}"


def _saved_ours() -> str:
    model = _net()
    plan = _planned(model)
    slim = prune(model, plan)
    with tempfile.TemporaryDirectory() as folder:
        save_pruned(slim, plan, Path(folder) / "model")
        found = load_pruned(_net, Path(folder) / "model")
    same = torch.equal(_output(found), _output(slim))
    return "right: bit for bit, no pickle" if same and type(found) is type(model) else "wrong"


def _latency_theirs() -> str:
    mean, _ = tp.utils.benchmark.measure_latency(_net(), _images(1), repeat=5, warmup=1)
    return f"right: {mean:.3g} ms"


def _latency_ours() -> str:
    model = _net()
    speeds = compare_cost(model, prune(model, _planned(model)), _images(1), repeats=20).speeds
    sizes = " and ".join(str(s.batch_size) for s in speeds)
    return f"right: time over the original's, with an interval, at batch {sizes}"


def _reasons_theirs() -> str:
    slim = _net()
    pruner = tp.pruner.BasePruner(
        slim, _images(1), importance=tp.importance.GroupMagnitudeImportance(p=1), pruning_ratio=RATIO,
        ignored_layers=[slim.out],
    )  # fmt: skip
    pruner.step()
    layer, _, channels = pruner.pruning_history()[0]
    return f"none: its history holds names and indices, e.g. {layer} {list(channels)}"


def _reasons_ours() -> str:
    plan = _planned(_net())
    layer = next(iter(plan.reasons))
    assert sum(len(r) for r in plan.reasons.values()) == plan.n_removed
    return f"right: e.g. {layer} {plan.removed[layer][0]}: {plan.reasons[layer][0]}"


def _defaults_theirs() -> str:
    importance = tp.importance.GroupMagnitudeImportance(p=1)
    pruners = [tp.pruner.BasePruner(m, _images(1), importance=importance) for m in (_groups(), _net())]
    if pruners[0].out_channel_groups is not pruners[1].out_channel_groups:
        return "right"
    n = len(pruners[1].out_channel_groups)
    mine = set(pruners[1].model.modules())
    foreign = sum(module not in mine for module in pruners[1].out_channel_groups)
    return f"shared: of {n} entries in the second's table of groups {foreign} are of other models"


def _defaults_ours() -> str:
    alone = _planned(_net())
    torch.manual_seed(0)
    _planned(_groups())
    torch.manual_seed(0)
    return "right: nothing is kept between calls" if _planned(_net()) == alone else "wrong"
