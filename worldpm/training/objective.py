"""From the rewards of a micro-batch to the training loss and to what is reported beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worldpm.data.packing import PackedBatch
from worldpm.losses import bradley_terry_loss
from worldpm.training.config import LossConfig

# R responses, P pairs of one micro-batch.


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """Sums over the pairs of a micro-batch.

    `objective` is differentiated; `bt_loss` (plain, unweighted) and `num_correct` (a tie counts one
    half) are reported.
    """

    objective: torch.Tensor
    bt_loss: torch.Tensor
    num_correct: torch.Tensor


def batch_loss(rewards_R: torch.Tensor, batch: PackedBatch, config: LossConfig) -> BatchLoss:
    """The losses of one micro-batch; a filler's are zero, yet reach every weight."""
    if batch.is_filler:
        zero = rewards_R.sum() * 0.0
        return BatchLoss(zero, zero.detach(), zero.detach())
    device = rewards_R.device
    chosen_P = torch.from_numpy(batch.chosen).to(device)
    rejected_P = torch.from_numpy(batch.rejected).to(device)
    with torch.no_grad():
        difference_P = rewards_R[chosen_P] - rewards_R[rejected_P]
        num_correct = (difference_P > 0).sum() + 0.5 * (difference_P == 0).sum()
        plain = bradley_terry_loss(rewards_R, chosen_P, rejected_P)
    objective = _objective(rewards_R, chosen_P, rejected_P, batch, config)
    return BatchLoss(objective, plain, num_correct)


def _objective(
    rewards_R: torch.Tensor,
    chosen_P: torch.Tensor,
    rejected_P: torch.Tensor,
    batch: PackedBatch,
    config: LossConfig,
) -> torch.Tensor:
    device = rewards_R.device
    weight_P = torch.from_numpy(batch.weight).to(device) if config.use_weights else None
    margin_P = None
    if config.margin_scale:
        margin_P = config.margin_scale * torch.from_numpy(batch.margin).to(device).float()
    return bradley_terry_loss(
        rewards_R,
        chosen_P,
        rejected_P,
        weight_P,
        margin_P=margin_P,
        label_smoothing=config.label_smoothing,
    )
