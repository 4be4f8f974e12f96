from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unknot.core.errors import InputError
from unknot.topology.cloud import check_points, make_cloud
from unknot.topology.point_files import load_points, load_samples


def test_flattens_and_keeps_float32() -> None:
    cloud = make_cloud(np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    assert cloud.points.shape == (4, 6)
    assert cloud.points.dtype == np.float32
    assert cloud.points.flags.c_contiguous


def test_other_numbers_become_float64() -> None:
    assert check_points([[1, 2], [3, 4]]).dtype == np.float64
    assert check_points(np.zeros((2, 2), dtype=np.float16)).dtype == np.float64


def test_duplicates_go_once_per_label() -> None:
    points = [[0.0, 1.0], [0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [-0.0, 1.0]]
    assert make_cloud(points).points.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    cloud = make_cloud(points, [0, 0, 0, 1, 1])
    assert cloud.labels is not None
    assert cloud.points.tolist() == [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]]
    assert cloud.labels.tolist() == [0, 0, 1]
    assert cloud.n_original == 5


@given(st.integers(2, 60), st.integers(0, 5))
def test_subsample_is_stratified_bounded_and_seeded(size: int, seed: int) -> None:
    points = np.arange(200.0).reshape(100, 2)
    labels = np.repeat([0, 1, 2], [80, 19, 1])
    cloud = make_cloud(points, labels, max_points=size, seed=seed)
    again = make_cloud(points, labels, max_points=size, seed=seed)
    assert cloud.points.tolist() == again.points.tolist()
    assert cloud.classes() == [0, 1, 2]
    assert cloud.n_points <= size + 2  # every class keeps at least one
    assert abs(cloud.of_class(0).n_points - 0.8 * size) <= 1


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[0.0, float("nan")]], r"points\[0, 1\] = nan: expected finite"),
        ([["a", "b"]], "real numbers"),
        ([[1j, 0]], "real numbers"),
        ([[1.0], [1.0, 2.0]], "all rows of one length"),
        (3.0, r"\[n, d\]"),
        (np.empty((0, 3)), "at least one point"),
    ],
)
def test_bad_points_get_one_line(points: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make_cloud(points)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [[0, 1], [0.5, 1.0, 2.0], ["a", "b", "c"]])
def test_bad_labels(labels: list[object]) -> None:
    with pytest.raises(InputError, match="labels"):
        make_cloud(np.eye(3), labels)


def test_unknown_class_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"one of \[0, 1\]"):
        make_cloud(np.eye(2), [0, 1]).of_class(7)


def test_reads_what_numpy_wrote(tmp_path: Path) -> None:
    points, labels = np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 1, 0, 1, 0, 1])
    np.save(tmp_path / "a.npy", points)
    np.savez(tmp_path / "b.npz", points=points, labels=labels)
    np.savez(tmp_path / "c.npz", X=points, y=labels)
    np.savetxt(tmp_path / "d.csv", points, delimiter=",", header="x,y", comments="")
    np.savetxt(tmp_path / "e.csv", points, delimiter=",")
    for name in ("a.npy", "b.npz", "c.npz", "d.csv", "e.csv"):
        cloud = load_points(tmp_path / name)
        assert np.allclose(cloud.points, points), name
        assert (cloud.labels is not None) == name.endswith("npz")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "0 bytes"),
        ("header.csv", b"x,y\n", "no rows"),
        ("text.csv", b"x,y\none,two\n", "numbers only"),
        ("ragged.csv", b"1,2\n1,2,3\n", "line 2 of 3 cells: expected 2 numbers"),
        ("nan.csv", b"1,nan\n1,2\n", "line 1, column 2 = nan"),
        ("one.csv", b"1,2\n", "at least 2 points"),
        ("binary.csv", b"\xff\xfe\x00\x01", "no rows"),
        (
            "bytes.csv",
            b"1,2\n\x80,3",
            "with byte 0x80, which is no utf-8: expected text in UTF-8 that holds numbers",
        ),
        ("broken.npy", b"\x93NUMPY\x01\x00", "complete"),
        ("broken.npz", b"PK\x03\x04 no zip", "complete"),
        ("points.txt", b"1 2", ".npy, .npz, .csv"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        load_points(tmp_path / name)
    assert name in str(caught.value) or "points[" in str(caught.value)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="objects.npy"):
        load_samples(tmp_path / "objects.npy")


def test_foreign_npz_lists_its_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.eye(2))
    with pytest.raises(InputError, match="data"):
        load_points(tmp_path / "x.npz")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone.npy"):
        load_points(tmp_path / "gone.npy")
