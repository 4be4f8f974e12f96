"""What the callbacks of all trainers share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unknot.integrations.watching import Watch
from unknot.topology.scale import Scale


def test_a_metric_is_any_finite_number() -> None:
    watch = Watch(metric="loss", scale=Scale(k=4), by="layer", background=False)
    watch.begin(nn.Sequential(nn.Linear(2, 3)), torch.randn(20, 2), epochs_done=0)
    watch.record(1, {"loss": torch.tensor(2.5)})
    with pytest.warns(UserWarning, match="^metric = 'loss': nan after epoch 2; recorded without it$"):
        watch.record(2, {"loss": float("nan")})
    watch.close()
    assert [a.given for a in watch.profile.accuracy] == [None, 2.5, None]
