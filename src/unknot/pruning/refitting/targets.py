"""What a layer should return, as those see it who take its output in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """That ``outputs * scale + offset``, held within bounds, comes near to ``values``, held so too.

    Attributes:
        values: ``[r, out]``, after the normalisation and the sum that the outputs enter alone.
        scale: ``[out]``, nowhere 0.
        offset: ``[out]`` or ``[r, out]``, of the normalisation and what else is summed.
        counts: ``[out]``, by which errors are multiplied before they are compared.
        low, high: ``[out]``, the bounds of a ReLU or clamp; infinite where there is none.
    """

    values: Tensor
    scale: Tensor
    offset: Tensor
    counts: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def plain(cls, values: Tensor) -> Target:
        """The outputs themselves."""
        zeros = torch.zeros_like(values[0])
        return cls(values, zeros + 1.0, zeros, zeros + 1.0, zeros - torch.inf, zeros + torch.inf)

    @property
    def clamped(self) -> bool:
        """Whether any value is cut off."""
        return bool(((self.values < self.low) | (self.values > self.high)).any())

    def rows(self, chosen: Tensor) -> Target:
        """At some of the rows; ``chosen`` is bool ``[r]``."""
        offset = self.offset if self.offset.ndim < 2 else self.offset[chosen]
        return Target(self.values[chosen], self.scale, offset, self.counts, self.low, self.high)

    def outputs(self) -> Tensor:
        """``[r, out]``, with which ``values`` are met exactly."""
        return (self.values - self.offset) / self.scale

    def nearest(self, outputs: Tensor) -> Tensor:
        """The outputs nearest to these ``[r, out]`` with which ``values`` are met within the bounds.

        The square of the distance to them is at least the error within the bounds, and equal to it for
        ``outputs`` themselves: what comes nearer to them has a smaller error (majorisation, as for the
        ReLU in Zhang et al., "Accelerating very deep convolutional networks", TPAMI 2016).
        """
        found = outputs * self.scale + self.offset
        wanted = torch.where(self.values <= self.low, torch.minimum(found, self.low), self.values)
        wanted = torch.where(self.values >= self.high, torch.maximum(found, self.high), wanted)
        return (wanted - self.offset) / self.scale

    def error(self, outputs: Tensor) -> float:
        """Mean square of the difference over the variance of ``values``, all within the bounds."""
        found = (outputs * self.scale + self.offset).clamp(self.low, self.high)
        wanted = self.values.clamp(self.low, self.high)
        return relative_error(found * self.counts, wanted * self.counts)


def relative_error(outputs: Tensor, wanted: Tensor) -> float:
    """Mean square of the difference over the variance of ``wanted [n, d]``."""
    power = (wanted - wanted.mean(0)).square().mean() + 1e-30
    return float((outputs - wanted).square().mean() / power)
