"""Epochs that small convolution nets need with folds, on three image sets, every activation tuned alike.

Fashion-MNIST, CIFAR-10 and cats vs dogs (averaged down to 32 x 32), 2,500 training images, batches of 50,
Adam, 12 epochs, with and without batch normalisation. Three convolutions (16-32-32), each followed by
pooling and then the activation; a dense layer of 64 with its activation; the read-out.

Every activation gets the same grid of learning rates and gains. Its cell is chosen by a validation split
carved from the training images, on two seeds that are not reported; then seeds with other training images
run on the chosen cell and are measured on the test split, which nothing else has seen. Accuracy is read
every half epoch; a target counts as reached where the line between two readings crosses it. What has not
arrived within the cap is reported as not reached.

    UNKNOT_DATA=... python benchmarks/activations/images.py  # about 40 minutes on a free core; resumable
    UNKNOT_DATA=... python benchmarks/activations/images.py --sets cifar10 --nets resnet
        # a part; of the others the result keeps what it has
    UNKNOT_DATA=... python benchmarks/activations/images.py --quick
        # one set, one seed, to see that it works
    UNKNOT_DATA=... python benchmarks/activations/images.py --search
        # the candidates of docs/research/cnn_folds.md
    UNKNOT_DATA=... python benchmarks/activations/images.py --full
        # whole sets and wider nets; wants a GPU
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
    SEARCH_SEED,
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
from usages import USAGES

from unknot.core.console import print_table
from unknot.nets.training import one_thread
from unknot.study.survival import censored_median

sys.path.append(str(RESULTS.parent))
from provenance import provenance

BASELINES = ("relu", "gelu", "silu")
BOTH = ("qfold early and head", "qfold early and head, held")
COMPARED = {  # by batch normalisation
    False: (*BASELINES, *BOTH, "qfold", "qfold held"),
    True: (*BASELINES, *BOTH, "waves learnt .7", "waves learnt .7, held"),
}
RESNET = (*BASELINES, "qfold early and head", "qfold in the branches", "qfold in the branches, held")
GRID = [(rate, factor) for rate in (2e-3, 4e-3) for factor in (0.6, 1.0)]


def run(trial: Trial, size: Size) -> Curves:
    """Train one net; accuracies each half epoch, from epoch 0.5 on."""
    x, y, tx, ty = draw(trial, size)
    torch.manual_seed(trial.seed)
    model = build(trial, size, x.shape[1], x.shape[2], int(y.max()) + 1).to(DEVICE)
    # Channels last halves the time of small convolutions; the numbers agree up to rounding.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, tx = (t.contiguous(memory_format=torch.channels_last) for t in (x, tx))
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate, fused=True)
    order = torch.Generator().manual_seed(trial.seed)
    steps = len(x) // size.batch
    on_train, on_other = [], []
    for step in range(1, trial.epochs * steps + 1):
        if step % steps == 1:
            batches = torch.randperm(len(x), generator=order).split(size.batch)
        batch = batches[(step - 1) % steps]
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % (steps // 2) == 0:
            on_train.append(accuracy(model, x[: size.read], y[: size.read]))
            on_other.append(accuracy(model, tx, ty))
    return {"train": on_train, "other": on_other}


def learning(curves: Curves) -> float:
    """What a cell is chosen by: mean train and validation accuracy over the whole run."""
    return (statistics.mean(curves["train"]) + statistics.mean(curves["other"])) / 2


def block(
    trials: Trials, first: Trial, names: Sequence[str], grid: Sequence[tuple[float, float]]
) -> list[dict[str, object]]:
    """The rows of one set and net: choose, run the reported seeds, compare with ReLU."""
    cells, curves = {}, {}
    for name in names:
        cells[name] = choose(trials, replace(first, activation=name), grid, learning)
    for name in names:
        rate, factor = cells[name]
        trial = replace(first, activation=name, learning_rate=rate, gain=factor)
        curves[name] = [trials(replace(trial, seed=seed)) for seed in range(trials.size.seeds)]
    on_train = statistics.median(final(c["train"]) for c in curves["relu"])
    on_test = statistics.median(max(c["other"]) for c in curves["relu"])
    times = {
        name: {"train": [reach(c["train"], on_train) for c in found],
               "test": [reach(c["other"], on_test) for c in found]}
        for name, found in curves.items()
    }  # fmt: skip
    tests = {name: [final(c["other"]) for c in found] for name, found in curves.items()}
    rows: list[dict[str, object]] = []
    for name in names:
        row: dict[str, object] = {
            "set": first.set, "net": first.net, "batch_norm": first.batch_norm, "activation": name,
            "learning_rate": cells[name][0], "gain": cells[name][1], "cap": first.epochs,
            "train_target": on_train, "test_target": on_test,
            "final_train": [final(c["train"]) for c in curves[name]], "final_test": tests[name],
            "final_test_minus_relu": difference(tests[name], tests["relu"]),
        }  # fmt: skip
        for target in ("train", "test"):
            mine = times[name][target]
            middles = {r: censored_median(times[r][target]) for r in ("gelu", "silu") if r in times}
            baseline = min(middles, key=lambda r: math.inf if middles[r] is None else middles[r] or 0)
            row |= {
                f"epochs_{target}": mine,
                f"{target}_against_relu": compare(times["relu"][target], mine, first.epochs),
                f"{target}_against_baseline":
                    {"baseline": baseline, **compare(times[baseline][target], mine, first.epochs)},
            }  # fmt: skip
        rows.append(row)
    return rows


def show(rows: Sequence[dict[str, object]]) -> None:
    by_net: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        title = f"{row['set']}, {row['net']}{', batch normalisation' if row['batch_norm'] else ''}"
        by_net.setdefault(title, []).append(row)
    for title, found in by_net.items():
        targets = f"train {found[0]['train_target']:.3f}, test {found[0]['test_target']:.3f}"
        print_table(
            f"{title}: epochs to ReLU's final {targets} (its best)",
            ["activation", "rate, gain", "epochs, train", "ReLU / it", "best of GELU, SiLU / it",
             "epochs, test", "ReLU / it", "best of GELU, SiLU / it", "final test", "minus ReLU's"],
            [table_row(row) for row in found],
        )  # fmt: skip


def table_row(row: dict[str, object]) -> tuple[object, ...]:
    gap, tests = row["final_test_minus_relu"], row["final_test"]
    return (
        row["activation"], f"{row['learning_rate']:g}, {row['gain']:g}",
        *(cell for target in ("train", "test") for cell in (
            spread(row[f"epochs_{target}"]),  # type: ignore[arg-type]
            ratio(row[f"{target}_against_relu"]),
            ratio(row[f"{target}_against_baseline"]),
        )),
        f"{statistics.mean(tests):.3f}",  # type: ignore[call-overload]
        f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]",  # type: ignore[index]
    )  # fmt: skip


def search(trials: Trials) -> None:
    """Every usage on the validation split at one learning rate, two seeds of its own."""
    for name, batch_norm in [(n, b) for n in SETS for b in (True, False)]:
        cells = [(usage, gain) for usage in USAGES for gain in ((1.0,) if batch_norm else (0.6, 1.0))]
        found = {
            cell: [
                trials(Trial(name, batch_norm, cell[0], 3e-3, cell[1], SEARCH_SEED + k, 10, True))
                for k in range(2)
            ]
            for cell in cells
        }
        print_table(
            f"{name}{', batch normalisation' if batch_norm else ''}: validation split, 10 epochs",
            ["usage", "gain", "mean train accuracy over the run", "final validation accuracy"],
            [
                (usage, gain, f"{statistics.mean(statistics.mean(c['train']) for c in of):.4f}",
                 f"{statistics.mean(final(c['other']) for c in of):.4f}")
                for (usage, gain), of in found.items()
            ],
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("quick", "search", "full"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="e.g. cifar10")
    parser.add_argument("--nets", type=lambda text: text.split(","), help="cnn, resnet")
    parser.add_argument("--resnet", action="store_true", help="the ResNet on CIFAR-10 too")
    asked = parser.parse_args()
    if asked.search:
        search(Trials(RAW / "images-search.jsonl", Size(read=800, epochs=10), run))
        return
    name, size = "images", Size()
    if asked.quick:
        name, size = "images-quick", Size(500, 200, 2, seeds=2, selection_epochs=1, selection_seeds=1)
    elif asked.full:
        name = "images-full"
        size = Size(10**9, 10_000, 30, 128, (64, 128, 128), 256, selection_epochs=8)
    trials = Trials(RAW / f"{name}.jsonl", size, run)
    rows: list[dict[str, object]] = []
    nets = asked.nets or ("cnn", "resnet")[: 1 + asked.resnet]
    for data in asked.sets or (SETS[:1] if asked.quick else SETS):
        for batch_norm in (False, True) if "cnn" in nets else ():
            first = Trial(data, batch_norm, "relu", 0.0, 1.0, 0, size.epochs, False)
            rows += block(trials, first, COMPARED[batch_norm], GRID)
            show(rows[-len(COMPARED[batch_norm]) :])
        if "resnet" in nets and data == "cifar10":
            first = Trial(data, True, "relu", 0.0, 1.0, 0, size.epochs, False, "resnet")
            rows += block(trials, first, RESNET, [cell for cell in GRID if cell[1] == 1])
            show(rows[-len(RESNET) :])
    if not asked.quick:
        command = "python benchmarks/activations/images.py" + " --full" * asked.full + " --resnet"
        settings = {"grid": GRID, **asdict(size)}
        write_result(RESULTS / f"{name}.json", provenance(command), settings, rows)


if __name__ == "__main__":
    with one_thread():
        main()
