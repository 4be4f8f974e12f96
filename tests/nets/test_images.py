from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unknot.core.errors import InputError
from unknot.nets import images
from unknot.nets.images import load_images
from unknot.nets.models import cnn
from unknot.profiles.meter import measure
from unknot.topology.scale import Scale

Image = pytest.importorskip("PIL.Image")  # of the extra data


def test_digits_are_embedded_and_split() -> None:
    train, test = load_images("digits"), load_images("digits", split="test")
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert (float(train.images.min()), float(train.images.max())) == (-1.0, 1.0)
    assert train.classes == tuple("0123456789")
    rows = {tuple(image.flatten().tolist()) for image in test.images}
    assert not any(tuple(image.flatten().tolist()) in rows for image in train.images)


def test_limit_is_seeded() -> None:
    a, b, c = (load_images("digits", limit=20, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    assert len(load_images("digits", limit=10_000).images) == 1437


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("fashion_mnist", (1, 28, 28), 10), ("cifar10", (3, 32, 32), 10), ("cats_vs_dogs", (3, 64, 64), 2)],
)
def test_image_sets_load_and_can_be_measured(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], classes: int
) -> None:
    monkeypatch.setenv("UNKNOT_DATA", str(image_folder))
    data = load_images(name, split="test", limit=60)
    assert data.images.shape == (60, *shape)
    assert len(data.classes) == classes
    assert set(data.labels.tolist()) <= set(range(classes))
    profile = measure(
        cnn(shape[0], classes), data.images, by="layer", layers="conv*", scale=Scale(k=5, hops=2)
    )
    assert [row.layer for row in profile.rows] == ["input", "conv1", "conv2", "conv3"]


@pytest.fixture
def small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve 4 x 4 colour images of two classes, as the hub stores them, and a cache of its own."""
    monkeypatch.setenv("UNKNOT_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("UNKNOT_CACHE", str(tmp_path / "cache"))
    write_set(tmp_path / "sets" / "tiny" / "train.parquet", 12)
    return tmp_path


def write_set(path: Path, n: int, sizes: tuple[int, ...] = (4,)) -> None:
    datasets = pytest.importorskip("datasets")
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(n)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (sizes[i % len(sizes)], 4, 3), dtype=np.uint8))
        for i in range(n)
    ]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    record = {"image": pictures, "label": [i % 2 for i in range(n)]}
    datasets.Dataset.from_dict(record, features=features).to_parquet(str(path))


def test_a_set_is_decoded_once_and_then_mapped(small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_images("tiny")
    assert first.images.shape == (12, 3, 4, 4) and first.classes == ("cat", "dog")
    monkeypatch.setattr("unknot.nets.images._decode", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(load_images("tiny").images, first.images)
    assert [p.name for p in (small_set / "cache" / "images").iterdir() if p.name.startswith(".")] == []


def test_a_changed_file_is_decoded_again(small_set: Path) -> None:
    assert len(load_images("tiny").images) == 12
    write_set(small_set / "sets" / "tiny" / "train.parquet", 8)
    assert len(load_images("tiny").images) == 8


def test_an_interrupted_decoding_leaves_no_set_behind(
    small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = images._save

    def interrupted(path: Path, array: np.ndarray) -> None:
        if path.name == "labels.npy":
            raise KeyboardInterrupt
        save(path, array)

    monkeypatch.setattr(images, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_images("tiny")
    assert list((small_set / "cache" / "images").iterdir()) == []


def test_a_folder_of_pictures_by_class(small_set: Path) -> None:
    for split in ("train", "test"):
        for i, name in enumerate(("a", "b")):
            folder = small_set / "mine" / split / name
            folder.mkdir(parents=True)
            for j in range(3):
                Image.new("L", (5, 4), color=40 * i + j).save(folder / f"{j}.png")
    data = load_images(str(small_set / "mine"), split="test")
    assert data.images.shape == (6, 1, 4, 5) and data.classes == ("a", "b")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_what_cannot_be_read_is_refused_in_one_line(small_set: Path) -> None:
    write_set(small_set / "sets" / "uneven" / "train.parquet", 4, sizes=(4, 6))
    with pytest.raises(InputError, match="2 sizes, e.g. .*resize them"):
        load_images("uneven")
    (small_set / "sets" / "broken").mkdir()
    (small_set / "sets" / "broken" / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="image set broken") as found:
        load_images("broken")
    assert "\n" not in str(found.value)


def test_the_hub_without_a_network_says_what_to_do(
    small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="for the hub the name and the network"):
        load_images("nobody/nothing-of-that-name")


def test_missing_data_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNKNOT_DATA", raising=False)
    with pytest.raises(InputError, match="set UNKNOT_DATA"):
        load_images("cifar10")
    monkeypatch.setenv("UNKNOT_DATA", str(tmp_path))
    with pytest.raises(InputError, match="no train in"):
        load_images("cifar10")
    with pytest.raises(InputError, match="'train' or 'test'"):
        load_images("digits", split="all")  # type: ignore[arg-type]
