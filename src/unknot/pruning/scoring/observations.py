"""What the filters of a layer did on the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unknot.core.console import ShowProgress, track
from unknot.nets.probe import Probe
from unknot.pruning.scoring.responses import Response, Responses
from unknot.topology.cloud import FloatArray

ROWS = 6000  # (image, position) rows from which the channels of a layer are correlated
CONSTANT = 1e-6  # of the layer's largest value: what float32 leaves of a constant
PROPORTIONAL = 1e-3  # of a filter's standard deviation: what is left once a copy is subtracted
WITNESSES = 10  # rows in which a filter must answer before it can be called a copy
DEAD, DUPLICATE = "dead: the same output for every sample", "duplicate of filter"


@dataclass(frozen=True, eq=False)
class Observations:
    """What the filters of one layer did on the samples.

    Attributes:
        correlation: float64 ``[c, c]``; 0 with constant channels.
        dead: bool ``[c]``: the same output for every sample.
        copies: bool ``[c, c]``: equal up to a positive factor.
        taylor: ``[c]``, mean over samples of |derivative of the loss by a factor on the filter|; None
            without labels.
        gamma: ``[c]``, |scale| of the batch normalisation that follows; None where none does.
        weights: ``[c, d]``, what the layer weighs its inputs by, which it may derive from its parameters;
            None where that cannot be seen.
    """

    correlation: FloatArray
    dead: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    taylor: FloatArray | None
    gamma: FloatArray | None
    weights: Tensor | None = None


def observe(
    model: nn.Module,
    probe: Probe,
    convolutions: Mapping[str, nn.Module],
    *,
    labels: Tensor | None = None,
    seed: int = 0,
    progress: ShowProgress = False,
) -> dict[str, Observations]:
    """Watch every convolution that runs on the probe, in one pass and memory that the probe does not set.

    Args:
        convolutions: by name; linear layers are watched as 1 x 1 convolutions.
        labels: int64 ``[n]`` for `Observations.taylor`.
        seed: of the positions at which the channels are compared.
    """
    responses = Responses(model, probe, convolutions, labels)
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, _Layer] = {}
    for batch in track(responses.batches(), "watching filters", show=progress):
        for response in batch:
            layer = layers.setdefault(response.layer, _Layer(max(1, ROWS // len(probe)), generator))
            layer.add(response)
        for layer in layers.values():
            layer.end_batch()
    return {
        name: layer.observations(len(probe), responses.norms.get(name), responses.weights.get(name))
        for name, layer in layers.items()
    }


def redundancy_notes(badness: Sequence[float], observed: Observations) -> dict[int, str]:
    """{filter: note} of the dead and the duplicates; of equal filters the least bad stays."""
    notes = {int(i): DEAD for i in np.flatnonzero(observed.dead)}
    kept: list[int] = []
    for i in sorted(range(len(badness)), key=lambda i: (badness[i], i)):
        if i in notes:
            continue
        twin = next((j for j in kept if observed.copies[i, j]), None)
        if twin is None:
            kept.append(i)
        else:
            notes[i] = f"{DUPLICATE} {twin}"
    return notes


class _Layer:
    """Running sums of one layer; several calls of one convolution are watched together."""

    def __init__(self, positions: int, generator: torch.Generator) -> None:
        self.positions, self.generator = positions, generator
        self.rows = 0
        self.sums: Tensor | float = 0.0  # [c]
        self.products: Tensor | float = 0.0  # [c, c]
        self.answers: Tensor | float = 0.0  # [c], rows that are not 0
        self.first: dict[int, Tensor] = {}  # by call, the first sample's output [c, p]
        self.spread: Tensor | None = None  # [c], largest difference from it
        self.peak = 0.0
        self.gates: Tensor | float = 0.0  # [c]
        self.batch_gates: Tensor | None = None  # [b, c], over the calls of one batch

    def add(self, response: Response) -> None:
        values = response.values.flatten(2)  # [b, c, p]
        first = self.first.setdefault(response.call, values[0].clone())
        if first.shape == values.shape[1:]:
            spread = (values - first).abs().amax((0, 2)).double().cpu()
            self.spread = spread if self.spread is None else torch.maximum(self.spread, spread)
        self.peak = max(self.peak, float(values.abs().max()))
        rows = self._some_rows(values)
        self.rows += len(rows)
        self.sums = self.sums + rows.sum(0)
        self.products = self.products + rows.T @ rows
        self.answers = self.answers + (rows != 0).sum(0)
        if response.gradients is not None:
            gates = response.gradients.double()
            if isinstance(self.batch_gates, Tensor) and self.batch_gates.shape != gates.shape:
                self.end_batch()  # calls whose rows are not the same samples
            self.batch_gates = gates if self.batch_gates is None else self.batch_gates + gates

    def end_batch(self) -> None:
        if isinstance(self.batch_gates, Tensor):
            self.gates = self.gates + self.batch_gates.abs().sum(0)
        self.batch_gates = None

    def _some_rows(self, values: Tensor) -> Tensor:
        """float64 ``[b * positions, c]``, at random positions of each sample; all where there are few."""
        b, c, p = values.shape
        if p > self.positions:
            places = torch.randint(p, (b, 1, self.positions), generator=self.generator)
            values = values.gather(2, places.to(values.device).expand(b, c, self.positions))
        return values.transpose(1, 2).reshape(-1, c).double().cpu()

    def observations(self, samples: int, norm: _BatchNorm | None, weights: Tensor | None) -> Observations:
        assert isinstance(self.sums, Tensor) and isinstance(self.products, Tensor)
        assert isinstance(self.answers, Tensor) and self.spread is not None
        products = self.products.numpy() / self.rows
        means = self.sums.numpy() / self.rows
        covariance = products - np.outer(means, means)
        dead = (self.spread <= CONSTANT * self.peak).numpy() & (samples > 1)
        scale = norm.weight if norm is not None else None
        enough = self.answers.numpy() >= min(WITNESSES, self.rows)
        return Observations(
            correlation=_correlation(covariance, products),
            dead=dead,
            copies=_copies(covariance, products) & np.outer(enough & ~dead, enough & ~dead),
            taylor=self.gates.numpy() / samples if isinstance(self.gates, Tensor) else None,
            gamma=None if scale is None else scale.detach().abs().double().cpu().numpy(),
            weights=weights,
        )


def _correlation(covariance: FloatArray, products: FloatArray) -> FloatArray:
    variance = np.diag(covariance)
    # What rounding leaves of a constant is no variance.
    alive = variance > 1e-12 * np.diag(products)
    deviation = np.sqrt(np.where(alive, variance, 1.0))
    correlation = covariance / np.outer(deviation, deviation)
    correlation[~np.outer(alive, alive)] = 0.0
    return np.asarray(np.clip(correlation, -1.0, 1.0))


def _copies(covariance: FloatArray, products: FloatArray) -> NDArray[np.bool_]:
    """Whether each is the other times a positive factor, to `PROPORTIONAL` of its standard deviation."""
    squares, variance = np.diag(products), np.diag(covariance)
    alive = variance > 1e-12 * squares
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = squares[:, None] - products**2 / squares[None, :]  # of i, once j is subtracted
        close = rest <= PROPORTIONAL**2 * variance[:, None]
    copies = close & close.T & (products > 0) & np.outer(alive, alive)
    np.fill_diagonal(copies, False)
    return np.asarray(copies)
