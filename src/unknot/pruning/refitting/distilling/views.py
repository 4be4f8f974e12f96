"""Views of images: shifted by a few pixels, and flipped where the model itself sees little difference.

A view shows more than the samples do and needs no label: what the original returns for it is what a
smaller model should return for it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from unknot.nets.probe import Inputs, map_tensors, tensors_of
from unknot.nets.running import n_samples

Flips: TypeAlias = bool | Literal["auto"]
SMALLEST = 16  # pixels a side: of fewer, two are too many to lose
ASKED = 128  # samples that the model is asked about
PIXELS = 2  # of the shift that flips are compared with where images are not shifted
# A shift that changes what the model returns by more than this share of its variance shows another image,
MOST_CHANGE = 0.5
# and so does a flip that changes it by more than so many times what a shift does.
MOST_TIMES = 2.0


@dataclass(frozen=True, eq=False)
class Moves:
    """What is done to the images of each of ``n`` samples: shifts ``[2, n]``, int64 from 0 to twice the
    pixels, and whether they are mirrored, bool ``[n]``."""

    shifts: Tensor
    mirrored: Tensor

    def __getitem__(self, rows: Tensor) -> Moves:
        return Moves(self.shifts[:, rows], self.mirrored[rows])


@dataclass(frozen=True)
class Views:
    """How views are made of samples.

    Attributes:
        pixels: by which images are shifted at most, in both directions; 0: they are not.
        flips: whether half of them are mirrored, left to right.
    """

    pixels: int = 0
    flips: bool = False

    @property
    def any(self) -> bool:
        return self.pixels > 0 or self.flips

    def draw(self, n: int, generator: torch.Generator, *, plain: int = 0) -> Moves:
        """Random moves for ``n`` samples, none for the first ``plain`` of them."""
        shifts = torch.randint(0, 2 * self.pixels + 1, (2, n), generator=generator)
        mirrored = torch.rand(n, generator=generator) < (0.5 if self.flips else 0.0)
        shifts[:, :plain], mirrored[:plain] = self.pixels, False
        return Moves(shifts, mirrored)

    def of(self, inputs: Inputs, moves: Moves) -> Inputs:
        """The samples so moved; all images of one alike."""

        def view(tensor: Tensor) -> Tensor:
            if not is_image(tensor):
                return tensor
            if self.pixels:
                tensor = _shifted(tensor, self.pixels, moves.shifts.to(tensor.device))
            rows = moves.mirrored.to(tensor.device)[:, None, None, None]
            return torch.where(rows, tensor.flip(3), tensor) if self.flips else tensor

        return map_tensors(inputs, view)


def is_image(tensor: Tensor) -> bool:
    """Whether it has the shape of images, ``[n, c, h, w]`` of at least `SMALLEST` pixels a side."""
    return tensor.is_floating_point() and tensor.ndim == 4 and min(tensor.shape[2:]) >= SMALLEST


def choose_views(
    inputs: Inputs, pixels: int, flips: Flips, change: Callable[[Inputs, Inputs], float], seed: int
) -> tuple[Views, str]:
    """The views that are the same images to the model, and in words why there are none.

    Args:
        inputs: samples.
        pixels: to shift images by, at most; they are not where that changes too much.
        flips: whether they are flipped too; "auto": where that changes what the model returns hardly
            more than a shift does.
        change: how far the model's outputs for two batches are apart, in shares of their variance.
        seed: of the shifts that are tried.
    """
    if not any(map(is_image, tensors_of(inputs))):
        return Views(), "no views: the inputs have not the shape of images"
    some = map_tensors(inputs, lambda t: t[:ASKED])
    shifts, generator = Views(pixels or PIXELS), torch.Generator().manual_seed(seed)
    shifted = change(shifts.of(some, shifts.draw(n_samples(some), generator)), some)
    able = shifted <= MOST_CHANGE  # not where it is NaN
    if flips == "auto":
        mirrored = map_tensors(some, lambda t: t.flip(3) if is_image(t) else t)
        flips = able and change(mirrored, some) <= MOST_TIMES * shifted
    views = Views(pixels if able else 0, flips)
    if able or not pixels:
        return views, ""
    return views, f"no shifts: one by up to {pixels} pixels makes other images of them to the model"


def _shifted(images: Tensor, pixels: int, shifts: Tensor) -> Tensor:
    """Each image shifted by its two numbers of ``[2, n]``; what comes in repeats the edge."""
    height, width = images.shape[2:]
    padded = F.pad(images, [pixels] * 4, mode="replicate")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [n, c, 2p + 1, 2p + 1, h, w]
    return windows[torch.arange(len(images), device=images.device), :, shifts[0], shifts[1]]
