"""What was counted of a layer output, as rows of a profile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unknot.nets.recording import LayerOutput
from unknot.profiles.profile import ProfileRow, UntanglingRow
from unknot.topology.batch import CloudCount
from unknot.topology.multiscale.untangling import Untangled
from unknot.topology.scale import Scale


def betti_row(
    output: LayerOutput,
    place: tuple[int | None, int | None],
    count: CloudCount,
    epoch: int | None,
    scale: Scale,
) -> ProfileRow:
    """The Betti numbers of one cloud.

    Args:
        place: (class, channel) of the cloud.
        scale: that was asked for; the row tells where it is another.
    """
    betti = count.betti
    b0, b1, *b2 = betti.values
    notes = [output.note] if output.note else []
    notes += [betti.scale.note] if betti.scale != scale else []
    return ProfileRow(
        epoch=epoch,
        layer=output.layer,
        call=output.call,
        label=place[0],
        filter=place[1],
        n_points=betti.n_points,
        b0=b0,
        b1=b1,
        b2=b2[0] if b2 else None,
        scale=betti.scale,
        intervals=count.intervals,
        note="; ".join(notes),
    )


def untangling_row(
    output: LayerOutput, found: Untangled, n: int, epoch: int | None, random: int | None
) -> UntanglingRow:
    """Islands and tangle of one layer output of ``n`` samples."""
    islands, tangle, spans = found.islands, found.tangle, found.intervals
    return UntanglingRow(
        epoch=epoch,
        layer=output.layer,
        call=output.call,
        n_points=n,
        islands=None if islands is None else islands.count,
        total=None if islands is None else islands.total,
        dimension=None if islands is None else islands.dimension,
        tangle=None if tangle is None else tangle.tangle,
        pieces=None if tangle is None else tangle.pieces,
        purity=None if tangle is None else tangle.purity,
        islands_interval=spans.islands,
        total_interval=spans.total,
        tangle_interval=spans.tangle,
        purity_interval=spans.purity,
        shuffled=found.shuffled,
        random=random,
        members=() if islands is None else tuple(islands.members.tolist()),
        note="; ".join(filter(None, (output.note, found.note))),
    )


def with_untangling(row: ProfileRow, untangling: UntanglingRow) -> ProfileRow:
    """A row by layer with the numbers of the same layer output that hang on no scale."""
    same = ("islands", "tangle", "purity", "islands_interval", "tangle_interval", "purity_interval")
    values: dict[str, Any] = {name: getattr(untangling, name) for name in same}
    return replace(row, **values)
