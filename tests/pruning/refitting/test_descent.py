"""Muon's steps against torch's, and Adam's where there is no matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unknot.pruning.refitting.distilling.descent import Muon, orthogonal

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (20, 20), (2, 3)])
def test_singular_values_come_near_one_and_their_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.mT @ orthogonal(matrix) @ v.mT
    values = found.diagonal()[s > 0.05 * s[0]]
    assert bool((values > 0.65).all() and (values < 1.25).all())
    assert float((found - found.diagonal().diag()).abs().max()) < 1e-3
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrix, self.maps = nn.Linear(16, 12), nn.Conv2d(3, 8, 3)
        self.depthwise, self.table = nn.Conv2d(8, 8, 3, groups=8), nn.Embedding(20, 8)
        self.column, self.scale = nn.Linear(1, 8, bias=False), nn.Parameter(torch.tensor(2.0))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> dict[str, Tensor]:
    """What the parameters are after steps with gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def test_adam_steps_for_all_that_is_no_matrix() -> None:
    ours, theirs = Parts(), Parts()
    found = stepped(ours, Muon(ours, ours.parameters(), 0.01))
    wanted = stepped(theirs, torch.optim.Adam(theirs.parameters(), 0.01, betas=(0.9, 0.99)))
    for name in found:
        alike = bool((found[name] - wanted[name]).abs().max() < 1e-5)
        assert alike == (name not in ("matrix.weight", "maps.weight")), name


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
def test_a_matrix_goes_as_torchs_muon_takes_it() -> None:
    ours, theirs = nn.Linear(16, 12, bias=False), nn.Linear(16, 12, bias=False)
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    muon = torch.optim.Muon(
        theirs.parameters(), 0.01, weight_decay=0.0, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    found = stepped(ours, Muon(ours, ours.parameters(), 0.01))["weight"] - start
    wanted = stepped(theirs, muon)["weight"] - start
    assert float((found - wanted).norm() / wanted.norm()) < 0.03  # torch's is in bfloat16
