"""From the rewards of a micro-batch to the training loss and to what is reported beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from worldpm.data.packing import PackedBatch
from worldpm.losses import (
    bradley_terry_loss,
    centring_penalty,
    plackett_luce_loss,
    vote_target,
)
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
    scores_R = torch.from_numpy(batch.scores).to(device).float()
    if config.kind == "plackett_luce":
        sizes_G = torch.from_numpy(np.diff(batch.group_offsets)).to(device)
        group_R = torch.repeat_interleave(torch.arange(len(sizes_G), device=device), sizes_G)
        objective = plackett_luce_loss(rewards_R, scores_R, group_R)
    else:
        weight_P = torch.from_numpy(batch.weight).to(device) if config.use_weights else None
        margin_P = target_P = None
        if config.margin_scale:
            margin_P = config.margin_scale * torch.from_numpy(batch.margin).to(device).float()
        if config.kind == "vote_aware":
            votes_P = (scores_R[chosen_P], scores_R[rejected_P])
            target_P = vote_target(*votes_P, prior=config.vote_prior)
        objective = bradley_terry_loss(
            rewards_R,
            chosen_P,
            rejected_P,
            weight_P,
            margin_P=margin_P,
            target_P=target_P,
            label_smoothing=config.label_smoothing,
        )
    if config.centring:
        objective = objective + config.centring * centring_penalty(rewards_R)
    return objective


def needs_whole_groups(config: LossConfig) -> bool:
    """Whether the loss looks at responses beyond one pair: then no group may be split."""
    return config.kind == "plackett_luce" or config.centring > 0


def normaliser(config: LossConfig, *, num_pairs: int, num_groups: int) -> int:
    """What the sum over a whole step is divided by: its pairs, or its groups for a list loss."""
    return num_groups if config.kind == "plackett_luce" else num_pairs
