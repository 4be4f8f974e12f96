"""How much memory a computation will take, and the limit above which it is refused."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from unknot.core.errors import InputError

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


def require_memory(n_points: int, needed: int, what: str) -> None:
    """Refuse, before anything is taken, what needs more than `memory_limit`."""
    limit = memory_limit()
    if needed > limit:
        raise InputError(
            f"{what} of {n_points} points ({needed / 1e9:.2g} GB)",
            f"at most {limit / 1e9:.2g} GB",
            f"take a subsample, use a kNN-hop graph, or raise {LIMIT_VARIABLE}",
        )
