"""One small net for each kind of structure that pruning meets, and what may be expected of it.

`KINDS` names a factory, an example batch, the layers that must lose channels when half are asked for,
and those that must keep all of them, with a word of the reason. Layers in neither list may do either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from helpers.kinds_of_attention import (
    Einsum,
    Fused,
    GroupedQueries,
    HandMadeRms,
    Mlp,
    Multihead,
    OverMaps,
    Recurrent,
    RelativePlaces,
    Separate,
    Shifted,
    TokenMixer,
    Tokens,
    Vision,
    ZeroKeyBias,
)
from helpers.kinds_of_convolutions import (
    Around,
    Branches,
    C2f,
    ChannelConvolution,
    CrossStage,
    EverySecond,
    FirstNorm,
    Gated,
    Halves,
    HandMadeNorm,
    LayerScale,
    Mixed,
    OfTheInput,
    PaddingShortcut,
    ResponseNorm,
    SamePadding,
    Scales,
    SelectiveKernel,
    Shuffled,
    ShuffleUnit,
    SqueezeExcite,
    Standardised,
    Star,
    StochasticDepth,
    ToDepth,
    Upscale,
    normed,
    weight_normed,
)
from helpers.kinds_of_ends import Auxiliary, Detector, Flattened, Generator, Line, Siamese, Tied, Words
from torch import Tensor, nn

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
IMAGES, TOKENS, WORDS = (3, 8, 8), (6, 8), (6,)
OUTPUT = "output"  # in the reasons


@dataclass(frozen=True)
class Kind:
    """A net and what may be expected of it.

    Attributes:
        make: the factory; seeded by `built`.
        shape: of one sample, the first axis left out; ``WORDS`` are whole numbers below 20.
        loses: layers that must lose channels when half are asked for; none where all may be refused.
        keeps: {layer: a word of why it must keep all}.
        names: of the inputs: none for one tensor, "" for positional ones, else keywords.
        linear: globs of the linear layers that may lose channels.
        normalises: whether what is left is normalised over: the masked net must do the same.
        macs: the share that can go at least; 0 where all may be refused.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loses: tuple[str, ...]
    keeps: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    linear: tuple[str, ...] = ()
    normalises: bool = False
    macs: float = 0.5

    def inputs(self, n: int = 3, seed: int = 1) -> Inputs:
        generator = torch.Generator().manual_seed(seed)

        def one() -> Tensor:
            if self.shape == WORDS:
                return torch.randint(0, 20, (n, *self.shape), generator=generator)
            return torch.randn(n, *self.shape, generator=generator)

        if not self.names:
            return one()
        return {k: one() for k in self.names} if all(self.names) else tuple(one() for _ in self.names)

    def built(self, seed: int = 0) -> nn.Module:
        """In eval mode, with statistics and gains that matter."""
        torch.manual_seed(seed)
        model = self.make()
        generator = torch.Generator().manual_seed(seed)
        norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, HandMadeNorm)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, (*norms, HandMadeRms)):
                    for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3)):
                        if getattr(module, name, None) is not None:
                            getattr(module, name).uniform_(low, high, generator=generator)
                if (
                    isinstance(module, nn.modules.batchnorm._BatchNorm)
                    and module.running_mean is not None
                ):
                    module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                    assert module.running_var is not None
                    module.running_var.uniform_(0.5, 2.0, generator=generator)
        return model.eval()


def _conv(
    block: Callable[[], nn.Module], loses: str = "", keeps: Mapping[str, str] | None = None,
    wide: int = 0, **options: float,
) -> Kind:  # fmt: skip
    """A block of `Around`, whose layers are named from there; the last one is always free."""
    linear = ("*",) if any(isinstance(m, nn.Linear) for m in block().modules()) else ()
    return Kind(
        lambda: Around(block(), wide=wide), IMAGES, (*loses.split(), "last.0"),
        keeps or {}, linear=linear, **options,
    )  # fmt: skip


def _tokens(
    block: Callable[[], nn.Module], loses: str, keeps: Mapping[str, str] | None = None,
    normalises: bool = False, residual: bool = True, macs: float = 0.5,
) -> Kind:  # fmt: skip
    return Kind(
        lambda: Tokens(block(), residual=residual), TOKENS, tuple(loses.split()),
        {"out": OUTPUT, **(keeps or {})}, linear=("*",), normalises=normalises,
        macs=macs,
    )  # fmt: skip


