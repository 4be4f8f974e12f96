"""docs/convergence.md from benchmarks/results/activation.json: protocol, tables, and how they read.

    python benchmarks/activations/activation.py && python benchmarks/activations/activation_docs.py

Replaces what stands between the two markers in docs/convergence.md. What it says in words is counted from
the figures too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unknot.core.files import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NAMES = {
    "zfold": "**ZFold**", "smooth_zfold": "**SmoothZFold**", "qfold2": "**QFold(2)**",
    "qfold2_centred": "**QFold(2), centred**", "qfold2_held": "QFold(2) held flat", "relu": "ReLU",
    "leaky_relu": "leaky ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU", "mish": "Mish",
    "tanh": "tanh", "hardtanh": "hardtanh", "sine": "sine", "gcu": "GCU", "cone": "Cone",
    "parabolic_cone": "Parabolic Cone", "euaf": "EUAF", "peuaf": "PEUAF",
    "squared_leaky_relu": "squared leaky ReLU",
}  # fmt: skip
HELD = {"zfold": "hardtanh", "qfold2": "qfold2_held"}  # the flat control of each
Rows = dict[tuple[str, str], dict[str, Any]]


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/activation.json").read_text())
    runs = [record, *record.get("earlier", ())]
    text = []
    for run in runs:
        if len(runs) > 1:
            sets = listed([f"`{name}`" for name in run["total_betti"]])
            text.append(f"**{sets}: learning rates {{{numbers(run['settings']['learning_rates'])}}}.**")
        text += [part for part in parts(run) if part]
    if len(runs) == 1:  # it counts over all sets
        text += ["## Reading", "\n".join(reading(record))]
    page = ROOT / "docs/convergence.md"
    whole = page.read_text()
    before, after = whole[: whole.index(BEGIN) + len(BEGIN)], whole[whole.index(END) :]
    write_text(page, before + "\n" + "\n\n".join(text) + "\n" + after)


def parts(record: dict[str, Any]) -> list[str]:
    """What the page says of the sets of one run."""
    return [
        protocol(record),
        "## Figures",
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


def records(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["values"]]


def by_cell(record: dict[str, Any], split: str) -> Rows:
    """Rows by (activation, set); ReLU as most people start it is "usual"."""
    rows = {(row["activation"], row["set"]): row for row in records(record[split]["rows"])}
    usual = {("usual", row["set"]): row for row in records(record[split]["relu_as_usual"])}
    return rows | usual


def plain(name: str) -> str:
    return NAMES[name].strip("*")


def listed(items: Sequence[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.0e}".replace("e-0", "e-") if v < 0.1 else f"{v:g}" for v in values)


def protocol(record: dict[str, Any]) -> str:
    given = record["settings"]
    usual, rivals, folds, flat = (
        [plain(name) for name in given[kind]] for kind in ("usual", "rivals", "folds", "controls")
    )
    count = len(record["total_betti"])
    sets = f"{count} synthetic set{'s' * (count > 1)}"
    total = len({row["activation"] for row in records(record["train"]["rows"])})
    rates, gains = numbers(given["learning_rates"]), numbers(given["gains"])
    seeds, cap = record["train"]["verdicts"][0]["seeds"], record["cap"]
    return f"""\
{sets} whose Betti numbers are known, and {total} activations, every one tuned alike:

- usual ones: {listed(usual)};
- published before, and many-to-one too: {listed(rivals)};
- folds: {listed(folds)};
- flat controls: {listed(flat)}, and hardtanh for ZFold. A control is the curve of a fold between
  its innermost turns, held flat beyond them. It separates what the folding does from what the
  shape of the curve and its initialisation do.

