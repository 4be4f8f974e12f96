"""Convolution nets, one for each way in which channels are divided, mixed, grouped and added up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


def cv(c: int, width: int, size: int = 3, **options: int) -> nn.Sequential:
    convolution = nn.Conv2d(c, width, size, padding=size // 2, bias=False, **options)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class Around(nn.Module):
    """A stem, a block from ``c`` to ``wide`` channels, a convolution, a read-out of the mean."""

    def __init__(self, block: nn.Module, c: int = 16, wide: int = 0) -> None:
        super().__init__()
        self.stem, self.block, self.last, self.out = cv(3, c), block, cv(wide or c, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.block(self.stem(x))).mean((2, 3)))


class Halves(nn.Module):
    """The maps of ``a`` are divided in two, each half is convolved, the results are appended."""

    def __init__(self, divide: str) -> None:
        super().__init__()
        self.a, self.left, self.right = cv(16, 16), cv(8, 8), cv(8, 8)
        self.divide, self.sizes, self.half = divide, [8, 8], 8

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        c = y.shape[1]
        p, q = {
            "chunk": lambda: y.chunk(2, 1),
            "tensor_split": lambda: y.tensor_split(2, 1),
            "split by shape": lambda: y.split(c // 2, 1),
            "split by a list": lambda: torch.split(y, self.sizes, 1),
            "split by a number": lambda: torch.split(y, self.half, dim=1),
            "slice by shape": lambda: (y[:, : c // 2], y[:, c // 2 :]),
            "literal split": lambda: torch.split(y, [8, 8], 1),
            "literal slice": lambda: (y[:, :8], y[:, 8:]),
        }[self.divide]()
        return torch.cat([self.left(p), self.right(q)], 1)


class EverySecond(nn.Module):
    """Even channels are convolved, odd ones pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.even = cv(16, 16), cv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return torch.cat([self.even(y[:, ::2]), y[:, 1::2]], 1)


