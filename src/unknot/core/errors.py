"""The one exception for input that the user can mend."""

from __future__ import annotations

import operator
from importlib import import_module
from typing import Any, SupportsIndex

# Modules that pip knows by another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "torch_pruning": "torch-pruning"}


class InputError(ValueError):
    """Bad input, told in one line: the value, what was expected, and the remedy.

    The command line prints the message and exits with code 2; a library user may catch it as a
    ``ValueError``. Anything else that unknot raises is a defect of unknot or of the machine.

    Args:
        found: the offending value with its name, e.g. ``"radius = -1"``.
        expected: what would have been accepted.
        remedy: what to do about it.
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        # Names and other libraries' messages may hold line breaks.
        super().__init__(" ".join(f"{found}: expected {expected}; {remedy}".splitlines()))
        self._parts = found, expected, remedy

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), self._parts  # else it could not come back from another process


class MissingPackage(InputError, ImportError):
    """A package that is not installed; an ``ImportError`` too, for those who try and catch."""


def missing_package(error: ModuleNotFoundError) -> MissingPackage:
    """The import that failed, with what to install."""
    module = (error.name or str(error)).partition(".")[0]
    package = DISTRIBUTIONS.get(module, module)
    return MissingPackage(
        f"package {package} is missing", "what this needs to be installed", f"run: pip install {package}"
    )


def require_count(name: str, value: object, minimum: int = 1) -> int:
    """``value`` as an int, or an InputError unless it is a whole number >= ``minimum``."""
    # bool is an int to Python, and numpy's integers are not; both surprise users.
    number = minimum - 1
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = operator.index(value)
    if number < minimum:
        raise InputError(
            f"{name} = {value!r}",
            f"a whole number >= {minimum}",
            f"pass e.g. {name}={max(minimum, 1)}",
        )
    return number


def require(*names: str, extra: str) -> Any:
    """The first of the modules that can be imported.

    Raises:
        InputError: there is none; the line names the extra that installs it.
    """
    reasons = []
    for name in names:
        try:
            return import_module(name)
        except ImportError as error:
            reasons.append((str(error).splitlines() or [name])[0])
    raise InputError(
        f"unknot.integrations without {' or '.join(names)} ({'; '.join(reasons)})",
        "the library to be installed",
        f"pip install 'unknot[{extra}]'",
    )
