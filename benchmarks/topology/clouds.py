"""The clouds that the benchmark of the engine measures, drawn from a numpy generator."""

from __future__ import annotations

import numpy as np


def circles(rng, n, loops=9):
    i, a = rng.integers(0, loops, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(a), np.sin(a)], 1) + 4.0 * np.stack([i % 3, i // 3], 1)


def linked_rings(rng, n, pairs=9, tube=0.0):
    """Points, and which of the two rings of its pair each lies on."""
    i, a, b = rng.integers(0, pairs, n), *rng.uniform(0, 2 * np.pi, (2, n))
    t = tube * np.sqrt(rng.random(n))  # uniform in the disc: solid rings
    r = 1 + t * np.cos(b)
    flat = np.stack([r * np.cos(a), r * np.sin(a), t * np.sin(b)], 1)
    upright = np.stack([1 + r * np.cos(a), t * np.sin(b), r * np.sin(a)], 1)
    ring = rng.random(n) < 0.5
    points = np.where(ring[:, None], flat, upright)
    return points + 6.0 * np.stack([i % 3, i // 3, np.zeros(n)], 1), ring


def spheres(rng, n, count=3):
    p = rng.normal(size=(n, 3))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    p[:, 0] += 4.0 * rng.integers(0, count, n)
    return p


def scale_between(distances, share):
    """Half-way between two neighbouring distances, so that no peer's rounding decides a tie."""
    d = np.sort(distances[np.triu_indices(len(distances), 1)])
    i = int(share * (len(d) - 1))
    return float((d[i] + d[i + 1]) / 2)
