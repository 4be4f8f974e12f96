from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unknot.capture import capture, probe_samples
from unknot.errors import InputError
from unknot.models import cnn, mlp


class Twice(nn.Module):
    """Calls one module twice and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.idle = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return self.drop(self.linear(self.linear(x).relu())), "extra"


def test_capture_equals_its_replay() -> None:
    torch.manual_seed(0)
    model = cnn(1, 3, batch_norm=True).eval()
    inputs = torch.randn(70, 1, 8, 8)
    outputs = capture(model, inputs, batch_size=32)
    value = inputs
    for output, (name, module) in zip(outputs[1:], model.named_children(), strict=True):
        with torch.no_grad():
            value = module(value)
        assert output.layer == name
        torch.testing.assert_close(output.values, value)


def test_calls_are_numbered_and_what_did_not_run_is_left_out() -> None:
    outputs = capture(Twice(), torch.randn(10, 3), batch_size=4)
    assert [(o.layer, o.call) for o in outputs] == [
        ("input", 0),
        ("linear", 0),
        ("linear", 1),
        ("drop", 0),
    ]
    assert all(len(o.values) == 10 for o in outputs)


def test_containers_can_be_named_and_tuples_give_their_first_tensor() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Twice()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)[0]

    outputs = capture(Outer(), torch.randn(5, 3), layers="inner")
    assert [o.layer for o in outputs] == ["input", "inner"]
    assert outputs[1].values.shape == (5, 3)


def test_the_model_comes_back_as_it_was() -> None:
    model = Twice().train()
    model.idle.eval()
    flags = [module.training for module in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    capture(model, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.rand(1) == expected
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_an_error_in_the_model_leaves_no_hook() -> None:
    model = mlp(3, 2).train()
    with pytest.raises(InputError, match=r"a batch of shape \(4, 99\)"):
        capture(model, torch.randn(4, 99))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_a_glob_that_matches_nothing_lists_near_names() -> None:
    with pytest.raises(InputError, match="try .*linear1"):
        capture(mlp(3, 2), torch.randn(2, 3), layers="linaer1")


def test_half_precision_is_widened() -> None:
    model = nn.Sequential(nn.Linear(3, 3)).to(torch.bfloat16)
    output = capture(model, torch.randn(2, 3).to(torch.bfloat16))[1]
    assert output.numpy().dtype.name == "float32"


def test_probe_is_stratified_seeded_and_bounded() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([80, 19, 1]))
    inputs = torch.arange(100.0)[:, None]
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=7)
    x, y = probe_samples(loader, max_points=20, seed=1)
    again, _ = probe_samples(loader, max_points=20, seed=1)
    other, _ = probe_samples(loader, max_points=20, seed=2)
    assert y is not None
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    assert [int((y == c).sum()) for c in range(3)] == [16, 3, 1]
    assert torch.equal(labels[x[:, 0].long()], y)
    assert (x[1:] > x[:-1]).all()  # the loader's order


def test_probe_takes_everything_when_there_is_room() -> None:
    x, y = probe_samples(torch.arange(6.0)[:, None], max_points=10)
    assert x[:, 0].tolist() == list(range(6))
    assert y is None


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        ([], "without samples"),
        ([{"x": torch.ones(2)}], "type dict"),
        ([(torch.ones(2, 1), torch.ones(3))], "one label a sample"),
    ],
)
def test_bad_loaders(loader: list[object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        probe_samples(loader)
