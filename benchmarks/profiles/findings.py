"""The three findings of Naitzat, Zhitnikov and Lim (JMLR 2020) as figures, from the rows of jmlr.py.

omega is the sum of the Betti numbers of both classes, layer by layer from the input to the logits, at
positions from 0 to 1 of the net. Where b2 took too long omega counts as larger than any number.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from unknot.core.console import print_table

Array = NDArray[np.float64]
Samples = dict[tuple[Any, ...], dict[Any, list[float]]]  # {stratum: {group: one number a net}}
PAIRS = (
    ("relu", "tanh"), ("leaky_relu", "tanh"), ("relu", "leaky_relu"),
    ("zfold", "tanh"), ("zfold", "relu"),
)  # fmt: skip
RESAMPLES, ALPHA, FEWEST = 2000, 0.05, 3
SHOWN = (30, 6)  # width and depth of the nets that the documentation shows layer by layer


@dataclass(frozen=True)
class Way:
    """What is counted, where and at which k; ``lasting``: until omega stays low, not until it is."""

    name: str
    stage: str = "trained"
    k: str = "14"
    part: str = "omega"
    lasting: bool = True
    longer: bool = False
    gain: float = 1.0

    @property
    def floor(self) -> int:
        """omega where each class counted is one blob."""
        return 1 if self.part == "class 0" else 2


MAIN = Way("k = 14")
LONGER = Way("trained on after all are right", longer=True)
LOWER, HIGHER = Way("initial weights x 0.6", gain=0.6), Way("initial weights x 2", gain=2.0)
BEFORE = Way("before training", stage="untrained")
BEFORE_B0 = Way("b0 alone, before training", stage="untrained", part="b0")
WAYS = (
    MAIN,
    Way("k = 7", k="7"),
    Way("k = 28", k="28"),
    Way("b0 alone", part="b0"),
    Way("b0 alone, k = 7", k="7", part="b0"),
    Way("b0 alone, k = 28", k="28", part="b0"),
    Way("class 0 alone", part="class 0"),
    Way("first time at half", lasting=False),
    LONGER,
    LOWER,
    HIGHER,
    BEFORE,
    BEFORE_B0,
)
OUTPUTS = (
    *WAYS[:3], BEFORE, LONGER,
    Way("trained on, k = 7", k="7", longer=True), Way("trained on, k = 28", k="28", longer=True),
)  # fmt: skip


def findings(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the findings, keyed "simpler", "faster", "later" and "cells"."""
    return {
        "simpler": [simpler(rows, way, a) for way in OUTPUTS for a in activations(rows)],
        "simpler_by_set": [
            {"set": s, **simpler([r for r in rows if r["set"] == s], MAIN, a)}
            for s in dict.fromkeys(r["set"] for r in rows)
            for a in activations(rows)
        ],
        "faster": [compare(half_shares(rows, way), *pair, way.name) for way in WAYS for pair in PAIRS],
        "faster_by_set": [
            {"set": s, **compare(half_shares([r for r in rows if r["set"] == s], MAIN), *pair, MAIN.name)}
            for s in dict.fromkeys(r["set"] for r in rows)
            for pair in PAIRS
        ],
        "later": later(rows),
        "cells": [cell(row) for row in rows],
    }


def quoted(record: dict[str, Any]) -> dict[str, Any]:
    """What the documentation quotes of a run: findings and layers instead of every net."""
    rows = record["configurations"]
    plain = [row for row in rows if not row["longer"] and row["gain"] == 1]
    nets = [net for row in plain for net in row["nets"]]
    clouds = [betti for net in nets for pair in net[MAIN.stage][MAIN.k] for betti in pair]
    kept = without(record, "configurations")
    too_costly = sum(betti[-1] is None for betti in clouds)
    kept["measured"] = {"nets": len(nets), "clouds": len(clouds), "too_costly": too_costly}
    findings = record["findings"]
    kept["findings"] = {
        "simpler": findings["simpler"],
        "faster": [without(row, "by_stratum") for row in findings["faster"]],
        "faster_by_set": [without(row, "by_stratum") for row in findings["faster_by_set"]],
        "later": [
            without(row, "by_stratum", "last_layer")
            | {"last_third": {d: without(s, "mean", "sd") for d, s in row["last_third"].items()}}
            for row in findings["later"]
        ],
        "cells": [
            without(cell, "late", "test_accuracy", "longer", "gain", "learning_rate")
            | {"half": without(cell["half"], "median", "low", "high")}
            for cell in findings["cells"] if not cell["longer"] and cell["gain"] == 1
        ],
    }  # fmt: skip
    kept["layers"] = [layers(row) for row in plain if (row["width"], row["depth"]) == SHOWN]
    return dict(json.loads(json.dumps(kept), parse_float=lambda text: round(float(text), 5)))


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def layers(row: dict[str, Any]) -> dict[str, Any]:
    """Betti numbers of both classes together and quartiles of omega, from the input to the logits."""
    start = row["input"][MAIN.k]
    nets = [[start, *outputs] for outputs in measured(row, MAIN)]
    betti = [
        [over_nets([[betti[q] for betti in net[i]] for net in nets]) for i in range(len(nets[0]))]
        for q in range(len(start[0]))
    ] if nets else []  # fmt: skip
    omega = np.minimum(np.array(curves(row, MAIN)), 1e9)
    quartiles = np.percentile(omega, [25, 50, 75], axis=0).tolist() if nets else []
    return {"set": row["set"], "activation": row["activation"], "betti": betti, "quartiles": quartiles}


