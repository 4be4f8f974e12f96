"""Costs, refits, exports and files of nets of any inputs and outputs, and what is none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unknot as uk
from unknot.nets.cost import compare_cost, count_macs, measure_cost, peak_activation_bytes
from unknot.pruning.exports.onnx import export_onnx
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.scoring.scores import score_filters
from unknot.pruning.structure.layers import prunable_layers

pytestmark = pytest.mark.numeric
N = 60


class Tokens(nn.Module):
    """Words and a mask, by keyword; an inner width."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(11, 8), nn.Linear(8, width)
        self.back, self.out = nn.Linear(width, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor | None]:
        x = self.embed(input_ids)
        x = x + self.back(F.relu(self.inner(x)))
        weights = attention_mask[..., None].to(x)
        return {"loss": None, "logits": self.out((x * weights).sum(1) / weights.sum(1))}


class Pair(nn.Module):
    """Two pictures, each through its own convolution."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, width, 3), nn.Conv2d(1, width, 3)
        self.join, self.out = nn.Conv2d(width, 6, 1), nn.Linear(6, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = F.relu(self.left(a)) + F.relu(self.right(b))
        return self.out(F.relu(self.join(both)).mean((2, 3)))


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor | None = None
    kind: str = "binary"


HEADS: dict[str, Callable[[Tensor], Any]] = {
    "[n]": lambda y: y.squeeze(1),
    "([n, 1], scalar)": lambda y: (y, y.square().mean()),
    "dict with [n]": lambda y: {"logit": y[:, 0], "none": None, "score": y.sigmoid()[:, 0]},
    "a dataclass": Answer,
    "transformers": lambda y: model_output()(logits=y),
}


def model_output() -> Any:
    return pytest.importorskip("transformers").modeling_outputs.SequenceClassifierOutput


class Binary(nn.Module):
    def __init__(self, head: str, width: int = 12) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, width, 3), nn.Conv2d(width, 6, 3)
        self.out, self.head = nn.Linear(6, 1), head

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))
        return HEADS[self.head](self.out(y))


def batch(name: str, n: int = N) -> Any:
    torch.manual_seed(0)
    if name == "tokens":
        mask = (torch.arange(7) < torch.randint(2, 8, (n, 1))).long()
        return {"input_ids": torch.randint(0, 11, (n, 7)), "attention_mask": mask}
    x = F.interpolate(torch.randn(n, 2, 4, 4), size=8, mode="bilinear")
    return (x, x[:, :1] + 1) if name == "pair" else x


NETS: dict[str, tuple[Callable[[int], nn.Module], int, dict[str, list[int]]]] = {
    "tokens": (Tokens, 7 * (8 * 12 + 12 * 8) + 8 * 3, {"inner": [6, 7, 8, 9, 10, 11]}),
    "pair": (
        Pair, 36 * (18 * 12 + 9 * 12 + 12 * 6) + 6 * 3,
        {"left": [6, 7, 8, 9, 10, 11], "right": [6, 7, 8, 9, 10, 11]},
    ),
    **{head: (lambda width, head=head: Binary(head, width), 36 * 18 * 12 + 16 * 108 * 6 + 6,
              {"conv1": [6, 7, 8, 9, 10, 11]}) for head in HEADS},
}  # fmt: skip


def whole_and_half(name: str) -> tuple[nn.Module, nn.Module, PruningPlan]:
    """A net, what is left of it without half of some filters, and the plan by which."""
    torch.manual_seed(1)
    make, _, removed = NETS[name]
    model, slim = make(12).eval(), make(6).eval()
    with torch.no_grad():
        for a, b in zip(model.parameters(), slim.parameters(), strict=True):
            b.copy_(a[tuple(map(slice, b.shape))])
    return model, slim, PruningPlan(removed, {}, {}, dict.fromkeys(removed, 12), "mine", ())


def called(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def tensors(inputs: Any) -> list[Tensor]:
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, dict) else inputs)


@pytest.mark.parametrize("name", NETS)
def test_costs_are_those_of_one_sample_for_any_inputs(name: str) -> None:
    model, slim, _ = whole_and_half(name)
    inputs, (_, macs, _) = batch(name, 5), NETS[name]
    assert count_macs(model, inputs) == macs == count_macs(model, batch(name, 1))
    cost = measure_cost(model, inputs, repeats=1, batch_sizes=(1, 7))
    assert (cost.macs, cost.batch_size) == (macs, 5)
    assert [latency.batch_size for latency in cost.latencies] == [1, 7]
    assert 0 < peak_activation_bytes(slim, inputs) < peak_activation_bytes(model, inputs)
    both = compare_cost(model, slim, inputs, repeats=1, batch_sizes=(2,))
    assert both.after.macs < both.before.macs == macs


def test_attention_and_recurrence_are_counted_although_torch_has_faster_ways_for_them() -> None:
    """Projections of attention, its two products, and the two inner layers; by hand."""
    t, d, width = 5, 8, 16
    layer = nn.TransformerEncoderLayer(d, 2, dim_feedforward=width, batch_first=True)
    macs = t * (3 * d * d + d * d + 2 * d * width) + 2 * t * t * d
    assert count_macs(layer.eval(), torch.randn(3, t, d)) == macs
    lstm = nn.LSTM(d, width, batch_first=True)
    assert count_macs(lstm, torch.randn(3, t, d)) == t * 4 * width * (d + width)


def test_arrays_do_for_tensors() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = np.random.default_rng(0).normal(size=(5, 4))
    assert count_macs(model, x) == 36 == measure_cost(model, x, repeats=1).macs  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETS)
def test_a_refit_takes_any_inputs_and_outputs(name: str) -> None:
    model, slim, plan = whole_and_half(name)
    inputs = batch(name)

    def answers(net: nn.Module) -> Tensor:
        with torch.no_grad():
            output = called(net, inputs)
        output = output[0] if isinstance(output, tuple) else output
        keyed = (
            output if isinstance(output, dict) else vars(output) if isinstance(output, Answer) else None
        )
        output = output if keyed is None else keyed.get("logits", keyed.get("logit"))
        assert isinstance(output, Tensor)
        return output.reshape(N, -1)

    wanted, raw = answers(model), answers(slim)
    report = refit(model, slim, plan, [(inputs, torch.zeros(N))] if name != "tokens" else [inputs])
    errors = [float((y - wanted).square().mean()) for y in (raw, answers(slim))]
    assert errors[1] < 0.3 * errors[0] and report.output_after < 0.3 * report.output_before
    assert report.n_points == N


@pytest.mark.parametrize("name", ["tokens", "pair", "[n]", "([n, 1], scalar)"])
def test_an_export_keeps_the_inputs_by_name_and_place(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, _, _ = whole_and_half(name)
    inputs = batch(name, 4)
    if name == "([n, 1], scalar)":  # the scalar of two batches is none of one
        model = nn.Sequential(model, First())
    report = export_onnx(model, inputs, tmp_path / "net.onnx", repeats=1)
    assert report.worst < 1e-4
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    names = {"tokens": ["input_ids", "attention_mask"], "pair": ["input_0", "input_1"]}
    assert [entry.name for entry in session.get_inputs()] == names.get(name, ["input"])
    given = {e.name: t.numpy() for e, t in zip(session.get_inputs(), tensors(inputs), strict=True)}
    found = session.run(None, given)[0]
    with torch.no_grad():
        expected = called(model, inputs)
    expected = expected["logits"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


class First(nn.Module):
    def forward(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0]


class Versioned(nn.Module):
    """As torchvision's MNASNet: it loads weights of a version that it knows only."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.conv(x))).mean((2, 3))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *others: Any) -> None:
        if metadata.get("version") not in (1, 2):
            raise ValueError(f"version should be set to 1 or 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *others)


def planned() -> tuple[nn.Module, PruningPlan, Tensor]:
    torch.manual_seed(0)
    model, x = Versioned().eval(), torch.randn(4, 2, 8, 8)
    return model, uk.plan_pruning(model, score_filters(model, criterion="l1"), x, ratio=0.5), x


def test_a_net_that_asks_for_the_version_of_its_weights_comes_back(tmp_path: Path) -> None:
    model, plan, x = planned()
    slim = uk.prune(model, plan)
    uk.save_pruned(slim, plan, tmp_path / "net", program=False)
    assert torch.equal(uk.load_pruned(Versioned, tmp_path / "net")(x), slim(x))


def test_what_is_not_left_by_the_plan_is_not_saved_under_it(tmp_path: Path) -> None:
    model, plan, _ = planned()
    slim = uk.prune(model, plan)
    other = uk.plan_pruning(
        model, score_filters(model, criterion="l1"), torch.randn(4, 2, 8, 8), ratio=0.2
    )
    for net, by in ((model, plan), (slim, other), (nn.Linear(2, 2), plan)):
        with pytest.raises(uk.InputError, match="layer conv of the pruned model with"):
            uk.save_pruned(net, by, tmp_path / "net", program=False)
    assert not any(tmp_path.iterdir())


def test_what_is_no_model_plan_or_path_is_refused_in_one_line(tmp_path: Path) -> None:
    model, plan, x = planned()
    slim, scores = uk.prune(model, plan), score_filters(model, criterion="l1")
    uk.save_pruned(slim, plan, tmp_path / "net", program=False)
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder.onnx").mkdir()
    save: Any = uk.save_pruned
    load: Any = uk.load_pruned
    doors: list[tuple[Callable[[], object], str]] = [
        (lambda: load(slim, tmp_path / "net"), "factory of type Versioned: expected a function"),
        (lambda: load(None, tmp_path / "net"), "factory of type NoneType"),
        (lambda: load(lambda width: width, tmp_path / "net"), "called without arguments"),
        (lambda: load(lambda: "net", tmp_path / "net"), "a model of type str"),
        (lambda: load(Versioned, None), "folder = None"),
        (lambda: save("net", plan, tmp_path / "new"), "a model of type str"),
        (lambda: save(slim, "plan.json", tmp_path / "new"), "plan of type str"),
        (lambda: save(slim, plan, 3), "folder = 3"),
        (lambda: save(slim, plan, tmp_path / "file"), "which is a file"),
        (lambda: save(slim, plan, tmp_path / "new", outcome={}), "outcome of type dict"),
        (lambda: uk.prune("net", plan), "a model of type str"),  # type: ignore[arg-type]
        (lambda: uk.prune(model, None), "plan of type NoneType"),  # type: ignore[arg-type]
        (lambda: uk.prune(model, scores), "plan of type FilterScores"),  # type: ignore[arg-type]
        (lambda: uk.plan_pruning(model, plan, x, ratio=0.5), "scores of type PruningPlan"),  # type: ignore[arg-type]
        (lambda: uk.plan_pruning(None, scores, x, ratio=0.5), "a model of type NoneType"),  # type: ignore[arg-type]
        (lambda: PruningPlan.from_json(tmp_path / "net"), "which is a folder"),
        (lambda: uk.export_onnx(model, x, tmp_path / "folder.onnx"), "which is a folder"),
        (lambda: uk.export_onnx(model, x, None), "path = None"),  # type: ignore[arg-type]
        (lambda: uk.export_onnx("net", x, tmp_path / "net.onnx"), "a model of type str"),  # type: ignore[arg-type]
        (lambda: uk.export_onnx(model, None, tmp_path / "net.onnx"), "a batch of type NoneType"),  # type: ignore[arg-type]
        (lambda: count_macs(model, "photo.png"), "a batch of type str"),  # type: ignore[arg-type]
        (lambda: compare_cost(model, "slim", x), "a model of type str"),  # type: ignore[arg-type]
        (lambda: refit(model, "slim", plan, x), "a model of type str"),  # type: ignore[arg-type]
        (lambda: refit(model, slim, plan, "photos"), "type str"),
        (lambda: uk.shrink("net", (x, torch.arange(4)), ratio=0.5), "a model of type str"),  # type: ignore[arg-type]
    ]
    for door, said in doors:
        with pytest.raises(uk.InputError, match=said) as refused:
            door()
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists() and not (tmp_path / "net.onnx").exists()


class Head(nn.Linear):
    """A subclass counts as what it is."""


def test_all_linear_layers_but_the_last_are_pruned_by_default() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), Head(144, 10), nn.ReLU(), nn.Linear(10, 8),
        nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    assert list(prunable_layers(model)) == ["0", "3", "5"]
    assert list(prunable_layers(model, ())) == ["0"]
    assert list(prunable_layers(model, ["3", "7"])) == ["0", "3", "7"]
    assert list(prunable_layers(model[3:])) == ["3", "5"]
    assert list(prunable_layers(nn.Sequential(nn.Linear(2, 4), nn.Conv1d(4, 3, 1)))) == ["0", "1"]
    for alone in (nn.Linear(4, 2), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), nn.LSTM(2, 3)):
        with pytest.raises(uk.InputError, match="without convolutions or inner linear layers"):
            prunable_layers(alone)
    encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
    assert list(prunable_layers(encoder)) == ["self_attn", "self_attn.out_proj", "linear1"]


def test_a_multilayer_perceptron_shrinks_like_any_net() -> None:
    """Half of each hidden layer is another half times two: it goes, and nothing is lost."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[8:], layer.bias[8:] = 2 * layer.weight[:8], 2 * layer.bias[:8]
    x = torch.randn(300, 4)
    labels = model(x).argmax(1)
    shrunk = uk.shrink(model, (x, labels), ratio=0.5, repeats=1)
    assert [layer.out_features for layer in shrunk.model if isinstance(layer, nn.Linear)] == [8, 8, 3]
    torch.testing.assert_close(shrunk.model(x), model(x), rtol=1e-2, atol=1e-3)
    assert shrunk.outcome.cost_after.macs == 4 * 8 + 8 * 8 + 8 * 3
