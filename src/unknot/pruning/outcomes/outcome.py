"""PruningOutcome: accuracy and cost of a model before and after pruning, and how it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unknot.core.console import format_table
from unknot.core.files import Saved
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.nets.cost import ACTIVATIONS, Cost, compared
from unknot.nets.training import Tuning
from unknot.pruning.exports.onnx import ExportReport
from unknot.pruning.outcomes.comparison import Baseline, draw_baselines
from unknot.pruning.refitting.polishing import PolishReport
from unknot.pruning.refitting.reconstruction import RefitReport
from unknot.pruning.scoring.thresholds import ThresholdRow

STAGES = ("as pruned", "refitted", "polished", "fine-tuned")


@dataclass(frozen=True)
class Round:
    """One round of pruning, refitting, polishing and fine-tuning.

    Attributes:
        filters: left after it.
        accuracy_pruned: of test samples, as pruned; None without labels.
        accuracy_refit: after the refit; None without one.
        accuracy_tuned: after fine-tuning; None without.
        refit, tuning: how these went.
        accuracy_polished: after the polish, which comes before fine-tuning; None without one.
        polish: how it went.
    """

    filters: int
    accuracy_pruned: float | None
    accuracy_refit: float | None = None
    accuracy_tuned: float | None = None
    refit: RefitReport | None = None
    tuning: Tuning | None = None
    accuracy_polished: float | None = None
    polish: PolishReport | None = None

    @property
    def accuracies(self) -> dict[str, float | None]:
        """The accuracy after each of the `STAGES`; None where there was none."""
        values = (
            self.accuracy_pruned, self.accuracy_refit, self.accuracy_polished, self.accuracy_tuned,
        )  # fmt: skip
        return dict(zip(STAGES, values, strict=True))

    @property
    def refit_note(self) -> str:
        """How the refit went, and what makes one doubt it, in words; empty without."""
        if self.refit is None:
            return ""
        before, after = self.refit.output_before, self.refit.output_after
        note = f"error of the output from {before:.3g} to {after:.3g}, on samples kept aside"
        return "; ".join([note, *self.refit.notes])

    @property
    def polish_note(self) -> str:
        """How the polish went, in words; empty without."""
        if self.polish is None:
            return ""
        report = self.polish
        note = (
            f"{report.measure} from {report.before:.3g} to {report.after:.3g}, on samples kept aside, "
            f"by the weights of step {report.step}, {report.seconds:.0f} s"
        )
        return "; ".join([note, *report.notes])

    @property
    def tuning_note(self) -> str:
        """How fine-tuning went, in words; empty without."""
        if self.tuning is None:
            return ""
        note = f"{self.tuning.epochs} epoch{'s' * (self.tuning.epochs != 1)}"
        if self.tuning.validation:
            note += (
                f", the weights of epoch {self.tuning.best_epoch} are the best on "
                f"{self.tuning.n_validation} samples kept apart"
            )
        return note


@dataclass(frozen=True, repr=False)
class PruningOutcome(Tabular, Saved):
    """What pruning changed; it prints as a table.

    Attributes:
        accuracy_before, accuracy_after: shares of test samples classified rightly; None without labels.
        cost_before, cost_after: measured in turns on the same example.
        filters_before, filters_after: convolution filters in the model.
        verdict: whether the smaller model is faster, in plain sentences.
        rounds: what each round did.
        baselines: other criteria at several budgets, where they were compared; see `compare_criteria`.
        thresholds: how many filters exceed the Betti threshold over sample sizes and scales; see
            `threshold_sensitivity`.
        max_betti: that threshold.
        export: parity and latency of the ONNX file, where one was written.
        n_train, n_test: samples that filters could be scored on, and samples that accuracy is of; None in
            the files of earlier versions.
        split: whether the test samples were "given", or "kept apart" from the only samples there were;
            None in the files of earlier versions.
        agreement: without labels, the share of test samples for which the smaller model gives the same
            class the highest score as the original; None where they do not return ``[n, classes]``.
        output_error: without labels, the mean square of the difference to the original's outputs over
            their variance, on test samples; of a single one over their mean square.
    """

    file_kind = "outcome"

    accuracy_before: float | None
    accuracy_after: float | None
    cost_before: Cost
    cost_after: Cost
    filters_before: int
    filters_after: int
    verdict: str = ""
    rounds: tuple[Round, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    thresholds: tuple[ThresholdRow, ...] = ()
    max_betti: float | None = None
    export: ExportReport | None = None
    n_train: int | None = None
    n_test: int | None = None
    split: Literal["given", "kept apart"] | None = None
    agreement: float | None = None
    output_error: float | None = None

    def __str__(self) -> str:
        rows = [(*row[:3], "" if row[3] is None else f"{row[3]:.2f}") for row in self.table()]
        table = format_table(["", "before", "after", "ratio"], rows)
        return "\n".join([table, self._title()])

    def __repr__(self) -> str:
        return str(self)

    def _columns(self) -> dict[str, list[Any]]:
        filters = {"filters": (self.filters_before, self.filters_after)}
        stated = self._quality() | filters
        before, after = ({name: values[i] for name, values in stated.items()} for i in (0, 1))
        costs = self.cost_before.quantities(), self.cost_after.quantities()
        return compared({**before, **costs[0]}, {**after, **costs[1]})

    def _quality(self) -> dict[str, tuple[float, float]]:
        """How good the outputs are, before and after: {what: values}."""
        if self.accuracy_before is not None and self.accuracy_after is not None:
            return {"accuracy": (self.accuracy_before, self.accuracy_after)}
        return {} if self.agreement is None else {"agreement with the original": (1.0, self.agreement)}

    def _title(self) -> str:
        return "\n".join([self.conditions, *filter(None, [self.verdict, self._doubts()])])

    def _doubts(self) -> str:
        """What the refits note, of many the first two and the last; empty where nothing."""
        notes = list(dict.fromkeys(n for done in self.rounds if done.refit for n in done.refit.notes))
        shown = notes if len(notes) < 4 else [*notes[:2], f"{len(notes) - 3} more notes", notes[-1]]
        return f"Refit: {'; '.join(shown)}." if shown else ""

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracy at each stage and what is left of the costs; also the baselines, if any.

        Args:
            ax: matplotlib axes for the costs alone; None makes new ones for all.

        Returns:
            The axes: those of the costs in ``ax``, else an array of two or, with baselines, three.

        Raises:
            InputError: matplotlib is not installed.
        """
        if ax is not None:
            (axes,) = drawing.axes_for(ax, 0, 0)
            _draw_costs(axes, self)
            return axes
        baselines = bool(self.baselines)
        panels = drawing.axes_for(None, 9 + 4 * baselines, 3, 2 + baselines)
        draw_outcome(panels, self)
        if baselines:
            draw_baselines(panels[2], self.baselines, self.accuracy_before)
        return drawing.one_or_all(panels)

    def summary(self) -> dict[str, float | int | None]:
        """Flat keys, each ``_before`` and ``_after``: accuracy, parameters, macs, latency_ms, filters."""
        flat: dict[str, float | int | None] = {}
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
            *((what, *values, "{:.2%}") for what, values in self._quality().items()),
            ("filters", self.filters_before, self.filters_after, "{:,}"),
            ("parameters", before.parameters, after.parameters, "{:,}"),
            ("MACs per sample", before.macs, after.macs, "{:,}"),
            ("bytes", before.bytes, after.bytes, "{:,}"),
        ]
        if before.activation_bytes is not None and after.activation_bytes is not None:
            rows.append((ACTIVATIONS, before.activation_bytes, after.activation_bytes, "{:,}"))
        table = [
            (what, form.format(a), form.format(b), b / a if a else None) for what, a, b, form in rows
        ]
        for x, y in zip(before.latencies, after.latencies, strict=True):
            a, b = (f"{time.median_ms:.3g} [{time.iqr_ms:.2g}]" for time in (x, y))
            ratio = y.median_ms / x.median_ms if x.median_ms else None
            table.append((f"latency at batch {x.batch_size} in ms, median [IQR]", a, b, ratio))
        return table

    @property
    def conditions(self) -> str:
        """What accuracy and costs were measured on, in plain sentences."""
        cost, n = self.cost_before, self.n_test
        test = "test samples" if n is None else f"{n:,} test samples"
        if self.split == "kept apart":
            test = f"{n:,} samples kept apart from the {self.n_train:,} that filters could be scored on"
        batch = " where no other batch is named" if cost.latencies else ""
        return (
            f"{self._told()} {test}; costs of one forward pass of {cost.batch_size} "
            f"sample{'s' * (cost.batch_size != 1)}{batch}, on "
            f"{cost.device}, {cost.threads} thread{'s' * (cost.threads != 1)}."
        )

    def _told(self) -> str:
        """What is known of the test samples, before their name."""
        if self.output_error is None:
            return "Accuracy on"
        of = "mean square" if self.n_test == 1 else "variance"
        error = f"outputs that differ from the original's by {self.output_error:.2g} of their {of} on"
        same = "" if self.agreement is None else "Agreement on the highest score, and "
        return f"{same}{error}" if same else f"{error[0].upper()}{error[1:]}"

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> PruningOutcome:
        """As of `Saved`; what earlier versions called rivals are baselines."""
        if "rivals" in record:
            record["baselines"] = record.pop("rivals")
        outcome = super().from_record(record)
        before, after = outcome.cost_before.latencies, outcome.cost_after.latencies
        if [x.batch_size for x in before] != [x.batch_size for x in after]:
            raise ValueError("latencies before and after at different batch sizes")
        return outcome


