"""Activations replaced in whole models, whichever way they are written."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import relu as imported_relu

from unknot.activations.folds import QFold, ZFold
from unknot.activations.replacement import replace_activations, replacement_report
from unknot.core.errors import InputError

pytestmark = pytest.mark.numeric


class Block(nn.Module):
    """A residual block as torchvision writes it, with calls instead of modules."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        identity = x if self.down is None else self.down(x)
        out += identity
        return out.relu_()


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([Block(4, 4, 1), Block(4, 8, 2)])
        self.unused = nn.Linear(3, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = F.dropout(x.mean((2, 3)), 0.5, training=self.training)
        return self.fc(F.relu(x))  # type: ignore[no-any-return]


def by_hand(model: ResNet, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """The ResNet in eval mode with another activation."""
    x = act(model.stem[1](model.stem[0](x)))
    for block in model.blocks:
        out = act(block.bn1(block.conv1(x)))  # type: ignore[operator]
        x = act(block.bn2(block.conv2(out)) + (x if block.down is None else block.down(x)))  # type: ignore[operator]
    return model.fc(act(x.mean((2, 3))))  # type: ignore[no-any-return]


def test_functional_resnet() -> None:
    model, x = ResNet().eval(), torch.randn(2, 3, 9, 9)
    before = model(x)
    new = replace_activations(model, QFold)
    torch.testing.assert_close(new(x), by_hand(model, x, QFold()))
    assert torch.equal(model(x), before) and "QFold" not in repr(model)
    report = replacement_report(new)
    assert report.modules == ("stem.2",)
    assert report.functions == (
        "relu", "blocks.0.relu", "blocks.0.relu_", "blocks.1.relu", "blocks.1.relu_",
    )  # fmt: skip
    assert report.untouched == ()
    assert "replaced functional calls, now the modules: 5\n  relu\n" in str(report)
    assert new.state_dict().keys() == model.state_dict().keys()
    assert isinstance(new, ResNet) and isinstance(new.blocks, nn.ModuleList)
    assert isinstance(new.blocks[1], Block) and new.blocks[1].stride == 2


def test_rewritten_model_trains_copies_and_follows_its_mode() -> None:
    new, x = replace_activations(ResNet(), ZFold), torch.randn(4, 3, 9, 9)
    new.train()
    torch.manual_seed(0)
    first, second = new(x), new(x)
    assert not torch.equal(first, second)  # dropout
    first.sum().backward()
    assert all(p.grad is not None for n, p in new.named_parameters() if "unused" not in n)
    twin = copy.deepcopy(new.eval())
    assert torch.equal(twin(x), new(x)) and torch.equal(new(x), new(x))
    assert replacement_report(twin) == replacement_report(new)
    assert replacement_report(replace_activations(new, QFold, where=ZFold)).modules[0] == "relu"


def test_modules_nested_shared_subclassed_and_in_place() -> None:
    class Own(nn.ReLU):
        pass

    shared = nn.ReLU(inplace=True)
    inner = nn.Sequential(nn.Linear(2, 2), shared, nn.GELU())
    model = nn.Sequential(nn.Linear(2, 2), shared, inner, nn.ModuleDict({"act": Own()})["act"])
    new = replace_activations(model, ZFold)
    assert isinstance(model[1], nn.ReLU)
    assert new[1] is new[2][1] and isinstance(new[1], ZFold)  # type: ignore[index]
    assert isinstance(new[3], ZFold) and isinstance(new[2][2], nn.GELU)  # type: ignore[index]
    assert new[3] is not new[1]  # type: ignore[index]
    assert torch.equal(new[0].weight, model[0].weight)  # type: ignore[index]
    assert replacement_report(new).modules == ("1", "3", "2.1")
    both = replace_activations(model, ZFold, where=(nn.ReLU, nn.GELU))
    assert isinstance(both[2][2], ZFold)  # type: ignore[index]
    assert isinstance(replace_activations(nn.ReLU(), ZFold), ZFold)


def test_new_parameters_take_the_dtype_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double()
    new = replace_activations(model, lambda: ZFold(learnable=True))
    assert {p.dtype for p in new.parameters()} == {torch.float64}


class Written(nn.Module):
    """Every way of calling a function, and one that is not one."""

    def __init__(self) -> None:
        super().__init__()
        self.held = F.relu
        self.linear = nn.Linear(3, 3)

    def again(self, x: Tensor) -> Tensor:
        return imported_relu(x) + 1

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.linear(x)) - F.relu(input=x)
        x = self.held(x - 0.5) + self.again(x)
        F.relu(x, inplace=True)
        return helper(x - 1).sigmoid()


def helper(x: Tensor) -> Tensor:
    return x.relu() * 2


def test_every_way_of_calling_a_function() -> None:
    model, x, act = Written(), torch.randn(4, 3), QFold()
    new = replace_activations(model, QFold)
    y = act(model.linear(x)) - act(x)
    y = act(act(y - 0.5) + act(y) + 1)
    torch.testing.assert_close(new(x), (act(y - 1) * 2).sigmoid())
    assert len(replacement_report(new).functions) == 6
    assert model.held is F.relu
    gates = replace_activations(model, QFold, where=nn.Sigmoid)
    assert len(replacement_report(gates).functions) == 1


class Discarding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        self.act(x)
        return x


def test_in_place_module_whose_result_is_discarded() -> None:
    x = torch.randn(5)
    torch.testing.assert_close(replace_activations(Discarding(), QFold)(x), QFold()(2 * x))


class ByData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return F.relu(x)
        return x


class Optional(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.relu(x) if mask is None else x * mask


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if isinstance(x, Tensor) else x


class Within(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return F.relu(x)


class Remembers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.last = F.relu(x)
        return self.last


class Modal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.training else x + 1


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + torch.randn(3))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ByData, "depends on the data"),
        (Optional, "optional argument (mask)"),
        (Asks, "asks `isinstance(x, Tensor)`"),
        (Within, "with block"),
        (Remembers, "sets last"),
        (Modal, "another way in training mode"),
        (Noisy, "do not depend on its input"),
    ],
)
def test_what_cannot_be_traced_stays_and_is_told(kind: type[nn.Module], reason: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), kind())
    with pytest.warns(UserWarning, match="1 activations were not replaced"):
        new = replace_activations(model, ZFold)
    report = replacement_report(new)
    assert report.modules == ("1",) and report.functions == ()
    assert len(report.untouched) == 1 and f"2 ({kind.__name__})" in report.untouched[0]
    assert "relu(), line" in report.untouched[0] and reason in report.untouched[0]
    assert vars(new[2]).keys() == vars(kind()).keys()  # type: ignore[index]
    with pytest.raises(InputError, match="relu"):
        replace_activations(kind(), ZFold)


