"""Options that are declared once, in a frozen dataclass, as plain keywords of all that take them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def spelled_out(options: type) -> Callable[[T], T]:
    """Show the fields of ``options`` in place of ``**options``, in signature and docstring.

    >>> @spelled_out(MeasureOptions)                                          # doctest: +SKIP
    ... def measure(model, loader, **options: Unpack[MeasureKeywords]): ...

    ``options`` is a dataclass whose docstring explains its fields under "Args:", as those that it
    inherits from explain theirs; these lines replace what the docstring says of "options".
    """

    def mend(thing: T) -> T:
        function: Any = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        keyword = inspect.Parameter.KEYWORD_ONLY
        new = [
            inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
            for field in fields(options)
        ]
        names = {parameter.name for parameter in (*own, *new)}

        @wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            unknown = next((name for name in given if name not in names), None)
            if unknown is not None:  # else Python would name the dataclass
                near = get_close_matches(unknown, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"help({title}) lists them"
                raise TypeError(f"{title}() got an unexpected keyword argument {unknown!r}: {hint}")
            return function(*args, **given)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *new])
        title = thing.__name__  # type: ignore[attr-defined]
        if isinstance(thing, type):
            thing.__init__ = checked  # type: ignore[misc]
        else:
            thing = checked  # type: ignore[assignment]
        if thing.__doc__:  # there is none with python -OO
            explained = "".join(_arguments(kind) for kind in reversed(options.__mro__))
            entry = re.compile(r"^    options:.*\n(?: {5,}.*\n)*", re.MULTILINE)
            thing.__doc__ = entry.sub(lambda _: explained, inspect.cleandoc(thing.__doc__) + "\n")
        return thing

    return mend


def _arguments(kind: type) -> str:
    """The lines under "Args:" of a class's own docstring."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "") + "\n"
    section = re.search(r"^Args:\n((?: {4}.*\n)+)", text, flags=re.MULTILINE)
    return section[1] if section else ""
