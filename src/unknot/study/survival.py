"""Statistics of times to a target, some of them censored: not reached within the cap of the study.

A censored time is never counted as a number: medians sort it behind all others, the Kaplan-Meier curve
and the log-rank test know it as censored, and a ratio of medians with censored times is a bound.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from unknot.core.errors import InputError, require_count, require_number, require_positive
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular
from unknot.nets.timing import median_rank

Times = Sequence[float | None]
RESAMPLES = 2000
FEWEST = 5  # seeds whose resamples say anything of an interval
SPREAD = 0.33  # of a strip's height, to either side


@dataclass(frozen=True, repr=False)
class SurvivalCurve(Tabular):
    """The Kaplan-Meier estimate of the share of runs that have not reached the target yet.

    Attributes:
        epochs: where it falls, rising.
        share: from there on, falling; before the first it is 1.
        cap: where it ends.
    """

    epochs: tuple[float, ...]
    share: tuple[float, ...]
    cap: float

    def _columns(self) -> dict[str, Sequence[float]]:
        return {"epochs": self.epochs, "share": self.share}

    def _title(self) -> str:
        return (
            f"SurvivalCurve: share of runs not there yet, up to {self.cap:g} epoch{'s' * (self.cap != 1)}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the share of runs that are not there yet over the epochs.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: matplotlib is not installed.
        """
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        draw_survival(axes, self)
        return axes


def draw_survival(axes: Any, curve: SurvivalCurve, **style: Any) -> None:
    """Draw the curve, to the cap where it does not reach 0, with the axes named."""
    share = (1.0, *curve.share)
    end = [curve.cap] if share[-1] > 0 else []
    axes.step([0.0, *curve.epochs, *end], [*share, *share[-1:] * len(end)], where="post", **style)
    axes.set(xlabel="epochs", ylabel="not there yet", ylim=(-0.03, 1.05))
    axes.set_xlim(0, max(axes.get_xlim()[1], curve.cap))
    drawing.percent_axis(axes, "y")
    drawing.plain(axes)


def draw_strips(
    axes: Any,
    names: Sequence[str],
    times: Sequence[Times],
    tones: Sequence[int],
    cap: float | None = None,
) -> None:
    """One strip a name, from the top.

    Args:
        names: of the strips.
        times: of each, one a seed; None where it was not reached.
        tones: the number of each strip's colour.
        cap: epochs after which all were given up, where they share it.
    """
    reached = [t for of_strip in times for t in of_strip if t is not None]
    drawing.scale_counts(axes, "x", reached)
    top = max(reached, default=1.0) or 1.0
    wide = drawing.is_wide(reached)
    # Past every number, as wide as a sixth of them.
    band = [float(np.expm1(np.log1p(top) * f)) if wide else top * f for f in (1.07, 1.25)]
    censored = any(t is None for of_strip in times for t in of_strip)
    for row, (of_strip, tone) in enumerate(zip(times, tones, strict=True)):
        n = len(of_strip)
        heights = row + (np.linspace(-SPREAD, SPREAD, n) if n > 1 else np.zeros(n))
        style = {"s": 26, "edgecolors": drawing.colour(tone), "clip_on": False, "zorder": 3}
        there = [(t, height) for t, height in zip(of_strip, heights, strict=True) if t is not None]
        missed = [height for t, height in zip(of_strip, heights, strict=True) if t is None]
        if there:
            filled = {"facecolors": drawing.colour(tone), "marker": drawing.mark(tone)}
            axes.scatter(*zip(*there, strict=True), **style, **filled)
        if missed:
            hollow = {"facecolors": "none", "marker": ">"}
            axes.scatter([sum(band) / 2] * len(missed), missed, **style, **hollow)
        _draw_median(axes, row, of_strip, band[0])
    drawing.name_rows(axes, names)
    axes.set_xlim(0, band[1] if censored else band[0])
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= band[0]])
    axes.set_xlabel("epochs")
    if censored:
        axes.axvspan(*band, color=drawing.LINE, zorder=0)
        axes.text(band[1], -0.55, missed_text(cap), ha="right", va="bottom", fontsize=drawing.SMALL)
    drawing.plain(axes)


