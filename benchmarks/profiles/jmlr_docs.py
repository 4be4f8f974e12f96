"""The tables and the picture of docs/jmlr.md from benchmarks/results/jmlr.json.

    python benchmarks/profiles/jmlr.py && python benchmarks/profiles/jmlr_docs.py

Replaces what stands between the two markers in docs/jmlr.md, and docs/assets/jmlr.svg.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from findings import MAIN, PAIRS, SHOWN

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NAMES = {"tanh": "tanh", "leaky_relu": "leaky ReLU", "relu": "ReLU", "zfold": "ZFold"}
SETS = {"discs": "D-I discs", "rings": "D-II rings", "spheres": "D-III spheres"}
# The rest is in the JSON file.
ENDS = ("k = 14", "k = 7", "k = 28", "before training", "trained on, k = 28")
LATE = ("k = 14", "k = 28", "b0 alone", "before training", "b0 alone, before training")
COLOURS = {"tanh": "#d62728", "leaky_relu": "#2ca02c", "relu": "#1f77b4", "zfold": "#9467bd"}


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/jmlr.json").read_text())
    findings, shown = record["findings"], record["layers"]
    parts = [
        note(record),
        "### 1. Simpler, layer by layer?",
        simpler(findings["simpler"]),
        layers(shown),
        "![omega per layer, by activation and set](assets/jmlr.svg)",
        "The same nets: omega, medians and quartiles, cut off at 1.5 times the input's.",
        "### 2. Faster with ReLU than with tanh?",
        faster(findings["faster"]),
        cells(findings["cells"]),
        "### 3. Shallow late, deep evenly?",
        later(findings["later"]),
    ]
    page = ROOT / "docs/jmlr.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(page, before + "\n" + "\n\n".join(parts) + "\n" + after)
    write_text(ROOT / "docs/assets/jmlr.svg", picture(shown))


def note(record: dict[str, Any]) -> str:
    cells = record["findings"]["cells"]
    trained, reached = (sum(cell[name] for cell in cells) for name in ("trained", "reached"))
    measured = record["measured"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"`{record['command']}`, {record['date']}, {versions}, {record['machine']}; "
        f"`benchmarks/results/jmlr.json`. {reached} of {trained} nets of {len(cells)} "
        f"configurations reached the target, {measured['nets']} of them were measured; b2 of "
        f"{measured['too_costly']} of {measured['clouds']} clouds took too long and counts as large."
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def simpler(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            row["way"], NAMES[row["activation"]], str(row["nets"]), percent(row["blobs_both"]),
            percent(row["connected_both"]), number(row["omega_out_median"]),
            number(row["out_over_in_median"], 2), percent(row["steps_rising"]),
            percent(row["nets_above_input"]),
        ]
        for row in found if row["nets"] and row["way"] in ENDS
    ]  # fmt: skip
    return table(
        [
            "scale and stage", "activation", "nets", "logits: both classes one blob",
            "both connected", "median omega", "median omega out / in", "steps where omega rises",
            "nets above the input's omega",
        ],
        rows,
    )  # fmt: skip


def layers(shown: list[dict[str, Any]]) -> str:
    steps = ["input", *(str(i + 1) for i in range(SHOWN[1])), "logits"]
    body = []
    for row in shown:
        for q, over_layers in enumerate(row["betti"]):
            head = [SETS[row["set"]], NAMES[row["activation"]], f"b{q}"]
            body.append([*head, *(mean_sd(cell) for cell in over_layers)])
    width, depth = SHOWN
    title = f"Betti numbers of both classes together, width {width}, depth {depth}, k = 14: mean ± sd"
    return title + "\n\n" + table(["set", "activation", "number", *steps], body)


def mean_sd(cell: dict[str, Any]) -> str:
    if "too_costly" in cell:
        return f"too many in {cell['too_costly']} of {cell['nets']}"
    return f"{cell['mean']:.3g} ± {cell['sd']:.2g}"


def faster(found: list[dict[str, Any]]) -> str:
    ways = list(dict.fromkeys(row["way"] for row in found))
    by = {(row["way"], row["one"], row["other"]): row for row in found}
    columns = ["way of measuring", *(f"{NAMES[a]} - {NAMES[b]}" for a, b in PAIRS)]
    return table(columns, [[way, *(gap(by[(way, *pair)]) for pair in PAIRS)] for way in ways])


def later(found: list[dict[str, Any]]) -> str:
    return table(
        ["way of measuring", "activation", "depth 3", "depth 6", "depth 10", "deepest - shallowest"],
        [
            [
                row["way"],
                NAMES[row["activation"]],
                *(middle(s) for s in row["last_third"].values()),
                gap(row),
            ]
            for row in found if row["way"] in LATE
        ],
    )  # fmt: skip


def cells(found: list[dict[str, Any]]) -> str:
    by = {(c["set"], c["width"], c["depth"], c["activation"]): c for c in found}
    keys = list(dict.fromkeys(key[:3] for key in by))
    body = [
        [SETS[name], f"{width} x {depth}", *(one(by[name, width, depth, a]) for a in NAMES)]
        for name, width, depth in keys
    ]
    title = (
        "Share of the depth at which omega is at half, k = 14: mean ± sd (nets that reached the target)"
    )
    return title + "\n\n" + table(["set", "width x depth", *NAMES.values()], body)


def one(cell: dict[str, Any]) -> str:
    half, tally = cell["half"], f"({cell['reached']}/{cell['trained']})"
    return f"{half['mean']:.2f} ± {half['sd']:.2f} {tally}" if half["n"] else tally


def gap(row: dict[str, Any]) -> str:
    if not row["strata"]:
        return "-"
    tally = f"{row['lower']} of {row['strata']}"
    if row["way"] == MAIN.name:
        tally += f", surely {row['surely_lower']} (higher: {row['surely_higher']})"
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]; {tally}"


def middle(found: dict[str, Any]) -> str:
    return f"{found['median']:.2f} [{found['low']:.2f}-{found['high']:.2f}]" if found["n"] else "-"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def number(value: float | None, digits: int = 0) -> str:
    return "too many" if value is None else f"{value:.{digits}f}"


def picture(shown: list[dict[str, Any]]) -> str:
    """omega of the nets of one width and depth: medians and quartiles by layer, a panel a set."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 270" font-family="sans-serif" '
        'font-size="12" fill="#888">'
    ]
    for panel, name in enumerate(SETS):
        left, bottom, width, height = 40 + 255 * panel, 215, 205, 180
        parts.append(f'<text x="{left}" y="22">{SETS[name]}</text>')
        parts.append(
            f'<path d="M{left} {bottom - height}V{bottom}H{left + width}" stroke="#888" fill="none"/>'
        )
        start = 0.0
        for row in shown:
            if row["set"] != name or not row["quartiles"]:
                continue
            quartiles = np.array(row["quartiles"])
            start = quartiles[1, 0]  # of all nets the same
            quartiles = quartiles / (1.5 * start)
            xs = left + width * np.linspace(0, 1, quartiles.shape[1])
            ys = bottom - height * np.minimum(quartiles, 1)
            band = points(xs, ys[0]) + " " + points(xs[::-1], ys[2][::-1])
            colour = COLOURS[row["activation"]]
            parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.15"/>')
            line = points(xs, ys[1])
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left - 6}" y="{bottom - height / 1.5 + 4}" text-anchor="end">{start:.0f}</text>'
        )
        parts.append(f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>')
        parts.append(f'<text x="{left}" y="{bottom + 16}">input</text>')
        parts.append(f'<text x="{left + width}" y="{bottom + 16}" text-anchor="end">logits</text>')
    for i, (activation, label) in enumerate(NAMES.items()):
        parts.append(f'<text x="{40 + 110 * i}" y="258" fill="{COLOURS[activation]}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def points(xs: Iterable[float], ys: Iterable[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


if __name__ == "__main__":
    main()
