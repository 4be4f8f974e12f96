"""A self-test: versions, the engine, and answers that are known or computed another way."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations

import numpy as np

from unknot import _native
from unknot.topology.graph import NeighborGraph, rips_graph
from unknot.topology.homology import betti_numbers, persistence

PARITY_CLOUDS = 20
PACKAGES = ("unknot", "numpy", "scipy", "ripser", "torch", "safetensors", "plotly")


@dataclass(frozen=True)
class Examination:
    """What the self-test found.

    Attributes:
        versions: of Python, the machine and the packages unknot stands on.
        engine: the instruction set in use, those this machine can run, threads and compiler.
        checks: {what was checked: "ok" or what was found instead}.
    """

    versions: dict[str, str]
    engine: dict[str, str]
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
    sphere = set(combinations(range(6), 2)) - {(0, 1), (2, 3), (4, 5)}  # all but the antipodes
    octahedron = betti_numbers(NeighborGraph.from_edges(6, sorted(sphere)), max_dim=2).values
    checks = {
        "a circle has b = (1, 1)": _verdict(betti_numbers(rips_graph(circle, radius=0.2)).values, (1, 1)),
        "the octahedron has b = (1, 0, 1)": _verdict(octahedron, (1, 0, 1)),
        "neighbour rows agree with numpy": _verdict(_edge_differences(seed), 0),
    }
    info = _native.engine_info()
    for variant in info["variants"]:
        what = f"{variant} agrees with ripser on {PARITY_CLOUDS} clouds"
        checks[what] = _verdict(_disagreements(variant, seed), 0)
    engine = {name: str(value) for name, value in info.items()}
    return Examination(versions, engine, checks)


def _verdict(answer: object, expected: object) -> str:
    return "ok" if answer == expected else f"{answer}, expected {expected}"


def _edge_differences(seed: int) -> int:
    points = np.random.default_rng(seed).normal(size=(200, 3))
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    joined = np.zeros((200, 200), dtype=bool)
    joined[tuple(rips_graph(points, radius=0.7).edges().T)] = True
    return int((joined != np.triu(distances <= 0.7, k=1)).sum())


def _disagreements(variant: str, seed: int) -> int:
    """On how many random clouds one instruction set and Ripser differ, half of them with b2."""
    before = _native.engine_info()["variant"]
    rng = np.random.default_rng(seed)
    wrong = 0
    _native.use_variant(variant)
    try:
        for i in range(PARITY_CLOUDS):
            max_dim = 1 + i % 2
            points = rng.normal(size=(120 // max_dim, 2 + i % 5))
            radius = float(rng.uniform(0.3, 1.2))
            betti = betti_numbers(rips_graph(points, radius=radius), max_dim=max_dim).values
            wrong += betti != persistence(points, max_dim=max_dim, max_radius=2.0).betti_at(radius)
    finally:
        _native.use_variant(before)
    return wrong
