"""The whole story on embedded data: see, speed up, shrink, report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unknot.activations import ACTIVATIONS, init_by_gain
from unknot.artifact import save_pruned
from unknot.console import print_table, track
from unknot.convergence import Study
from unknot.files import write_text
from unknot.models import cnn, mlp
from unknot.outcome import PruningOutcome, Shrunk, shrink
from unknot.profile import Monitor, TopologyProfile
from unknot.report import write_report
from unknot.sources import load_data
from unknot.synthetic import make_shape
from unknot.training import LabelledData, train

ACTIVATION_NAMES = ("relu", "zfold")
SHAPE_NAMES = ("rings", "checker")
TARGET = 0.99


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        seeds: trained nets a set and activation.
        epochs: the cap of the studies; what takes longer is reported as not reached.
        points: points a synthetic set.
        probe: points measured a layer.
        digits_epochs, tune_epochs: of the convolution net before and after pruning.
        repeats: timed forward passes.
    """

    seeds: int
    epochs: int
    points: int
    probe: int
    digits_epochs: int
    tune_epochs: int
    repeats: int


FULL = DemoSize(seeds=5, epochs=60, points=4860, probe=2430, digits_epochs=30, tune_epochs=5, repeats=50)
QUICK = DemoSize(seeds=2, epochs=15, points=4860, probe=1000, digits_epochs=12, tune_epochs=2, repeats=20)
# At 400 samples and the layer's 2 % radius most filters of this net lie between 50 and 150. A threshold
# means nothing without its sample size and scale: at another scale the same filters reach 380.
MAX_BETTI = 100


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        study: epochs to target.
        profiles: {"set, activation": profile with epoch 0 and the last epoch}.
        shrunk: the pruned convolution net.
        summary: what ``summary.json`` holds.
        folder: where everything was written.
    """

    study: Study
    profiles: dict[tuple[str, str], TopologyProfile]
    shrunk: Shrunk
    summary: dict[str, Any]
    folder: Path


def run_demo(
    folder: str | Path, size: DemoSize = FULL, *, seed: int = 0, progress: bool = False
) -> DemoResult:
    """Run everything and write ``report.html``, ``summary.json``, ``study.sqlite`` and ``model/``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("study.sqlite*"):
        old.unlink()  # trials of an earlier demo would be resumed, not run
    sets = {name: _points(name, size, seed) for name in SHAPE_NAMES}
    study = Study(folder / "study.sqlite")
    study.run(
        sets, ACTIVATION_NAMES, seeds=size.seeds, epochs=size.epochs, stop_at=TARGET, progress=progress
    )
    pairs = [(name, activation) for name in SHAPE_NAMES for activation in ACTIVATION_NAMES]
    profiles = {
        pair: _watch(*sets[pair[0]], pair[1], size, seed)
        for pair in track(pairs, "Betti numbers of layers", show=progress)
    }
    model, digits = _digits_net(size, seed, progress)
    shrunk = shrink(
        model,
        digits,
        max_betti=MAX_BETTI,
        tune_epochs=size.tune_epochs,
        repeats=size.repeats,
        seed=seed,
        progress=progress,
    )
    save_pruned(shrunk.model, shrunk.plan, folder / "model")
    summary = {
        "epochs_to_99": _epochs_table(study),
        "betti": [row for pair, profile in profiles.items() for row in _betti_rows(*pair, profile)],
        "pruned": shrunk.outcome.summary(),
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    named = [(f"{name}, {activation}", profile) for (name, activation), profile in profiles.items()]
    results = (*named, study, shrunk.scores, shrunk.plan, shrunk.outcome)
    write_report(folder / "report.html", *results, title="unknot demo")
    return DemoResult(study, profiles, shrunk, summary, folder)


def print_story(result: DemoResult) -> None:
    """The demo's tables on stdout."""
    table = result.summary["epochs_to_99"]
    rows = [
        [name, activation, " ".join("-" if e is None else str(e) for e in epochs)]
        for name, by_activation in table.items()
        for activation, epochs in by_activation.items()
    ]
    print_table(
        f"Speed up: epochs to {TARGET:.0%} train accuracy, one a seed (-: not reached within the cap)",
        ["set", "activation", "epochs"],
        rows,
    )
    for (name, activation), profile in result.profiles.items():
        print_table(
            f"See: (b0, b1) of each class, {name}, {activation}, at {profile.rows[0].scale}",
            ["layer", "class", "before training", "after"],
            _before_and_after(profile),
        )
    print_outcome(
        "Shrink: digits, filters with Betti number above " + str(MAX_BETTI), result.shrunk.outcome
    )
    print(f"report: {result.folder / 'report.html'}\nsummary: {result.folder / 'summary.json'}")


def print_outcome(title: str, outcome: PruningOutcome) -> None:
    """Accuracy and cost before and after pruning, with their ratio, on stdout."""
    flat = outcome.summary()
    rows = []
    for name in ("accuracy", "filters", "parameters", "macs", "latency_ms"):
        before, after = flat[f"{name}_before"], flat[f"{name}_after"]
        rows.append([name, before, after, f"{after / before:.2f}" if before else ""])
    print_table(title, ["", "before", "after", "ratio"], rows)


def _before_and_after(profile: TopologyProfile) -> list[list[object]]:
    found: dict[tuple[str, int | None], list[str]] = {}
    for row in profile.rows:
        found.setdefault((row.layer, row.label), []).append(f"({row.b0}, {row.b1})")
    return [[layer, label, *values] for (layer, label), values in found.items()]


def _points(name: str, size: DemoSize, seed: int) -> tuple[Tensor, Tensor]:
    shape = make_shape(name, n=size.points, seed=seed)
    return torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)


def _watch(inputs: Tensor, labels: Tensor, activation: str, size: DemoSize, seed: int) -> TopologyProfile:
    """Betti numbers after each activation before training and once 99 % is reached (or the cap)."""
    new = ACTIVATIONS[activation]
    model = mlp(inputs.shape[1], int(labels.max()) + 1, activation=new)
    init_by_gain(model, new(), seed=seed)
    monitor = Monitor(model, [(inputs, labels)], layers=["act*", "out"], max_points=size.probe, seed=seed)
    with monitor:
        curve = train(model, inputs, labels, epochs=size.epochs, stop_at=TARGET, seed=seed)
        monitor.record(len(curve.train_accuracy))
    return monitor.profile


def _digits_net(size: DemoSize, seed: int, progress: bool) -> tuple[nn.Module, LabelledData]:
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


def _epochs_table(study: Study) -> dict[str, dict[str, list[int | None]]]:
    table: dict[str, dict[str, list[int | None]]] = {}
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
    ]
