"""The reward of a trained preference model, in this process or behind a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worldpm.client import ScoringClient
from worldpm.errors import ConfigError
from worldpm.rewards.base import Reward, RewardValue, Sample
from worldpm.schema import Group, Message


class GroupScoresLike(Protocol):
    """What a scorer or a client answers for one group."""

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of the responses."""
        ...


class ScoreSource(Protocol):
    """`worldpm.scoring.Scorer` or `worldpm.client.ScoringClient`."""

    def score(self, groups: Sequence[Group], /) -> Sequence[GroupScoresLike]:
        """Score groups, in their order."""
        ...


class AsyncScoreSource(Protocol):
    """`worldpm.client.AsyncScoringClient`."""

    async def score(self, groups: Sequence[Group], /) -> Sequence[GroupScoresLike]:
        """Score groups, in their order."""
        ...


@dataclass(frozen=True)
class TrainedReward(Reward):
    """The scores of a preference model; samples with the same prompt share its computation.

    Without an `async_source` asynchronous callers use `source` in a thread.
    """

    source: ScoreSource
    async_source: AsyncScoreSource | None = None

    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """Score all samples in one request."""
        groups = _group(samples)
        return _scatter(samples, groups, self.source.score([group for group, _ in groups]))

    def stored_calibration(self) -> tuple[float, float]:
        """Mean and standard deviation of held-out scores, as the checkpoint records them.

        Raises:
            ConfigError: it records none.
        """
        source = self.source
        known = source.model_info() if isinstance(source, ScoringClient) else source
        mean, std = getattr(known, "score_mean", None), getattr(known, "score_std", None)
        if mean is None or not std:
            raise ConfigError("the checkpoint records no mean and deviation: give mean and std")
        return mean, std

    async def score_async(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """The same, without blocking."""
        if self.async_source is None:
            return await asyncio.to_thread(self.score, samples)
        groups = _group(samples)
        results = await self.async_source.score([group for group, _ in groups])
        return _scatter(samples, groups, results)


def _group(samples: Sequence[Sample]) -> list[tuple[Group, list[int]]]:
    by_prompt: dict[tuple[Message, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        by_prompt.setdefault(sample.prompt, []).append(index)
    return [
        (Group(str(number), prompt, tuple(samples[index].response for index in indices)), indices)
        for number, (prompt, indices) in enumerate(by_prompt.items())
    ]


def _scatter(
    samples: Sequence[Sample],
    groups: Sequence[tuple[Group, list[int]]],
    results: Iterable[GroupScoresLike],
) -> list[RewardValue]:
    by_index = {
        index: score
        for (_, indices), result in zip(groups, results, strict=True)
        for index, score in zip(indices, result.scores, strict=True)
    }
    return [RewardValue(by_index[index]) for index in range(len(samples))]
