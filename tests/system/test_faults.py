"""Faults that the system does to us: kills, full disks, folders that cannot be written, two runs at once.

`faulty.py` injects them into children; docs/faults.md lists every one with its test.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing, needs_checkout
from helpers.faulty import LEFT_OUT, WRITERS, trial

from unknot.cli.app import _told, main
from unknot.core import memory
from unknot.core.errors import InputError
from unknot.core.files import claimed, replace_folder, require_writable, write_file
from unknot.core.memory import memory_limit
from unknot.profiles.journal import Journal, read_profile
from unknot.study.study import Study
from unknot.study.trials import TrialFile

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="faults of POSIX systems"),
    pytest.mark.timeout(1800),
]
TESTS = Path(__file__).parents[1]
SECONDS = 900  # of a process that hangs; a loaded machine is no failure
Found = dict[str, Any]
QUICK = {name for name, writer in WRITERS.items() if not writer.slow}


@pytest.fixture
def home() -> Iterator[Path]:
    """Others may go into it, unlike pytest's folders."""
    with tempfile.TemporaryDirectory(prefix="unknot-faults-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def injected(home: Path, *faults: str, through: str = "") -> list[Found]:
    command = [sys.executable, "-m", "helpers.faulty", str(home), *faults]
    if through:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", through, "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def assert_hidden(found: Found) -> None:
    """Temporaries of unknot, or the log that SQLite recovers from."""
    assert all(name.startswith((".", "study.sqlite-")) for name in found["left"]), found


def assert_whole_or_nothing(rows: list[Found], writers: set[str]) -> None:
    for found in rows:
        assert found["state"] in ("old", "new"), found
        assert found.get("again", "new") == "new", found
        assert_hidden(found)
        if found["ended"] == "done":
            assert (found["state"], found["left"]) == ("new", []), found
    struck = {found["writer"] for found in rows if found["ended"] != "done"}
    assert struck == writers


def assert_refused_in_one_line(rows: list[Found]) -> None:
    for found in rows:
        if found["ended"] != "done":
            assert found["ended"].startswith(("OSError: ", "InputError: ")), found
            assert "\n" not in found["ended"], found
            assert (found["state"], found["left"]) == ("old", []), found


def test_no_writer_is_left_out() -> None:
    if LEFT_OUT:
        missing("; ".join(f"{name}: no {', '.join(lacks)}" for name, lacks in LEFT_OUT.items()))


def test_kill_9_before_any_operation_on_files_leaves_the_old_or_the_new(home: Path) -> None:
    rows = injected(home, "kill")
    assert_whole_or_nothing(rows, set(WRITERS))
    assert len(rows) > 150 and {f["state"] for f in rows if f["ended"] == "killed"} == {"old", "new"}


def test_an_end_in_the_middle_of_a_write_and_a_file_too_large(home: Path) -> None:
    rows = injected(home, "torn", "limit")
    assert_whole_or_nothing([f for f in rows if f["fault"] == "torn"], set(WRITERS))
    limited = [f for f in rows if f["fault"] == "limit"]
    assert_whole_or_nothing(limited, QUICK)
    assert_refused_in_one_line(limited)


def test_folders_that_cannot_be_written(home: Path) -> None:
    rows = injected(home, "below", "readonly")
    for fault in ("below", "readonly"):
        of_fault = [f for f in rows if f["fault"] == fault]
        # An existing journal that forbids writing is refused too, so every write fails.
        assert_whole_or_nothing(of_fault, QUICK)
        assert all(f["ended"] != "done" for f in of_fault)
    assert_refused_in_one_line(rows)


def test_a_file_system_without_room(home: Path) -> None:
    (home / "small").mkdir()
    mounted = f'mount -t tmpfs -o size=48m none {home}/small && exec "$@"'
    if not shutil.which("unshare") or subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", "true"],
        capture_output=True, check=False,
    ).returncode:  # fmt: skip
        pytest.skip("no file system can be mounted here; RLIMIT_FSIZE stands in, in another test")
    rows = injected(home / "small", "full", through=mounted)
    assert_whole_or_nothing(rows, QUICK)
    assert_refused_in_one_line(rows)
    without_room = [f for f in rows if "No space left" in f["ended"] or "disk is full" in f["ended"]]
    assert len(without_room) > 0.8 * len(rows)


