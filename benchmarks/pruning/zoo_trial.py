"""What one library does with one net of the zoo, in a process of its own: one JSON object a line.

    python benchmarks/pruning/zoo_trial.py resnet18 unknot

`zoo.py` starts it. Lines come as things are found, so that what a limit cut off is still known in part.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from zoo_nets import CLASSES, NETS, ZooNet

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.masked import call, difference, masked_run, numbers  # noqa: E402

import unknot as uk  # noqa: E402

SHARE = 0.5  # of the MACs that is asked for
PROJECTIONS = ("qkv", "query", "key", "value", "q_proj", "k_proj", "v_proj")
Found = dict[str, Any]


def main() -> None:
    name, by, criterion, limit = sys.argv[1:5]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    net = NETS[name]
    model = net.built()
    start = int(time.process_time())
    allow(start + int(limit))
    trials = {"unknot": by_unknot, "torch-pruning": plainly, "torch-pruning, hints": with_hints}
    for found in trials[by](net, model, criterion):
        print(json.dumps(found), flush=True)
        if "seconds" in found:  # the plan stands; the checks have a limit of their own
            allow(int(time.process_time()) + 2 * int(limit))


def allow(seconds: int) -> None:
    """Of processor time in all, after which the process is stopped."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def by_unknot(net: ZooNet, model: nn.Module, criterion: str) -> Iterator[Found]:
    inputs = net.inputs()
    data = (
        None if criterion in ("l1", "random", "bn", "fpgm") else [(net.inputs(16), torch.arange(16) % 2)]
    )
    start = time.process_time()
    try:
        scores = uk.score_filters(model, data, criterion=criterion)
        plan = uk.plan_pruning(model, scores, inputs, macs=SHARE)
        seconds = time.process_time() - start
        if not plan.n_removed:
            yield {"seconds": seconds, "refused": line(plan.refusal or plan.budget)}
            return
        slim = uk.prune(model, plan)
    except uk.InputError as error:
        yield {"seconds": time.process_time() - start, "refused": line(error)}
        return
    except Exception as error:  # what the table is about
        yield crashed(error)
        return
    yield {"seconds": seconds, "macs": uk.count_macs(slim, inputs) / uk.count_macs(model, inputs)}
    checked = net.inputs(3, seed=11)
    try:
        expected, normalised = masked_run(model, plan.removed, checked)
        yield {"error": difference(outputs(slim, checked), expected), "through": sorted(normalised)}
    except Exception as error:  # of the pruned net, or of operations that the mask does not know
        yield {"error": None, "masked": line(f"{type(error).__name__}: {error}")}
    with tempfile.TemporaryDirectory() as folder:
        yield {"loaded": answer(lambda: reloaded(net, slim, plan, Path(folder), checked))}
        yield trained(model, slim, inputs) | shapes(model, slim, checked)
        # The slowest check, and the only one that may say nothing: it comes last.
        yield {"onnx": exported(model, slim, inputs, Path(folder))}


def plainly(net: ZooNet, model: nn.Module, _: str) -> Iterator[Found]:
    yield from by_torch_pruning(net, model, hints=False)


def with_hints(net: ZooNet, model: nn.Module, _: str) -> Iterator[Found]:
    yield from by_torch_pruning(net, model, hints=True)


def by_torch_pruning(net: ZooNet, model: nn.Module, *, hints: bool) -> Iterator[Found]:
    """At the ratio, of five by bisection, whose MACs are nearest; the time is that of the first step."""
    inputs = net.inputs()
    if hints and not heads_of(model):
        return
    whole = uk.count_macs(model, inputs)
    low, high, ratio, best = 0.0, 1.0, 1 - SHARE**0.5, (float("inf"), model)
    for turn in range(5):
        start = time.process_time()
        try:
            slim = pruned_by_them(model, inputs, ratio, hints)
            seconds = time.process_time() - start
            outputs(slim, inputs)  # what this raises is theirs
            share = uk.count_macs(slim, inputs) / whole
        except Exception as error:
            if not turn:
                yield crashed(error)
                return
            break  # a ratio that it does not stand; one before did
        if not turn:
            yield {"seconds": seconds, "macs": share}
        if abs(share - SHARE) < abs(best[0] - SHARE):
            best = (share, slim)
        low, high = (low, ratio) if share < SHARE else (ratio, high)
        ratio = (low + high) / 2
    yield {"macs": best[0]} | trained(model, best[1], inputs) | shapes(model, best[1], inputs)