def _draw_median(axes: Any, row: int, times: Times, past: float) -> None:
    """An upright line, and along the strip the interval; an end that was not reached is at ``past``."""
    middle, (low, high) = censored_median(times), median_interval(times)
    if middle is not None:
        axes.vlines(middle, row - 0.4, row + 0.4, color=drawing.INK, linewidth=2, zorder=4)
    if low is not None:
        axes.hlines(row, low, past if high is None else high, color=drawing.INK, linewidth=1, zorder=2)


@dataclass(frozen=True)
class Comparison:
    """How many times fewer epochs than a baseline, seed by seed on the same data.

    Attributes:
        ratio: median of the baseline over the median of the other; above 1 the other is faster. Where
            the baseline's median is not reached, its cap stands for it and the ratio is a lower bound;
            0 where the other's median is not reached.
        low, high: its 95 % interval by the percentiles of a bootstrap over seeds, paired; None of fewer
            than five seeds.
        bound: whether the ratio is a lower bound.
        p: of the log-rank test of equal curves (Mantel, 1966).
        p_holm: corrected for all comparisons of the family (Holm, 1979).
    """

    ratio: float
    low: float | None
    high: float | None
    bound: bool
    p: float
    p_holm: float


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation.

    Attributes:
        rho: in [-1, 1].
        low, high: its 95 % interval by the percentiles of a bootstrap over the pairs; None of fewer than
            five.
        n: pairs.
    """

    rho: float
    low: float | None
    high: float | None
    n: int


def censored_median(times: Times) -> float | None:
    """The median with None as longer than every number; None where that is what it comes to."""
    middle = statistics.median(math.inf if t is None else float(t) for t in times)
    return None if math.isinf(middle) else middle


def median_interval(values: Times) -> tuple[float | None, float | None]:
    """The 95 % interval of the median by the sign test; None is longer than every number.

    Returns:
        (low, high), None for an end that is infinite, e.g. censored, and for both ends of fewer than six
        values, which have none.
    """
    ordered = sorted(math.inf if v is None else float(v) for v in values)
    k = median_rank(len(ordered))
    if k < 0:
        return None, None
    low, high = (end if math.isfinite(end) else None for end in (ordered[k], ordered[-1 - k]))
    return low, high


def missed_text(cap: float | None) -> str:
    """ "not reached in 60 epochs"; without the number where the cap is not known."""
    return "not reached" if not cap else f"not reached in {cap:g} epoch{'s' * (cap != 1)}"


def median_text(times: Times, cap: float | None = None) -> str:
    """The median; what was not reached within the cap has no number."""
    middle = censored_median(times)
    return missed_text(cap) if middle is None else f"{middle:.3g}"


def range_text(times: Times) -> str:
    """ "[fewest to most]"; empty where nothing was reached."""
    reached = [t for t in times if t is not None]
    if not reached:
        return ""
    most = f"{max(reached):.3g}" if len(reached) == len(times) else "not reached"
    return f"[{min(reached):.3g} to {most}]"


def times_text(times: Times) -> str:
    """Median and range."""
    return f"{median_text(times)} {range_text(times)}".rstrip()


def ratio_text(comparison: Comparison) -> str:
    """The ratio with its interval; ">=" where it is a lower bound."""
    if not comparison.ratio:
        return "not reached"
    sign = ">= " if comparison.bound else ""
    return f"{sign}{comparison.ratio:.2f}{ends_text(comparison)}"


def ends_text(found: Comparison | RankCorrelation) -> str:
    """ " [low, high]"; empty where there is no interval."""
    return "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"


def p_text(p: float) -> str:
    """A p-value, to a thousandth."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def survival_curve(times: Times, cap: float) -> SurvivalCurve:
    """Kaplan and Meier (1958); with one cap for all it is one minus the share that has arrived.

    Args:
        times: one a seed, in epochs; None where not reached.
        cap: after which a seed was given up.

    Raises:
        InputError: no times.
    """
    _require_times("times", times)
    require_positive("cap", cap)
    survival = stats.ecdf(_censored(times, cap)).sf
    epochs, share = survival.quantiles, survival.probabilities
    falls = np.diff(np.concatenate([[1.0], share])) < 0
    return SurvivalCurve(tuple(epochs[falls].tolist()), tuple(share[falls].tolist()), float(cap))


