"""The options that several verbs of the command share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from unknot.core.errors import InputError
from unknot.core.files import require_writable
from unknot.topology.scale import Scale

Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str, typer.Option("--model", help="mlp, cnn, resnet (sized for the data), or package.module:factory.")
]
_DATA = (
    "A shape (see unknot shape --help), digits, fashion_mnist, cifar10, cats_vs_dogs (from "
    "$UNKNOT_DATA), a folder of images or a hub name with a slash, a file (.npz with X and y, .csv, "
    ".tsv) or package.module:factory returning (inputs, labels), a loader, a data set, a data "
    "frame, or a pair (train, test) of these"
)
Data = Annotated[str, typer.Option("--data", help=f"{_DATA}.")]
DataSets = Annotated[list[str], typer.Option("--data", help=f"{_DATA}. May be repeated.")]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        metavar="NAME|NUMBER",
        help="Column of the labels in a .csv or .tsv file or a data frame, by name or counted from 1; "
        "none where there is none. Default: label, target, class, species, category or y of the header.",
    ),
]
Activation = Annotated[
    str, typer.Option("--activation", help="Activation of the built-in models, e.g. relu or zfold.")
]
TrainEpochs = Annotated[
    int, typer.Option("--train", min=0, help="Train the model on the data for so many epochs first.")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Work on a Dask cluster: its scheduler, as tcp://host:8786 or its .json file. Workers: dask "
        "worker ADDRESS --nworkers -1 --nthreads 1.",
    ),
]
K = Annotated[int | None, typer.Option("--knn", min=1, help="Join each point to its K nearest.")]
Hops = Annotated[
    int | None,
    typer.Option("--hops", min=1, help="... and pairs at most so many steps apart. Default 1."),
]
Radius = Annotated[
    float | None, typer.Option("--radius", help="Join pairs at Euclidean distance <= RADIUS.")
]
MaxPoints = Annotated[int, typer.Option("--max-points", min=2, help="Samples measured.")]
MaxDim = Annotated[int, typer.Option("--max-dim", min=0, max=2, help="Highest Betti number.")]
Layers = Annotated[
    list[str], typer.Option("--layers", help="Glob over dotted module names; may be repeated.")
]
MaxBetti = Annotated[
    float | None, typer.Option("--max-betti", help="Remove filters whose b0 + b1 is above this.")
]
Ratio = Annotated[
    float | None,
    typer.Option("--ratio", help="Remove this share of filters, in [0, 1); see --allocation."),
]
Macs = Annotated[
    float | None, typer.Option("--macs", help="Remove this share of the multiply-accumulates, in [0, 1).")
]
Parameters = Annotated[
    float | None, typer.Option("--parameters", help="Remove this share of the parameters, in [0, 1).")
]
LatencyMs = Annotated[
    float | None,
    typer.Option("--latency-ms", help="Remove until one sample takes at most so many milliseconds."),
]


def scale_of(knn: int | None, hops: int | None, radius: float | None) -> Scale | None:
    """The scale that --knn with --hops, or --radius, give; None without them."""
    if radius is not None and knn is not None:
        raise InputError(f"--radius {radius} and --knn {knn}", "one neighbour rule", "drop one of them")
    if hops is not None and knn is None:
        remedy = "pass e.g. --knn 14" if radius is None else "drop --hops"
        raise InputError(f"--hops {hops} without --knn", "both or neither", remedy)
    return None if radius is None and knn is None else Scale(k=knn, hops=hops, radius=radius)


def require_file_name(path: Path, flag: str, suffixes: Sequence[str]) -> None:
    """Refuse, before any work is done, what no file of that format can be written to.

    Raises:
        InputError: another suffix, a folder, or a place that cannot be written to.
    """
    if path.suffix not in suffixes or path.is_dir():
        folder = ", which is a folder" if path.is_dir() else ""
        raise InputError(
            f"{flag} {path}{folder}",
            f"a file that ends in {', '.join(suffixes)}",
            f"pass e.g. {flag} result{suffixes[0]}",
        )
    require_writable(path, flag)


def require_folder_name(path: Path, flag: str) -> None:
    """Refuse, before any work is done, what no folder can be made at.

    Raises:
        InputError: a file, or a place that cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag} {path}, which is a file", "a folder", "choose another name")
    require_writable(path, flag)
