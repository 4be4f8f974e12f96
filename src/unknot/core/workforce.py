"""Workforce: runs tasks here, in processes of this machine (joblib), or on a Dask cluster.

The cluster is asked through Dask's own client: joblib's Dask backend waits for ever when the workers of a
task die, or the scheduler does (joblib 1.6).
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from unknot.core.errors import InputError, import_package, require_count

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
# A scheduler that does not answer in so many seconds is not there; its first worker may take longer.
CONNECT_SECONDS = 10.0
WORKER_SECONDS = 30.0
_STARTED = "started with: dask worker ADDRESS --nworkers -1 --nthreads 1"


class Workforce:
    """Who does the work; a context manager.

    >>> with Workforce(jobs=2) as workforce:                     # doctest: +SKIP
    ...     for result in workforce.run(function, [(1, "a"), (2, "b")]):
    ...         ...

    Args:
        jobs: processes of this machine; 1 works in this one.
        cluster: address of a Dask scheduler (``tcp://host:8786``), or the path of its scheduler file
            (``*.json``); then ``jobs`` does not count. Its workers need the same version of unknot, and
            one thread each: tasks set the threads and seeds of their process.

    Raises:
        InputError: on entering: no scheduler at the address, no worker, or one that does not fit.
    """

    def __init__(self, jobs: int = 1, cluster: str | None = None) -> None:
        self.jobs = require_count("jobs", jobs)
        self.cluster = cluster
        self._client: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Workforce:
        if self.cluster is not None:
            with ExitStack() as stack:  # closes what was opened if the next step fails
                stack.enter_context(_quiet())
                self._client = stack.enter_context(_connected(self.cluster))
                self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._client = None
        self._open.close()

    def run(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, ordered: bool = False
    ) -> Iterator[T]:
        """Yield ``function(*call)`` for every call, as they finish or in order.

        Function, arguments and results must survive pickling. An argument that several calls share (the
        same object) travels to a cluster once. A task whose worker died runs again elsewhere.

        Raises:
            InputError: the scheduler went, or a task killed every worker that tried it.
            Exception: whatever ``function`` raises.
        """
        if self._client is not None:
            return self._on_cluster(function, calls, ordered)
        if min(self.jobs, len(calls)) > 1:
            return self._in_processes(function, calls, ordered)
        return (function(*call) for call in calls)

    def _in_processes(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], ordered: bool
    ) -> Iterator[T]:
        from joblib import Parallel, delayed  # here: what runs in this process needs none
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        parallel = Parallel(
            n_jobs=min(self.jobs, len(calls)),
            return_as="generator" if ordered else "generator_unordered",
        )
        try:
            yield from parallel(delayed(function)(*call) for call in calls)
        except TerminatedWorkerError:
            raise InputError(
                f"a process that died, one of {self.jobs} (often for want of memory)",
                "tasks that fit into memory",
                "pass fewer jobs, and go on with what is there",
            ) from None

    def _on_cluster(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], ordered: bool
    ) -> Iterator[T]:
        from distributed import as_completed

        client = self._client
        here = version("unknot")
        packed = _Packed(client, calls)
        work = packed.packed(function)
        futures = [
            client.submit(_unpacked, here, work, *map(packed.sent, call), pure=False) for call in calls
        ]
        try:
            with _watched(client, str(self.cluster)):
                waiting = futures if ordered else as_completed(futures, loop=client.loop)
                for future in waiting:
                    yield self._result(future)
                    future.release()
        finally:
            if client.status == "running":
                client.cancel(futures, force=True)

    def _result(self, future: Any) -> Any:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise InputError(
                f"a task that {error.allowed_failures + 1} workers of {self.cluster} died of "
                f"(last: {getattr(error.last_worker, 'address', error.last_worker)})",
                "tasks that fit into a worker's memory",
                "give workers more (dask worker --memory-limit), and go on with what is there",
            ) from None
        except (CancelledError, OSError) as error:  # OSError: the connection closed while results came
            if isinstance(error, OSError) and future.status == "error":
                raise  # the task's own
            raise InputError(
                f"cluster {self.cluster}, whose scheduler went while tasks were running",
                "a scheduler that stays",
                "start it and its workers again, and go on with what is there",
            ) from None
        except RuntimeError as error:
            if "deserialization" not in str(error):
                raise
            raise InputError(
                f"cluster {self.cluster}, whose scheduler cannot import unknot",
                f"unknot {version('unknot')} there as on the workers",
                "start it in the workers' environment",
            ) from None
        except ModuleNotFoundError as error:
            raise InputError(
                f"module {error.name or error}, which a worker of {self.cluster} cannot import",
                "what the tasks name on every worker",
                "install it there, or put its folder on the workers' PYTHONPATH",
            ) from None


class _Packed:
    """Functions and arguments as bytes: the scheduler unpickles anything else, and may lack its modules.

    An argument that several calls share is sent once, as the result of a task and not by
    ``Client.scatter``: the scheduler keeps the task, and runs it again when the worker that holds the
    result dies.
    """

    def __init__(self, client: Any, calls: Iterable[tuple[Any, ...]]) -> None:
        self._client = client
        self._counts = Counter(id(value) for call in calls for value in call)
        self._futures: dict[int, Any] = {}

    def packed(self, value: Any) -> bytes:
        import cloudpickle  # Dask's; functions of the main program travel by value

        data: bytes = cloudpickle.dumps(value)
        return data

    def sent(self, value: Any) -> Any:
        """``value`` as bytes, or as a future of them where several calls share it."""
        if self._counts[id(value)] < 2:
            return self.packed(value)
        if id(value) not in self._futures:
            self._futures[id(value)] = self._client.submit(_same, self.packed(value), pure=False)
        return self._futures[id(value)]


def _same(value: T) -> T:
    return value


def _describe(dask_worker: Any) -> tuple[str, int]:  # the name by which Dask passes it
    """Version and threads of a worker."""
    return version("unknot"), dask_worker.state.nthreads


def _require_fit(worker: tuple[str, int], here: str, address: str) -> None:
    """Refuse a worker, as `_describe` gives it, of another version or with several threads."""
    there, threads = worker
    if there != here:
        raise InputError(
            f"worker {address} with unknot {there}", f"{here}, as here", "install the same there"
        )
    if threads != 1:
        raise InputError(
            f"worker {address} with {threads} threads", "one thread a worker", f"have it {_STARTED}"
        )


def _unpacked(here: str, *packed: bytes) -> Any:
    """Run the call on a worker, which is checked here too: it may have joined after the first check."""
    from distributed import get_worker

    worker = get_worker()
    _require_fit(_describe(worker), here, worker.address)
    function, *call = map(pickle.loads, packed)
    return function(*call)


@contextmanager
def _watched(client: Any, address: str) -> Iterator[None]:
    """Warn when no worker is left: tasks then wait for a new one, as on adaptive clusters they should."""
    done = Event()

    def watch() -> None:
        alone = False
        while not done.wait(WORKER_SECONDS):
            try:
                workers = client.nthreads()
            except Exception:  # the scheduler went, or the client closed: results tell
                return
            if not workers and not alone:
                _LOG.warning("cluster %s has no worker left: waiting for one, %s", address, _STARTED)
            alone = not workers

    Thread(target=watch, name="workers left", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _closing(client_class: Any) -> Any:
    """A class of clients that close themselves when they cannot start.

    Dask leaves such a client half open, with its thread, to the garbage collector. If that closes it
    while the next client starts, both wait for the same lock for ever (distributed 2026.8).
    """

    class Closing(client_class):  # type: ignore[misc]
        def start(self, **kwargs: Any) -> None:
            try:
                super().start(**kwargs)
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    self.close(timeout=5)
                raise

        async def _start(self, **kwargs: Any) -> Any:
            """With a time limit: Dask waits for ever on another program that takes the connection."""
            try:
                return await asyncio.wait_for(super()._start(**kwargs), 2 * CONNECT_SECONDS)
            except asyncio.TimeoutError:  # not yet an OSError in Python 3.10
                raise TimeoutError(f"no word of a scheduler in {2 * CONNECT_SECONDS:g} s") from None

    return Closing


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        # Dask waits for ever for a scheduler file that is not there, and fails an assertion on others.
        named = json.loads(Path(address).read_text())["address"] if address.endswith(".json") else address
        client = _closing(Client)(named, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError) as error:  # TimeoutError is an OSError
        raise InputError(
            f"cluster {address} ({str(error)[:80]})",
            "the address of a running Dask scheduler",
            "start one with: dask scheduler, or check host and port",
        ) from None
    try:
        _require_workers(client, address)
        yield client
    finally:
        with suppress(TimeoutError):  # of a scheduler that is stuck; what happened before is told
            client.close(timeout=5)


def _require_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise InputError(
            f"cluster {address} without a worker for {WORKER_SECONDS:g} s",
            "at least one",
            f"one is {_STARTED}",
        ) from None
    try:
        workers = client.run(_describe)
    except ModuleNotFoundError:
        raise InputError(
            f"cluster {address} with workers that cannot import unknot",
            f"unknot {version('unknot')} on every worker",
            "install it there, and start the workers again",
        ) from None
    for worker_address, worker in workers.items():
        _require_fit(worker, version("unknot"), worker_address)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's log of lost connections, which errors tell in one line, and its advice on sizes."""
    import_package("distributed", extra="dask")  # which makes the loggers

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    # tornado logs the callbacks that an interruption left behind.
    levels = {logger: logger.level for logger in map(logging.getLogger, [*names, "tornado.application"])}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
