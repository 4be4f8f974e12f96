"""Labelled point clouds whose Betti numbers are known.

"discs", "rings" and "spheres" follow D-I, D-II and D-III of Naitzat, Zhitnikov and Lim, "Topology of
Deep Neural Networks" (JMLR 2020); the others are more entangled. A shape is a union of disjoint circles,
discs, annuli, spheres and balls, so that its homology can be read off.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unknot.core.errors import InputError, require_choice, require_count
from unknot.topology.cloud import Points

FloatArray = NDArray[np.float64]
_GOLDEN, _PLASTIC = (math.sqrt(5) - 1) / 2, 1.3247179572447460  # roots of x^2 + x = 1, x^3 = x + 1
_STEPS: Mapping[int, tuple[float, ...]] = {1: (), 2: (_GOLDEN,), 3: (1 / _PLASTIC, _PLASTIC**-2)}
_MOST = 10_000  # parts; and a thousand times as many points


@dataclass(frozen=True, eq=False, repr=False)
class Shape(Points):
    """Points of two classes, and the true Betti numbers of what they were sampled from.

    Attributes:
        name, seed, noise, sampling: as given to `make_shape`.
        points: float64 ``[n, d]``, centred; the longest axis spans [-1.2, 1.2] before noise.
        labels: int64 ``[n]``, 0 or 1.
        betti: ``(b0, b1)``, or ``(b0, b1, b2)`` for "spheres", of each class.
        radius: a Rips radius, in the unit of the points, at which each class shows its ``betti``
            when sampled evenly and without noise, with any n that `make_shape` accepts.
        parameters: the sizes used, e.g. ``{"pairs": 9}``.

    The Rips complex of a dense sample keeps two parts apart below their distance, a circle or a
    round hole of radius R open below sqrt(3) R and a sphere below sqrt(8/3) R (the sides of the
    inscribed triangle and tetrahedron). ``radius`` is 0.6 of the smallest of these bounds, and at
    least 2.5 times the spacing of the points.
    """

    name: str
    points: FloatArray
    labels: NDArray[np.int64]
    betti: Mapping[int, tuple[int, ...]]
    radius: float
    seed: int
    noise: float
    sampling: str
    parameters: Mapping[str, int]

    @property
    def total(self) -> int:
        """The sum of all Betti numbers of all classes."""
        return sum(map(sum, self.betti.values()))


def make_shape(
    name: str, *, n: int | None = None, noise: float = 0.0, seed: int = 0,
    sampling: str = "even", **sizes: int,
) -> Shape:  # fmt: skip
    """Sample a shape of known topology.

    Args:
        name: a key of `SHAPES`.
        n: points in all, by default ``SHAPES[name].n`` or what the sizes need. Parts share them by
            length, area or volume, small ones with a floor of 16.
        noise: standard deviation of the Gaussian noise on every coordinate, in their unit.
        seed: of the jitter, the noise and the order of rows; for "scatter" of the geometry too.
        sampling: "even": even angles on circles, golden-angle spirals in discs and annuli,
            Fibonacci spheres and their like in balls, with a jitter of a tenth of the spacing, so
            that a modest n shows the true topology; "random": independent and uniform.
        sizes: e.g. ``pairs=9``; names and defaults are in ``SHAPES[name].sizes``.

    Rows are shuffled. The same arguments give the same bytes.

    Raises:
        InputError: unknown name or size, number out of range, or n too small for the topology.
    """
    if name not in SHAPES:
        raise InputError(f"shape {name!r}", f"one of {', '.join(SHAPES)}", _nearest(name, SHAPES))
    kind = SHAPES[name]
    for key in sizes.keys() - kind.sizes.keys():
        expected = f"sizes of {name!r} only: {', '.join(kind.sizes)}"
        raise InputError(f"{key} = {sizes[key]!r}", expected, _nearest(key, kind.sizes))
    used = {key: require_count(key, sizes.get(key, size)) for key, size in kind.sizes.items()}
    if math.prod(used.values()) > _MOST or (n is not None and require_count("n", n) > 1000 * _MOST):
        given = ", ".join(f"{key} = {size}" for key, size in {**used, "n": n}.items())
        expected = f"sizes whose product is at most {_MOST}, n at most {1000 * _MOST}"
        raise InputError(given, expected, "ask for less")
    seed = require_count("seed", seed, minimum=0)
    if not isinstance(noise, Real) or isinstance(noise, bool) or not 0 <= noise < math.inf:
        raise InputError(f"noise = {noise!r}", "a finite number >= 0", "pass e.g. noise=0.01")
    require_choice("sampling", sampling, ("even", "random"))

    geometry, rng = (
        np.random.default_rng(s)
        for s in np.random.SeedSequence(require_count("seed", seed, minimum=0)).spawn(2)
    )
    parts = kind.parts(geometry, **used)
    radius = 0.6 * _largest_radius(parts)
    # 16 at least, so that the 14 nearest neighbours of a point are in its part.
    demand = np.array([max(16.0, p.measure / (radius / 2.5) ** p.dimension) for p in parts])
    minimum = math.ceil(demand.sum())
    n = max(kind.n, minimum) if n is None else require_count("n", n)
    if n < minimum:
        given = ", ".join(f"{key}={size}" for key, size in used.items())
        expected = f"at least {minimum} points for {name!r} with {given}"
        raise InputError(f"n = {n}", expected, "raise n or lower the sizes")
    share = demand * (n / demand.sum())
    counts = share.astype(np.int64)
    counts[np.argsort(counts - share, kind="stable")[: n - counts.sum()]] += 1
    samples = [p.sample(int(m), sampling, rng) for p, m in zip(parts, counts, strict=True)]
    middle, scale = _frame(parts)
    order = rng.permutation(n)
    points = (np.concatenate(samples)[order] - middle) * scale
    points += float(noise) * rng.standard_normal(points.shape)
    labels = np.repeat(np.array([part.label for part in parts], dtype=np.int64), counts)[order]
    every = {c: [p.betti for p in parts if p.label == c] for c in sorted({p.label for p in parts})}
    betti = {label: tuple(map(sum, zip(*values, strict=True))) for label, values in every.items()}
    return Shape(name, points, labels, betti, radius * scale, seed, float(noise), sampling, used)


@dataclass(frozen=True)
class _Part:
    """All x with low <= |x - centre| <= high in the subspace of ``axes``, less round ``holes``.

    Two axes: a circle (low == high), disc (low == 0) or annulus; three: a sphere or a ball.
    """

    label: int
    centre: tuple[float, ...]
    low: float
    high: float
    axes: tuple[int, ...] = (0, 1)
    holes: tuple[tuple[float, ...], ...] = ()  # their centres, seen from the centre of the part
    hole_radius: float = 0.0

    @property
    def dimension(self) -> int:
        return len(self.axes) - (self.low == self.high)

    @property
    def betti(self) -> tuple[int, ...]:
        cavity = int(self.low > 0)
        return (1, cavity + len(self.holes)) if len(self.axes) == 2 else (1, 0, cavity)

    @property
    def measure(self) -> float:
        """Length, area or volume."""
        k = len(self.axes)
        ball = math.pi if k == 2 else 4 / 3 * math.pi
        if self.dimension < k:
            return k * ball * self.high ** (k - 1)
        return ball * (self.high**k - self.low**k - len(self.holes) * self.hole_radius**k)

    def sample(self, m: int, sampling: str, rng: np.random.Generator) -> FloatArray:
        """``m`` points ``[m, d]``."""
        holes = np.array(self.holes).reshape(-1, len(self.axes))
        local, tried = np.empty((0, len(self.axes))), m
        while len(local) < m:
            local = self._fill(tried, sampling, rng)
            outside = np.linalg.norm(local[:, None] - holes, axis=2) >= self.hole_radius
            local = local[outside.all(axis=1)][:m]
            tried += m - len(local)
        return np.array(self.centre) + local @ np.eye(len(self.centre))[list(self.axes)]

    def _fill(self, m: int, sampling: str, rng: np.random.Generator) -> FloatArray:
        """``m`` points about the origin, holes and all: the unit cube mapped onto the part.

        Evenly in the cube: (i / m, i times an irrational mod 1, ...). The golden ratio is the worst
        to approximate by fractions, so these stay spread however the cube is stretched.
        """
        k, cube = len(self.axes), rng.random((m, self.dimension))
        if sampling == "even":
            cube[:] = (np.arange(m)[:, None] + 0.5) * [1 / m, *_STEPS[self.dimension]] % 1
        angle = 2 * np.pi * (cube[:, -1] + rng.random())
        local = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        if k == 3:
            height = 1 - 2 * cube[:, -2]
            local = np.column_stack([np.sqrt(1 - height**2)[:, None] * local, height])
        filled = (self.low**k + (self.high**k - self.low**k) * cube[:, :1]) ** (1 / k)
        local *= self.high if self.dimension < k else filled
        if sampling == "even":
            reach = 0.1 * (self.measure / m) ** (1 / self.dimension)
            local += rng.uniform(-reach, reach, local.shape)
            norm = np.linalg.norm(local, axis=1, keepdims=True)
            local *= np.clip(norm, self.low, self.high) / norm
        return local


def _discs(_: np.random.Generator, *, holes: int) -> list[_Part]:
    i = np.arange(holes) + 0.5
    spiral = np.sqrt(i) * np.exp(2j * np.pi * _GOLDEN * i)
    spiral *= 1.7 / (abs(spiral[:, None] - spiral) + 9 * np.eye(holes)).min()
    places = tuple((float(z.real), float(z.imag)) for z in spiral)
    plate = _Part(1, (0.0, 0.0), 0.0, float(abs(spiral).max()) + 1.1, (0, 1), places, 0.6)
    return [*(_Part(0, place, 0.0, 0.35) for place in places), plate]


def _rings(_: np.random.Generator, *, pairs: int) -> list[_Part]:
    first = _Part(0, (-0.5, 0.0, 0.0), 1.0, 1.0, axes=(0, 1))
    second = _Part(1, (0.5, 0.0, 0.0), 1.0, 1.0, axes=(0, 2))
    return _block([first, second], pairs, size=(3.0, 2.0, 2.0), gap=0.8)


def _spheres(_: np.random.Generator, *, units: int) -> list[_Part]:
    shells = ((1, 1.0, 1.0), (0, 0.65, 0.65), (1, 0.0, 0.3))
    unit = [_Part(label, (0.0,) * 3, low, high, (0, 1, 2)) for label, low, high in shells]
    return _block(unit, units, size=(2.0, 2.0, 2.0), gap=0.7)


def _lattice(_: np.random.Generator, *, grid: int, chess: bool = False) -> list[_Part]:
    return [
        _Part((label + chess * (row + column)) % 2, (row, column), low, high)
        for row, column in product(range(grid), repeat=2)
        for label, low, high in ((0, 0.0, 0.13), (1, 0.27, 0.37))
    ]


def _nested(_: np.random.Generator, *, groups: int, rings: int) -> list[_Part]:
    radii = [2.0 + ring for ring in range(require_count("rings", rings, minimum=2))]
    unit = [_Part(ring % 2, (0.0, 0.0), radius, radius) for ring, radius in enumerate(radii)]
    return _block(unit, groups, size=(2 * radii[-1],) * 2, gap=2.5)


def _scatter(rng: np.random.Generator, *, discs: int, annuli: int) -> list[_Part]:
    radii = np.concatenate([rng.uniform(1.0, 1.8, annuli), rng.uniform(0.35, 0.9, discs)])
    holes = np.append(radii[:annuli] - rng.uniform(0.3, 0.4, annuli), np.zeros(discs))
    labels = rng.permutation(len(radii)) % 2
    width = math.sqrt(((radii + 0.5) ** 2).sum() * math.pi / 0.4)
    placed: list[_Part] = []
    for rank, i in enumerate(np.argsort(-radii)):  # the largest first, while there is room
        while len(placed) == rank:
            x, y = rng.uniform(-width / 2, width / 2, 2).tolist()
            part = _Part(int(labels[i]), (x, y), float(holes[i]), float(radii[i]))
            apart = np.where([other.label == part.label for other in placed], 1.0, 0.3)
            if (_gaps([part], placed)[0] >= apart).all():
                placed.append(part)
            else:
                width *= 1.0005  # so that it ends
    return placed


def _block(unit: list[_Part], count: int, size: Sequence[float], gap: float) -> list[_Part]:
    """Copies of ``unit``, which fills a box of ``size``, in a block about as wide as high."""
    cells, steps = [1] * len(size), np.array(size) + gap
    while math.prod(cells) < count:
        cells[int(np.argmin((np.array(cells) + 1) * steps))] += 1
    shifts = [steps * cell for cell in islice(product(*map(range, cells)), count)]
    return [replace(p, centre=tuple((shift + p.centre).tolist())) for shift in shifts for p in unit]


class ShapeBuilder(NamedTuple):
    """One line of description, the geometry, the default n, and the sizes with their defaults."""

    description: str
    parts: Callable[..., list[_Part]]
    n: int
    sizes: Mapping[str, int]


_CHECKER, _SCATTERED = partial(_lattice, chess=True), {"discs": 100, "annuli": 100}
SHAPES: Mapping[str, ShapeBuilder] = {
    "discs": ShapeBuilder("discs in the holes of a plate (D-I)", _discs, 3000, {"holes": 9}),
    "rings": ShapeBuilder("linked pairs of rings in space (D-II)", _rings, 4500, {"pairs": 9}),
    "spheres": ShapeBuilder("balls in spheres in spheres (D-III)", _spheres, 7500, {"units": 9}),
    "links": ShapeBuilder("many linked pairs of rings", _rings, 8000, {"pairs": 40}),
    "checker": ShapeBuilder("discs in annuli, chessboard classes", _CHECKER, 8000, {"grid": 9}),
    "lattice": ShapeBuilder("discs against the annuli around", _lattice, 8000, {"grid": 9}),
    "nested": ShapeBuilder("concentric rings", _nested, 8000, {"groups": 16, "rings": 5}),
    "scatter": ShapeBuilder("discs and annuli at random", _scatter, 10000, _SCATTERED),
}


def _frame(parts: list[_Part]) -> tuple[FloatArray, float]:
    """The middle of the bounding box, and the factor that brings its longest side to 2.4."""
    centres = np.array([part.centre for part in parts])
    reach = np.array([[p.high * (i in p.axes) for i in range(len(p.centre))] for p in parts])
    low, high = (centres - reach).min(axis=0), (centres + reach).max(axis=0)
    return (low + high) / 2, 2.4 / float((high - low).max())


def _gaps(parts: list[_Part], others: list[_Part]) -> FloatArray:
    """Distances (in space those between the balls of circles), negative where parts cross."""
    rows = [[(*p.centre, p.low, p.high) for p in group] for group in (parts, others)]
    a, b = (np.array(group).reshape(len(group), -1 if group else 4) for group in rows)
    between = np.linalg.norm(a[:, None, :-2] - b[:, :-2], axis=2)
    (low, high), (other_low, other_high) = a[:, -2:].T[:, :, None], b[:, -2:].T[:, None]
    nested = np.maximum(low - between - other_high, other_low - between - high)
    return np.asarray(np.maximum(between - high - other_high, nested), dtype=np.float64)


def _largest_radius(parts: list[_Part]) -> float:
    """The Rips radius at which two parts of one class merge or a cavity closes."""
    labels = np.array([part.label for part in parts])
    gaps = _gaps(parts, parts)[(labels[:, None] == labels) & ~np.eye(len(parts), dtype=bool)]
    roots = {2: math.sqrt(3), 3: math.sqrt(8 / 3)}
    open_ = [r * roots[len(p.axes)] for p in parts for r in (p.low, p.hole_radius) if r > 0]
    return float(min([*gaps, *open_]))


def _nearest(given: object, names: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(given), names, n=2, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else "check the name"
