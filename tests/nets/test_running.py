"""Hooks for the length of a context, and the steps that a followed tensor takes."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot import InputError
from unknot.nets.follower import Follower, Key, Step
from unknot.nets.running import as_example, call_model, copied, hooked, hooked_before


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


class Keeping(nn.Module):
    """A convolution that keeps what it returned, with its graph, and whatever else it is given."""

    def __init__(self, **held: Any) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.held = held
        self.feature: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.feature = F.relu(self.conv(x))
        return self.head(self.feature.mean((2, 3)))


def test_a_model_that_keeps_an_activation_with_its_graph_is_copied() -> None:
    model, x = Keeping(), torch.randn(2, 3, 5, 5)
    expected = model(x)
    twin = copied(model)
    assert model.feature is not None and model.feature.grad_fn is not None
    assert twin.feature is not None and twin.feature.grad_fn is None
    assert torch.equal(twin.feature, model.feature) and twin.feature is not model.feature
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        twin.conv.weight.zero_()
    assert torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_tied_parameters_stay_tied_and_normalised_weights_follow_their_own_parameters() -> None:
    first, second = Keeping(lock=threading.Lock()), Keeping()
    second.conv.weight = first.conv.weight
    first.head = nn.utils.weight_norm(first.head)
    model, x = nn.ModuleList([first, second]), torch.randn(2, 3, 5, 5)
    first(x).sum().backward()
    twin = copied(model)
    assert twin[0].conv.weight is twin[1].conv.weight is not first.conv.weight
    with torch.no_grad():
        twin[0].head.weight_g.mul_(2)
    bias = first.head.bias
    torch.testing.assert_close(twin[0](x) - bias, 2 * (first(x) - bias))


def test_what_cannot_be_copied_is_shared(tmp_path: Path) -> None:
    held: dict[str, Any] = {
        "locks": [threading.Lock(), threading.RLock()],
        "library": ctypes.CDLL(None),
        "function": ctypes.CDLL(None).abs,
        "module": torch,
    }
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        model = Keeping(**held, deep=SimpleNamespace(file=file, event=threading.Event()))
        twin = copied(model)
        assert twin.held["deep"].file is file
    assert twin.held["locks"] is not model.held["locks"]
    assert twin.held["locks"][0] is model.held["locks"][0]
    assert twin.held["module"] is torch and twin.held["function"](-3) == 3


def test_what_can_be_neither_copied_nor_shared_is_named() -> None:
    numbers = (i for i in range(3))
    model = nn.Sequential(nn.ReLU(), Keeping(lock=threading.Lock(), inner={"draws": [0, numbers]}))
    with pytest.raises(InputError, match=r"attribute 1\.held\.inner\.draws\.1 of type generator"):
        copied(model)
    assert list(numbers) == [0, 1, 2]


def test_an_example_of_any_kind_becomes_tensors() -> None:
    x = np.arange(6.0, dtype=">f4").reshape(3, 2)
    one = torch.from_numpy(x.astype(np.float32))
    assert torch.equal(as_example(x), one)  # type: ignore[arg-type]
    pair, named = as_example([x, one]), as_example({"ids": [1, 2, 3], "mask": None, "x": x})
    assert isinstance(pair, tuple) and all(torch.equal(t, one) for t in pair)
    assert isinstance(named, dict) and torch.equal(named["x"], one)
    for empty in (one[:0], (one[:0], one[:0])):
        with pytest.raises(InputError, match=r"an example of shape \(0, 2\).*at least one sample"):
            as_example(empty)
    for other in (None, "cifar", torch.tensor(1.0), (one, one[:2]), {"mask": None}, (one, None)):
        with pytest.raises(InputError, match="a batch of"):
            as_example(other)


def test_memory_that_ran_out_is_no_matter_of_shapes() -> None:
    class Hungry(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.empty(2**60)

    with pytest.raises(InputError, match="a run that fits into memory"):
        call_model(Hungry(), torch.zeros(2, 3))
