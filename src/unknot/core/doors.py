"""The doors of the rooms: names that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable

import lazy_loader

from unknot.core.errors import missing_package


def open_door(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from the ``.pyi`` beside ``file``.

    So `import unknot` is quick, the topology of points needs no torch, and a package that is missing
    is named where it is first needed.
    """
    load, list_names, names = lazy_loader.attach_stub(package, file)

    def get(name: str) -> object:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "unknot":
                raise
            raise missing_package(error) from error

    return get, list_names, names
