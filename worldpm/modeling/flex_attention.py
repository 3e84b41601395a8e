"""Packed groups through torch's FlexAttention: one call under a block mask.

On a GPU it is compiled once for all lengths. On the CPU it runs forward only (torch has no
backward there), uncompiled.
"""

# T tokens, H query heads, J key heads, D width of a head

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from worldpm.modeling.packing_plan import PackingPlan


def attend_flex(
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    packing: PackingPlan,
    scale: float | None,
) -> torch.Tensor:
    """Attend under the row's block mask; `[1, T, H, D]`."""
    device = query_1HTD.device
    output_1HTD = _kernel(device.type)(
        query_1HTD,
        key_1JTD,
        value_1JTD,
        block_mask=packing.derive(("flex", device), lambda: block_mask(packing, device)),
        scale=scale,
        enable_gqa=query_1HTD.shape[1] != key_1JTD.shape[1],
    )
    return output_1HTD.transpose(1, 2)


def block_mask(packing: PackingPlan, device: torch.device) -> BlockMask:
    """The mask of a row: same segment or own prompt, and not later."""
    lengths = torch.tensor(packing.segment_lengths, device=device)
    numbers = torch.arange(len(lengths), device=device)
    prompts = torch.tensor(
        [
            number if segment.prefix is None else segment.prefix
            for number, segment in enumerate(packing.segments)
        ],
        device=device,
    )
    segment_T = numbers.repeat_interleave(lengths)
    prompt_T = prompts.repeat_interleave(lengths)

    def is_visible(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        key_segment = segment_T[key]
        related = (key_segment == segment_T[query]) | (key_segment == prompt_T[query])
        return related & (query >= key)

    return create_block_mask(
        is_visible, None, None, packing.num_tokens, packing.num_tokens, device=device
    )


@cache
def _kernel(device_type: str) -> Any:
    # One compilation for all lengths: a new one for every length costs many seconds each.
    return flex_attention if device_type == "cpu" else torch.compile(flex_attention, dynamic=True)
