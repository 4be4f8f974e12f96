"""The one exception for input that the user can mend, a missing package included."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

# Modules that pip knows by another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


class InputError(ValueError):
    """Bad input, told in one line: the value, what was expected, and the remedy.

    The command line prints the message and exits with code 2; a library user may catch it as a
    ``ValueError``. Anything else that unknot raises is a defect of unknot or of the machine.

    Args:
        value: the offending one with its name, e.g. ``"radius = -1"``.
        expected: what would have been accepted.
        remedy: what to do about it.
    """

    def __init__(self, value: str, expected: str, remedy: str) -> None:
        # Names and other libraries' messages may hold line breaks.
        super().__init__(" ".join(f"{value}: expected {expected}; {remedy}".splitlines()))
        self._parts = value, expected, remedy

    @property
    def value(self) -> str:
        """The first of the three parts."""
        return self._parts[0]

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), self._parts  # else it could not come back from another process


class MissingPackage(InputError, ImportError):
    """A package that is not installed; an ``ImportError`` too, for those who try and catch."""


class MissingFile(InputError, FileNotFoundError):
    """A file that is not there; a ``FileNotFoundError`` too, for those who try and catch."""


class WrongPath(InputError, OSError):
    """A path that cannot be written to; an ``OSError`` too, for those who try and catch."""


def missing_package(error: ImportError, extra: str | None = None) -> MissingPackage:
    """The import that failed, with what to install: ``extra`` of unknot, or without it the package."""
    module = (error.name or str(error)).partition(".")[0]
    package = DISTRIBUTIONS.get(module, module)
    if not isinstance(error, ModuleNotFoundError):
        value = f"package {package} cannot be imported ({error})"
        return MissingPackage(value, "one that can", f"run: pip install --upgrade {package}")
    install = f"'unknot[{extra}]'" if extra else package
    return MissingPackage(
        f"package {package} is missing", "what this needs to be installed", f"run: pip install {install}"
    )


def import_package(*names: str, extra: str) -> Any:
    """The first of these modules that can be imported; ``extra`` of unknot installs one of them.

    Raises:
        MissingPackage: there is none; the message is about the first.
    """
    refusals = []
    for name in names:
        try:
            return import_module(name)
        except ImportError as error:
            error.name = error.name or name
            refusals.append(missing_package(error, extra))
    raise refusals[0]


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """An InputError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:  # an array has no truth value
        *others, last = map(repr, choices)
        raise InputError(f"{name} = {value!r}", f"{', '.join(others)} or {last}", "pick one")


def require_instance(name: str, value: object, kind: type, remedy: str) -> None:
    """An InputError unless ``value`` is an instance of ``kind``."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} of type {type(value).__name__}", f"{article} {kind.__name__}", remedy)


def require_number(
    name: str, value: object, expected: str, *, low: float, high: float, example: float
) -> float:
    """``value`` as a float, or an InputError unless it is a number in [low, high]; "> 0" is low > 0."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # the last of torch, for several numbers
        number = math.nan
    if not low <= number <= high:
        raise InputError(f"{name} = {value!r}", expected, f"pass e.g. {example:g}")
    return number


def require_positive(name: str, value: object, example: float = 1.0) -> float:
    """``value`` as a float, or an InputError unless it is a finite number > 0."""
    return require_number(
        name,
        value,
        "a finite number > 0",
        low=sys.float_info.min,
        high=sys.float_info.max,
        example=example,
    )


def require_share(name: str, value: object, example: float = 0.99) -> float:
    """``value`` as a float, or an InputError unless it is a number in [0, 1]."""
    return require_number(name, value, "a number in [0, 1]", low=0.0, high=1.0, example=example)


def require_items(name: str, value: object, expected: str, remedy: str) -> tuple[Any, ...]:
    """``value`` as a tuple, or an InputError unless it holds items, as no text and no dict does here."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InputError(f"{name} = {value!r}", expected, remedy)
    try:
        return tuple(value)
    except TypeError:  # a tensor or array without dimensions
        raise InputError(f"{name} = {value!r}", expected, remedy) from None


def require_count(name: str, value: object, minimum: int = 1) -> int:
    """``value`` as an int, or an InputError unless it is a whole number >= ``minimum``."""
    # bool is an int to Python, and numpy's integers are not; both surprise users.
    try:
        number = minimum - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise InputError(
            f"{name} = {value!r}",
            f"a whole number >= {minimum}",
            f"pass e.g. {name}={max(minimum, 1)}",
        )
    return number
