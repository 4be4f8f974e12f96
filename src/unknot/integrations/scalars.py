"""The numbers of a profile under names that TensorBoard and MLflow permit."""

from __future__ import annotations

from collections import defaultdict

from unknot.profiles.profile import ProfileRow, TopologyProfile, UntanglingRow


def named_scalars(profile: TopologyProfile) -> dict[int, dict[str, float]]:
    """The numbers of each epoch under names that TensorBoard and MLflow permit.

    ``topology/<layer>/b0/<class>`` (``all`` where the classes were measured together, ``filters`` for the
    sum over the filters), likewise b1 and b2; ``topology/<layer>/complexity``, the sum of them all;
    ``topology/<layer>/islands``, ``tangle`` and ``purity`` of the layer output, of the model given;
    ``topology/probe_accuracy`` and ``topology/given_accuracy``. The second call of a layer in one forward
    pass is ``<layer>-1``. Rows without an epoch come under 0.

    >>> named_scalars(profile)[3].get("topology/act1/b0/1")               # doctest: +SKIP
    9.0
    """
    epochs: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in profile.rows:
        numbers = epochs[row.epoch or 0]
        name = _name(row)
        part = "filters" if row.filter is not None else "all" if row.label is None else str(row.label)
        for dimension, betti in enumerate((row.b0, row.b1, row.b2)):
            if betti is not None:
                numbers[f"{name}/b{dimension}/{part}"] += betti
                numbers[f"{name}/complexity"] += betti
    for found in (row for row in profile.untangling if row.random is None):
        for number in ("islands", "tangle", "purity"):
            value = getattr(found, number)
            if value is not None:
                epochs[found.epoch or 0][f"{_name(found)}/{number}"] = value
    for accuracy in profile.accuracy:
        for key, value in (("probe", accuracy.probe), ("given", accuracy.given)):
            if value is not None:
                epochs[accuracy.epoch or 0][f"topology/{key}_accuracy"] = value
    return {epoch: dict(numbers) for epoch, numbers in epochs.items()}


def _name(row: ProfileRow | UntanglingRow) -> str:
    return f"topology/{row.layer}" + (f"-{row.call}" if row.call else "")