def draw_outcome(axes: Sequence[Any], outcome: PruningOutcome) -> None:
    """The accuracies in the first of ``axes``, the costs in the second."""
    _draw_stages(axes[0], outcome)
    _draw_costs(axes[1], outcome)


def _draw_costs(axes: Any, outcome: PruningOutcome) -> None:
    columns, first = outcome._columns(), len(outcome._quality())
    names, before, after = (columns[name][first:] for name in ("what", "before", "after"))
    drawing.ratio_bars(axes, names, before, after)


def _draw_stages(axes: Any, outcome: PruningOutcome) -> None:
    """The accuracy before pruning, and after each stage of the last round."""
    last = outcome.rounds[-1].accuracies if outcome.rounds else {"after": outcome.accuracy_after}
    known = outcome.accuracy_before is not None
    stages = {"before": outcome.accuracy_before} | last if known else _errors(outcome)
    shown = {name: value for name, value in stages.items() if value is not None}
    at = range(len(shown))
    tones = [drawing.SOFT, *[drawing.GONE] * (len(shown) - 2), drawing.KEPT][-len(shown) :]
    axes.barh(at, list(shown.values()), color=tones, height=0.6)
    for i, value in enumerate(shown.values()):
        text = f" {value:.2%}" if known else f" {value:.2g}"
        axes.text(value, i, text, va="center", fontsize=drawing.SMALL)
    drawing.name_rows(axes, list(shown))
    if known:
        axes.set(xlim=(0, 1.25), xticks=[0, 0.5, 1], xlabel="accuracy on test samples")
        drawing.percent_axis(axes, "x")
    else:
        axes.set(xlabel="error of the outputs over their variance")
        axes.margins(x=0.25)
    drawing.plain(axes)


def _errors(outcome: PruningOutcome) -> dict[str, float | None]:
    """The error of the outputs as pruned and refitted, on samples kept aside there, and at the end."""
    refits = [done.refit for done in outcome.rounds[-1:] if done.refit is not None]
    stages = (
        {"as pruned": refits[-1].output_before, "refitted": refits[-1].output_after} if refits else {}
    )
    return {**stages, "on test samples": outcome.output_error}
