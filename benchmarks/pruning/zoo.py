"""Which third-party nets each library can halve: 73 of torchvision and timm, six of transformers.

For each net, with random weights, unknot (defaults, criterion l1) and torch-pruning (plain; then with
its hints for attention heads) are asked for half of the MACs. Reached means at most 55 % left. The
processor time is that of planning. A net that unknot pruned is compared with a masked run of the
original (`tests/helpers/masked.py`, which uses nothing of unknot); where that had to normalise over the
channels that are left, the table says through what. It is saved and loaded, exported to ONNX where torch
exports the original, trained for one step; no tensor may be larger than before.

    pip install --group zoo                        # timm, torchvision and transformers
    python benchmarks/pruning/zoo.py --jobs 2      # hours on one core; --only 'timm/*' for some

Each net and library has a process of its own, on one thread, with a limit of processor time for the plan
and twice that for the checks. Those that are done are kept in benchmarks/raw/zoo.jsonl: run it again to
go on, with --again to do the chosen ones anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo_nets import NETS

HERE = Path(__file__).parent
RESULTS, RAW = HERE.parent / "results", HERE.parent / "raw/zoo.jsonl"
LIBRARIES = ("unknot", "torch-pruning", "torch-pruning, hints")
REACHED = 0.55
TOO_LATE = 124
TOLERANCE = 1e-5  # of the largest output
ROUNDING = 1e-4  # what float32 may leave of it in a deep net; the table has the number
Row = dict[str, Any]
Key = tuple[str, str, str]  # net, library, criterion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", default="*", metavar="GLOB", help="nets by name")
    parser.add_argument("--criterion", default="l1", help="of unknot")
    parser.add_argument("--by", default="*", metavar="GLOB", help=f"libraries: {', '.join(LIBRARIES)}")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--limit", type=int, default=120, metavar="SECONDS", help="processor time")
    parser.add_argument("--again", action="store_true", help="do the chosen ones anew")
    asked = parser.parse_args()
    rows = read()
    chosen = [
        (net, by, asked.criterion if by == "unknot" else "l1")
        for net in NETS if fnmatchcase(net, asked.only)
        for by in LIBRARIES if fnmatchcase(by, asked.by)
    ]  # fmt: skip
    missing = [key for key in chosen if asked.again or key not in rows]
    with ThreadPoolExecutor(asked.jobs) as pool:
        trials = {pool.submit(tried, key, asked.limit): key for key in missing}
        for n, done in enumerate(as_completed(trials), 1):
            key, row = trials[done], done.result()
            rows[key] = row
            keep(row)
            print(f"{n}/{len(missing)} {key[0]}, {key[1]}: {verdict(row)}", file=sys.stderr, flush=True)
    wanted = [rows[key] for key in chosen if key in rows]
    print(markdown(wanted))
    if asked.only == asked.by == "*" and asked.criterion == "l1":
        write(RESULTS / "zoo.json", json.dumps(record(wanted, asked.limit), separators=(",", ":")))
        write(RESULTS / "zoo.md", markdown(wanted))


def tried(key: Key, limit: int) -> Row:
    """What the process told until it ended, or was ended."""
    net, by, criterion = key
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # A net that is built takes time too, and a machine may be busy: the limit by the clock is no measure.
    arguments = [sys.executable, str(HERE / "zoo_trial.py"), net, by, criterion, str(limit)]
    try:
        ran = subprocess.run(
            arguments, capture_output=True, text=True, env=environment, timeout=20 * limit, check=False
        )
        told, code, errors = ran.stdout, ran.returncode, ran.stderr
    except subprocess.TimeoutExpired as expired:
        told, code, errors = (expired.stdout or b"").decode(), TOO_LATE, ""
    row: Row = {"net": net, "family": NETS[net].family, "by": by, "criterion": criterion}
    for line in told.splitlines():
        if line.startswith("{"):
            row |= json.loads(line)
    if code:
        last = (errors.strip().splitlines() or [""])[-1][:160]
        stage = "checks" if "seconds" in row else "plan"
        # The limit of processor time or of the clock; other signals are a crash, e.g. out of memory.
        late = code in (-signal.SIGXCPU, TOO_LATE)
        row |= {"timeout": stage} if late else {"crash": last or f"ended with code {code}"}
    return row


def read() -> dict[Key, Row]:
    rows = [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []
    return {(r["net"], r["by"], r["criterion"]): r for r in rows}


def keep(row: Row) -> None:
    RAW.parent.mkdir(exist_ok=True)
    with RAW.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def write(path: Path, text: str) -> None:
    """Whole, or not at all."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def record(rows: list[Row], limit: int) -> Row:
    libraries = ("unknot", "torch", "torch-pruning", "timm", "torchvision", "transformers")
    return {
        "command": "python benchmarks/pruning/zoo.py",
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in libraries},
        "limit": limit,
        "rows": [
            {
                k: float(f"{v:.3g}") if isinstance(v, float) else v
                for k, v in row.items()
                if v not in ([], None)
            }
            for row in rows
            if len(row) > 4  # hints for a net that has no heads: nothing was done
        ],
    }