class Shuffled(nn.Module):
    """Channel shuffle of ShuffleNet between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = cv(16, 16), cv(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        n, c, h, w = y.shape
        return self.b(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit, twice: half of the channels pass by, then the halves are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(cv(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), cv(8, 8, 1))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, unit(right)], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)
        return x


class SelectiveKernel(nn.Module):
    """SKNet: branches are stacked and added up by a softmax over them, for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([cv(16, 16), cv(16, 16, 5)])
        self.squeeze, self.select = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([path(x) for path in self.paths], 1)
        gate = self.select(self.squeeze(y.sum(1).mean((2, 3), keepdim=True)).relu())
        n, c = gate.shape[:2]
        return (y * gate.view(n, 2, c // 2, 1, 1).softmax(1)).sum(1)


class C2f(nn.Module):
    """YOLOv8: chunk, then append what each step makes of the last part."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2 = cv(16, 16, 1), cv(32, 16, 1)
        self.steps = nn.ModuleList(cv(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        parts.extend(step(parts[-1]) for step in self.steps)
        return self.cv2(torch.cat(parts, 1))


class CrossStage(nn.Module):
    """CSP: one half passes by, the other goes through residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.a, self.b, self.after = cv(16, 16, 1), cv(8, 8, 1), cv(8, 8), cv(8, 8, 1)
        self.transition = cv(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.expand(x).chunk(2, dim=1)
        right = right + self.b(self.a(right))
        return self.transition(torch.cat([self.after(right), left], 1))


class Scales(nn.Module):
    """Res2Net: each part is convolved after the result of the one before was added."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.a, self.b = 4, cv(16, 16, 1), cv(16, 16, 1)
        self.steps = nn.ModuleList(cv(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.a(x), self.width, 1)
        found = [self.steps[0](parts[0])]
        for i in (1, 2):
            found.append(self.steps[i](found[-1] + parts[i]))
        return self.b(torch.cat([*found, parts[3]], 1)) + x


class Mixed(nn.Module):
    """MixConv: parts of the channels get depthwise kernels of their own sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = [8, 8]
        self.parts = nn.ModuleList(nn.Conv2d(8, 8, k, padding=k // 2, groups=8) for k in (3, 5))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.splits, 1)
        return torch.cat([part(y) for part, y in zip(self.parts, parts, strict=True)], 1)


class Gated(nn.Module):
    """One half times the sigmoid of the other."""

    def __init__(self, function: bool) -> None:
        super().__init__()
        self.a, self.function = nn.Conv2d(16, 32, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        if self.function:
            return F.glu(self.a(x), dim=1)
        p, q = self.a(x).chunk(2, 1)
        return p * q.sigmoid()


class Star(nn.Module):
    """StarNet: the product of two expansions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.g = nn.Conv2d(16, 24, 1), nn.Conv2d(16, 24, 1), cv(24, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.g(F.relu6(self.a(x)) * self.b(x))


class SqueezeExcite(nn.Module):
    """Squeeze and excitation by convolutions or by linear layers."""

    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.a, self.linear = cv(16, 16), linear
        make: Callable[[int, int], nn.Module] = nn.Linear if linear else lambda c, w: nn.Conv2d(c, w, 1)
        self.squeeze, self.excite = make(16, 8), make(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        mean = y.mean((2, 3), keepdim=not self.linear)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        return y * (gate[:, :, None, None] if self.linear else gate)


class ChannelConvolution(nn.Module):
    """ECA: a convolution along the axis of the channels; its inner ``a`` is free, ``b`` is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.eca = cv(16, 16), cv(16, 16), nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        gate = self.eca(y.mean((2, 3)).view(y.shape[0], 1, -1)).sigmoid()
        return y * gate.view(y.shape[0], -1, 1, 1)


class FirstNorm(nn.LayerNorm):
    """A LayerNorm over the channels of maps, channels first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class HandMadeNorm(nn.Module):
    """The same, written out, as in ConvNeXt's first code."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        return (
            self.weight[:, None, None] * ((x - mean) / torch.sqrt(var + 1e-6)) + self.bias[:, None, None]
        )


class ResponseNorm(nn.Module):
    """ConvNeXt V2's inner block with global response normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.weight, self.bias = nn.Parameter(torch.ones(32)), nn.Parameter(torch.full((32,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.a(x))
        size = y.norm(p=2, dim=(2, 3), keepdim=True)
        size = size / (size.mean(1, keepdim=True) + 1e-6)
        weight, bias = (p.view(1, -1, 1, 1) for p in (self.weight, self.bias))
        return x + self.b(y + torch.addcmul(bias, weight, y * size))


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised filter by filter (NFNet, BiT)."""

    def __init__(self, c: int, width: int) -> None:
        super().__init__(c, width, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, weight=self.gain.view(-1),
            training=True, momentum=0.0,
        )  # fmt: skip
        return F.conv2d(x, w.reshape_as(self.weight), self.bias, self.stride, self.padding)


class SamePadding(nn.Conv2d):
    """TensorFlow's "same": it pads as much as the image needs, in a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        k, s = self.kernel_size[0], self.stride[0]
        down, right = (max((-(-n // s) - 1) * s + k - n, 0) for n in (h, w))
        x = F.pad(x, [right // 2, right - right // 2, down // 2, down - down // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class LayerScale(nn.Module):
    """A residual block whose branch has a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.gamma = (
            cv(16, 24, 1),
            nn.Conv2d(24, 16, 1),
            nn.Parameter(torch.rand(16, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.b(self.a(x))


class StochasticDepth(nn.Module):
    """A residual branch that is left out for some samples while training."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.dropout = cv(16, 24), cv(24, 16), nn.Dropout2d(0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.dropout(self.a(x)))
        if self.training:
            y = y * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.8)) / 0.8
        return x + y


class Branches(nn.Module):
    """RepVGG, MobileOne: parallel convolutions and a normalisation of the input, added up, in a row."""

    def __init__(self, n: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [nn.BatchNorm2d(16)]
                + [
                    nn.Sequential(nn.Conv2d(16, 16, k, padding=k // 2, bias=False), nn.BatchNorm2d(16))
                    for k in (1, *[3] * (n - 1))
                ]
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for branches in self.blocks:
            x = F.relu(sum(branch(x) for branch in branches))  # type: ignore[arg-type]
        return x


class ToDepth(nn.Module):
    """Places go to channels, and windows of places to a last axis that is averaged over."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(F.pixel_unshuffle(x, 2)).relu()
        return self.b(x.unfold(2, 2, 1).unfold(3, 2, 1).amax((-2, -1)))


class Upscale(nn.Module):
    """Sub-pixel upsampling: four channels become one of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.shuffle = nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.a(x))


class PaddingShortcut(nn.Module):
    """ResNet's option A: the shortcut to more channels is filled up with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = cv(16, 24), cv(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + F.avg_pool2d(self.b(self.a(x)), 2)


class OfTheInput(nn.Module):
    """The image itself is added to what the last convolution returns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = cv(3, 16), nn.Conv2d(16, 3, 3, padding=1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.b(self.a(x)))


def normed(norm: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1), norm(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
    )


def weight_normed() -> nn.Module:
    convolution = parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1))
    return nn.Sequential(convolution, nn.ReLU())
