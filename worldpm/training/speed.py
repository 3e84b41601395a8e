"""Honest speed of a step: real tokens over all ranks, and the share of the devices' peak."""

from __future__ import annotations

import resource
from typing import Any

import torch

from worldpm.data.loader import Step
from worldpm.training.engine import Ranks
from worldpm.training.monitor import peak_flops


class Speedometer:
    """Speed over all ranks, from real tokens: no padding, no filler, no repeated prompt."""

    def __init__(self, peak: float | None, ranks: Ranks) -> None:
        self._is_gpu = ranks.device.type == "cuda"
        name = torch.cuda.get_device_name() if self._is_gpu else ""
        self._peak_flops = peak or peak_flops(name)
        self._world_size = ranks.world_size

    def read(
        self, step: Step, num_computed_tokens: float, flops: float, wall_s: float, stall_s: float
    ) -> dict[str, Any]:
        """The numbers of a log line; `mfu` is null where the device's peak is not known."""
        mfu = None
        if self._peak_flops is not None:
            mfu = flops / wall_s / (self._peak_flops * self._world_size)
        return {
            "tokens_per_s": step.num_tokens / wall_s,
            "pairs_per_s": step.num_pairs / wall_s,
            "mfu": mfu,
            "padding_share": 1 - step.num_tokens / num_computed_tokens,
            "input_stall_s": stall_s,
            "step_s": wall_s,
            "memory_bytes": self._memory_bytes(),
        }

    def _memory_bytes(self) -> int:
        if self._is_gpu:
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
