"""What a recording gives: the values of a layer, or the distances between its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The samples themselves; the second where a module has the first name.
INPUT, INPUT_BESIDE = "input", "input of the model"


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What one call of one module returned for every sample.

    Attributes:
        layer: dotted module name, "input" for the samples themselves ("input of the model" where a
            module is called "input"), or `OUTPUT` for what the whole model returned.
        call: 0 for the module's first call in a forward pass, 1 for the second, ...
        values: ``[n, ...]`` on the CPU, in the order of the samples, detached.
        note: how it differs from what was asked for; empty where it does not.
    """

    layer: str
    call: int
    values: Tensor
    note: str = ""

    def numpy(self) -> Any:
        """float32 or float64 array ``[n, d]``, half precision widened to float32."""
        flat = self.values.flatten(1) if self.values.ndim > 1 else self.values[:, None]
        return (flat if flat.dtype == torch.float64 else flat.float()).numpy()


@dataclass(frozen=True, eq=False)
class LayerDistances:
    """How far apart the samples are in what one call of one module returned, where that was too wide.

    Attributes:
        layer, call, note: as of `LayerOutput`.
        squares: float64 ``[n, n]``, the squared Euclidean distances, symmetric; 0 where two samples have
            the same values and only there. NaN where a value is NaN or infinite.
        reach: float64 ``[n]``: how far each sample is from the centre that was subtracted.
        unit: |squares[i, j] - the exact square| <= unit * (reach[i] + reach[j])^2.
    """

    layer: str
    call: int
    squares: NDArray[np.float64]
    reach: NDArray[np.float64]
    unit: float
    note: str = ""


LayerReading: TypeAlias = LayerOutput | LayerDistances
Tokens = Literal["mean", "first", "last", "all"]


@dataclass(frozen=True)
class LayerShape:
    """The shape of one sample of a layer output, as the trial run found it."""

    layer: str
    call: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    note: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return self.layer, self.call

    def bytes_of(self, samples: int) -> int:
        return samples * max(1, int(torch.Size(self.shape).numel())) * self.dtype.itemsize
