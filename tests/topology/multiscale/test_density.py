"""Islands: against their definition in plain Python, GUDHI's ToMATo and known shapes; invariances."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from helpers.superlevel import plain_islands
from numpy.typing import NDArray

import unknot as uk
from unknot.core.errors import InputError
from unknot.topology import islands_batch, make_shape
from unknot.topology.multiscale.density import islands

Points = NDArray[np.floating[Any]]


def blobs(seed: int, n: int, d: int, parts: int, apart: float = 12.0) -> NDArray[np.float64]:
    """Gaussian blobs, the parts of neighbouring numbers differing."""
    rng = np.random.default_rng(seed)
    centres = apart * rng.normal(size=(parts, d)) / math.sqrt(d)
    return np.asarray(rng.normal(size=(n, d)) + centres[np.arange(n) % parts])


def partition(members: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(members == i).tolist()) for i in np.unique(members)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "parts"), [(50, 1, 2), (180, 2, 5), (150, 30, 3), (180, 300, 1)])
@pytest.mark.parametrize(("k", "z"), [(2, 1.0), (7, 2.0), (15, 3.0)])
def test_islands_are_those_of_the_definition(
    n: int, d: int, parts: int, k: int, z: float, dtype: type
) -> None:
    points = blobs(n + k, n, d, parts).astype(dtype)
    found = islands(points, k=k, z=z)
    members, prominences, dimension, *_ = plain_islands(points, k, z)
    assert found.members.tolist() == members
    assert found.prominences == pytest.approx(prominences, rel=1e-6, abs=1e-6)
    assert found.dimension == pytest.approx(dimension)
    assert found.count == sum(p >= z for p in prominences) == len(set(members))
    assert found.total == pytest.approx(sum(p for p in prominences if 2 <= p < math.inf))
    assert (found.n_points, found.k, found.z) == (n, k, z)
    assert found.sizes.tolist() == [members.count(i) for i in range(found.count)]


@pytest.mark.parametrize("seed", range(4))
def test_bars_and_count_are_those_of_gudhi(seed: int) -> None:
    """ToMATo is given graph and densities, and merges by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gudhi.clustering.tomato import Tomato

    k, z, n = 10, 2.0, 400
    points = blobs(seed, n, 3, 6, apart=7.0)
    found = islands(points, k=k, z=z)
    *_, near, density = plain_islands(points, k, z)
    unit = math.sqrt(2 / k)
    tomato = Tomato(graph_type="manual", density_type="manual", merge_threshold=z * unit)
    tomato.fit([sorted(row) for row in near], weights=np.array(density))
    births, deaths = tomato.diagram_.T
    finite = found.prominences[np.isfinite(found.prominences)]
    assert finite[finite > 1e-9] == pytest.approx(sorted((births - deaths) / unit, reverse=True))
    assert tomato.n_clusters_ == found.count > 1
    # Ours and theirs may differ where a peak below z lies between two islands.
    labels = tomato.labels_
    alike = sum(max((found.members[labels == i] == j).sum() for j in range(found.count))
                for i in range(found.count))  # fmt: skip
    assert alike >= 0.95 * n


SOLID = ("discs", "rings", "spheres", "links", "checker")
CLOSE = ("lattice", "scatter")  # parts of a class as near as 20 neighbours are


@pytest.mark.parametrize("name", [*SOLID, *CLOSE])
def test_pieces_of_known_shapes(name: str) -> None:
    shape = make_shape(name, seed=3)
    clouds = [shape.points[shape.labels == label] for label in (0, 1)]
    true = [shape.betti[label][0] for label in (0, 1)]
    assert max(true) >= 9
    for k in (10, 15, 20) if name in SOLID else (10,):
        for z in (3, 4):
            assert [found.count for found in islands_batch(clouds, k, z)] == true


def test_members_of_a_shape_are_its_parts() -> None:
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.c_[np.cos(turns), np.sin(turns)]
    points = np.concatenate([ring + np.array([3.0 * i, i]) for i in range(9)])
    found = uk.islands(points, k=5)
    assert partition(found.members) == {frozenset(range(60 * i, 60 * i + 60)) for i in range(9)}