LITERAL = {"block.a.0": "literal"}
HALVES = "stem.0 block.a.0 block.left.0 block.right.0"
NORMED = "stem.0 block.0 block.2"
GROUPED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "whole groups": (lambda: nn.Conv2d(16, 16, 3, groups=4), 16),
    "groups to twice the width": (lambda: nn.Conv2d(16, 32, 3, groups=4), 32),
    "depth multiplier": (lambda: nn.Conv2d(16, 32, 3, groups=16), 32),
    "several channels to one": (lambda: nn.Conv2d(16, 8, 3, groups=8), 8),
    "depthwise": (lambda: nn.Conv2d(16, 16, 3, groups=16), 16),
    "transposed": (lambda: nn.ConvTranspose2d(16, 24, 2, stride=2), 24),
    "transposed, groups": (lambda: nn.ConvTranspose2d(16, 16, 3, groups=4), 16),
    "transposed, groups to twice the width": (lambda: nn.ConvTranspose2d(16, 32, 3, groups=4), 32),
    "transposed, depthwise": (lambda: nn.ConvTranspose2d(16, 16, 3, groups=16), 16),
}
NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm over maps": lambda: FirstNorm(16),
    "layer norm by hand": lambda: HandMadeNorm(16),
    "group norm of one": lambda: nn.GroupNorm(1, 16),
    "group norm": lambda: nn.GroupNorm(8, 16),
    "instance norm": lambda: nn.InstanceNorm2d(16, affine=True),
}
ATTENTION = "inp block.qkv block.proj"

