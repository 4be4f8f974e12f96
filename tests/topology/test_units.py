"""Points in every unit, and of many units at once: against exact arithmetic, GUDHI and Ripser."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import gudhi
import numpy as np
import pytest
from numpy.typing import NDArray

from unknot.core.errors import InputError
from unknot.topology.batch import CountSettings, betti_interval, count_clouds
from unknot.topology.calibration import RankedNeighbours, calibrate
from unknot.topology.graph import NeighborGraph, knn_graph, rips_graph
from unknot.topology.homology import betti_numbers, betti_numbers_batch, persistence
from unknot.topology.multiscale.sweep import sensitivity
from unknot.topology.scale import Scale

Points = NDArray[np.floating[Any]]
UNITS = (1e-320, 1e-300, 1e-200, 1e-162, 1e-150, 1e-40, 1.0, 1e40, 1e150, 1e154, 1e200, 1e300, 1e307)


def circle(n: int = 40) -> NDArray[np.float64]:
    turns = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.c_[np.cos(turns), np.sin(turns)]


def edge_set(graph: NeighborGraph) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in graph.edges()}


@pytest.mark.parametrize("unit", UNITS)
def test_a_circle_is_a_circle_in_every_unit(unit: float) -> None:
    points = circle() * unit
    assert betti_numbers(rips_graph(points, radius=0.3 * unit)).values == (1, 1)
    assert betti_numbers(knn_graph(points, k=2)).values == (1, 1)
    scales = (Scale(radius=0.3 * unit), Scale(k=2, hops=1))
    for scale in scales:
        assert [b.values for b in betti_numbers_batch([points, points], scale=scale)] == [(1, 1)] * 2
        counted = count_clouds([points], CountSettings(scale, repeats=2))[0]
        assert counted.betti.values == (1, 1)
        assert counted.intervals == betti_interval(points, scale, repeats=2)
        assert betti_interval(points, scale, share=1.0) == ((1, 1), (1, 1))
    rows = sensitivity(points, scale=scales[0]).rows
    same = sensitivity(circle(), scale=Scale(radius=0.3)).rows
    if unit > 1e-310:  # else the radii are whole multiples of 5e-324, some 100 to 3e4 of them
        assert [(row.b0, row.b1) for row in rows] == [(row.b0, row.b1) for row in same]
    assert {(row.b0, row.b1) for row in sensitivity(points, scale=scales[1]).rows} >= {(1, 1)}


@pytest.mark.parametrize("unit", UNITS)
def test_bars_are_distances_in_the_unit_of_the_points(unit: float) -> None:
    diagram = persistence(circle() * unit)
    assert [len(bars) for bars in diagram.bars] == [40, 1]
    birth, death = diagram.bars[1][0] / unit
    assert birth == pytest.approx(2 * math.sin(math.pi / 40), rel=2e-3)
    assert death == pytest.approx(2 * math.sin(math.pi * 14 / 40), rel=2e-3)  # a third of the way
    assert diagram.betti_at(0.3 * unit) == (1, 1)
    cut = persistence(circle() * unit, max_radius=0.3 * unit)
    assert cut.bars[1][0, 1] == math.inf


@pytest.mark.parametrize("unit", [1e-30, 1e-38, 1.0, 1e30, 1e38])
def test_single_precision_to_its_ends(unit: float) -> None:
    points = (circle() * unit).astype(np.float32)
    assert betti_numbers(rips_graph(points, radius=0.3 * unit)).values == (1, 1)
    assert betti_numbers(knn_graph(points, k=2)).values == (1, 1)
    assert [len(bars) for bars in persistence(points).bars] == [40, 1]
    wide = np.tile(points, 20)  # the same with 40 features, where single precision goes first
    reach = 0.3 * unit * math.sqrt(20)
    assert betti_numbers(rips_graph(wide, radius=reach)).values == (1, 1)
    assert betti_numbers(knn_graph(wide, k=2)).values == (1, 1)


def rounded(x: Fraction) -> Fraction:
    """To 53 digits, as in float64, but with any exponent."""
    shift = x.numerator.bit_length() - x.denominator.bit_length() - 54
    if x and x / Fraction(2) ** shift >= 2**54:
        shift += 1
    unit = Fraction(2) ** (shift + 1)
    return round(x / unit) * unit


def squared(p: NDArray[np.float64], q: NDArray[np.float64]) -> Fraction:
    """The squared distance by the rule of the engine, which neither vanishes nor overflows here."""
    total = Fraction()
    for step in p - q:
        total = rounded(total + rounded(Fraction(float(step)) ** 2))
    return total


def exact_squares(points: Points) -> list[list[Fraction]]:
    return [[squared(p, q) for q in points] for p in points]


def exact_nearest(squares: list[list[Fraction]], k: int) -> set[tuple[int, int]]:
    n = range(len(squares))
    near = {i: sorted((squares[i][j], j) for j in n if j != i)[:k] for i in n}
    return {(min(i, j), max(i, j)) for i in n for _, j in near[i]}


def by_gudhi(n: int, edges: set[tuple[int, int]]) -> tuple[int, int]:
    tree = gudhi.SimplexTree()
    for i in range(n):
        tree.insert([i])
    for pair in edges:
        tree.insert(list(pair))
    tree.expansion(2)
    tree.compute_persistence(persistence_dim_max=True)
    b0, b1 = (*tree.betti_numbers(), 0, 0)[:2]
    return b0, b1


def mixed(seed: int, n: int, d: int) -> NDArray[np.float64]:
    """Points whose sizes, and at times whose distances, range from denormal numbers to 1e300."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)) * 10.0 ** (10.0 * rng.integers(-32, 31, (n, 1)))
    points[rng.random(n) < 0.2] = points[0]
    return points


