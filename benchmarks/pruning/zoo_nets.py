"""The nets of the zoo: architectures of torchvision, timm and transformers, with random weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 10
VOCABULARY = 100


@dataclass(frozen=True)
class ZooNet:
    """How to make one, and what it takes.

    Attributes:
        family: "torchvision", "dense" (segmentation, detection, video), "timm" or "transformers".
        factory: gives the net with its library's initial weights.
        shape: of one sample.
        tokens: whether it takes whole numbers below `VOCABULARY`.
    """

    family: str
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: bool = False

    def inputs(self, n: int = 2, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.tokens:
            return torch.randint(0, VOCABULARY, (n, *self.shape), generator=generator)
        return torch.randn(n, *self.shape, generator=generator)

    def built(self, seed: int = 0) -> nn.Module:
        """In eval mode; no gain, scale or bias is left at a value that would hide a fault."""
        torch.manual_seed(seed)
        model = self.factory()
        enliven(model, self.inputs(4, seed + 7))
        return model.eval()


def enliven(model: nn.Module, inputs: Tensor, seed: int = 0) -> None:
    """Random gains and biases, no scale near zero, batch statistics that fit and yet differ."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for name, p in model.named_parameters():
            size = float(p.abs().mean()) if p.numel() else 1.0
            if not p.is_floating_point() or size > 1e-3:
                continue
            if size > 0 and not name.endswith("bias"):
                draw(p, 0.2, 0.6)  # a layer scale of 1e-6
            else:
                draw(p, -0.1, 0.1)  # biases, tokens, tables and last gains of zero
        for module in model.modules():
            if isinstance(module, (*map(type, norms), nn.LayerNorm, nn.GroupNorm)):
                for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.2)):
                    tensor = getattr(module, name, None)
                    if isinstance(tensor, Tensor):
                        draw(tensor, low, high)
        # Statistics of the net's own outputs: else sums of many branches grow from block to block.
        momenta = [m.momentum for m in norms]
        model.eval()
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        if norms:
            model(inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
            if norm.running_mean is not None and norm.running_var is not None:
                spread = norm.running_var.clamp_min(1e-4).sqrt()
                shift = torch.empty_like(spread)
                draw(shift, -0.2, 0.2)
                norm.running_mean.add_(shift * spread)
                draw(shift, 0.6, 1.6)
                norm.running_var.copy_(spread.square() * shift)


class Maps(nn.Module):
    """A detector's trunk and heads, without boxes: ``images -> {name: raw outputs}``."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def torchvision_models() -> Any:
    """torchvision's models, also where its compiled part does not fit torch.

    A build for CUDA beside torch for the CPU has no operators. Of these the nets call one, the selection
    of boxes, which is declared and written here; the pure Python rest is torchvision's own.
    """
    try:
        from torchvision import models
    except RuntimeError:
        _declare_operators()
        from torchvision import extension, models
        from torchvision.ops import boxes

        for module in (extension, boxes):
            module._assert_has_ops = lambda: None
    return models


_OPERATORS: list[torch.library.Library] = []  # which live as long as this does


def _declare_operators() -> None:
    import sys

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _select_boxes, "CPU")
    _OPERATORS.append(library)
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind


def _select_boxes(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Of boxes that overlap by more than ``threshold``, that with the highest score."""
    from torchvision.ops import box_iou

    overlap, kept = box_iou(boxes, boxes) > threshold, []
    free = torch.ones(len(boxes), dtype=torch.bool)
    for i in scores.argsort(descending=True).tolist():
        if free[i]:
            kept.append(i)
            free &= ~overlap[i]
    return torch.tensor(kept, dtype=torch.int64)


def _vision(name: str, size: int | tuple[int, ...], **options: Any) -> ZooNet:
    shape = (3, size, size) if isinstance(size, int) else size

    def make() -> nn.Module:
        return torchvision_models().get_model(name, weights=None, num_classes=CLASSES, **options)  # type: ignore[no-any-return]

    return ZooNet("torchvision", make, shape)


def _dense(name: str, size: int, *, maps: bool = False, **options: Any) -> ZooNet:
    def make() -> nn.Module:
        model = torchvision_models().get_model(
            name, weights=None, weights_backbone=None, num_classes=CLASSES, **options
        )
        return Maps(model) if maps else model  # type: ignore[no-any-return]

    return ZooNet("dense", make, (3, size, size))


def _maxvit() -> nn.Module:
    torchvision_models()
    from torchvision.models.maxvit import MaxVit

    return MaxVit(  # type: ignore[no-any-return]
        input_size=(64, 64), stem_channels=64, partition_size=2, block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2], head_dim=32, stochastic_depth_prob=0.2, num_classes=CLASSES,
    )  # fmt: skip


