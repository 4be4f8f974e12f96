"""The command ``unknot``: every verb a few lines over the library."""

from __future__ import annotations

import inspect
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from unknot.cli.options import (
    Debug,
    Hops,
    Json,
    K,
    MaxDim,
    Radius,
    Seed,
)  # fmt: skip
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError, missing_package
from unknot.core.files import require_writable, write_file
from unknot.topology.cloud import load_points, make_cloud
from unknot.topology.graph import Scale, scale_graph
from unknot.topology.homology import betti_numbers
from unknot.topology.shapes import SHAPES, make_shape

# The parser's error for wrong options. typer brings a click of its own or stands on click, by version;
# this is the right class in either case.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html and summary.json.")],
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: under 40 seconds.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The whole story on embedded data.

    Under 3 minutes on 2 cores, no network.

    Trains small nets with ReLU and a folding activation on shapes of known topology, measures Betti
    numbers layer by layer before and after training, prunes a convolution net by Betti number, and
    writes report.html, summary.json, study.sqlite and the pruned model into the folder.

      unknot demo --out runs/demo
    """
    from unknot.cli.demo import FULL, QUICK, left_out, print_story, run_demo

    require_writable(out, "--out")
    result = run_demo(out, QUICK if quick else FULL, seed=seed, progress=True)
    if as_json:
        print_json(result.summary)
    else:
        print_story(result)
        if quick:
            print(f"--quick, beside the whole demo: {left_out(QUICK)}")


def betti(
    file: Annotated[Path, typer.Argument(help=".npy, .npz (points, labels or X, y) or .csv.")],
    radius: Radius = None,
    knn: K = None,
    hops: Hops = None,
    max_dim: MaxDim = 1,
    time_budget: Annotated[
        float | None, typer.Option("--time-budget", help="Give up after so many seconds a cloud.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Betti numbers of the points in a file.

    Of all points together, and of each class where there are labels.

    One neighbour rule: --radius, in the unit of the points, or --knn with --hops, which has no unit.

      unknot betti points.npy --radius 0.5

      unknot betti labelled.npz --knn 14 --hops 2 --json
    """
    if (radius is None) == (knn is None):
        given = f"--radius {radius} and --knn {knn}" if knn is not None else "neither --radius nor --knn"
        raise InputError(given, "exactly one neighbour rule", "pass --radius 0.5, or --knn 14 --hops 2")
    if hops is not None and knn is None:
        raise InputError(f"--hops {hops} with --radius", "--hops with --knn only", "drop --hops")
    scale = Scale(radius=radius) if knn is None else Scale(k=knn, hops=hops or 1)
    cloud = load_points(file)
    everything = make_cloud(cloud.points)  # a point that occurs in two classes counts once here
    clouds = {"all": everything.points} | {str(c): cloud.of_class(c).points for c in cloud.classes()}
    found = {
        name: betti_numbers(scale_graph(points, scale), max_dim=max_dim, time_budget=time_budget)
        for name, points in clouds.items()
    }
    if as_json:
        print_json(
            {
                "betti": {name: list(b.values) for name, b in found.items()},
                "n": {name: b.n_points for name, b in found.items()},
                "scale": asdict(scale),
            }
        )
        return
    columns = ["cloud", "n", *(f"b{d}" for d in range(max_dim + 1))]
    rows = [[name, b.n_points, *b.values] for name, b in found.items()]
    print_table(f"Betti numbers of {file.name} at {scale}", columns, rows)


def shape(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(SHAPES)}.")],
    out: Annotated[Path, typer.Option("--out", help="FILE.npz for points, labels and Betti numbers.")],
    n: Annotated[int | None, typer.Option("--n", min=1, help="Points in all.")] = None,
    noise: Annotated[
        float, typer.Option("--noise", min=0, help="Standard deviation of the noise.")
    ] = 0.0,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
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
    if out.suffix != ".npz":
        raise InputError(f"--out {out}", "a file that ends in .npz", f"pass {out.with_suffix('.npz')}")
    require_writable(out, "--out")
    made = make_shape(name, noise=noise, seed=seed, **sizes)
    arrays: dict[str, Any] = {f"betti_{label}": values for label, values in made.betti.items()}
    write_file(out, lambda path: np.savez(path, points=made.points, labels=made.labels, **arrays))
    if as_json:
        betti_of = {str(label): list(values) for label, values in made.betti.items()}
        print_json({"shape": name, "n": len(made.points), "betti": betti_of, "file": str(out)})
        return
    rows = [(label, int((made.labels == label).sum()), str(b)) for label, b in made.betti.items()]
    print_table(f"{out}: {name}, seed {seed}", ["class", "n", "true Betti numbers"], rows)


