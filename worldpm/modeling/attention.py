"""Attention over packed groups, as functions that `transformers` models call by name.

| backend | how | where |
|---|---|---|
| `segments` | scaled dot-product attention per segment, the prompt's keys before the response's | CPU, fallback |
| `varlen` | one variable-length flash call with gathered keys and values | GPU |
| `flex` | FlexAttention with a block mask | GPU; forward also on CPU |
| `dense` | one mask over the whole row: quadratic in its length | reference in tests |

Every layer receives the row's `PackingPlan` as the keyword argument `packing`; no model code is
changed.
"""  # noqa: E501  a table

# T tokens, H query heads, J key heads, G = H / J queries per key head, D width of a head

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from worldpm.modeling.flex_attention import attend_flex
from worldpm.modeling.packing_plan import PackingPlan
from worldpm.modeling.varlen_attention import attend_varlen

AttentionBackend = Literal["segments", "varlen", "flex", "dense"]
BACKENDS: tuple[AttentionBackend, ...] = get_args(AttentionBackend)


def implementation_name(backend: AttentionBackend) -> str:
    """The name under which `transformers` finds a backend."""
    return f"worldpm_{backend}"


def default_backend(device: str, dtype: torch.dtype) -> AttentionBackend:
    """The backend for a device such as `cpu`, `cuda:1` or `auto`.

    Variable-length flash kernels compute in 16 bits only.
    """
    is_half = dtype in (torch.bfloat16, torch.float16)
    return "varlen" if device != "cpu" and is_half else "segments"


def attend_segments(
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    packing: PackingPlan,
    scale: float | None,
) -> torch.Tensor:
    """Attend segment by segment, each to its prefix and causally to itself; `[1, T, H, D]`.

    Where the plan asks for some rows only, the others are zero.
    """
    num_key_heads = key_1JTD.shape[1]
    # Queries that share a key head become a batch, keys a broadcast view: nothing is repeated.
    query_GJTD = query_1HTD[0].unflatten(0, (num_key_heads, -1)).transpose(0, 1)
    if packing.query_rows is not None:
        query_GJTD = query_GJTD.index_select(2, packing.query_rows)
    chunks = iter(query_GJTD.split(packing.chunk_lengths, dim=2))
    # One split, not a slice per segment: the backward of a slice fills a whole row with zeros.
    keys = key_1JTD.split(packing.segment_lengths, dim=2)
    values = value_1JTD.split(packing.segment_lengths, dim=2)
    outputs: list[torch.Tensor] = []
    for number, segment in enumerate(packing.segments):
        if not segment.chunks:
            continue
        key, value = keys[number], values[number]
        if segment.prefix is not None:
            key = torch.cat([keys[segment.prefix], key], dim=2)
            value = torch.cat([values[segment.prefix], value], dim=2)
        key = key.expand(query_GJTD.shape[0], -1, -1, -1)
        value = value.expand(query_GJTD.shape[0], -1, -1, -1)
        for num_queries, num_keys in segment.chunks:
            mask = None
            if num_queries > 1:
                mask = packing.causal_mask(num_queries, num_keys, query_GJTD.dtype, key.device)
            outputs.append(
                functional.scaled_dot_product_attention(
                    next(chunks),
                    key[:, :, :num_keys],
                    value[:, :, :num_keys],
                    attn_mask=mask,
                    scale=scale,
                )
            )
    output_1THD = torch.cat(outputs, dim=2).permute(2, 1, 0, 3).flatten(1, 2)[None]
    if packing.query_rows is None:
        return output_1THD
    empty_1THD = query_1HTD.new_zeros(query_1HTD.shape).transpose(1, 2)
    return empty_1THD.index_copy(1, packing.query_rows, output_1THD)


def attend_dense(
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    packing: PackingPlan,
    scale: float | None,
) -> torch.Tensor:
    """Attend under one mask over the whole row; `[1, T, H, D]`."""
    repeats = query_1HTD.shape[1] // key_1JTD.shape[1]
    device = query_1HTD.device
    output_1HTD = functional.scaled_dot_product_attention(
        query_1HTD,
        key_1JTD.repeat_interleave(repeats, dim=1),
        value_1JTD.repeat_interleave(repeats, dim=1),
        attn_mask=packing.derive(("dense", device), lambda: dense_mask(packing, device)),
        scale=scale,
    )
    return output_1HTD.transpose(1, 2)


def dense_mask(packing: PackingPlan, device: torch.device) -> torch.Tensor:
    """The boolean mask `[T, T]` of a row, true where a query (row) sees a key (column)."""
    mask = torch.zeros(packing.num_tokens, packing.num_tokens, dtype=torch.bool, device=device)
    for segment in packing.segments:
        own = torch.ones(segment.length, segment.length, dtype=torch.bool, device=device)
        prefix_start, prefix_end = packing.prefix_of(segment)
        mask[segment.start : segment.end, segment.start : segment.end] = own.tril()
        mask[segment.start : segment.end, prefix_start:prefix_end] = True
    return mask


_ATTEND = {
    "segments": attend_segments,
    "varlen": attend_varlen,
    "flex": attend_flex,
    "dense": attend_dense,
}


def _register(backend: AttentionBackend) -> None:
    attend = _ATTEND[backend]

    def attention(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        packing: PackingPlan,
        scaling: float | None = None,
        dropout: float = 0.0,
        query_rows: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        assert attention_mask is None, "the plan is the mask; transformers must not build one"
        assert dropout == 0.0, "chosen and rejected would see different noise"
        if query_rows is not None and backend == "segments":
            packing = packing.at_rows(query_rows.to(query.device))
        return attend(query, key, value, packing, scaling), None

    AttentionInterface.register(implementation_name(backend), attention)


for _backend in BACKENDS:
    _register(_backend)