def _timm(name: str, size: int, **options: Any) -> ZooNet:
    def make() -> nn.Module:
        torchvision_models()
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)  # type: ignore[no-any-return]

    return ZooNet("timm", make, (3, size, size))


def _hugging_face(name: str, shape: tuple[int, ...], **options: Any) -> ZooNet:
    tokens = len(shape) == 1
    if tokens:
        options |= {"vocab_size": VOCABULARY}
    model, config = name, name[: name.index("For") if "For" in name else name.index("LMHead")] + "Config"

    def make() -> nn.Module:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(ImportError):
                torchvision_models()  # which transformers imports where it is there
            import transformers

        return getattr(transformers, model)(getattr(transformers, config)(num_labels=CLASSES, **options))  # type: ignore[no-any-return]

    return ZooNet("transformers", make, shape, tokens)


_WIDTHS = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
_PATCHES = {**_WIDTHS, "image_size": 32, "patch_size": 8}
_DECODER = {**_WIDTHS, "use_cache": False}

NETS: dict[str, ZooNet] = {
    **{n: _vision(n, 64) for n in ("vgg11", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d",
       "wide_resnet50_2", "densenet121", "efficientnet_v2_s", "convnext_tiny", "swin_t", "swin_v2_t")},
    **{n: _vision(n, 96) for n in ("alexnet", "squeezenet1_0", "squeezenet1_1", "mobilenet_v2",
       "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "shufflenet_v2_x0_5",
       "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf")},
    **{f"{n}{'_aux' * aux}": _vision(n, 96, aux_logits=aux, init_weights=False)
       for n in ("googlenet", "inception_v3") for aux in (False, True)},
    "vit_b_16": _vision("vit_b_16", 64, image_size=64),
    "maxvit_t": ZooNet("torchvision", _maxvit, (3, 64, 64)),
    "fcn_resnet50": _dense("fcn_resnet50", 64),
    "deeplabv3_mobilenet_v3_large": _dense("deeplabv3_mobilenet_v3_large", 96),
    "lraspp_mobilenet_v3_large": _dense("lraspp_mobilenet_v3_large", 96),
    "ssdlite_trunk": _dense("ssdlite320_mobilenet_v3_large", 128, maps=True),
    "ssdlite_whole": _dense("ssdlite320_mobilenet_v3_large", 128, topk_candidates=20,
                            detections_per_img=5),
    "r3d_18": ZooNet("dense", _vision("r3d_18", 32).factory, (3, 4, 32, 32)),
    **{f"timm/{n}": _timm(n, 64) for n in (
       "resnet26d", "ecaresnet26t", "seresnet18", "res2net50_26w_4s", "hrnet_w18_small", "repvgg_a0",
       "convnextv2_atto", "edgenext_xx_small", "mobilevit_xxs", "fastvit_t8", "inception_next_atto",
       "nfnet_l0", "dla34", "ese_vovnet19b_dw", "cspresnet50", "selecsls42b", "xception41", "tresnet_m",
       "rdnet_tiny", "poolformer_s12", "mobileone_s0", "skresnet18", "resnest14d", "convmixer_768_32",
       "repvit_m0_9", "efficientvit_b0", "mambaout_femto", "convformer_s18", "davit_tiny")},
    **{f"timm/{n}": _timm(n, 96) for n in (
       "ghostnet_100", "efficientnet_lite0", "mobilenetv4_conv_small", "starnet_s1", "mixnet_s")},
    **{f"timm/{n}": _timm(n, 64, img_size=64)
       for n in ("vit_tiny_patch16_224", "resmlp_12_224", "coatnet_nano_rw_224")},
    "timm/levit_128s": _timm("levit_128s", 224),
    "hf/vit": _hugging_face("ViTForImageClassification", (3, 32, 32), **_PATCHES),
    "hf/deit": _hugging_face("DeiTForImageClassification", (3, 32, 32), **_PATCHES),
    "hf/swin": _hugging_face("SwinForImageClassification", (3, 32, 32), image_size=32, patch_size=2,
                             embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4),
    "hf/bert": _hugging_face("BertForSequenceClassification", (16,), **_WIDTHS,
                             max_position_embeddings=32),
    "hf/gpt2": _hugging_face("GPT2LMHeadModel", (16,), n_embd=48, n_layer=2, n_head=4, n_positions=32,
                             use_cache=False, bos_token_id=0, eos_token_id=0),
    "hf/llama": _hugging_face("LlamaForCausalLM", (16,), **_DECODER, num_key_value_heads=2,
                              tie_word_embeddings=True),
}  # fmt: skip
