"""Losses of a preference model, as pure functions of rewards: sums, never means.

The caller divides by the pairs (or groups, or responses) of the whole step, so that the gradient
does not depend on how a step is cut into micro-batches and ranks.
"""

# R responses of a micro-batch, P pairs as indices into them, G groups

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
    target_P: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Sum over pairs of weight · cross-entropy(target, σ(r_chosen − r_rejected − margin)).

    With target 1 this is −log σ(difference) (Bradley & Terry 1952). `margin_P` is subtracted from
    the difference (Touvron et al. 2023, section 3.2.2). `target_P` is the probability that the
    chosen response is the better one (default 1); label smoothing ε draws it towards ½:
    t ← t(1 − ε) + (1 − t)ε. The gradient of a pair's difference d is weight · (σ(d − margin) − t).
    """
    difference_P = rewards_R[chosen_P] - rewards_R[rejected_P]
    if margin_P is not None:
        difference_P = difference_P - margin_P
    # −t log σ(d) − (1 − t) log σ(−d) = −log σ(d) + (1 − t) d: finite for any finite d.
    loss_P = -functional.logsigmoid(difference_P)
    if target_P is not None or label_smoothing:
        target_P = torch.ones_like(difference_P) if target_P is None else target_P
        smoothed_P = target_P * (1 - label_smoothing) + (1 - target_P) * label_smoothing
        loss_P = loss_P + (1 - smoothed_P) * difference_P
    if weight_P is not None:
        loss_P = loss_P * weight_P
    return loss_P.sum()


def vote_target(
    chosen_votes_P: torch.Tensor, rejected_votes_P: torch.Tensor, *, prior: float
) -> torch.Tensor:
    """Probability that the chosen answer is the better one, given net votes, `[P]`.

    Each vote is taken as an independent comparison won by the answer it went to, with a symmetric
    Beta(prior, prior) belief about the win probability before: the mean of the posterior is
    (wins + prior) / (wins + losses + 2 prior). Net votes below zero count as wins of the other
    answer. A large prior draws towards ½; votes of 3 against 1 under prior 1 give 4/6.
    """
    wins_P = chosen_votes_P.clamp(min=0) - rejected_votes_P.clamp(max=0)
    losses_P = rejected_votes_P.clamp(min=0) - chosen_votes_P.clamp(max=0)
    return (wins_P + prior) / (wins_P + losses_P + 2 * prior)


def plackett_luce_loss(
    rewards_R: torch.Tensor, scores_R: torch.Tensor, group_R: torch.Tensor
) -> torch.Tensor:
    """Sum over groups of −log P(observed order) under Plackett (1975) and Luce (1959).

    `scores_R` order the responses of a group, higher first; `group_R` int64 numbers each
    response's group. Response i wins a stage against all of its group that score lower: the loss
    is Σ_i [logsumexp of r over i and those below − r_i]. Responses with equal scores stay out of
    each other's stages, so a tie says nothing. A group of two with different scores gives the
    Bradley-Terry loss.

    The gradient of r_i is Σ_j P(i wins stage j) − 1, over its own stage and those of all above.
    """
    if rewards_R.numel() == 0:
        return rewards_R.sum()
    same_RR = group_R[:, None] == group_R[None, :]
    lower_RR = same_RR & (scores_R[None, :] < scores_R[:, None])
    itself_RR = torch.eye(len(rewards_R), dtype=torch.bool, device=rewards_R.device)
    stage_RR = torch.where(lower_RR | itself_RR, rewards_R[None, :], -torch.inf)
    return (stage_RR.logsumexp(1) - rewards_R).sum()


def centring_penalty(rewards_R: torch.Tensor, weight_R: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over responses of r²: holds the rewards, free up to a shift, near zero.

    Eisenstein et al. (2023) penalise the squared sum of a pair's two rewards to the same end.
    """
    squares_R = rewards_R.square()
    return (squares_R if weight_R is None else squares_R * weight_R).sum()
