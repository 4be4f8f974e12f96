"""The data that ``--data`` names: a built-in set, a file, or what ``package.module:factory`` gives."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unknot.cli.sources import call_factory
from unknot.core.errors import InputError
from unknot.core.tables import Samples, Task, parse_table, said_classes
from unknot.nets.data import LabelledData, labelled_data, number_names, renumber
from unknot.nets.images import DATA_SETS, FOLDER_VARIABLE, ImageData, load_images
from unknot.nets.probe import LABEL_KEYS
from unknot.topology.adapters.point_files import SUFFIXES, file_suffix, load_samples
from unknot.topology.shapes import SHAPES, make_shape

TEST_SHARE = 0.2  # of a study's and of a net that is trained to be measured
MOST_CLASSES = 1_000_000  # a net has an output for each
BATCH = 256  # of a data set of single samples


def load_data(
    spec: str, *, seed: int = 0, label_column: str | None = None, task: Task = "classes"
) -> LabelledData:
    """`read_data`, with 20 % held out at random by ``seed`` where there are no test samples."""
    data = read_data(spec, seed=seed, label_column=label_column, task=task)
    if len(data.test_labels):
        return data
    x, y = data.inputs, data.labels
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, train = order.tensor_split([int(len(x) * TEST_SHARE)])
    return LabelledData(data.name, x[train], y[train], x[test], y[test])


def read_data(
    spec: str, *, seed: int = 0, label_column: str | None = None, task: Task = "classes"
) -> LabelledData:
    """Labelled data by name; without test samples where the source has none.

    Args:
        spec: a shape (e.g. "rings"); an image set as of `load_images` ("digits", one in
            ``$UNKNOT_DATA``, a folder, a hub name with a slash); a file as of `load_samples`; or
            ``package.module:factory``, whose factory returns what `labelled_data` takes, a data set of
            single samples, a dict ``{"x": inputs, "y": labels}``, a data frame, or two of these as
            ``(train, test)``.
        seed: of the shape.
        label_column: of a table or data frame, see `parse_table`.
        task: what labels are, see `labelled_data`.

    Raises:
        InputError: nothing of that name, no labels, or data that are no numbers.
    """
    return _checked(spec, _labelled(spec, _source(spec, seed, label_column, task), task))


def read_batches(spec: str, *, seed: int = 0, label_column: str | None = None) -> LabelledData | Batches:
    """Data by name to measure on: as `read_data`, all samples as one part, or batches.

    Batches are what has no labels, and what a loader yields that `probe_samples` takes, e.g. the dicts of
    a Hugging Face collator.
    """
    data = _source(spec, seed, label_column)
    if isinstance(data, Tensor):
        return Batches([data], spec)
    if isinstance(data, LabelledData):
        data = _checked(spec, data)
        return LabelledData(
            data.name,
            torch.cat([data.inputs, data.test_inputs]),
            torch.cat([data.labels, data.test_labels]),
            data.test_inputs[:0],
            data.test_labels[:0],
        )
    return data


class Batches:
    """What a loader yields, arrays as tensors.

    Attributes:
        n: samples in the last pass.
    """

    def __init__(self, loader: Iterable[Any], spec: str) -> None:
        self.loader, self.spec, self.n = loader, spec, 0

    def __iter__(self) -> Iterator[Any]:
        self.n = 0
        with _explained(self.spec):
            for given in self.loader:
                batch = tree_map(_tensor, dict(given) if isinstance(given, Mapping) else given)
                self.n += next((len(t) for t in tree_leaves(batch) if _has_rows(t)), 0)
                yield batch


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub":
        return torch.from_numpy(leaf)
    return leaf


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0


@contextmanager
def _explained(spec: str) -> Iterator[None]:
    """Whatever the user's code raises while it is read, in one line."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as error:
        raise InputError(
            f"--data {spec} ({type(error).__name__}: {error})",
            "batches that can be read",
            "mend it; --debug shows the traceback",
        ) from error


def _source(
    spec: str, seed: int, label_column: str | None, task: Task = "classes"
) -> LabelledData | Tensor | Batches:
    """What ``spec`` names: labelled, unlabelled, or batches that have not been looked at."""
    if not takes_columns(spec) and label_column is not None:
        raise InputError(
            f"--label-column {label_column} with --data {spec}",
            "a .csv or .tsv file, or a factory of a data frame",
            "drop it",
        )
    if _names_images(spec):
        train, test = load_images(spec, split="train"), load_images(spec, split="test")
        return LabelledData(spec, train.images, train.labels, test.images, test.labels)
    if spec in SHAPES:
        shape = make_shape(spec, seed=seed)
        return _arrays(spec, shape.points, shape.labels)
    if file_suffix(spec) in SUFFIXES:
        return _of_samples(spec, load_samples(spec, label_column=label_column, task=task), task)
    if ":" in spec:
        return _given(spec, call_factory(spec, "--data"), label_column, task)
    raise InputError(
        f"--data {spec}",
        f"one of {', '.join([*SHAPES, *DATA_SETS])}, a folder of images, a file that ends in "
        f"{', '.join(SUFFIXES)}, or module:factory",
        "check the name",
    )