def problems(row: Row) -> list[str]:
    """What is wrong with a net that was pruned; of torch-pruning's no masked net is known."""
    found = []
    if row["by"] == "unknot":
        error = row.get("error")
        if error is None or not error < ROUNDING:
            found.append("not compared" if error is None else "is not the masked net")
        if row.get("loaded") is not True:
            found.append("not loaded as saved")
        if isinstance(row.get("onnx"), str) or (row.get("onnx") or 0) > 1e-3:
            found.append("ONNX differs")
    if row.get("trains", True) not in (True, None):
        found.append("does not train")
    if row.get("same_shapes") is not True:
        found.append("other output shapes")
    return found + (["tensors grew"] if row.get("grown") else [])


def verdict(row: Row) -> str:
    """In a few words."""
    for key in ("crash", "refused"):
        if key in row:
            return f"{key}: {row[key]}"
    if "macs" not in row:
        return "timeout" if "timeout" in row else "-"
    found = problems(row) if "timeout" not in row else ["checks timed out"]
    return f"{row['macs']:.2f} of the MACs" + (f"; {', '.join(found)}" if found else "")


def works(row: Row) -> bool:
    return row.get("macs", 1.0) <= REACHED and not problems(row)


def markdown(rows: list[Row]) -> str:
    """How many of each family, then every net."""
    families = list(dict.fromkeys(NETS[r["net"]].family for r in rows))
    found = {(r["net"], r["by"]): r for r in rows}
    nets = list(dict.fromkeys(r["net"] for r in rows))

    def cells(name: str, counted: Iterable[str]) -> list[str]:
        return [f"{sum(found[n, name]['works'] for n in counted if (n, name) in found)}"]

    for row in rows:
        # Where there are no heads to hint at, the plain run counts.
        plain = found.get((row["net"], "torch-pruning"), row)
        row["works"] = works(row if len(row) > 4 else plain)
    lines = [
        "**Nets of which half of the MACs went, and which passed every check**", "",
        f"| | {' | '.join(f'{f} ({sum(NETS[n].family == f for n in nets)})' for f in families)} | "
        f"all ({len(nets)}) |",
        "|---" * (len(families) + 2) + "|",
    ]  # fmt: skip
    for name in [by for by in LIBRARIES if any(r["by"] == by for r in rows)]:
        of_family = [cells(name, [n for n in nets if NETS[n].family == f])[0] for f in families]
        lines.append(f"| {name} | {' | '.join([*of_family, *cells(name, nets)])} |")
    lines += [
        "", "**Every net**", "",
        "| net | unknot | seconds | error against the masked net | through | torch-pruning | seconds | "
        "with hints |",
        "|---" * 8 + "|",
    ]  # fmt: skip
    for net in nets:
        ours, theirs, hints = (found.get((net, by), {}) for by in LIBRARIES)
        lines.append(
            f"| {net} | {told(ours)} | {seconds(ours)} | {error_of(ours)} | "
            f"{', '.join(ours.get('through', []))} | {told(theirs)} | {seconds(theirs)} | {told(hints)} |"
        )
    for row in rows:
        del row["works"]
    return "\n".join([*lines, ""])


def told(row: Row) -> str:
    return verdict(row).replace("|", "/").replace("*", "&#42;") if row else ""


def seconds(row: Row) -> str:
    return f"{row['seconds']:.1f}" if "seconds" in row else ""


def error_of(row: Row) -> str:
    error = row.get("error")
    if error is None:
        return row.get("masked", "")  # type: ignore[no-any-return]
    return f"{error:.0e}" + ("" if error < TOLERANCE else " (rounding?)" if error < ROUNDING else " (!)")


if __name__ == "__main__":
    main()
