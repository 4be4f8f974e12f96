"""How studies, the counting of clouds and fuzzing scale: processes, and a Dask cluster of 1 and 2.

The cluster is real: a scheduler and workers as processes of this machine. In every round all ways take
their turn on the same work. What lies beyond the cores at hand is not measured: it is computed from the
time of each task and the time that a task takes to come and go, both measured, by giving the next task to
the first worker that is free.

    python benchmarks/activations/scaling.py  # about ten minutes on two cores without other work
    python benchmarks/activations/scaling.py --write
      # only the table of docs/howto/dask.md, from the results
"""

from __future__ import annotations

import heapq
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from distributed import Client

from unknot import Scale, Study
from unknot.activations.folds import ACTIVATIONS
from unknot.cli.samples import load_data
from unknot.core.files import write_text
from unknot.core.workforce import Workforce
from unknot.topology.batch import CountSettings, count_clouds

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/scaling.json"
PAGE = ROOT / "docs/howto/dask.md"
BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"
ROUNDS = 3
WORKERS = (1, 2)
BEYOND = (4, 8, 16)
SETS = ("rings", "checker")
CLOUDS = 60
EPOCHS = 30
NAMES = ("relu", "gelu", "silu", "tanh", "hardtanh", "zfold")
Way = tuple[str, int, str | None]  # name, jobs, address


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[str]:
    """A scheduler and single-threaded workers, each a process."""
    place = folder / f"{workers}.json"
    flags = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [["scheduler", "--port", "0", "--scheduler-file", str(place), *flags]]
    own = ["--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    commands += [["worker", "--scheduler-file", str(place), *own, *flags] for _ in range(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-m", "dask", *c], env=env, **quiet) for c in commands]
    try:
        while not place.exists() or not place.read_text().endswith("}"):
            time.sleep(0.05)
        address = json.loads(place.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def run_study(way: Way, folder: Path, light: bool) -> None:
    _, jobs, address = way
    path = folder / "study.sqlite"
    path.unlink(missing_ok=True)
    sets = {name: load_data(name) for name in SETS}
    chosen = {name: ACTIVATIONS[name] for name in NAMES}
    Study(path).run(
        sets,
        chosen,
        seeds=5,
        epochs=1 if light else EPOCHS,
        learning_rates=[3e-3],
        gains=[1.0],
        jobs=jobs,
        cluster=address,
    )


def run_counting(way: Way, folder: Path, light: bool) -> None:
    _, _, address = way
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(2000, 16)) for _ in range(2 if light else CLOUDS)]
    # One thread everywhere: what is compared is one worker with several.
    settings = CountSettings(Scale(k=14, hops=1), threads=1, repeats=20)
    with Workforce(cluster=address) as workforce:
        count_clouds(clouds, settings, workforce)


def run_fuzz(way: Way, folder: Path, light: bool) -> None:
    _, jobs, address = way
    flags = ["--jobs", str(jobs)] if address is None else ["--cluster", address]
    command = [sys.executable, str(ROOT / "fuzz/fuzz.py"), "--cases", "50" if light else "6000", *flags]
    subprocess.run(command, check=True, capture_output=True)


WORK: dict[str, Callable[[Way, Path, bool], None]] = {
    "study": run_study, "counting": run_counting, "fuzzing": run_fuzz,
}  # fmt: skip


def nothing(_: int) -> None:
    pass


def overhead(address: str, tasks: int = 200) -> float:
    """Seconds that a task takes to come and go: an empty one, many in a row."""
    with Workforce(cluster=address) as workforce:
        list(workforce.run(nothing, [(0,)] * 4))
        start = time.perf_counter()
        list(workforce.run(nothing, [(i,) for i in range(tasks)]))
    return (time.perf_counter() - start) / tasks


def study_tasks(folder: Path) -> list[float]:
    """Seconds of each task of the study, alone in this process."""
    seconds = []
    for name in SETS:
        for activation in NAMES:
            path = folder / "task.sqlite"
            path.unlink(missing_ok=True)
            data = load_data(name)
            start = time.perf_counter()
            Study(path).run(
                {name: data}, {activation: ACTIVATIONS[activation]}, seeds=5, epochs=EPOCHS,
                learning_rates=[3e-3], gains=[1.0],
            )  # fmt: skip
            seconds.append(time.perf_counter() - start)
    return seconds


