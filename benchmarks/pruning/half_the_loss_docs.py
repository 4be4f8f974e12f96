"""The tables of docs/half_the_loss.md from benchmarks/results/half_the_loss.json.

    python benchmarks/pruning/half_the_loss.py && python benchmarks/pruning/half_the_loss_docs.py

Replaces what stands between the two markers in docs/half_the_loss.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from half_the_loss_tables import (
    BEFORE,
    COMPARED,
    NETS,
    SETS,
    against_table,
    expanded,
    lost_table,
    ratio_table,
    removed_range,
    targets,
)
from pruning_docs import BEGIN, END
from pruning_docs import table as markdown

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/half_the_loss.md"


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/half_the_loss.json").read_text())
    text = PAGE.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(PAGE, before + "\n" + "\n\n".join(parts(record)) + "\n" + after)


def parts(record: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    record = record | expanded(record)
    low, high = removed_range(record)
    yield f"`{record['command']}`, {record['date']}, {versions}."
    yield "### What was to be shown"
    yield table(["what", "asked", "found", "met"], targets(record))
    yield "### The originals"
    yield table(["measure", *titles()], [originals(record)])
    for share in (0.75, 0.5):
        here = f"{share:.0%} of the MACs removed"
        yield f"### {here}: points lost"
        yield table(*lost_table(record, share, trained=False))
        for before in BEFORE:
            head, lines = ratio_table(record, share, before)
            if lines:
                yield f"### {here}: loss of unknot, of that of {before}"
                yield table(head, lines)
        for ours in COMPARED:
            for trained in (False, True):
                head, lines = against_table(record, share, ours, trained)
                if lines:
                    words = ", three epochs after both" if trained else ""
                    yield f"### {here}: points that the others lose more than {ours}{words}"
                    yield table(head, lines)
        head, lines = lost_table(record, share, trained=True)
        if any(any(cells) for _, *cells in lines):
            yield f"### {here}, then three epochs of training: points lost"
            yield table(head, lines)
    yield f"The MACs removed are within [{100 * low:+.1f}, {100 * high:+.1f}] points of those asked."


def table(head: list[str], lines: Iterable[Sequence[str]]) -> str:
    return markdown(head, [[cell or "-" for cell in line] for line in lines])


def titles() -> list[str]:
    return [f"{SETS[name]}, {NETS[net]}" for name in SETS for net in NETS]


def originals(record: dict[str, Any]) -> list[str]:
    cells = []
    for name in SETS:
        for net in NETS:
            of = [r for r in record["originals"] if (r["set"], r["net"]) == (name, net)]
            values = of[0]["accuracy"] if of else []
            cells.append(f"{sum(values) / len(values):.3f} of {len(values)} seeds" if values else "")
    return ["test accuracy, mean", *cells]


if __name__ == "__main__":
    main()