def test_fused_inference_of_a_transformer_layer_is_switched_off() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    new, x = replace_activations(model, ZFold), torch.randn(3, 4, 8)
    assert replacement_report(new).functions == ("layers.0.activation", "layers.1.activation")
    padding = torch.zeros(3, 4, dtype=torch.bool)
    padding[0, 2:] = True
    trained = new.train()(x, src_key_padding_mask=padding)
    with torch.no_grad():
        used = new.eval()(x, src_key_padding_mask=padding)
    torch.testing.assert_close(used[~padding], trained[~padding])


def test_hugging_face_model() -> None:
    if os.environ.get("UNKNOT_REQUIRE_ALL") == "1":
        transformers: Any = importlib.import_module("transformers")
    else:
        transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=30
    )
    model = transformers.BertModel(config).eval()
    words = torch.randint(0, 30, (2, 7))
    new = replace_activations(model, QFold, where=nn.GELU)
    report = replacement_report(new)
    assert not report.untouched and len(report.modules) + len(report.functions) == 2
    assert not torch.equal(new(words).last_hidden_state, model(words).last_hidden_state)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_channels=1
    )
    images = replace_activations(transformers.ResNetModel(config), ZFold)
    assert not any(isinstance(m, nn.ReLU) for m in images.modules())


def test_nothing_to_replace() -> None:
    with pytest.raises(InputError, match="it holds Linear"):
        replace_activations(nn.Sequential(nn.Linear(1, 1)), ZFold)
    with pytest.raises(InputError, match="a model without a report"):
        replacement_report(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"new": nn.ReLU()}, r"new = ReLU\(\): expected what makes a module"),
        ({"new": lambda: 5}, "that makes a int: expected a torch.nn.Module"),
        ({"new": nn.Linear}, "expected what makes a module without arguments; pass a lambda"),
        ({"where": nn.ReLU()}, r"where = ReLU\(\): expected a class of modules"),
        ({"where": "relu"}, "where = 'relu': expected a class of modules"),
        ({"where": (nn.ReLU, int)}, "expected a class of modules, or several"),
        ({"model": nn.ReLU}, "a class ReLU: expected a torch.nn.Module; pass the model itself"),
    ],
)
def test_what_makes_no_module_is_refused(change: dict[str, Any], says: str) -> None:
    given = {"model": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "new": nn.Tanh, **change}
    with pytest.raises(InputError, match=says) as caught:
        replace_activations(**given)
    assert "\n" not in str(caught.value)


def test_a_report_is_a_table_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Block(4, 4, 1))
    report = replacement_report(replace_activations(model, ZFold))
    columns = report._columns()
    assert columns["what"] == ["module", "functional call", "functional call"]
    assert columns["name"] == [*report.modules, *report.functions] and repr(report) == str(report)