KINDS: dict[str, Kind] = {
    **{
        how: _conv(lambda how=how: Halves(how), HALVES)
        for how in ("chunk", "tensor_split", "split by shape", "split by a list", "split by a number",
                    "slice by shape")
    },
    "literal split": _conv(lambda: Halves("literal split"), "stem.0 block.left.0 block.right.0", LITERAL),
    "literal slice": _conv(lambda: Halves("literal slice"), "stem.0 block.left.0 block.right.0", LITERAL),
    "every second": _conv(EverySecond, "stem.0 block.a.0 block.even.0"),
    "shuffle": _conv(Shuffled, "stem.0 block.a.0 block.b.0"),
    "shuffle unit": _conv(ShuffleUnit, "stem.0 block.units.0.0.0 block.units.0.2.0 block.units.1.0.0"),
    "selective kernel": _conv(
        SelectiveKernel, "stem.0 block.paths.0.0 block.paths.1.0 block.squeeze block.select"
    ),
    "c2f": _conv(C2f, "stem.0 block.cv1.0 block.cv2.0 block.steps.0.0 block.steps.1.0"),
    "cross stage": _conv(
        CrossStage,
        "stem.0 block.expand.0 block.a.0 block.b.0 block.after.0 block.transition.0",
    ),
    "scales": _conv(Scales, "stem.0 block.a.0 block.b.0 block.steps.0.0 block.steps.2.0"),
    "mixed kernels": _conv(Mixed, "stem.0 block.parts.0 block.parts.1"),
    "gated halves": _conv(lambda: Gated(False), "stem.0 block.a"),
    "glu": _conv(lambda: Gated(True), "stem.0 block.a"),
    "star": _conv(Star, "stem.0 block.a block.b block.g.0"),
    **{
        name: _conv(
            lambda make=make: nn.Sequential(make(), nn.ReLU()), "stem.0 block.0", wide=wide
        )
        for name, (make, wide) in GROUPED.items()
    },
    "squeeze by convolutions": _conv(lambda: SqueezeExcite(False),
                                     "stem.0 block.a.0 block.squeeze block.excite"),
    "squeeze by linear layers": _conv(lambda: SqueezeExcite(True),
                                      "stem.0 block.a.0 block.squeeze block.excite", {"out": OUTPUT}),
    "convolution across channels": _conv(
        ChannelConvolution, "stem.0 block.a.0", {"block.b.0": "across", "block.eca": "across"}
    ),
    **{
        name: _conv(lambda make=make: normed(make), NORMED, normalises="instance" not in name)
        for name, make in NORMS.items()
    },
    "global response norm": _conv(ResponseNorm, "stem.0 block.a block.b", normalises=True),
    # What a standardised filter takes in is part of its mean: those channels may stay.
    "standardised weights": _conv(
        lambda: nn.Sequential(Standardised(16, 16), nn.ReLU(), nn.Conv2d(16, 16, 1)), "block.0 block.2",
        macs=0.3,
    ),
    "weight norm": _conv(weight_normed, "block.0"),
    "same padding": _conv(
        lambda: nn.Sequential(SamePadding(16, 16, 3, stride=2), nn.ReLU(), SamePadding(16, 16, 3)),
        "stem.0 block.0 block.2",
    ),
    "layer scale": _conv(LayerScale, "stem.0 block.a.0 block.b"),
    "stochastic depth": _conv(StochasticDepth, "stem.0 block.a.0 block.b.0"),
    "reparametrised branches": _conv(lambda: Branches(2, 1), "stem.0 block.blocks.0.1.0"),
    "many branches": _conv(
        lambda: Branches(4, 3), "stem.0 block.blocks.0.1.0 block.blocks.1.2.0 block.blocks.2.4.0"
    ),
    "places to depth": _conv(ToDepth, "stem.0 block.a block.b"),
    "pixel shuffle": _conv(Upscale, "stem.0 block.a", wide=8),
    "padding shortcut": _conv(PaddingShortcut, "block.a.0", wide=24),
    "attention over maps": _conv(lambda: OverMaps(False),
                                 "stem.0 block.q block.k block.v block.o"),
    "attention over maps by einsum": _conv(lambda: OverMaps(True),
                                           "stem.0 block.q block.k block.v block.o"),
    "residual of the input": Kind(OfTheInput, IMAGES, ("a.0",), {"b": "input", "out": OUTPUT}),
    **{
        f"fused attention, {how}": _tokens(lambda how=how: Fused(how), ATTENTION)
        for how in ("head_dim", "open")
    },
    # The width of a head is that of the input over their number: both can only go in step, or stay.
    "fused attention, channels": _tokens(lambda: Fused("channels"), "", macs=0.0),
    "fused attention, bias of zeros": _tokens(ZeroKeyBias, ATTENTION),
    "relative places": _tokens(lambda: RelativePlaces(False), ATTENTION),
    "relative places by einsum": _tokens(lambda: RelativePlaces(True), ATTENTION),
    "separate attention": _tokens(Separate, "inp block.query block.key block.value block.dense"),
    "separate attention, sdpa": _tokens(lambda: Separate(True),
                                        "inp block.query block.key block.value block.dense"),
    "multihead attention": _tokens(Multihead, "inp block.att block.att.out_proj"),
    "multihead attention with weights": _tokens(  # whose mean over the heads is computed
        lambda: Multihead(True), "inp block.att block.att.out_proj", normalises=True
    ),
    "einsum attention": _tokens(Einsum, "inp block.to_q block.to_kv block.to_out"),
    "grouped queries": _tokens(
        GroupedQueries, "inp block.q_proj block.k_proj block.v_proj block.o_proj"
    ),
    **{
        f"encoder layer, norm {'first' if first else 'last'}": _tokens(
            lambda first=first: nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, norm_first=first),
            "inp block.self_attn block.linear1 block.linear2", normalises=True, residual=False,
        )
        for first in (True, False)
    },
    "layer norm of tokens": _tokens(lambda: Mlp(nn.LayerNorm(32)), "inp block.fc1 block.fc2",
                                    normalises=True),
    "rms norm": _tokens(lambda: Mlp(nn.RMSNorm(32)), "inp block.fc1 block.fc2", normalises=True),
    "rms norm by hand, gated": _tokens(
        lambda: Mlp(HandMadeRms(32), "gated"), "inp block.fc1 block.gate block.fc2", normalises=True
    ),
    "gated halves of tokens": _tokens(lambda: Mlp(nn.LayerNorm(32), "halves"),
                                      "inp block.fc1 block.fc2", normalises=True),
    "token mixer": _tokens(TokenMixer, "inp block.fc1 block.fc2", {"block.mix": "tokens"}),
    "vision transformer": Kind(
        Vision, IMAGES, ("patch", "attention.qkv", "attention.proj", "fc1", "fc2"), {"out": OUTPUT},
        linear=("*",), normalises=True,
    ),
    "windows and merging": Kind(
        Shifted, IMAGES,
        ("stem", "first.qkv", "first.proj", "merge.reduction", "second.qkv", "second.proj", "fc1", "fc2"),
        {"out": OUTPUT}, linear=("*",), normalises=True,
    ),
    # Most of the MACs are between the states of the recurrent layer, which stay.
    "lstm after linear": Kind(lambda: Recurrent(nn.LSTM, False), TOKENS, ("first", "second"),
                              {"out": OUTPUT}, linear=("*",), macs=0.3),
    "gru after linear": Kind(lambda: Recurrent(nn.GRU, False), TOKENS, ("first", "second"),
                             {"out": OUTPUT}, linear=("*",), macs=0.3),
    "lstm after convolutions": Kind(lambda: Recurrent(nn.LSTM, True), IMAGES, ("first", "second")),
    "gru after convolutions": Kind(lambda: Recurrent(nn.GRU, True), IMAGES, ("first", "second")),
    "two inputs": Kind(Siamese, IMAGES, ("both", "left", "right"), names=("", "")),
    "named inputs": Kind(Siamese, IMAGES, ("both", "left", "right"), names=("image", "other")),
    "words": Kind(Words, WORDS, ("a", "b"), {"out": OUTPUT}, linear=("*",)),
    "tied embedding": Kind(Tied, WORDS, ("a",), {"head": OUTPUT}, linear=("*",), normalises=True),
    "auxiliary head": Kind(Auxiliary, IMAGES, ("a", "b")),
    "detector that finds nothing": Kind(Detector, IMAGES, ("a", "b"), {"box": OUTPUT, "score": OUTPUT}),
    **{f"logits in a {form}": Kind(lambda form=form: Line(form), IMAGES, ("a", "b"))
       for form in ("vector", "tuple", "dict")},
    "maps of a vector": Kind(Generator, (8,), ("first", "a"), {"b": OUTPUT}, linear=("*",)),
    "flattened maps": Kind(Flattened, IMAGES, ("a", "b", "fc"), {"out": OUTPUT}, linear=("*",)),
}  # fmt: skip
