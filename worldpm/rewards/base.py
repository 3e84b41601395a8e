"""What a reward is: samples in, values out, blocking or asynchronous, with the same numbers.

A composed reward is a plan: it names which rewards it needs for which samples, gets their values,
and decides. One plan serves the sequential, the threaded and the asynchronous caller, so that these
cannot differ.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from worldpm.schema import Message


@dataclass(frozen=True, slots=True)
class Sample:
    """One response to judge. `reference` is the expected answer, `domain` chooses among rewards."""

    prompt: tuple[Message, ...]
    response: str
    reference: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class RewardValue:
    """A reward, or an abstention: `value` is None and `reason` says why.

    An abstention is never a number: 0.0 is a score like any other. `details` holds the values of
    parts and measures such as an ensemble's disagreement.
    """

    value: float | None
    reason: str = ""
    details: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def abstain(cls, reason: str, details: Mapping[str, float | None] | None = None) -> RewardValue:
        """No judgement, with the reason."""
        return cls(None, reason, details or {})


# One reward that a plan needs, and the samples it needs it for.
Need = tuple["Reward", Sequence[Sample]]
# Yields what it needs, is sent the values in the same order, returns its own.
Plan = Generator[Sequence[Need], Sequence[Sequence[RewardValue]], list[RewardValue]]


class Reward(ABC):
    """Judges samples; every value depends on its own sample only."""

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """The value of every sample, in their order."""

    async def score_async(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """The same values, without blocking the event loop."""
        return await asyncio.to_thread(self.score, samples)


@dataclass(frozen=True)
class ComposedReward(Reward):
    """A reward made of others; `num_threads` of them are asked at the same time."""

    num_threads: int = field(default=1, kw_only=True)

    @abstractmethod
    def plan(self, samples: Sequence[Sample]) -> Plan:
        """What is needed, and what is made of it."""

    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """Ask the parts in this thread, or in `num_threads` threads."""
        if self.num_threads == 1:
            return _drive(self.plan(samples), None)
        with ThreadPoolExecutor(self.num_threads) as pool:
            return _drive(self.plan(samples), pool)

    async def score_async(self, samples: Sequence[Sample]) -> list[RewardValue]:
        """Ask the parts concurrently."""
        plan = self.plan(samples)
        try:
            needs = next(plan)
            while True:
                values = await asyncio.gather(*[part.score_async(some) for part, some in needs])
                needs = plan.send(values)
        except StopIteration as stop:
            return stop.value


def _drive(plan: Plan, pool: ThreadPoolExecutor | None) -> list[RewardValue]:
    try:
        needs = next(plan)
        while True:
            if pool is None:
                values = [part.score(some) for part, some in needs]
            else:
                values = list(pool.map(lambda need: need[0].score(need[1]), needs))
            needs = plan.send(values)
    except StopIteration as stop:
        return stop.value
