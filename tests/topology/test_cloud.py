from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from unknot.core.errors import InputError
from unknot.topology.adapters.point_files import load_points, load_samples
from unknot.topology.cloud import check_points, make_cloud


def test_flattens_and_keeps_float32() -> None:
    cloud = make_cloud(np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    assert cloud.points.shape == (4, 6)
    assert cloud.points.dtype == np.float32
    assert cloud.points.flags.c_contiguous


def test_other_numbers_become_float64() -> None:
    assert check_points([[1, 2], [3, 4]]).dtype == np.float64
    assert check_points(np.zeros((2, 2), dtype=np.float16)).dtype == np.float64


def test_every_form_of_an_array_is_the_same_cloud() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    frozen = points.copy()
    frozen.setflags(write=False)
    forms = (
        points.tolist(), tuple(map(tuple, points)), frozen, np.asfortranarray(points), points[::-1][::-1],
        np.repeat(points, 2, axis=1)[:, ::2], points.astype(">f8"), points.astype(np.longdouble),
        pd.DataFrame(points), torch.tensor(points), np.ma.masked_array(points), points.reshape(9, 3, 1),
    )  # fmt: skip
    for form in forms:
        array = check_points(form)
        assert array.dtype == np.float64 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, points)
    assert check_points(points[:, 0]).shape == (9, 1)  # numbers on a line
    assert check_points(torch.tensor(points, dtype=torch.float32)).dtype == np.float32
    assert check_points(np.array([[2**53, -(2**53)]])).tolist() == [[2.0**53, -(2.0**53)]]
    assert check_points(np.array([[5e-324]])).item() == check_points(np.array([[5e-324]], ">f8")).item()


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
        ([[1j, 0]], "real numbers.*pass real and imaginary parts as features"),
        (np.array([[1, 2]], dtype=object), "type object.*convert it to float64"),
        (np.array([["1", "2"]]), "real numbers.*convert it to float64"),
        (sparse.eye_array(3), r"real numbers.*pass its \.toarray\(\)"),
        (np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]]), "points with masked values"),
        (np.array([[2**53 + 1, 0]]), "from 0 to 9007199254740993: .*subtract the least of each column"),
        (np.array([[2**64 - 1, 2**64 - 2]], dtype=np.uint64), "whole numbers up to 2\\^53"),
        ([[10**30, 1]], "type object"),
        ([[np.longdouble("1e400")]], r"points\[0, 0\] = inf"),
        ([[np.longdouble("1e-400")]], "numbers that float64 can hold; multiply them"),
        (torch.ones(2, 2, requires_grad=True), "type Tensor .*detach.*make it a numpy array"),
        (torch.ones(2, 2).bfloat16(), "type Tensor .*BFloat16.*make it a numpy array"),
        (torch.ones(2, 2).to_sparse(), "type Tensor .*to_dense.*make it a numpy array"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), "type object"),
        ({1: 2}, "type object"),
        ([[1.0], [1.0, 2.0]], "all rows of one length"),
        (3.0, r"\[n, d\]"),
        (np.empty((0, 3)), "at least one point"),
    ],
)
def test_bad_points_get_one_line(points: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make_cloud(points)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1], [0.5, 1.0, 2.0], ["a", "b", "c"], [[0], [1, 2], [3]], [0.0, np.nan, 1.0], 3,
        np.ma.masked_array([0, 1, 2], mask=[False, True, False]), torch.ones(3, requires_grad=True),
    ],
)  # fmt: skip
def test_bad_labels(labels: object) -> None:
    with pytest.raises(InputError, match="labels"):
        make_cloud(np.eye(3), labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_bad_seeds(seed: object) -> None:
    with pytest.raises(InputError, match="seed = .*: expected a whole number >= 0"):
        make_cloud(np.eye(3), seed=seed)  # type: ignore[arg-type]


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
        ("ragged.csv", b"1,2\n1,2,3\n", "line 2 has 3 cells: expected 2 numbers"),
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
