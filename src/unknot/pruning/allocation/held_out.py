"""Samples that the refit does not see, and what a cut model loses on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from unknot.core.memory import memory_limit
from unknot.nets.probe import Probe, map_tensors
from unknot.nets.running import as_it_was, call_model, n_samples, placed
from unknot.pruning.allocation.options import CurveOptions
from unknot.pruning.allocation.prefix import Prefix
from unknot.pruning.refitting.fitting import Fitting
from unknot.pruning.refitting.losses import comparable, loss_for, output_loss
from unknot.pruning.refitting.original import Original
from unknot.pruning.refitting.reconstruction import seen_alike
from unknot.pruning.structure.channels import Removed
from unknot.pruning.structure.layers import all_layers
from unknot.pruning.structure.pools import Structure

SHARE = 0.4  # of the samples
PLACES = 12  # of each sample's layer outputs, that the rest is refitted on


class HeldOut:
    """Cuts a model, refits the rest on three fifths of the samples, and measures on the others.

    Args:
        options: which loss, and the seed of the split.
        model: not changed.
        probe: the samples.
        structure: of the model.

    Attributes:
        kind: the loss: "kl" or "error".
        n_fit: samples that the rest is refitted on.
    """

    def __init__(
        self, options: CurveOptions, model: nn.Module, probe: Probe, structure: Structure
    ) -> None:
        self.model, self.graph = model, structure.graph
        inputs = placed(probe.inputs, model)
        held = torch.from_numpy(
            np.random.default_rng(options.seed).permutation(len(probe)) < round(SHARE * len(probe))
        )
        self.fit = map_tensors(inputs, lambda t: t[~held])
        self.held = map_tensors(inputs, lambda t: t[held])
        self.n_fit, n_held = n_samples(self.fit), n_samples(self.held)
        original, _ = seen_alike(model, model)
        layers, room = all_layers(original), memory_limit() // 8
        self.prefixes = [Prefix(original, part, layers, room) for part in (self.fit, self.held)]
        output = self.prefixes[1].outputs
        self.kind = loss_for(options.loss, output, n_held, classes=probe.labels is not None)
        self.wanted = comparable(self.kind, output, n_held)
        self.original = Original(original, self.fit, seed=options.seed, rows=PLACES * self.n_fit)

    def loss_without(self, removed: Removed) -> float:
        """Of the model without ``removed`` {layer: channels}, the rest refitted."""
        slim = self.graph.without(self.model, removed)
        _, seen = seen_alike(self.model, slim)
        gone = self.graph.gone(removed)
        affected = {layer for layer, units in self.graph.inputs.items() if gone[units].any()} | set(
            removed
        )
        fit, held = self.prefixes
        with fit.until(affected):
            Fitting(self.original, seen, removed).front_to_back(self.fit)
        with held.until(affected), as_it_was(seen):
            output = call_model(seen, self.held)
        return output_loss(self.kind, self.wanted, comparable(self.kind, output, len(self.wanted)))
