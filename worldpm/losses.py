"""Losses of a preference model, as pure functions of rewards: sums over pairs, never means.

The caller divides by the pairs (or weights) of the whole step, so that the gradient does not depend
on how a step is cut into micro-batches and ranks.
"""

# R responses of a micro-batch, P pairs as indices into them

from __future__ import annotations

import torch
from torch.nn import functional


def bradley_terry_loss(
    rewards_R: torch.Tensor,
    chosen_P: torch.Tensor,
    rejected_P: torch.Tensor,
    weight_P: torch.Tensor | None = None,
    *,
    margin_P: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Sum over pairs of −log σ(r_chosen − r_rejected), weighted (Bradley & Terry 1952).

    `margin_P` is subtracted from the difference (Touvron et al. 2023, section 3.2.2). With label
    smoothing ε the target is 1 − ε instead of 1. The gradient of a pair's difference d is
    weight · (σ(d − margin) − (1 − ε)).
    """
    difference_P = rewards_R[chosen_P] - rewards_R[rejected_P]
    if margin_P is not None:
        difference_P = difference_P - margin_P
    # −(1 − ε) log σ(d) − ε log σ(−d) = softplus(−d) + ε d: stable for any d.
    loss_P = functional.softplus(-difference_P) + label_smoothing * difference_P
    if weight_P is not None:
        loss_P = loss_P * weight_P
    return loss_P.sum()
