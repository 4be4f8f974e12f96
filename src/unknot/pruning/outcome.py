"""shrink: score, plan, prune, refit, tune; and PruningOutcome, the accuracy and cost before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from unknot.core.files import read_record, typed, write_record
from unknot.nets.cost import Cost
from unknot.nets.training import Tuning
from unknot.pruning.comparison import Rival
from unknot.pruning.onnx_export import ExportReport
from unknot.pruning.refitting.reconstruction import RefitReport
from unknot.pruning.scoring.thresholds import ThresholdRow


@dataclass(frozen=True)
class Round:
    """One round of pruning, refitting and fine-tuning.

    Attributes:
        filters: left after it.
        accuracy_pruned: of test samples, as pruned.
        accuracy_refit: after the refit; None without one.
        accuracy_tuned: after fine-tuning; None without.
        refit, tuning: how these went.
    """

    filters: int
    accuracy_pruned: float
    accuracy_refit: float | None = None
    accuracy_tuned: float | None = None
    refit: RefitReport | None = None
    tuning: Tuning | None = None


@dataclass(frozen=True)
class PruningOutcome:
    """What pruning changed.

    Attributes:
        accuracy_before, accuracy_after: shares of test samples classified rightly.
        cost_before, cost_after: measured in turns on the same example.
        filters_before, filters_after: convolution filters in the model.
        verdict: whether the smaller model is faster, in plain sentences.
        rounds: what each round did.
        rivals: other criteria at several budgets, where they were compared; see `compare_criteria`.
        thresholds: how many filters exceed the Betti threshold over sample sizes and scales; see
            `threshold_sensitivity`.
        max_betti: that threshold.
        export: parity and latency of the ONNX file, where one was written.
    """

    accuracy_before: float
    accuracy_after: float
    cost_before: Cost
    cost_after: Cost
    filters_before: int
    filters_after: int
    verdict: str = ""
    rounds: tuple[Round, ...] = ()
    rivals: tuple[Rival, ...] = ()
    thresholds: tuple[ThresholdRow, ...] = ()
    max_betti: float | None = None
    export: ExportReport | None = None

    def summary(self) -> dict[str, float | int]:
        """Flat keys, each ``_before`` and ``_after``: accuracy, parameters, macs, latency_ms, filters."""
        flat: dict[str, float | int] = {}
        for when, cost in (("before", self.cost_before), ("after", self.cost_after)):
            flat[f"accuracy_{when}"] = getattr(self, f"accuracy_{when}")
            flat[f"parameters_{when}"] = cost.parameters
            flat[f"macs_{when}"] = cost.macs
            flat[f"latency_ms_{when}"] = cost.latency_ms
            flat[f"filters_{when}"] = getattr(self, f"filters_{when}")
        return flat

    def table(self) -> list[tuple[str, str, str, float | None]]:
        """(what, before, after, ratio) for people: accuracy, filters and everything of the cost."""
        before, after = self.cost_before, self.cost_after
        rows: list[tuple[str, float, float, str]] = [
            ("accuracy", self.accuracy_before, self.accuracy_after, "{:.2%}"),
            ("filters", self.filters_before, self.filters_after, "{:,}"),
            ("parameters", before.parameters, after.parameters, "{:,}"),
            ("MACs", before.macs, after.macs, "{:,}"),
            ("bytes", before.bytes, after.bytes, "{:,}"),
        ]
        if before.activation_bytes is not None and after.activation_bytes is not None:
            what = "peak activation memory, bytes"
            rows.append((what, before.activation_bytes, after.activation_bytes, "{:,}"))
        table = [
            (what, form.format(a), form.format(b), b / a if a else None) for what, a, b, form in rows
        ]
        sizes = [(f"latency at batch {x.batch_size}", x, y)
                 for x, y in zip(before.latencies, after.latencies, strict=True)]  # fmt: skip
        times = [(what, (x.median_ms, x.iqr_ms), (y.median_ms, y.iqr_ms)) for what, x, y in sizes]
        if not times:  # an outcome of an earlier version
            old, new = ((cost.latency_ms, cost.latency_iqr_ms) for cost in (before, after))
            times = [("latency", old, new)]
        for what, *pair in times:
            a, b = (f"{median:.3g} [{spread:.2g}]" for median, spread in pair)
            ratio = pair[1][0] / pair[0][0] if pair[0][0] else None
            table.append((f"{what} in ms, median [IQR]", a, b, ratio))
        return table

    def to_json(self, path: str | Path) -> None:
        """Write everything to ``path``, whole or not at all."""
        write_record(path, "outcome", asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> PruningOutcome:
        """Read what `to_json` wrote."""
        return read_record(path, "outcome", lambda record: _comparable(typed(cls, record)))


def _comparable(outcome: PruningOutcome) -> PruningOutcome:
    before, after = outcome.cost_before.latencies, outcome.cost_after.latencies
    if [x.batch_size for x in before] != [x.batch_size for x in after]:
        raise ValueError("latencies before and after at different batch sizes")
    return outcome
