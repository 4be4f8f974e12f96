"""The tables of docs/real_data.md from benchmarks/results/real_data.json.

    python benchmarks/profiles/real_data.py && python benchmarks/profiles/real_data_docs.py

Replaces what stands between the two markers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from real_nets import CONDITIONS, NETS
from scipy.stats import spearmanr

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
STATISTICS = {
    "islands": "islands",
    "total": "islands, total",
    "tangle": "tangle",
    "purity": "10-NN purity",
}
RESAMPLES = 2_000
Row = dict[str, Any]
Cell = tuple[str, str]  # net, condition


class Measured:
    """The record, by net, condition, layer and n."""

    def __init__(self, record: Row) -> None:
        self.record = record
        self.nets: dict[Cell, list[Row]] = {}
        for net in record["nets"]:
            rows = {}
            for values in net["rows"]:
                row = dict(zip(record["columns"], values, strict=False))
                rows[row["layer"], row["n"]] = row
            self.nets.setdefault((net["net"], net["condition"]), []).append({**net, "rows": rows})
        self.inputs: dict[str, list[Row]] = {}
        for found in record["inputs"]:
            row = dict(zip(record["columns"], found["row"], strict=False))
            self.inputs.setdefault(found["set"], []).append(row)

    def rows(self, net: str, condition: str, n: int, layer: str = "") -> list[Row]:
        """One a seed, of the penultimate layer where no other is named."""
        if layer == "input":
            return self.inputs[NETS[net].set]
        where = layer or NETS[net].penultimate
        return [one["rows"][where, n] for one in self.nets[net, condition]]

    def of(self, net: str, condition: str, key: str) -> list[float]:
        return [one[key] for one in self.nets[net, condition]]


def main() -> None:
    found = Measured(json.loads((ROOT / "benchmarks/results/real_data.json").read_text()))
    parts = [note(found.record), "### The nets", nets(found)]
    for n in (1000, 4000):
        parts += [
            f"### Apart or not: penultimate layer, n = {n:,}",
            apart(found, n),
            f"### The numbers: penultimate layer, n = {n:,}",
            numbers(found, n),
        ]
    parts += [
        "### Rank correlations, penultimate layer",
        correlations(found),
        "### Layer by layer, n = 1,000",
        layers(found),
        "### Who shares an island",
        sharing(found),
        "### Are the intervals wide enough?",
        noise(found),
    ]
    page = ROOT / "docs/real_data.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(page, before + "\n" + "\n\n".join(parts) + "\n" + after)


def note(record: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"`{record['command']}`, {record['date']}, {versions}, {record['machine']}; "
        f"`benchmarks/results/real_data.json`. Three seeds a cell, {record['seen']:,} images a training."
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def listed(values: Iterable[float], form: str = ".2f") -> str:
    return " ".join(format(value, form) for value in values)


def nets(found: Measured) -> str:
    """Accuracies of the three seeds."""
    rows = [
        [
            net.title, listed(found.of(name, "trained", "accuracy")),
            listed(found.of(name, "shuffled", "train_accuracy")),
            *(listed(found.of(name, condition, "probe")) for condition in CONDITIONS),
        ]
        for name, net in NETS.items()
    ]  # fmt: skip
    return table(
        ["net", "accuracy, unseen images", "shuffled labels, accuracy on those labels",
         *(f"linear probe, {condition}" for condition in CONDITIONS)],
        rows,
    )  # fmt: skip


def apart(found: Measured, n: int) -> str:
    """Trained minus another condition, in sd of one measurement; seeds whose intervals do not meet."""
    rows = []
    for statistic, title in STATISTICS.items():
        for other in CONDITIONS[1:]:
            cells = []
            for name in NETS:
                pairs = list(zip(found.rows(name, "trained", n), found.rows(name, other, n), strict=True))
                gaps = sorted(in_sd(statistic, *pair) for pair in pairs)
                sides = [side(statistic, *pair) for pair in pairs]
                parted = [f"{sides.count(s)} {s}" for s in ("above", "below") if s in sides]
                ends = f"{signed(gaps[0])} to {signed(gaps[-1])}"
                cells.append(f"{signed(gaps[1])} ({ends})<br>{', '.join(parted) or 'none apart'}")
            rows.append([title, f"trained - {other}", *cells])
    return table(["number", "difference", *(net.title for net in NETS.values())], rows)


def in_sd(statistic: str, first: Row, second: Row) -> float:
    """Their difference over the root mean square of their subsampling sd."""
    gap = first[statistic] - second[statistic]
    sd = math.hypot(first[f"{statistic}_sd"], second[f"{statistic}_sd"]) / math.sqrt(2)
    return 0.0 if gap == 0 else math.copysign(math.inf, gap) if sd == 0 else gap / sd


def side(statistic: str, first: Row, second: Row) -> str:
    """Where the interval of the first lies whole: "above" or "below" that of the second, or ""."""
    (a, b), (c, d) = first[f"{statistic}_interval"], second[f"{statistic}_interval"]
    return "above" if a > d else "below" if b < c else ""


def signed(value: float) -> str:
    return f"{value:+.0f}" if abs(value) >= 10 else "0" if value == 0 else f"{value:+.1f}"


def numbers(found: Measured, n: int) -> str:
    rows = []
    for name, net in NETS.items():
        for condition in CONDITIONS:
            cells = [
                "<br>".join(with_interval(row, statistic) for row in found.rows(name, condition, n))
                for statistic in STATISTICS
            ]
            rows.append([net.title, condition, *cells])
    return table(["net", "weights", *STATISTICS.values()], rows)


def with_interval(row: Row, statistic: str) -> str:
    form = {"islands": "d", "total": ".0f"}.get(statistic, ".2f")
    value, (low, high) = row[statistic], row[f"{statistic}_interval"]
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def correlations(found: Measured) -> str:
    """Spearman's rho with 95 % intervals: whole cells of three nets are drawn again."""
    every = list(found.nets)
    ten = [cell for cell in every if NETS[cell[0]].set != "cats_vs_dogs"]

    def probe(n: int, statistic: str) -> Callable[[Cell], tuple[list[float], list[float]]]:
        return lambda cell: (
            [row[statistic] for row in found.rows(*cell, n)],
            found.of(*cell, "probe"),
        )

    def sizes(
        small: int, large: int, statistic: str
    ) -> Callable[[Cell], tuple[list[float], list[float]]]:
        return lambda cell: (
            [row[statistic] for row in found.rows(*cell, small)],
            [row[statistic] for row in found.rows(*cell, large)],
        )

    rows = [
        [
            title,
            *(rho(every, probe(n, name)) for n in (1000, 4000)),
            rho(ten, probe(1000, name)),
            rho(every, sizes(300, 1000, name)),
            rho(every, sizes(1000, 4000, name)),
        ]
        for name, title in STATISTICS.items()
    ]
    columns = [
        "number", f"with the linear probe, n = 1,000, {3 * len(every)} nets", "the same, n = 4,000",
        f"the same, n = 1,000, {3 * len(ten)} nets of ten classes", "n = 300 with n = 1,000",
        "n = 1,000 with n = 4,000",
    ]  # fmt: skip
    return table(columns, rows)