def test_noise_is_one_island() -> None:
    """About one in a hundred has more at z = 3, in any dimension, one in a thousand at z = 4."""
    rng = np.random.default_rng(20)
    sizes, dimensions = (300, 600, 1000), (2, 10, 60, 512)
    clouds = [rng.normal(size=(n, d)) for n in sizes for d in dimensions for _ in range(20)]
    found = islands_batch(clouds)
    assert sum(f.count > 1 for f in found) <= 9
    assert sum((f.prominences >= 4).sum() > 1 for f in found) <= 2
    assert all("try n = 4,000" in f.note for f in found if f.count == 1)


def test_what_many_have_among_their_neighbours_is_one_peak() -> None:
    """Clouds in 512 dimensions whose kNN graph alone has two peaks in every fourth."""
    rng = np.random.default_rng(5)
    found = islands_batch([rng.random((2000, 512)) for _ in range(20)])
    assert min(f.dimension for f in found) > 100
    assert sum(f.count > 1 for f in found) <= 2
    apart = blobs(6, 1000, 512, 5, apart=15.0)
    assert partition(islands(apart).members) == {frozenset(range(part, 1000, 5)) for part in range(5)}


@pytest.mark.parametrize(("d", "more"), [(2, False), (300, True)])
def test_companions_are_a_matter_of_high_dimension(d: int, more: bool) -> None:
    points = blobs(7, 180, d, 1)
    *_, near, _ = plain_islands(points, 15, 3.0)
    order = np.argsort(np.square(points[:, None] - points).sum(2), axis=1)[:, 1:16]
    either = {frozenset((i, int(j))) for i, row in enumerate(order) for j in row}
    links = {frozenset((i, j)) for i, row in enumerate(near) for j in row}
    assert links >= either and (links > either) == more


@pytest.mark.parametrize("d", [2, 20])
def test_order_place_pose_and_unit_do_not_matter(d: int) -> None:
    points = blobs(1, 500, d, 6, apart=5.0)
    found = islands(points)
    assert found.count > 1 and np.isfinite(found.prominences).sum() > 3
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    for moved in (points @ turn, points + rng.normal(size=d), points * 1e-200, points * 1e300, -points):
        other = islands(moved)
        assert other.members.tolist() == found.members.tolist()
        assert other.prominences == pytest.approx(found.prominences, rel=1e-6, abs=1e-6)
        assert other.dimension == pytest.approx(found.dimension)
    order = rng.permutation(500)
    other = islands(points[order])
    assert other.members.tolist() == found.members[order].tolist()
    assert other.prominences == pytest.approx(found.prominences)


def test_many_units_at_once() -> None:
    """Blobs of unlike units: each is a component of the graph, whatever the float64 squares do."""
    blob = np.random.default_rng(0).normal(size=(40, 3))
    points = np.concatenate([blob * 1e-200, blob + 1e3, blob * 1e200 + 1e203])
    found = islands(points, k=5)
    assert partition(found.members) == {frozenset(range(40 * i, 40 * i + 40)) for i in range(3)}
    alone = islands(blob, k=5)
    assert found.dimension == pytest.approx(alone.dimension, rel=1e-6)
    assert sorted(found.prominences[3:]) == pytest.approx(
        sorted(np.tile(alone.prominences[1:], 3)), abs=1e-6
    )


def test_threads_and_batches_do_not_matter() -> None:
    clouds = [blobs(i, 200 + 100 * i, 3, 4) for i in range(3)]
    for found, cloud in zip(islands_batch(clouds, 10, 2.5, threads=2), clouds, strict=True):
        for threads in (0, 1, 3):
            alone = islands(cloud, 10, 2.5, threads=threads)
            assert alone.members.tolist() == found.members.tolist()
            assert alone.prominences.tolist() == found.prominences.tolist()
            assert (alone.total, alone.dimension) == (found.total, found.dimension)
    assert islands_batch([]) == []
    assert [f.count for f in islands_batch(np.stack([clouds[0], clouds[0]]))] == [
        islands(clouds[0]).count
    ] * 2


