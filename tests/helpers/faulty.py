"""Every writer of unknot, run in children that the kernel kills, cuts short or refuses.

    python -m helpers.faulty FOLDER FAULT ...   (from tests/)

For each writer, where nothing stood before and where an earlier file did, and for each place at which
the fault can strike, a child writes and the fault is done to it. One line of JSON tells what was found
then: the state of the file ("old" as before, "new", or else what is wrong with it), what was left beside
it, how the child ended, and whether the same write succeeds afterwards.

Faults:
    kill      SIGKILL before the n-th operation on a file of the folder (of Python's audit events)
    torn      SIGXFSZ, which ends the process in the middle of a write, at the n-th byte of a file
    limit     the same limit as an error: EFBIG
    full      a file system without room: ENOSPC (the folder has to be a small one of its own)
    readonly  a folder whose modes forbid writing; root becomes "nobody" in the child
    below     a folder that is a regular file
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from helpers.results import full_profile, outcome, plan, profile, scores
from torch import nn

from unknot.core.errors import InputError
from unknot.core.files import write_file
from unknot.nets.images import _keep
from unknot.nets.models import cnn
from unknot.profiles.journal import open_journal, read_profile, write_profile
from unknot.profiles.profile import EpochAccuracy, TopologyProfile
from unknot.pruning.artifact import save_pruned
from unknot.pruning.exports.onnx import export_onnx
from unknot.pruning.exports.program import export_program
from unknot.report.page import write_report
from unknot.study.trials import Curve, Trial, TrialFile, TrialSettings

NOBODY = 65534
EVENTS = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "shutil.rmtree",
    "tempfile.mkstemp", "tempfile.mkdtemp", "sqlite3.connect", "os.scandir", "os.listdir",
}  # fmt: skip


@dataclass(frozen=True)
class Writer:
    """``write(path, version)`` writes version 0 or, over it or where there is nothing, 1."""

    name: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], object]
    absent: object = None  # what is read where there is no file
    limits: tuple[int, ...] = ()
    starts: tuple[bool, ...] = (False, True)  # whether there is an earlier file
    slow: bool = False
    needs: tuple[str, ...] = ()  # packages

    @property
    def lacks(self) -> list[str]:
        return [package for package in self.needs if importlib.util.find_spec(package) is None]

    @property
    def once(self) -> bool:
        """It never writes over anything."""
        return True not in self.starts


def digest(path: Path) -> object:
    if path.is_dir():
        return {p.name: digest(p) for p in sorted(path.iterdir())}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_page(path: Path) -> object:
    """The title; the page holds the time at which it was written, too."""
    text = path.read_text()
    found = re.search("<title>(.*?)</title>", text)
    return found and (found[1], text.rstrip().endswith("</html>"))


def epoch(number: int) -> TopologyProfile:
    whole = profile(epochs=2)
    rows = tuple(replace(row, epoch=number) for row in whole.rows if row.epoch == 0)
    return replace(whole, rows=rows, accuracy=(EpochAccuracy(number, 0.5),))


def add_epoch(path: Path, version: int) -> None:
    open_journal(path, resume=path.exists()).add(epoch(version))


def epochs_of(path: Path) -> object:
    found = read_profile(path)
    assert len(found.rows) == 6 * len(found.epochs())
    return found.epochs()


def trial(seed: int) -> Trial:
    """Of some 20 pages of SQLite."""
    settings = TrialSettings("mlp", 3, 32, 0.9, None, "[]", 0, "abc")
    steps = tuple(float(i) for i in range(8000))
    return Trial("d", "relu", 0.1, 1.0, seed, settings, Curve(steps, steps, (), "done"))


def model(version: int) -> nn.Module:
    """What `plan` leaves."""
    torch.manual_seed(version)
    return cnn(1, 3, widths=(2, 1)).eval()


def save_points(path: Path, version: int) -> None:
    points = np.random.default_rng(version).normal(size=(500, 3))
    write_file(path, lambda temporary: np.savez(temporary, points=points, labels=np.arange(500) % 2))


def keep_images(path: Path, version: int) -> None:
    _keep(path, (np.full((9, 8, 8, 1), version, np.uint8), np.arange(9), ("a", "b")))


EVERY = {
    writer.name: writer
    for writer in (
        Writer("profile.json", lambda p, v: write_profile(p, full_profile(epochs=v + 1)), digest),
        Writer("profile.jsonl", lambda p, v: write_profile(p, full_profile(epochs=v + 1)), digest),
        Writer(
            "profile.parquet",
            lambda p, v: write_profile(p, full_profile(epochs=v + 1)),
            digest,
            needs=("pyarrow",),
        ),
        Writer("journal.jsonl", add_epoch, epochs_of),
        Writer("table.parquet", add_epoch, epochs_of, needs=("pyarrow",)),
        Writer("scores.json", lambda p, v: scores(f"conv{v}").to_json(p), digest),
        Writer("plan.json", lambda p, v: plan(f"conv{v}").to_json(p), digest),
        Writer("outcome.json", lambda p, v: replace(outcome(), verdict=str(v)).to_json(p), digest),
        Writer("points.npz", save_points, digest),
        Writer(
            "report.html",
            lambda p, v: write_report(p, profile(), title=str(v)),
            whole_page,
            starts=(True,),
        ),
        Writer("model", lambda p, v: save_pruned(model(v), plan(), p, program=False), digest),
        Writer(
            "study.sqlite",
            lambda p, v: TrialFile(p).add([trial(v)]),
            lambda p: [t.seed for t in TrialFile(p).read()],
            absent=[],
            limits=(0, 50, 4095, 4096, 8192, 32768, 40000, 90000, 200000),
        ),
        Writer("cache", keep_images, digest, starts=(False,)),
        Writer(
            "program.pt2",
            lambda p, v: export_program(model(v), torch.zeros(2, 1, 8, 8), p),
            digest,
            starts=(False,),
            slow=True,
        ),
        Writer(
            "model.onnx",
            lambda p, v: export_onnx(model(v), torch.zeros(2, 1, 8, 8), p, repeats=1),
            lambda p: p.stat().st_size,
            starts=(False,),
            slow=True,
            needs=("onnx", "onnxscript", "onnxruntime"),
        ),
    )
}
LEFT_OUT = {name: writer.lacks for name, writer in EVERY.items() if writer.lacks}
WRITERS = {name: writer for name, writer in EVERY.items() if name not in LEFT_OUT}


def die_before(number: int, folder: Path) -> Callable[[], None]:
    def inject() -> None:
        left = number

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in EVENTS and any(
                isinstance(a, (str, bytes, os.PathLike)) and str(folder) in os.fsdecode(a)
                for a in arguments
            ):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(hook)

    return inject


def end_at(size: int, *, killed: bool) -> Callable[[], None]:
    def inject() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if killed else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return inject


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def in_child(inject: Callable[[], None], write: Callable[[], object]) -> str:
    """How a child ended: "done", "killed", or the type and text of its error."""
    sys.stdout.flush()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        told = "done"
        try:
            inject()
            write()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError):
                told = f"OSError: {error}"
        os.write(theirs, told.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        told = pipe.read()
    status = os.waitpid(child, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else told


def state_of(writer: Writer, path: Path, known: dict[str, object]) -> str:
    try:
        found = writer.read(path) if path.exists() else writer.absent
    except InputError as error:
        return f"unreadable: {error}"
    return next((name for name, value in known.items() if value == found), f"neither: {found}")


def sizes(path: Path) -> tuple[int, ...]:
    largest = max(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]))
    return (0, largest // 3, largest - 1)


def strikes(fault: str, writer: Writer, folder: Path, done: Path) -> Iterator[Callable[[], None]]:
    """The places at which the fault strikes; those of "kill" go on until the write has ended."""
    if fault == "kill":
        yield from (die_before(number, folder) for number in ((4,) if writer.slow else range(1000)))
    elif fault in ("torn", "limit"):
        limits = writer.limits or sizes(done)
        yield from (end_at(n, killed=fault == "torn") for n in (limits[1:2] if writer.slow else limits))
    else:
        yield become_nobody if fault == "readonly" else lambda: None


def fill(folder: Path, room: int) -> None:
    """Take what is free on the file system but ``room`` bytes."""
    with suppress(OSError), open(folder.parent / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with open(folder.parent / "filler", "r+b") as file:
        file.truncate(max(0, os.path.getsize(folder.parent / "filler") - room))


def attempt(
    fault: str, writer: Writer, folder: Path, earlier: bool, home: Path
) -> Iterator[dict[str, object]]:
    template, done = home / "template", home / "done"
    for place, versions in ((template, [0] * earlier), (done, [0] * earlier + [1])):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for version in versions:
            writer.write(place / writer.name, version)
    known: dict[str, object] = {"old": writer.absent}
    if earlier:
        known["old"] = writer.read(template / writer.name)
    known["new"] = writer.read(done / writer.name)
    for inject in strikes(fault, writer, folder, done / writer.name):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        target = folder / writer.name
        if fault == "below":
            (folder / "file").write_text("mine")
            target = folder / "file" / writer.name
        if fault == "readonly":
            for place in (folder, *folder.rglob("*")):
                place.chmod(0o555 if place.is_dir() else 0o444)
        if fault == "full":
            fill(folder, sizes(done / writer.name)[1])
        ended = in_child(inject, partial(writer.write, target, 1))
        (folder.parent / "filler").unlink(missing_ok=True)
        if fault == "readonly":
            for place in (folder, *folder.rglob("*")):
                place.chmod(0o755 if place.is_dir() else 0o644)
        before = {writer.name, "file"} if fault == "below" else {writer.name}
        found: dict[str, object] = {
            "fault": fault, "writer": writer.name, "earlier": earlier, "ended": ended,
            "state": state_of(writer, folder / writer.name, known),
            "left": sorted(p.name for p in folder.iterdir() if p.name not in before),
        }  # fmt: skip
        if fault != "below" and not ((writer.once and (folder / writer.name).exists()) or writer.slow):
            writer.write(folder / writer.name, 1)
            found["again"] = state_of(writer, folder / writer.name, known)
        yield found
        if fault == "kill" and ended == "done":
            return


def main(home: Path, faults: list[str]) -> None:
    torch.set_num_threads(1)
    for fault in faults:
        for writer in WRITERS.values():
            if writer.slow and fault not in ("kill", "torn"):
                continue
            for earlier in writer.starts:
                for found in attempt(fault, writer, home / "folder", earlier, home):
                    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
