from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.nets.follower import OUTPUT
from unknot.nets.models import cnn, mlp
from unknot.nets.probe import Probe
from unknot.nets.recording import Recording, capture


class Twice(nn.Module):
    """Calls one module twice and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.idle = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.drop(self.linear(self.linear(x).relu())), "extra"


class Holding(nn.Module):
    """Returns what it is given inside a container."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap
        self.inner = Inner(wrap)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        self.inner(x)
        return self.wrap(self.last(x))


class Inner(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(x * 2)


@dataclass
class Result:
    count: int
    hidden: Tensor


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


def test_an_in_place_activation_does_not_change_what_came_before_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)).eval()
    x = torch.randn(6, 3)
    linear, relu = capture(model, x)[1:]
    with torch.no_grad():
        torch.testing.assert_close(linear.values, F.linear(x, model[0].weight, model[0].bias))  # type: ignore[arg-type]
    assert (linear.values < 0).any() and (relu.values >= 0).all()


def test_calls_are_numbered_and_what_did_not_run_is_named() -> None:
    recording = Recording(Twice(), Probe(torch.randn(10, 3)), batch_size=4)
    found = [(o.layer, o.call) for o in recording.outputs()]
    assert found == [("input", 0), ("linear", 0), ("linear", 1), ("drop", 0), (OUTPUT, 0)]
    assert recording.notes == ("idle did not run",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (None, x),
        lambda x: {"n": 3, "hidden": x},
        lambda x: Result(2, x),
        lambda x: [{"deep": (torch.ones(3, dtype=torch.long), x)}],
    ],
)
def test_containers_give_their_first_tensor_with_a_row_a_sample(wrap: Any) -> None:
    x = torch.randn(5, 3)
    outputs = capture(Holding(wrap), x, layers=["inner", "last"])
    assert [o.layer for o in outputs] == ["input", "inner", "last"]
    torch.testing.assert_close(outputs[1].values, x * 2)


def test_several_passes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = cnn(1, 3, batch_norm=True), torch.randn(30, 1, 8, 8)
    whole = capture(model, x)
    monkeypatch.setattr("unknot.nets.recording.recorder.PASS_BYTES", 100_000)
    recording = Recording(model, Probe(x), tokens="all")
    assert len(recording._grouped()) > 3
    for one, part in zip(whole, recording.outputs(), strict=False):
        assert (one.layer, one.call) == (part.layer, part.call)
        torch.testing.assert_close(one.values, part.values)


def test_a_layer_that_cannot_fit_is_refused_before_it_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNKNOT_MEMORY_GB", "0.00001")
    with pytest.raises(InputError, match=r"layer conv1: 40 samples .* lower max_points"):
        Recording(cnn(1, 2), Probe(torch.zeros(40, 1, 8, 8)))


@pytest.mark.parametrize(
    ("tokens", "shape"), [("mean", (4,)), ("first", (4,)), ("last", (4,)), ("all", (5, 4))]
)
def test_sequences_are_pooled_as_asked(tokens: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(7, 5, 3)
    model = nn.Linear(3, 4)
    (output,) = [
        o for o in Recording(model, Probe(x), tokens=tokens).outputs() if o.layer not in ("input", OUTPUT)
    ] or capture(nn.Sequential(model), x)[1:]
    with torch.no_grad():
        whole = model(x)
    assert output.values.shape[1:] == shape
    expected = {"mean": whole.mean(1), "first": whole[:, 0], "last": whole[:, -1], "all": whole}
    torch.testing.assert_close(output.values, expected[tokens])


def test_lines_of_one_dimensional_convolutions_are_no_sequences() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(3), nn.Tanh())
    outputs = list(Recording(model, Probe(torch.randn(6, 2, 9))).outputs())
    assert [tuple(o.values.shape[1:]) for o in outputs[1:5]] == [(4, 7), (4, 7), (4, 3), (4, 3)]


