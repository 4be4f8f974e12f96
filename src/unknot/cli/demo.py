"""The whole story on embedded data: see, speed up, shrink, report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unknot.activations.folds import ACTIVATIONS
from unknot.activations.gains import init_by_gain
from unknot.cli.samples import load_data
from unknot.core.console import ShowProgress, print_table, track
from unknot.core.files import write_text
from unknot.nets.data import LabelledData
from unknot.nets.models import cnn, mlp
from unknot.nets.training import one_thread, train
from unknot.profiles.monitor import Monitor
from unknot.profiles.profile import TopologyProfile
from unknot.pruning.artifact import save_pruned
from unknot.pruning.pipeline import Shrunk, shrink
from unknot.report.page import write_report
from unknot.study.study import Study
from unknot.study.survival import missed_text
from unknot.topology.calibration import calibrate
from unknot.topology.scale import Scale
from unknot.topology.shapes import SHAPES, Shape, make_shape

ACTIVATION_NAMES = ("relu", "zfold")
TARGET = 0.99


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        seeds: trained nets a set and activation.
        epochs: the cap of the studies; what takes longer is reported as not reached.
        pairs, grid: sizes of the two synthetic sets; every one of their points is measured.
        digits_epochs, tune_epochs: of the convolution net before and after pruning.
        repeats: timed forward passes.
    """

    seeds: int
    epochs: int
    pairs: int
    grid: int
    digits_epochs: int
    tune_epochs: int
    repeats: int


FULL = DemoSize(seeds=5, epochs=60, pairs=9, grid=9, digits_epochs=30, tune_epochs=5, repeats=50)
QUICK = DemoSize(seeds=2, epochs=40, pairs=4, grid=5, digits_epochs=10, tune_epochs=2, repeats=20)


def left_out(size: DemoSize) -> str:
    """What a demo of this size does less of than the whole one."""
    whole = asdict(FULL)
    less = {name: value for name, value in asdict(size).items() if value != whole[name]}
    return ", ".join(f"{name.replace('_', ' ')} {n} of {whole[name]}" for name, n in less.items())


VIEWS = 300  # points of each layer that the report draws in three dimensions
# At 400 samples and the layer's 2 % radius most filters of this net lie between 50 and 150. A threshold
# means nothing without its sample size and scale: at another scale the same filters reach 380.
MAX_BETTI = 100
ABOUT = (
    "Small nets were trained on two shapes whose pieces and loops are known, with ReLU and with a "
    "folding activation, and their layer outputs measured before, during and after. Then a net that "
    "reads handwritten digits was made smaller by the default criterion, and as much by the rule of the "
    f"paper, which removes filters whose Betti number is above {MAX_BETTI}."
)
DEFAULT_NAME, PAPER_NAME = "digits, default criterion", "digits, the rule of the paper"


