"""How long shrinking a model will take: one timed pass of it, times the passes that are ahead."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from unknot.nets.probe import Inputs, Probe
from unknot.nets.running import as_it_was, call_model, placed
from unknot.pruning.allocation.efforts import Effort
from unknot.pruning.allocation.options import CurveOptions
from unknot.pruning.structure.pools import Structure

# Passes of the model that a sample costs, seen with CNNs, ResNets and depthwise nets of 8 to 22 million
# multiply-accumulates; they come within a factor of two.
SCORING, CUTTING, REFITTING, POLISHING, TRAINING = 4.0, 2.3, 12.0, 4.5, 3.0
COMPARING = 3_500  # in all, to time both models
LONGEST = 12.0  # seconds, that this takes
POLISHED = 64  # samples a step of polishing
TIMED = 32  # samples of the pass that is timed


@dataclass(frozen=True)
class Ahead:
    """What is asked.

    Attributes:
        effort: the preset.
        scored, fitted: samples that filters are scored on, and weights refitted; 0: they are not.
        cuts: whether widths may be measured.
        rounds: of all this.
        polish: steps, after the last round.
        trained: samples of all epochs of fine-tuning together.
    """

    effort: Effort
    scored: int
    fitted: int
    cuts: bool
    rounds: int = 1
    polish: int = 0
    trained: int = 0

    def seconds(self, structure: Structure, a_pass: float) -> float:
        """In all, by those of one pass of one sample."""
        return self._passes(structure) * a_pass + min(COMPARING * a_pass, LONGEST)

    def _passes(self, structure: Structure) -> float:
        a_round = SCORING * self.scored + REFITTING * self.fitted
        if self.cuts and self.effort.curves and len(structure.pools) > 1:
            pools, macs = len(structure.pools), structure.graph.macs_without({})
            options = CurveOptions(self.effort.levels, self.effort.samples)
            options = options.within(self.effort.work, macs, pools)
            samples = min(options.max_points, self.scored)
            a_round += CUTTING * samples * pools * len(options.levels)
        training = POLISHING * POLISHED * self.polish + TRAINING * self.trained
        return self.rounds * a_round + training


def pass_seconds(model: nn.Module, inputs: Inputs) -> float:
    """Seconds of a pass for each of the first samples, after one that is not counted."""
    batch = next(iter(Probe(inputs).batches(TIMED)))
    with as_it_was(model), torch.no_grad():
        model.eval()
        call_model(model, placed(batch, model))
        start = time.perf_counter()
        call_model(model, placed(batch, model))
        return (time.perf_counter() - start) / len(Probe(batch))


def duration_text(seconds: float) -> str:
    """ "about 40 s", "about 3 minutes", "about 2 hours": no more digits than are known."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} minutes" if minutes < 90 else f"about {round(minutes / 60)} hours"
