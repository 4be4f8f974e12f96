"""torch's multi-head attention with an inner width of its own, so that heads and channels can go.

`nn.MultiheadAttention` takes the width of its heads from that of its input: without a head it refuses
to run, and its fast path reads the tensors by themselves. Names of parameters stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Container

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unknot.core.errors import InputError


class NarrowAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose shapes follow its parameters; made by `narrow`.

    Rows of ``in_proj_weight`` (or of ``q_proj_weight``, ``k_proj_weight``, ``v_proj_weight``) with their
    biases and the columns of ``out_proj.weight`` belong to heads: whoever removes a head's sets
    ``num_heads``, whoever removes some of every head's sets ``head_dim``. Heads of the values may be of
    another width. Columns of the former and rows of the latter are channels, which go with nothing else.
    Weights are divided by the root of the head's width before pruning.
    """

    scale: float  # of the products of queries and keys

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As of `nn.MultiheadAttention`; weights are those of the heads that are left.

        Raises:
            InputError: a hint ``is_causal`` without a mask, or a mask for each head of another number.
        """
        alike = query is key and key is value
        if query.is_nested:
            return self._of_sequences(query, key, value), None
        if is_causal and attn_mask is None:
            raise InputError("is_causal without attn_mask", "the mask that it is a hint of", "pass both")
        batched = query.ndim == 3
        if not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(attn_mask, key_padding_mask, len(query), query.dtype)
        q, k, v = self._heads(query, key, value, alike=alike)
        y, weights = self._attend(q, k, v, mask, need_weights, causal)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return (y if self.batch_first else y.transpose(0, 1)), weights

    def _heads(
        self, query: Tensor, key: Tensor, value: Tensor, *, alike: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[n, heads, places, width]``, with what stands after the sequence."""
        rows = self.num_heads * self.head_dim
        if alike and self.in_proj_weight is not None:
            sizes = [rows, rows, len(self.in_proj_weight) - 2 * rows]
            q, k, v = torch.split(F.linear(query, self.in_proj_weight, self.in_proj_bias), sizes, -1)
        else:
            q, k, v = self._projected(query, key, value, rows)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([t, b.expand(len(t), 1, -1)], 1)
                for t, b in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        q, k, v = (t.view(*t.shape[:2], self.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        return q, k, v

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, rows: int) -> tuple[Tensor, ...]:
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = list(
                torch.split(self.in_proj_weight, [rows, rows, len(self.in_proj_weight) - 2 * rows])
            )
        biases: list[Tensor | None] = [None] * 3
        if self.in_proj_bias is not None:
            biases = list(torch.split(self.in_proj_bias, [len(w) for w in weights]))
        return tuple(F.linear(*of) for of in zip((query, key, value), weights, biases, strict=True))

    def _mask(
        self, mask: Tensor | None, padding: Tensor | None, n: int, dtype: torch.dtype
    ) -> Tensor | None:
        """Both in one, to be added to the products ``[n, heads, queries, keys]``."""
        if mask is not None:
            mask = _added(mask, dtype)
            if mask.ndim == 3:
                if len(mask) != n * self.num_heads:
                    raise InputError(
                        f"attn_mask of shape {tuple(mask.shape)} for {n} sequences",
                        f"one for each of the {self.num_heads} heads that are left",
                        "pass a mask [queries, keys], or leave the heads that are gone out of it",
                    )
                mask = mask.view(n, self.num_heads, *mask.shape[1:])
        if padding is not None:
            added = _added(padding, dtype)[:, None, None]
            mask = added if mask is None else mask + added
        further = (self.bias_k is not None) + bool(self.add_zero_attn)
        return mask if mask is None or not further else F.pad(mask, (0, further))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool, causal: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=self.scale)
            return y, None
        products = (q * self.scale) @ k.transpose(-2, -1)
        weights = F.dropout((products if mask is None else products + mask).softmax(-1), dropout)
        return weights @ v, weights

    def _of_sequences(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Of nested tensors, into which `nn.TransformerEncoder` turns padded ones in eval mode."""
        found = [
            self(*(t[None] if self.batch_first else t[:, None] for t in of), need_weights=False)[0]
            for of in zip(query.unbind(), key.unbind(), value.unbind(), strict=True)
        ]
        return torch.nested.as_nested_tensor([y.squeeze(0 if self.batch_first else 1) for y in found])


def narrow(attention: nn.MultiheadAttention) -> NarrowAttention:
    """The same attention, with the same parameters (not copies) and hooks, in a form that can be cut.

    Its ``out_proj`` is the module of the original: cut it in a copy of the model.

    Raises:
        InputError: a subclass, which may compute something else.
    """
    if isinstance(attention, NarrowAttention):
        return attention
    if type(attention) is not nn.MultiheadAttention:
        raise InputError(
            f"an attention of class {type(attention).__name__}", "nn.MultiheadAttention itself",
            "leave its heads alone",
        )  # fmt: skip
    made = NarrowAttention.__new__(NarrowAttention)
    # Containers of its own: what is set on one must not change the other.
    made.__dict__ = {k: copy.copy(v) if isinstance(v, dict) else v for k, v in attention.__dict__.items()}
    made.scale = attention.head_dim**-0.5
    # nn.TransformerEncoderLayer asks for this before it goes on without calling the module.
    made._qkv_same_embed_dim = False
    return made


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added: -inf where it was true."""
    if mask.is_floating_point():
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)


def narrow_all(model: nn.Module, names: Container[str] | None = None) -> nn.Module:
    """``model``, in place, with its `nn.MultiheadAttention` (those of these dotted ``names``) narrow."""
    made: dict[nn.Module, NarrowAttention] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.MultiheadAttention and name and (names is None or name in names):
            owner, _, key = name.rpartition(".")
            made[module] = made.get(module) or narrow(module)
            setattr(model.get_submodule(owner), key, made[module])
    return model
