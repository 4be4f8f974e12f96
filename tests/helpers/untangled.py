"""Profiles with islands and tangle, by hand, for pictures and sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from helpers.results import UNDETERMINED, profile

from unknot.profiles.profile import TopologyProfile, UntanglingRow

LABELS = tuple(int(c) for c in np.repeat([0, 1, 2], [40, 30, 30]))
LAYERS = ("input", "act1", "out")


def row(epoch: int | None, layer: str, members: Any, tangle: float | None, **more: Any) -> UntanglingRow:
    members = tuple(int(m) for m in members)
    count = len(set(members)) or None
    within = None if tangle is None else (tangle - 0.03, tangle + 0.03)
    known = {"islands_interval": (count, count)} if count else {}
    fields: dict[str, Any] = {
        "islands": count, "tangle": tangle, "members": members, "purity": 0.5, "total": 1.5,
        "tangle_interval": within, **known, **more,
    }  # fmt: skip
    return UntanglingRow(epoch, layer, 0, len(LABELS), **fields)


def untangled_profile(epochs: int = 2, layers: tuple[str, ...] = LAYERS) -> TopologyProfile:
    """Three classes of 40, 30 and 30: one island before training; at the end class 1 has its own.

    The input never changes. Two copies with random weights have one island, tangle 0.9 and 0.95.
    """
    rows = []
    alone = np.asarray(LABELS) == 1
    for epoch in range(epochs):
        for at, layer in enumerate(layers):
            trained = epoch and at
            members = np.where(alone, 7, 2) if trained else np.zeros(len(LABELS))
            tangle = 0.9 if not trained else 0.9 - 0.3 * epoch / (epochs - 1) - 0.1 * at / len(layers)
            shuffled = (0.97, 1.03) if not epoch else None
            rows.append(row(epoch, layer, members, tangle, shuffled=shuffled))
    null = [
        row(0, layer, np.zeros(len(LABELS)), 0.9 + 0.05 * copy, random=copy)
        for copy in range(2)
        for layer in layers
    ]
    base = profile(layers, epochs)
    return replace(
        base,
        rows=tuple(replace(r, scale=UNDETERMINED) for r in base.rows),
        scale=UNDETERMINED,
        settings={"by": "layer", "layers": ["*"], "samples": len(LABELS)},
        untangling=(*rows, *null),
        labels=LABELS,
        names=("cat", "dog", "<b>fox</b>"),
    )
