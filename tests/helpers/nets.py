"""Networks that know which of their channels are gone: what pruning is checked against.

A `Net` is a list of steps on feature maps. Every step can carry, beside the map, which of its channels
were removed; at the layers that weigh channels against each other those are multiplied by zero. Nothing
here looks at how the package finds out what belongs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unknot.nets.models import cnn
from unknot.pruning.structure.linear_maps import LinearMap
from unknot.pruning.structure.map_calls import watching_maps

Removed = Mapping[str, Sequence[int]]


class Map:
    """A feature map and which of its channels are gone, bool ``[c]``."""

    def __init__(self, values: Tensor, gone: Tensor) -> None:
        self.values, self.gone = values, gone

    def zeroed(self) -> Tensor:
        return self.values.masked_fill(self.gone.reshape(1, -1, 1, 1), 0.0)


class Net(nn.Module):
    """A stem, ``steps`` by name, and a linear read-out: ``[n, 2, 6, 6] -> [n, 3]``.

    Steps: "conv", "up" (transposed, ungrouped), "grouped" (two groups), "depthwise", "norm" (batch),
    "groupnorm" (groups of two channels), "instancenorm", "prelu", "residual" (two convolutions),
    "shortcut" (two convolutions and a projection), "concat" (a convolution whose output is appended),
    "se" (squeeze and excitation), "twice" (one convolution used twice).
    """

    def __init__(self, steps: Sequence[str], *, flatten: bool = False, width: int = 4) -> None:
        super().__init__()
        self.steps, self.flatten = list(steps), flatten
        self.layers = nn.ModuleDict({"stem": nn.Conv2d(2, width, 3, padding=1, bias=False)})
        size = width
        for i, step in enumerate(steps):
            size = self._build(f"{i}_{step}", step, size)
        self.out = nn.Linear(size * 36 if flatten else size, 3)

    def _build(self, name: str, step: str, c: int) -> int:
        new = self.layers
        if step in ("conv", "concat"):
            new[name] = nn.Conv2d(c, c + 2 if step == "conv" else 4, 3, padding=1)
            return c + (2 if step == "conv" else 4)
        if step == "up":
            new[name] = nn.ConvTranspose2d(c, 6, 3, padding=1)
            return 6
        if step == "se":
            new[f"{name}_squeeze"] = nn.Conv2d(c, 3, 1)
            new[f"{name}_excite"] = nn.Conv2d(3, c, 1)
        elif step in ("residual", "shortcut"):
            wide = c if step == "residual" else c + 2
            new[f"{name}_a"] = nn.Conv2d(c, 5, 3, padding=1)
            new[f"{name}_b"] = nn.Conv2d(5, wide, 3, padding=1)
            if step == "shortcut":
                new[f"{name}_s"] = nn.Conv2d(c, wide, 1)
            return wide
        else:
            new[name] = {
                "grouped": lambda: nn.Conv2d(c, c, 3, padding=1, groups=2),
                "depthwise": lambda: nn.Conv2d(c, c, 3, padding=1, groups=c),
                "norm": lambda: nn.BatchNorm2d(c),
                "groupnorm": lambda: nn.GroupNorm(c // 2, c),
                "instancenorm": lambda: nn.InstanceNorm2d(c, affine=True),
                "prelu": lambda: nn.PReLU(c),
                "twice": lambda: nn.Conv2d(c, c, 3, padding=1),
            }[step]()
        return c

    def forward(self, x: Tensor) -> Tensor:
        return self.masked(x, {})

    def masked(self, x: Tensor, removed: Removed) -> Tensor:
        """The output with the removed channels zeroed where they enter the layers that consume them."""
        self.removed = removed
        x0 = self._consume("stem", Map(x, torch.zeros(x.shape[1], dtype=torch.bool)))
        for i, step in enumerate(self.steps):
            x0 = self._step(f"{i}_{step}", step, x0)
        x0 = Map(x0.values.relu(), x0.gone)
        return self.out(x0.zeroed().flatten(1) if self.flatten else x0.zeroed().mean((2, 3)))

    def _step(self, name: str, step: str, x: Map) -> Map:
        if step in ("conv", "up", "grouped", "twice"):
            y = self._consume(name, x)
            return self._consume(name, y) if step == "twice" else y
        if step == "concat":
            new = self._consume(name, x)
            return Map(torch.cat([x.values, new.values.relu()], 1), torch.cat([x.gone, new.gone]))
        if step == "se":
            mean = Map(x.values.mean((2, 3), keepdim=True), x.gone)
            squeezed = self._consume(f"{name}_squeeze", mean)
            gate = self._consume(f"{name}_excite", Map(squeezed.values.relu(), squeezed.gone))
            return self._both(x, gate, x.values * gate.values.sigmoid())
        if step in ("residual", "shortcut"):
            a = self._consume(f"{name}_a", x)
            b = self._consume(f"{name}_b", Map(a.values.relu(), a.gone))
            other = self._consume(f"{name}_s", x) if step == "shortcut" else x
            return self._both(b, other, (b.values + other.values).relu())
        values = self.layers[name](x.values)
        if step == "groupnorm":
            assert bool((x.gone[::2] == x.gone[1::2]).all()), "a group was torn"
        gone = self._gone(name, len(x.gone)) if step == "depthwise" else x.gone
        return self._both(x, Map(values, gone), values)

    def _consume(self, name: str, x: Map) -> Map:
        values = self.layers[name](x.zeroed() if bool(x.gone.any()) else x.values)
        return Map(values, self._gone(name, values.shape[1]))

    def _gone(self, name: str, channels: int) -> Tensor:
        gone = torch.zeros(channels, dtype=torch.bool)
        if self.removed:  # else it is a plain net, which writes to no place by number
            gone[list(self.removed.get(f"layers.{name}", ()))] = True
        return gone

    def _both(self, a: Map, b: Map, values: Tensor) -> Map:
        assert torch.equal(a.gone, b.gone), "channels that are added up went apart"
        return Map(values, a.gone)


def lived_in(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with normalisation statistics and parameters that are not the defaults."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, low, high in (
            ("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0), ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
        ):  # fmt: skip
            tensor = getattr(module, name, None)
            plain = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm))
            if isinstance(tensor, Tensor) and (plain or isinstance(module, nn.InstanceNorm2d)):
                nn.init.uniform_(tensor, low, high, generator=generator)
    return model.eval()


def factory() -> nn.Module:
    return cnn(1, 3, widths=(6, 8), batch_norm=True)


def map_of(layer: nn.Module, *inputs: Tensor) -> tuple[LinearMap, Tensor]:
    """The one convolution or matrix product that a layer makes of ``inputs``, and what comes of it."""
    seen: list[tuple[LinearMap, Tensor]] = []
    with (
        torch.no_grad(),
        watching_maps({"": layer}, lambda _name, call, output: seen.append((call, output))),
    ):
        layer(*inputs)
    (found,) = seen
    return found
