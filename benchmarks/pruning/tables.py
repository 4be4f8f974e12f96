"""What the trials of the pruning benchmark say: paired differences over training seeds, intervals."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from scipy import stats

from unknot.core.console import print_table

Record = dict[str, Any]
Interval = list[float]  # mean, low, high, in percentage points
STAGES = {
    "raw": "as pruned", "recalibrated": "batch norm recalibrated", "refit": "refitted",
    "tuned_1": "refitted, 1 epoch", "tuned_3": "refitted, 3 epochs",
}  # fmt: skip
BASELINES = ("l1", "taylor")
MENDED_SHARE = 0.75  # of the MACs removed: where the documentation shows every way of mending


def summary(records: Iterable[Record]) -> list[Record]:
    """One row for each set, net and question: accuracies of all seeds, points against the original."""
    records = list(records)
    # The last question asked of a net: without it the net is not done, and stays out.
    done = {
        (r["set"], r["net"], r["seed"])
        for r in records
        if r["kind"] == "variant" and (r["layers"], r["criterion"]) == ("last", "elder-surgeon")
    }
    of_net: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r["seed"]):
        if (record["set"], record["net"], record["seed"]) in done:
            of_net[record["set"], record["net"]].append(record)
    rows: list[Record] = []
    for (name, net), found in of_net.items():
        kinds: defaultdict[str, list[Record]] = defaultdict(list)
        for record in found:
            kinds[record["kind"]].append(record)
        base = {r["seed"]: r for r in kinds["original"]}
        here = {"set": name, "net": net}
        rows.append({
            "kind": "original", **here, "macs": kinds["original"][0]["macs"],
            "accuracy": [r["accuracy"] for r in base.values()],
            **{s: _points(base, kinds["original"], s) for s in ("tuned_1", "tuned_3")},
        })  # fmt: skip
        rows += [here | row for row in _pruned(base, kinds["pruned"])]
        for share, of_share in _grouped(kinds["scratch"], "share").items():
            if len(of_share) < len(base):
                continue
            rows.append({"kind": "scratch", **here, "share": share,
                         "accuracy": _points(base, of_share, "accuracy")})  # fmt: skip
        rows += [here | row for row in _threshold(base, kinds["threshold"])]
        for (layers, criterion), of_variant in _grouped(kinds["variant"], "layers", "criterion").items():
            rows.append({"kind": "variant", **here, "layers": layers, "criterion": criterion,
                         "raw": _points(base, of_variant, "raw"),
                         "refit": _points(base, of_variant, "refit")})  # fmt: skip
        rows += [here | _latency(kinds["latency"])] if kinds["latency"] else []
    return rows


def _pruned(base: dict[int, Record], found: list[Record]) -> list[Record]:
    rows = []
    cells = _grouped(found, "share", "criterion")
    for (share, criterion), trials in cells.items():
        row: Record = {"kind": "pruned", "share": share, "criterion": criterion,
                       "removed": statistics.mean(r["removed"] for r in trials)}  # fmt: skip
        for stage in STAGES:
            if len([r for r in trials if stage in r]) == len(base):
                row[stage] = _points(base, trials, stage)
        for baseline in BASELINES:
            against = {r["seed"]: r for r in cells[share, baseline]}
            gaps = {s: [r for r in trials if s in r and s in against.get(r["seed"], {})] for s in STAGES}
            row[f"against_{baseline}"] = {
                s: _interval([100 * (r[s] - against[r["seed"]][s]) for r in of_stage])
                for s, of_stage in gaps.items()
                if len(of_stage) == len(base)
            }
        rows.append(row)
    return rows


def _threshold(base: dict[int, Record], found: list[Record]) -> list[Record]:
    if not found:
        return []
    baselines = [k for k in ("l1", "random", "elder-surgeon") if k in found[0]]
    return [{
        "kind": "threshold",
        "filters_removed": [r["filters_removed"] / r["filters"] for r in found],
        "removed": [r["removed"] for r in found],
        "exceeding_by_layer": {
            layer: statistics.mean(r["exceeding_by_layer"][layer] for r in found)
            for layer in found[0]["exceeding_by_layer"]
        },
        **{k: _points(base, found, k) for k in ("raw", "refit", *baselines)},
        "latency": {b: [r["latency"][b][0] for r in found] for b in found[0]["latency"]},
        "bytes": [r["bytes"] for r in found],
        "activation_bytes": [r["activation_bytes"] for r in found],
    }]  # fmt: skip


def _latency(found: list[Record]) -> Record:
    return {
        "kind": "latency", "macs": statistics.mean(r["macs"] for r in found),
        "filters_removed": statistics.mean(r["filters_removed"] for r in found),
        "latency": {b: [r["latency"][b][0] for r in found] for b in found[0]["latency"]},
        "bytes": [r["bytes"] for r in found], "activation_bytes": [r["activation_bytes"] for r in found],
    }  # fmt: skip


def quoted(rows: Sequence[Record]) -> list[Record]:
    """What the documentation quotes, a net each: at MENDED_SHARE every way of mending."""
    rounded = json.loads(json.dumps(rows), parse_float=lambda text: short(float(text)))
    return [
        {"set": s, "net": n, "rows": [_quoted(r) for r in rounded if (r["set"], r["net"]) == (s, n)]}
        for s, n in nets_of(rows)
    ]


def short(value: float) -> float:
    """To three decimals, unless the documentation, which prints fewer, would then round otherwise."""
    cut = round(value, 3)
    formats = ("{:.1f}", "{:.2f}", "{:.3f}", "{:.0%}")
    return cut if all(f.format(cut) == f.format(value) for f in formats) else value


def _quoted(row: Record) -> Record:
    against = [f"against_{baseline}" for baseline in BASELINES]
    unquoted = {"set", "net"}
    if row["kind"] == "variant":
        unquoted |= {"raw"}
    elif row["kind"] == "pruned" and row["share"] != MENDED_SHARE:
        unquoted |= {"raw", "recalibrated", "tuned_1", *against}
    kept = {name: value for name, value in row.items() if name not in unquoted}
    for name in kept.keys() & set(against):
        kept[name] = {stage: value for stage, value in kept[name].items() if stage == "refit"}
    return kept


def rows_of(record: Record) -> list[Record]:
    """The rows of a file of quoted ones, each with its set and net."""
    return [
        {"set": net["set"], "net": net["net"], **row} for net in record["nets"] for row in net["rows"]
    ]


def _grouped(records: Iterable[Record], *names: str) -> dict[Any, list[Record]]:
    found: defaultdict[Any, list[Record]] = defaultdict(list)
    for record in records:
        key = tuple(record[name] for name in names)
        found[key if len(names) > 1 else key[0]].append(record)
    return found


def _points(base: dict[int, Record], found: Sequence[Record], what: str) -> Interval:
    return _interval([100 * (r[what] - base[r["seed"]]["accuracy"]) for r in found])


def _interval(values: Sequence[float]) -> Interval:
    """Mean of paired differences with the 95 % interval of Student's t over the seeds."""
    mean = statistics.mean(values)
    half = 0.0
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return [mean, mean - half, mean + half]