Protocol: an MLP of 6 hidden layers of 50, Adam, batches of 128, 20 % of the points held out as test
set. Learning rate {{{rates}}} x gain {{{gains}}}, the same grid for
every activation; its cell is chosen on three seeds that are not reported, by the epochs to 99 % train
accuracy; {seeds} fresh seeds are run on it, for at most {cap} epochs. "— (3/10)": three of ten seeds
arrived, so that the median is not reached. *ReLU as usual* is the one most people start from:
learning rate 1e-3, He initialisation, no tuning.

The fold of a set is chosen among the {len(folds)} by the selection seeds, as one more thing to tune. The
*best baseline* is the best of the other {len(usual + rivals)} **on the reported seeds**: chosen in
hindsight, in its favour."""


def note(record: dict[str, Any]) -> str:
    return f"{source(record)}; seed by seed in the JSON file."


def source(record: dict[str, Any]) -> str:
    """Its command, date and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"`{record['command']}`, {record['date']}, {versions}"


def verdicts(record: dict[str, Any]) -> str:
    on_test = {v["set"]: v for v in record["test"]["verdicts"]}
    cells, rows = by_cell(record, "test"), []
    for v in record["train"]["verdicts"]:
        test = on_test[v["set"]]
        arrives = cells[test["baseline"], v["set"]]["median"] is not None
        rows.append(
            (v["set"], record["total_betti"][v["set"]], plain(v["fold"]),
             NAMES[v["baseline"]], ratio(v["against_baseline"]), ratio(v["against_usual"]),
             f"{v['reached']}/{v['seeds']}", NAMES[test["baseline"]] if arrives else "none arrives",
             ratio(test["against_baseline"]),
             f"{test['reached']}/{test['seeds']}")
        )  # fmt: skip
    return table(
        ["set", "total Betti number", "fold", "best baseline, train", "x fewer than it",
         "x fewer than ReLU as usual", "reached 99 % train", "best baseline, test", "x fewer than it",
         "reached 99 % test"],
        rows,
    )  # fmt: skip


def matrix(record: dict[str, Any], split: str) -> str:
    sets, rows = list(record["total_betti"]), by_cell(record, split)
    names = NAMES | {"usual": "ReLU, as usual"}
    lines = [
        [text, *(spread(rows[name, s]) if (name, s) in rows else "not run" for s in sets)]
        for name, text in names.items()
        if any((name, s) in rows for s in sets)
    ]
    return table(["activation", *sets], lines)


def falls(record: dict[str, Any]) -> str:
    sets = [v["set"] for v in record["train"]["verdicts"]]
    found = fall_rows(record)
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
        ["set", "number", "ReLU: before → after", "epochs to the fall", "ZFold: before → after",
         "epochs to the fall", "QFold(2): before → after", "epochs to the fall"],
        rows,
    )  # fmt: skip


