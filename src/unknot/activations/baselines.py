"""Many-to-one activations that others have published, from their papers: rivals of the folds.

Every module takes any shape and keeps the dtype of its input. Their gains come from the quadrature of
`unknot.activations.gain`, but for `Sine`, whose integral is known.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.errors import require_positive


class Sine(nn.Module):
    """f(x) = sin(x): odd and periodic (Parascandolo et al., 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)

    def second_moment(self) -> float:
        """E f(z)^2 = (1 - exp(-2)) / 2 for z ~ N(0, 1)."""
        return -math.expm1(-2) / 2


class GCU(nn.Module):
    """f(x) = x cos(x), the growing cosine unit (Noel et al., arXiv 2108.12943)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.cos(x)


class Cone(nn.Module):
    """f(x) = 1 - |x - 1|, positive between 0 and 2 alone (Noel and Oswal, arXiv 2405.04459)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 - (x - 1).abs()


class ParabolicCone(nn.Module):
    """f(x) = x (2 - x), positive between 0 and 2 alone (Noel and Oswal, arXiv 2405.04459)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 - x)


class EUAF(nn.Module):
    """f(x) = |w x - 2 floor((w x + 1) / 2)| for x >= 0, a triangle wave; x / (1 + |x|) for x < 0.

    The elementary universal activation function of Zhang, Shen and Yang (JMLR 23, 2022), w = 1.
    ``learnable`` makes it the PEUAF of Wang et al. (arXiv 2407.09580), whose frequency is trained.

    Args:
        frequency: w > 0, half waves a unit of pre-activation.
        learnable: w is a parameter of the module.
    """

    def __init__(self, frequency: float = 1.0, *, learnable: bool = False) -> None:
        super().__init__()
        value = require_positive("frequency", frequency)
        self.frequency = nn.Parameter(torch.tensor(value)) if learnable else value

    def forward(self, x: Tensor) -> Tensor:
        w = self.frequency
        angle = x * (w.to(x.dtype) if isinstance(w, Tensor) else w)
        wave = (angle - 2 * torch.floor((angle + 1) / 2)).abs()
        return torch.where(x < 0, F.softsign(x), wave)

    def extra_repr(self) -> str:
        if isinstance(self.frequency, Tensor):
            return f"frequency={self.frequency.item():g}, learnable=True"
        return f"frequency={self.frequency:g}"


class SquaredLeakyReLU(nn.Module):
    """f(x) = max(x, x / 2)^2: the squared ReLU of So et al. (arXiv 2109.08668) with a leaky one.

    No paper has it; small language models that are trained against the clock do, with this slope.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.5).square()
