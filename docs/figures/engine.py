"""The pictures of docs/how_it_works.md, from runs of the engine.

    python docs/figures/engine.py [FOLDER]

Writes scale.png, collapse.png and closure.png into FOLDER (docs/assets) and prints what each shows. The
graphs that are drawn between the steps come from the engine's own classes, by trace.cpp, compiled with
$CXX (c++); the Betti numbers of each are those of `betti_numbers`.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from numpy.typing import NDArray
from PIL import Image

import unknot as uk

HERE = Path(__file__).parent
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#9aa0a8"
Edges = NDArray[np.int64]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {"font.size": 9, "savefig.dpi": 130}
    draw_scales(folder / "scale.png")
    draw_collapse(folder / "collapse.png")
    draw_closure(folder / "closure.png")


def points_in_plane(each: int, seed: int = 0) -> NDArray[np.float64]:
    """Two thick rings and a disc: b0 = 3, b1 = 2."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (3, each))
    radius = np.sqrt(rng.uniform([[0.55], [0.55], [0]], [[1], [1], [0.5]], (3, each)))
    centre = np.array([[0, 0], [2.4, 0], [1.2, 1.75]])
    rings = centre[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return rings.reshape(-1, 2)


def numbers(graph: uk.NeighborGraph, max_dim: int = 1) -> str:
    return "(" + ", ".join(str(b) for b in uk.betti_numbers(graph, max_dim=max_dim).values) + ")"


def draw_edges(axes: Any, points: NDArray[np.float64], edges: Edges, colour: str, **style: Any) -> None:
    axes.add_collection(LineCollection(points[edges], colors=colour, **style))


def bare(axes: Any) -> None:
    axes.set_aspect("equal")
    axes.set_axis_off()


def draw_scales(path: Path) -> None:
    """The same points at three radii."""
    points = points_in_plane(90)
    figure, row = plt.subplots(1, 3, figsize=(7, 2.5), layout="constrained")
    for axes, radius in zip(row, (0.12, 0.35, 0.9), strict=True):
        graph = uk.rips_graph(points, radius=radius)
        draw_edges(axes, points, graph.edges(), BLUE, linewidths=0.5, alpha=0.5 if radius < 0.5 else 0.12)
        axes.scatter(*points.T, s=3, color="black", zorder=2)
        bare(axes)
        told = f"radius {radius}: (b0, b1) = {numbers(graph)}"
        axes.set_title(told, fontsize=9)
        print(told)
    save(figure, path)


def draw_collapse(path: Path) -> None:
    """A graph, what the strong collapse leaves, and what the edge pass leaves of that."""
    points = sphere_and_ring()
    graph = uk.rips_graph(points, radius=0.42)
    collapsed, passed, change = trace(graph)
    stages = [("neighbour graph", np.arange(len(points)), graph.edges())]
    stages += [
        (name, np.unique(pairs), pairs[pairs[:, 0] != pairs[:, 1]])
        for name, pairs in (("strong collapse", collapsed), ("edge pass", passed))
    ]
    figure = plt.figure(figsize=(7, 2.35))
    for at, (name, vertices, edges) in enumerate(stages, start=1):
        # Wider than a third, and drawn over each other: the space around a 3-D picture is empty.
        place = ((at - 1) / 3 - 0.02, -0.24, 1 / 3 + 0.04, 1.15)
        axes = figure.add_axes(place, projection="3d", computed_zorder=False)
        axes.patch.set_visible(False)
        many = len(edges) > 1000
        width, alpha = (0.25, 0.1) if many else (0.9, 0.9)
        axes.add_collection(Line3DCollection(points[edges], colors=BLUE, linewidths=width, alpha=alpha))
        axes.scatter(*points[vertices].T, s=1.5 if many else 7, color="black", depthshade=False)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), box_aspect=(1, 1, 1))
        axes.view_init(elev=22, azim=-60)
        axes.set_axis_off()
        left = uk.NeighborGraph.from_edges(len(vertices), np.searchsorted(vertices, edges))
        told = f"{len(vertices):,} points, {len(edges):,} edges"
        betti = numbers(left, max_dim=2)
        title = f"{name}\n{told}\n(b0, b1, b2) = {betti}"
        figure.text((at - 0.5) / 3, 0.98, title, fontsize=9, ha="center", va="top")
        print(f"{name}: {told}, (b0, b1, b2) = {betti}")
    print(f"counted on the way: {change}")
    save(figure, path)


