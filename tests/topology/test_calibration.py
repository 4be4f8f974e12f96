from __future__ import annotations

import math
from itertools import product
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from unknot.core.errors import InputError
from unknot.topology.calibration import (
    K_LADDER,
    RankedNeighbours,
    Run,
    calibrate,
    class_clouds,
)
from unknot.topology.graph import knn_graph, rips_graph, scale_graph
from unknot.topology.homology import betti_numbers
from unknot.topology.scale import Scale
from unknot.topology.shapes import SHAPES, Shape, make_shape

RULES: tuple[Literal["knn", "radius"], ...] = ("knn", "radius")


def betti_of_classes(
    shape: Shape, scale: Scale, points: NDArray[np.float64] | None = None
) -> dict[int, object]:
    points = shape.points if points is None else points
    return {
        label: betti_numbers(
            scale_graph(points[shape.labels == label], scale), max_dim=len(true) - 1
        ).values
        for label, true in shape.betti.items()
    }


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SHAPES)
def test_finds_the_true_numbers_of_every_shape(name: str, rule: Literal["knn", "radius"]) -> None:
    shape = make_shape(name, seed=107)
    scale = calibrate(shape.points, shape.labels, rule=rule)
    assert scale.determined
    assert (scale.k is None) == (rule == "radius")
    assert betti_of_classes(shape, scale) == dict(shape.betti)


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_true_numbers_of_noisy_random_rings(seed: int) -> None:
    radius = make_shape("rings", pairs=3, n=1500).radius
    shape = make_shape("rings", pairs=3, n=1500, noise=0.05 * radius, sampling="random", seed=seed)
    scale = calibrate(shape.points, shape.labels)
    assert scale.determined
    assert betti_of_classes(shape, scale) == dict(shape.betti)


@pytest.mark.parametrize("rule", RULES)
def test_an_embedding_in_fifty_dimensions_changes_nothing(rule: Literal["knn", "radius"]) -> None:
    shape = make_shape("discs", seed=1)
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(50, 50)))[0][:2]
    points = shape.points @ axes + 0.02 * shape.radius * rng.normal(size=(len(shape.points), 50))
    scale = calibrate(points, shape.labels, rule=rule)
    assert scale.determined
    assert betti_of_classes(shape, scale, points) == dict(shape.betti)


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_unlike_density(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, 1100)
    radii = np.where(np.arange(1100) < 1000, 1.0, 2.5)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    points += 0.08 * rng.normal(size=points.shape)
    scale = calibrate(points, radii > 2)
    assert scale.determined
    for part in (points[:1000], points[1000:]):
        assert betti_numbers(scale_graph(part, scale)).values == (1, 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("d", "n"), [*product((2, 3, 10, 50), (200, 500))])
def test_says_undetermined_on_noise(d: int, n: int, rule: Literal["knn", "radius"]) -> None:
    for seed in range(3):
        rng = np.random.default_rng([seed, d, n])
        for cloud in (rng.normal(size=(n, d)), rng.random((n, d))):
            scale = calibrate(cloud, rule=rule)
            assert not scale.determined
            if rule == "knn":
                assert (scale.k, scale.hops, scale.radius) == (14, 2, None)
            else:
                assert scale.k is scale.hops is None and scale.radius is not None
            assert f"n = {n}" in scale.note


def test_one_solid_disc_a_class_is_not_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    radii, angles = np.sqrt(rng.random(800)), rng.uniform(0, 2 * np.pi, 800)
    disc = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    labels = np.arange(800) % 2
    disc[labels == 1] += 3
    scale = calibrate(disc, labels)
    assert not scale.determined
    assert "one blob a class" in scale.note


def test_too_few_points_for_the_shape_are_undetermined() -> None:
    shape = make_shape("checker", seed=0)
    scale = calibrate(shape.points, shape.labels, max_points=1000)
    assert not scale.determined


def test_max_dim_counts_voids() -> None:
    shape = make_shape("spheres", units=1, n=800, seed=0)
    scale = calibrate(shape.points, shape.labels, max_dim=2)
    assert scale.determined
    assert betti_of_classes(shape, scale) == dict(shape.betti)


