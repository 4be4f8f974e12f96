"""The one exception for input that the user can mend."""

from __future__ import annotations

import operator
from typing import SupportsIndex


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
        return InputError, self._parts  # else it could not come back from another process


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