def expected(tasks: Sequence[float], workers: int, each: float) -> float:
    """Seconds until the last of ``workers`` is done, each taking the next task when it is free."""
    free = [0.0] * workers
    for seconds in tasks:
        heapq.heappush(free, heapq.heappop(free) + seconds + each)
    return max(free)


def speedups(tasks: Sequence[float], each: float, workers: Sequence[int]) -> str:
    return ", ".join(f"{sum(tasks) / expected(tasks, n, each):.1f} x with {n}" for n in workers)


@contextmanager
def here(jobs: int) -> Iterator[Way]:
    yield "one process" if jobs == 1 else f"{jobs} processes", jobs, None


@contextmanager
def there(workers: int, folder: Path) -> Iterator[Way]:
    with cluster(workers, folder) as address:
        yield f"Dask, {workers} worker{'s' * (workers > 1)}", 1, address


def measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in WORK}
    for turn in range(ROUNDS):
        place = folder / f"{turn}"
        place.mkdir()
        for entered in (here(1), here(2), *(there(n, place) for n in WORKERS)):
            with entered as way:
                for name, work in WORK.items():
                    if name == "counting" and way[1] > 1:
                        continue  # on this machine the engine's threads count
                    work(way, place, True)  # imports are done, data are there
                    start = time.perf_counter()
                    work(way, place, False)
                    seconds[name].setdefault(way[0], []).append(time.perf_counter() - start)
                    print(f"{name}, {way[0]}: {seconds[name][way[0]][-1]:.1f} s", flush=True)
    return seconds


def table(record: dict) -> str:
    ways = ["one process", "2 processes", *(f"Dask, {n} worker{'s' * (n > 1)}" for n in WORKERS)]
    lines = ["| work | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
    for name, seconds in record["seconds"].items():
        base = seconds["one process"]
        cells = []
        for way in ways:
            if way not in seconds:
                cells.append("not timed")
                continue
            ratios = [b / s for b, s in zip(base, seconds[way], strict=True)]
            cells.append(
                f"{statistics.median(seconds[way]):.1f} s, {statistics.median(ratios):.2f} x "
                f"[{min(ratios):.2f}, {max(ratios):.2f}]"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    tasks, each = record["study_tasks"], record["overhead"]
    few = speedups(tasks, each, (*WORKERS, *BEYOND))
    lines += [
        "",
        f"Seconds (median of {record['rounds']}), and times faster than one process in the same round "
        f"[range]. Study: {len(SETS)} sets x {len(NAMES)} activations, one cell, 5 seeds; counting: "
        f"{CLOUDS} clouds of 2,000 points in 16-D with intervals of 20 subsamples, one thread each; "
        f"fuzzing: 6,000 cases, the start of the program included. A task takes {1000 * each:.1f} ms to "
        "come and go.",
        "",
        f"Beyond the cores at hand, from the measured times of the study's {len(tasks)} tasks "
        f"({min(tasks):.1f} to {max(tasks):.1f} s): {few} workers, "
        f"where the longest task sets the end; of ten times as many tasks "
        f"{speedups(tasks * 10, each, BEYOND)} workers. This is computed, not measured, and knows no "
        "network.",
        "",
        f"`{record['command']}`, {record['date']}, {record['machine']}.",
    ]
    return "\n".join(lines)


def write_page(record: dict) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    write_text(PAGE, f"{before}\n{table(record)}\n{after}")


def main() -> None:
    if "--write" in sys.argv:
        write_page(json.loads(RESULTS.read_text()))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = study_tasks(folder)
        seconds = measure(folder)
        (folder / "o").mkdir()
        with cluster(1, folder / "o") as address:
            each = statistics.median(overhead(address) for _ in range(3))
    record = {
        **provenance("python benchmarks/activations/scaling.py"),
        "rounds": ROUNDS,
        "seconds": seconds,
        "study_tasks": tasks,
        "overhead": each,
    }
    write_text(RESULTS, json.dumps(record, indent=1))
    write_page(record)
    print(table(record))


if __name__ == "__main__":
    main()
