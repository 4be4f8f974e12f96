"""TopologyProfile: Betti numbers after each layer, per class, per filter, per epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unknot.capture import INPUT, LayerOutput, capture, probe_samples
from unknot.cloud import PointCloud, make_cloud
from unknot.errors import InputError, require_count
from unknot.files import read_record, write_record
from unknot.graph import Scale, scale_graph
from unknot.homology import BettiNumbers, betti_numbers
from unknot.scale import calibrate

By = Literal["layer", "class", "filter"]


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


@dataclass(frozen=True)
class TopologyProfile:
    """Rows of Betti numbers with what is needed to measure them again.

    Attributes:
        rows: one record each cloud, in the order of epochs and layers.
        seed: of the subsample.
        versions: of unknot, torch and numpy.
    """

    rows: tuple[ProfileRow, ...]
    seed: int
    versions: dict[str, str]

    def layers(self) -> list[str]:
        """Layer names in the order in which they ran."""
        return list(dict.fromkeys(row.layer for row in self.rows))

    def to_json(self, path: str | Path) -> None:
        """Write everything to ``path``, whole or not at all."""
        write_record(path, "profile", asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> TopologyProfile:
        """Read what `to_json` wrote."""
        return read_record(path, "profile", _parse_profile)


def measure(
    model: nn.Module,
    loader: Iterable[Any] | Tensor,
    *,
    layers: str | Iterable[str] = "*",
    by: By = "class",
    scale: Scale | Literal["auto"] = "auto",
    max_points: int = 1000,
    max_dim: int = 1,
    seed: int = 0,
) -> TopologyProfile:
    """Betti numbers of what the layers of ``model`` return, one row a cloud.

    Args:
        model: any module; it comes back as it was.
        loader: yields ``(inputs, labels)`` or inputs; or one tensor of inputs.
        layers: globs over dotted module names; "*" is every leaf module, by filter every convolution.
            The input is always measured too, except by filter.
        by: "class": one cloud a label; "layer": all samples together; "filter": one cloud each output
            channel of every convolution, of all samples together.
        scale: "auto" calibrates on the input, class by class, and holds that scale for all layers.
        max_points: samples measured, stratified by class and seeded.
        max_dim: 1, or 2 for b2 as well.

    Raises:
        InputError: no labels for by="class", a glob that matches nothing, NaN in a layer output (the
            layer is named), no convolution for by="filter".
    """
    inputs, labels = probe_samples(loader, max_points=max_points, seed=seed)
    _check_by(by, labels)
    found = _scale_of(inputs, labels, scale, max_points, seed)
    rows = _measure_samples(model, inputs, labels, layers, by, found, max_dim)
    return TopologyProfile(rows, seed, library_versions())


class Monitor:
    """Measures a model on a fixed probe set while it trains.

    The probe is drawn and the scale calibrated once, so that the epochs differ by the model alone. The
    profile of epoch 0, before any training, is recorded on entering: a wide random net can merge
    components by being undersampled, and only what changes from there was learnt.

    >>> with uk.Monitor(model, loader) as monitor:      # doctest: +SKIP
    ...     for epoch in range(1, 11):
    ...         train_one_epoch(model)
    ...         monitor.record(epoch)
    >>> monitor.profile.rows                            # doctest: +SKIP

    Args:
        model: watched; never changed.
        probe: samples, as the loader of `measure`, like everything that follows but ``every``.
        every: record only epochs that are multiples of this.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Iterable[Any] | Tensor,
        *,
        every: int = 1,
        layers: str | Iterable[str] = "*",
        by: By = "class",
        scale: Scale | Literal["auto"] = "auto",
        max_points: int = 1000,
        max_dim: int = 1,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.every = require_count("every", every)
        self._settings: dict[str, Any] = {"layers": layers, "by": by, "max_dim": max_dim}
        self._inputs, self._labels = probe_samples(probe, max_points=max_points, seed=seed)
        self.scale = _scale_of(self._inputs, self._labels, scale, max_points, seed)
        self.seed = seed
        self._rows: list[ProfileRow] = []

    def __enter__(self) -> Monitor:
        self.record(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def record(self, epoch: int) -> None:
        """Measure now and keep the rows under ``epoch``, if it is one of ``every``."""
        if require_count("epoch", epoch, minimum=0) % self.every:
            return
        _check_by(self._settings["by"], self._labels)
        rows = _measure_samples(
            self.model, self._inputs, self._labels, scale=self.scale, **self._settings
        )
        self._rows += [replace(row, epoch=epoch) for row in rows]

    @property
    def profile(self) -> TopologyProfile:
        """Everything recorded so far."""
        return TopologyProfile(tuple(self._rows), self.seed, library_versions())


def cloud_betti(values: np.ndarray[Any, Any], scale: Scale, max_dim: int = 1) -> BettiNumbers:
    """Betti numbers of one cloud of samples ``[n, ...]``, its duplicates dropped.

    Where k is not smaller than the number of distinct points it is lowered to one less, and the scale
    of the result says so. A single point (a constant layer) has b = (1, 0).
    """
    cloud: PointCloud = make_cloud(values)
    if scale.k is not None and cloud.n_points <= scale.k:
        scale = replace(scale, k=max(1, cloud.n_points - 1), note="k lowered: few distinct points")
    if cloud.n_points == 1:
        return BettiNumbers((1, 0, 0)[: max_dim + 1], 1, scale)
    return betti_numbers(scale_graph(cloud.points, scale), max_dim=max_dim)


def library_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"unknot": version("unknot"), "torch": torch.__version__, "numpy": np.__version__}


