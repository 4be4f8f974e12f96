"""Nets without normalisation on augmented images: do folds reach ReLU's held-out accuracy sooner?

Two nets: the three convolutions of `images.py`, pooled and then activated, on three image sets; and a
small ResNet with the initialisation of Fixup, which takes the place of normalisation, on CIFAR-10. 2,500
training images, each flipped by chance and shifted by up to four pixels whenever it is drawn; batches of
50, Adam, 12 epochs with a cosine schedule.

Every activation gets the same grid of learning rates and gains; its cell is chosen by the mean accuracy
over shorter runs (of their own full schedule) on a validation split carved from the training images, on
seeds that are not reported. Five fresh seeds, from 100 on and each with its own training images, run on
the chosen cell and are measured on the test split, which nothing else has seen. The target is the median
over seeds of ReLU's best reading; accuracy is read every half epoch. What has not arrived within the cap
is reported as not reached.

    UNKNOT_DATA=... python benchmarks/activations/unnormalised.py  # resumable, seed by seed
    UNKNOT_DATA=... python benchmarks/activations/unnormalised.py --nets fixup --sets cifar10
        # a part; of the others the result keeps what it has
    UNKNOT_DATA=... python benchmarks/activations/unnormalised.py --quick
        # one set, one seed, to see that it works
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
import torch.nn.functional as F
from image_nets import build
from image_trials import (
    DEVICE,
    RAW,
    RESULTS,
    SETS,
    Curves,
    Size,
    Trial,
    Trials,
    accuracy,
    choose,
    compare,
    difference,
    draw,
    final,
    ratio,
    reach,
    spread,
    write_result,
)
from torch import Tensor

from unknot.core.console import print_table
from unknot.nets.training import one_thread
from unknot.study.survival import censored_median

sys.path.append(str(RESULTS.parent))
from provenance import provenance

ACTIVATIONS = ("relu", "gelu", "silu", "qfold", "qfold centred", "qfold held")
RIVALS = ("gelu", "silu")
GRID = [(rate, factor) for rate in (1e-3, 3e-3, 1e-2, 3e-2) for factor in (0.6, 1.0)]
FIRST_SEED = 100
SHIFT = 4  # pixels
PLACES = {"cnn": SETS, "fixup": ("cifar10",)}


def run(trial: Trial, size: Size) -> Curves:
    """Train one net on augmented images; accuracies on others each half epoch, from epoch 0.5 on."""
    x, y, tx, ty = draw(trial, size)
    torch.manual_seed(trial.seed)
    model = build(trial, size, x.shape[1], x.shape[2], int(y.max()) + 1).to(DEVICE)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tx = tx.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate, fused=True)
    steps = len(x) // size.batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, trial.epochs * steps)
    chance = torch.Generator().manual_seed(trial.seed)  # the same order and shifts for all activations
    readings = []
    for step in range(1, trial.epochs * steps + 1):
        if step % steps == 1:
            batches = torch.randperm(len(x), generator=chance).split(size.batch)
        batch = batches[(step - 1) % steps]
        loss = F.cross_entropy(model(augmented(x[batch], chance)), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (steps // 2) == 0:
            readings.append(accuracy(model, tx, ty))
    return {"other": readings}


def augmented(images: Tensor, chance: torch.Generator) -> Tensor:
    """Each image flipped by chance, and a crop of its own size out of it with a rim of zeros."""
    n, _, high, wide = images.shape
    flipped = (torch.rand(n, generator=chance) < 0.5).to(images.device)
    down, right = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=chance).to(images.device)
    images = torch.where(flipped.view(n, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images, (SHIFT,) * 4).permute(0, 2, 3, 1)
    rows = down + torch.arange(high, device=images.device)
    columns = right + torch.arange(wide, device=images.device)
    numbers = torch.arange(n, device=images.device).view(n, 1, 1)
    # Channels last, as the net has its weights.
    return padded[numbers, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def learning(curves: Curves) -> float:
    """What a cell is chosen by: a net that learns soon and ends well has a high mean."""
    return statistics.mean(curves["other"])


def block(trials: Trials, first: Trial) -> list[dict[str, object]]:
    """The rows of one set and net: choose, run the reported seeds, compare."""
    cells, curves = {}, {}
    for name in ACTIVATIONS:
        cells[name] = rate, factor = choose(trials, replace(first, activation=name), GRID, learning)
        trial = replace(first, activation=name, learning_rate=rate, gain=factor)
        seeds = range(FIRST_SEED, FIRST_SEED + trials.size.seeds)
        curves[name] = [trials(replace(trial, seed=seed))["other"] for seed in seeds]
    target = statistics.median(max(curve) for curve in curves["relu"])
    times = {name: [reach(curve, target) for curve in found] for name, found in curves.items()}
    ends = {name: [final(curve) for curve in found] for name, found in curves.items()}
    middles = {name: censored_median(times[name]) for name in RIVALS}
    rival = min(RIVALS, key=lambda name: math.inf if middles[name] is None else middles[name] or 0)
    return [
        {
            "set": first.set, "net": first.net, "activation": name, "learning_rate": cells[name][0],
            "gain": cells[name][1], "cap": first.epochs, "target": target, "epochs": times[name],
            "against_relu": compare(times["relu"], times[name], first.epochs), "rival": rival,
            "against_rival": compare(times[rival], times[name], first.epochs), "final_test": ends[name],
            "final_test_minus_relu": difference(ends[name], ends["relu"]),
        }
        for name in ACTIVATIONS
    ]  # fmt: skip


def show(rows: Sequence[dict[str, object]]) -> None:
    one = rows[0]
    print_table(
        f"{one['set']}, {one['net']}: epochs to ReLU's best test accuracy, {one['target']:.3f}",
        ["activation", "rate, gain", "epochs", "ReLU / it", f"{one['rival']} / it", "final test",
         "minus ReLU's"],
        [
            (
                row["activation"], f"{row['learning_rate']:g}, {row['gain']:g}",
                spread(row["epochs"]), ratio(row["against_relu"]),  # type: ignore[arg-type]
                ratio(row["against_rival"]), f"{statistics.mean(row['final_test']):.3f}",  # type: ignore[call-overload]
                "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format_map(row["final_test_minus_relu"]),  # type: ignore[arg-type]
            )
            for row in rows
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="e.g. cifar10")
    parser.add_argument("--nets", type=lambda text: text.split(","), help="cnn, fixup")
    asked = parser.parse_args()
    size, name = Size(selection_epochs=6), "unnormalised"
    if asked.quick:
        size = Size(500, 200, 2, seeds=2, selection_epochs=1, selection_seeds=1)
        name += "-quick"
    trials = Trials(RAW / f"{name}.jsonl", size, run)
    rows: list[dict[str, object]] = []
    for net in asked.nets or PLACES:
        for data in asked.sets or (("cifar10",) if asked.quick else PLACES[net]):
            first = Trial(data, False, "relu", 0.0, 1.0, 0, size.epochs, False, net)
            rows += block(trials, first)
            show(rows[-len(ACTIVATIONS) :])
    if not asked.quick:
        head = provenance("python benchmarks/activations/unnormalised.py")
        settings = {"grid": GRID, "activations": ACTIVATIONS, **asdict(size)}
        write_result(RESULTS / f"{name}.json", head, settings, rows)


if __name__ == "__main__":
    with one_thread():
        main()