@pytest.mark.parametrize(("n", "d"), [(12, 1), (40, 2), (30, 3), (20, 24), (70, 17)])
@pytest.mark.parametrize("seed", range(2))
def test_many_units_at_once_are_told_apart(n: int, d: int, seed: int) -> None:
    points = mixed(seed, n, d)
    sizes = np.abs(points[points != 0])
    assert sizes.max() / 1e100 > sizes.min() * 1e100
    squares = exact_squares(points)
    ranked = RankedNeighbours(points, n - 1)
    for k in (1, 3, n // 2):
        expected = exact_nearest(squares, k)
        assert edge_set(knn_graph(points, k=k)) == expected
        assert edge_set(ranked.graph(k, 1)) == expected
        assert betti_numbers(points, k=k).values == by_gudhi(n, expected)
    several = sorted({s for row in squares for s in row if s})
    pairs = [(i, j) for i in range(n) for j in range(i)]
    diagram = persistence(points)
    for low, high in list(pairwise(several))[:: max(1, len(several) // 12)]:
        if high < low * Fraction(1.001) or high > Fraction(1e300) ** 2:
            continue
        # A power of two times the root of a number near 1, hence rounded once.
        shift = (low.numerator.bit_length() - low.denominator.bit_length()) // 2
        radius = math.ldexp(math.sqrt(low / Fraction(4) ** shift) * 1.0002, shift)
        expected = {(j, i) for i, j in pairs if squares[i][j] <= Fraction(radius) ** 2}
        assert edge_set(rips_graph(points, radius=radius)) == expected
        assert betti_numbers(points, radius=radius).values == by_gudhi(n, expected)
        assert diagram.betti_at(radius) == by_gudhi(n, expected)


def test_three_circles_of_unlike_units() -> None:
    units, centres = np.array([1e-200, 1.0, 1e200]), np.array([0.0, 100.0, 1e202])
    points = np.concatenate([circle() * u + (c, 0.0) for u, c in zip(units, centres, strict=True)])
    assert betti_numbers(knn_graph(points, k=2)).values == (3, 3)
    answers = [betti_numbers(points, radius=0.3 * unit).values for unit in units]
    assert answers == [(81, 1), (42, 1), (2, 1)]
    diagram = persistence(points)
    assert [diagram.betti_at(0.3 * unit) for unit in units] == answers
    assert sorted(np.round(np.log10(diagram.bars[1][:, 0]))) == [-201, -1, 199]
    labels = np.repeat([0, 1, 2], 40)
    knn = calibrate(points, labels)
    assert knn == calibrate(np.concatenate([circle(), circle() + 100, circle()]), labels)


def test_many_equal_points_and_a_few_that_are_nearly() -> None:
    """The nearest of equal points are those with the lowest numbers, and none that is nearly equal."""
    points = np.concatenate([[[1e-170]], np.zeros((80, 1)), [[2e-170], [1.0]]])
    for wide in (points, np.tile(points, 30)):
        assert edge_set(knn_graph(wide, k=3)) == exact_nearest(exact_squares(points), 3)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "i8", "f2", "?"])
def test_whole_numbers_are_converted_before_they_are_squared(dtype: str) -> None:
    points = (np.round(circle() * 120) if dtype != "?" else circle() > 0).astype(dtype)
    clean = points.astype(np.float64)
    calls = (
        lambda p: betti_numbers(p, radius=30), lambda p: betti_numbers(p, k=2, hops=1),
        lambda p: betti_numbers_batch([p], radius=30), calibrate, lambda p: calibrate(p, rule="radius"),
        lambda p: betti_interval(p, Scale(radius=30)), lambda p: sensitivity(p, scale=Scale(radius=30)),
        lambda p: [b.tolist() for b in persistence(p).bars],
    )  # fmt: skip
    for call in calls:
        assert call(points) == call(clean)
    if dtype in ("i2", "i4", "i8", "f2"):
        assert betti_numbers(points, radius=30).values == (1, 1)


def test_bars_are_exact_in_float64() -> None:
    """At a radius that equals a distance, persistence and the engine agree to the last bit."""
    points = np.random.default_rng(5).normal(size=(30, 2))
    diagram = persistence(points)
    for radius in np.unique(np.concatenate(diagram.bars).ravel())[1:-1:3]:
        for r in (np.nextafter(radius, 0), radius):
            assert diagram.betti_at(r) == betti_numbers(points, radius=float(r)).values


def test_radii_beyond_float64_join_all_points_or_are_refused() -> None:
    points = circle() * 1e308
    assert betti_numbers(points, radius=math.inf).values == (1, 0)
    assert betti_numbers(points, radius=1.7e308).values == (1, 1)  # the diameter is 2e308
    with pytest.raises(InputError, match="radius of more than 300 digits"):
        rips_graph(points, radius=10**400)
