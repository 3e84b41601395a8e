"""Turn planted quality into votes: heavy-tailed, noisy, and a little impressed by style."""

from __future__ import annotations

import math
from random import Random

from data_pipeline.sources.generated.answers import Latent
from data_pipeline.sources.generated.config import VoteSettings

MEAN_QUALITY = 1.6
ANSWER_POSITION_DISCOUNT = 0.1


def draw_popularity(settings: VoteSettings, rng: Random) -> float:
    """A question's popularity, log-normal around 1."""
    return math.exp(settings.popularity_spread * rng.gauss(0.0, 1.0))


def draw_answer_votes(
    latent: Latent,
    popularity: float,
    position: int,
    settings: VoteSettings,
    rng: Random,
    *,
    votes_follow_quality: bool = True,
) -> tuple[int, int]:
    """Up and down votes of one answer; `position` counts earlier answers, which get more votes."""
    quality = latent.quality - MEAN_QUALITY if votes_follow_quality else 0.0
    luck = settings.answer_noise * rng.gauss(0.0, 1.0)
    appeal = quality + settings.style_weight * latent.style + luck
    fading = ANSWER_POSITION_DISCOUNT * position
    up = settings.typical_votes * popularity * math.exp(0.8 * appeal - fading)
    down = 0.12 * settings.typical_votes * popularity * math.exp(-0.9 * appeal - fading)
    return poisson(up, rng), poisson(down, rng)


def draw_question_votes(popularity: float, rng: Random) -> tuple[int, int]:
    """Up and down votes of a question."""
    return poisson(3.0 * popularity, rng), poisson(0.4, rng)


def poisson(mean: float, rng: Random) -> int:
    """A Poisson draw: Knuth's product below 30, the normal approximation above."""
    if mean > 30.0:
        return max(0, round(mean + math.sqrt(mean) * rng.gauss(0.0, 1.0)))
    limit = math.exp(-mean)
    count, product = 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count
