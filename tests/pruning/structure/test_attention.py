"""An attention that can be cut: uncut it is torch's, cut it is torch's that does not read the head."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unknot.core.errors import InputError
from unknot.pruning.exports.onnx import export_onnx
from unknot.pruning.structure.attention import NarrowAttention, narrow

N, L, S, WIDTH, HEADS = 3, 5, 7, 16, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without biases": {"bias": False},
    "other widths of keys and values": {"kdim": 6, "vdim": 9},
    "a learnt key and value": {"add_bias_kv": True},
    "a key and value of zero": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "kdim": 6, "vdim": 9},
}


def attention(batch_first: bool = True, dropout: float = 0.0, **options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=batch_first, **options)
    for parameter in made.parameters():  # biases are zero at first
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


def sequences(made: nn.MultiheadAttention, batched: bool = True) -> list[Tensor]:
    torch.manual_seed(1)
    sizes = ((L, WIDTH), (S, made.kdim), (S, made.vdim))
    found = [torch.randn(N, *size) for size in sizes]
    if not batched:
        return [t[0] for t in found]
    return found if made.batch_first else [t.transpose(0, 1) for t in found]


def masks(kind: str) -> dict[str, Tensor | None]:
    """By the names of the arguments; no place is left without a key."""
    torch.manual_seed(2)
    hidden = torch.rand(L, S) < 0.3
    hidden[:, 0] = False
    padding = torch.zeros(N, S, dtype=torch.bool)
    padding[0, 4:] = padding[2, 2:] = True
    of_heads = torch.randn(N * HEADS, L, S)
    return {
        "none": {},
        "bool": {"attn_mask": hidden},
        "float": {"attn_mask": torch.randn(L, S)},
        "for each head": {"attn_mask": of_heads},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": hidden, "key_padding_mask": padding},
        "both as numbers": {"attn_mask": of_heads, "key_padding_mask": torch.randn(N, S)},
    }[kind]  # type: ignore[return-value]


def same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=1e-5)
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "kind", ["none", "bool", "float", "for each head", "padding", "both", "both as numbers"]
)
def test_uncut_it_is_that_of_torch(options: dict[str, Any], kind: str) -> None:
    for batch_first, weights, average in itertools.product((True, False), (True, False), (True, False)):
        original = attention(batch_first, **options)
        inputs, arguments = sequences(original), masks(kind)
        arguments |= {"need_weights": weights, "average_attn_weights": average}  # type: ignore[dict-item]
        same(narrow(original)(*inputs, **arguments), original(*inputs, **arguments))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_uncut_it_is_that_of_torch_for_one_sequence(options: dict[str, Any]) -> None:
    original = attention(**options)
    inputs = sequences(original, batched=False)
    padding = torch.zeros(S, dtype=torch.bool).index_fill(0, torch.tensor([1, 6]), True)
    for weights, pad in itertools.product((True, False), (None, padding)):
        arguments = {"need_weights": weights, "key_padding_mask": pad}
        same(narrow(original)(*inputs, **arguments), original(*inputs, **arguments))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_a_causal_mask_counts_once(weights: bool, padded: bool) -> None:
    original = attention()
    x = sequences(original)[0]
    arguments: dict[str, Any] = {
        "attn_mask": nn.Transformer.generate_square_subsequent_mask(L), "is_causal": True,
        "need_weights": weights,
    }  # fmt: skip
    if padded:
        arguments["key_padding_mask"] = torch.zeros(N, L).index_fill(1, torch.tensor([4]), -torch.inf)
    same(narrow(original)(x, x, x, **arguments), original(x, x, x, **arguments))


def test_dropout_is_that_of_torch() -> None:
    original = attention(dropout=0.4).train()
    inputs = sequences(original)
    for weights in (True, False):
        outputs = []
        for each in (narrow(original), original):
            torch.manual_seed(3)
            outputs.append(each(*inputs, need_weights=weights))
        same(*outputs)
    changed = narrow(original).eval()
    assert torch.equal(changed(*inputs)[0], changed(*inputs)[0]) and original.training


def without_head(made: NarrowAttention, head: int) -> NarrowAttention:
    """As a surgeon would cut it: rows of queries, keys and values, columns of the projection."""
    cut = copy.deepcopy(made)
    width = cut.head_dim
    rows = cut.num_heads * width
    left = torch.tensor([i for i in range(rows) if i // width != head])
    thirds = torch.cat([left + third * rows for third in range(3)])

    def keep(owner: nn.Module, name: str, kept: Tensor, dim: int) -> None:
        old = getattr(owner, name)
        if old is not None:
            setattr(owner, name, nn.Parameter(old.detach().index_select(dim, kept)))

    keep(cut, "in_proj_weight", thirds, 0)
    keep(cut, "in_proj_bias", thirds, 0)
    for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        keep(cut, name, left, 0)
    keep(cut, "bias_k", left, 2)
    keep(cut, "bias_v", left, 2)
    keep(cut.out_proj, "weight", left, 1)
    cut.num_heads -= 1
    return cut


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("weights", [True, False])
def test_without_a_head_it_is_the_original_that_does_not_read_it(
    options: dict[str, Any], weights: bool
) -> None:
    original = attention(**options)
    cut = without_head(narrow(original), head=2)
    before = {k: v.clone() for k, v in original.state_dict().items()}
    blind = copy.deepcopy(original)
    with torch.no_grad():
        blind.out_proj.weight[:, 8:12] = 0
    inputs = sequences(original)
    arguments: dict[str, Any] = masks("both") | {"need_weights": weights, "average_attn_weights": False}  # type: ignore[dict-item]
    expected, products = blind(*inputs, **arguments)
    same(cut(*inputs, **arguments), (expected, None if products is None else products[:, [0, 1, 3]]))
    assert all(torch.equal(before[k], v) for k, v in original.state_dict().items())


@pytest.mark.parametrize("weights", [True, False])
def test_without_some_of_the_width_of_each_head_it_keeps_its_scale(weights: bool) -> None:
    """Dimension 1 of every head: queries, keys and values without it."""
    original = attention()
    blind = copy.deepcopy(original)
    gone = torch.arange(1, WIDTH, WIDTH // HEADS)
    with torch.no_grad():  # in the products of queries and keys, and where the projection reads it
        blind.in_proj_weight[gone] = 0
        blind.in_proj_bias[gone] = 0
        blind.out_proj.weight[:, gone] = 0
    cut = narrow(copy.deepcopy(original))
    left = torch.tensor([i for i in range(WIDTH) if i not in gone])
    rows = torch.cat([left + third * WIDTH for third in range(3)])
    cut.in_proj_weight = nn.Parameter(original.in_proj_weight.detach()[rows])
    cut.in_proj_bias = nn.Parameter(original.in_proj_bias.detach()[rows])
    cut.out_proj.weight = nn.Parameter(original.out_proj.weight.detach()[:, left])
    cut.head_dim = 3
    inputs = sequences(original)
    same(cut(*inputs, need_weights=weights), blind(*inputs, need_weights=weights))


def test_the_channels_that_it_takes_and_returns_can_go() -> None:
    original = attention()
    blind, cut = copy.deepcopy(original), narrow(copy.deepcopy(original))
    left = torch.tensor([0, 1, 4, 5, 7, 8, 9, 12, 14])
    x = sequences(original)[0]
    with torch.no_grad():
        blind.in_proj_weight[:, [i for i in range(WIDTH) if i not in left]] = 0
    cut.in_proj_weight = nn.Parameter(original.in_proj_weight.detach()[:, left])
    cut.out_proj.weight = nn.Parameter(original.out_proj.weight.detach()[left])
    cut.out_proj.bias = nn.Parameter(original.out_proj.bias.detach()[left])
    y, (expected, weights) = x[..., left], blind(x, x, x)
    same(cut(y, y, y), (expected[..., left], weights))


def layer(norm_first: bool = False, activation: str = "relu") -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    made = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 24, batch_first=True, norm_first=norm_first, activation=activation
    )
    return made.eval()


def narrowed(model: nn.Module) -> nn.Module:
    """A copy in which every attention can be cut and lacks two heads: an odd number has no fast path."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, without_head(without_head(narrow(child), 3), 1))
    return model


