"""The figures of docs/howto/tables.md, from the results of estimators.py and table_epochs.py.

    python benchmarks/activations/tables_docs.py

Replaces what stands between the two markers in docs/howto/tables.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from activation_docs import BEGIN, END, numbers, source, table
from estimators import NAMED
from scipy import stats
from table_sets import CLASSES

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/tables.md"
FOLDS = {"qfold": "**QFold(1)**", "qfold_centred": "**QFold(1), centred**", "zfold": "**ZFold**"}
NAMES = FOLDS | {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "sine": "sine"}
SHOWN = (4, 16)  # budgets whose scores the page has


def main() -> None:
    page, found = PAGE.read_text(), []
    for name, parts in (("estimators", estimators), ("table_epochs", epochs)):
        found += parts(json.loads((ROOT / f"benchmarks/results/{name}.json").read_text()))
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    write_text(PAGE, before + "\n" + "\n\n".join(found) + "\n" + after)


def estimators(record: dict[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    seeds = min(row["seeds"] for row in rows)
    ranks = [f"{NAMED[m]} {np.mean([row['ranks'][m] for row in rows]):.2f}" for m in NAMED]
    yield "## Beside boosted trees and scikit-learn's MLP"
    yield f"""\
The estimator as it comes; `HistGradientBoosting` and `MLP` tuned by random search for as many seconds
as its fit takes, on one thread each. 70 % of the rows to fit, 30 % to test, drawn anew for each of
{seeds} seeds. Mean over the seeds, in brackets the 95 % interval of paired differences, which tells
nothing of other tables. Mean rank over the {len(rows)} tables, 1 the best: {", ".join(ranks)}."""
    yield f"{source(record)}."
    yield table(
        ["table", *NAMED.values(), "unknot - trees", "unknot - MLP",
         "seconds to fit", "trees, MLPs tried"],
        [
            (f"{row['table']}, {'accuracy' if row['table'] in CLASSES else 'R^2'}",
             *(f"{np.mean(row['scores'][m]):.3f}" for m in NAMED),
             *(difference(row["scores"], m) for m in NAMED if m != "fold"),
             f"{row['seconds']['fold']:.0f}", f"{row['tried']['trees']:.0f}, {row['tried']['mlp']:.0f}")
            for row in rows
        ],
    )  # fmt: skip


def difference(scores: dict[str, list[float]], other: str) -> str:
    """Of the estimator's scores to another's: "+0.012 [0.009, 0.015]"."""
    less = np.subtract(scores["fold"], scores[other])
    half = float(stats.t.ppf(0.975, len(less) - 1) * stats.sem(less))
    return f"{less.mean():+.3f} [{less.mean() - half:+.3f}, {less.mean() + half:+.3f}]"


def epochs(record: dict[str, Any]) -> Iterator[str]:
    given, rows = record["settings"], record["rows"]
    last, seeds = given["at"][-1], given["seeds"]
    yield "## Fewer epochs, with which activation?"
    rates, gains = numbers(given["learning_rates"]), numbers(given["gains"])
    budgets = ", ".join(map(str, given["at"]))
    yield f"""\
An MLP 3 x 64 on {len(rows)} tables that come with packages, at most {given["rows"]:,} rows to train and
tune on. Every activation gets the same grid, learning rate {{{rates}}} x gain
{{{gains}}}, and a cosine schedule for each budget of {budgets}
epochs. The target of a table is the score on held-out rows of tuned ReLU after {last} epochs: accuracy,
or R^2 where numbers are predicted. An activation is there at the first budget whose median over
{seeds} fresh seeds has it. In brackets the 95 % interval: over the tables by the sign test, of a table
by a bootstrap over the seeds."""
    yield f"{source(record)}."
    yield table(
        ["activation", f"median of ReLU's {last} epochs", "at most half of them",
         "over 1.1 x the best rival's"],
        [
            (NAMES[v["activation"]], ratio([v["median"], *v["interval"]]),
             f"{v['half']} of {len(rows)} tables", ", ".join(v["slower"]) or "none")
            for v in record["verdicts"]
        ],
    )  # fmt: skip
    yield f"""\
ReLU, too, often has its score of {last} epochs on a shorter schedule. The best rival is the fastest
of ReLU, GELU, SiLU and sine on each table by itself, in hindsight. Epochs to the target; —: not in
{last}."""
    yield table(
        ["table", "target", *NAMES.values(), "best rival", *(f"{name} / it" for name in FOLDS.values())],
        [
            (row["table"], f"{row['metric']} {row['target']:.3f}",
             *(f"{row['epochs'][a]:g}" if row["epochs"][a] else "—" for a in NAMES),
             NAMES[row["rival"]], *(ratio(row["of_rival"][a]) for a in FOLDS))
            for row in rows
        ],
    )  # fmt: skip
    yield f"Median score on held-out rows after {' and '.join(map(str, SHOWN))} epochs."
    places = [given["at"].index(budget) for budget in SHOWN]
    yield table(
        ["table", *NAMES.values()],
        [
            (row["table"], *("; ".join(score(row["scores"][a][i][0]) for i in places) for a in NAMES))
            for row in rows
        ],
    )


def ratio(found: Sequence[float | None]) -> str:
    """ "0.25 [0.19, —]"."""
    value, low, high = ("—" if v is None else f"{v:.2f}" for v in found)
    return f"{value} [{low}, {high}]"


def score(median: float | None) -> str:
    return "diverged" if median is None else f"{median:.3f}"


if __name__ == "__main__":
    main()