@pytest.mark.parametrize("exponent", [-1060, -900, -540, 20, 500, 1000])
def test_the_unit_of_the_points_does_not_matter(exponent: int) -> None:
    shape = make_shape("rings", pairs=2, n=800, seed=0)
    points = np.round(shape.points * 2**12) * 2.0**-12  # so that none of their digits get lost
    one, other = (calibrate(np.ldexp(points, e), shape.labels) for e in (0, exponent))
    assert one.determined and one == other
    one, other = (calibrate(np.ldexp(points, e), shape.labels, rule="radius") for e in (0, exponent))
    assert one.radius is not None and other.radius is not None
    assert math.ldexp(other.radius, -exponent) == pytest.approx(one.radius, rel=5e-3)


def test_distances_beyond_float64_are_told() -> None:
    corners = np.array([[1.5, 1.5], [-1.5, -1.5], [1.5, -1.5], [-1.5, 1.5]]) * 1e308
    scale = calibrate(corners, rule="radius")
    assert not scale.determined
    assert scale.note == "the distances are beyond what a float64 can hold, n = 4"


@pytest.mark.parametrize("order", range(3))
def test_the_order_and_names_of_points_and_classes_do_not_matter(order: int) -> None:
    shape = make_shape("rings", pairs=2, n=800, seed=0)
    rows = np.random.default_rng(order).permutation(800)
    assert calibrate(shape.points[rows], 7 - shape.labels[rows]) == calibrate(shape.points, shape.labels)


def test_is_reproducible() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    first = calibrate(shape.points, shape.labels, max_points=500, seed=4)
    assert first == calibrate(shape.points, shape.labels, max_points=500, seed=4)


def test_the_note_tells_the_stable_range() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    scale = calibrate(shape.points, shape.labels)
    assert scale.note.startswith("stable for k = ")
    assert "at 1 hop, " in scale.note and "at 2 hops" in scale.note and "n = 900" in scale.note


def test_a_run_is_measured_on_a_log_scale() -> None:
    run = Run(((1, 1),), (5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0))
    assert run.width == math.log(4)
    assert run.middle == 10


@pytest.mark.parametrize("d", [2, 3, 784])
def test_one_search_gives_the_graphs_of_every_k(d: int) -> None:
    rng = np.random.default_rng(d)
    # Whole numbers, so that there are ties.
    points = np.unique(rng.integers(0, 12, (150, d)), axis=0).astype(np.float64)
    neighbours = RankedNeighbours(points, max(K_LADDER))
    for k, hops in product((1, 4, 17, 42), (1, 2, 3)):
        one, other = neighbours.graph(k, hops), knn_graph(points, k=k, hops=hops)
        assert one.rows is not None and other.rows is not None
        np.testing.assert_array_equal(one.rows, other.rows)


def test_small_classes_are_measured_with_all_their_points() -> None:
    shape = make_shape("rings", pairs=3, n=900, seed=0)
    few = shape.points[:3] + 9
    scale = calibrate(np.concatenate([shape.points, few, few[:1] + 9]), [*shape.labels, 7, 7, 7, 8])
    alone = calibrate(shape.points, shape.labels)
    assert scale.determined
    assert (scale.k, scale.hops) == (alone.k, alone.hops)
    assert scale.note.endswith("; k lowered in classes of k points or fewer")
    assert "lowered" not in alone.note


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (5, 4), (12, 11), (15, 14)])
@pytest.mark.parametrize("rule", RULES)
def test_tiny_clouds_are_undetermined(n: int, k: int, rule: Literal["knn", "radius"]) -> None:
    scale = calibrate(np.arange(n)[:, None] ** 2.0, rule=rule)
    assert not scale.determined
    if rule == "knn":
        assert (scale.k, scale.hops) == (k, 2)
    else:
        assert scale.k is None and scale.radius is not None and 1 <= scale.radius <= (n - 1) ** 2


