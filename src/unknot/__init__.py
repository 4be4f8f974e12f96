"""See, speed up and shrink neural networks by the topology of the data that flows through them.

The public names are listed in ``__init__.pyi``. Each is imported when it is first used, so that
``import unknot`` is quick and the topology of points needs no torch.
"""

import lazy_loader

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        from unknot.core.errors import missing_package

        raise missing_package(error) from error