def compare(baseline: Times, other: Times, *, caps: tuple[float, float], seed: int = 0) -> Comparison:
    """Compare times that belong together by their place: the same seed and data.

    Args:
        baseline, other: one a seed, None where not reached.
        caps: of the baseline and of the other.
        seed: of the bootstrap.

    Returns:
        a comparison whose ``p_holm`` is its ``p``: see `correct`.

    Raises:
        InputError: no seeds, or not as many of both.
    """
    _require_times("baseline", baseline)
    _require_times("other", other)
    if not isinstance(caps, (tuple, list)) or len(caps) != 2:
        raise InputError(f"caps = {caps!r}", "two numbers", "pass e.g. caps=(60, 60)")
    for cap in caps:
        require_number("cap", cap, "a number >= 0", low=0, high=math.inf, example=60)
    require_count("seed", seed, minimum=0)
    if len(baseline) != len(other):
        raise InputError(
            f"{len(baseline)} and {len(other)} seeds", "as many of both", "run both on the same seeds"
        )
    # What the baseline did not reach took longer than the cap: the cap favours the baseline. What the
    # other did not reach counts as infinite: that favours the baseline too.
    first = np.array([caps[0] if t is None else t for t in baseline])
    second = np.array([math.inf if t is None else t for t in other])

    def ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.median(a, axis=-1) / np.median(b, axis=-1))

    low = high = None
    if len(first) >= FEWEST:
        chosen = np.random.default_rng(seed).integers(len(first), size=(RESAMPLES, len(first)))
        low, high = np.percentile(ratio(first[chosen], second[chosen]), [2.5, 97.5]).tolist()
    p = _log_rank(baseline, other, caps)
    bound = censored_median(baseline) is None and censored_median(other) is not None
    return Comparison(float(ratio(first, second)), low, high, bound, p, p)


def correct(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction (1979): the chance of one false alarm in the family stays below p."""
    p = np.array(p_values, dtype=float)
    order = np.argsort(p)
    p[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return tuple(p.tolist())


def rank_correlation(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation.

    Args:
        x, y: as many of both.
        seed: of the bootstrap.

    Raises:
        InputError: fewer than three pairs, or one side constant.
    """
    try:
        if np.iscomplexobj(x) or np.iscomplexobj(y):
            raise TypeError
        a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        known = a.ndim == b.ndim == 1 and not np.isnan([*a, *b]).any()
    except (TypeError, ValueError):
        known = False
    if not known:
        raise InputError("values that are no numbers", "two lists of numbers", "pass one a cell")
    require_count("seed", seed, minimum=0)
    if len(a) != len(b) or len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError(
            f"{len(a)} and {len(b)} values to correlate",
            "at least three pairs, neither side constant",
            "run more cells",
        )
    rho = float(stats.spearmanr(a, b).statistic)
    if len(a) < FEWEST:
        return RankCorrelation(rho, None, None, len(a))
    rng = np.random.default_rng(seed)
    rhos: list[float] = []
    while len(rhos) < RESAMPLES:
        chosen = rng.integers(len(a), size=len(a))
        if np.ptp(a[chosen]) and np.ptp(b[chosen]):
            rhos.append(float(stats.spearmanr(a[chosen], b[chosen]).statistic))
    low, high = np.quantile(rhos, [0.025, 0.975])
    return RankCorrelation(rho, float(low), float(high), len(a))


def _log_rank(baseline: Times, other: Times, caps: tuple[float, float]) -> float:
    if all(t is None for t in (*baseline, *other)):
        return 1.0  # nobody arrived: no evidence of a difference
    if sorted(map(str, baseline)) == sorted(map(str, other)):
        return 1.0
    with np.errstate(all="ignore"):
        p = float(stats.logrank(x=_censored(baseline, caps[0]), y=_censored(other, caps[1])).pvalue)
    return 1.0 if math.isnan(p) else p


def _censored(times: Times, cap: float) -> stats.CensoredData:
    return stats.CensoredData(
        uncensored=[float(t) for t in times if t is not None],
        right=[float(cap) for t in times if t is None],
    )


def _require_times(name: str, times: Times) -> None:
    if not isinstance(times, (list, tuple)):
        raise InputError(f"{name} = {times!r}", "a list of numbers, None where not reached", "pass one")
    if not times:
        raise InputError("no times", "at least one", "run a seed")
    for time in times:
        if time is not None:
            require_number(
                name, time, "numbers >= 0, None where not reached", low=0, high=math.inf, example=1
            )
