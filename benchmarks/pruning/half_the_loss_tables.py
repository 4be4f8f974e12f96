"""What the trials of half_the_loss.py say: points lost, differences, ratios, whether targets are met."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from unknot.core.console import print_table

Record = dict[str, Any]
Cell = tuple[str, str, float]  # set, net, share
Lost = dict[tuple[Cell, str, bool], dict[int, float]]  # {(cell, method, trained): {seed: points}}
SETS = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cats_vs_dogs": "cats vs dogs"}
NETS = {"cnn": "CNN", "resnet": "ResNet"}
PAIRS = [(s, n) for s in SETS for n in NETS]
BEFORE = ("before", "before, uk.shrink")  # on all images; on as many as it took of those given
OURS = ("fast", "balanced", "best", "balanced, polish 100", "best, polish 300")
BASELINES = ("L1", "Taylor", "torch-pruning", "GRAIL, L1", "GRAIL, surgeon", "OSSCAR", "folding")
METHODS = (*BEFORE, *OURS, *BASELINES)
COMPARED = ("balanced", "balanced, polish 100")  # with every baseline
RATIOS = {("resnet", "balanced"): 0.6, ("resnet", "balanced, polish 100"): 0.4,
          ("cnn", "balanced"): 0.8, ("cnn", "balanced, polish 100"): 0.6}  # fmt: skip
MOST_LOST = {"cifar10": 1.0, "fashion_mnist": 0.3, "cats_vs_dogs": 0.5}  # ResNets, half of the MACs
BETTER_ON = 9  # of twelve
FEWEST = 5  # seeds, of which an interval is told


def summary(records: Iterable[Record]) -> Record:
    """``{"originals", "cells"}``: of each cell the points that every method lost, a number a seed.

    None where a seed is not done; "removed" is the least and the most of the MACs that went.
    """
    records = sorted(records, key=lambda r: r["seed"])
    original = {(r["set"], r["net"], r["seed"]): r for r in records if r["kind"] == "original"}
    seeds = sorted({seed for *_, seed in original})
    cells: dict[Cell, dict[str, Record]] = {}
    for r in records:
        if r["kind"] == "original" or r["criterion"] == "original":
            continue
        base = original[r["set"], r["net"], r["seed"]]["accuracy"]
        of_cell = cells.setdefault((r["set"], r["net"], r["share"]), {})
        found = {"lost" if r["kind"] == "pruned" else "trained": r["accuracy"]}
        _add(of_cell, r["criterion"], r, {k: 100 * (base - v) for k, v in found.items()}, seeds)
        if "shrink" in r:
            _add(of_cell, BEFORE[1], r, {"lost": 100 * (base - r["shrink"])}, seeds)
    return {
        "seeds": seeds,
        "originals": [
            _original(pair, original, records) for pair in dict.fromkeys(k[:2] for k in original)
        ],
        "cells": [{**_named(cell), "methods": methods} for cell, methods in sorted(cells.items())],
    }


def _add(
    of_cell: dict[str, Record], method: str, trial: Record, points: dict[str, float], seeds: list[int]
) -> None:
    row = of_cell.setdefault(method, {})
    for name, value in points.items():
        row.setdefault(name, [None] * len(seeds))[seeds.index(trial["seed"])] = round(value, 3)
    if "removed" in trial:
        low, high = row.get("removed", (1.0, 0.0))
        removed = round(trial["removed"], 4)
        row["removed"] = [min(low, removed), max(high, removed)]


def fuller(earlier: Record, records: Sequence[Record]) -> list[Record]:
    """Of each seed the trials of the run that did more of it: this one, or that of an earlier summary."""
    runs: list[dict[int, list[Record]]] = [{}, {}]
    for run, trials in zip(runs, (records, trials_of(earlier) if earlier else []), strict=True):
        for trial in trials:
            run.setdefault(trial["seed"], []).append(trial)
    seeds = sorted({seed for run in runs for seed in run})
    return [trial for seed in seeds for trial in max((run.get(seed, []) for run in runs), key=len)]


def trials_of(record: Record) -> list[Record]:
    """The trials that a summary is of, accuracies to a thousandth of a point."""
    trials, base = [], {}
    for of_pair in record["originals"]:
        pair = {"set": of_pair["set"], "net": of_pair["net"]}
        for seed, accuracy in zip(record["seeds"], of_pair["accuracy"], strict=True):
            base[pair["set"], pair["net"], seed] = accuracy
            one = {"kind": "original", **pair, "seed": seed, "accuracy": accuracy}
            trials.append(one | {"macs": of_pair["macs"]})
        for seed, points in zip(record["seeds"], of_pair["trained"], strict=False):
            one = {"kind": "trained", **pair, "seed": seed, "criterion": "original", "share": 0}
            trials.append(one | {"accuracy": base[pair["set"], pair["net"], seed] - points / 100})
    for cell in record["cells"]:
        for method, row in cell["methods"].items():
            for name, kind in (("lost", "pruned"), ("trained", "trained")):
                for i, (seed, points) in enumerate(zip(record["seeds"], row.get(name, ()), strict=False)):
                    if points is None or method == BEFORE[1]:
                        continue
                    accuracy = base[cell["set"], cell["net"], seed] - points / 100
                    where = {"set": cell["set"], "net": cell["net"], "seed": seed}
                    one = {"kind": kind, **where, "criterion": method, "share": cell["share"]}
                    one["accuracy"] = accuracy
                    if name == "lost" and "removed" in row:
                        one["removed"] = row["removed"][i > 0]
                    if method == BEFORE[0] and BEFORE[1] in cell["methods"]:
                        other = cell["methods"][BEFORE[1]]["lost"][i]
                        one["shrink"] = base[cell["set"], cell["net"], seed] - other / 100
                    trials.append(one)
    return trials


def expanded(record: Record) -> Record:
    """A summary with what follows: ``{"originals", "cells", "ratios", "against"}``."""
    lost: Lost = {}
    removed = {}
    for of_cell in record["cells"]:
        cell = (of_cell["set"], of_cell["net"], of_cell["share"])
        for method, row in of_cell["methods"].items():
            removed[cell, method] = row.get("removed")
            for name, after in (("lost", False), ("trained", True)):
                if name in row:
                    of_seed = zip(record["seeds"], row[name], strict=True)
                    lost[cell, method, after] = {s: v for s, v in of_seed if v is not None}
    return {
        "seeds": record["seeds"],
        "originals": record["originals"],
        "cells": [
            {**_named(cell), "method": method, "trained": after, "lost": list(of_seed.values()),
             "removed": removed[cell, method]}
            for (cell, method, after), of_seed in sorted(lost.items(), key=_order)
        ],
        "ratios": _ratios(lost),
        "against": _against(lost),
    }  # fmt: skip


def _order(item: tuple[tuple[Cell, str, bool], Any]) -> tuple[Any, ...]:
    (name, net, share), method, after = item[0]
    return list(SETS).index(name), net, share, after, METHODS.index(method)


def _named(cell: Cell) -> Record:
    return dict(zip(("set", "net", "share"), cell, strict=True))


def _original(
    pair: tuple[str, str], original: dict[tuple[str, str, int], Record], records: Sequence[Record]
) -> Record:
    found = [r for key, r in original.items() if key[:2] == pair]
    base = {r["seed"]: r["accuracy"] for r in found}
    longer = [
        100 * (base[r["seed"]] - r["accuracy"]) for r in records
        if r["kind"] == "trained" and r["criterion"] == "original" and (r["set"], r["net"]) == pair
    ]  # fmt: skip
    return {
        "set": pair[0], "net": pair[1], "macs": found[0]["macs"],
        "accuracy": [round(accuracy, 4) for accuracy in base.values()],
        "trained": [round(points, 3) for points in longer],
    }  # fmt: skip


def interval(values: Sequence[float]) -> list[float]:
    """Mean, low, high: the 95 % interval of Student's t."""
    mean = statistics.mean(values)
    error = statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return [round(v, 3) for v in (mean, mean - half, mean + half)]


