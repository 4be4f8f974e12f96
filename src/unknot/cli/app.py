"""The command ``unknot``: every verb a few lines over the library."""

from __future__ import annotations

import errno
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

import typer

from unknot.cli import options as flags
from unknot.cli.points import betti_command, shape_command
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError, missing_package
from unknot.topology.shapes import SHAPES

# The parser's error for wrong options. typer brings a click of its own or stands on click, by version;
# this is the right class in either case.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for report.html and summary.json.")],
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: under 40 seconds.")] = False,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """The whole story on embedded data.

    Under 3 minutes on 2 cores, no network.

    Trains small nets with ReLU and a folding activation on shapes of known topology, measures Betti
    numbers layer by layer before and after training, prunes a convolution net by the default criterion
    and as much by the rule of the paper, and writes report.html, summary.json, study.sqlite and the
    pruned model into the folder.

      unknot demo --out runs/demo
    """
    from unknot.cli.demo import FULL, QUICK, left_out, print_story, run_demo

    flags.require_folder_name(out, "--out")
    result = run_demo(out, QUICK if quick else FULL, seed=seed, progress=True)
    if as_json:
        print_json(result.summary)
    else:
        print_story(result)
        if quick:
            print(f"--quick, beside the whole demo: {left_out(QUICK)}")


def report_command(
    paths: Annotated[
        list[Path], typer.Argument(help="profile, scores, plan or outcome .json; study .sqlite.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")],
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """One HTML page from saved results.

    Self-contained: it opens from disk without a network.

    unknot report profile.json study.sqlite pruned/model/plan.json --out report.html
    """
    from unknot.report.page import write_report
    from unknot.report.results import load_result

    flags.require_file_name(out, "--out", (".html",))
    written = write_report(out, *((path.stem, load_result(path)) for path in paths))
    if as_json:
        print_json({"report": str(written)})
    else:
        print(written)


def doctor_command(seed: flags.Seed = 0, as_json: flags.Json = False, debug: flags.Debug = False) -> None:
    """Versions, and a self-test against known answers."""
    from unknot.cli.doctor import examine

    examination = examine(seed)
    if as_json:
        print_json(asdict(examination))
    else:
        print_table(
            "unknot doctor",
            ["", ""],
            [*examination.versions.items(), *examination.engine.items(), *examination.checks.items()],
        )
    if not examination.healthy:
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
    without_torch = arguments and arguments[0] in ("betti", "shape", "doctor")
    verbs: dict[str, Callable[..., None]] = {
        "demo": demo_command,
        "betti": betti_command,
        "shape": shape_command,
        **({} if without_torch else _verbs_of_models()),
        "report": report_command,
        "doctor": doctor_command,
    }
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
        from unknot.cli.measure import measure_command
        from unknot.cli.prune import prune_command
        from unknot.cli.study import study_command
    except ModuleNotFoundError as error:
        refusal = missing_package(error)

        def refuse() -> None:
            raise refusal

        refuse.__doc__ = f"Not here: {str(refusal).partition(':')[0]}."
        return {"measure": refuse, "study": refuse, "prune": refuse}
    return {"measure": measure_command, "study": study_command, "prune": prune_command}


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
    if verb is not shape_command:
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
    if isinstance(message, OSError) and not isinstance(message, InputError) and message.strerror:
        message = _told(message)
    if "--debug" in arguments and cause is not None:
        raise cause
    text = " ".join(str(message).split())
    # What would move the cursor or change colours is no part of a name.
    print("unknot:", "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
    return 2


def _told(error: OSError) -> str:
    """What the system says of a file, and what to do about it."""
    where = f"{error.filename}: " if error.filename is not None else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some room, or choose another disk" if full else "check the path and its permissions"
    return f"{where}{error.strerror}; {remedy}"


def _usage_message(error: Any, arguments: list[str]) -> str:
    """What the parser found wrong, with the value, which its own message leaves out."""
    options = [o for o in getattr(getattr(error, "param", None), "opts", []) if o in arguments[:-1]]
    given = "".join(f"{o} {arguments[arguments.index(o) + 1]}: " for o in options)
    verb = error.ctx.command_path if error.ctx else "unknot"
    return f"{given}{error.format_message().rstrip('.')}. Try {verb} --help."