def rho(cells: Sequence[Cell], pairs: Callable[[Cell], tuple[list[float], list[float]]]) -> str:
    found = np.array([pairs(cell) for cell in cells], float)  # [cells, 2, seeds]
    rng = np.random.default_rng(0)
    draws = [correlation(found[rng.integers(len(cells), size=len(cells))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{correlation(found):.2f} [{low:.2f}, {high:.2f}]"


def correlation(found: np.ndarray) -> float:
    first, second = np.moveaxis(found, 1, 0).reshape(2, -1)
    known = np.isfinite(first + second)
    return float(spearmanr(first[known], second[known]).statistic)


def layers(found: Measured) -> str:
    """Medians of the three nets, from input to output."""
    rows = []
    for name, net in NETS.items():
        for statistic in ("islands", "tangle", "purity"):
            form = "g" if statistic == "islands" else ".2f"
            for condition in CONDITIONS:
                middles = [
                    float(np.median([row[statistic] for row in found.rows(name, condition, 1000, layer)]))
                    for layer in ("input", *net.layers, "out")
                ]
                rows.append([net.title, STATISTICS[statistic], condition, listed(middles, form)])
    return table(["net", "number", "weights", "input to output"], rows)


def sharing(found: Measured) -> str:
    """Trained nets: classes that have at least half of their images on the same island."""
    rows = []
    for name, net in NETS.items():
        classes = [shortened(one) for one in found.record["classes"][net.set]]
        for layer, n in ((net.penultimate, 1000), (net.penultimate, 4000), ("out", 4000)):
            cells = []
            for one in found.nets[name, "trained"]:
                groups = one["groups"][f"{layer}, {n}"]
                cells.append("; ".join(" + ".join(classes[label] for label in group) for group in groups))
            title = "output" if layer == "out" else "penultimate"
            rows.append([net.title, f"{title}, n = {n:,}", *cells])
    seeds = found.of(next(iter(NETS)), "trained", "seed")
    return table(["net", "layer", *(f"seed {seed:g}" for seed in seeds)], rows)


def shortened(name: str) -> str:
    """As it fits a table; CIFAR-10's planes by their short name."""
    for long, short in (("T - shirt / top", "T-shirt"), ("Ankle boot", "Boot"), ("air", "")):
        name = name.replace(long, short)
    return name.lower()


def noise(found: Measured) -> str:
    """The sd of halves of 1,000 over that of four separate thousands, roots of mean squares over nets."""
    rows = []
    for i, (statistic, title) in enumerate(STATISTICS.items()):
        cells = []
        for names in (list(NETS), *([name] for name in NETS)):
            chosen = [cell for cell in found.nets if cell[0] in names]
            halves = [row[f"{statistic}_sd"] for cell in chosen for row in found.rows(*cell, 1000)]
            thousands = [net["thousands_sd"][i] for cell in chosen for net in found.nets[cell]]
            a, b = (math.sqrt(np.mean(np.square(values))) for values in (halves, thousands))
            cells.append(f"{a:.2g} / {b:.2g} = {a / b:.1f}" if b else f"{a:.2g} / 0")
        rows.append([title, *cells])
    return table(["number", "all nets", *(net.title for net in NETS.values())], rows)


if __name__ == "__main__":
    main()
