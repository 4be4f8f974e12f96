"""unknot inside other people's trainers and trackers; each module needs its library, nothing else does.

>>> from unknot.integrations.lightning import TopologyCallback       # pip install 'unknot[lightning]'
>>> from unknot.integrations.tensorboard import TensorBoardWriter    # pip install 'unknot[trackers]'
>>> pl.Trainer(callbacks=[TopologyCallback(on_record=[TensorBoardWriter("runs/a")])])  # doctest: +SKIP
"""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from typing import Any

from unknot.core.errors import InputError
from unknot.profiles.profile import TopologyProfile


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


def scalars(profile: TopologyProfile) -> dict[int, dict[str, float]]:
    """The numbers of each epoch under names that TensorBoard and MLflow permit.

    ``topology/<layer>/b0/<class>`` (``all`` where the classes were measured together, ``filters`` for the
    sum over the filters), likewise b1 and b2; ``topology/<layer>/complexity``, the sum of them all;
    ``topology/probe_accuracy`` and ``topology/given_accuracy``. The second call of a layer in one forward
    pass is ``<layer>-1``. Rows without an epoch come under 0.

    >>> scalars(profile)[3]["topology/act1/b0/1"]                    # doctest: +SKIP
    9.0
    """
    found: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in profile.rows:
        numbers = found[row.epoch or 0]
        name = f"topology/{row.layer}" + (f"-{row.call}" if row.call else "")
        part = "filters" if row.filter is not None else "all" if row.label is None else str(row.label)
        for dimension, betti in enumerate((row.b0, row.b1, row.b2)):
            if betti is not None:
                numbers[f"{name}/b{dimension}/{part}"] += betti
                numbers[f"{name}/complexity"] += betti
    for accuracy in profile.accuracy:
        for key, value in (("probe", accuracy.probe), ("given", accuracy.given)):
            if value is not None:
                found[accuracy.epoch or 0][f"topology/{key}_accuracy"] = value
    return {epoch: dict(numbers) for epoch, numbers in found.items()}