def interval_text(interval: Interval | None) -> str:
    """``-1.2 [-1.9, -0.5]``"""
    if interval is None:
        return ""
    mean, low, high = interval
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def nets_of(rows: Sequence[Record]) -> list[tuple[str, str]]:
    return [(r["set"], r["net"]) for r in rows if r["kind"] == "original"]


def of_cell(rows: Sequence[Record], kind: str, **where: Any) -> list[Record]:
    return [r for r in rows if r["kind"] == kind and all(r.get(k) == v for k, v in where.items())]


def show(rows: Sequence[Record]) -> None:
    """The tables, on the terminal."""
    titles = [f"{name}, {net}" for name, net in nets_of(rows)]
    shares = sorted({r["share"] for r in of_cell(rows, "pruned")})
    for share in shares:
        for stage, words in STAGES.items():
            table = stage_table(rows, share, stage)
            if len(table) > 1:
                print_table(f"{share:.0%} of MACs, {words}: points", ["criterion", *titles], table)
        for baseline in BASELINES:
            print_table(
                f"{share:.0%} of MACs, refitted: points over {baseline}", ["criterion", *titles],
                baseline_table(rows, share, baseline, "refit"),
            )  # fmt: skip
    print_table("Betti number above 300", ["", *titles], threshold_table(rows))
    for layers in ("all", "last"):
        print_table(
            f"half of the filters of {layers} layers, refitted: points", ["criterion", *titles],
            variant_table(rows, layers),
        )  # fmt: skip
    if of_cell(rows, "latency"):
        print_table("half of the filters of every layer", ["", *titles], latency_table(rows))


