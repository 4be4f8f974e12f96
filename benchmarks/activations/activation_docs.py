"""The tables of docs/convergence.md from benchmarks/results/activation.json.

    python benchmarks/activations/activation.py && python benchmarks/activations/activation_docs.py

Replaces what stands between the two markers in docs/convergence.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NAMES = {
    "zfold": "**ZFold**", "smooth_zfold": "**SmoothZFold**", "qfold2": "**QFold(2)**",
    "qfold2_held": "QFold(2) held flat", "relu": "ReLU", "leaky_relu": "leaky ReLU", "elu": "ELU",
    "gelu": "GELU", "silu": "SiLU", "mish": "Mish", "tanh": "tanh", "hardtanh": "hardtanh",
    "sine": "sine",
}  # fmt: skip


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/activation.json").read_text())
    parts = [
        note(record),
        "### The chosen fold against the best baseline",
        verdicts(record),
        "### Epochs to 99 % train accuracy",
        matrix(record, "train"),
        "### Epochs to 99 % test accuracy",
        matrix(record, "test"),
        "### Do the Betti numbers fall sooner?",
        falls(record),
        predictions(record),
    ]
    page = ROOT / "docs/convergence.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(page, before + "\n" + "\n\n".join(parts) + "\n" + after)


def note(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"`{record['command']}`, {record['date']}, {versions}; seed by seed in the JSON file."


def verdicts(record: dict[str, Any]) -> str:
    on_test = {v["set"]: v for v in record["test"]["verdicts"]}
    rows = []
    for v in record["train"]["verdicts"]:
        test = on_test[v["set"]]
        rows.append(
            (v["set"], record["total_betti"][v["set"]], NAMES[v["fold"]].strip("*"),
             NAMES[v["baseline"]], ratio(v["against_baseline"]), ratio(v["against_usual"]),
             f"{v['reached']}/{v['seeds']}", NAMES[test["baseline"]], ratio(test["against_baseline"]),
             f"{test['reached']}/{test['seeds']}")
        )  # fmt: skip
    return table(
        ["set", "total Betti number", "fold", "best baseline, train", "x fewer than it",
         "x fewer than ReLU as usual", "reached 99 % train", "best baseline, test", "x fewer than it",
         "reached 99 % test"],
        rows,
    )  # fmt: skip


def matrix(record: dict[str, Any], split: str) -> str:
    rows = record[split]["rows"]
    sets = list(record["total_betti"])
    cells = {(row["activation"], row["set"]): spread(row) for row in rows}
    usual = {row["set"]: spread(row) for row in record[split]["relu_as_usual"]}
    lines = [
        [name, *(cells.get((activation, s), "") for s in sets)] for activation, name in NAMES.items()
    ]
    lines.append(["ReLU, as usual", *(usual.get(s, "") for s in sets)])
    return table(["", *sets], lines)


def falls(record: dict[str, Any]) -> str:
    sets = [v["set"] for v in record["train"]["verdicts"]]
    found = {
        (row["set"], row["activation"], row["which"]): row
        for row in record["untangling"]
        if row["layer"] == "all"
    }
    rows = []
    for name in sets:
        for which in ("b0", "b1"):
            pair = [found[name, activation, which] for activation in ("relu", "zfold", "qfold2")]
            rows.append(
                [name, which]
                + [
                    text
                    for row in pair
                    for text in (f"{row['before']:g} → {row['after']:g}", fall(row["median"]))
                ]
            )
    return table(
        ["set", "", "ReLU: before → after", "epochs to the fall", "ZFold: before → after",
         "epochs to the fall", "QFold(2): before → after", "epochs to the fall"],
        rows,
    )  # fmt: skip


def predictions(record: dict[str, Any]) -> str:
    lines = [
        f"{which}: rho = {found['rho']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        for which, found in record["prediction"].items()
    ]
    n = next(iter(record["prediction"].values()))["n"]
    return (
        f"Rank correlation (Spearman, 95 % bootstrap interval) between the epochs to the fall and the "
        f"epochs to 99 % train accuracy, over all {n} cells of set and activation: {'; '.join(lines)}."
    )


def fall(median: float | None) -> str:
    return "did not fall" if median is None else f"{median:.2g}"


def spread(row: dict[str, Any]) -> str:
    found = [e for e in row["epochs"] if e is not None]
    if row["median"] is None:
        return f"— ({row['reached']}/{row['seeds']})"
    highest = (
        f"{max(found):.3g}" if row["reached"] == row["seeds"] else f"— ({row['reached']}/{row['seeds']})"
    )
    return f"{row['median']:.3g} [{min(found):.3g}, {highest}]"


def ratio(found: dict[str, Any]) -> str:
    sign = "≥ " if found["bound"] else ""
    return f"{sign}{found['ratio']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(map(str, columns)), ["---"] * len(columns), *[list(map(str, row)) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