def ratio_interval(over: Sequence[float], under: Sequence[float]) -> list[float] | None:
    """Mean over mean, and its 95 % interval: all resamples of the pairs, each once.

    None where a resample has a denominator that is not positive: then there is no loss to be a share of.
    """
    pairs = np.array([over, under]).T
    means = pairs[list(itertools.product(range(len(pairs)), repeat=len(pairs)))].mean(1)
    if (means[:, 1] <= 0).any():
        return None
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    return [round(float(v), 3) for v in (pairs[:, 0].mean() / pairs[:, 1].mean(), low, high)]


def _paired(one: dict[int, float], other: dict[int, float]) -> tuple[list[float], list[float]]:
    seeds = [s for s in one if s in other]
    return [one[s] for s in seeds], [other[s] for s in seeds]


def _ratios(lost: Lost) -> list[Record]:
    """Of the losses, over that of the earlier version."""
    found = []
    for (cell, method, after), of_seed in sorted(lost.items(), key=_order):
        for before in BEFORE if method in OURS and not after else ():
            pairs = _paired(of_seed, lost.get((cell, before, False), {}))
            if len(pairs[0]) >= FEWEST:
                ratio = {"seeds": len(pairs[0]), "before": before, "ratio": ratio_interval(*pairs)}
                found.append({**_named(cell), "method": method, **ratio})
    return found


