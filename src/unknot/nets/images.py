"""Image data sets as tensors, through Hugging Face ``datasets`` (extra ``data``)."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unknot.core.console import track
from unknot.core.errors import InputError, import_package, require_choice, require_count
from unknot.core.files import DAMAGED, as_path
from unknot.core.memory import require_memory

EMBEDDED = "digits"
DATA_SETS = (EMBEDDED, "fashion_mnist", "cifar10", "cats_vs_dogs")
TEST_DIGITS = 360  # of 1,797; the remaining 1,437 are the training split
FOLDER_VARIABLE = "UNKNOT_DATA"
CACHE_VARIABLE = "UNKNOT_CACHE"

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
    """Read an image set: embedded, from a folder, or from the Hugging Face hub.

    Looked for in this order:

    - "digits": 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, the split fixed;
    - ``$UNKNOT_DATA/<name>`` or the folder ``name``, with ``train.parquet`` and ``test.parquet`` in the
      schema of the hub, or with ``train/`` and ``test/`` that hold one folder of images a class;
    - the hub, where ``name`` has a slash ("uoft-cs/cifar10").

    Images are decoded once and kept as an array under ``$UNKNOT_CACHE`` (default ``~/.cache/unknot``);
    later calls map it into memory. A file that has changed is decoded again.

    Args:
        name: of the set.
        split: "train" or "test".
        limit: a random subset of this many images.
        seed: of the subset.

    Raises:
        InputError: nothing of that name, no network for the hub, images of several sizes, or the extra
            ``data`` is not installed.
    """
    require_choice("split", split, ("train", "test"))
    name = str(as_path(name, "name"))
    if limit is not None:
        require_count("limit", limit)
    require_count("seed", seed, minimum=0)
    pixels, labels, classes = _digits(split) if name == EMBEDDED else _cached(name, split)
    if limit is not None and limit < len(pixels):
        rows = np.sort(np.random.default_rng(seed).permutation(len(pixels))[:limit])
        pixels, labels = pixels[rows], labels[rows]
    images = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2).div_(127.5).sub_(1)
    return ImageData(images.contiguous(), torch.from_numpy(np.array(labels)), classes, name)


def _digits(split: str) -> Decoded:
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes a second

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    rows = order[:TEST_DIGITS] if split == "test" else order[TEST_DIGITS:]
    pixels = digits.images[rows, :, :, None] * (255 / 16)  # 0 to 16 in the source
    classes = tuple(str(name) for name in digits.target_names)
    return pixels.astype(np.float32), digits.target[rows].astype(np.int64), classes


def _cached(name: str, split: str) -> Decoded:
    """Pixels mapped from the cache; filled first where it lacks them or the source has changed."""
    source, version = _source(name, split)
    home = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "unknot")
    key = hashlib.sha256(f"{source} {split} {version}".encode()).hexdigest()[:20]
    folder = home / "images" / f"{Path(name).name}-{split}-{key}"
    if not folder.is_dir():
        table = _table(name, source, split)
        try:
            decoded = _decode(table, name)
        except InputError:
            raise
        except Exception as error:  # whatever a decoder raises
            raise InputError(
                f"image set {name} ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
                "images that can be decoded, each with a label",
                "repair or drop the damaged ones",
            ) from None
        _keep(folder, decoded)
    try:
        return (
            np.load(folder / "pixels.npy", mmap_mode="r"),
            np.load(folder / "labels.npy"),
            tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8"))),
        )
    except (*DAMAGED, EOFError, FileNotFoundError) as error:
        raise InputError(
            f"cache {folder} ({type(error).__name__}: {str(error)[:60]})",
            "a set as it was decoded",
            "delete that folder; the set is decoded again",
        ) from None


def _source(name: str, split: str) -> tuple[str, str]:
    """Where a set is, and what changes when it does."""
    data = os.environ.get(FOLDER_VARIABLE)
    for folder in ([Path(data) / name] if data else []) + [Path(name)]:
        for path in (folder / f"{split}.parquet", folder / split):
            if path.exists():
                status = path.stat()
                return str(path.resolve()), f"{status.st_size} {status.st_mtime_ns}"
    if "/" in name and not Path(name).is_absolute():
        return f"hub:{name}", ""
    raise InputError(
        f"image set {name!r}: no {split} in {Path(data) / name if data else name}",
        f"a folder with {split}.parquet, one with {split}/<class>/*.png, or a hub name with a slash",
        f"set {FOLDER_VARIABLE} to the folder that holds the sets, or pass a .npz file with X and y",
    )


def _table(name: str, source: str, split: str) -> Any:
    datasets = import_package("datasets", extra="data")
    try:
        if source.startswith("hub:"):
            return datasets.load_dataset(name, split=split)
        if source.endswith(".parquet"):
            return datasets.Dataset.from_parquet(source, keep_in_memory=False)
        return datasets.load_dataset("imagefolder", data_dir=source, split="train")
    except Exception as error:  # whatever the network, the hub or a decoder raises
        text = " ".join(str(error).split())[:120]
        raise InputError(
            f"image set {name} ({type(error).__name__}: {text})",
            "a readable set",
            "check the file; for the hub the name and the network, or download it and pass its folder",
        ) from None


def _decode(table: Any, name: str) -> Decoded:
    from datasets import ClassLabel, Image

    columns: dict[str, Any] = table.features
    image = next((c for c, f in columns.items() if isinstance(f, Image)), None)
    label = next((c for c, f in columns.items() if isinstance(f, ClassLabel)), None)
    if image is None or label is None:
        raise InputError(f"image set {name} with columns {list(columns)}", "an Image and a ClassLabel",
                         "write it with the datasets library")  # fmt: skip
    shape = np.shape(table[0][image]) if len(table) else (0,)
    require_memory(len(table), 2 * len(table) * int(np.prod(shape)), f"image set {name}")
    modes = {picture.mode for picture in table[image][:100]}
    mode = "L" if modes <= {"L", "1"} else "RGB"
    pictures = [np.asarray(p.convert(mode)) for p in track(table[image], f"decoding {name}")]
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) != 1:
        one, other = sorted(sizes)[:2] if sizes else ((0, 0), (0, 0))
        raise InputError(f"image set {name} with {len(sizes)} sizes, e.g. {one} and {other}",
                         "one size for all images", "resize them")  # fmt: skip
    pixels = np.stack(pictures)
    if pixels.ndim == 3:
        pixels = pixels[..., None]  # grey
    return pixels, np.asarray(table[label], dtype=np.int64), tuple(columns[label].names)


def _keep(folder: Path, decoded: Decoded) -> None:
    """Write a set to the cache under another name, then rename it: all of it or nothing."""
    pixels, labels, classes = decoded
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".decoding-") as temporary:
        unfinished = Path(temporary) / "set"
        unfinished.mkdir()
        _save(unfinished / "pixels.npy", pixels)
        _save(unfinished / "labels.npy", labels)
        (unfinished / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise


def _save(path: Path, array: NDArray[Any]) -> None:
    """As np.save, which on a full disk may lose the last bytes without an error (it ignores fclose's)."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
