"""The tables and the plot of docs/engine.md from benchmarks/results/engine.json.

    python benchmarks/topology/engine.py && python benchmarks/topology/engine_docs.py

Replaces what stands between the two markers in docs/engine.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> None:
    record = json.loads((ROOT / "benchmarks/results/engine.json").read_text())
    groups = record["groups"]
    parts = [
        f"One thread, medians of {record['repeat']} rounds in which all take turns, milliseconds of "
        "processor time; every answer equal to every peer's in the same run. unknot is called by its "
        "public names, all checks of the input among it. Each peer is given the distance matrix and the "
        "0/1 matrix of the graph, with and without its edge collapse, and the fastest form counts; in "
        "parentheses the least and the greatest ratio of a round. "
        f"`{record['command']}`; "
        f"`benchmarks/results/engine.json`. Engine: {record['engine']['variant']}, "
        f"{record['engine']['compiler']}; "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        + ".",
        against_peers(groups),
        from_points(groups),
        rest(groups),
        "![Time against the number of points, engine and peers](assets/scaling.svg)",
    ]
    page = ROOT / "docs/engine.md"
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    page.write_text(before + "\n" + "\n\n".join(parts) + "\n" + after)
    plot(groups["scaling"])


def table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def against_peers(groups: dict[str, Any]) -> str:
    rows = []
    for name in ("W1", "W2", "W3", "W4", "W5", "W6", "random"):
        for r in groups[name]:
            source = "distances" if "from_distances_ms" in r else "points"
            ours = r[f"from_{source}_ms"]
            peer = f"{r['best_peer_ms']:.1f} {r['best_peer']}"
            low, high = r["times_best_peer_range"]
            rows.append([
                r["name"], str(r["n"]), f"{ours:.2f} from {source}", peer,
                f"**{r['times_best_peer']:.1f}** ({low:.1f} to {high:.1f})",
                f"{r['times_ripser_py']:.0f}",
            ])  # fmt: skip
    return table(["workload", "n", "unknot", "best peer", "x best peer", "x ripser.py"], rows)


def from_points(groups: dict[str, Any]) -> str:
    rows = [
        [r["name"].removeprefix("from points: "), str(r["n"]), f"{r['from_points_ms']:.2f}",
         f"{r['points_over_distance_matrix']:.2f}"]
        for r in groups["points"]
    ]  # fmt: skip
    return table(
        ["b0 and b1 from points", "n", "ms", "share of the time of a float64 distance matrix"], rows
    )


def rest(groups: dict[str, Any]) -> str:
    rows = [
        [r["name"], str(r["n"]), f"{r['from_points_ms']:.1f} ms"
         + (f", {r['over_sklearn']:.2f} x scikit-learn's search alone" if "over_sklearn" in r else "")]
        for r in groups["knn"] + groups["jmlr"]
    ]  # fmt: skip
    rows += [
        [
            r["name"],
            str(r["n"]),
            f"{r['peak_mb']:.0f} MB, {r['over_packed_graph']:.1f} x the packed graph",
        ]
        for r in groups["memory"]
    ]
    rows += [
        [
            r["name"],
            str(r["n"]),
            f"rips {r['rips_ms']:.0f} ms, kNN {r['knn_ms']:.0f} ms: {r['rips_over_product']:.1f} and "
            f"{r['knn_over_product']:.1f} x numpy's float32 product `x @ x.T`",
        ]
        for r in groups["wide"]
    ]
    gain = groups["W5"][0]["two_threads_gain"]
    rows.append(["W5 on two threads", "300", f"{gain:.2f} x the speed of one"])
    return table(["what", "n", "found"], rows)


def plot(rows: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(
        [r["n"] for r in rows], [r["from_points_ms"] for r in rows], "o-", label="unknot, from points"
    )
    peers = sorted({name for r in rows for name in r.get("peers_ms", {})})
    for marker, name in zip("s^Dv", peers, strict=False):
        timings = [(r["n"], r["peers_ms"][name]) for r in rows if name in r.get("peers_ms", {})]
        axes.plot(*zip(*timings, strict=True), marker + "--", label=f"{name}, distances given")
    axes.set(
        xscale="log", yscale="log", xlabel="points (nine circles, radius 0.5)", ylabel="milliseconds"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    (ROOT / "docs/assets").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs/assets/scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
