"""See, speed up and shrink neural networks by the topology of the data that flows through them.

What people call first stands here; everything else, results among it, one step down in seven rooms:
`topology`, `nets`, `profiles`, `activations`, `study`, `pruning`, `estimators`. The names are listed in
``__init__.pyi``, and each is imported when it is first used.
"""

from unknot.core.doors import open_door

_get, __dir__, __all__ = open_door(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    return _get(name)
