"""What a layer should return, as those see it who take its output in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unknot.pruning.refitting.activations import Activation

_NONE = Activation()


@dataclass(frozen=True, eq=False)
class Target:
    """That ``outputs * scale + offset`` come near to ``values``, after an activation.

    Attributes:
        values: ``[r, out]``, after the normalisation and the sum that the outputs enter alone.
        scale: ``[out]``, nowhere 0.
        offset: ``[out]`` or ``[r, out]``, of the normalisation and what else is summed.
        counts: ``[out]``: 1, or 0 of outputs that only come near to ``values`` themselves.
        activation: that alone consumes them.
    """

    values: Tensor
    scale: Tensor
    offset: Tensor
    counts: Tensor
    activation: Activation = _NONE

    @classmethod
    def plain(cls, values: Tensor) -> Target:
        """The outputs themselves."""
        zeros = torch.zeros_like(values[0])
        return cls(values, zeros + 1.0, zeros, zeros + 1.0)

    @property
    def linear(self) -> bool:
        """Whether the error is that of the outputs."""
        activation = self.activation
        cut = (self.values < activation.low) | (self.values > activation.high)
        return activation.curve is None and not bool(cut.any())

    def rows(self, chosen: Tensor) -> Target:
        """At some of the rows; ``chosen`` is bool ``[r]``."""
        offset = self.offset if self.offset.ndim < 2 else self.offset[chosen]
        return replace(self, values=self.values[chosen], offset=offset)

    def outputs(self) -> Tensor:
        """``[r, out]``, with which ``values`` are met exactly."""
        return (self.values - self.offset) / self.scale

    def nearest(self, outputs: Tensor) -> Tensor:
        """Near to these outputs ``[r, out]``, ones with which the error is less: `Activation.nearest`."""
        nearest = self.activation.nearest(outputs * self.scale + self.offset, self.values)
        wanted = torch.where(self.counts > 0, nearest, self.values)
        return (wanted - self.offset) / self.scale

    def error(self, outputs: Tensor) -> float:
        """Mean square of the difference to ``values``, both after the activation."""
        found = self.activation.of(outputs * self.scale + self.offset)
        return float(((found - self.activation.of(self.values)) * self.counts).square().mean())

    def power(self) -> float:
        """What errors are compared with: the variance of ``values`` after the activation."""
        return variance_of(self.activation.of(self.values) * self.counts)


def variance_of(values: Tensor) -> float:
    """Of ``values [n, d]``, and a little, so that rounding errors of constants are small beside it."""
    variance = (values - values.mean(0)).square().mean() + 1e-6 * values.square().mean()
    return float(variance) + 1e-30
