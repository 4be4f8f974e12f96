"""Rips graphs of clouds with many features, where single precision goes first: against float64 alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unknot import _native
from unknot.topology.graph import rips_graph

Points = NDArray[np.floating[Any]]


@pytest.fixture(params=_native.engine_info()["variants"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.use_variant(request.param)
    yield request.param
    _native.use_variant(_native.engine_info()["variants"][-1])


def by_rule(points: Points) -> NDArray[np.float64]:
    """Distances as the rule says: squares added up in float64, in the order of the features."""
    wide = points.astype(np.float64)
    squares = np.zeros((len(wide), len(wide)))
    for feature in wide.T:
        squares += (feature[:, None] - feature) ** 2
    return np.asarray(np.sqrt(squares))


def joined(points: Points, radius: float) -> NDArray[np.bool_]:
    edges = rips_graph(points, radius=radius).edges()
    found = np.eye(len(points), dtype=bool)
    found[tuple(edges.T)] = True
    return np.asarray(found | found.T)


def kinds(n: int, d: int) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(n * d)
    normal = rng.normal(size=(n, d))
    whole = rng.integers(-3, 4, (n, d)).astype(float)
    stray = normal.copy()
    stray[:2] *= 1e9
    close = np.repeat(normal[: (n + 2) // 3], 3, axis=0)[:n]
    return {
        "normal": normal,
        "ties": whole,
        "far from the origin": normal + 3e5 * rng.normal(size=d),
        "strays": stray,
        "nearly equal": close + 1e-6 * rng.normal(size=(n, d)),
        "of one direction": rng.normal(size=(n, 1)) * rng.normal(size=d),
        "many units": normal * 10.0 ** rng.integers(-18, 18, (1, d)),
        "mostly zero": np.where(rng.random((n, d)) < 0.02, normal, 0.0),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(65, 1), (3, 5000), (130, 7), (64, 129), (67, 2500), (40, 4200)])
def test_pairs_are_those_of_float64_at_their_very_distances(
    variant: str, n: int, d: int, dtype: type
) -> None:
    for kind, cloud in kinds(n, d).items():
        points = cloud.astype(dtype)
        distances = by_rule(points)
        levels = np.unique(distances[np.triu_indices(n, 1)])
        for level in levels[[0, len(levels) // 7, len(levels) // 2, -1]]:
            for radius in (np.nextafter(level, 0), level):
                assert (joined(points, radius) == (distances <= radius)).all(), (kind, radius)


@pytest.mark.parametrize("exponent", [-1060, -500, -340, -130, -70, 0, 70, 110, 340, 500, 1000])
def test_the_unit_does_not_matter(variant: str, exponent: int) -> None:
    """From denormal numbers to the end of float64, and of float32 where it holds them."""
    points = kinds(70, 300)["ties"]
    distances = by_rule(points)
    radius = np.floor(np.median(distances)) + 0.5
    far = np.ldexp(points, exponent)
    assert (joined(far, float(np.ldexp(radius, exponent))) == (distances <= radius)).all()
    with np.errstate(over="ignore", under="ignore"):
        single = far.astype(np.float32)
    if (single.astype(np.float64) == far).all():
        assert (joined(single, float(np.ldexp(radius, exponent))) == (distances <= radius)).all()


@pytest.mark.parametrize("exponent", [-300, -60, 60, 300])
def test_points_of_one_unit_and_a_radius_of_another(variant: str, exponent: int) -> None:
    points = np.ldexp(kinds(70, 300)["normal"], exponent)
    points[1] = points[0]
    distances = by_rule(points)
    for radius in (1.0, 1e-90, 1e90):
        assert (joined(points, radius) == (distances <= radius)).all()