def test_equal_points_are_measured_once_and_share_an_island() -> None:
    points = blobs(2, 300, 3, 3)
    found = islands(points)
    rows = np.random.default_rng(1).integers(0, 300, 200)
    more = np.concatenate([points, points[rows], np.tile(points[:1], (30, 1))])
    again = islands(more)
    assert again.n_points == 300
    assert again.prominences.tolist() == found.prominences.tolist()
    assert again.members[:300].tolist() == found.members.tolist()
    assert again.members[300:500].tolist() == found.members[rows].tolist()
    assert (again.members[500:] == found.members[0]).all()
    assert again.sizes.sum() == 530


def test_where_all_neighbours_are_equally_far() -> None:
    """Corners of a simplex: one flat island of a dimension without bound; two of them are two."""
    found = islands(np.eye(60))
    assert (found.count, found.dimension) == (1, 1e12)
    assert found.total == 0
    corners = np.zeros((40, 40))
    corners[:20, :20], corners[20:, 20:] = np.eye(20), np.eye(20)
    corners[20:] += 100
    assert islands(corners, k=15).count == 2


def test_few_points_are_measured_and_said_to_be_few() -> None:
    found = islands(np.random.default_rng(0).normal(size=(17, 2)))
    assert found.count == 1
    few, one = found.note.split("; ")
    assert few == "few distinct points for k = 15: take 45 or more"
    assert one == "too few samples or one cloud: try n = 4,000"
    assert islands(np.arange(5000.0)[:, None]).note == "one cloud, or pieces that overlap"
    assert islands(blobs(0, 300, 2, 3, apart=90.0)).note == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": np.zeros((15, 2))}, "k = 15 with 1 distinct point in points"),
        ({"points": np.arange(15.0)}, "k = 15 with 15 distinct points.*pass k <= 14"),
        ({"points": np.tile(np.eye(9), (9, 1))}, "k = 15 with 9 distinct points.*pass k <= 8"),
        ({"points": np.empty((0, 3))}, "k = 15 with 0 distinct points.*at least 3 that differ"),
        ({"points": np.array([[0.0], [np.nan]])}, "finite numbers only"),
        ({"points": [["a"]]}, "array of real numbers"),
        ({"points": np.eye(40), "k": 1}, "k = 1: expected a whole number >= 2"),
        ({"points": np.eye(40), "k": 2.5}, "k = 2.5"),
        ({"points": np.eye(40), "k": 10**9}, "k = 1000000000 with 40"),
        ({"points": np.eye(40), "z": 0}, "z = 0"),
        ({"points": np.eye(40), "z": math.nan}, "z = nan"),
        ({"points": np.eye(40), "z": "3"}, "z = '3'"),
        ({"points": np.eye(40), "threads": -1}, "threads = -1"),
    ],
)
def test_bad_input_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        islands(**arguments)
    assert "\n" not in str(error.value)


def test_one_cloud_is_no_batch_and_a_bad_one_is_named() -> None:
    with pytest.raises(InputError, match=r"pass \[points\]"):
        islands_batch(np.eye(40))
    with pytest.raises(InputError, match=r"3 distinct points in clouds\[1\]"):
        islands_batch([np.eye(40), np.eye(3)])


def test_more_memory_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.0001")
    with pytest.raises(InputError, match="the kNN graph of 2000 points"):
        islands(np.random.default_rng(0).normal(size=(2000, 3)))


def test_repr() -> None:
    found = islands(blobs(4, 320, 2, 3, apart=90.0), z=3)
    sizes = " + ".join(map(str, found.sizes))
    assert sorted(found.sizes) == [106, 107, 107]
    text = repr(found)
    assert text.startswith(f"Islands(3 islands of {sizes} points, total ") and text.endswith("k=15, z=3)")
    assert repr(islands(make_shape("rings").points[:20])).endswith("try n = 4,000)")


def test_one_row_an_island(monkeypatch: pytest.MonkeyPatch) -> None:
    found = islands(blobs(4, 320, 2, 3, apart=90.0))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pandas", None)
        with pytest.raises(InputError, match="package pandas is missing"):
            found.to_frame()
    pytest.importorskip("pandas")
    frame = found.to_frame()
    assert frame["size"].tolist() == found.sizes.tolist()
    assert frame["prominence"].tolist() == [math.inf] * 3
    assert frame.index.name == "island"