def _against(lost: Lost) -> list[Record]:
    """Paired differences: points that a baseline loses more than ours; above 0 ours is better."""
    found = []
    for (cell, method, after), of_seed in sorted(lost.items(), key=_order):
        for ours in COMPARED if method in (*BEFORE, *BASELINES) else ():
            theirs, own = _paired(of_seed, lost.get((cell, ours, after), {}))
            if len(own) >= FEWEST:
                more = interval([t - o for t, o in zip(theirs, own, strict=True)])
                names = {"ours": ours, "baseline": method, "trained": after}
                found.append({**_named(cell), **names, "seeds": len(own), "more": more})
    return found


def targets(rows: Record) -> list[tuple[str, str, str, str]]:
    """What was to be shown: target, asked, found, whether it is met; "" where not all seeds are done."""
    found = []
    for (net, method), most in RATIOS.items():
        for name, shown in SETS.items():
            words = f"{shown}, {NETS[net]}, 75 %: loss of {method}, of that before"
            found.append(
                (words, f"<= {most:.2f}", *_ratio_verdict(rows, (name, net, 0.75), method, most))
            )
    for name, points in MOST_LOST.items():
        where = {"set": name, "net": "resnet", "share": 0.5, "method": "best, polish 300"}
        of = [r["lost"] for r in rows["cells"] if _is(r, **where, trained=False)]
        words = f"{SETS[name]}, ResNet, 50 %: points lost by best, polish 300, median"
        median = statistics.median(of[0]) if of and len(of[0]) >= FEWEST else None
        text, met = ("", "") if median is None else (f"{median:.2f}", _met(median <= points))
        found.append((words, f"<= {points:g}", text, met))
    for ours in COMPARED:
        for baseline in BASELINES:
            found.append(_verdict(rows, ours, baseline))
    return found


def _ratio_verdict(rows: Record, cell: Cell, method: str, most: float) -> tuple[str, str]:
    """Judged by the stronger of the two ways to run the earlier version, whose ratio is the higher."""
    of = [r for r in rows["ratios"] if _is(r, **_named(cell), method=method) and r["ratio"]]
    if not of:
        return "", ""
    texts = [f"{ratio_text(r['ratio'])} of {r['before']}" for r in of]
    done = all(r["seeds"] == len(rows["seeds"]) for r in of)
    return "; ".join(texts), _met(max(r["ratio"][0] for r in of) <= most) if done else ""


