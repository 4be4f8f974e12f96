from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unknot.errors import InputError
from unknot.graph import Scale
from unknot.images import load_images
from unknot.models import cnn
from unknot.profile import measure


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


def test_missing_data_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNKNOT_DATA", raising=False)
    with pytest.raises(InputError, match="set UNKNOT_DATA"):
        load_images("cifar10")
    monkeypatch.setenv("UNKNOT_DATA", str(tmp_path))
    with pytest.raises(InputError, match="no file"):
        load_images("cifar10")
    with pytest.raises(InputError, match="'train' or 'test'"):
        load_images("digits", split="all")  # type: ignore[arg-type]