def pruned_by_them(model: nn.Module, inputs: Tensor, ratio: float, hints: bool) -> nn.Module:
    import torch_pruning as tp

    slim = copy.deepcopy(model).eval()
    heads = heads_of(slim) if hints else {}
    pruner = tp.pruner.BasePruner(
        slim, inputs, importance=tp.importance.MagnitudeImportance(p=1), global_pruning=False,
        pruning_ratio=ratio, ignored_layers=last_layers(slim, inputs), num_heads=dict(heads),
        prune_num_heads=bool(heads), prune_head_dims=not heads, head_pruning_ratio=ratio,
        forward_fn=lambda model, x: [t for t in numbers(call(model, x)) if t.requires_grad],
    )  # fmt: skip
    pruner.step()
    for module in slim.modules():
        for name in PROJECTIONS:
            projection = getattr(module, name, None)
            if projection in heads:
                left = pruner.num_heads[projection]
                for attribute in ("num_heads", "num_attention_heads"):
                    if hasattr(module, attribute):
                        setattr(module, attribute, left)
                if hasattr(module, "all_head_size"):
                    module.all_head_size = projection.out_features
    return slim


def heads_of(model: nn.Module) -> dict[nn.Module, int]:
    """{projection: heads}, as their examples for timm's and Hugging Face's transformers have it."""
    heads: dict[nn.Module, int] = {}
    for module in model.modules():
        width = getattr(module, "head_dim", getattr(module, "attention_head_size", None))
        for name in PROJECTIONS:
            projection = getattr(module, name, None)
            if isinstance(projection, nn.Linear) and isinstance(width, int):
                heads[projection] = projection.out_features // (3 if name == "qkv" else 1) // width
    return heads


def last_layers(model: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """Those whose output is the model's, and those with as many outputs as there are classes."""
    returned: list[tuple[nn.Module, int]] = []
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    hooks = [
        m.register_forward_hook(lambda m, _, y: returned.append((m, y.untyped_storage().data_ptr())))
        for m in layers
    ]
    kept = outputs(model, inputs)  # alive, so that no other tensor gets their place
    for hook in hooks:
        hook.remove()
    places = {t.untyped_storage().data_ptr() for t in kept}
    last = [m for m, place in returned if place in places]
    widths = ((m, getattr(m, "out_features", getattr(m, "out_channels", 0))) for m in layers)
    return list(dict.fromkeys([*last, *(m for m, width in widths if width == CLASSES)]))


def outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    model.eval()
    with torch.no_grad():
        return [t.clone() for t in numbers(call(model, inputs))]


def reloaded(net: ZooNet, slim: nn.Module, plan: Any, folder: Path, inputs: Tensor) -> bool:
    uk.save_pruned(slim, plan, folder / "model")
    torch.manual_seed(3)
    loaded = uk.load_pruned(net.factory, folder / "model")
    states = zip(slim.state_dict().items(), loaded.state_dict().items(), strict=True)
    if not all(name == other and torch.equal(a, b) for (name, a), (other, b) in states):
        return False
    # Kernels may differ in the last digit with where tensors lie in memory.
    return difference(outputs(loaded, inputs), outputs(slim, inputs)) < 1e-6


def trained(model: nn.Module, slim: nn.Module, inputs: Tensor) -> Found:
    """Whether a step of training runs; None where the original's does not."""

    def step(each: nn.Module) -> bool:
        each = copy.deepcopy(each).train()
        torch.manual_seed(0)
        sum(t.float().square().mean() for t in numbers(call(each, inputs))).backward()  # type: ignore[union-attr]
        torch.optim.SGD(each.parameters(), 1e-3).step()
        return all(p.grad is None or p.grad.shape == p.shape for p in each.parameters())

    found = answer(lambda: step(slim))
    return {"trains": found if found is True or answer(lambda: step(model)) is True else None}


def shapes(model: nn.Module, slim: nn.Module, inputs: Tensor) -> Found:
    """Which tensors grew or lost their twin, and whether outputs have the shapes of the original's."""
    before, after = (dict(m.named_parameters(remove_duplicate=False)) for m in (model, slim))
    grown = [n for n, p in after.items() if n not in before or p.numel() > before[n].numel()]
    torn = [
        n for n, p in before.items() for m, q in before.items()
        if p is q and after.get(n) is not after.get(m)
    ]  # fmt: skip
    wanted = [t.shape for t in outputs(model, inputs)]
    same = answer(lambda: [t.shape for t in outputs(slim, inputs)] == wanted)
    return {"grown": [*grown, *torn][:3], "same_shapes": same}


def exported(model: nn.Module, slim: nn.Module, inputs: Tensor, folder: Path) -> Any:
    """How far onnxruntime is from torch at worst; None where torch does not export the original."""
    try:
        return float(uk.export_onnx(slim, inputs, folder / "slim.onnx", repeats=2).worst)
    except Exception as error:
        told = line(f"{type(error).__name__}: {error}")
    try:
        uk.export_onnx(model, inputs, folder / "model.onnx", repeats=2)
    except Exception:
        return None
    return told


def answer(question: Callable[[], bool]) -> bool | str:
    """Yes, no, or what was raised."""
    try:
        return question()
    except Exception as error:
        return line(f"{type(error).__name__}: {error}")


def crashed(error: Exception) -> Found:
    return {"crash": line(f"{type(error).__name__}: {error}")}


def line(text: object) -> str:
    return " ".join(str(text).split())[:160]


if __name__ == "__main__":
    main()
