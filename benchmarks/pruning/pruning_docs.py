"""The tables of docs/pruning.md from benchmarks/results/pruning.json.

    python benchmarks/pruning/pruning.py && python benchmarks/pruning/pruning_docs.py

Replaces what stands between the two markers in docs/pruning.md.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tables import (
    STAGES,
    baseline_table,
    latency_table,
    nets_of,
    of_cell,
    rows_of,
    stage_table,
    threshold_table,
    variant_table,
)

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SETS = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cats_vs_dogs": "cats vs dogs"}
NETS = {"cnn": "CNN", "resnet": "ResNet"}


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/pruning.json").read_text())
    rows = rows_of(record)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        f"`{record['command']}`, {record['date']}, {versions}.",
        "### The originals",
        table(["of the original", *titles(rows)], originals(rows)),
    ]
    for share in (0.5, 0.75, 0.3):
        parts += [f"### {share:.0%} of the MACs removed, refitted", criteria(rows, share, "refit")]
    for share in (0.5, 0.75):
        parts += [f"### {share:.0%} removed, refitted and trained for three epochs",
                  criteria(rows, share, "tuned_3")]  # fmt: skip
    for criterion in ("elder-surgeon", "l1"):
        parts += [f"### What mends the net: 75 % removed by {criterion}", mending(rows, 0.75, criterion)]
    for baseline in ("taylor", "l1"):
        over = baseline_table(rows, 0.75, baseline, "refit")
        parts += [f"### Points over {baseline}, 75 % removed, refitted",
                  table(["criterion", *titles(rows)], over)]  # fmt: skip
    parts += [
        "### Betti number above 300",
        table(["above 300", *titles(rows)], threshold_table(rows)),
        exceeding(rows),
        "### Which Betti number: half of the filters of every layer, refitted",
        table(["criterion", *titles(rows)], variant_table(rows, "all")),
        "### Half of the filters of the last layers alone, refitted",
        table(["criterion", *titles(rows)], variant_table(rows, "last")),
    ]
    if of_cell(rows, "latency"):
        parts += ["### Half of the filters of every layer: time and memory, of the original's",
                  table(["share", *titles(rows)], latency_table(rows))]  # fmt: skip
    page = ROOT / "docs/pruning.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(page, before + "\n" + "\n\n".join(parts) + "\n" + after)


def titles(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{SETS[name]}, {NETS[net]}" for name, net in nets_of(rows)]


def originals(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    found = [of_cell(rows, "original", set=s, net=n)[0] for s, n in nets_of(rows)]
    return [
        ("test accuracy, median [range]", *(
            f"{statistics.median(r['accuracy']):.3f} [{min(r['accuracy']):.3f}, {max(r['accuracy']):.3f}]"
            for r in found
        )),
        ("training seeds", *(str(len(r["accuracy"])) for r in found)),
        ("million MACs", *(f"{r['macs'] / 1e6:.1f}" for r in found)),
    ]  # fmt: skip


def criteria(rows: Sequence[dict[str, Any]], share: float, stage: str) -> str:
    lines = stage_table(rows, share, stage)
    best = [
        max((float(line[i].split()[0]) for line in lines if " " not in line[0] and line[i]), default=0.0)
        for i in range(1, len(lines[0]))
    ]
    marked = [
        (line[0], *(
            f"**{cell}**" if " " not in line[0] and cell and float(cell.split()[0]) == top else cell
            for cell, top in zip(line[1:], best, strict=True)
        ))
        for line in lines
    ]  # fmt: skip
    return table(["criterion", *titles(rows)], marked)


def mending(rows: Sequence[dict[str, Any]], share: float, criterion: str) -> str:
    lines = []
    for stage, words in STAGES.items():
        (line,) = [line for line in stage_table(rows, share, stage) if line[0] == criterion]
        lines.append((words, *line[1:]))
    (scratch,) = [
        line for line in stage_table(rows, share, "tuned_3") if line[0] == "the small net from scratch"
    ]
    return table(["stage", *titles(rows)], [*lines, scratch])


def exceeding(rows: Sequence[dict[str, Any]]) -> str:
    parts = []
    for (name, net), title in zip(nets_of(rows), titles(rows), strict=True):
        (found,) = of_cell(rows, "threshold", set=name, net=net)
        layers = ", ".join(f"{k} {v:.0%}" for k, v in found["exceeding_by_layer"].items())
        parts.append(f"{title}: {layers}")
    return "Share of the filters above 300, by layer, means over seeds. " + ". ".join(parts) + "."


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows)


if __name__ == "__main__":
    main()
