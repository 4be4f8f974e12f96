"""Functions that run side by side in threads, one at a time, each until it pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Stopped(BaseException):
    """Raised in a strand that is to end at its pause; no `Exception`, as models catch those."""


class Strand(Generic[T]):
    """A function in a thread of its own, which runs only inside `resume`.

    Args:
        work: gets a function ``pause(value)``, which hands a value over and returns at the next `resume`.
    """

    def __init__(self, work: Callable[[Callable[[T], None]], None]) -> None:
        self._work = work
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._handed: list[T] = []
        self._error: BaseException | None = None
        self._stopping = self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def resume(self) -> T | None:
        """Run until the next pause: what was handed over; None at the end.

        Raises:
            BaseException: what the function raised.
        """
        if self._ended:
            return None
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._handed.pop() if self._handed else None

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._stopping:
                self._work(self._pause)
        except _Stopped:
            pass
        except BaseException as error:  # handed to whoever resumed it
            if not self._stopping:
                self._error = error
        finally:
            self._ended = True
            self._back.release()

    def _pause(self, value: T) -> None:
        if not self._stopping:
            self._handed.append(value)
            del value
            self._back.release()
            self._go.acquire()
        if self._stopping:
            raise _Stopped


def stop_all(strands: Iterable[Strand[T]]) -> None:
    """End every strand at its pause, one that still runs at its next, and wait for their threads."""
    strands = list(strands)
    for strand in strands:
        strand._stopping = True
        strand._go.release()
    for strand in strands:
        strand._thread.join()
