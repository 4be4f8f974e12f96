"""Third-party models are measured as they are: Hugging Face vision and text nets, a Lightning module."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unknot.cli.app import main
from unknot.nets.recording import capture
from unknot.profiles.meter import measure
from unknot.profiles.monitor import Monitor
from unknot.topology.scale import Scale

pytestmark = pytest.mark.numeric

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")
lightning = pytest.importorskip("lightning")
transformers.logging.set_verbosity_error()

SCALE = Scale(k=8, hops=2)
CLASSES = 3


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    return transformers.ResNetForImageClassification(config)  # type: ignore[no-any-return]


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=CLASSES
    )
    return transformers.ConvNextForImageClassification(config)  # type: ignore[no-any-return]


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=8, num_labels=CLASSES,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)  # type: ignore[no-any-return]


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=CLASSES,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)  # type: ignore[no-any-return]


def lightning_module() -> nn.Module:
    class Classifier(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.LazyLinear(CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.conv(x).relu().flatten(1))
            return out

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

    return Classifier()


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(60, 3, 16, 16, generator=generator), torch.arange(60) % CLASSES


def image_batches() -> list[dict[str, Tensor]]:
    pixels, labels = images()
    return [{"pixel_values": pixels[i : i + 20], "labels": labels[i : i + 20]} for i in (0, 20, 40)]


def text_batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (60, 12), generator=generator)
    mask, labels = torch.ones_like(tokens), torch.arange(60) % CLASSES
    return [{"input_ids": tokens, "attention_mask": mask, "labels": labels}]


@pytest.mark.parametrize("make", [resnet, convnext, vit])
def test_vision_models_of_transformers(make: Any) -> None:
    torch.manual_seed(0)
    model, loader = make().train(), image_batches()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile = measure(model, loader, scale=SCALE)
    assert len(profile.layers()) > 10
    assert len(profile.rows) == len({(r.layer, r.call) for r in profile.rows}) * CLASSES
    assert profile.accuracy[0].probe is not None
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    last = next(r for r in reversed(profile.rows))
    with torch.no_grad():
        logits = model.eval()(loader[0]["pixel_values"]).logits
    assert last.n_points == 20 and logits.shape == (20, CLASSES)


@pytest.mark.parametrize("make", [resnet, convnext, vit])
def test_what_is_captured_is_what_each_module_gives_when_it_is_called_again(make: Any) -> None:
    torch.manual_seed(0)
    model, pixels = make().eval(), images()[0][:5]
    calls: dict[str, list[tuple[Any, Any]]] = {}
    for name, module in model.named_modules():
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: calls.setdefault(name, []).append(
                ([a.clone() if isinstance(a, Tensor) else a for a in args], kwargs)
            ),
            with_kwargs=True,
        )
    with torch.no_grad():
        model(pixels)
    recorded = {name: list(found) for name, found in calls.items()}
    for output in capture(model, pixels)[1:]:
        args, kwargs = recorded[output.layer][output.call]
        with torch.no_grad():
            again = model.get_submodule(output.layer)(*args, **kwargs)
        torch.testing.assert_close(output.values, again)


@pytest.mark.parametrize("make", [resnet, convnext, lightning_module])
def test_every_filter_after_its_activation(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    pixels, labels = images()
    with torch.no_grad():
        model(pixels[:2])
    profile = measure(model, [(pixels, labels)], by="filter", after="activation", scale=SCALE)
    assert len(profile.rows) == sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))


def test_text_is_calibrated_on_its_embedding_and_tokens_are_pooled() -> None:
    torch.manual_seed(0)
    profile = measure(bert(), text_batches(), tokens="first")
    assert "input" not in profile.layers()
    assert profile.settings["tokens"] == "first"
    assert profile.accuracy[0].probe is not None
    assert all(row.n_points <= 20 for row in profile.rows)


def test_a_lightning_module_is_monitored_while_it_trains() -> None:
    torch.manual_seed(0)
    model = lightning_module()
    pixels, labels = images()
    with torch.no_grad():
        model(pixels[:2])
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, [(pixels, labels)], scale=SCALE) as monitor:
        model.training_step((pixels, labels), 0).backward()  # type: ignore[operator]
        optimizer.step()
        monitor.record(1)
    assert monitor.profile.epochs() == [0, 1]
    assert monitor.profile.layers() == ["input", "conv", "head"]


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("resnet", "images"),
        ("convnext", "image_batches"),
        ("vit", "image_batches"),
        ("bert", "text_batches"),
    ],
)
def test_the_command_measures_them_without_a_line_of_adaptation(
    model: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    out = tmp_path / "profile.json"
    monkeypatch.setattr("sys.argv", [
        "unknot", "measure", "--model", f"test_any_model:{model}", "--data", f"test_any_model:{data}",
        "--knn", "8", "--hops", "2", "--out", str(out), "--json",
    ])  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    record = json.loads(capsys.readouterr().out)
    assert len(record["rows"]) > 20 and json.loads(out.read_text())["unknot"] == "profile"
