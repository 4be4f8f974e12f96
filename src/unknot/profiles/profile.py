"""TopologyProfile: Betti numbers after each layer, per class, per filter, per epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from unknot.core.files import Saved
from unknot.profiles.projection import CloudView
from unknot.topology.multiscale.sweep import Sensitivity
from unknot.topology.scale import Scale


@dataclass(frozen=True)
class ProfileRow:
    """One measured cloud.

    Attributes:
        epoch: of the training, 0 before it; None where no training was watched.
        layer: dotted module name, or "input".
        call: 0 for the module's first call in a forward pass.
        label: the class, None for all classes together.
        filter: the output channel, None for the whole layer output.
        n_points: distinct points of the cloud. 1 means that the layer (or filter) is constant there.
        b0, b1: Betti numbers; b2 where it was asked for, else None.
        scale: the neighbour rule that was used; k is lower than asked where a cloud has too few
            distinct points.
        intervals: ``((low, high) of b0, of b1, ...)`` over repeated subsamples, where asked for.
        note: what a reader of the numbers has to know, e.g. that the layer is constant; often empty.
    """

    epoch: int | None
    layer: str
    call: int
    label: int | None
    filter: int | None
    n_points: int
    b0: int
    b1: int
    b2: int | None
    scale: Scale
    intervals: tuple[tuple[int, int], ...] | None = None
    note: str = ""


@dataclass(frozen=True)
class EpochAccuracy:
    """How good the model was when it was measured.

    Attributes:
        epoch: as in the rows.
        probe: share of the measured samples that the model classifies rightly; None where there are no
            labels, or none that fit what the model returns.
        given: what the caller passed to `Monitor.record`, e.g. the test accuracy; or None.
    """

    epoch: int | None
    probe: float | None
    given: float | None = None


@dataclass(frozen=True)
class TopologyProfile(Saved):
    """Rows of Betti numbers with what is needed to judge them and to measure them again.

    Attributes:
        rows: one record each cloud, in the order of epochs and layers.
        seed: of the subsample.
        versions: of unknot, torch and numpy.
        accuracy: one record each measured epoch.
        scale: that was chosen and held; a row's own differs where its cloud has too few points.
        settings: how layer outputs became clouds: "by", "layers", "tokens", "after", "samples",
            "repeats".
        notes: what was left out, and why.
        views: layer outputs in three dimensions, where asked for.
        sensitivity: Betti numbers of the input over a grid of scales, where asked for.
    """

    file_kind = "profile"

    rows: tuple[ProfileRow, ...]
    seed: int
    versions: dict[str, str]
    accuracy: tuple[EpochAccuracy, ...] = ()
    scale: Scale | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    views: tuple[CloudView, ...] = ()
    sensitivity: Sensitivity | None = None

    def layers(self) -> list[str]:
        """Layer names in the order in which they ran."""
        return list(dict.fromkeys(row.layer for row in self.rows))

    def epochs(self) -> list[int | None]:
        """The epochs that were measured, in that order."""
        return list(dict.fromkeys(row.epoch for row in self.rows))


def library_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"unknot": version("unknot"), "torch": torch.__version__, "numpy": np.__version__}
