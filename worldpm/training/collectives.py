"""What the ranks tell each other: sums, maxima, small objects, and that they have got here."""

from __future__ import annotations

from typing import Any

import torch


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all ranks, in place."""
    torch.distributed.all_reduce(values)
    return values


def all_reduce_max(value: float, device: torch.device) -> float:
    """The largest of a number over all ranks."""
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return float(tensor.item())


def barrier() -> None:
    """Wait for all ranks."""
    torch.distributed.barrier()


def gather_objects(value: Any) -> list[Any]:
    """Every rank's value, by rank (small, JSON-like); all ranks must call."""
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
