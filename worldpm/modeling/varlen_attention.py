"""Packed groups as one variable-length flash-attention call, for GPUs.

Every segment is a sequence of its own whose keys are its prefix and itself. A prompt's keys and
values are gathered once for every response; the causal mask is aligned at the bottom right, so a
response sees its whole prompt. The gather's backward adds the gradients up.
"""

# T tokens, L gathered keys, S segments, H query heads, J key heads, D width of a head

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Protocol

import torch

from worldpm.errors import ConfigError
from worldpm.modeling.packing_plan import PackingPlan


@dataclass(frozen=True, slots=True)
class VarlenArrays:
    """Which keys to gather, int64 `[L]`, and where sequences begin, int32 `[S + 1]`."""

    key_index_L: torch.Tensor
    cumulative_queries: torch.Tensor
    cumulative_keys: torch.Tensor
    max_queries: int
    max_keys: int

    @classmethod
    def of(cls, packing: PackingPlan, device: torch.device) -> VarlenArrays:
        """Work them out for a row."""
        index: list[int] = []
        num_keys: list[int] = []
        for segment in packing.segments:
            prefix_start, prefix_end = packing.prefix_of(segment)
            index += range(prefix_start, prefix_end)
            index += range(segment.start, segment.end)
            num_keys.append(prefix_end - prefix_start + segment.length)
        return cls(
            torch.tensor(index, device=device),
            _cumulative(packing.segment_lengths, device),
            _cumulative(num_keys, device),
            max(packing.segment_lengths),
            max(num_keys),
        )


class VarlenKernel(Protocol):
    """Causal attention over sequences laid end to end, aligned at the bottom right."""

    def __call__(
        self,
        query_THD: torch.Tensor,
        key_LJD: torch.Tensor,
        value_LJD: torch.Tensor,
        arrays: VarlenArrays,
        scale: float | None,
    ) -> torch.Tensor:
        """Return `[T, H, D]`."""
        ...


def attend_varlen(
    query_1HTD: torch.Tensor,
    key_1JTD: torch.Tensor,
    value_1JTD: torch.Tensor,
    packing: PackingPlan,
    scale: float | None,
) -> torch.Tensor:
    """Attend in one call over all segments; `[1, T, H, D]`.

    Raises:
        ConfigError: the tensors are not on a GPU.
    """
    device = query_1HTD.device
    arrays = packing.derive(("varlen", device), lambda: VarlenArrays.of(packing, device))
    key_LJD = key_1JTD[0].transpose(0, 1).index_select(0, arrays.key_index_L)
    value_LJD = value_1JTD[0].transpose(0, 1).index_select(0, arrays.key_index_L)
    kernel = choose_kernel(device.type)
    query_THD = query_1HTD[0].transpose(0, 1).contiguous()
    return kernel(query_THD, key_LJD, value_LJD, arrays, scale)[None]


@cache
def choose_kernel(device_type: str) -> VarlenKernel:
    """flash-attn where it is installed, else torch's own.

    Raises:
        ConfigError: the device is no GPU.
    """
    if device_type != "cuda":
        raise ConfigError(
            f"the attention backend varlen needs a GPU, found {device_type}: use segments"
        )
    return flash_attn_kernel if importlib.util.find_spec("flash_attn") else torch_kernel


def flash_attn_kernel(
    query_THD: torch.Tensor,
    key_LJD: torch.Tensor,
    value_LJD: torch.Tensor,
    arrays: VarlenArrays,
    scale: float | None,
) -> torch.Tensor:
    """The flash-attn package (2.1 and later align causal masks at the bottom right)."""
    flash_attn = importlib.import_module("flash_attn")
    return flash_attn.flash_attn_varlen_func(
        query_THD,
        key_LJD,
        value_LJD,
        arrays.cumulative_queries,
        arrays.cumulative_keys,
        arrays.max_queries,
        arrays.max_keys,
        softmax_scale=scale,
        causal=True,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


def torch_kernel(
    query_THD: torch.Tensor,
    key_LJD: torch.Tensor,
    value_LJD: torch.Tensor,
    arrays: VarlenArrays,
    scale: float | None,
) -> torch.Tensor:
    """torch's variable-length flash attention; a window of (−1, 0) is causal."""
    from torch.nn.attention.varlen import varlen_attn

    output_THD = varlen_attn(
        query_THD,
        key_LJD,
        value_LJD,
        arrays.cumulative_queries,
        arrays.cumulative_keys,
        arrays.max_queries,
        arrays.max_keys,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query_THD.shape[1] != key_LJD.shape[1],
    )
    assert isinstance(output_THD, torch.Tensor)
    return output_THD


def _cumulative(lengths: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
