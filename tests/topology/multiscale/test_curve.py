"""Betti numbers over a grid of radii."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest

import unknot as uk
from unknot.topology import betti_curve

matplotlib.use("Agg")


def circle(n: int = 12) -> Any:
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize(("dim", "max_dim"), [(2, 1), (3, 2), (9, 1)])
def test_agrees_with_persistence(dim: int, max_dim: int) -> None:
    points = np.random.default_rng(dim).normal(size=(40, dim))
    curve = betti_curve(points, 23, max_dim=max_dim)
    bars = uk.persistence(points, max_dim=max_dim)
    assert [tuple(row) for row in curve.values] == [bars.betti_at(r) for r in curve.radii.tolist()]
    assert curve.values.dtype == np.int64 and curve.values.shape == (23, max_dim + 1)


def test_a_circle_is_born_and_dies() -> None:
    chord = 2 * np.sin(np.pi / 12)
    # The hole of 12 points closes where triangles reach around: at the chord over 4 steps.
    reach = 2 * np.sin(4 * np.pi / 12)
    curve = betti_curve(circle(), [reach + 0.01, 0, chord + 0.01, reach - 0.01, 0.01])
    assert curve.radii.tolist() == sorted([reach + 0.01, 0, chord + 0.01, reach - 0.01, 0.01])
    assert curve.values.tolist() == [[12, 0], [12, 0], [1, 1], [1, 1], [1, 0]]


def test_the_grid_ends_at_twice_one_piece() -> None:
    points = np.array([[0.0], [1.0], [1.0], [4.0]])
    curve = betti_curve(points, 3)
    assert curve.radii.tolist() == [0, 3, 6]
    assert curve.values[:, 0].tolist() == [3, 1, 1]


def test_frame_plot_and_repr() -> None:
    curve = betti_curve(circle(), [0.1, 1.0])
    frame = curve.to_frame()
    assert frame.columns.tolist() == ["b0", "b1"] and frame.index.name == "radius"
    assert frame.loc[1.0].tolist() == [1, 1]
    axes = curve.plot()
    assert [line.get_label() for line in axes.get_lines()] == ["b0", "b1"]
    assert axes.get_lines()[0].get_ydata().tolist() == [12, 1]
    assert curve.plot(ax=axes) is axes
    assert repr(curve) == "BettiCurve(2 radii 0.1 to 1, b0 up to 12, b1 up to 1, 12 points)"


@pytest.mark.parametrize(
    ("points", "radii", "message"),
    [
        ([[0.0], [1.0]], 1, "radii = 1: expected a whole number >= 2; pass e.g. radii=2"),
        ([[0.0], [1.0]], True, "radii = True: expected a whole number >= 2; pass e.g. radii=2"),
        ([[0.0], [1.0]], [], "radii = []: expected at least one radius; pass e.g. radii=50"),
        ([[0.0], [1.0]], [1, -2], "radii[1] = -2: expected a number >= 0; pass e.g. radii[1]=0.5"),
        ([[2.0], [2.0]], 9, "2 equal points: expected two that differ; pass radii=[...]"),
    ],
)
def test_bad_input_gets_one_line(points: Any, radii: Any, message: str) -> None:
    with pytest.raises(uk.InputError) as caught:
        betti_curve(points, radii)
    assert str(caught.value) == message


def test_the_budget_is_for_all_radii() -> None:
    points = np.random.default_rng(0).normal(size=(300, 20))
    with pytest.raises(TimeoutError):
        betti_curve(points, 50, max_dim=2, time_budget=1e-6)