def report(
    paths: Annotated[
        list[Path], typer.Argument(help="profile, scores, plan or outcome .json; study .sqlite.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One HTML page from saved results.

    Self-contained: it opens from disk without a network.

    unknot report profile.json study.sqlite pruned/model/plan.json --out report.html
    """
    from unknot.report.page import load_result, write_report

    require_writable(out, "--out")
    written = write_report(out, *((path.stem, load_result(path)) for path in paths))
    if as_json:
        print_json({"report": str(written)})
    else:
        print(written)


def doctor(seed: Seed = 0, as_json: Json = False, debug: Debug = False) -> None:
    """Versions, and a self-test against known answers."""
    from unknot.cli.doctor import examine

    found = examine(seed)
    if as_json:
        print_json(asdict(found))
    else:
        print_table(
            "unknot doctor",
            ["", ""],
            [*found.versions.items(), *found.engine.items(), *found.checks.items()],
        )
    if not found.healthy:
        raise typer.Exit(1)


def build(arguments: list[str]) -> typer.Typer:
    """The command, without the verbs that import torch (a second) where another one is asked for."""
    app = typer.Typer(
        name="unknot",
        help="See, speed up and shrink neural networks by the topology of their data.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    light: dict[str, Callable[..., None]] = {"demo": demo, "betti": betti, "shape": shape}
    last: dict[str, Callable[..., None]] = {"report": report, "doctor": doctor}
    without_torch = arguments and arguments[0] in ("betti", "shape", "doctor")
    verbs = light | ({} if without_torch else _verbs_of_models()) | last
    for name, verb in verbs.items():
        # The refusal takes any flags; --help of it too says what is missing.
        loose = name == "shape" or verb.__name__ == "refuse"
        extra = {"allow_extra_args": loose, "ignore_unknown_options": loose, "max_content_width": 100}
        app.command(name, context_settings=extra, help=_help(verb))(verb)

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print it.")
        ] = False,
    ) -> None:
        """See, speed up and shrink neural networks by the topology of their data."""

    return app


def _verbs_of_models() -> dict[str, Callable[..., None]]:
    """The verbs that import torch; where a package is missing, verbs that say so."""
    try:
        from unknot.cli.measure import measure
        from unknot.cli.prune import prune
        from unknot.cli.study import study
    except ModuleNotFoundError as error:
        refusal = missing_package(error)

        def refuse() -> None:
            raise refusal

        refuse.__doc__ = f"Not here: {str(refusal).partition(':')[0]}."
        return {"measure": refuse, "study": refuse, "prune": refuse}
    return {"measure": measure, "study": study, "prune": prune}


def main(argv: list[str] | None = None) -> None:
    """Run the command.

    Exit code 0: done; 1: a defect; 2: bad input, or a disk that cannot be read or written, with one line;
    130: interrupted; 143: terminated.
    """
    arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    with _ending_in_order():
        code = _run(arguments)
    if code in _ENDED:
        print(f"unknot: {_ENDED[code]}", file=sys.stderr)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        code: int = typer.main.get_command(build(arguments)).main(
            arguments, prog_name="unknot", standalone_mode=False
        )
        sys.stdout.flush()  # here, where a full disk can still be told
    except (InputError, OSError) as error:  # TimeoutError, a missing file, a full disk: all OSError
        code = _refuse(error, arguments)
    except ModuleNotFoundError as error:
        code = _refuse(missing_package(error), arguments)
    except UsageError as error:
        code = _refuse(_usage_message(error, arguments), arguments)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except _Terminated:
        code = 143
    except Exception as error:
        _refuse(f"{type(error).__name__}: {error} (--debug shows the traceback)", arguments, error)
        code = 1
    return code


_ENDED = {130: "interrupted", 143: "terminated"}  # 128 and the number of the signal, as shells count


class _Terminated(BaseException):
    """SIGTERM, as an exception: what is being written is cleared away as after an interruption."""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # others may set no handler
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _help(verb: Callable[..., None]) -> str:
    """The docstring of a verb, commands on lines of their own; for shape with what there is to make."""
    parts = (inspect.getdoc(verb) or "").split("\n\n")
    text = "\n\n".join(f"\b\n  {p.strip()}" if p.strip().startswith("unknot ") else p for p in parts)
    if verb is not shape:
        return text
    lines = []
    for name, kind in SHAPES.items():
        sizes = " ".join(f"--{size} {default}" for size, default in kind.sizes.items())
        lines.append(f"{name:9} {kind.description} ({sizes})")
    return f"{text}\n\n\b\n" + "\n".join(lines)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unknot {metadata.version('unknot')}")
        raise typer.Exit


def _refuse(message: Exception | str, arguments: list[str], error: Exception | None = None) -> int:
    """One line on stderr, or with --debug the traceback; the exit code of bad input."""
    cause = message if isinstance(message, Exception) else error
    if "--debug" in arguments and cause is not None:
        raise cause
    text = " ".join(str(message).split())
    # What would move the cursor or change colours is no part of a name.
    print("unknot:", "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
    return 2


def _usage_message(error: Any, arguments: list[str]) -> str:
    """What the parser found wrong, with the value, which its own message leaves out."""
    options = [o for o in getattr(getattr(error, "param", None), "opts", []) if o in arguments[:-1]]
    given = "".join(f"{o} {arguments[arguments.index(o) + 1]}: " for o in options)
    verb = error.ctx.command_path if error.ctx else "unknot"
    return f"{given}{error.format_message()} Try {verb} --help."


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
