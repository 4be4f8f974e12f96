"""Nets on tokens: attention in the ways it is written, normalisations of tokens, mixers, recurrence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tokens(nn.Module):
    """A linear layer, a block on tokens that keeps their width, a read-out: ``[n, 6, 8] -> [n, 5]``."""

    def __init__(self, block: nn.Module, d: int = 32, *, residual: bool = True) -> None:
        super().__init__()
        self.inp, self.block, self.out = nn.Linear(8, d), block, nn.Linear(d, 5)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        y = self.block(x)
        return self.out(x + y if self.residual else y).mean(1)


class Fused(nn.Module):
    """timm: one layer for queries, keys and values; how many heads and how wide are attributes."""

    def __init__(self, how: str = "head_dim", d: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.how = heads, d // heads, how
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        width = {"head_dim": self.head_dim, "open": -1, "channels": c // self.num_heads}[self.how]
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.proj(a.transpose(1, 2).reshape(b, n, -1))


class ZeroKeyBias(Fused):
    """BEiT, Swin v2: the bias of queries and values is learnt, that of keys a buffer of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.randn(32)) for _ in range(2))
        self.register_buffer("k_bias", torch.zeros(32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        y = F.linear(x, self.qkv.weight, torch.cat([self.q_bias, self.k_bias, self.v_bias]))
        q, k, v = y.reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.proj(a.transpose(1, 2).reshape(b, n, -1))


class RelativePlaces(Fused):
    """BoTNet, SAM: scores gain a product of queries and a table of places; heads merge with the batch."""

    def __init__(self, einsum: bool) -> None:
        super().__init__()
        self.table, self.einsum = nn.Parameter(torch.randn(6, self.head_dim)), einsum

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        y = self.qkv(x).reshape(b, n, 3, self.num_heads, -1)
        q, k, v = y.permute(2, 0, 3, 1, 4).reshape(3, b * self.num_heads, n, -1).unbind(0)
        if self.einsum:
            places = torch.einsum("bnc,nkc->bnk", q, self.table[None].repeat(n, 1, 1))
        else:
            places = (q.reshape(-1, self.head_dim) @ self.table.T).view(-1, n, n)
        a = (q @ k.transpose(-2, -1) * self.scale + places).softmax(-1) @ v
        return self.proj(a.view(b, self.num_heads, n, -1).transpose(1, 2).reshape(b, n, -1))


class Separate(nn.Module):
    """Hugging Face: three layers, views with all sizes from attributes."""

    def __init__(self, sdpa: bool = False, d: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, d // heads
        self.all_head_size, self.sdpa = d, sdpa
        self.query, self.key, self.value = (nn.Linear(d, d) for _ in range(3))
        self.dense, self.dropout = nn.Linear(d, d), nn.Dropout(0.1)

    def heads(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.num_attention_heads, self.attention_head_size)
        return x.view(shape).permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        if self.sdpa:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q @ k.transpose(-1, -2)) / math.sqrt(self.attention_head_size)
            y = self.dropout(scores.softmax(-1)) @ v
        y = y.permute(0, 2, 1, 3).contiguous()
        return self.dense(y.view(*y.shape[:-2], self.all_head_size))


class Multihead(nn.Module):
    """torch's own."""

    def __init__(self, need_weights: bool = False) -> None:
        super().__init__()
        self.att, self.need_weights = nn.MultiheadAttention(32, 4, batch_first=True), need_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.att(x, x, x, need_weights=self.need_weights)[0]


class Windows(nn.Module):
    """Swin: attention within windows, with a table of biases by relative position."""

    def __init__(self, side: int = 2, d: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.window, self.heads, self.scale = side, heads, (d // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads) * 0.5)
        place = torch.stack(torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")).flatten(1)
        steps = (place[:, :, None] - place[:, None, :]) + side - 1
        self.register_buffer("index", steps[0] * (2 * side - 1) + steps[1])

    def forward(self, x: Tensor) -> Tensor:
        """``[n, h, w, d]``."""
        n, h, w, c = x.shape
        s = self.window
        y = x.view(n, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)
        b, t, _ = y.shape
        q, k, v = self.qkv(y).reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(t, t, -1).permute(2, 0, 1)
        a = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(-1)
        y = self.proj((a @ v).transpose(1, 2).reshape(b, t, -1))
        return y.view(n, h // s, w // s, s, s, -1).transpose(2, 3).reshape(n, h, w, -1)


class Merging(nn.Module):
    """Swin: two by two neighbours are appended, normalised and brought to twice the width."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * c), nn.Linear(4 * c, 2 * c, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Shifted(nn.Module):
    """A small Swin: a convolution to patches, windows, merging, windows, a read-out of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 2, stride=2), nn.LayerNorm(16)
        self.first, self.merge, self.second = Windows(d=16, heads=2), Merging(16), Windows()
        self.fc1, self.fc2, self.last = nn.Linear(32, 48), nn.Linear(48, 32), nn.LayerNorm(32)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = self.merge(x + self.first(self.norm(x)))
        x = x + self.second(x)
        x = x + self.fc2(F.gelu(self.fc1(x)))
        return self.out(self.last(x).mean((1, 2)))


class OverMaps(nn.Module):
    """Attention over the places of maps by 1 x 1 convolutions, one head (YOLOv10, SAGAN)."""

    def __init__(self, einsum: bool) -> None:
        super().__init__()
        self.q, self.k = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.v, self.o, self.einsum = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), einsum

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = (layer(x).view(n, -1, h * w) for layer in (self.q, self.k, self.v))
        if self.einsum:
            a = torch.einsum("bci,bcj->bij", q, k).softmax(-1)
            y = torch.einsum("bcj,bij->bci", v, a)
        else:
            a = (q.transpose(1, 2) @ k).softmax(-1)
            y = v @ a.transpose(1, 2)
        return x + self.o(y.view(n, -1, h, w))


class Einsum(nn.Module):
    """Attention heads by einsum on four axes."""

    def __init__(self, d: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, (d // heads) ** -0.5
        self.to_q, self.to_kv = nn.Linear(d, d, bias=False), nn.Linear(d, 2 * d, bias=False)
        self.to_out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, (k, v) = self.to_q(x), self.to_kv(x).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (q, k, v))
        a = (torch.einsum("bihd,bjhd->bhij", q, k) * self.scale).softmax(-1)
        return self.to_out(torch.einsum("bhij,bjhd->bihd", a, v).flatten(2))


class GroupedQueries(nn.Module):
    """Llama: two key heads serve four query heads; keys and values are repeated."""

    def __init__(self, d: int = 32, heads: int = 4, key_heads: int = 2) -> None:
        super().__init__()
        self.head_dim, self.groups = d // heads, heads // key_heads
        self.q_proj = nn.Linear(d, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(d, key_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(d, key_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, d, bias=False)

    def repeated(self, x: Tensor) -> Tensor:
        b, h, n, d = x.shape
        return x[:, :, None].expand(b, h, self.groups, n, d).reshape(b, h * self.groups, n, d)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = (
            layer(x).view(shape).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        k, v = self.repeated(k), self.repeated(v)
        a = (q @ k.transpose(2, 3) * self.head_dim**-0.5).softmax(-1)
        y = (a @ v).transpose(1, 2).contiguous()
        return self.o_proj(y.reshape(*x.shape[:-1], -1))


class HandMadeRms(nn.Module):
    """Llama's RMSNorm."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Mlp(nn.Module):
    """A normalisation, then an inner width; ``gated`` as in Llama, ``halves`` as in SwiGLU of timm."""

    def __init__(self, norm: nn.Module, form: str = "plain", d: int = 32) -> None:
        super().__init__()
        self.norm, self.form = norm, form
        self.fc1, self.fc2 = nn.Linear(d, 48), nn.Linear(24 if form == "halves" else 48, d)
        if form == "gated":
            self.gate = nn.Linear(d, 48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        y = self.fc1(x)
        if self.form == "gated":
            return self.fc2(F.silu(self.gate(x)) * y)
        if self.form == "halves":
            p, q = y.chunk(2, dim=-1)
            return self.fc2(F.silu(p) * q)
        return self.fc2(F.gelu(y))


class TokenMixer(nn.Module):
    """ResMLP, MLP-Mixer: a linear layer along the axis of the tokens, then one along the channels."""

    def __init__(self, d: int = 32, tokens: int = 6) -> None:
        super().__init__()
        self.mix, self.fc1, self.fc2 = nn.Linear(tokens, tokens), nn.Linear(d, 48), nn.Linear(48, d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.fc2(F.gelu(self.fc1(x)))


class Vision(nn.Module):
    """A small ViT: patches, class token, learnt positions, one block before the norm, the class token."""

    def __init__(self, d: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.positions = nn.Parameter(torch.randn(1, 17, d))
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(d), Fused("open", d), nn.LayerNorm(d)
        self.fc1, self.fc2, self.norm = nn.Linear(d, 48), nn.Linear(48, d), nn.LayerNorm(d)
        self.out = nn.Linear(d, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        x = x + self.attention(self.norm1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.out(self.norm(x)[:, 0])


class Recurrent(nn.Module):
    """A recurrent layer reads what a linear layer, or a stack of convolutions, makes of a sequence."""

    def __init__(self, kind: type[nn.RNNBase], convolutions: bool) -> None:
        super().__init__()
        c = 3 if convolutions else 8
        self.first = nn.Conv2d(c, 12, 3, padding=1) if convolutions else nn.Linear(c, 12)
        self.second = nn.Conv2d(12, 8, 3, padding=1) if convolutions else nn.Linear(12, 16)
        self.rnn = kind(16 if not convolutions else 8 * 8, 24, batch_first=True)
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        if x.ndim == 4:  # columns of the image are steps
            x = x.permute(0, 3, 1, 2).flatten(2)
        return self.out(self.rnn(x)[0][:, -1])