def test_duplicates_count_once() -> None:
    shape = make_shape("rings", pairs=2, n=600, seed=0)
    twice = np.concatenate([shape.points, shape.points])
    assert calibrate(twice, np.tile(shape.labels, 2)) == calibrate(shape.points, shape.labels)


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        (
            [[1.0, 2.0]] * 9,
            None,
            "^one distinct point a class: expected at least 2 distinct points in a class; add samples$",
        ),
        ([[1.0, 2.0]] * 4 + [[0.0, 0.0]], [0, 0, 0, 0, 1], "one distinct point a class"),
        ([[0.0], [math.nan]], None, "nan.*finite"),
        (np.empty((0, 3)), None, "0 rows"),
        ([[0.0], [1.0]], [0], "labels of shape"),
        ([["a"], ["b"]], None, "an array of real numbers"),
    ],
)
def test_bad_points_are_refused(points: object, labels: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        calibrate(points, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rule": "rips"}, "rule = 'rips': expected 'knn' or 'radius'; pick one"),
        ({"max_points": 1}, "max_points = 1: expected a whole number >= 2; pass e.g. max_points=2"),
        ({"max_points": 2.5}, "max_points = 2.5: expected a whole number >= 2; pass e.g. max_points=2"),
        ({"max_dim": 3}, "max_dim = 3: expected 0, 1 or 2; pass max_dim=1 for b0 and b1"),
        ({"max_dim": -1}, "max_dim = -1: expected 0, 1 or 2; pass max_dim=1 for b0 and b1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], said: str) -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(InputError) as caught:
        calibrate(points, **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_class_clouds_are_by_label() -> None:
    clouds = class_clouds([[0.0], [1.0], [1.0], [2.0]], [3, 5, 5, 3])
    assert {label: cloud.ravel().tolist() for label, cloud in clouds.items()} == {3: [0, 2], 5: [1]}
    assert list(class_clouds([[0.0], [1.0]])) == [None]


def test_class_clouds_take_as_many_points_as_they_are_told() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2))
    assert len(class_clouds(points, max_points=2)[None]) == 2
    plain, other = (class_clouds(points, max_points=20, seed=seed)[None] for seed in (0, 1))
    np.testing.assert_array_equal(class_clouds(points, max_points=20)[None], plain)
    assert not np.array_equal(plain, other)
    assert len(class_clouds(np.arange(10_100.0)[:, None])[None]) == 10_000


def widest_runs(rungs: list[float], answers: list[object]) -> dict[object, list[float]]:
    """{answer: the first of its widest stretches}, in the order of the ladder."""
    widest: dict[object, list[float]] = {}
    start = 0
    for end in range(1, len(rungs) + 1):
        if end == len(rungs) or answers[end] != answers[start]:
            run, held = rungs[start:end], widest.get(answers[start])
            if held is None or run[-1] / run[0] > held[-1] / held[0]:
                widest[answers[start]] = run
            start = end
    return widest


def middle(run: list[float]) -> float:
    return min(run, key=lambda r: abs(math.log(r) - math.log(run[0] * run[-1]) / 2))


def one_blob(answer: object) -> bool:
    return all(values[0] == 1 and not any(values[1:]) for values in answer)  # type: ignore[attr-defined]


def by_k(clouds: list[NDArray[np.float64]]) -> Scale:
    """What `calibrate` says, from graphs that are made one by one."""
    sizes = [len(c) for c in clouds]
    ladder = [float(k) for k in K_LADDER if k < max(sizes)]
    runs = {}
    for hops in (1, 2, 3):
        answers = [
            tuple(
                betti_numbers(knn_graph(c, k=min(int(k), len(c) - 1), hops=hops)).values for c in clouds
            )
            for k in ladder
        ]
        runs[hops] = widest_runs(ladder, list(answers))
    totals: dict[object, float] = {}
    for of_hops in (runs[2], runs[3], runs[1]):
        for answer, run in of_hops.items():
            totals[answer] = totals.get(answer, 0) + math.log(run[-1] / run[0])
    n = sum(sizes)
    shaped = [answer for answer in totals if not one_blob(answer)]
    best = max(shaped, key=lambda a: totals[a], default=None)
    if best is None or totals[best] < math.log(4):
        blobs = next((run for answer, run in runs[2].items() if one_blob(answer)), None)
        why = "no answer is stable over k; more points may settle it"
        if blobs:
            why = f"nothing is stable but one blob a class (from k = {blobs[0]:.4g}), as in noise"
        k = min(14, max(sizes) - 1)
        return Scale(k=k, hops=2, determined=False, note=f"{why}, n = {n}")
    held = {hops: runs[hops][best] for hops in (1, 2, 3) if best in runs[hops]}
    widths = {hops: math.log(run[-1] / run[0]) for hops, run in held.items()}
    hops = next(h for h in (2, 3, 1) if h in held and widths[h] >= 0.75 * max(widths.values()))
    told = ", ".join(
        f"{run[0]:.4g} to {run[-1]:.4g} at {h} {'hop' if h == 1 else 'hops'}" for h, run in held.items()
    )
    k, note = int(middle(held[hops])), f"stable for k = {told}, n = {n}"
    few = "; k lowered in classes of k points or fewer" if any(size <= k for size in sizes) else ""
    return Scale(k=k, hops=hops, note=note + few)


def by_radius(clouds: list[NDArray[np.float64]]) -> Scale:
    def spacing(cloud: NDArray[np.float64]) -> float:
        i, j = knn_graph(cloud, k=min(3, len(cloud) - 1)).edges().T
        return math.sqrt(float(np.median(((cloud[i] - cloud[j]) ** 2).sum(1))))

    start = min(spacing(c) for c in clouds if len(c) > 1)
    ladder, answers = [], []
    for step in range(64):
        ladder.append(start * (2 ** (1 / 8)) ** step)
        answers.append(tuple(betti_numbers(rips_graph(c, radius=ladder[-1])).values for c in clouds))
        if one_blob(answers[-1]):
            break
    n = sum(map(len, clouds))
    runs = widest_runs(ladder, list(answers))
    shaped = [run for answer, run in runs.items() if not one_blob(answer)]
    best = max(shaped, key=lambda run: run[-1] / run[0], default=None)
    if best is None or math.log(best[-1] / best[0]) < math.log(2) * 17 / 16:
        why = "no answer is stable over radius; more points may settle it"
        if one_blob(answers[-1]):
            why = f"nothing is stable but one blob a class (from radius = {ladder[-1]:.4g}), as in noise"
        k = min(14, max(map(len, clouds)) - 1)
        return Scale(k=k, hops=2, determined=False, note=f"{why}, n = {n}")
    told = f"stable for radius = {best[0]:.4g} to {best[-1]:.4g}, n = {n}"
    return Scale(radius=middle(best), note=told)


def small_clouds(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One to three classes, each of one or two noisy rings, a blob or a few points."""
    rng = np.random.default_rng(seed)
    parts: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for label in range(int(rng.integers(1, 4))):
        for _ in range(int(rng.integers(1, 3))):
            n = int(rng.integers(3, 50))
            turns = rng.uniform(0, 2 * np.pi, n) if rng.random() < 0.5 else np.arange(n) * 2 * np.pi / n
            ring = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (rng.random() < 0.8)
            parts.append(ring + rng.normal(size=2) * 3 + rng.uniform(0.02, 0.2) * rng.normal(size=(n, 2)))
            labels += [label] * n
    return np.concatenate(parts), np.array(labels)


@pytest.mark.parametrize("seed", range(24))
def test_agrees_with_a_search_without_short_cuts(seed: int) -> None:
    points, labels = small_clouds(seed)
    clouds = [points[labels == label] for label in np.unique(labels)]
    assert calibrate(points, labels) == by_k(clouds)
    scale, expected = calibrate(points, labels, rule="radius"), by_radius(clouds)
    assert (scale.note, scale.determined) == (expected.note, expected.determined)
    if not scale.determined:
        assert scale.radius is not None  # a convention, which the search does not know
        return
    assert (scale.k, scale.hops) == (expected.k, expected.hops)
    # Of two rungs as near to the middle rounding decides; a rung is nine per cent.
    assert (scale.radius or 0.0) == pytest.approx(expected.radius or 0.0, rel=0.1)


def test_the_sample_and_the_dimensions_are_those_asked_for() -> None:
    shape = make_shape("rings", pairs=2, n=400, seed=0)
    plain = calibrate(shape.points, shape.labels, max_points=300)
    assert plain == calibrate(shape.points, shape.labels, max_points=300, max_dim=1, seed=0)
    assert plain.note.endswith("n = 300")
    others = [calibrate(shape.points, shape.labels, max_points=300, seed=seed) for seed in range(1, 5)]
    assert any(other != plain for other in others)
    turns = np.arange(60) * 2 * np.pi / 60
    ring = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for rule in RULES:  # a ring is one component: nothing to tell from a blob where loops do not count
        assert calibrate(ring, rule=rule).determined
        assert not calibrate(ring, rule=rule, max_dim=0).determined


def test_voids_end_the_search_at_the_first_blob() -> None:
    """For b2 the ladder is left where every class is one blob, so a thin ring is cut off there."""
    rng = np.random.default_rng(3)
    cube = rng.normal(size=(40, 3))
    loops, voids = calibrate(cube), calibrate(cube, max_dim=2)
    assert not loops.determined and not voids.determined
    assert "(from k = " in voids.note


def test_the_spacing_is_the_median_distance_of_neighbours() -> None:
    line = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])
    assert RankedNeighbours(line, 1).spacing == math.sqrt((4 + 16) / 2)  # of squares 1, 4, 16, 64
    assert RankedNeighbours(line[:1], 3).spacing == 0.0


def test_one_point_has_no_neighbours() -> None:
    alone = RankedNeighbours(np.zeros((1, 2)), 42)
    assert (alone.n, alone.most, len(alone.indices)) == (1, 0, 0)
    assert betti_numbers(alone.graph(4, 2)).values == (1, 0)


@pytest.mark.parametrize(("limit", "packed"), [(60, True), (59, False)])
def test_large_clouds_are_kept_as_neighbour_lists(
    limit: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unknot.topology.calibration.DENSE", limit)
    points = np.random.default_rng(0).normal(size=(60, 2))
    neighbours = RankedNeighbours(points, 9)
    for k, hops in product((1, 4, 9), (1, 2, 3)):
        graph = neighbours.graph(k, hops)
        assert (graph.rows is not None) == packed and (graph.indptr is None) == packed
        np.testing.assert_array_equal(graph.edges(), knn_graph(points, k=k, hops=hops).edges())
        assert graph.scale == Scale(k=k, hops=hops) and graph.n_points == 60


@pytest.mark.parametrize(("n", "most", "needed"), [(150, 9, 150 * 3 * 8), (8193, 1, 8193 * 8 * 4)])
def test_graphs_beyond_the_memory_limit_are_refused(
    n: int, most: int, needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.random.default_rng(0).random((n, 1))
    monkeypatch.setenv("UNKNOT_MEMORY_GB", str((needed + 9) / 1e9))
    assert RankedNeighbours(points, most).most == most
    monkeypatch.setenv("UNKNOT_MEMORY_GB", str((needed - 9) / 1e9))
    with pytest.raises(InputError, match=f"^kNN-hop graphs of {n} points"):
        RankedNeighbours(points, most)


def test_a_run_is_told_from_its_first_rung_to_its_last() -> None:
    assert str(Run(((1, 1),), (0.123456, 2.0, 1234567.0))) == "0.1235 to 1.235e+06"
    assert Run((), (3.0,)).width == 0.0
    assert Run((), (2.0, 8.0)).middle == 2.0  # as near as 8: the first


def test_an_undetermined_radius_is_a_radius_all_the_same() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 2))
    scale = calibrate(noise, rule="radius")
    assert not scale.determined and scale.k is None and scale.radius is not None
    # The median distance of a point to its 14 nearest: its graph is about as dense as theirs.
    distances = np.sort(np.linalg.norm(noise[:, None] - noise, axis=2), axis=1)[:, 1:15]
    assert scale.radius == pytest.approx(np.median(distances), rel=0.15)
    assert calibrate(noise).k == 14
    tripled = calibrate(3 * noise, rule="radius").radius
    assert tripled == pytest.approx(3 * scale.radius, rel=1e-6)
