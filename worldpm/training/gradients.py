"""The gradient of one step: all micro-batches of this rank, summed over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from worldpm.data.loader import Step
from worldpm.data.packing import PackedBatch
from worldpm.training.collectives import all_reduce_sum
from worldpm.training.config import LossConfig
from worldpm.training.engine import Engine
from worldpm.training.objective import batch_loss, normaliser


@dataclass(frozen=True, slots=True)
class StepSums:
    """Means over the whole step, the same on all ranks; token positions computed by all of them."""

    objective: float
    bt_loss: float
    accuracy: float
    num_computed_tokens: float


def accumulate(
    engine: Engine,
    step: Step,
    config: LossConfig,
    device: torch.device,
    on_batch: Callable[[PackedBatch, torch.Tensor], None] | None = None,
) -> StepSums:
    """Forward and backward of a step's micro-batches; the engine then holds the gradient.

    `on_batch` sees each micro-batch with its rewards.
    """
    # The whole step normalises: a pair weighs the same wherever it is packed.
    divisor = normaliser(config, num_pairs=step.num_pairs, num_groups=step.num_groups)
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    last = len(step.micro_batches) - 1
    for position, batch in enumerate(step.micro_batches):
        engine.begin_micro_batch(is_last=position == last)
        rewards_R = forward(engine, batch, device)
        losses = batch_loss(rewards_R, batch, config)
        engine.backward(losses.objective / divisor)
        parts = (losses.objective.detach(), losses.bt_loss, losses.num_correct)
        sums[:3] += torch.stack([part.double() for part in parts])
        sums[3] += batch.num_tokens
        if on_batch is not None:
            on_batch(batch, rewards_R.detach())
    objective, bt_loss, num_correct, num_computed = all_reduce_sum(sums).tolist()
    return StepSums(
        objective=objective / divisor,
        bt_loss=bt_loss / step.num_pairs,
        accuracy=num_correct / step.num_pairs,
        num_computed_tokens=num_computed,
    )


def forward(engine: Engine, batch: PackedBatch, device: torch.device) -> torch.Tensor:
    """Rewards fp32 [R] of a micro-batch."""
    return engine.forward(
        torch.from_numpy(batch.input_ids).to(device),
        torch.from_numpy(batch.position_ids).to(device),
        # The segments decide the layout of the attention calls: they are read on the CPU.
        torch.from_numpy(batch.segments),
        torch.from_numpy(batch.reward_index).to(device),
    )