def _check_by(by: By, labels: Tensor | None) -> None:
    if by not in ("layer", "class", "filter"):
        raise InputError(f"by = {by!r}", "'layer', 'class' or 'filter'", "pass by='class'")
    if by == "class" and labels is None:
        raise InputError("a loader without labels", "(inputs, labels)", "pass by='layer'")


def _scale_of(
    inputs: Tensor,
    labels: Tensor | None,
    scale: Scale | Literal["auto"],
    max_points: int,
    seed: int,
) -> Scale:
    """``scale``, or for "auto" the one at which the samples themselves are stable."""
    if scale != "auto":
        return scale
    classes = None if labels is None else labels.numpy()
    return calibrate(inputs.flatten(1).numpy(), classes, max_points=max_points, seed=seed)


def _measure_samples(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    layers: str | Iterable[str],
    by: By,
    scale: Scale,
    max_dim: int,
) -> tuple[ProfileRow, ...]:
    """Rows of samples that are already drawn, at a scale that is already known."""
    if by == "filter" and layers == "*":
        layers = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)] or "*"
    rows = tuple(_rows(capture(model, inputs, layers=layers), labels, by, scale, max_dim))
    if by == "filter" and not rows:
        raise InputError(
            f"layers = {layers!r} without a convolution output [n, c, h, w]",
            "at least one convolution",
            "name one by its glob, or pass by='layer'",
        )
    return rows


def _parse_profile(record: dict[str, Any]) -> TopologyProfile:
    rows = tuple(ProfileRow(**{**row, "scale": Scale(**row["scale"])}) for row in record["rows"])
    return TopologyProfile(rows, record["seed"], record["versions"])


def _rows(
    outputs: tuple[LayerOutput, ...], labels: Tensor | None, by: By, scale: Scale, max_dim: int
) -> Iterator[ProfileRow]:
    for output in outputs:
        for label, channel, values in _clouds(output, labels, by):
            try:
                betti = cloud_betti(values, scale, max_dim)
            except InputError as error:
                raise InputError(
                    f"layer {output.layer}: {error}", "finite outputs", "check the model's weights"
                ) from None
            b0, b1, *b2 = betti.values
            yield ProfileRow(
                epoch=None,
                layer=output.layer,
                call=output.call,
                label=label,
                filter=channel,
                n_points=betti.n_points,
                b0=b0,
                b1=b1,
                b2=b2[0] if b2 else None,
                scale=betti.scale,
            )


def _clouds(
    output: LayerOutput, labels: Tensor | None, by: By
) -> Iterator[tuple[int | None, int | None, np.ndarray[Any, Any]]]:
    """(label, filter, samples) of every cloud that one layer output holds."""
    values = output.numpy()
    if by == "layer":
        yield None, None, values
    elif by == "class" and labels is not None:
        for label in torch.unique(labels).tolist():
            yield label, None, values[(labels == label).numpy()]
    elif by == "filter" and output.layer != INPUT and output.values.ndim == 4:
        for channel in range(output.values.shape[1]):
            yield None, channel, output.values[:, channel].flatten(1).float().numpy()
