"""Hooks for the length of a context, and the steps that a followed tensor takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.nets.follower import Follower, Key, Step
from unknot.nets.running import hooked, hooked_before


def test_hooks_see_names_in_order_may_replace_and_go_with_the_context() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    modules, x = dict(model.named_children()), torch.tensor([[1.0, -1.0]])
    calls: list[tuple[str, str]] = []

    def double(name: str, _module: nn.Module, inputs: Any) -> Any:
        calls.append(("before", name))
        return (2 * inputs[0],) if name == "1" else None

    def add_one(name: str, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        calls.append(("after", name))
        assert module is modules[name] and isinstance(inputs, tuple)
        return output + 1 if name == "0" else None

    with hooked(modules, add_one), hooked_before(modules, double):
        found = model(x)
    assert calls == [("before", "0"), ("after", "0"), ("before", "1"), ("after", "1")]
    torch.testing.assert_close(found, F.relu(2 * (model[0](x) + 1)))
    with pytest.raises(RuntimeError), hooked(modules, add_one), hooked_before(modules, double):
        model(torch.zeros(1, 9))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules.values())


@pytest.mark.parametrize(("last", "count"), [("nothing", 4), ("activation", 2)])
def test_a_follower_tells_each_step_until_it_is_told_to_stop(last: str, count: int) -> None:
    conv, norm, pool = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.MaxPool2d(2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.pool = conv, norm, pool

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            follower.follow(("conv", 0), y)
            return self.pool(F.dropout(F.relu(self.norm(y)), 0.0)) + 1

    steps: list[tuple[str, nn.Module | None]] = []

    def see(key: Key, step: Step) -> bool:
        assert key == ("conv", 0) and step.before.shape[:2] == step.after.shape[:2]
        steps.append((step.kind, step.module))
        return step.kind != last

    net, follower = Net(), Follower(see)
    with follower.watching(net):
        net(torch.randn(3, 1, 4, 4))
    expected = [("passing", norm), ("activation", None), ("passing", None), ("pooling", pool)]
    assert steps == expected[:count]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