def test_a_journal_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    """What was half-written is taken back, or the epochs after it could not be told apart from it."""
    from helpers.faulty import epoch

    path = tmp_path / "run.jsonl"
    journal = Journal(path)
    journal.add(epoch(0))
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.add(epoch(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size
    journal.add(epoch(2))
    assert read_profile(path).epochs() == [0, 2]


def test_two_journals_on_one_file_are_refused(tmp_path: Path) -> None:
    from helpers.faulty import epoch

    one, other = Journal(tmp_path / "run.jsonl"), Journal(tmp_path / "run.jsonl")
    one.add(epoch(0))
    with pytest.raises(InputError, match="exists"):
        other.add(epoch(0))
    assert read_profile(tmp_path / "run.jsonl").epochs() == [0]


def test_folders_are_replaced_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unknot.core.files._exchange", lambda one, other: False)
    for name in ("made", "folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "made", tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "made"


# ---- the command


def limited(size: int) -> Any:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def command(*arguments: str, cwd: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unknot", *arguments], cwd=cwd, stderr=subprocess.PIPE, text=True,
        check=False, **how,
    )  # fmt: skip


def test_the_command_on_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    shape = ("shape", "rings", "--pairs", "2", "--n", "300", "--out")
    ran = command(*shape, "r.npz", cwd=tmp_path, stdout=subprocess.PIPE, preexec_fn=limited(200))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1 and "too large" in ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_goes_to_a_full_disk_is_no_success(tmp_path: Path) -> None:
    np.save(tmp_path / "square.npy", [[0.0, 0], [1, 0], [1, 1], [0, 1]])
    with open("/dev/full", "w") as full:
        ran = command("betti", "square.npy", "--radius", "1", cwd=tmp_path, stdout=full)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1 and "No space left" in ran.stderr


WORK = """
from pathlib import Path
def data():
    Path("worked").touch()
    raise RuntimeError
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("measure", "--model", "mlp", "--data", "work_of_faults:data", "--out", "file/p.json"),
        ("measure", "--model", "mlp", "--data", "work_of_faults:data", "--report", "file/p.html"),
        ("study", "--data", "work_of_faults:data", "--activations", "relu", "--out", "file/a/s.sqlite"),
        ("prune", "--model", "cnn", "--data", "work_of_faults:data", "--ratio", "0.5", "--out", "file/m"),
        ("shape", "rings", "--out", "file/r.npz"),
        ("report", "p.json", "--out", "file/r.html"),
        ("demo", "--quick", "--out", "file/demo"),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-2]}",
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "work_of_faults.py").write_text(WORK)
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    told = capsys.readouterr().err
    assert left.value.code == 2 and told.count("\n") == 1 and "is no folder" in told
    assert {p.name for p in tmp_path.iterdir()} == {"file", "work_of_faults.py"}
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_the_right_to_write_is_refused(home: Path) -> None:
    (home / "closed").mkdir(mode=0o555)
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from unknot.core.files import require_writable\n"
        "if os.geteuid() == 0: os.setgid(65534), os.setuid(65534)\n"
        f"require_writable(Path({str(home)!r}) / 'closed' / 'a' / 'b.json', '--out')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "closed is read-only" in ran.stderr
    require_writable(home / "new" / "folder" / "b.json", "--out")
    assert not (home / "new").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_place_where_nobody_can_make_files_is_refused_before_the_work(tmp_path: Path) -> None:
    for verb in (
        ("prune", "--model", "cnn", "--data", "digits", "--ratio", "0.5", "--out", "/proc/x"),
        ("report", "none.json", "--out", "/proc/x.html"),
    ):
        ran = command(*verb, cwd=tmp_path)
        assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr
        assert re.match(r"unknot: --out /proc/x\S*: /proc takes no new files \(", ran.stderr), ran.stderr
        assert "choose another" in ran.stderr and "Errno" not in ran.stderr
    with pytest.raises(InputError, match=r"/proc/y .*choose another"):
        write_file("/proc/y", lambda path: path.write_text("x"))
    assert require_writable(tmp_path / "z", "--out") is None and not any(tmp_path.iterdir())


def test_what_the_system_refuses_is_told_with_a_remedy(tmp_path: Path) -> None:
    error = OSError(28, "No space left on device", "/disk/file")
    assert _told(error) == "/disk/file: No space left on device; free some room, or choose another disk"
    error = PermissionError(13, "Permission denied", "/disk/file")
    assert _told(error) == "/disk/file: Permission denied; check the path and its permissions"


STUDY = (
    "study", "--data", "discs", "--activations", "relu,zfold,tanh", "--seeds", "3",
    "--selection-seeds", "2", "--epochs", "3", "--learning-rates", "1e-3,1e-2", "--gains", "1",
    "--width", "8", "--depth", "2", "--jobs", "1", "--out", "s.sqlite", "--resume",
)  # fmt: skip
# A process started in the background ignores SIGINT, and so do its children.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import sys; from unknot.__main__ import main; main()"
)


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments], cwd=cwd, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def count(path: Path) -> int:
    try:
        return len(TrialFile(path).read())
    except InputError:  # being made
        return 0


def ended(process: subprocess.Popen[str], number: int, says: str, code: int) -> None:
    """The whole group gets the signal, as from a terminal or a batch system."""
    os.killpg(process.pid, number)
    assert process.communicate(timeout=SECONDS)[1] == f"unknot: {says}\n"
    assert process.returncode == code


def test_interrupted_terminated_and_run_twice_a_study_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    first = started(*STUDY, cwd=tmp_path)
    while first.poll() is None and count(path) < 1:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = started(*STUDY, cwd=tmp_path)
    told = second.communicate(timeout=SECONDS)[1]
    assert second.returncode == 2 and told.count("\n") == 1
    assert "which another process is filling" in told
    first.send_signal(signal.SIGCONT)
    ended(first, signal.SIGINT, "interrupted", 130)
    kept = TrialFile(path).read()
    assert 1 <= len(kept) < 21
    assert [p.name for p in tmp_path.iterdir()] == ["s.sqlite"]

    again = started(*STUDY, cwd=tmp_path)
    while again.poll() is None and count(path) == len(kept):
        time.sleep(0.01)
    ended(again, signal.SIGTERM, "terminated", 143)
    assert [p.name for p in tmp_path.iterdir()] == ["s.sqlite"]

    last = started(*STUDY, cwd=tmp_path)
    last.communicate(timeout=SECONDS)
    assert last.returncode == 0
    trials = Study(path).trials()
    assert len(trials) == len({(t.activation, t.cell, t.seed) for t in trials}) == 21
    assert all(t in trials for t in kept)


def test_a_verb_that_ends_early_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow_for_faults.py").write_text(
        "import time, torch\nfrom pathlib import Path\n"
        "def data():\n    Path('begun').touch()\n    time.sleep(60)\n"
    )
    process = started("measure", "--model", "mlp", "--data", "slow_for_faults:data", "--train", "3",
                      "--out", "p.json", "--report", "p.html", cwd=tmp_path)  # fmt: skip
    while process.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.01)
    ended(process, signal.SIGTERM, "terminated", 143)
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob(".*"))


def test_an_interruption_while_the_command_is_loaded(tmp_path: Path) -> None:
    """The first half second is spent importing; the module below stands for one of those imports."""
    (tmp_path / "typer.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)\nwhile True: pass"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTIBLE, "--version"], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (130, "unknot: interrupted\n")


# ---- study files


def test_processes_that_add_to_one_new_file_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from dataclasses import replace; from pathlib import Path\n"
        "from unknot.study.stacked_training import Curve\n"
        "from unknot.study.trials import Trial, TrialFile, TrialSettings\n"
        "settings = TrialSettings('mlp', 3, 32, 0.9, None, '[]', 0, 'abc')\n"
        "trial = Trial('d', 'relu', 0.1, 1.0, 0, settings, Curve((1.0,), (0.5,), (), 'done'))\n"
        "number = int(sys.argv[1])\nprint(flush=True)\n"
        "while not Path('go').exists(): pass\n"
        "for seed in range(number * 5, number * 5 + 10):\n"
        "    TrialFile('s.sqlite').add([replace(trial, seed=seed)])"
    )
    adding = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], cwd=tmp_path, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    for process in adding:
        assert process.stdout is not None and process.stdout.readline()
    (tmp_path / "go").touch()
    for process in adding:
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
    assert [t.seed for t in TrialFile(tmp_path / "s.sqlite").read()] == list(range(15))


def test_a_claim_is_given_back_by_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from unknot.core.files import claimed\n"
        "with claimed(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "s.sqlite"
    ran = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ran.returncode == -signal.SIGKILL and (tmp_path / ".s.sqlite.lock").exists()
    with claimed(path), pytest.raises(InputError, match="another process"), claimed(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_foreign_database_with_an_open_log_stays_as_it_is(tmp_path: Path) -> None:
    path, other = tmp_path / "other.sqlite", tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        with database:
            database.execute("CREATE TABLE songs (name TEXT)")
        for suffix in ("", "-wal"):  # as its program would leave it if it were killed now
            shutil.copy(f"{path}{suffix}", f"{other}{suffix}")
    before = {p.name: p.read_bytes() for p in tmp_path.glob("copy*")}
    assert before["copy.sqlite-wal"]
    with pytest.raises(InputError, match="a study or a new file"):
        TrialFile(other)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("copy*")} == before


@pytest.mark.parametrize("damage", ["settings", "curve", "topology", "type", "blob"])
def test_trials_that_are_damaged_are_refused_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.sqlite"
    TrialFile(path).add([trial(0)])
    values: dict[str, object] = {"type": "much", "blob": b"\xff\xfe"}
    column = {"type": "learning_rate", "blob": "data"}.get(damage, damage)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE trials SET {column} = ?", (values.get(damage, '{"net": 3}'),))
    before = path.read_bytes()
    with pytest.raises(InputError, match="trials as unknot wrote them") as found:
        Study(path).summary()
    assert "\n" not in str(found.value)
    assert path.read_bytes() == before


def test_a_study_file_that_lost_its_end_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    TrialFile(path).add([trial(0), trial(1)])
    whole = path.read_bytes()
    for size in (99, 100, 4096, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="file .*s.sqlite") as found:
            TrialFile(path).read()
        assert "\n" not in str(found.value)
        assert path.read_bytes() == whole[:size]


# ---- memory


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNKNOT_MEMORY_GB", raising=False)
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(tmp_path / "none"),))
    machine = memory_limit()
    cases = [("max\n", machine), ("1000000\n", 500_000), (f"{1 << 63}\n", machine)]
    for i, (text, limit) in enumerate(cases):  # a file is read once
        (tmp_path / f"memory{i}.max").write_text(text)
        monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(tmp_path / f"memory{i}.max"),))
        assert memory_limit() == limit


def test_the_command_refuses_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "p.npy", np.random.default_rng(0).normal(size=(3000, 2)))
    ran = command("betti", "p.npy", "--radius", "1", cwd=tmp_path, stdout=subprocess.PIPE,
                  env={**os.environ, "UNKNOT_MEMORY_GB": "0.001"})  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "UNKNOT_MEMORY_GB" in ran.stderr


# ---- the page


@needs_checkout
def test_every_test_that_the_page_names_exists() -> None:
    text = (TESTS.parent / "docs" / "faults.md").read_text()
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| fault")
    ]
    named = [re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)`", row.rsplit("|", 2)[1]) for row in rows]
    assert len(rows) > 25 and all(named)
    for file, name in {pair for pairs in named for pair in pairs}:
        tree = ast.parse((TESTS / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name