def over_nets(pairs: list[list[int | None]]) -> dict[str, float | int]:
    """Mean and spread of the sums of pairs; how many of them are not known."""
    sums = [sum(b or 0 for b in pair) for pair in pairs if None not in pair]
    if len(sums) < len(pairs):
        return {"nets": len(pairs), "too_costly": len(pairs) - len(sums)}
    return {"nets": len(pairs), "mean": float(np.mean(sums)), "sd": float(np.std(sums, ddof=1))}


def activations(rows: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["activation"] for row in rows))


def measured(row: dict[str, Any], way: Way) -> list[list[list[list[int | None]]]]:
    """``[net][layer][class]``: Betti numbers of the nets of a row that were measured in this way."""
    if (row["longer"], row["gain"]) != (way.longer, way.gain):
        return []
    return [net[way.stage][way.k] for net in row["nets"] if net[way.stage].get(way.k)]


def curves(row: dict[str, Any], way: Way) -> list[Array]:
    """omega, or the part of it that ``way`` counts, at the input and after each layer: one a net."""
    start = row["input"][way.k]
    return [
        np.array([count(pair, way.part) for pair in [start, *layers]]) for layers in measured(row, way)
    ]


def count(pair: list[list[int | None]], part: str) -> float:
    if part == "b0":
        return float(sum(betti[0] or 0 for betti in pair))
    counted = [b for betti in (pair[:1] if part == "class 0" else pair) for b in betti]
    return math.inf if None in counted else float(sum(b or 0 for b in counted))


def half_share(curve: Array, way: Way) -> float:
    """Share of the depth at which omega is half-way from the input's to one blob a class; 1: never."""
    level = (curve[0] + way.floor) / 2
    above = curve > level
    i = int(np.flatnonzero(above)[-1]) if way.lasting else int(np.argmin(above)) - 1
    if i in (-1, len(curve) - 1):
        return 1.0
    step = 1.0 if curve[i] == math.inf else (curve[i] - level) / (curve[i] - curve[i + 1])
    return float((i + step) / (len(curve) - 1))


def late_share(curve: Array, start: float = 2 / 3) -> float:
    """Share of the fall of omega, from input to logits, after ``start`` of the net; nan: no fall."""
    capped = np.minimum(curve, curve[0])
    at = float(np.interp(start * (len(curve) - 1), np.arange(len(curve)), capped))
    fall = capped[0] - capped[-1]
    return float(np.clip((at - capped[-1]) / fall, 0, 1)) if fall > 0 else math.nan


def half_shares(rows: Iterable[dict[str, Any]], way: Way) -> Samples:
    samples: Samples = defaultdict(dict)
    for row in rows:
        shares = [half_share(curve, way) for curve in curves(row, way)]
        samples[row["set"], row["width"], row["depth"]][row["activation"]] = (
            samples[row["set"], row["width"], row["depth"]].get(row["activation"], []) + shares
        )
    return samples


def simpler(rows: list[dict[str, Any]], way: Way, activation: str) -> dict[str, Any]:
    """Finding 1: how simple the logits are, and how often omega rises on the way."""
    nets = [
        (curve, layers[-1])
        for row in rows
        if row["activation"] == activation
        for curve, layers in zip(curves(row, way), measured(row, way), strict=True)
    ]
    if not nets:
        return {"way": way.name, "activation": activation, "nets": 0}
    steps = [(a, b) for curve, _ in nets for a, b in pairwise(curve) if a < math.inf or b < math.inf]
    blobs = [[betti[0] == 1 and not any(betti[1:]) for betti in out] for _, out in nets]
    return {
        "way": way.name,
        "activation": activation,
        "nets": len(nets),
        "blob_class_0": share(b[0] for b in blobs),
        "blob_class_1": share(b[1] for b in blobs),
        "blobs_both": share(all(b) for b in blobs),
        "connected_both": share(all(betti[0] == 1 for betti in out) for _, out in nets),
        "omega_out_median": finite(np.median([curve[-1] for curve, _ in nets])),
        "out_over_in_median": finite(np.median([curve[-1] / curve[0] for curve, _ in nets])),
        "fell": share(curve[-1] < curve[0] for curve, _ in nets),
        "steps_rising": share(b > a for a, b in steps),
        "nets_above_input": share(curve.max() > curve[0] for curve, _ in nets),
        "nets_never_rising": share(not (np.diff(np.minimum(curve, 1e9)) > 0).any() for curve, _ in nets),
    }


