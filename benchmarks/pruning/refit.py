"""What refitting gives back: accuracy of Fashion-MNIST nets pruned, recalibrated and refitted.

A small CNN with batch normalisation (32-64-64), 10,000 training images, six epochs, three training seeds.
Filters go by L1 norm and at random until half and three quarters of the MACs are gone. Compared are the
pruned net; the same with its batch normalisation statistics measured anew on 2,048 images; `refit` on
256 unlabelled images, which fits each layer's weights; and, on the same images, the older way of fitting
the original channels by those that are left and folding that map into the next layer.

    UNKNOT_DATA=... python benchmarks/pruning/refit.py    # about five minutes on one core
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
SEEDS = range(3)
WAYS = ("pruned", "recalibrated", "channels mapped", "refitted")
RIDGE = 1e-3
TRAIN = uk.nets.load_images("fashion_mnist", limit=10_000)
TEST = uk.nets.load_images("fashion_mnist", split="test")


def main() -> None:
    torch.set_num_threads(1)
    rows = [row for seed in SEEDS for row in trials(seed)]
    cells = []
    for criterion in ("l1", "random"):
        for share in (0.5, 0.75):
            of_cell = [r for r in rows if (r["criterion"], r["macs"]) == (criterion, share)]
            cells.append((criterion, share, *(lost(of_cell, way) for way in WAYS)))
    base = statistics.mean(r["before"] for r in rows)
    print_table(
        f"Fashion-MNIST, {base:.3f} before: points lost, mean ± sd of {len(SEEDS)} training seeds",
        ["criterion", "MACs removed", *WAYS],
        cells,
    )
    record = provenance("python benchmarks/pruning/refit.py") | {"rows": rows}
    write_text(RESULTS / "refit.json", json.dumps(record, indent=1))


def trials(seed: int) -> list[dict[str, str | float]]:
    torch.manual_seed(seed)
    model = uk.nets.cnn(1, 10, widths=(32, 64, 64), batch_norm=True)
    uk.nets.train(model, TRAIN.images, TRAIN.labels, epochs=6, learning_rate=3e-3, seed=seed)
    before = uk.nets.measure_accuracy(model, TEST.images, TEST.labels)
    rows: list[dict[str, str | float]] = []
    for criterion in ("l1", "random"):
        scores = uk.score_filters(model, criterion=criterion, seed=seed)
        for share in (0.5, 0.75):
            plan = uk.plan_pruning(model, scores, TRAIN.images[:2], macs=share)
            pruned = uk.prune(model, plan)
            refitted = copy.deepcopy(pruned)
            report = uk.pruning.refit(model, refitted, plan, TRAIN.images[:2048], seed=seed)
            nets = (pruned, recalibrated(pruned), mapped(model, pruned, plan), refitted)
            found = [uk.nets.measure_accuracy(net, TEST.images, TEST.labels) for net in nets]
            row: dict[str, str | float] = {
                "seed": seed, "criterion": criterion, "macs": share, "before": before,
                "output_error_before": report.output_before, "output_error_after": report.output_after,
            }  # fmt: skip
            rows.append(row | dict(zip(WAYS, found, strict=True)))
    return rows


def recalibrated(model: nn.Module) -> nn.Module:
    """With the batch normalisation statistics of its own outputs, averaged over the batches."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for batch in TRAIN.images[:2048].split(256):
            model(batch)
    return model.eval()


def mapped(model: nn.Module, pruned: nn.Module, plan: uk.pruning.PruningPlan) -> nn.Module:
    """Ridge regression of all the original channels on those left, folded into the next layer."""
    slim = copy.deepcopy(pruned)
    for source, layer in (("act1", "conv2"), ("act2", "conv3"), ("flatten", "out")):
        wanted, found = (channels(net, source) for net in (model, slim))
        centred = found - found.mean(0)
        gram = centred.T @ centred
        gram.diagonal().add_(RIDGE * gram.diagonal().mean())
        change = torch.linalg.solve(gram, centred.T @ (wanted - wanted.mean(0))).T  # [all, left]
        constant = wanted.mean(0) - change @ found.mean(0)
        gone = plan.removed.get(layer, ())
        original = model.get_submodule(layer)
        left = [i for i in range(len(original.weight)) if i not in gone]
        weight = original.weight.detach()[left].reshape(len(left), len(change), -1)  # [out, all, taps]
        new = slim.get_submodule(layer)
        new.weight.data = torch.einsum("oat,al->olt", weight, change).reshape(new.weight.shape)
        new.bias.data = original.bias.detach()[left] + torch.einsum("oat,a->o", weight, constant)
    return slim


def channels(model: nn.Module, layer: str) -> Tensor:
    """``[n * positions, c]`` of the layer's outputs on the images that `refit` may see."""
    values = uk.nets.capture(model, TRAIN.images[:256], layers=[layer])[-1].values
    return values.flatten(2).transpose(1, 2).flatten(0, 1) if values.ndim > 2 else values


def lost(rows: list[dict[str, str | float]], way: str) -> str:
    points = [100 * (float(r[way]) - float(r["before"])) for r in rows]
    return f"{statistics.mean(points):.1f} ± {statistics.stdev(points):.1f}"


if __name__ == "__main__":
    main()
