"""Batch normalisation whose statistics are measured anew, the cheapest way to mend a pruned net."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def recalibrated(model: nn.Module, images: Tensor) -> nn.Module:
    """In place: batch normalisation with the statistics of its own outputs, averaged over batches."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for batch in images.split(256):
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum  # so that it can be trained on
    return model.eval()
