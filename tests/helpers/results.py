"""Small results of every kind, for the report and for files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import unknot as uk
from unknot.nets.timing import Latency
from unknot.nets.training import Tuning
from unknot.profiles.profile import EpochAccuracy, ProfileRow, TopologyProfile
from unknot.profiles.projection import CloudView
from unknot.pruning.exports.onnx import ExportReport
from unknot.pruning.exports.parity import Parity
from unknot.pruning.outcomes.comparison import Baseline
from unknot.pruning.outcomes.outcome import PruningOutcome, Round
from unknot.pruning.refitting.fitting import LayerRefit
from unknot.pruning.refitting.polishing import PolishCheck, PolishReport
from unknot.pruning.refitting.reconstruction import RefitReport
from unknot.pruning.scoring.scores import FilterScore, FilterScores
from unknot.pruning.scoring.thresholds import ThresholdRow
from unknot.study.results import StudyRow
from unknot.topology.multiscale.sweep import Sensitivity, SensitivityRow

HOSTILE = "</script><script>document.title = 'hacked'</script><img src=x onerror=document.title='hacked'>"
KNN = uk.Scale(k=14, hops=2)
UNDETERMINED = uk.Scale(k=9, hops=1, determined=False, note="no plateau of k")


def profile(layers: tuple[str, ...] = ("input", "act1", "out"), epochs: int = 2) -> TopologyProfile:
    rows = [
        ProfileRow(epoch, layer, 0, label, None, 731 + label, 9 - epoch, 60 * label, None, KNN)
        for epoch in range(epochs)
        for layer in layers
        for label in (0, 1)
    ]
    rows[-1] = replace(rows[-1], scale=UNDETERMINED)
    return TopologyProfile(tuple(rows), 4711, {"unknot": "0.0.7", "torch": "2.99"})


def full_profile(layers: tuple[str, ...] = ("input", "act1", "out"), epochs: int = 4) -> TopologyProfile:
    """With everything that a profile may carry."""
    rng = np.random.default_rng(0)
    views = [
        CloudView(
            epoch, layer, 0, (0, 1) * 10, tuple(map(tuple, rng.normal(size=(20, 3)).round(3))), 0.87
        )
        for epoch in range(epochs)
        for layer in layers
    ]
    grid = [(label, k, hops) for label in (0, 1) for k in (7, 14) for hops in (1, 2)]
    knn = [SensitivityRow(c, 500, uk.Scale(k=k, hops=h), k + h - 1, c) for c, k, h in grid][:-1]
    rips = [SensitivityRow(0, 500, uk.Scale(radius=r), 9, int(r)) for r in (0.5, 1.0)]
    base = profile(layers, epochs)
    last = replace(base.rows[-1], note="constant")
    return replace(
        base,
        rows=(*base.rows[:-1], last),
        accuracy=tuple(EpochAccuracy(e, 0.5 + e / 10, None if e % 2 else e / 10) for e in range(epochs)),
        settings={"by": "class", "layers": ("act*",), "tokens": "mean", "samples": 600},
        notes=("norm2 never ran",),
        views=tuple(views),
        sensitivity=Sensitivity((*knn, *rips), uk.Scale(k=14, hops=2)),
    )


def filter_profile() -> TopologyProfile:
    rows = [
        ProfileRow(None, layer, 0, None, i, 40, 1 + i, i, 0, KNN)
        for layer, filters in (("conv1", 3), ("conv2", 5))
        for i in range(filters)
    ]
    return TopologyProfile(tuple(rows), 0, {"unknot": "0.0.7"})


def study_rows(data: str = "rings", activation: str = "zfold") -> tuple[StudyRow, ...]:
    return (
        StudyRow(data, "relu", 0.001, 1.0, 0.99, 3, 1, (None, 47, None), None),
        StudyRow(data, activation, 0.003, 0.5, 0.99, 3, 2, (11, None, 13), 13.0),
        StudyRow(data, activation, 0.003, 0.5, 0.95, 3, 3, (5, 6, 8), 6.0),
    )


def scores(layer: str = "conv1") -> FilterScores:
    scale = uk.Scale(radius=1.25, note="2% quantile")
    rows = [FilterScore(layer, i, 100.0 * i, "betti", 396, scale, (100 * i, 0)) for i in range(4)]
    rows.append(FilterScore("conv2", 0, 7.0, "betti", 396, UNDETERMINED, (7, 0)))
    return FilterScores(tuple(rows), "betti", remove_high=True)


def plan(layer: str = "conv1") -> uk.pruning.PruningPlan:
    return uk.pruning.PruningPlan(
        removed={layer: [2, 3]},
        reasons={layer: ["Betti number 200 > 150", "Betti number 300 > 150"]},
        kept_layers={"conv2": "its channels are the model's output"},
        filters={layer: 4, "conv2": 1},
        criterion="betti",
        input_shape=(1, 8, 8),
    )


def outcome() -> uk.pruning.PruningOutcome:
    times = (Latency(64, 0.647, 0.073, 50),)
    before = uk.nets.Cost(56714, 29532160, 228160, 0.647, 0.073, 64, "cpu", 2, latencies=times)
    after = replace(
        before, parameters=22942, macs=10048128, bytes=92616, latency_ms=0.522,
        latencies=(Latency(64, 0.522, 0.073, 50),),
    )  # fmt: skip
    return uk.pruning.PruningOutcome(0.9944, 0.925, before, after, 5, 3)


def everything() -> tuple[object, ...]:
    return (
        ("by class", full_profile(epochs=3)),
        ("by filter", filter_profile()),
        study_rows(),
        scores(),
        plan(),
        outcome(),
    )


def hostile_results() -> tuple[object, ...]:
    return (
        (HOSTILE, replace(full_profile((HOSTILE, "<b>act</b>"), epochs=3), notes=(HOSTILE,))),
        ("b", filter_profile()),
        (HOSTILE, study_rows(HOSTILE, HOSTILE)),
        (HOSTILE, scores(HOSTILE)),
        (HOSTILE, plan(HOSTILE)),
        outcome(),
    )


def full_outcome(layer: str = "conv1", criterion: str = "elder") -> PruningOutcome:
    mended = RefitReport(
        (LayerRefit(layer, 0.0, 0.0), LayerRefit("conv2", 0.25, 0.03)), 0.5, 0.04, 200, ("out is called",)
    )
    polished = PolishReport(
        (PolishCheck(0, 0.5), PolishCheck(40, 0.25)), 0.5, 0.25, "KL", 40, 7.1, 200,
        notes=("no views: the inputs have not the shape of images",),
    )  # fmt: skip
    thresholds = tuple(
        ThresholdRow(name, n, uk.Scale(radius=q), 10, min(10, n // 20 + i), q)
        for name in (layer, "conv2")
        for n in (100, 200)
        for i, q in enumerate((0.02, 0.1))
    )
    times = (Latency(1, 0.5, 0.1, 50), Latency(64, 4.0, 0.2, 50))
    slow = outcome()
    return replace(
        slow,
        cost_before=replace(slow.cost_before, activation_bytes=7000, latencies=times),
        cost_after=replace(slow.cost_after, activation_bytes=3500, latencies=times),
        verdict="Against the original it is not faster.",
        rounds=(
            Round(4, 0.31, 0.9, 0.93, mended, Tuning(5, 2, (0.9, 0.91, 0.95), 40)),
            Round(3, 0.41, 0.92, None, mended, None, 0.925, polished),
        ),
        baselines=tuple(
            Baseline(name, share, share + 0.01, 0.9 - share / 10 - i / 100)
            for i, name in enumerate((criterion, "random"))
            for share in (0.75, 0.5)
        ),
        thresholds=thresholds,
        max_betti=300.0,
        export=ExportReport(
            "model.onnx", 12345, 20, (Parity(1, 1e-7, 3e-7), Parity(64, 1e-7, 2e-7)), times,
            (Latency(1, 0.25, 0.1, 50), Latency(64, 2.0, 0.2, 50)), 2, {"torch": "2.99"},
        ),
    )  # fmt: skip
