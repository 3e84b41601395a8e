"""Attention over packed groups, as functions that `transformers` models call by name.

Backends: `segments` (scaled dot-product attention per segment; CPU and fallback) and `dense` (one
mask over the whole row; the reference in tests). Every layer receives the row's `PackingPlan` as
the keyword argument `packing`; no model code is changed.
"""

# T tokens, H query heads, J key heads, G = H / J queries per key head, D width of a head

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from worldpm.modeling.packing_plan import PackingPlan

AttentionBackend = Literal["segments", "dense"]
BACKENDS: tuple[AttentionBackend, ...] = ("segments", "dense")


def implementation_name(backend: AttentionBackend) -> str:
    """The name under which `transformers` finds a backend."""
    return f"worldpm_{backend}"


def segments_attention(
    module: nn.Module,
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packing: PackingPlan,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend segment by segment, each to its prefix and causally to itself."""
    _refuse_unsupported(attention_mask, dropout)
    num_key_heads = key_1JTD.shape[1]
    # Queries that share a key head become a batch, keys a broadcast view: nothing is repeated.
    query_GJTD = query_1HTD[0].unflatten(0, (num_key_heads, -1)).transpose(0, 1)
    chunks = iter(query_GJTD.split(packing.chunk_lengths, dim=2))
    # One split, not a slice per segment: the backward of a slice fills a whole row with zeros.
    keys = key_1JTD.split(packing.segment_lengths, dim=2)
    values = value_1JTD.split(packing.segment_lengths, dim=2)
    outputs: list[torch.Tensor] = []
    for number, segment in enumerate(packing.segments):
        key, value = keys[number], values[number]
        if segment.prefix is not None:
            key = torch.cat([keys[segment.prefix], key], dim=2)
            value = torch.cat([values[segment.prefix], value], dim=2)
        key = key.expand(query_GJTD.shape[0], -1, -1, -1)
        value = value.expand(query_GJTD.shape[0], -1, -1, -1)
        for num_queries, num_keys in segment.chunks:
            mask = packing.causal_mask(num_queries, num_keys, query_GJTD.dtype, key.device)
            outputs.append(
                functional.scaled_dot_product_attention(
                    next(chunks),
                    key[:, :, :num_keys],
                    value[:, :, :num_keys],
                    attn_mask=mask,
                    scale=scaling,
                )
            )
    output_GJTD = torch.cat(outputs, dim=2)
    return output_GJTD.permute(2, 1, 0, 3).flatten(1, 2)[None], None


def dense_attention(
    module: nn.Module,
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packing: PackingPlan,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend under one mask over the whole row: simple, and quadratic in its length."""
    _refuse_unsupported(attention_mask, dropout)
    repeats = query_1HTD.shape[1] // key_1JTD.shape[1]
    output_1HTD = functional.scaled_dot_product_attention(
        query_1HTD,
        key_1JTD.repeat_interleave(repeats, dim=1),
        value_1JTD.repeat_interleave(repeats, dim=1),
        attn_mask=packing.dense_mask(query_1HTD.device),
        scale=scaling,
    )
    return output_1HTD.transpose(1, 2), None


def _refuse_unsupported(attention_mask: torch.Tensor | None, dropout: float) -> None:
    assert attention_mask is None, "the packing plan is the mask; transformers must not build one"
    assert dropout == 0.0, "chosen and rejected would see different noise"


AttentionInterface.register(implementation_name("segments"), segments_attention)
AttentionInterface.register(implementation_name("dense"), dense_attention)
