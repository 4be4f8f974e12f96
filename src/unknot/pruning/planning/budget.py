"""How far to go down a list of what to remove until a budget is met, tried on the pruned model."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from numbers import Real

from torch import nn

from unknot.core.errors import InputError
from unknot.nets.cost import count_macs, measure_cost
from unknot.nets.probe import Inputs, map_tensors
from unknot.nets.running import n_samples

REPEATS = 20  # timed passes a try
# Where no filter may go.
REMEDY = (
    "the reason tells what stands in the way; ignore fewer layers, or name others, e.g. "
    "linear=['*pwconv1'] or --linear '*pwconv1'"
)
UNITS = {"macs": "MACs per sample", "parameters": "parameters"}


@dataclass(frozen=True)
class Budget:
    """Exactly one of these is given.

    Attributes:
        max_betti: Betti number above which a filter goes.
        ratio: share of the filters to remove, in [0, 1).
        macs, parameters: share of the MACs or parameters to remove, in [0, 1).
        latency_ms: milliseconds that a forward pass of the example may take.
    """

    max_betti: float | None = None
    ratio: float | None = None
    macs: float | None = None
    parameters: float | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        given = self.given
        if len(given) != 1:
            values = ", ".join(f"{name} = {value}" for name, value in given.items())
            raise InputError(values or "no budget", "exactly one budget", "pass one of ratio=0.5, "
                             "macs=0.5, parameters=0.5, latency_ms=1.0 and max_betti=300, as a flag "
                             "--ratio 0.5, --macs, --parameters, --latency-ms or "
                             "--max-betti")  # fmt: skip
        ((name, value),) = given.items()
        number = value if isinstance(value, Real) else math.nan
        fits, expected, example = {
            "max_betti": (number >= 0, "a number >= 0", "max_betti=300"),
            "latency_ms": (number > 0, "a number > 0", "1.0"),
        }.get(name, (0 <= number < 1, "a share in [0, 1)", f"{name}=0.5"))
        if not fits:
            raise InputError(f"{name} = {value!r}", expected, f"pass e.g. {example}")

    @property
    def given(self) -> dict[str, float]:
        """The one budget that is given, by its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def size_of(what: str, model: nn.Module, example: Inputs) -> float:
    """What a budget is about: "macs" of one sample, "parameters", or "latency_ms" of the example."""
    if what == "macs":
        return count_macs(model, map_tensors(example, lambda t: t[:1]))
    if what == "parameters":
        return sum(p.numel() for p in model.parameters())
    return measure_cost(model, example, repeats=REPEATS, batch_sizes=(), progress=False).latency_ms


@dataclass(frozen=True)
class Met:
    """Where the search ended: steps taken down the list, and the budget in words."""

    steps: int
    summary: str  # e.g. "49.8% of 29,532,160 MACs per sample, 50.0% asked"


def meet_share(
    what: str, share: float, removed: Callable[[int], float], steps: int, limits: str = ""
) -> Met:
    """The step at which the share of "macs" or "parameters" that is gone is nearest to ``share``.

    ``removed`` gives that share after so many of ``steps`` steps; ``limits`` names the options that keep
    back what else might go.
    """
    removed = cache(removed)
    first = _first_step(steps, lambda step: removed(step) >= share)
    near = [step for step in (first - 1, first) if step >= 0]
    best = min(near, key=lambda step: abs(removed(step) - share))
    if removed(best) < share - 0.02 and removed(steps) < share:  # else rounding is what forbids it
        require_share(what, share, removed(steps), limits)
    return Met(best, f"{removed(best):.1%} of the {UNITS[what]}, {share:.1%} asked")


def require_share(what: str, share: float, most: float, limits: str) -> None:
    """Refuse a share of which only ``most`` may go; ``limits`` as in `meet_share`."""
    if most < share:
        raise InputError(
            f"{what} = {share}",
            f"at most {most:.3g}, all that may go{limits and f' with {limits}'}",
            f"lower it or {limits}"
            if limits
            else "lower it; a plan by ratio tells in kept_layers what may not",
        )


def meet_latency(limit: float, pruned: Callable[[int], nn.Module], steps: int, example: Inputs) -> Met:
    """The first step found whose median forward pass of ``example`` takes at most ``limit`` ms."""

    def latency(step: int) -> float:
        return size_of("latency_ms", pruned(step), example)

    first = _first_step(steps, lambda step: latency(step) <= limit)
    # Timings scatter, so the first step is timed again, and passed over if it fails.
    while (taken := latency(first)) > limit:
        if first == steps:
            raise InputError(
                f"latency_ms = {limit:g}",
                f"at least {taken:.3g}, with all gone that may go",
                "raise it, or pass a smaller example",
            )
        first = min(steps, first + max(1, steps // 50))
    n = n_samples(example)
    return Met(first, f"{taken:.3g} ms for {n} sample{'s' * (n != 1)}, at most {limit:g} asked")


def _first_step(steps: int, reached: Callable[[int], bool]) -> int:
    """The first step in [0, steps] where a monotone condition holds; ``steps`` where none does."""
    return bisect_left(range(steps), True, key=reached)
