"""Losses have their closed-form values and gradients, and stay finite."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldpm.losses import (
    bradley_terry_loss,
    centring_penalty,
    plackett_luce_loss,
    vote_target,
)

CHOSEN = torch.tensor([0, 2, 0])
REJECTED = torch.tensor([1, 1, 2])
rewards_strategy = st.lists(st.floats(-30, 30, allow_nan=False), min_size=3, max_size=3).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def gradient(loss: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    (result,) = torch.autograd.grad(loss, rewards)
    return result


def test_equal_rewards_lose_ln_2_a_pair() -> None:
    loss = bradley_terry_loss(torch.zeros(3), CHOSEN, REJECTED)
    assert loss.item() == pytest.approx(3 * math.log(2))


@given(
    rewards=rewards_strategy,
    margin=st.floats(-3, 3),
    smoothing=st.floats(0, 0.5),
    targets=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_bradley_terry_gradient_is_weight_times_sigmoid_minus_target(
    rewards: torch.Tensor, margin: float, smoothing: float, targets: list[float]
) -> None:
    rewards.requires_grad_()
    weight = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    target = torch.tensor(targets, dtype=torch.float64)
    loss = bradley_terry_loss(
        rewards,
        CHOSEN,
        REJECTED,
        weight,
        margin_P=torch.full((3,), margin, dtype=torch.float64),
        target_P=target,
        label_smoothing=smoothing,
    )
    smoothed = target * (1 - smoothing) + (1 - target) * smoothing
    difference = (rewards[CHOSEN] - rewards[REJECTED] - margin).detach()
    per_pair = weight * (torch.sigmoid(difference) - smoothed)
    expected = torch.zeros(3, dtype=torch.float64)
    expected.index_add_(0, CHOSEN, per_pair)
    expected.index_add_(0, REJECTED, -per_pair)
    torch.testing.assert_close(gradient(loss, rewards), expected, atol=1e-12, rtol=1e-9)


@given(rewards=rewards_strategy)
def test_soft_target_loss_is_the_cross_entropy(rewards: torch.Tensor) -> None:
    target = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    difference = rewards[CHOSEN] - rewards[REJECTED]
    expected = -(
        target * torch.nn.functional.logsigmoid(difference)
        + (1 - target) * torch.nn.functional.logsigmoid(-difference)
    ).sum()
    loss = bradley_terry_loss(rewards, CHOSEN, REJECTED, target_P=target)
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=1e-10)


def test_swapped_pairs_lose_the_difference_more() -> None:
    rewards = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    difference = (rewards[CHOSEN] - rewards[REJECTED]).sum()
    loss = bradley_terry_loss(rewards, CHOSEN, REJECTED)
    swapped = bradley_terry_loss(rewards, REJECTED, CHOSEN)
    torch.testing.assert_close(swapped - loss, difference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_differences_stay_finite(dtype: torch.dtype) -> None:
    rewards = torch.tensor([-1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    loss = bradley_terry_loss(rewards, CHOSEN, REJECTED, label_smoothing=0.1)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient(loss, rewards)).all()


def test_sums_over_micro_batches_are_the_sum_of_the_whole() -> None:
    rewards = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    whole = bradley_terry_loss(rewards, CHOSEN, REJECTED)
    parts = [bradley_terry_loss(rewards, CHOSEN[i : i + 1], REJECTED[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prior", "expected"),
    [
        (3, 1, 1.0, 4 / 6),
        (5, -2, 1.0, 8 / 9),
        (1, 0, 0.5, 1.5 / 2),
        (0, 0, 2.0, 0.5),
        (-1, -3, 1.0, 4 / 6),
        (3, 1, 1e9, 0.5),
    ],
)
def test_vote_target_is_the_posterior_mean(
    chosen: int, rejected: int, prior: float, expected: float
) -> None:
    target = vote_target(torch.tensor([chosen]), torch.tensor([rejected]), prior=prior)
    assert target.item() == pytest.approx(expected, abs=1e-6)


@given(votes=st.tuples(st.integers(-50, 50), st.integers(-50, 50)))
def test_vote_targets_of_a_pair_and_its_swap_sum_to_one(votes: tuple[int, int]) -> None:
    one, other = torch.tensor([votes[0]]), torch.tensor([votes[1]])
    total = vote_target(one, other, prior=1.0) + vote_target(other, one, prior=1.0)
    assert total.item() == pytest.approx(1)
    if votes[0] > votes[1]:
        assert vote_target(one, other, prior=1.0).item() > 0.5


def test_two_responses_under_plackett_luce_are_a_bradley_terry_pair() -> None:
    rewards = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
    listwise = plackett_luce_loss(rewards, torch.tensor([5, 1, -2, 7]), torch.tensor([0, 0, 1, 1]))
    pairwise = bradley_terry_loss(rewards, torch.tensor([0, 3]), torch.tensor([1, 2]))
    torch.testing.assert_close(listwise, pairwise)


@given(rewards=st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_plackett_luce_probabilities_of_all_orders_sum_to_one(rewards: list[float]) -> None:
    values = torch.tensor(rewards, dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.long)
    total = sum(
        math.exp(-plackett_luce_loss(values, torch.tensor(order), group).item())
        for order in itertools.permutations(range(4))
    )
    assert total == pytest.approx(1)


def test_plackett_luce_gradient_is_the_closed_form() -> None:
    rewards = torch.tensor([0.5, -0.3, 1.1], dtype=torch.float64, requires_grad=True)
    loss = plackett_luce_loss(rewards, torch.tensor([3, 2, 1]), torch.zeros(3, dtype=torch.long))
    first = torch.softmax(rewards.detach(), 0)
    second = torch.softmax(rewards.detach()[1:], 0)
    expected = torch.tensor(
        [first[0] - 1, first[1] + second[0] - 1, first[2] + second[1]], dtype=torch.float64
    )
    torch.testing.assert_close(gradient(loss, rewards), expected)


def test_a_tie_says_nothing_about_its_responses() -> None:
    rewards = torch.tensor([0.5, -0.3, 1.1], dtype=torch.float64, requires_grad=True)
    group = torch.zeros(3, dtype=torch.long)
    assert plackett_luce_loss(rewards, torch.tensor([1, 1, 1]), group).item() == 0
    loss = plackett_luce_loss(rewards, torch.tensor([2, 2, 1]), group)
    pairs = bradley_terry_loss(rewards, torch.tensor([0, 1]), torch.tensor([2, 2]))
    torch.testing.assert_close(loss, pairs)


def test_an_empty_micro_batch_has_a_loss_of_zero_with_a_gradient() -> None:
    rewards = torch.zeros(0, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    for loss in (
        plackett_luce_loss(rewards, none, none),
        bradley_terry_loss(rewards, none, none),
        centring_penalty(rewards),
    ):
        assert loss.item() == 0
        loss.backward()


def test_centring_gradient_is_twice_the_reward() -> None:
    rewards = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gradient(centring_penalty(rewards), rewards), 2 * rewards.detach())
    weighted = centring_penalty(rewards, torch.tensor([0.0, 3.0], dtype=torch.float64))
    assert weighted.item() == pytest.approx(12)
