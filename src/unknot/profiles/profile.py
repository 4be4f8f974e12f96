"""TopologyProfile: Betti numbers, islands and tangle after each layer, per class, filter and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from html import escape
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from unknot.core.files import Saved
from unknot.core.showing.frames import Columns, Tabular, frame, html_table, text_table
from unknot.profiles.frames import MOST_LINES, betti_columns, summary, title, untangling_columns
from unknot.profiles.projection import CloudView
from unknot.topology.multiscale.sweep import Sensitivity
from unknot.topology.scale import Scale

Span = tuple[float, float]


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
        islands, tangle, purity: by layer, of the same layer output as in `UntanglingRow`; else None.
        islands_interval, tangle_interval, purity_interval: likewise.
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
    islands: int | None = None
    tangle: float | None = None
    purity: float | None = None
    islands_interval: tuple[int, int] | None = None
    tangle_interval: Span | None = None
    purity_interval: Span | None = None


@dataclass(frozen=True)
class UntanglingRow:
    """Islands and tangle of one layer output, all classes together: numbers that hang on no scale.

    Attributes:
        epoch, layer, call: as of `ProfileRow`.
        n_points: how many samples were measured, the same in every layer and epoch.
        islands: how many pieces stand out of the noise; None where they cannot be counted.
        total: the sum of their prominences, finer than the count.
        dimension: the intrinsic dimension.
        tangle: 0 where every class is one piece, 1 where the labels could as well be random; None where
            there are no labels of two classes.
        pieces: into how many pieces of one class each the spanning tree falls.
        purity: the share of the 10 nearest neighbours that have a sample's label; a baseline.
        islands_interval, total_interval, tangle_interval, purity_interval: ``(low, high)`` over
            half-samples, where taken.
        shuffled: (lowest, highest) tangle of the same points under shuffled labels, where asked for.
        random: None for the model given; 0, 1, ... for copies of it with random weights.
        members: the island of each measured sample, in their order; empty where there are no islands.
        note: what to heed, and why a number is missing; often empty.
    """

    epoch: int | None
    layer: str
    call: int
    n_points: int
    islands: int | None = None
    total: float | None = None
    dimension: float | None = None
    tangle: float | None = None
    pieces: int | None = None
    purity: float | None = None
    islands_interval: tuple[int, int] | None = None
    total_interval: Span | None = None
    tangle_interval: Span | None = None
    purity_interval: Span | None = None
    shuffled: Span | None = None
    random: int | None = None
    members: tuple[int, ...] = field(default=(), repr=False)
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


@dataclass(frozen=True, repr=False)
class TopologyProfile(Tabular, Saved):
    """Betti numbers, islands and tangle, with what is needed to judge them and to measure them again.

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
        untangling: by layer and by class one record each layer output and epoch; by filter none.
        labels: the class of each measured sample, in their order; None where there are none.
        names: of the classes 0, 1, ... where the labels were names; else empty.
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
    untangling: tuple[UntanglingRow, ...] = ()
    labels: tuple[int, ...] | None = None
    names: tuple[str, ...] = ()

    def layers(self) -> list[str]:
        """Layer names in the order in which they ran."""
        return list(dict.fromkeys(row.layer for row in self.rows))

    def epochs(self) -> list[int | None]:
        """The epochs that were measured, in that order."""
        return list(dict.fromkeys(row.epoch for row in self.rows))

    def plot(
        self,
        ax: Any = None,
        *,
        epoch: int | None = None,
        layers: str | Iterable[str] = "*",
        kind: str = "auto",
    ) -> Any:
        """Draw the profile with matplotlib.

        Args:
            ax: matplotlib axes to draw on; by default new ones, for "islands" two: the tangle below.
            epoch: which; by default the last. Curves show the first one beside it, dashed.
            layers: glob or globs over layer names. Of more than 24 layers 24 are drawn, evenly chosen
                with the first and the last two, and the title says so.
            kind: "islands": a stacked bar a layer, a block an island, coloured by class (without labels
                by the island at the end); the count and its interval stand above, and faint bands lead
                to where the samples are in the next layer. "tangle": the curve with its intervals, over
                what random weights and shuffled labels gave. "betti": b0 and b1. "auto": "betti" where
                the scale is determined, else "islands".

        Returns:
            The axes that were drawn in: the only one, or an array of them, as pandas does.

        Raises:
            InputError: matplotlib is not installed; the profile has no such epoch, layer or kind.
        """
        from unknot.profiles.picture.charts import plot_profile

        return plot_profile(self, ax, epoch=epoch, layers=layers, kind=kind)

    def _columns(self) -> Columns:
        return betti_columns(self)

    def _title(self) -> str:
        return title(self)

    def __repr__(self) -> str:
        table = text_table(summary(self), MOST_LINES + 1) if self.rows else ""
        return "\n".join(filter(None, (title(self), table)))

    def _repr_html_(self) -> str:
        from unknot.profiles.picture.sentences import headline  # which needs this class

        said = headline(self) if self.rows else ""
        return f"<p>{escape(said)}</p>" * bool(said) + html_table(summary(self), title(self))

    def to_record(self) -> dict[str, Any]:
        # asdict copies number by number, and a watched run has millions of members.
        shell = asdict(replace(self, rows=(), untangling=(), views=()))
        rows = [asdict(row) for row in self.rows]
        plain = {name: [vars(one) for one in getattr(self, name)] for name in ("untangling", "views")}
        return {**shell, "rows": rows, **plain}

    def to_frame(self) -> Any:
        """A pandas DataFrame of ``rows``, one line each, with the same names of columns.

        The scale's fields are columns, and the ends of an interval are e.g. ``b0_low`` and ``b0_high``.

        Raises:
            InputError: pandas is not installed.
        """
        return super().to_frame()

    def untangling_frame(self) -> Any:
        """A pandas DataFrame of ``untangling``, one line each, without the members of islands.

        The ends of an interval are e.g. ``tangle_low`` and ``tangle_high``; ``random`` is missing for the
        model given.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(untangling_columns(self.untangling, UntanglingRow))


def library_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"unknot": version("unknot"), "torch": torch.__version__, "numpy": np.__version__}
