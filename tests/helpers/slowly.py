"""Tanh that takes its time without taking a core: what happens in the middle of a study then does."""

from __future__ import annotations

import time

import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    time.sleep(0.003)
    return torch.tanh(x)
