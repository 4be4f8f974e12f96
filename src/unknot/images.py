"""Image data sets as tensors, through Hugging Face ``datasets`` (extra ``data``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unknot.console import track
from unknot.errors import InputError, require_count

EMBEDDED = "digits"
DATA_SETS = (EMBEDDED, "fashion_mnist", "cifar10", "cats_vs_dogs")
TEST_DIGITS = 360  # of 1,797; the remaining 1,437 are the training split
FOLDER_VARIABLE = "UNKNOT_DATA"

# pixels [n, h, w, c] from 0 to 255, labels [n], class names
Decoded = tuple["NDArray[Any]", "NDArray[np.int64]", tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images in memory.

    Attributes:
        images: float32 ``[n, c, h, w]`` in [-1, 1].
        labels: int64 ``[n]``.
        classes: class names, by label.
        name: of the data set.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str


def load_images(
    name: str,
    *,
    split: Literal["train", "test"] = "train",
    limit: int | None = None,
    seed: int = 0,
) -> ImageData:
    """Read ``$UNKNOT_DATA/<name>/<split>.parquet`` in the schema of the Hugging Face hub.

    "digits" needs no file: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, the
    split fixed.

    Args:
        name: "digits", "fashion_mnist", "cifar10", "cats_vs_dogs", or another folder of that kind.
        limit: a seeded random subset of this many images.

    Raises:
        InputError: no ``$UNKNOT_DATA``, no such file, or the extra ``data`` is not installed.
    """
    if split not in ("train", "test"):
        raise InputError(f"split = {split!r}", "'train' or 'test'", "pick one")
    pixels, labels, classes = _digits(split) if name == EMBEDDED else _parquet(name, split, limit, seed)
    if limit is not None and limit < len(pixels):
        rows = _subset(len(pixels), limit, seed)
        pixels, labels = pixels[rows], labels[rows]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return ImageData(images.contiguous(), torch.from_numpy(labels), classes, name)


def _digits(split: str) -> Decoded:
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes a second

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    rows = order[:TEST_DIGITS] if split == "test" else order[TEST_DIGITS:]
    pixels = digits.images[rows, :, :, None] * (255 / 16)  # 0 to 16 in the source
    classes = tuple(str(name) for name in digits.target_names)
    return pixels.astype(np.float32), digits.target[rows].astype(np.int64), classes


def _parquet(name: str, split: str, limit: int | None, seed: int) -> Decoded:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise InputError(
            f"data {name!r} and no {FOLDER_VARIABLE} in the environment",
            "a folder with <name>/train.parquet and <name>/test.parquet",
            f"set {FOLDER_VARIABLE}, or pass a .npz file with X and y",
        )
    path = Path(folder) / name / f"{split}.parquet"
    if not path.is_file():
        raise InputError(f"no file {path}", "Parquet as on the Hugging Face hub", "check the name")
    try:
        from datasets import ClassLabel, Dataset, Image
    except ImportError:
        raise InputError(
            "package datasets is missing", "the extra 'data'", "pip install 'unknot[data]'"
        ) from None
    table = Dataset.from_parquet(str(path), keep_in_memory=False)
    columns: dict[str, Any] = table.features
    image = next((c for c, f in columns.items() if isinstance(f, Image)), None)
    label = next((c for c, f in columns.items() if isinstance(f, ClassLabel)), None)
    if image is None or label is None:
        raise InputError(f"file {path} with columns {list(columns)}", "an Image and a ClassLabel",
                         "write it with the datasets library")  # fmt: skip
    if limit is not None and limit < len(table):
        table = table.select(_subset(len(table), limit, seed))
    pixels = np.stack([np.asarray(p) for p in track(table[image], f"decoding {name}")])
    if pixels.ndim == 3:
        pixels = pixels[..., None]  # grey
    return pixels, np.asarray(table[label], dtype=np.int64), tuple(columns[label].names)


def _subset(n: int, limit: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(n)[: require_count("limit", limit)])