def takes_columns(spec: str) -> bool:
    """Whether ``--label-column`` may say something about it."""
    suffix = file_suffix(spec)
    return suffix in SUFFIXES or (":" in spec and spec not in SHAPES)


def _named(spec: str) -> str:
    return f"file {spec}" if file_suffix(spec) in SUFFIXES else f"--data {spec}"


def _given(spec: str, data: Any, label_column: str | None, task: Task) -> LabelledData | Tensor | Batches:
    """What a factory gave."""
    if _is_frame(data):
        return _of_frame(spec, data, label_column, task)
    if label_column is not None:
        raise InputError(
            f"--label-column {label_column} with --data {spec}, which gives a {type(data).__name__}",
            "a .csv or .tsv file, or a factory of a data frame",
            "drop it",
        )
    if isinstance(data, Mapping):
        data = _of_mapping(data)
    found: LabelledData | Tensor | Batches
    if isinstance(data, LabelledData):
        found = labelled_data(data, task=task)
    elif isinstance(data, ImageData):
        found = _arrays(spec, data.images, data.labels)
    elif isinstance(data, (Tensor, np.ndarray)):
        found = _inputs(spec, data)
    elif isinstance(data, (tuple, list)) and len(data) == 2 and all(map(_is_array, data)):
        found = _arrays(spec, data[0], *_coded(spec, data[1]), task)
    elif isinstance(data, tuple) and len(data) == 2:
        found = _of_parts(spec, data, task)
    else:
        found = _of_loader(spec, data)
    return found


def _of_frame(spec: str, frame: Any, label_column: str | None, task: Task) -> LabelledData | Tensor:
    """A data frame, by the rules for tables in text."""
    text = frame.to_csv(index=False) if hasattr(frame, "to_csv") else frame.write_csv()
    name = f"the data frame of {spec} as .csv"
    table = parse_table(lambda: io.StringIO(text), name, label_column, header=True, task=task)
    return _of_samples(spec, table, task)


def _of_mapping(data: Mapping[str, Any]) -> Any:
    """(train, test), (inputs, labels), or the keyword arguments of a model as one batch."""
    if "train" in data and "test" in data:
        return data["train"], data["test"]
    key = next((key for key in LABEL_KEYS if key in data), None)
    inputs = [value for name, value in data.items() if name != key]
    return (inputs[0], data[key]) if key is not None and len(inputs) == 1 else [data]


def _of_loader(spec: str, data: Any) -> Batches:
    if _has_single_samples(data):
        return Batches(DataLoader(data, batch_size=BATCH), spec)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise InputError(
            f"--data {spec} returning {type(data).__name__}",
            "(inputs, labels), a loader, a data set, a data frame, or a pair (train, test) of these",
            "return one",
        )
    return Batches(data, spec)


def _of_parts(spec: str, parts: tuple[Any, Any], task: Task) -> LabelledData:
    """(train, test)."""
    train, test = (_labelled(spec, _given(spec, part, None, task), task) for part in parts)
    if not len(test.labels):
        return train
    labels = renumber(test.labels, test.names, train.names)
    both = (train.inputs, train.labels), (test.inputs, labels)
    return labelled_data(both, task=_task_of(train.labels))


def _task_of(labels: Tensor) -> Task:
    """Of labels that were taken for one or the other."""
    return "regression" if labels.is_floating_point() else "classes"


def _labelled(spec: str, data: LabelledData | Tensor | Batches, task: Task) -> LabelledData:
    """With all batches read."""
    if isinstance(data, Tensor):
        raise InputError(
            f"{_named(spec)} without labels",
            "labels of the samples, as y beside X in an .npz file or as a column of a table",
            "add them; --label-column names a column",
        )
    if isinstance(data, LabelledData):
        return data
    with _explained(spec):
        return labelled_data(data, task=task)


def _of_samples(spec: str, samples: Samples, task: Task) -> LabelledData | Tensor:
    for note in samples.notes:
        print(note, file=sys.stderr)
    if samples.labels is None:
        return _inputs(spec, samples.values)
    return _arrays(spec, samples.values, samples.labels, samples.classes, task)


def _is_frame(data: Any) -> bool:
    return hasattr(data, "columns") and (hasattr(data, "to_csv") or hasattr(data, "write_csv"))


