"""OpenJudge (the successor of RM-Gallery): a trained preference model as a pointwise grader."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from openjudge.graders.base_grader import BaseGrader  # pyright: ignore[reportMissingImports]
from openjudge.graders.schema import (  # pyright: ignore[reportMissingImports]
    GraderError,
    GraderMode,
    GraderScore,
)

from worldpm.integrations.score_files import ScoredCount, write_scores
from worldpm.integrations.source import messages_of, open_reward, reference_of
from worldpm.rewards.base import Sample
from worldpm.schema import Group


class WorldPMGrader(BaseGrader):
    """Grades `response` as the answer to `query`; an abstention is a GraderError."""

    def __init__(
        self, source: str | None = None, *, name: str = "worldpm", strategy: Any = None
    ) -> None:
        super().__init__(
            name=name,
            mode=GraderMode.POINTWISE,
            description="The score of a trained preference model.",
            strategy=strategy,
        )
        self.source = source

    async def _aevaluate(
        self, query: Any, response: str, reference_response: Any = None, **_: Any
    ) -> Any:
        prompt = messages_of(query, where="query")
        sample = Sample(prompt, response, reference_of(reference_response))
        [value] = await open_reward(self.source).score_async([sample])
        if value.value is None:
            return GraderError(name=self.name, error="abstained", reason=value.reason)
        return GraderScore(
            name=self.name,
            score=value.value,
            reason=value.reason or "preference model",
            metadata=dict(value.details),
        )

    @staticmethod
    def get_metadata() -> dict[str, Any]:
        """What the score means."""
        return {"score": "a Bradley-Terry reward: unbounded, only differences have a meaning"}


def score_group_file(
    grader: Any, groups_path: Path, output: Path, *, benchmark: str
) -> ScoredCount:
    """Score a group file with any pointwise grader of OpenJudge.

    Writes the lines that `worldpm eval aggregate scores=…` reads; a group with a GraderError is
    left out and counted. Their graders take a query of text: a conversation becomes a transcript.
    """

    async def grade(group: Group) -> list[Any]:
        query = _query(group, as_messages=isinstance(grader, WorldPMGrader))
        return [await grader.aevaluate(query=query, response=text) for text in group.responses]

    def score(group: Group) -> list[float] | None:
        results = asyncio.run(grade(group))
        if any(isinstance(result, GraderError) for result in results):
            return None
        return [result.score for result in results]

    return write_scores(score, groups_path, output, benchmark=benchmark)


def _query(group: Group, *, as_messages: bool) -> Any:
    if len(group.prompt) == 1:
        return group.prompt[0].content
    if as_messages:
        return [{"role": turn.role, "content": turn.content} for turn in group.prompt]
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in group.prompt)