def sphere_and_ring() -> NDArray[np.float64]:
    """A ring around a sphere: b0 = 2, b1 = 1, b2 = 1."""
    rng = np.random.default_rng(0)
    sphere = rng.standard_normal((700, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    angle = rng.uniform(0, 2 * np.pi, 250)
    ring = np.stack([1.9 * np.cos(angle), 1.9 * np.sin(angle), np.zeros(250)], axis=1)
    return np.concatenate([0.9 * sphere, ring + 0.08 * rng.standard_normal(ring.shape)]) / 1.5


def trace(graph: uk.NeighborGraph) -> tuple[Edges, Edges, int]:
    """The edges after the strong collapse and the edge pass, each vertex left also as a pair (v, v);
    and what the edge pass has added to b0 - b1 + b2."""
    given = f"{graph.n_points} {graph.n_edges}\n" + "\n".join(f"{u} {v}" for u, v in graph.edges())
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "trace"
        compiler = os.environ.get("CXX", "c++")
        native = HERE.parents[1] / "src" / "native"
        command = [
            compiler,
            "-std=c++20",
            "-O1",
            f"-I{native}",
            str(HERE / "trace.cpp"),
            "-o",
            str(program),
        ]
        subprocess.run(command, check=True)
        told = subprocess.run([program], input=given, capture_output=True, text=True, check=True).stdout
    collapsed, passed, change = told.splitlines()
    return *(np.array(line.split(), dtype=np.int64).reshape(-1, 2) for line in (collapsed, passed)), int(
        change
    )


def draw_closure(path: Path) -> None:
    """The forest, the edges that closing under triangles settles, and those left open."""
    points = points_in_plane(90)
    graph = uk.rips_graph(points, radius=0.35)
    forest, zero = close(graph)
    edges = graph.edges()
    closed, open_ = edges[zero & ~forest], edges[~zero]
    figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    draw_edges(
        axes, points, closed, GREY, linewidths=0.4, alpha=0.7, label=f"{len(closed)} settled by closing"
    )
    draw_edges(axes, points, edges[forest], BLUE, linewidths=1.2, label=f"{forest.sum()} of the forest")
    draw_edges(axes, points, open_, ORANGE, linewidths=1.8, label=f"{len(open_)} left open")
    axes.scatter(*points.T, s=4, color="black", zorder=3)
    axes.legend(frameon=False, loc="upper right", fontsize=8, bbox_to_anchor=(1.02, 1.02))
    bare(axes)
    print(
        f"closure: {graph.n_edges:,} edges, {forest.sum()} of the forest, {len(closed):,} settled, "
        f"{len(open_)} open, (b0, b1) = {numbers(graph)}"
    )
    save(figure, path)


def close(graph: uk.NeighborGraph) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """By edge: whether in the forest, whether zero in the end. The rules of src/native/closure.hpp, whose
    result depends on the forest alone: breadth first, from a vertex of highest degree."""
    edges, n = graph.edges(), graph.n_points
    joined, zero = np.zeros((2, n, n), dtype=bool)
    joined[edges[:, 0], edges[:, 1]] = joined[edges[:, 1], edges[:, 0]] = True
    left = np.ones(n, dtype=bool)
    for root in np.argsort(-joined.sum(axis=1), kind="stable"):
        queue = [root] if left[root] else []
        left[root] = False
        for u in queue:
            for v in np.flatnonzero(joined[u] & left):
                zero[u, v] = zero[v, u] = True
                left[v] = False
                queue.append(v)
    forest = zero.copy()
    while True:
        more = joined & ~zero & ((zero.astype(np.int64) @ zero.astype(np.int64)) > 0)
        if not more.any():
            return forest[edges[:, 0], edges[:, 1]], zero[edges[:, 0], edges[:, 1]]
        zero |= more


def save(figure: Any, path: Path) -> None:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    # 64 colours are enough for lines and dots, in a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "assets")