def _verdict(rows: Record, ours: str, baseline: str) -> tuple[str, str, str, str]:
    where = {"ours": ours, "baseline": baseline, "trained": False}
    of = [r["more"] for r in rows["against"] if _is(r, **where)]
    done = [r for r in rows["against"] if _is(r, **where, seeds=len(rows["seeds"]))]
    better, worse = sum(low > 0 for _, low, _ in of), sum(high < 0 for *_, high in of)
    behind = sum(mean < 0 for mean, *_ in of)
    text = f"better on {better}, worse on {worse} of {len(of)}; mean behind on {behind}" if of else ""
    met = _met(worse == 0 and better >= BETTER_ON) if len(done) == 12 else ""
    return f"{ours} against {baseline}", f"better on {BETTER_ON} of 12, worse on none", text, met


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _is(row: Record, **where: Any) -> bool:
    return all(row[name] == value for name, value in where.items())


def lost_table(rows: Record, share: float, trained: bool) -> tuple[list[str], list[list[str]]]:
    """A row a method, a column a pair: the median, mean and its interval."""

    def cell(name: str, net: str, method: str) -> str:
        where = {"set": name, "net": net, "share": share, "method": method, "trained": trained}
        of = [r["lost"] for r in rows["cells"] if _is(r, **where)]
        if not of:
            return ""
        if len(of[0]) < FEWEST:
            return f"{statistics.median(of[0]):.2f} (n = {len(of[0])})"
        mean, low, high = interval(of[0])
        return f"{statistics.median(of[0]):.2f}; {mean:.2f} [{low:.2f}, {high:.2f}]"

    head, lines = _table(METHODS, cell)
    if trained:
        longer = {(r["set"], r["net"]): r["trained"] for r in rows["originals"] if r["trained"]}
        cells = [f"{statistics.median(longer[p]):.2f}" if p in longer else "" for p in PAIRS]
        lines.append(["the original, as long", *cells])
    return head, lines


def against_table(
    rows: Record, share: float, ours: str, trained: bool
) -> tuple[list[str], list[list[str]]]:
    """Points that each baseline loses more than ours."""

    def cell(name: str, net: str, baseline: str) -> str:
        where = {"set": name, "net": net, "share": share, "ours": ours, "baseline": baseline}
        of = [r["more"] for r in rows["against"] if _is(r, **where, trained=trained)]
        return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*of[0]) if of else ""

    return _table((*BEFORE, *BASELINES), cell)


def ratio_table(rows: Record, share: float, before: str) -> tuple[list[str], list[list[str]]]:
    """Loss over that of the earlier version."""

    def cell(name: str, net: str, method: str) -> str:
        where = {"set": name, "net": net, "share": share, "method": method, "before": before}
        of = [r["ratio"] for r in rows["ratios"] if _is(r, **where)]
        return ratio_text(of[0]) if of and of[0] else ""

    return _table(OURS, cell)


def ratio_text(ratio: Sequence[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratio)


def _table(
    names: Sequence[str], cell: Callable[[str, str, str], str]
) -> tuple[list[str], list[list[str]]]:
    """A column a pair, a row a name of which there is anything."""
    lines = [[name, *(cell(s, n, name) for s, n in PAIRS)] for name in names]
    head = ["method", *(f"{SETS[s]}, {NETS[n]}" for s, n in PAIRS)]
    return head, [row for row in lines if any(row[1:])]


def removed_range(rows: Record) -> list[float]:
    """How far the shares of the MACs that went are from those asked, lowest and highest."""
    off = [r["removed"][i] - r["share"] for i in (0, 1) for r in rows["cells"] if r["removed"]]
    return [min(off), max(off)]


def show(rows: Record) -> None:
    """The tables, on the terminal."""
    for share in (0.75, 0.5):
        for trained in (False, True):
            words = "and three epochs" if trained else "one shot"
            print_table(
                f"{share:.0%} of the MACs, {words}: points lost", *lost_table(rows, share, trained)
            )
            for ours in COMPARED:
                head, lines = against_table(rows, share, ours, trained)
                if lines:
                    print_table(f"{share:.0%}, {words}: points lost more than {ours}", head, lines)
        for before in BEFORE:
            print_table(f"{share:.0%}: loss, of that of {before}", *ratio_table(rows, share, before))
    print_table("Targets", ["", "asked", "found", "met"], targets(rows))
