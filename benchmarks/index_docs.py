"""The table of docs/benchmarks.md: every file in benchmarks/results, when and where it was made.

    python benchmarks/index_docs.py

Replaces what stands between the two markers. A new result has to be given a line in PAGES.
"""

from __future__ import annotations

import json
from pathlib import Path

from unknot.core.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# What is asked, the page with the table, and the command where the file does not name it.
PAGES = {
    "activation": ("epochs to 99 %, activations tuned alike on eight sets", "convergence.md", ""),
    "activation_cost": (
        "what a fold costs a training step, in time and memory",
        "which_activation.md",
        "",
    ),
    "engine": (
        "the engine against ripser.py, RedZeD, giotto-ph and GUDHI",
        "engine.md",
        "make bench-engine",
    ),
    "estimators": ("tables: the fold estimators beside trees and an MLP", "howto/tables.md", ""),
    "half_the_loss": (
        "one shot beside an earlier version and six published methods",
        "half_the_loss.md",
        "",
    ),
    "images": ("folds in convolution nets, three image sets", "research/cnn_folds.md", ""),
    "islands": ("islands of noise and of known shapes; time of islands and tangle", "meaning.md", ""),
    "jmlr": ("the experiment of Naitzat, Zhitnikov and Lim, 1,050 nets", "jmlr.md", ""),
    "latency": ("a ResNet-18: half of its time asked, the time of half of its MACs", "results.md", ""),
    "pretrained": (
        "nets that others trained: EfficientNet-Lite0, CREPE, MTCNN, PESTO",
        "pretrained.md",
        "",
    ),
    "pruning": ("every pruning criterion, three image sets, two nets", "pruning.md", ""),
    "pruning_digits": ("filters with a high Betti number, on digits", "results.md", ""),
    "real_data": ("islands and tangle of nets: trained, random, shuffled labels", "real_data.md", ""),
    "refit": ("pruning with and without the refit", "results.md", ""),
    "scale": ("how often the scale is right, undetermined, wrong", "scale.md", ""),
    "scaling": ("studies, counting and fuzzing on more workers", "howto/dask.md", ""),
    "see": ("a Monitor's share of a training; every filter of a ResNet-18", "index.md", ""),
    "shrink_time": ("how long a ResNet-18 takes to score, plan and refit", "criteria.md", ""),
    "stacked": ("many nets trained as one stack, against one after another", "howto/study.md", ""),
    "table_epochs": ("tables: epochs to tuned ReLU's held-out score", "howto/tables.md", ""),
    "torch_pruning": (
        "beside torch-pruning: right, refused, accuracy, time",
        "torch_pruning.md",
        "python benchmarks/pruning/against_torch_pruning.py",
    ),
    "unnormalised": ("folds in augmented nets without normalisation", "research/cnn_folds.md", ""),
    "wide": ("every layer of a ResNet-50 at 224 x 224: time and memory", "howto/measure.md", ""),
    "zoo": ("which third-party nets can be halved, beside torch-pruning", "torch_pruning.md", ""),
}


def table() -> str:
    lines = ["| question | command | date | machine | table | figures |", "|---|---|---|---|---|---|"]
    for path in sorted((ROOT / "benchmarks/results").glob("*.json")):
        question, page, command = PAGES[path.stem]
        record = json.loads(path.read_text())
        command = record.get("command", command)
        date, machine = record.get("date", "not recorded"), record.get("machine", "not recorded")
        found = f"[{path.name}](../benchmarks/results/{path.name})"
        title = "home" if page == "index.md" else (ROOT / "docs" / page).read_text().splitlines()[0][2:]
        lines.append(f"| {question} | `{command}` | {date} | {machine} | [{title}]({page}) | {found} |")
    return "\n".join(lines)


def text() -> str:
    """The whole page as it should be."""
    page = PAGE.read_text(encoding="utf-8")
    return page[: page.index(BEGIN) + len(BEGIN)] + "\n" + table() + "\n" + page[page.index(END) :]


if __name__ == "__main__":
    write_text(PAGE, text())
