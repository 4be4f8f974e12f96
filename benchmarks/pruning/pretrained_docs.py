"""The table of docs/pretrained.md from pretrained.json among the results.

    python benchmarks/pruning/pretrained.py && python benchmarks/pruning/pretrained_docs.py

Replaces what stands between the two markers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "pretrained.json").read_text(encoding="utf-8"))
    page = ROOT / "docs/pretrained.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(page, f"{before}{BEGIN}\n{figures(record)}\n{END}{after}")


def figures(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    columns = ["net", "what it keeps", "MACs", "parameters", "ms at batch 1", "how", "seconds"]
    lines = [
        f"`{record['command']}`, {record['date']}, {record['machine']}, {versions}.",
        "Costs are shares of the original's; *ms at 1* is the time of one sample.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    for row in record["rows"]:
        kept = "; ".join(
            f"{what} {was:.3f}, now {now:.3f}" for what, (was, now) in row["measures"].items()
        )
        ratios = [f"{row[what][1] / row[what][0]:.2f}" for what in ("macs", "parameters", "ms_at_1")]
        how = row["effort"] + f", {row['polish']} steps of polish" * (row["polish"] > 0)
        seconds = f"{row['seconds']:.0f}"
        lines.append(f"| {' | '.join([row['net'], kept, *ratios, how, seconds])} |")
    whole = [(row["net"], layer, why) for row in record["rows"] for layer, why in row["kept"].items()]
    if whole:
        lines += ["", "What keeps all of its channels, and why:", ""]
        lines += [f"- {net}, `{layer}`: {why}" for net, layer, why in whole]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
