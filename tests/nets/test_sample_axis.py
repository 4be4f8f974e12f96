"""Every row is a sample, wherever a layer has them; a layer of which that is not known is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

import unknot as uk
from unknot.nets.follower import OUTPUT
from unknot.nets.probe import Probe
from unknot.nets.recording import Recording, capture

SCALE = uk.Scale(k=4, hops=1)


class Recurrent(nn.Module):
    """Time first, as is torch's default."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Linear(4, 6)
        self.core = kind(6, 6, **options)
        self.out = nn.Linear(6 * (1 + options.get("bidirectional", False)), 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.core(self.into(x).transpose(0, 1))
        scores: Tensor = self.out(y[-1])
        return scores


@pytest.mark.parametrize("steps", [1, 2, 3, 7])  # 2 and 3 are the numbers of samples of the trial
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"num_layers": 3}])
def test_recurrent_layers_with_time_first(steps: int, n: int, options: dict[str, Any]) -> None:
    x = torch.randn(n, steps, 4, generator=torch.Generator().manual_seed(1))
    for kind in (nn.GRU, nn.LSTM):
        model = Recurrent(kind, **options)
        found = {o.layer: o.values for o in capture(model, x, batch_size=6)}
        with torch.no_grad():
            states = model.core(model.into(x).transpose(0, 1))[0].transpose(0, 1)
            torch.testing.assert_close(found["core"], states)
            torch.testing.assert_close(found["out"], model.out(states[:, -1]))


def test_a_state_of_two_layers_alone_has_its_samples_on_the_second_axis() -> None:
    class State(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x, -x])

    x = torch.randn(6, 3)
    state = capture(nn.Sequential(State(), nn.Tanh()), x)[1]
    assert torch.equal(state.values, torch.stack([x, -x], 1))


def test_attention_and_transformers_with_time_first() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)
            layer = nn.TransformerEncoderLayer(8, 2, 16)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1)

        def forward(self, x: Tensor) -> Tensor:
            y = x.transpose(0, 1)
            y = self.attention(y, y, y)[0]
            y = self.encoder(y)
            out: Tensor = self.decoder(y, y).mean(0)
            return out

    torch.manual_seed(0)
    model, x = Attending().eval(), torch.randn(9, 5, 8)
    found = {(o.layer, o.call): o.values for o in Recording(model, Probe(x), tokens="all").outputs()}
    with torch.no_grad():
        y = x.transpose(0, 1)
        attended = model.attention(y, y, y)[0]
        torch.testing.assert_close(found["attention", 0], attended.transpose(0, 1))
        encoded = model.encoder.layers[0].norm1(
            attended + model.encoder.layers[0].self_attn(attended, attended, attended)[0]
        )
        torch.testing.assert_close(found["encoder.layers.0.norm1", 0], encoded.transpose(0, 1))
        torch.testing.assert_close(found[OUTPUT, 0], model(x))
    assert all(len(values) == 9 for values in found.values())
    assert ("encoder.layers.1.self_attn", 0) in found and ("decoder.layers.0.linear2", 0) in found