def _is_array(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and not isinstance(value[0], (tuple, Mapping))
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _has_single_samples(data: Any) -> bool:
    """Whether it gives one sample at a time, (inputs, label) or a dict, and no batches."""
    if isinstance(data, DataLoader) or not (
        isinstance(data, (Dataset, list)) or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
    ):
        return False
    try:
        first = next(iter(data)) if isinstance(data, IterableDataset) else data[0]
    except Exception:  # the user's code; read again, it is told
        return False
    if isinstance(first, Mapping):
        return all(np.ndim(first[key]) == 0 for key in LABEL_KEYS if key in first)
    return isinstance(first, (tuple, list)) and len(first) > 1 and np.ndim(first[1]) == 0


def _names_images(spec: str) -> bool:
    folder = os.environ.get(FOLDER_VARIABLE)
    if spec in DATA_SETS or Path(spec).is_dir() or (folder and (Path(folder) / spec).is_dir()):
        return spec not in SHAPES
    hub_name = spec.count("/") == 1 and not spec.startswith(("/", "."))
    return hub_name and ":" not in spec and not Path(spec).suffix


def _array(spec: str, values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        kept = values.detach().cpu()
        return (kept.float() if kept.dtype is torch.bfloat16 else kept).numpy()
    try:
        return np.asarray(values)
    except Exception as error:  # ragged lists, and whatever a foreign container raises
        raise InputError(
            f"data {spec} ({type(error).__name__}: {str(error)[:100]})", "an array of numbers", "mend it"
        ) from None


def _inputs(spec: str, values: Any) -> Tensor:
    """Finite float32 inputs ``[n, ...]``."""
    array = _array(spec, values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"data {spec} of type {array.dtype}", "numbers", "encode them")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below
        return _finite(spec, torch.from_numpy(array.astype(np.float32)))


def _finite(spec: str, x: Tensor) -> Tensor:
    if not bool(x.isfinite().all()):
        raise InputError(f"data {spec} with NaN, infinity or numbers beyond float32", "finite inputs",
                         "clean the data")  # fmt: skip
    return x


def _coded(spec: str, labels: Any) -> tuple[Any, tuple[str, ...]]:
    """Labels that are text as numbers, with their names in that order; all others as they are."""
    numbers, names = number_names(labels)
    if names:
        print(f"--data {spec}: labels {said_classes(names)}", file=sys.stderr)
    return numbers, names


def _arrays(
    spec: str, inputs: Any, labels: Any, names: tuple[str, ...] = (), task: Task = "classes"
) -> LabelledData:
    """(inputs, labels) as labelled data without test samples."""
    values, classes = _array(spec, inputs), _array(spec, labels)
    if values.dtype.kind not in "fiub" or classes.dtype.kind not in "fiub":
        raise InputError(f"data {spec} of types {values.dtype} and {classes.dtype}",
                         "numbers, and labels 0, 1, 2, ...", "encode them")  # fmt: skip
    if task == "regression" or (task == "auto" and classes.dtype.kind == "f"):
        found = labelled_data((_inputs(spec, values), classes), task=task)
        return replace(found, name=spec)
    with np.errstate(over="ignore", invalid="ignore"):
        y = torch.from_numpy(classes.astype(np.int64))
    if not np.array_equal(y.numpy(), classes):
        raise InputError(f"data {spec} with labels that are no whole numbers", "labels 0, 1, 2, ...",
                         "clean the data")  # fmt: skip
    x = _inputs(spec, values)
    return LabelledData(spec, x, y, x[:0], y[:0], names)


def _checked(spec: str, data: LabelledData) -> LabelledData:
    """Under its own name; refused where no net could learn it."""
    x, y = data.inputs, data.labels
    if x.ndim < 2 or y.shape != x.shape[:1] or len(x) < 10:
        raise InputError(
            f"data {spec} of shapes {tuple(x.shape)} and {tuple(y.shape)}",
            "inputs [n, ...] and labels [n] with n >= 10",
            "pass one label a sample",
        )
    labels = torch.cat([y, data.test_labels])
    numbers = labels.is_floating_point()
    if not numbers and int(labels.min()) < 0:
        raise InputError(f"data {spec} with label {int(labels.min())}", "labels 0, 1, 2, ...",
                         "clean the data")  # fmt: skip
    if not numbers and int(labels.max()) >= MOST_CLASSES:
        raise InputError(f"data {spec} with label {int(labels.max())}", f"labels below {MOST_CLASSES}",
                         "encode the classes as 0, 1, 2, ...")  # fmt: skip
    name = Path(spec).name.removesuffix(file_suffix(spec)) if file_suffix(spec) in SUFFIXES else spec
    inputs, test_inputs = (_finite(spec, t.detach().cpu().float()) for t in (x, data.test_inputs))
    kind = torch.float32 if numbers else torch.int64
    labels, test_labels = (t.cpu().to(kind) for t in (y, data.test_labels))
    return LabelledData(name, inputs, labels, test_inputs, test_labels)