def compare(samples: Samples, one: Any, other: Any, way: str) -> dict[str, Any]:
    """Differences of medians (one - other), a stratum each and their mean, with bootstrap intervals.

    A stratum counts with at least three nets on either side. Its p-value is Mann-Whitney's, two-sided,
    after Holm over the strata; the interval of the mean resamples the nets of every stratum.
    """
    strata = [
        (key, np.array(groups[one]), np.array(groups[other]))
        for key, groups in samples.items()
        if min(len(groups.get(one, [])), len(groups.get(other, []))) >= FEWEST
    ]
    head = {"way": way, "one": one, "other": other, "strata": len(strata)}
    if not strata:
        return head
    rng = np.random.default_rng(0)
    drawn = np.array([medians(a, rng) - medians(b, rng) for _, a, b in strata])
    gaps = [float(np.median(a) - np.median(b)) for _, a, b in strata]
    ps = holm([float(mannwhitneyu(a, b).pvalue) for _, a, b in strata])
    low, high = np.percentile(drawn.mean(axis=0), [2.5, 97.5])
    return {
        **head,
        "difference": float(np.mean(gaps)),
        "low": float(low),
        "high": float(high),
        "lower": sum(gap < 0 for gap in gaps),
        "surely_lower": sum(p < ALPHA and gap < 0 for p, gap in zip(ps, gaps, strict=True)),
        "surely_higher": sum(p < ALPHA and gap > 0 for p, gap in zip(ps, gaps, strict=True)),
        "by_stratum": [
            [*key, round(gap, 3), *np.percentile(d, [2.5, 97.5]).round(3).tolist(), round(p, 5)]
            for (key, _, _), gap, d, p in zip(strata, gaps, drawn, ps, strict=True)
        ] if way == MAIN.name else [],
    }  # fmt: skip


def later(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Finding 3: the share of the fall in the last third of the layers, deep against shallow nets."""
    depths = sorted({row["depth"] for row in rows})
    found = []
    for way in (*WAYS[:7], BEFORE, BEFORE_B0):
        for activation in activations(rows):
            samples: Samples = defaultdict(dict)
            last: dict[int, list[float]] = defaultdict(list)
            for row in rows:
                if row["activation"] == activation and curves(row, way):
                    shares = [late_share(curve) for curve in curves(row, way)]
                    kept = [s for s in shares if not math.isnan(s)]
                    samples[row["set"], row["width"]][row["depth"]] = kept
                    last[row["depth"]] += [
                        late_share(c, 1 - 1 / (len(c) - 1)) for c in curves(row, way) if c[-1] < c[0]
                    ]
            pooled = {d: [x for groups in samples.values() for x in groups.get(d, [])] for d in depths}
            found.append({
                "activation": activation,
                "last_third": {str(d): spread(v) for d, v in pooled.items()},
                "last_layer": {str(d): spread(last[d]) for d in depths},
                **compare(samples, depths[-1], depths[0], way.name),
            })  # fmt: skip
    return found


def cell(row: dict[str, Any]) -> dict[str, Any]:
    """A configuration in one line: what was trained, and mean and spread of its figures."""
    way = next(
        w for w in (MAIN, LONGER, LOWER, HIGHER) if (w.longer, w.gain) == (row["longer"], row["gain"])
    )
    found = curves(row, way)
    names = (
        "set",
        "activation",
        "width",
        "depth",
        "longer",
        "gain",
        "learning_rate",
        "trained",
        "reached",
    )
    return {
        **{name: row[name] for name in names},
        "half": spread([half_share(curve, way) for curve in found]),
        "late": spread([late_share(curve) for curve in found]),
        "test_accuracy": spread([net["test_accuracy"] for net in row["nets"]]),
    }


def medians(values: Array, rng: np.random.Generator) -> Array:
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(values[draws], axis=1), dtype=np.float64)


def holm(ps: Sequence[float]) -> list[float]:
    order = np.argsort(ps)
    scaled = np.array(ps)[order] * (len(ps) - np.arange(len(ps)))
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(p) for p in adjusted]


def share(hits: Iterable[bool]) -> float:
    return round(float(np.mean(list(hits))), 4)


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


def spread(values: Sequence[float]) -> dict[str, float | int]:
    kept = np.array([v for v in values if math.isfinite(v)])
    if len(kept) == 0:
        return {"n": 0}
    low, middle, high = np.percentile(kept, [25, 50, 75]).tolist()
    return {
        "n": len(kept), "mean": round(float(kept.mean()), 4),
        "sd": round(float(kept.std(ddof=len(kept) > 1)), 4),
        "median": round(middle, 4), "low": round(low, 4), "high": round(high, 4),
    }  # fmt: skip


def print_findings(found: dict[str, Any]) -> None:
    simple = ["nets", "blobs_both", "connected_both", "omega_out_median", "out_over_in_median",
              "steps_rising", "nets_above_input"]  # fmt: skip
    gaps = ["strata", "lower", "surely_lower", "surely_higher", "difference", "low", "high"]
    for title, name, keys in (
        ("1 simpler: the logits, and how often omega rises", "simpler", ["way", "activation", *simple]),
        ("2 faster: share of the depth with omega at half", "faster", ["way", "one", "other", *gaps]),
        ("3 later: share of the fall in the last third", "later", ["way", "activation", *gaps]),
    ):
        print_table(title, keys, [[row.get(key, "") for key in keys] for row in found[name]])