def fall_rows(record: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = records(record["untangling"])
    return {(row["set"], row["activation"], row["which"]): row for row in rows}


def predictions(record: dict[str, Any]) -> str:
    if not record["prediction"]:
        return ""
    lines = [
        f"{which}: rho = {found['rho']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        for which, found in record["prediction"].items()
    ]
    n = next(iter(record["prediction"].values()))["n"]
    return (
        f"Rank correlation (Spearman, 95 % bootstrap interval) between the epochs to the fall and the "
        f"epochs to 99 % train accuracy, over all {n} cells of set and activation: {'; '.join(lines)}."
    )


def reading(record: dict[str, Any]) -> list[str]:
    """What the tables say, in words."""
    given, cap, rows = record["settings"], record["cap"], by_cell(record, "train")
    found, sets = record["train"]["verdicts"], list(record["total_betti"])

    def times(slow: str, fast: str) -> list[float]:
        """How many times fewer epochs, on the sets where both medians were reached."""
        pairs = [(rows[slow, s]["median"], rows[fast, s]["median"]) for s in sets]
        return [a / b for a, b in pairs if a is not None and b is not None]

    ratios = [v["against_baseline"]["ratio"] for v in found]
    short = [
        f"`{v['set']}` ({ratio(v['against_baseline'])})"
        for v, value in zip(found, ratios, strict=True)
        if value < 2
    ]
    best = Counter(plain(v["baseline"]) for v in found).most_common()
    lines = [
        f"**Against the best of {len(given['usual'] + given['rivals'])} tuned baselines in hindsight, "
        f"{span(ratios)} times fewer epochs** to 99 % train accuracy; less than 2 times on "
        f"{listed(short) if short else 'no set'}. The best baseline is "
        f"{listed([f'{name} on {count}' for name, count in best])} of {len(sets)} sets."
    ]
    against: dict[str, float] = {}
    for v in found:
        usual = [rows[name, v["set"]]["median"] for name in given["usual"]]
        quickest = min(math.inf if m is None else m for m in usual)
        against[v["set"]] = quickest / rows[v["fold"], v["set"]]["median"]
    never = [f"`{name}`" for name, value in against.items() if value == math.inf]
    lines.append(
        f"Against the best of the {len(given['usual'])} usual ones alone, "
        f"{span([value for value in against.values() if value < math.inf])} times"
        + (f"; on {listed(never)} no median of theirs arrives in {cap} epochs." if never else ".")
    )
    least, *_, most = sorted(v["against_usual"]["ratio"] for v in found)
    lines.append(
        f"**Against ReLU as most people start it, {least:.1f} to {most:.0f} times**, or more where that "
        "never arrives."
    )
    test = by_cell(record, "test")
    sure = [
        plain(name)
        for name in dict.fromkeys(name for name, _ in rows if name != "usual")
        if all(r[name, s]["reached"] == r[name, s]["seeds"] for r in (rows, test) for s in sets)
    ]
    lines.append(
        "All seeds reach 99 % on train and on test on all sets with "
        f"{listed(sure) + ' alone' if sure else 'none'}."
    )
    for fold, held in HELD.items():
        where = [f"`{s}`" for s in sets if rows[held, s]["median"] is None]
        lines.append(
            f"**The fold or its curve?** {plain(held)}, the flat control of {plain(fold)}, takes "
            f"{span(times(held, fold))} times its epochs where it arrives"
            f"{f', and does not on {listed(where)}' if where else ''}."
        )
    tuned = [100 / value for value in times("usual", "relu")]
    lines.append(
        f"**Tuning matters as much as the name.** ReLU at its best cell takes {min(tuned):.0f} to "
        f"{max(tuned):.0f} % of the epochs of ReLU as usual."
    )
    return [f"- {line}" for line in (*lines, untangling(record))]


def untangling(record: dict[str, Any]) -> str:
    rows, sets = fall_rows(record), list(record["total_betti"])

    def moved(name: str, which: str, sign: int) -> int:
        """On how many sets it moves by more than a tenth."""
        pairs = [(rows[s, name, which]["before"], rows[s, name, which]["after"]) for s in sets]
        return sum(sign * (after - before) > before / 10 for before, after in pairs)

    names = ("relu", "zfold", "qfold2")
    down, up = ([moved(n, which, sign) for n in names] for which, sign in (("b0", -1), ("b1", 1)))
    counted = [f"{k} sets with {plain(name)}" for k, name in zip(down, names, strict=True)]
    text = (
        "**Do they untangle sooner, as the paper explains it?** From the random to the trained net, b0 "
        f"of the class clouds falls by more than a tenth on {listed(counted)}; b1 rises by as much on "
        f"{listed([str(k) for k in up])} of them."
    )
    if max(down[1:]) < down[0]:
        text += (
            " So the Betti numbers do *not* fall sooner with folds: a random fold net merges before any "
            "training, and then reaches the decision without untangling the data in between."
        )
    return text


def span(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


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
    if not found["ratio"]:
        return "not reached"
    sign = "≥ " if found["bound"] else ""
    return f"{sign}{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(map(str, columns)), ["---"] * len(columns), *[list(map(str, row)) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
