"""What the trials of half_the_loss.py say: points lost, differences, ratios, whether targets are met."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from unknot.core.console import print_table

Record = dict[str, Any]
Cell = tuple[str, str, float]  # set, net, share
SETS = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cats_vs_dogs": "cats vs dogs"}
NETS = {"cnn": "CNN", "resnet": "ResNet"}
METHODS = (
    "before", "fast", "balanced", "best", "balanced, polish 100", "best, polish 300", "L1", "Taylor",
    "torch-pruning", "GRAIL, L1", "GRAIL, surgeon", "OSSCAR", "folding",
)  # fmt: skip
BASELINES = METHODS[6:]
COMPARED = ("balanced", "balanced, polish 100")  # with every baseline
RATIOS = {("resnet", "balanced"): 0.6, ("resnet", "balanced, polish 100"): 0.4,
          ("cnn", "balanced"): 0.8, ("cnn", "balanced, polish 100"): 0.6}  # fmt: skip
MOST_LOST = {"cifar10": 1.0, "fashion_mnist": 0.3, "cats_vs_dogs": 0.5}  # ResNets, half of the MACs
BETTER_ON = 9  # of twelve


def summary(records: Iterable[Record]) -> Record:
    """``{"originals", "cells", "against", "targets"}``, of all seeds that a method is done on."""
    records = sorted(records, key=lambda r: r["seed"])
    original = {(r["set"], r["net"], r["seed"]): r for r in records if r["kind"] == "original"}
    lost: dict[tuple[Cell, str, bool], dict[int, float]] = {}
    removed: dict[tuple[Cell, str], list[float]] = {}
    for r in records:
        if r["kind"] == "original" or r["criterion"] == "original":
            continue
        cell, after = (r["set"], r["net"], r["share"]), r["kind"] == "trained"
        base = original[r["set"], r["net"], r["seed"]]["accuracy"]
        of_seed = lost.setdefault((cell, r["criterion"], after), {})
        of_seed[r["seed"]] = 100 * (base - r["accuracy"])
        if not after:
            removed.setdefault((cell, r["criterion"]), []).append(r["removed"])
    return {
        "originals": [
            _original(pair, original, records) for pair in dict.fromkeys(k[:2] for k in original)
        ],
        "cells": [
            {**_named(cell), "method": method, "trained": after, "seeds": list(of_seed),
             "lost": [round(v, 3) for v in of_seed.values()], **_spread(list(of_seed.values())),
             "removed": [round(f(removed.get((cell, method), [0.0])), 3) for f in (min, max)]}
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


def _spread(values: Sequence[float]) -> Record:
    return {"median": round(statistics.median(values), 3), "interval": interval(values)}


def interval(values: Sequence[float]) -> list[float]:
    """Mean, low, high: the 95 % interval of Student's t; of one value no more than itself."""
    mean = statistics.mean(values)
    half = 0.0
    if len(values) > 1:
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


def _ratios(lost: dict[tuple[Cell, str, bool], dict[int, float]]) -> list[Record]:
    """Of the losses, over that of the earlier version."""
    found = []
    for (cell, method, after), of_seed in sorted(lost.items(), key=_order):
        base = lost.get((cell, "before", False), {})
        ours, before = _paired(of_seed, base)
        if ours and not after and method in METHODS[1:6]:
            found.append({**_named(cell), "method": method, "ratio": ratio_interval(ours, before)})
    return found


def _against(lost: dict[tuple[Cell, str, bool], dict[int, float]]) -> list[Record]:
    """Paired differences: points that a baseline loses more than ours; above 0 ours is better."""
    found = []
    for (cell, method, after), of_seed in sorted(lost.items(), key=_order):
        for ours in COMPARED if method in (*BASELINES, "before") else ():
            theirs, own = _paired(of_seed, lost.get((cell, ours, after), {}))
            if own:
                more = interval([t - o for t, o in zip(theirs, own, strict=True)])
                found.append(
                    {**_named(cell), "ours": ours, "baseline": method, "trained": after, "more": more}
                )
    return found


