"""The answer policy has exact gradients, and GRPO climbs what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from data_pipeline.sources.generated.config import WorldSettings
from data_pipeline.sources.generated.world import SiteWorld, make_worlds
from worldpm.schema import Group
from worldpm.training.alignment.grpo import GrpoConfig, advantages, optimise
from worldpm.training.alignment.policy import (
    divergence,
    divergence_gradient,
    log_likelihood_gradient,
    probabilities,
    sample_answer,
    sample_question,
    start_logits,
)


@pytest.fixture(scope="module")
def worlds() -> tuple[SiteWorld, ...]:
    return make_worlds(WorldSettings(), seed=17)


def count_words(groups: Sequence[Group]) -> list[list[float]]:
    """A reward that likes long answers and nothing else."""
    return [[float(len(text.split())) for text in group.responses] for group in groups]


def test_the_laws_sum_to_one() -> None:
    for logits_C in start_logits().values():
        assert probabilities(logits_C).sum() == pytest.approx(1)


def test_the_divergence_from_itself_is_zero_and_flat() -> None:
    start = start_logits()
    assert divergence(start, start) == 0
    assert all(np.allclose(g, 0) for g in divergence_gradient(start, start).values())


@pytest.mark.parametrize("name", ["tone", "num_fillers"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    start, logits = start_logits(), start_logits()
    logits["tone"] = logits["tone"] + np.array([0.5, -0.2, 0.1, 0.0, -0.4])
    choices = dict.fromkeys(logits, 1)

    def log_likelihood() -> float:
        return sum(float(np.log(probabilities(logits[k])[c])) for k, c in choices.items())

    likelihood = log_likelihood_gradient(logits, choices)[name][0]
    kl = divergence_gradient(logits, start)[name][0]
    step = 1e-6
    before = (log_likelihood(), divergence(logits, start))
    logits[name] = logits[name] + step * np.eye(len(logits[name]))[0]
    assert (log_likelihood() - before[0]) / step == pytest.approx(likelihood, abs=1e-5)
    assert (divergence(logits, start) - before[1]) / step == pytest.approx(kl, abs=1e-5)


def test_equal_rewards_teach_nothing() -> None:
    assert advantages(np.full(4, 3.0)).tolist() == [0, 0, 0, 0]
    assert advantages(np.array([1.0, 3.0])).tolist() == [-1, 1]


def test_equal_seeds_give_equal_answers(worlds: tuple[SiteWorld, ...]) -> None:
    def answer(seed: int) -> str:
        rng = Random(seed)
        return sample_answer(start_logits(), sample_question(worlds, rng), rng).text

    assert answer(1) == answer(1) != answer(2)


def test_a_reward_of_length_makes_answers_long_and_not_good(
    worlds: tuple[SiteWorld, ...],
) -> None:
    points = list(optimise(worlds, count_words, GrpoConfig(num_steps=40, seed=1)))
    assert points[0].kl == 0
    assert points[-1].kl > 0.5
    assert points[-1].words > 1.4 * points[0].words
    assert points[-1].style > points[0].style + 0.5


def test_a_weight_on_the_divergence_holds_the_policy_near_its_start(
    worlds: tuple[SiteWorld, ...],
) -> None:
    free, held = (
        list(optimise(worlds, count_words, GrpoConfig(num_steps=40, kl_weight=weight)))[-1]
        for weight in (0.0, 1.0)
    )
    assert held.kl < free.kl / 2
