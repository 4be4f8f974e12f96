"""The verbs about points: betti and shape."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from unknot.cli import options as flags
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError
from unknot.core.files import write_file
from unknot.topology.adapters.point_files import cloud_of, load_samples
from unknot.topology.calibration import MOST_POINTS, calibrate
from unknot.topology.cloud import FloatArray, make_cloud
from unknot.topology.graph import scale_graph
from unknot.topology.homology import BettiNumbers, betti_numbers
from unknot.topology.scale import Scale
from unknot.topology.shapes import SHAPES, make_shape


def betti_command(
    file: Annotated[
        Path,
        typer.Argument(
            help=".npy, .npz (points, labels or X, y), .csv or .tsv, the latter also with .gz."
        ),
    ],
    radius: flags.Radius = None,
    knn: flags.K = None,
    hops: flags.Hops = None,
    label_column: flags.LabelColumn = None,
    max_dim: flags.MaxDim = 1,
    time_budget: Annotated[
        float | None, typer.Option(help="Give up after so many seconds a cloud.")
    ] = None,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Betti numbers of the points in a file.

    Of all points together, and of each class where there are labels.

    One neighbour rule: --radius, in the unit of the points, or --knn with --hops, which has no unit.
    Without one, k and hops are calibrated: where the Betti numbers of the classes stay the same.

      unknot betti points.npy --radius 0.5

      unknot betti labelled.npz --knn 14 --hops 2 --json

      unknot betti iris.csv --label-column species
    """
    given = flags.scale_of(knn, hops, radius)
    samples = load_samples(file, label_column=label_column)
    cloud = cloud_of(samples, file)
    everything = make_cloud(cloud.points)  # a point that occurs in two classes counts once here
    clouds = {"all": everything.points} | {str(c): cloud.of_class(c).points for c in cloud.classes()}
    notes = list(samples.notes)
    if given is None:
        scale = calibrate(cloud.points, cloud.labels, max_dim=max(1, max_dim), seed=seed)
        notes += _scale_notes(scale, clouds)
    else:
        scale = given
    betti = {
        # What was asked for is refused where a cloud is too small; what was found is lowered.
        name: _count(
            points, scale.lowered_to(len(points)) if given is None else scale, max_dim, time_budget
        )
        for name, points in clouds.items()
    }
    for note in notes:
        print(note, file=sys.stderr)
    if as_json:
        print_json(
            {
                "betti": {name: list(numbers.values) for name, numbers in betti.items()},
                "n": {name: numbers.n_points for name, numbers in betti.items()},
                "scale": asdict(scale),
                **({"classes": dict(enumerate(samples.classes))} if samples.classes else {}),
                "notes": notes,
            }
        )
        return
    columns = ["cloud", "n", *(f"b{d}" for d in range(max_dim + 1))]
    names = {str(i): f"{i} ({text})" for i, text in enumerate(samples.classes)}
    rows = [[names.get(name, name), numbers.n_points, *numbers.values] for name, numbers in betti.items()]
    print_table(f"Betti numbers of {file.name} at {scale}", columns, rows)


def _count(points: FloatArray, scale: Scale, max_dim: int, time_budget: float | None) -> BettiNumbers:
    if len(points) == 1 and scale.k == 1:  # a single point has no neighbour
        return BettiNumbers((1, 0, 0)[: max_dim + 1], 1, scale)
    return betti_numbers(scale_graph(points, scale), max_dim=max_dim, time_budget=time_budget)


def _scale_notes(scale: Scale, clouds: dict[str, FloatArray]) -> list[str]:
    """How the scale was found, and where it is another one."""
    what = f"scale {scale.rule}" if scale.determined else f"the scale is undetermined; {scale.rule} is a"
    notes = [f"{what}{':' if scale.determined else ' convention:'} {scale.note}"]
    n = len(clouds["all"])
    if n > MOST_POINTS:
        notes.append(f"calibrated on {MOST_POINTS:,} of {n:,} points; --knn or --radius sets a scale")
    for name, points in clouds.items():
        lowered = scale.lowered_to(len(points))
        if lowered != scale:
            whose = "all points" if name == "all" else f"class {name}"
            notes.append(f"{whose}: k = {lowered.k}, lowered for {len(points)} distinct point(s)")
    return notes


def shape_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(SHAPES)}.")],
    out: Annotated[Path, typer.Option(help="FILE.npz for points, labels and Betti numbers.")],
    n: Annotated[int | None, typer.Option(min=1, help="Points in all.")] = None,
    noise: Annotated[float, typer.Option(min=0, help="Standard deviation of the noise.")] = 0.0,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Labelled points of known topology.

    Two classes, the true Betti numbers of each written beside the points.

    The sizes of a shape are options too, e.g. --pairs for rings; a wrong one lists those there are.

      unknot shape rings --pairs 9 --out rings.npz

      unknot shape checker --grid 7 --n 6000 --seed 1 --out checker.npz
    """
    sizes: dict[str, Any] = _sizes(context.args)
    if n is not None:
        sizes["n"] = n
    flags.require_file_name(out, "--out", (".npz",))
    shape = make_shape(name, noise=noise, seed=seed, **sizes)
    arrays: dict[str, Any] = {f"betti_{label}": values for label, values in shape.betti.items()}
    write_file(out, lambda path: np.savez(path, points=shape.points, labels=shape.labels, **arrays))
    if as_json:
        betti_of = {str(label): list(values) for label, values in shape.betti.items()}
        print_json({"shape": name, "n": len(shape.points), "betti": betti_of, "file": str(out)})
        return
    rows = [(label, int((shape.labels == label).sum()), str(b)) for label, b in shape.betti.items()]
    print_table(f"{out}: {name}, seed {seed}", ["class", "n", "true Betti numbers"], rows)


def _sizes(arguments: list[str]) -> dict[str, object]:
    """``--key value`` pairs as keyword arguments, numbers where they are numbers."""
    keys, values = arguments[::2], arguments[1::2]
    if len(keys) != len(values) or not all(key.startswith("--") for key in keys) or "--name" in keys:
        raise InputError(f"options {' '.join(arguments)}", "pairs such as --pairs 9", "see --help")
    sizes: dict[str, object] = {}
    for key, value in zip(keys, values, strict=True):
        try:
            sizes[key[2:].replace("-", "_")] = int(value)
        except ValueError:
            sizes[key[2:].replace("-", "_")] = value
    return sizes