class Functional(nn.Module):
    """Functional activations and pooling, a module that is used twice, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.GELU()
        self.conv3 = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        z = self.act(self.conv2(y)) + y
        return self.conv3(z).mean((2, 3))


def test_what_follows_a_convolution_is_found_through_modules_and_functions() -> None:
    torch.manual_seed(0)
    model, x = Functional().eval(), torch.randn(9, 1, 6, 6)
    with torch.no_grad():
        first = F.relu(model.norm(model.conv1(x)))
        pooled = F.max_pool2d(first, 2)
        second = model.act(model.conv2(pooled))
    after = {o.layer: o for o in Recording(model, Probe(x), layers="conv*", after="activation").outputs()}
    torch.testing.assert_close(after["conv1"].values, first)
    torch.testing.assert_close(after["conv2"].values, second)
    assert after["conv3"].note == "no activation follows: its own output"
    after = {o.layer: o for o in Recording(model, Probe(x), layers="conv*", after="pooling").outputs()}
    torch.testing.assert_close(after["conv1"].values, pooled)
    assert after["conv2"].note == "no pooling follows: its own output"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_follows_a_sum_in_place_belongs_to_no_convolution() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y += x
            return F.relu(y)

    model, x = InPlace(), torch.randn(5, 1, 6, 6)
    (conv,) = [o for o in Recording(model, Probe(x), after="activation").outputs() if o.layer == "conv"]
    assert conv.note == "no activation follows: its own output"
    with torch.no_grad():
        torch.testing.assert_close(conv.values, model.conv(x))


def test_a_module_that_pools_before_it_activates() -> None:
    torch.manual_seed(0)
    model, x = cnn(1, 3, batch_norm=True).eval(), torch.randn(5, 1, 8, 8)
    (found,) = [
        o for o in Recording(model, Probe(x), layers="conv1", after="activation").outputs()
        if o.layer == "conv1"
    ]  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(found.values, model[:4](x))


def test_the_model_comes_back_as_it_was() -> None:
    model = Twice().train()
    model.register_buffer("seen", torch.zeros(1))
    counting = model.register_forward_pre_hook(lambda m, _: m.seen.add_(1) and None)
    model.idle.eval()
    flags = [module.training for module in model.modules()]
    model.linear.weight.grad = torch.ones(3, 3)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    capture(model, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.rand(1) == expected
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model.linear.weight.grad, torch.ones(3, 3))
    assert model.seen.item() == 0
    assert list(model._forward_pre_hooks) == [counting.id]


def test_a_frozen_model_stays_frozen() -> None:
    model = mlp(3, 2).requires_grad_(False)
    assert not capture(model, torch.randn(4, 3))[1].values.requires_grad
    assert not any(p.requires_grad for p in model.parameters())


def test_an_error_in_the_model_leaves_no_hook() -> None:
    model = mlp(3, 2).train()
    with pytest.raises(InputError, match=r"a batch of shape \(2, 99\)"):
        capture(model, torch.randn(4, 99))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_a_glob_that_matches_nothing_lists_near_names() -> None:
    with pytest.raises(InputError, match="try .*linear1"):
        capture(mlp(3, 2), torch.randn(2, 3), layers="linaer1")


@pytest.mark.parametrize(("name", "value"), [("tokens", "cls"), ("after", "conv")])
def test_unknown_choices_are_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name} = '{value}'"):
        Recording(mlp(3, 2), Probe(torch.randn(2, 3)), **{name: value})  # type: ignore[arg-type]


def test_layers_of_which_none_ran_are_refused() -> None:
    with pytest.raises(InputError, match="1 layers that did not run"):
        capture(Twice(), torch.randn(3, 3), layers="idle")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_inputs_take_the_type_of_the_model(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 3)).to(dtype)
    output = capture(model, torch.randn(2, 3))[1]
    assert output.values.dtype == dtype
    assert output.numpy().dtype.name == ("float64" if dtype == torch.float64 else "float32")


def test_wrapped_models_give_the_names_and_values_of_the_model_inside() -> None:
    torch.manual_seed(0)
    model, x = mlp(3, 2, depth=2), torch.randn(6, 3)
    plain = capture(model, x)
    block = nn.Sequential(torch.compile(model, backend="eager"))
    for wrapped, prefix in (
        (torch.compile(model, backend="eager"), ""),
        (nn.DataParallel(model), ""),
        (block, "0."),
    ):
        for one, other in zip(plain[1:], capture(wrapped, x)[1:], strict=True):  # type: ignore[arg-type]
            assert other.layer == prefix + one.layer
            assert torch.equal(one.values, other.values)


def test_a_compiled_model_that_ran_before_is_still_recorded() -> None:
    model = mlp(3, 2, depth=1)
    model.compile(backend="eager")
    model(torch.randn(4, 3))
    assert [o.layer for o in capture(model, torch.randn(4, 3))] == [
        "input", "flatten", "linear1", "act1", "out",
    ]  # fmt: skip


def test_keyword_and_positional_inputs_reach_the_model() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.linear = nn.Embedding(5, 3), nn.Linear(3, 2)

        def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
            out: Tensor = self.linear(self.embed(tokens).mean(1) * scale[:, None])
            return out

    model, tokens, scale = Pair(), torch.randint(0, 5, (4, 6)), torch.rand(4)
    by_name = capture(model, {"scale": scale, "tokens": tokens})
    by_place = capture(model, (tokens, scale))
    assert [o.layer for o in by_name] == ["input", "embed", "linear"]
    assert torch.equal(by_name[2].values, by_place[2].values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_cuda_stays_there_and_its_outputs_come_back() -> None:
    model = mlp(3, 2).cuda()
    outputs = capture(model, torch.randn(4, 3))
    assert all(o.values.device.type == "cpu" for o in outputs)
    assert all(p.device.type == "cuda" for p in model.parameters())
