"""Islands and tangle of many clouds of the same samples, with intervals; Betti numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unknot import _native
from unknot.core.errors import InputError, require_count, require_positive
from unknot.core.memory import memory_limit
from unknot.core.workforce import Workforce
from unknot.topology.batch import CloudCount, CountSettings, count_clouds, sent_parts
from unknot.topology.cloud import FloatArray, check_labels, check_points, group_equal_rows
from unknot.topology.homology import MOST_THREADS
from unknot.topology.multiscale.density import Islands, islands, islands_of
from unknot.topology.multiscale.spanning_tree import NEIGHBOURS, Tangle, tangle_and_shuffled, tangle_of
from unknot.topology.scale import Scale

# Up to so many points all their inner products are kept.
_KEPT_PRODUCTS = 4096

T = TypeVar("T")
Span = tuple[float, float]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class UntanglingSettings:
    """How islands and tangle are measured.

    Attributes:
        k, z: of `islands`.
        repeats: half-samples for the intervals; 0 for none.
        shuffles: permutations of the labels for `Untangled.shuffled`; 0 for none.
        threads: of the engine; 0 takes one a core.
        seed: of half-samples and shuffles.
    """

    k: int = 15
    z: float = 3.0
    repeats: int = 10
    shuffles: int = 0
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("k", self.k, minimum=2)
        require_positive("z", self.z, 3.0)
        for name in ("repeats", "shuffles", "threads", "seed"):
            require_count(name, getattr(self, name), minimum=0)


@dataclass(frozen=True)
class Intervals:
    """``(low, high)`` of each number over half-samples; None where it was not measured in each of them.

    A half drawn without replacement varies about the mean of the halves as a sample of n does about what
    is true, so the number plus the least and the greatest deviation of the halves is the interval.

    Attributes:
        islands: whole numbers >= 1, rounded outward.
        total, tangle: >= 0.
        purity: within [0, 1].
    """

    islands: tuple[int, int] | None = None
    total: Span | None = None
    tangle: Span | None = None
    purity: Span | None = None


@dataclass(frozen=True)
class Untangled:
    """Islands and tangle of one cloud, as far as they can be measured.

    Attributes:
        islands: None for k distinct points or fewer.
        tangle: None where all points are equal, and without labels of two classes.
        intervals: of both.
        shuffled: (lowest, highest) tangle of the same points under shuffled labels, where asked for.
        note: what to heed, and why a number is missing; often empty.
    """

    islands: Islands | None
    tangle: Tangle | None
    intervals: Intervals = field(default_factory=Intervals)
    shuffled: Span | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class CloudSettings:
    """What is measured of several clouds of the same n samples.

    Attributes:
        counting: of the Betti numbers, or None for none.
        groups: the samples of each part that Betti numbers are counted of; None for the whole.
        untangling: of islands and tangle, always of the whole; or None for none.
        labels: int64 ``[n]``, or None.
    """

    counting: CountSettings | None
    groups: tuple[NDArray[np.intp], ...] | None = None
    untangling: UntanglingSettings | None = None
    labels: Labels | None = None


def measure_clouds(
    clouds: Sequence[FloatArray], how: CloudSettings, workforce: Workforce | None = None
) -> tuple[list[CloudCount], list[Untangled]]:
    """Betti numbers of each part of each cloud, and islands and tangle of each cloud.

    Args:
        clouds: ``[n, ...]`` each, one row a sample.
        how: what is measured.
        workforce: as of `count_clouds`.

    Raises:
        InputError: what `count_clouds` and `untangle_clouds` refuse.
    """
    parts = [c if g is None else c[g] for c in clouds for g in (how.groups or (None,))]
    counts = [] if how.counting is None else count_clouds(parts, how.counting, workforce)
    if how.untangling is None:
        return counts, []
    return counts, untangle_clouds(clouds, how.labels, how.untangling, workforce)


def warm_up() -> None:
    """Load the engine in a new process, so that the first clouds need not wait for it."""
    cloud, labels = np.arange(32.0)[:, None], np.arange(32) % 2
    counting = CountSettings(Scale(k=2, hops=1))
    measure_clouds([cloud], CloudSettings(counting, None, UntanglingSettings(repeats=0), labels))


def untangle_clouds(
    clouds: Sequence[ArrayLike],
    labels: ArrayLike | None,
    settings: UntanglingSettings,
    workforce: Workforce | None = None,
) -> list[Untangled]:
    """Islands and tangle of several clouds of the same samples, e.g. of what layers return for them.

    What cannot be measured (equal points, fewer than k distinct ones, one class, too little memory) is
    None in the result, whose note says why.

    Args:
        clouds: ``[n, ...]`` each, one row a sample, in one order.
        labels: ``[n]`` whole numbers, or None.
        settings: how.
        workforce: whose cluster measures them; without a cluster the engine's threads do.

    Raises:
        InputError: NaN or infinity, labels that are not one whole number a sample, a cluster that went.
    """
    if workforce is not None and workforce.cluster is not None:
        calls = [(part, labels, settings) for part in sent_parts([check_points(c) for c in clouds])]
        return [one for part in workforce.run(untangle_clouds, calls, ordered=True) for one in part]
    return [_untangled(check_points(cloud), labels, settings) for cloud in clouds]


def _untangled(array: FloatArray, labels: ArrayLike | None, settings: UntanglingSettings) -> Untangled:
    n = len(array)
    numbers = None if labels is None else check_labels(labels, n)
    rng = np.random.default_rng(settings.seed)
    parts = [np.sort(rng.choice(n, n // 2, replace=False)) for _ in range(settings.repeats)]
    measured = _measured_at_once(array, numbers, settings, parts)
    if measured is None:
        once = replace(settings, shuffles=0)
        measured = [_measured(array, numbers, settings)]
        measured += [_measured(array[p], None if numbers is None else numbers[p], once) for p in parts]
    found, tangled, shuffled, notes = measured[0]
    halves = [_numbers(half.islands, half.tangle) for half in measured[1:]]
    values = _numbers(found, tangled)
    spans = {
        name: _span(name, value, [half[name] for half in halves])
        for name, value in values.items()
        if halves and all(name in half for half in halves)
    }
    if halves and len(spans) < len(values):
        without = " and ".join(name for name in ("islands", "tangle") if name in values.keys() - spans)
        notes.append(f"no interval of {without}: too few points in half of them")
    return Untangled(found, tangled, Intervals(**spans), shuffled, "; ".join(notes))


class _Measured(NamedTuple):
    islands: Islands | None
    tangle: Tangle | None
    shuffled: Span | None
    notes: list[str]


def _measured(array: FloatArray, labels: Labels | None, settings: UntanglingSettings) -> _Measured:
    """Both numbers of one cloud ``[n, d]``, the range under shuffled labels, and what to heed."""
    distinct = len(group_equal_rows(array)[0])
    if distinct < 2:
        return _Measured(None, None, None, ["all points are equal: no islands, no tangle"])
    found, pair, notes = None, None, []
    if distinct <= settings.k:
        notes.append(f"no islands: {distinct} distinct points, k = {settings.k} takes more")
    else:
        count = partial(islands, array, settings.k, settings.z, threads=settings.threads)
        found = _unless_too_large(count, "islands", notes)
    lacking = _lacking(labels)
    if labels is not None and not lacking:
        span = partial(tangle_and_shuffled, array, labels, seed=settings.seed, threads=settings.threads)
        pair = _unless_too_large(partial(span, shuffles=settings.shuffles), "tangle", notes)
    return _together(found, pair, notes + lacking)


def _lacking(labels: Labels | None) -> list[str]:
    """Why labels have no tangle, in one line; nothing where they have."""
    classes = 0 if labels is None else len(np.unique(labels))
    if labels is not None and 1 < classes < len(labels):
        return []
    lacking = "classes of one point each" if classes > 1 else "labels of one class"
    return [f"no tangle: {'no labels' if labels is None else lacking}"]


def _together(
    found: Islands | None, pair: tuple[Tangle, NDArray[np.float64]] | None, notes: list[str]
) -> _Measured:
    tangled, values = pair or (None, np.empty(0))
    shuffled = (float(values.min()), float(values.max())) if len(values) else None
    heeded = [one.note for one in (found, tangled) if one is not None and one.note]
    return _Measured(found, tangled, shuffled, heeded + notes)


def _measured_at_once(
    array: FloatArray, labels: Labels | None, settings: UntanglingSettings, parts: list[NDArray[np.int64]]
) -> list[_Measured] | None:
    """What `_measured` says of the whole and of each part ``[m]``, from one search for neighbours.

    None where that does not go: equal points, few of them, squared distances that float64 does not hold,
    too little memory.
    """
    n, k, z = len(array), settings.k, settings.z
    longest = min(4 * max(k, NEIGHBOURS), n)
    # Lists with their logarithms, the points as tiles, and inner products of all where they are kept.
    products = 4 * n if n <= _KEPT_PRODUCTS else 0
    needed = n * (32 * longest + 16 * array.shape[1] + 300 + products)
    few = min((len(part) for part in parts), default=n) <= max(k, NEIGHBOURS)
    if few or needed > memory_limit() or len(group_equal_rows(array)[0]) < n:
        return None
    rows = np.array(parts, np.int32).reshape(len(parts), n // 2)
    tree, threads = not _lacking(labels), min(settings.threads, MOST_THREADS)
    all_found = _native.untangle(array, rows, k, z, nearest=NEIGHBOURS, tree=tree, threads=threads)
    measured = []
    for at, ((members, prominences, dimension), edges, near) in enumerate(all_found):
        own = labels if labels is None or at == 0 else labels[parts[at - 1]]
        found = islands_of(members, prominences, dimension, (len(members), k, z))
        lacking, pair = _lacking(own), None
        if own is not None and not lacking:
            shuffles, group = 0 if at else settings.shuffles, np.arange(len(own))
            pair = tangle_of(edges, near, own, group=group, shuffles=shuffles, seed=settings.seed)
        measured.append(_together(found, pair, lacking))
    return measured or None


def _unless_too_large(compute: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """What ``compute`` gives; None and a note where it is refused, as it is for want of memory alone."""
    try:
        return compute()
    except InputError as error:
        notes.append(f"no {what}: {error}")
        return None


def _numbers(found: Islands | None, tangled: Tangle | None) -> dict[str, float]:
    values: dict[str, float] = {}
    if found is not None:
        values |= {"islands": found.count, "total": found.total}
    if tangled is not None:
        values |= {"tangle": tangled.tangle, "purity": tangled.purity}
    return values


def _span(name: str, value: float, halves: list[float]) -> Any:
    if name == "islands":  # in whole numbers, so that nothing is rounded twice
        count, sum_of_all = len(halves), int(sum(halves))
        lowest, highest = int(value + min(halves)), int(value + max(halves))
        return max(1, (count * lowest - sum_of_all) // count), -((sum_of_all - count * highest) // count)
    mean = math.fsum(halves) / len(halves)
    low, high = max(0.0, value + min(halves) - mean), value + max(halves) - mean
    return low, min(high, 1.0) if name == "purity" else high
