"""Files written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unknot.errors import InputError

T = TypeVar("T")


def write_file(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` beside ``path`` and rename the result to it.

    An error, a full disk or an interruption leaves neither a half-written file nor the temporary one;
    what stood at ``path`` before stays.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp makes files that only their owner may read; a result is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    write_file(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_record(path: str | Path, kind: str, record: dict[str, Any]) -> None:
    """Write a result as JSON, tagged with its kind, whole or not at all."""
    write_text(path, json.dumps({"unknot": kind, **record}, indent=1))


def read_record(path: str | Path, kind: str, parse: Callable[[dict[str, Any]], T]) -> T:
    """``parse`` applied to what `write_record` wrote, its tag taken off.

    Raises:
        InputError: damaged, of another kind, or refused by ``parse``.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record.pop("unknot") != kind:
            raise KeyError("unknot")
        return parse(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"file {path} ({type(error).__name__}: {str(error)[:60]})",
            f"a complete {kind} file written by unknot",
            "write it again",
        ) from None


def record_kind(path: str | Path) -> str:
    """The kind of result in a JSON file, e.g. "profile"; empty where it is none of unknot's."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        return str(record.get("unknot", ""))
    except (ValueError, AttributeError):
        return ""