def stage_table(rows: Sequence[Record], share: float, stage: str) -> list[tuple[str, ...]]:
    """A row a criterion, and the small net from scratch; a column a net."""
    criteria = list(dict.fromkeys(r["criterion"] for r in of_cell(rows, "pruned", share=share)))
    table = []
    for criterion in criteria:
        cells = [
            next(iter(of_cell(rows, "pruned", share=share, criterion=criterion, set=s, net=n)), {})
            for s, n in nets_of(rows)
        ]
        if any(stage in cell for cell in cells):
            table.append((criterion, *(interval_text(cell.get(stage)) for cell in cells)))
    if stage.startswith("tuned"):
        table.append((
            "the original, as long",
            *(interval_text(of_cell(rows, "original", set=s, net=n)[0][stage]) for s, n in nets_of(rows)),
        ))  # fmt: skip
    scratch = of_cell(rows, "scratch", share=share)
    if stage == "tuned_3" and len(scratch) == len(nets_of(rows)):
        table.append((
            "the small net from scratch",
            *(interval_text(of_cell(rows, "scratch", share=share, set=s, net=n)[0]["accuracy"])
              for s, n in nets_of(rows)),
        ))  # fmt: skip
    return table


def baseline_table(
    rows: Sequence[Record], share: float, baseline: str, stage: str
) -> list[tuple[str, ...]]:
    """Paired differences: a row a criterion, a column a net."""
    criteria = list(dict.fromkeys(r["criterion"] for r in of_cell(rows, "pruned", share=share)))
    return [
        (criterion, *(
            interval_text(of_cell(rows, "pruned", share=share, criterion=criterion, set=s, net=n)[0]
                 [f"against_{baseline}"].get(stage))
            for s, n in nets_of(rows)
        ))
        for criterion in criteria if criterion != baseline
    ]  # fmt: skip


def threshold_table(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    found = [of_cell(rows, "threshold", set=s, net=n)[0] for s, n in nets_of(rows)]
    lines = [
        ("filters removed, %", lambda r: spread([100 * v for v in r["filters_removed"]], 0)),
        ("MACs removed, %", lambda r: spread([100 * v for v in r["removed"]], 0)),
        ("as pruned, points", lambda r: interval_text(r["raw"])),
        ("refitted", lambda r: interval_text(r["refit"])),
        ("L1, same MACs, refitted", lambda r: interval_text(r["l1"])),
        ("random, same MACs, refitted", lambda r: interval_text(r["random"])),
        ("elder-surgeon, same MACs, refitted", lambda r: interval_text(r["elder-surgeon"])),
        ("time at batch 1, of the original's", lambda r: spread(r["latency"]["1"], 2)),
        ("time at batch 64", lambda r: spread(r["latency"]["64"], 2)),
        ("bytes of the weights", lambda r: spread(r["bytes"], 2)),
        ("peak bytes of activations", lambda r: spread(r["activation_bytes"], 2)),
    ]  # fmt: skip
    return [(words, *(show_one(r) for r in found)) for words, show_one in lines]


def variant_table(rows: Sequence[Record], layers: str) -> list[tuple[str, ...]]:
    criteria = list(dict.fromkeys(r["criterion"] for r in of_cell(rows, "variant", layers=layers)))
    return [
        (criterion, *(
            interval_text(row["refit"])
            for s, n in nets_of(rows)
            for row in of_cell(rows, "variant", layers=layers, criterion=criterion, set=s, net=n)
        ))
        for criterion in criteria
    ]  # fmt: skip


def latency_table(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    found = [next(iter(of_cell(rows, "latency", set=s, net=n)), None) for s, n in nets_of(rows)]
    lines = [
        ("MACs", lambda r: f"{r['macs']:.2f}"),
        ("time at batch 1", lambda r: spread(r["latency"]["1"], 2)),
        ("time at batch 64", lambda r: spread(r["latency"]["64"], 2)),
        ("bytes of the weights", lambda r: spread(r["bytes"], 2)),
        ("peak bytes of activations", lambda r: spread(r["activation_bytes"], 2)),
    ]
    return [(words, *(show_one(r) if r else "" for r in found)) for words, show_one in lines]


def spread(values: Sequence[float], digits: int) -> str:
    """Median [range]."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
