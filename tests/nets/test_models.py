from __future__ import annotations

import pytest
import torch
from torch import nn

from unknot.core.errors import InputError
from unknot.nets.models import cnn, mlp, resnet


def test_resnet18_has_its_4800_filters_and_11_million_parameters() -> None:
    model = resnet(3, 10, widths=(64, 128, 256, 512), blocks=2)
    filters = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert (len(filters), sum(filters)) == (20, 4800)
    # He et al.'s ResNet-18 with a 3 x 3 stem and ten classes has 11,173,962; its three shortcuts'
    # batch normalisations (2 x 896) are left out here.
    assert sum(p.numel() for p in model.parameters()) == 11_173_962 - 2 * (128 + 256 + 512)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("blocks", [1, 2])
def test_resnet_halves_its_size_at_each_width(batch_norm: bool, blocks: int) -> None:
    model = resnet(1, 5, widths=(4, 8, 8), blocks=blocks, activation=nn.GELU, batch_norm=batch_norm)
    x = torch.randn(2, 1, 16, 16)
    sizes = []
    for name, module in model.named_children():
        x = module(x)
        if name.startswith("block"):
            sizes.append(tuple(x.shape[1:]))
    assert sizes[::blocks] == [(4, 16, 16), (8, 8, 8), (8, 4, 4)]
    assert x.shape == (2, 5)


def test_without_batch_norm_a_resnet_starts_as_its_shortcuts() -> None:
    torch.manual_seed(0)
    model = resnet(1, 2, widths=(4,), blocks=3, batch_norm=False)
    x = torch.randn(2, 1, 8, 8)
    stem = model.act1(model.conv1(x))  # type: ignore[operator]
    through = model.block3(model.block2(model.block1(stem)))  # type: ignore[operator]
    torch.testing.assert_close(through, stem)


@pytest.mark.parametrize("make", [lambda: resnet(0, 2), lambda: cnn(1, 0), lambda: mlp(3, 2, width=0)])
def test_sizes_are_checked(make) -> None:
    with pytest.raises(InputError, match="= 0"):
        make()
