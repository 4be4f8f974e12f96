"""How much memory a computation will take, and the limit above which it is refused."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from unknot.core.errors import InputError

# Of glibc's mallopt.
_MMAP_THRESHOLD = -3
LIMIT_VARIABLE = "UNKNOT_MEMORY_GB"
# Of cgroup 2 and 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> int:
    """Bytes that one computation may take: ``$UNKNOT_MEMORY_GB``, or half of what this process may have.

    That is the machine's memory, or what its container (cgroup) was allowed at the first call, where
    that is less: to read it again would take a tenth of the time of a small cloud.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        try:
            total: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):  # Windows has no sysconf
            total = 16 << 30
        return min([total, *_container_limits(CONTAINER_LIMITS)]) // 2
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < 1e9:
        raise InputError(f"{LIMIT_VARIABLE}={text}", "a number of gigabytes > 0", "set e.g. 8")
    return int(gigabytes * 1e9)


@cache
def _container_limits(names: tuple[str, ...]) -> list[int]:
    limits = []
    for name in names:
        with suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(Path(name).read_text(encoding="ascii")))
    return limits


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Arrays of a megabyte and more go back to the system when freed, whichever thread they are of.

    glibc keeps what a thread frees for that thread: with many threads, several times what is in use.
    Afterwards arrays below 32 MB are kept again, as glibc does by itself once such were freed.
    """
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        yield
        return
    adjust(_MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        adjust(_MMAP_THRESHOLD, 32 << 20)


def give_back() -> None:
    """What was freed goes back to the system, between the parts of a long computation.

    glibc keeps free memory that anything behind it is in use of; over many calls with tensors of many
    sizes, such holes grow to several times what is in use.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def require_memory(n_points: int, needed: int, what: str) -> None:
    """Refuse, before anything is taken, what needs more than `memory_limit`."""
    limit = memory_limit()
    if needed > limit:
        raise InputError(
            f"{what} of {n_points} points ({needed / 1e9:.2g} GB)",
            f"at most {limit / 1e9:.2g} GB",
            f"take a subsample, use a kNN-hop graph, or raise {LIMIT_VARIABLE}",
        )