def targets(rows: Record) -> list[tuple[str, str, str, str]]:
    """What was to be shown: target, asked, found, whether it is met; "" where it is not done."""
    found = []
    for (net, method), most in RATIOS.items():
        for name, shown in SETS.items():
            of = [r for r in rows["ratios"] if _is(r, set=name, net=net, method=method, share=0.75)]
            words = f"{shown}, {NETS[net]}, 75 %: loss of {method}, of that before"
            ratio = of[0]["ratio"] if of else None
            text = "" if ratio is None else f"{ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]"
            found.append((words, f"<= {most:.2f}", text, "" if ratio is None else _met(ratio[0] <= most)))
    for name, points in MOST_LOST.items():
        where = {
            "set": name,
            "net": "resnet",
            "share": 0.5,
            "method": "best, polish 300",
            "trained": False,
        }
        of = [r for r in rows["cells"] if _is(r, **where)]
        words = f"{SETS[name]}, ResNet, 50 %: points lost by best, polish 300, median"
        text = f"{of[0]['median']:.2f}" if of else ""
        found.append((words, f"<= {points:g}", text, _met(of[0]["median"] <= points) if of else ""))
    for ours in COMPARED:
        for baseline in BASELINES:
            found.append(_verdict(rows, ours, baseline))
    return found


def _verdict(rows: Record, ours: str, baseline: str) -> tuple[str, str, str, str]:
    of = [r["more"] for r in rows["against"] if _is(r, ours=ours, baseline=baseline, trained=False)]
    better, worse = sum(low > 0 for _, low, _ in of), sum(high < 0 for *_, high in of)
    behind = sum(mean < 0 for mean, *_ in of)
    text = f"better on {better}, worse on {worse} of {len(of)}; mean behind on {behind}" if of else ""
    met = _met(worse == 0 and better >= BETTER_ON) if len(of) == 12 else ""
    return f"{ours} against {baseline}", f"better on {BETTER_ON} of 12, worse on none", text, met


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _is(row: Record, **where: Any) -> bool:
    return all(row[name] == value for name, value in where.items())


def lost_table(rows: Record, share: float, trained: bool) -> tuple[list[str], list[list[str]]]:
    """A row a method, a column a pair: the median, mean and its interval."""
    pairs = [(s, n) for s in SETS for n in NETS]
    lines = []
    for method in METHODS:
        cells = []
        for name, net in pairs:
            where = {"set": name, "net": net, "share": share, "method": method, "trained": trained}
            of = [r for r in rows["cells"] if _is(r, **where)]
            mean, low, high = of[0]["interval"] if of else (0, 0, 0)
            cells.append(f"{of[0]['median']:.2f}; {mean:.2f} [{low:.2f}, {high:.2f}]" if of else "")
        if any(cells):
            lines.append([method, *cells])
    if trained:
        spent = {
            (r["set"], r["net"]): statistics.median(r["trained"])
            for r in rows["originals"]
            if r["trained"]
        }
        lines.append(["the original, as long", *(f"{spent[p]:.2f}" if p in spent else "" for p in pairs)])
    return ["", *(f"{SETS[s]}, {NETS[n]}" for s, n in pairs)], lines


def against_table(
    rows: Record, share: float, ours: str, trained: bool
) -> tuple[list[str], list[list[str]]]:
    """Points that each baseline loses more than ours."""
    pairs = [(s, n) for s in SETS for n in NETS]
    lines = []
    for baseline in ("before", *BASELINES):
        cells = []
        for name, net in pairs:
            where = {"set": name, "net": net, "share": share, "ours": ours, "baseline": baseline}
            of = [r["more"] for r in rows["against"] if _is(r, **where, trained=trained)]
            cells.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*of[0]) if of else "")
        if any(cells):
            lines.append([baseline, *cells])
    return ["", *(f"{SETS[s]}, {NETS[n]}" for s, n in pairs)], lines


def ratio_table(rows: Record, share: float) -> tuple[list[str], list[list[str]]]:
    """Loss over that of the earlier version."""
    pairs = [(s, n) for s in SETS for n in NETS]
    lines = []
    for method in METHODS[1:6]:
        cells = []
        for name, net in pairs:
            of = [r for r in rows["ratios"] if _is(r, set=name, net=net, share=share, method=method)]
            ratio = of[0]["ratio"] if of else None
            cells.append("" if ratio is None else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio))
        if any(cells):
            lines.append([method, *cells])
    return ["", *(f"{SETS[s]}, {NETS[n]}" for s, n in pairs)], lines


def removed_range(rows: Record) -> list[float]:
    """How far the shares of the MACs that went are from those asked, lowest and highest."""
    off = [r["removed"][i] - r["share"] for i in (0, 1) for r in rows["cells"] if not r["trained"]]
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
        print_table(f"{share:.0%}: loss, of that before", *ratio_table(rows, share))
    print_table("Targets", ["", "asked", "found", "met"], targets(rows))