def blinded(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.out_proj.weight[:, [4, 5, 6, 7, 12, 13, 14, 15]] = 0
    return model


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # torch itself does
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_an_encoder_does_not_pass_it_by(norm_first: bool, padded: bool) -> None:
    """In eval mode without gradients torch's layers read the parameters of an attention themselves."""
    encoder = nn.TransformerEncoder(layer(norm_first), 2, enable_nested_tensor=not norm_first)
    encoder.eval()
    x = torch.randn(N, S, WIDTH)
    padding = masks("padding")["key_padding_mask"] if padded else None
    with torch.no_grad():
        found = narrowed(encoder)(x, src_key_padding_mask=padding)
    expected = blinded(encoder)(x, src_key_padding_mask=padding)  # with gradients: the plain way
    if padding is not None:  # what is padded may be anything
        found, expected = (t.masked_fill(padding[..., None], 0) for t in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_decoder_layer_takes_it() -> None:
    torch.manual_seed(0)
    decoder = nn.TransformerDecoderLayer(WIDTH, HEADS, 24, batch_first=True).eval()
    mask = nn.Transformer.generate_square_subsequent_mask(L)
    inputs = torch.randn(N, L, WIDTH), torch.randn(N, S, WIDTH)
    found, expected = (
        each(*inputs, tgt_mask=mask, tgt_is_causal=True) for each in (narrowed(decoder), blinded(decoder))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_it_learns_as_that_of_torch() -> None:
    """One step of the same descent: the parameters of the heads that are left move alike."""
    original = attention()
    cut = without_head(narrow(copy.deepcopy(original)), 0)
    blind = copy.deepcopy(original)
    with torch.no_grad():
        blind.out_proj.weight[:, :4] = 0
    for each in (cut, blind):
        each.train()(*sequences(original))[0].square().mean().backward()
    torch.testing.assert_close(cut.out_proj.weight.grad, blind.out_proj.weight.grad[:, 4:])
    rows = [i for i in range(3 * WIDTH) if i % WIDTH >= 4]
    torch.testing.assert_close(cut.in_proj_weight.grad, blind.in_proj_weight.grad[rows])


def test_parameters_and_their_names_are_those_of_the_original() -> None:
    original = attention(add_bias_kv=True)
    made = narrow(original)
    assert list(made.state_dict()) == list(original.state_dict())
    assert all(made.get_parameter(n) is p for n, p in original.named_parameters())
    assert narrow(made) is made
    made.in_proj_weight = nn.Parameter(torch.zeros(3, WIDTH))
    assert original.in_proj_weight.shape == (3 * WIDTH, WIDTH)


def test_it_exports(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.out = without_head(narrow(attention()), 3), nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))

    report = export_onnx(Net().eval(), torch.randn(N, L, WIDTH), tmp_path / "net.onnx", repeats=2)
    assert report.worst < 1e-4


def test_what_it_cannot_do_is_refused() -> None:
    class Other(nn.MultiheadAttention):
        pass

    with pytest.raises(InputError, match="an attention of class Other: expected nn.MultiheadAttention"):
        narrow(Other(8, 2))
    cut = without_head(narrow(attention()), 0)
    inputs = sequences(cut)
    with pytest.raises(InputError, match=r"attn_mask of shape \(12, 5, 7\) .* 3 heads that are left"):
        cut(*inputs, attn_mask=torch.zeros(N * HEADS, L, S))
    with pytest.raises(InputError, match="is_causal without attn_mask"):
        cut(*inputs, is_causal=True)
