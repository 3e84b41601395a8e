"""Group-relative policy gradient (Shao et al. 2024) of the answer policy against a reward model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from data_pipeline.sources.generated.world import SiteWorld
from worldpm.schema import Group
from worldpm.training.alignment.policy import (
    Answer,
    Floats,
    Logits,
    as_group,
    divergence,
    divergence_gradient,
    log_likelihood_gradient,
    sample_answer,
    sample_question,
    start_logits,
)

# Scores of each group's responses: what a preference model gives.
RewardFunction = Callable[[Sequence[Group]], Sequence[Sequence[float]]]
# Rewards of a group closer together than this are one: there is nothing to learn from noise.
SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """`num_steps` updates from `num_prompts` questions of `group_size` answers each.

    `kl_weight` multiplies the divergence from the start in the objective.
    """

    num_steps: int = 60
    num_prompts: int = 8
    group_size: int = 8
    lr: float = 0.5
    kl_weight: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GrpoPoint:
    """The policy before an update, on the answers sampled from it.

    `proxy` is the preference model's mean score, `gold` the mean true quality with its standard
    error over questions, `kl` the divergence from the start in nats, `words` the mean length.
    """

    step: int
    kl: float
    proxy: float
    gold: float
    gold_standard_error: float
    style: float
    words: float


def optimise(
    worlds: tuple[SiteWorld, ...], reward: RewardFunction, config: GrpoConfig
) -> Iterator[GrpoPoint]:
    """Follow the policy while it climbs the reward; one point before each update, one at the end.

    The gradient is that of on-policy GRPO with one update a batch: the mean over answers of
    (reward − group mean) / group deviation × ∇ log-likelihood, less the divergence's.
    """
    reference = start_logits()
    logits = start_logits()
    for step in range(config.num_steps + 1):
        rng = Random(f"{config.seed}/alignment/{step}")
        answers, groups = sample_batch(worlds, logits, config, rng)
        rewards = [np.asarray(scores, np.float64) for scores in reward(groups)]
        yield _describe(step, divergence(logits, reference), rewards, answers)
        gradient = policy_gradient(logits, answers, rewards)
        penalty = divergence_gradient(logits, reference)
        logits = {
            name: values + config.lr * (gradient[name] - config.kl_weight * penalty[name])
            for name, values in logits.items()
        }


def sample_batch(
    worlds: tuple[SiteWorld, ...], logits: Logits, config: GrpoConfig, rng: Random
) -> tuple[list[list[Answer]], list[Group]]:
    """Fresh held-out questions and the policy's answers to each."""
    answers: list[list[Answer]] = []
    groups: list[Group] = []
    for number in range(config.num_prompts):
        question = sample_question(worlds, rng)
        sampled = [sample_answer(logits, question, rng) for _ in range(config.group_size)]
        answers.append(sampled)
        groups.append(as_group(f"prompt-{number}", question, sampled))
    return answers, groups


def policy_gradient(
    logits: Logits, answers: Sequence[Sequence[Answer]], rewards: Sequence[Floats]
) -> Logits:
    """The mean over all answers of advantage × gradient of the log-likelihood."""
    total = {name: np.zeros_like(values) for name, values in logits.items()}
    count = sum(len(group) for group in answers)
    for group, rewards_K in zip(answers, rewards, strict=True):
        for answer, advantage in zip(group, advantages(rewards_K), strict=True):
            gradient = log_likelihood_gradient(logits, answer.choices)
            for name, values in gradient.items():
                total[name] += advantage * values / count
    return total


def advantages(rewards_K: Floats) -> Floats:
    """Rewards of one question's answers, centred and divided by their deviation."""
    spread = float(rewards_K.std())
    if spread < SMALLEST_SPREAD:
        return np.zeros_like(rewards_K)
    return (rewards_K - rewards_K.mean()) / spread


def _describe(
    step: int, kl: float, rewards: Sequence[Floats], answers: Sequence[Sequence[Answer]]
) -> GrpoPoint:
    gold = np.array([np.mean([answer.quality for answer in group]) for group in answers])
    flat = [answer for group in answers for answer in group]
    return GrpoPoint(
        step=step,
        kl=kl,
        proxy=float(np.mean([values.mean() for values in rewards])),
        gold=float(gold.mean()),
        gold_standard_error=float(gold.std(ddof=1) / np.sqrt(len(gold))),
        style=float(np.mean([answer.style for answer in flat])),
        words=float(np.mean([len(answer.text.split()) for answer in flat])),
    )
