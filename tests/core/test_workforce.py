"""Tasks here, in processes, and on a real Dask cluster on the loopback: a scheduler and three workers."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

import unknot as uk
from unknot.cli.app import main
from unknot.core import workforce as module
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.study.trials import Trial

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
# Of asyncio, at the end of a client whose scheduler has gone.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(1800),
]
FUZZ = Path(__file__).parents[2] / "fuzz" / "fuzz.py"
SECONDS = 600  # a loaded machine is no failure
# The last one takes seconds longer than the others on any machine, in which studies are interrupted.
ACTIVATIONS = "relu,tanh,gelu,zfold,hardtanh,helpers.slowly:tanh"
STUDY = (
    "--seeds", "2", "--epochs", "20", "--width", "12", "--depth", "2", "--learning-rates", "3e-3",
    "--gains", "1", "--targets", "1", "--test-target", "1", "--activations", ACTIVATIONS,
)  # fmt: skip

# Functions of this file and helpers can be imported there.
_FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])
WITH_TESTS = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _FOLDERS))}


class Cluster:
    """``dask scheduler`` and ``dask worker``, each a process of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", str(self.file)
        )
        wait(lambda: self.file.exists() and self.file.read_text().endswith("}"), "a scheduler")
        self.address: str = json.loads(self.file.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self, *flags: str) -> subprocess.Popen[bytes]:
        flags = flags or ("--nthreads", "1", "--no-nanny")
        worker = self._start("worker", self.address, *flags, "--local-directory", str(self._folder))
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, count: int) -> None:
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=SECONDS)

    def _start(self, verb: str, *flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", verb, *flags, "--host", "127.0.0.1", "--no-dashboard"]
        log = (self._folder / f"{verb}.log").open("ab")
        # One death is enough to give a task up, unless a test asks for more.
        extra = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "OMP_NUM_THREADS": "1"}
        known = WITH_TESTS if verb == "worker" else os.environ
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**known, **extra}, start_new_session=True
        )
        self._stack.callback(log.close)
        self._stack.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(until: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < limit, f"no {what} within {SECONDS} s"
        time.sleep(0.02)


@contextmanager
def started(folder: Path, workers: int = 3) -> Iterator[Cluster]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = Cluster(folder, stack)
        for _ in range(workers):
            cluster.add_worker()
        if workers:
            cluster.wait_for_workers(workers)
        yield cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "quarters.npz"
    np.savez(path, X=x, y=(x[:, 0] * x[:, 1] > 0).astype(np.int64))
    return path


@pytest.fixture(scope="module")
def alone(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, ...]:
    """The trials of the study on one machine."""
    out = tmp_path_factory.mktemp("alone") / "s.sqlite"
    ran = study(samples, out, "--jobs", "1")
    assert ran.wait(SECONDS) == 0
    return uk.Study(out).trials()


def study(samples: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unknot", "study", "--data", str(samples), "--out", str(out)]
    return subprocess.Popen(
        [*command, *STUDY, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=WITH_TESTS,
    )


def committed(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0


# ---- here ----------------------------------------------------------------------------------------


def double(x: int, _shared: object = None) -> int:
    return 2 * x


def refuse(x: int) -> int:
    raise InputError(f"x = {x}", "another", "pass it")


def die(_x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_where_that_is_asked_for(jobs: int) -> None:
    calls = [(x,) for x in range(20)]
    with Workforce(jobs) as workforce:
        assert list(workforce.run(double, calls, ordered=True)) == list(range(0, 40, 2))
        assert sorted(workforce.run(double, calls)) == list(range(0, 40, 2))
        assert list(workforce.run(double, [])) == []
        with pytest.raises(InputError, match="x = 0"):
            list(workforce.run(refuse, [(0,), (0,)]))


def test_a_process_that_dies_is_told_in_one_line() -> None:
    with Workforce(2) as workforce, pytest.raises(InputError, match="a process that died, one of 2"):
        list(workforce.run(die, [(1,), (2,)]))


# ---- a cluster that works ------------------------------------------------------------------------


def test_a_cluster_returns_what_this_machine_does(cluster: Cluster) -> None:
    shared = np.zeros(10)
    calls = [(x, shared) for x in range(20)]
    with Workforce(cluster=cluster.address) as workforce:
        assert list(workforce.run(double, calls, ordered=True)) == list(range(0, 40, 2))
        assert sorted(workforce.run(double, calls)) == list(range(0, 40, 2))
        assert list(workforce.run(double, [])) == []
        with pytest.raises(InputError, match="x = 0"):
            list(workforce.run(refuse, [(0,), (0,)]))


def test_work_goes_to_every_worker(cluster: Cluster) -> None:
    def where(_x: int) -> int:
        time.sleep(0.2)
        return os.getpid()

    with Workforce(cluster=str(cluster.file)) as workforce:  # the scheduler file in place of the address
        processes = set(workforce.run(where, [(x,) for x in range(9)]))
    assert processes == {worker.pid for worker in cluster.workers}


def test_a_study_on_a_cluster_is_the_study_of_one_machine(
    cluster: Cluster, samples: Path, alone: tuple[Trial, ...], tmp_path: Path
) -> None:
    ran = study(samples, tmp_path / "s.sqlite", "--cluster", cluster.address)
    _, told = ran.communicate(timeout=SECONDS)
    assert (ran.returncode, told) == (0, "")
    assert uk.Study(tmp_path / "s.sqlite").trials() == alone


def test_filters_and_islands_counted_on_a_cluster(cluster: Cluster) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.LazyLinear(2)
    )
    images = torch.rand(60, 1, 12, 12)
    model(images[:2])
    here = uk.measure(model, images, by="filter", repeats=3, max_dim=2)
    there = uk.measure(model, images, by="filter", repeats=3, max_dim=2, cluster=cluster.address)
    assert there == here
    assert len(here.rows) == 14
    data = [(images, torch.arange(60) % 2)]
    untangled = uk.measure(model, data, nulls=1, cluster=cluster.address)
    assert untangled == uk.measure(model, data, nulls=1) and untangled.untangling[-1].random == 0
    scores = uk.score_filters(model, images, criterion="betti")
    assert uk.score_filters(model, images, criterion="betti", cluster=cluster.address) == scores
    with pytest.raises(InputError, match="layer 0"):
        uk.measure(model, images, by="filter", scale=uk.Scale(k=3, hops=1), layers="0",
                   cluster=cluster.address, max_points=60)  if spoil(model) else None  # fmt: skip


def spoil(model: nn.Sequential) -> bool:
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    return True


def test_fuzzing_on_a_cluster_counts_the_same(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("gudhi")
    states = []
    for name, flags in (("here", ()), ("there", ("--cluster", cluster.address))):
        path = tmp_path / name
        command = [sys.executable, str(FUZZ), "--cases", "120", "--state", str(path), *flags]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        states.append({**json.loads(path.read_text()), "seconds": 0})
    assert states[0] == states[1] and states[0]["next"] == 120


# ---- a cluster that fails ------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_changes_nothing(
    samples: Path, alone: tuple[Trial, ...], tmp_path: Path
) -> None:
    out = tmp_path / "s.sqlite"
    with started(tmp_path / "cluster") as cluster:
        ran = study(samples, out, "--cluster", cluster.address)
        wait(lambda: committed(out) > 0, "trial")
        cluster.workers[0].kill()
        _, told = ran.communicate(timeout=SECONDS)
        assert (ran.returncode, told) == (0, "")
        assert [worker.poll() for worker in cluster.workers] == [-signal.SIGKILL, None, None]
    assert uk.Study(out).trials() == alone


def test_no_worker_left_is_told_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with started(tmp_path, workers=1) as cluster, Workforce(cluster=cluster.address) as workforce:
        end(cluster.workers[0])
        monkeypatch.setattr(module, "WORKER_SECONDS", 0.1)

        def rescue() -> None:
            wait(lambda: bool(caplog.messages), "word of it")
            time.sleep(0.5)  # said once
            cluster.add_worker()

        helper = Thread(target=rescue)
        helper.start()
        assert list(workforce.run(double, [(1,), (2,)], ordered=True)) == [2, 4]
        helper.join()
    told = f"cluster {cluster.address} has no worker left: waiting for one, started with: dask worker"
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(told)


def test_a_scheduler_killed_in_the_middle_and_started_again_changes_nothing(
    samples: Path, alone: tuple[Trial, ...], tmp_path: Path
) -> None:
    out = tmp_path / "s.sqlite"
    for number in range(8):  # a loaded machine may hear of the first trial when the study is done
        out = tmp_path / f"{number}.sqlite"
        with started(tmp_path / f"first {number}") as cluster:
            ran = study(samples, out, "--cluster", cluster.address)
            wait(lambda path=out: committed(path) > 0, "trial")
            cluster.scheduler.kill()
            _, told = ran.communicate(timeout=SECONDS)
        if ran.returncode:
            break
    assert ran.returncode == 2
    assert told.startswith("unknot: ") and "whose scheduler went" in told and len(told.splitlines()) == 1
    assert 0 < committed(out) < len(alone)
    with started(tmp_path / "second") as cluster:
        ran = study(samples, out, "--cluster", cluster.address, "--resume")
        _, told = ran.communicate(timeout=SECONDS)
        assert (ran.returncode, told) == (0, "")
    assert uk.Study(out).trials() == alone


@pytest.mark.parametrize("status", ["finished", "cancelled", "lost"])
def test_a_connection_that_closes_while_a_result_comes_is_a_scheduler_that_went(status: str) -> None:
    from distributed.comm import CommClosedError

    class Future:
        def __init__(self, status: str) -> None:
            self.status = status

        def result(self) -> None:
            raise CommClosedError("in <TCP (closed)>: Stream is closed")

    workforce = Workforce(cluster="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="tcp://127.0.0.1:1, whose scheduler went while tasks were"):
        workforce._result(Future(status))
    with pytest.raises(OSError, match="Stream is closed"):  # what the task itself could not open
        workforce._result(Future("error"))


def test_a_task_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    with (
        started(tmp_path) as cluster,
        Workforce(cluster=cluster.address) as workforce,
        pytest.raises(InputError, match="a task that 2 workers of tcp://.* died of"),
    ):
        list(workforce.run(die, [(1,)]))


def test_workers_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    with started(tmp_path, workers=1) as cluster:
        with Workforce(cluster=cluster.address) as workforce:
            late = cluster.add_worker("--nthreads", "2", "--no-nanny")  # after the others were asked
            cluster.wait_for_workers(2)
            with pytest.raises(InputError, match="with 2 threads: expected one thread a worker"):
                list(workforce.run(double, [(x,) for x in range(50)]))
        with pytest.raises(InputError, match=r"worker tcp://127.* with 2 threads"):
            Workforce(cluster=cluster.address).__enter__()
        end(late)


def test_another_version_on_a_worker_is_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "version", lambda _name: "99.0")  # here, not in the workers
    with pytest.raises(InputError, match=r"worker tcp.* with unknot .*: expected 99.0, as here"):
        Workforce(cluster=cluster.address).__enter__()


def test_what_a_worker_cannot_import_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    told = r"module only_here, which a worker of tcp://.* cannot import"
    with Workforce(cluster=cluster.address) as workforce, pytest.raises(InputError, match=told):
        list(workforce.run(only_here.f, [(1,)]))


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "nonsense://x", "nowhere.json", "", "tcp://:::"]
)
def test_no_cluster_is_one_line_and_nothing_written(
    address: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    out = tmp_path / "s.sqlite"
    with pytest.raises(SystemExit) as ended:
        main(["study", "--data", str(samples), "--out", str(out), *STUDY, "--cluster", address])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith(f"unknot: cluster {address}") and len(told.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"address": 3}', '{"other": "tcp://127.0.0.1:9"}', "\xff"])
def test_a_broken_scheduler_file_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"cluster .*scheduler\.json \(.*\): expected the address"):
        Workforce(cluster=str(path)).__enter__()


def test_a_port_of_another_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match="expected the address of a running Dask scheduler"):
            Workforce(cluster=address).__enter__()


def test_a_wrong_address_leaves_nothing_for_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which would close the client while another starts, and wait for ever on the lock of both."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    closed = []
    close = distributed.Client.close
    monkeypatch.setattr(
        distributed.Client, "close", lambda it, *a, **k: (closed.append(it.status), close(it, *a, **k))
    )
    for address in ("nonsense://x", "tcp://127.0.0.1:9"):
        closed.clear()
        with pytest.raises(InputError, match="expected the address of a running Dask scheduler"):
            Workforce(cluster=address).__enter__()
        assert closed  # at once
        closed.clear()
        gc.collect()
        assert set(closed) <= {"closed"}


def test_a_cluster_without_workers_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORKER_SECONDS", 0.5)
    told = r"cluster tcp.* without a worker for 0.5 s"
    with started(tmp_path, workers=0) as cluster, pytest.raises(InputError, match=told):
        Workforce(cluster=cluster.address).__enter__()


def test_an_interrupted_study_leaves_no_task_behind(
    cluster: Cluster, samples: Path, alone: tuple[Trial, ...], tmp_path: Path
) -> None:
    for number in range(8):  # a loaded machine may hear of the first trial when the study is done
        out = tmp_path / f"{number}.sqlite"
        ran = study(samples, out, "--cluster", cluster.address)
        wait(lambda path=out: committed(path) > 0, "trial")
        ran.send_signal(signal.SIGINT)
        _, told = ran.communicate(timeout=SECONDS)
        if ran.returncode:
            break
    assert (ran.returncode, told) == (130, "unknot: interrupted\n")
    with distributed.Client(cluster.address, set_as_default=False) as client:
        wait(lambda: not any(client.processing().values()), "end of the tasks")
    ran = study(samples, out, "--cluster", cluster.address, "--resume")
    assert ran.wait(SECONDS) == 0
    assert uk.Study(out).trials() == alone