@dataclass(frozen=True)
class WatchedNet:
    """Betti numbers before and after training, with the train accuracy that was reached, and when."""

    profile: TopologyProfile
    accuracy: float
    epochs: int


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        watched: {(set, activation): one net, measured at epoch 0 and at the last epoch}.
        shrunk: the convolution net pruned by the default criterion.
        by_paper: the same net pruned as much by the rule of the paper.
        summary: what ``summary.json`` holds.
        folder: where everything was written.
        cap: epochs after which a seed was given up.
    """

    watched: dict[tuple[str, str], WatchedNet]
    shrunk: Shrunk
    by_paper: Shrunk
    summary: dict[str, Any]
    folder: Path
    cap: int


@one_thread()  # the nets are too small to share
def run_demo(folder: Path, size: DemoSize, *, seed: int, progress: ShowProgress) -> DemoResult:
    """Run everything and write ``report.html``, ``summary.json``, ``study.sqlite`` and ``model/``."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("study.sqlite*"):
        old.unlink()  # trials of an earlier demo would be resumed, not run
    shapes = {
        "rings": make_shape("rings", pairs=size.pairs, n=500 * size.pairs, seed=seed),
        "checker": make_shape("checker", grid=size.grid, n=100 * size.grid**2, seed=seed),
    }
    sets = {
        name: (torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))
        for name, shape in shapes.items()
    }
    scales = {
        name: calibrate(shape.points, shape.labels, max_points=len(shape.points), seed=seed)
        for name, shape in track(shapes.items(), "calibrating scales", show=progress)
    }
    study = Study(folder / "study.sqlite")
    study.run(
        sets, ACTIVATION_NAMES, seeds=size.seeds, epochs=size.epochs, learning_rates=[1e-3], gains=[1.0],
        stop_at=TARGET, progress=progress,
    )  # fmt: skip
    pairs = [(name, activation) for name in shapes for activation in ACTIVATION_NAMES]
    watched = {
        pair: _watch(*sets[pair[0]], pair[1], scales[pair[0]], size, seed)
        for pair in track(pairs, "Betti numbers of layers", show=progress)
    }
    model, digits = _digits_net(size, seed, progress)
    alike = partial(
        shrink, model, digits, finetune=size.tune_epochs, patience=None, seed=seed, repeats=size.repeats,
        progress=progress,
    )  # fmt: skip
    by_paper = alike(max_betti=MAX_BETTI)
    # The threshold decides how much goes; the default criterion is asked for as much, to be compared.
    shrunk = alike(macs=_share_removed(by_paper))
    save_pruned(shrunk.model, shrunk.plan, folder / "model", outcome=shrunk.outcome, progress=progress)
    summary = {
        "epochs_to_99": _epochs_table(study),
        "betti": [row for pair, net in watched.items() for row in _betti_rows(*pair, net.profile)],
        "pruned": shrunk.outcome.summary(),
        "pruned_by_paper": by_paper.outcome.summary(),
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    named = [(f"{name}, {activation}", net.profile) for (name, activation), net in watched.items()]
    write_report(
        folder / "report.html", *named, study, (DEFAULT_NAME, shrunk), (PAPER_NAME, by_paper),
        title="unknot demo", about=ABOUT, glossary=_names(shapes, digits),
    )  # fmt: skip
    return DemoResult(watched, shrunk, by_paper, summary, folder, size.epochs)


def _share_removed(shrunk: Shrunk) -> float:
    return 1 - shrunk.outcome.cost_after.macs / shrunk.outcome.cost_before.macs


def _names(shapes: Mapping[str, Shape], digits: LabelledData) -> dict[str, str]:
    """What the data sets of the demo are, a line each."""
    lines = {
        name: f"{SHAPES[name].description}: {len(s.points):,} points in {s.points.shape[1]} dimensions, "
        f"{len(set(s.labels.tolist()))} classes"
        for name, s in shapes.items()
    }
    height, width = digits.inputs.shape[-2:]
    lines["digits"] = (
        f"handwritten digits as {height} x {width} images: {len(digits.inputs):,} to train on, "
        f"{len(digits.test_inputs):,} to test on, {digits.n_classes} classes"
    )
    return lines


def print_story(result: DemoResult) -> None:
    """The demo's tables on stdout."""
    table = result.summary["epochs_to_99"]
    rows = [
        [name, activation, " ".join("-" if e is None else f"{e:.3g}" for e in epochs)]
        for name, by_activation in table.items()
        for activation, epochs in by_activation.items()
    ]
    print_table(
        f"Speed up: epochs to {TARGET:.0%} train accuracy, one a seed (-: {missed_text(result.cap)})",
        ["set", "activation", "epochs"],
        rows,
    )
    for name in dict.fromkeys(name for name, _ in result.watched):
        nets = {a: net for (set_name, a), net in result.watched.items() if set_name == name}
        scale = next(iter(nets.values())).profile.rows[0].scale
        columns = [f"{a}, epoch {epoch}" for a, net in nets.items() for epoch in (0, net.epochs)]
        print_table(
            f"See: (b0, b1) of the data after each layer, {name}, {scale}; train accuracy "
            + ", ".join(f"{a} {net.accuracy:.3f}" for a, net in nets.items()),
            ["layer", "class", *columns],
            _side_by_side(list(nets.values())),
        )
    print(f"Shrink: digits, by the default criterion ({result.shrunk.scores.criterion})")
    print(result.shrunk.outcome)
    print(f"As much by the rule of the paper, filters with Betti number above {MAX_BETTI}")
    print(result.by_paper.outcome)
    print(f"report: {result.folder / 'report.html'}\nsummary: {result.folder / 'summary.json'}")


def _side_by_side(nets: list[WatchedNet]) -> list[list[object]]:
    cells: dict[tuple[str, int | None], list[str]] = {}
    for row in (row for net in nets for row in net.profile.rows if row.epoch in (0, net.epochs)):
        cells.setdefault((row.layer, row.label), []).append(f"({row.b0}, {row.b1})")
    return [[layer, label, *values] for (layer, label), values in cells.items()]


def _watch(
    inputs: Tensor, labels: Tensor, activation: str, scale: Scale, size: DemoSize, seed: int
) -> WatchedNet:
    """Betti numbers after each activation at epochs 0, 1, 2, 4, ... and the last (99 %, or the cap)."""
    new = ACTIVATIONS[activation]
    model = mlp(inputs.shape[1], int(labels.max()) + 1, activation=new)
    init_by_gain(model, new(), seed=seed)
    probe = [(inputs, labels)]
    layers = ["act*", "out"]
    with Monitor(
        model, probe, layers=layers, scale=scale, max_points=len(inputs), seed=seed, views=VIEWS,
        sensitivity=True,
    ) as monitor:  # fmt: skip
        curve = train(
            model, inputs, labels, epochs=size.epochs, stop_at=TARGET, seed=seed,
            on_epoch=lambda epoch: monitor.record(epoch) if epoch & (epoch - 1) == 0 else None,
        )  # fmt: skip
        monitor.record(len(curve.train_accuracy))
    return WatchedNet(monitor.profile, curve.train_accuracy[-1], len(curve.train_accuracy))


def _digits_net(size: DemoSize, seed: int, progress: ShowProgress) -> tuple[nn.Module, LabelledData]:
    """A convolution net trained on handwritten digits."""
    digits = load_data("digits")
    torch.manual_seed(seed)
    model = cnn(1, digits.n_classes, widths=(32, 64, 64), batch_norm=True)
    train(
        model,
        digits.inputs,
        digits.labels,
        epochs=size.digits_epochs,
        learning_rate=3e-3,
        seed=seed,
        progress="training on digits" if progress else None,
    )
    return model, digits


def _epochs_table(study: Study) -> dict[str, dict[str, list[float | None]]]:
    table: dict[str, dict[str, list[float | None]]] = {}
    for row in study.summary([TARGET]):
        table.setdefault(row.set, {})[row.activation] = list(row.epochs)
    return table


def _betti_rows(name: str, activation: str, profile: TopologyProfile) -> list[dict[str, Any]]:
    return [
        {
            "set": name,
            "activation": activation,
            "stage": "before" if row.epoch == 0 else "after",
            "layer": row.layer,
            "class": row.label,
            "b0": row.b0,
            "b1": row.b1,
            "n_points": row.n_points,
            "scale": str(row.scale),
        }
        for row in profile.rows
        if row.epoch in (0, profile.epochs()[-1])
    ]
