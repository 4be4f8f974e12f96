"""Nets that are peculiar in what they take or return: several inputs, tokens, tied weights, detectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Siamese(nn.Module):
    """Two images through the same two convolutions and through one of their own each."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.left, self.right = (
            nn.Conv2d(c, w, 3, padding=1) for c, w in ((3, 12), (12, 8), (12, 8))
        )
        self.out = nn.Linear(16, 5)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        p, q = self.left(self.both(image).relu()), self.right(self.both(other).relu())
        return self.out(torch.cat([p, q], 1).relu().mean((2, 3)))


class Words(nn.Module):
    """Whole numbers in, an embedding in a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.a, self.b = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.out = nn.Linear(16, 5)

    def forward(self, ids: Tensor) -> Tensor:
        e = self.emb(ids)
        return self.out((e + self.b(self.a(e).relu())).mean(1))


class Tied(nn.Module):
    """A language model whose read-out is its embedding; the inner layers are free."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.a, self.b = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 20, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        e = self.emb(ids)
        return self.head(self.norm(e + self.b(self.a(e).relu())))


class Line(nn.Module):
    """Two convolutions and a read-out; ``form`` says in what the logits come."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.out, self.form = nn.Linear(12, 1), form

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        y = self.out(self.b(self.a(x).relu()).relu().mean((2, 3)))
        if self.form == "tuple":
            return y, y.square().mean()
        return {"logit": y, "score": y.sigmoid()[:, 0]} if self.form == "dict" else y.squeeze(1)


class Auxiliary(nn.Module):
    """A second head that runs in training only; it reads channels that may go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.out, self.aux, self.aux_out = nn.Linear(16, 5), nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.a(x).relu()
        y = self.out(self.b(x).relu().mean((2, 3)))
        return (y, self.aux_out(self.aux(x).relu().mean((2, 3)))) if self.training else y


class Detector(nn.Module):
    """Boxes of the places whose score passes a threshold; at .999 none does."""

    threshold = 0.999

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.box, self.score = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.a(x).relu()
        n, c, h, w = y.shape
        y = self.b(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)).relu()
        boxes = self.box(y).permute(0, 2, 3, 1).reshape(-1, 4)
        scores = self.score(y).permute(0, 2, 3, 1).reshape(-1).sigmoid()
        found = scores > self.threshold
        if self.training:  # a loss needs all of them
            found = torch.ones_like(found)
        return {"boxes": boxes[found], "scores": scores[found]}


class Flattened(nn.Module):
    """VGG: maps are flattened into a linear layer, another follows; dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.fc, self.out = nn.Linear(8 * 16, 24), nn.Linear(24, 5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(self.b(self.a(x).relu()).relu(), 2).flatten(1)
        return self.out(self.dropout(self.fc(y).relu()))


class Generator(nn.Module):
    """A vector becomes maps, which are made larger: a decoder, the generator of a GAN."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.maps = nn.Linear(8, 16 * 9), nn.Unflatten(1, (16, 3, 3))
        self.a, self.b = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(F.max_pool2d(self.maps(self.first(x)), 2, 1)).relu())
