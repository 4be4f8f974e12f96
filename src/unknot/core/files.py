"""Files written whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from unknot.core.errors import InputError, MissingFile, WrongPath

T = TypeVar("T")
S = TypeVar("S", bound="Saved")
# What reading a damaged or foreign record raises; JSON that is nested too deeply raises RecursionError.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def as_path(path: object, name: str) -> Path:
    """``path`` as a Path; an InputError where it is neither one nor a string."""
    if not isinstance(path, (str, os.PathLike)) or not str(path) or "\0" in str(path):
        raise InputError(f"{name} = {path!r}", "a string or a pathlib.Path", f"pass e.g. {name}='out'")
    return Path(path)


def require_suffix(path: object, name: str, suffixes: Sequence[str]) -> Path:
    """``path`` as a Path; an InputError where it is a folder or ends in none of the suffixes."""
    place = as_path(path, name)
    if place.is_dir():
        raise WrongPath(f"{place}, which is a folder", "a file to write", "name one in it")
    if place.suffix not in suffixes:
        raise InputError(
            f"{name} = {place}",
            f"a name that ends in {', '.join(suffixes)}",
            f"pass e.g. {place.stem or 'result'}{suffixes[0]}",
        )
    return place


def write_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)`` beside ``path`` and rename the result to it.

    An error, a full disk or an interruption leaves neither a half-written file nor the temporary one;
    what stood at ``path`` before stays.

    Raises:
        WrongPath: a folder stands there, or what should be its folder cannot be written to.
        OSError: a full disk.
    """
    path = as_path(path, "path")
    if path.is_dir():
        raise WrongPath(f"{path}, which is a folder", "a file to write", "name one in it")
    with refused_places(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # a power failure could leave the new name with an empty file
        # mkstemp makes files that only their owner may read; a result is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_folder(new: Path, folder: Path) -> None:
    """Rename the folder ``new`` to ``folder``, beside it; an old folder of that name is deleted.

    Where the system can exchange two names at once (Linux), there is a whole folder at ``folder`` at any
    moment. Elsewhere there is a moment in which the old one has a hidden name beside it.

    Raises:
        OSError: a folder cannot be renamed; the old one then stays.
    """
    if not folder.exists():
        new.replace(folder)
    elif _exchange(new, folder):
        shutil.rmtree(new)
    else:
        aside = new.with_name(f"{new.name}.old")
        folder.rename(aside)
        try:
            new.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once by renameat2(2), where the system has it; return whether it did."""
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_working_folder, exchange = -100, 2
    done: int = call(
        at_working_folder, os.fsencode(one.absolute()), at_working_folder,
        os.fsencode(other.absolute()), ctypes.c_uint(exchange),
    )  # fmt: skip
    return done == 0


def require_writable(path: str | Path, name: str) -> None:
    """Refuse, before any work is done, a path that cannot be written to. Nothing is created.

    Args:
        path: of a file or folder that may not exist yet; the nearest folder that does must be writable.
        name: of the argument, for the message, e.g. "--out".

    Raises:
        WrongPath: it is read-only, full, no folder, or one in which the system lets nobody make files.
    """
    place = Path(path).absolute()
    while not os.path.lexists(place.parent):
        place = place.parent
    place = place if place.is_dir() else place.parent
    fault = "" if place.is_dir() else "is no folder"
    if not fault and not os.access(place, os.W_OK | os.X_OK):
        fault = "is read-only"
    if not fault:
        try:
            tempfile.TemporaryFile(dir=place).close()  # without a name, where the system can
        except OSError as error:  # of /proc and its like, whose modes say that it can be written to
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fault = "has no room" if full else f"takes no new files ({error.strerror})"
    if fault:
        raise WrongPath(
            f"{name} {path}: {place} {fault}", "a folder that can be written to", "choose another"
        )


@contextmanager
def refused_places(path: Path) -> Iterator[None]:
    """What the system says where nothing can be made at ``path``, as a WrongPath."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError) as error:
        raise WrongPath(
            f"{path} ({error.strerror})", "a place that can be written to", "choose another"
        ) from None


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from claiming ``path`` meanwhile, by a lock on a hidden file beside it.

    The system releases the lock when the process ends, however it ends. Windows has no such lock: there
    nothing is claimed.

    Raises:
        InputError: another process has it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                break
        except FileNotFoundError:
            pass  # the last holder has just removed it: this lock is on a file without a name
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                f"file {path}, which another process is filling",
                "one run at a time",
                "wait until it has ended; what it has finished is kept",
            ) from None
        os.close(handle)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    # Names of files may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    write_file(path, lambda new: new.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_record(path: str | Path, kind: str, record: dict[str, Any]) -> None:
    """Write a result as JSON, tagged with its kind, whole or not at all."""
    write_text(path, json.dumps({"unknot": kind, **record}, indent=1))


def typed(kind: type[T], record: object) -> T:
    """The dataclass ``kind``, and all that it holds, from what JSON gives.

    Fields with a default may be missing; those that ``kind`` does not know are ignored.

    Raises:
        ValueError: a field is missing or of another type.
    """
    import msgspec  # here: the topology of points reads no records

    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_record(path: str | Path, kind: str, parse: Callable[[dict[str, Any]], T]) -> T:
    """Read what `write_record` wrote, take its tag off and give the rest to ``parse``.

    Raises:
        InputError: the file is damaged, of another kind, refused by ``parse``, or a folder.
        MissingFile: there is none.
    """
    require_file(path)
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record.pop("unknot") != kind:
            raise KeyError("unknot")
        return parse(record)
    except DAMAGED as error:
        raise InputError(
            f"file {path} ({type(error).__name__}: {str(error)[:60]})",
            f"a complete {kind} file written by unknot",
            "write it again",
        ) from None


@dataclass(frozen=True)
class Saved:
    """A result that goes to a JSON file and comes back equal."""

    file_kind: ClassVar[str]  # its tag in the file

    def to_json(self, path: str | Path) -> None:
        """Write everything to ``path``, a ``.json`` file, whole or not at all.

        Raises:
            InputError: another suffix, or a path that cannot be written to.
        """
        require_suffix(path, "path", (".json",))
        write_record(path, self.file_kind, self.to_record())

    def to_record(self) -> dict[str, Any]:
        """Everything as dicts, tuples and what JSON knows besides; `from_record` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[S], path: str | Path) -> S:
        """Read what `to_json` wrote.

        Args:
            path: the JSON file.

        Raises:
            InputError: damaged, or of another kind.
        """
        return read_record(path, cls.file_kind, cls.from_record)

    @classmethod
    def from_record(cls: type[S], record: dict[str, Any]) -> S:
        """The inverse of `to_record`, also after a journey through JSON; as of `typed`."""
        return typed(cls, record)


def record_kind(path: str | Path) -> str:
    """The kind of result in a JSON file, e.g. "profile"; empty where unknot has not written it."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        return str(record.get("unknot", ""))
    except DAMAGED:
        return ""


def require_file(path: str | Path) -> None:
    """Refuse what is no file to read.

    Raises:
        InputError: it is no path, or a folder.
        MissingFile: there is nothing.
    """
    place = as_path(path, "path")
    if place.is_dir():
        raise InputError(f"{path}, which is a folder", "a file", "name one of those in it")
    if not place.is_file():
        raise MissingFile(f"file {path}", "a readable file", "check the path")
