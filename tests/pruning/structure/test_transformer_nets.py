"""Transformers as they are written: heads, inner widths and embeddings go, and what is left is right."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.masked import call, difference, masked_run, numbers
from torch import Tensor, nn

import unknot as uk
from unknot.nets.cost import count_macs
from unknot.pruning.planning.plan import PruningPlan
from unknot.pruning.refitting.reconstruction import refit
from unknot.pruning.scoring.scores import score_filters

pytestmark = pytest.mark.numeric
N = 40
WIDTHS: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
}  # fmt: skip
PATCHES = {**WIDTHS, "image_size": 32, "patch_size": 8}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}
KEY_HEADS = {"num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", PATCHES),
    "deit": ("DeiTForImageClassification", PATCHES),
    "swin": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4],
         "window_size": 4},
    ),
    "bert": ("BertForSequenceClassification", {**WIDTHS, "max_position_embeddings": 32}),
    "llama": ("LlamaForCausalLM", {**WIDTHS, **KEY_HEADS, "tie_word_embeddings": True}),
    "llama, eager": ("LlamaForCausalLM", {**WIDTHS, **KEY_HEADS, "attn_implementation": "eager"}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
}  # fmt: skip


class Encoder(nn.Module):
    """torch's own layers: ``[n, 6, 8] -> [n, 10]``."""

    def __init__(self, layer: str = "encoder", **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        options = {"d_model": 32, "nhead": 4, "dim_feedforward": 48, "batch_first": True} | options
        self.decodes = layer == "decoder"
        if self.decodes:
            self.layers: nn.Module = nn.TransformerDecoderLayer(**options)
        else:
            of: Any = nn.TransformerEncoderLayer(**options)
            self.layers = nn.TransformerEncoder(of, 2, enable_nested_tensor=False)
        self.out, self.batch_first = nn.Linear(32, 10), options["batch_first"]

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.layers(x, x.flip(-2).tanh()) if self.decodes else self.layers(x)
        return self.out(y.mean(1 if self.batch_first else 0))  # type: ignore[no-any-return]


class Separate(nn.Module):
    """Keys and values of other widths than the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 32), nn.Linear(8, 24), nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(32, 4, kdim=24, vdim=16, batch_first=True)
        self.linear1, self.linear2, self.out = nn.Linear(32, 48), nn.Linear(48, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        y = q + self.attention(q, self.k(x), self.v(x), need_weights=False)[0]
        return self.out((y + self.linear2(F.gelu(self.linear1(y)))).mean(1))  # type: ignore[no-any-return]


OURS: dict[str, Callable[[], nn.Module]] = {
    "encoder": Encoder,
    "encoder, norm first, without biases": lambda: Encoder(norm_first=True, bias=False),
    "encoder of sequences first": lambda: Encoder(batch_first=False),
    "decoder": lambda: Encoder("decoder"),
    "separate": Separate,
}
NAMES = [*MODELS, *OURS]
HEADS = r"query|q_proj|c_attn|self_attn$|multihead_attn$|attention$"
INNER = r"fc1$|intermediate|up_proj|c_fc$|linear1$"
EMBEDDING = r"fc2$|layer\.\d\.output\.dense|down_proj|mlp\.c_proj|linear2$"


def built(name: str) -> nn.Module:
    """In eval mode; no gain or bias is left at a value that would hide a fault."""
    torch.manual_seed(0)
    if name in OURS:
        model = OURS[name]()
    else:
        transformers = pytest.importorskip("transformers")
        kind, options = MODELS[name]
        config = re.split("For|LMHead", kind)[0] + "Config"
        if "Image" not in kind:
            options = options | {"vocab_size": 100}
        options = dict(options)
        how = options.pop("attn_implementation", None)
        made = getattr(transformers, config)(num_labels=10, **options)
        if how:
            made._attn_implementation = how
        model = getattr(transformers, kind)(made)
    with torch.no_grad():
        for parameter in model.parameters():
            if float(parameter.std()) < 1e-6:  # gains, biases
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.eval()


def inputs(name: str, n: int = N, seed: int = 1) -> Any:
    generator = torch.Generator().manual_seed(seed)
    if name in OURS:
        return torch.randn(n, 6, 8, generator=generator)
    if "Image" in MODELS[name][0]:
        return torch.randn(n, 3, 32, 32, generator=generator)
    words = torch.randint(0, 100, (n, 16), generator=generator)
    lengths = torch.randint(9, 17, (n, 1), generator=generator)
    return {"input_ids": words, "attention_mask": (torch.arange(16) < lengths).long()}


@cache
def halved(name: str) -> tuple[nn.Module, PruningPlan, nn.Module]:
    """The model, the plan for half of its MACs, the same share of each pool, and what is left."""
    model = built(name)
    scores = score_filters(model, criterion="l1")
    plan = uk.plan_pruning(model, scores, inputs(name, 2), macs=0.5)
    return model, plan, uk.prune(model, plan)


def outputs(model: nn.Module, given: Any) -> list[Tensor]:
    with torch.no_grad():
        return numbers(call(model, given))


every_one = pytest.mark.parametrize("name", NAMES)


@every_one
def test_half_of_the_macs_go_and_the_rest_equals_the_masked_net(name: str) -> None:
    model, plan, slim = halved(name)
    given = inputs(name, 5, seed=7)
    share = 1 - count_macs(slim, given) / count_macs(model, given)
    assert abs(share - 0.5) <= 0.02
    expected, _ = masked_run(model, plan.removed, given)
    assert difference(outputs(slim, given), expected) < 1e-4
    assert not plan.kept_layers


@every_one
def test_heads_inner_widths_and_embeddings_each_lose_some(name: str) -> None:
    model, plan, slim = halved(name)
    before, after = dict(model.named_modules()), dict(slim.named_modules())
    for kind in (HEADS, INNER, EMBEDDING):
        layers = [n for n in plan.filters if re.search(kind, n)]
        assert layers
        for layer in layers:
            share = len(plan.removed[layer]) / plan.filters[layer]
            assert 0.2 <= share <= 0.75, (layer, share)
            whole, left = (sum(p.numel() for p in m[layer].parameters()) for m in (before, after))
            assert left < whole


@every_one
def test_no_tensor_grows_what_is_tied_stays_tied_and_a_step_reaches_what_it_did(name: str) -> None:
    model, _, slim = halved(name)
    before, after = (dict(m.named_parameters(remove_duplicate=False)) for m in (model, slim))
    assert before.keys() == after.keys()
    for parameter_name, parameter in before.items():
        sizes = zip(after[parameter_name].shape, parameter.shape, strict=True)
        assert all(left <= whole for left, whole in sizes), parameter_name
        twins = {n for n, p in before.items() if p is parameter}
        assert twins == {n for n, p in after.items() if p is after[parameter_name]}
    reached = []
    for each in (copy.deepcopy(model), copy.deepcopy(slim)):
        each.train()
        loss = sum(t.square().mean() for t in outputs_with_gradients(each, inputs(name, 4)))
        loss.backward()  # type: ignore[union-attr]
        reached.append({n for n, p in each.named_parameters() if p.grad is not None})
        torch.optim.SGD(each.parameters(), 0.01).step()
        assert all(bool(t.isfinite().all()) for t in outputs(each.eval(), inputs(name, 4)))
    assert reached[0] == reached[1]


def outputs_with_gradients(model: nn.Module, given: Any) -> list[Tensor]:
    return numbers(call(model, given))[:1]


@every_one
def test_it_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    _, plan, slim = halved(name)
    uk.save_pruned(slim, plan, tmp_path / "net", program=False)
    loaded = uk.load_pruned(lambda: built(name), tmp_path / "net").eval()
    given = inputs(name, 3, seed=9)
    for found, wanted in zip(outputs(loaded, given), outputs(slim, given), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "llama", "encoder"])
def test_its_export_computes_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    _, _, slim = halved(name)
    given = inputs(name, 3)
    if isinstance(given, dict):  # torch exports no masked one right
        given = {"input_ids": given["input_ids"]}
    report = uk.export_onnx(slim, given, tmp_path / "net.onnx", repeats=1)
    assert report.worst < 1e-4


@every_one
def test_the_default_criterion_and_a_refit_run_and_help(name: str) -> None:
    model, given = built(name), inputs(name, 60)
    plan = uk.plan_pruning(model, score_filters(model, [given]), inputs(name, 2), macs=0.5)
    heads = [n for n in plan.filters if re.search(HEADS, n)]
    assert heads and not set(heads) & set(plan.kept_layers)
    slim = uk.prune(model, plan)
    report = refit(model, slim, plan, [given])
    assert report.output_after <= report.output_before
    rows = {row.layer for row in report.rows}
    assert {n for n in plan.removed if re.search(INNER, n)} <= rows


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_language_model_still_generates_with_its_cache(name: str) -> None:
    """The words that come one by one, of which a cache keeps what went before, are those without it."""
    _, _, slim = halved(name)
    words = inputs(name, 2)["input_ids"]
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    net: Any = slim
    found = net.generate(words, attention_mask=torch.ones_like(words), use_cache=True, **options)
    for _ in range(4):
        with torch.no_grad():
            after = net(input_ids=words, use_cache=False).logits[:, -1].argmax(-1)
        words = torch.cat([words, after[:, None]], 1)
    assert torch.equal(found, words)


def encoder_layer() -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        nn.Flatten(),
        nn.Linear(40, 3),
    ).eval()
    return model, model[0].self_attn


def test_weights_of_attention_are_those_of_its_values() -> None:
    model, attention = encoder_layer()
    rows = score_filters(model, criterion="l1").by_layer()["0.self_attn"]
    wanted = attention.in_proj_weight[16:].abs().sum(1).tolist()
    assert [row.score for row in rows] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_what_enters_the_projection_out_is_what_attention_gives(batch_first: bool) -> None:
    """A factor on one of its channels is one on a column of those weights."""
    model, attention = encoder_layer()
    if not batch_first:
        attention.batch_first = False
        model = nn.Sequential(Turned(), model[0], Turned(), *model[1:]).eval()
    x, labels = torch.randn(12, 5, 8), torch.arange(12) % 3
    wanted = torch.zeros(8)
    for i in range(12):
        loss = F.cross_entropy(model(x[i : i + 1]), labels[i : i + 1])
        (gradient,) = torch.autograd.grad(loss, attention.out_proj.weight)
        wanted += (gradient * attention.out_proj.weight).sum(0).abs() / 12
    (rows,) = (
        rows
        for layer, rows in score_filters(model, [(x, labels)], criterion="taylor").by_layer().items()
        if layer.endswith("self_attn")
    )
    np.testing.assert_allclose([r.score for r in rows], wanted.detach().numpy(), rtol=1e-4)


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def test_attention_has_no_betti_numbers() -> None:
    model, _ = encoder_layer()
    scores = score_filters(model, torch.randn(20, 5, 8), criterion="betti")
    assert set(scores.by_layer()) == {"0.linear1", "0.linear2"}  # the projection is not called by itself


def trained(name: str, steps: int) -> tuple[nn.Module, Any]:
    """On patterns that can be learnt: classes that differ in one patch, words that follow a rule."""
    model = built(name)
    generator = torch.Generator().manual_seed(3)
    classes = torch.randint(0, 10, (256,), generator=generator)
    if name == "vit":
        marks = torch.randn(10, 3, 32, 32, generator=generator)
        data: Any = marks[classes] + 0.7 * torch.randn(256, 3, 32, 32, generator=generator)
    else:
        places = torch.arange(16) * torch.randint(1, 8, (256, 1), generator=generator)
        data = {"input_ids": (classes[:, None] + places) % 100}
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    model.train()
    for step in range(steps):
        rows = slice(32 * (step % 6), 32 * (step % 6) + 32)  # the last 64 are kept
        if name == "vit":
            loss = F.cross_entropy(model(data[rows]).logits, classes[rows])
        else:
            words = data["input_ids"][rows]
            logits = model(input_ids=words).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), words[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), data


@pytest.mark.parametrize("name", ["vit", "llama"])
def test_on_a_trained_net_a_refit_brings_unseen_samples_nearer(name: str) -> None:
    model, data = trained(name, 120)

    def part(start: int, end: int) -> Any:
        return {k: v[start:end] for k, v in data.items()} if isinstance(data, dict) else data[start:end]

    plan = uk.plan_pruning(model, score_filters(model, [part(0, 192)]), part(0, 2), macs=0.5)
    unseen = part(192, 256)
    errors = []
    wanted = outputs(model, unseen)[0]
    for samples in (None, [part(0, 192)]):
        found = outputs(uk.prune(model, plan, refit=samples), unseen)[0]
        errors.append(float((found - wanted).square().mean() / wanted.var()))
    assert errors[1] < 0.7 * errors[0]
