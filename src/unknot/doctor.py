"""A self-test: versions, and answers that are known or computed another way."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations

import numpy as np

from unknot.graph import NeighborGraph, rips_graph
from unknot.homology import betti_numbers, persistence

PACKAGES = ("unknot", "numpy", "scipy", "ripser", "torch", "torch-pruning", "safetensors", "plotly")


@dataclass(frozen=True)
class Examination:
    """What the self-test found.

    Attributes:
        versions: of Python, the machine and the packages unknot stands on.
        checks: {what was checked: "ok" or what was found instead}.
    """

    versions: dict[str, str]
    checks: dict[str, str]

    @property
    def healthy(self) -> bool:
        return all(answer == "ok" for answer in self.checks.values())


def examine(seed: int = 0) -> Examination:
    """Check the native neighbour rows against numpy and Betti numbers against known spaces."""
    versions = {"python": platform.python_version(), "machine": platform.platform()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    antipodes = {(0, 1), (2, 3), (4, 5)}
    sphere = [pair for pair in combinations(range(6), 2) if pair not in antipodes]
    answers = {
        "a circle has b = (1, 1)": (betti_numbers(rips_graph(circle, radius=0.2)).values, (1, 1)),
        "the octahedron has b = (1, 0, 1)": (
            betti_numbers(NeighborGraph.from_edges(6, sphere), max_dim=2).values,
            (1, 0, 1),
        ),
        "neighbour rows agree with numpy": (_edge_differences(seed), 0),
        "Betti numbers agree with persistence": _both_ways(seed),
    }
    checks = {
        what: "ok" if found == expected else f"{found}, expected {expected}"
        for what, (found, expected) in answers.items()
    }
    return Examination(versions, checks)


def _edge_differences(seed: int) -> int:
    points = np.random.default_rng(seed).normal(size=(200, 3))
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    expected = {(int(i), int(j)) for i, j in np.argwhere(distances <= 0.7) if i < j}
    found = {(int(i), int(j)) for i, j in rips_graph(points, radius=0.7).edges()}
    return len(expected ^ found)


def _both_ways(seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    points = np.random.default_rng(seed).normal(size=(150, 2))
    at_one_scale = betti_numbers(rips_graph(points, radius=0.4)).values
    return at_one_scale, persistence(points).betti_at(0.4)