class Windows(nn.Module):
    """Attention in windows, which are folded into the batch; then a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.windowed, self.positions, self.out = nn.Linear(4, 4), nn.Embedding(2, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.windowed(x.reshape(-1, 4)).reshape(len(x), 2, 4)
        scores: Tensor = self.out((y + self.positions(torch.arange(2))).flatten(1))
        return scores


def test_rows_that_are_no_samples_are_left_out_and_named() -> None:
    profile = uk.measure(Windows(), torch.randn(30, 2, 4), by="layer", scale=SCALE)
    assert profile.layers() == ["input", "out"]
    assert profile.notes == (
        "windowed returned a tensor of which a sample has several rows",
        "positions returned a tensor without an axis of samples",
    )
    with pytest.raises(uk.InputError, match=r"1 without .* \(returned a tensor without an axis"):
        uk.measure(Windows(), torch.randn(30, 2, 4), by="layer", scale=SCALE, layers="positions")


def test_of_several_calls_each_is_judged_by_itself() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.table = nn.Parameter(torch.randn(5, 3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.linear(x) @ self.linear(self.table).T
            return self.linear(torch.stack([x, x])).sum(0) + out.sum(1, keepdim=True)

    model, x = Shared(), torch.randn(8, 3)
    recording = Recording(model, Probe(x))
    outputs = {(o.layer, o.call): o.values for o in recording.outputs() if o.layer == "linear"}
    assert list(outputs) == [("linear", 0), ("linear", 2)]
    with torch.no_grad():
        torch.testing.assert_close(outputs["linear", 0], model.linear(x))
        torch.testing.assert_close(
            outputs["linear", 2].flatten(1), model.linear(torch.stack([x, x], 1)).mean(1)
        )
    assert recording.notes == ("linear (call 1) returned a tensor without an axis of samples",)


class Across(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function, self.last = function, nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(x))


def test_a_table_of_samples_by_samples_has_no_axis_of_samples() -> None:
    model = nn.Sequential(Across(lambda x: x @ x.T), nn.Flatten(0))
    with pytest.raises(uk.InputError, match="two axes of the number of samples"):
        capture(model, torch.randn(9, 4), layers="0")


def test_what_depends_on_the_batch_or_on_chance_says_so() -> None:
    def rows(function: Callable[[Tensor], Any]) -> dict[str, str]:
        x = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
        profile = uk.measure(Across(function), x, by="layer", scale=SCALE)
        return {row.layer: row.note for row in profile.rows}

    assert rows(torch.tanh)["last"] == ""
    assert rows(lambda x: x - x.mean(0))["last"] == "a sample's output depends on the others of its batch"
    noisy = rows(lambda x: x + torch.randn_like(x))
    assert noisy["last"] == "its output is random: it differs from run to run"
    assert rows(lambda x: F.dropout(x, 0.5, training=True))["last"] == noisy["last"]


def test_rows_in_another_order_than_the_samples_are_no_rows() -> None:
    model = Across(lambda x: x[x[:, 0].argsort()])
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(uk.InputError, match="in another order than the samples"):
        capture(model, x)
    lengths = torch.full((6,), 5)
    packed = Across(lambda x: pack_padded_sequence(x, lengths[: len(x)], batch_first=True))
    with pytest.raises(uk.InputError, match="of which a sample has several rows"):
        capture(packed, torch.randn(6, 5, 3))


@pytest.mark.parametrize("fraction", [torch.float16, torch.bfloat16])
def test_rounding_is_no_mixing(fraction: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 4)).to(fraction)
    assert not any(o.note for o in Recording(model, Probe(torch.randn(20, 512))).outputs())


def test_a_layer_that_runs_for_some_samples_only_is_refused_and_none_is_made_up() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.rare = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.always(x)
            return self.rare(y) if x.sum() > 0 else y

    x = torch.ones(10, 3)
    x[4:8] = -0.5
    with pytest.raises(uk.InputError, match="layer rare, call 0, that ran for 6 of 10 samples"):
        capture(Sometimes(), x, batch_size=4)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_no_sample_runs_alone(n: int) -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.out(self.conv(x).mean((2, 3), keepdim=True).squeeze())
            return scores

    model, x = Squeezing(), torch.randn(n, 1, 5, 5)
    found = {o.layer: o.values for o in Recording(model, Probe(x), batch_size=4).outputs()}
    with torch.no_grad():
        torch.testing.assert_close(found["out"], model.out(model.conv(x).mean((2, 3))))
    assert torch.equal(found[OUTPUT], found["out"])
    for after in ("activation", "pooling"):
        followed = Recording(model, Probe(x), batch_size=4, after=after)  # type: ignore[arg-type]
        assert all(len(output.values) == n for output in followed.outputs())


NORMS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight_norm": weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", NORMS)
def test_layers_with_parametrizations_are_measured_as_others_are(norm: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(NORMS[norm](nn.Linear(8, 16)), nn.ReLU(), NORMS[norm](nn.Linear(16, 2))).eval()
    x = torch.randn(20, 8)
    outputs = capture(model, x)
    assert [o.layer for o in outputs] == ["input", "0", "1", "2"]
    with torch.no_grad():
        torch.testing.assert_close(outputs[1].values, model[0](x))
        torch.testing.assert_close(outputs[3].values, model(x))
    assert Recording(model, Probe(x)).notes == ()


def test_convolutions_with_parametrizations_are_followed_to_their_activation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.ReLU()).eval()
    x = torch.randn(20, 1, 5, 5)
    profile = uk.measure(model, x, by="filter", after="activation", scale=SCALE)
    assert [(row.layer, row.filter) for row in profile.rows] == [("0", 0), ("0", 1), ("0", 2)]
    conv = list(Recording(model, Probe(x), layers="0", after="activation").outputs())[1]
    with torch.no_grad():
        torch.testing.assert_close(conv.values, model(x))


def test_a_block_with_parameters_of_its_own_is_a_layer_beside_its_children() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.strength = nn.Linear(3, 3), nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.strength * self.inner(x)
            return out

    model, x = nn.Sequential(Scaled(), nn.Tanh()), torch.randn(5, 3)
    outputs = capture(model, x)
    assert [o.layer for o in outputs] == ["input", "0.inner", "0", "1"]
    torch.testing.assert_close(outputs[2].values, 2 * outputs[1].values)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["scripted", "scripted child", "traced", "exported", "exported child"])
def test_what_python_does_not_run_is_refused_in_one_line(kind: str) -> None:
    net, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(20, 8)
    made: nn.Module = {
        "scripted": torch.jit.script,
        "scripted child": lambda m: nn.Sequential(torch.jit.script(m)),
        "traced": lambda m: torch.jit.trace(m, x),
        "exported": lambda m: torch.export.export(m, (x,)).module(),
        "exported child": lambda m: nn.Sequential(torch.export.export(m, (x,)).module()),
    }[kind](net)  # type: ignore[no-untyped-call]
    labels = torch.arange(20) % 2
    tool = "torch.export" if "exported" in kind else "torch.jit"
    for ask in (
        lambda: uk.measure(made, x, by="layer", scale=SCALE),
        lambda: uk.Monitor(made, x, by="layer", scale=SCALE, background=False),
        lambda: uk.replace_activations(made, uk.ZFold),
        lambda: uk.activations.init_by_gain(made, uk.ZFold()),
        *(
            ()
            if tool == "torch.jit"
            else (
                lambda: uk.nets.train(made, x, labels, epochs=1),
                lambda: uk.nets.measure_accuracy(made, x, labels),
            )
        ),
    ):
        with pytest.raises(
            uk.InputError, match=f"made by {tool}: expected modules that Python runs"
        ) as e:
            ask()
        assert "\n" not in str(e.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_models_are_trained_and_judged() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2)), torch.randn(100, 2)
    labels, scripted = (x[:, 0] > 0).long(), torch.jit.script(net)
    curve = uk.nets.train(scripted, x, labels, epochs=50, learning_rate=0.05)
    assert curve.train_accuracy[-1] == uk.nets.measure_accuracy(scripted, x, labels) > 0.95


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_activation_has_the_gain_of_its_original() -> None:
    assert uk.activations.gain(torch.jit.script(nn.ReLU())) == pytest.approx(np.sqrt(2), rel=1e-9)


class Dictionary(nn.Module):
    """Takes the batch itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, batch: Any) -> Tensor:
        scores: Tensor = self.linear(
            batch["a"] * batch["b"] if isinstance(batch, dict) else batch[0] * batch[1]
        )
        return scores


def test_a_forward_of_one_parameter_gets_all_inputs_together() -> None:
    model, a, b = Dictionary(), torch.randn(30, 3), torch.rand(30, 3)
    with torch.no_grad():
        expected = model.linear(a * b)
    for inputs in ({"a": a, "b": b}, (a, b)):
        torch.testing.assert_close(capture(model, inputs, layers="linear")[1].values, expected)  # type: ignore[arg-type]
    assert capture(nn.Sequential(nn.Tanh()), {"input": a})[1].layer == "0"


def test_running_out_of_memory_is_no_matter_of_shapes() -> None:
    def fail(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    with pytest.raises(
        uk.InputError, match=r"^a batch of 2 samples \(CUDA out of memory.*fits into mem"
    ) as e:
        capture(Across(fail), torch.randn(6, 3))
    assert "\n" not in str(e.value) and "shape" not in str(e.value)
    with pytest.raises(uk.InputError, match="can't allocate memory.*fits into memory"):
        capture(Across(lambda x: x.new_empty(1 << 45)), torch.randn(6, 3))
