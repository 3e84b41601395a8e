"""RM-Gallery: a trained preference model as the registered pointwise reward `worldpm`.

Importing this module registers it; any reward of RM-Gallery can be measured on our benchmarks with
`score_group_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from rm_gallery.core.data.schema import DataOutput, DataSample, Step  # pyright: ignore
from rm_gallery.core.model.message import ChatMessage  # pyright: ignore
from rm_gallery.core.reward.base import BasePointWiseReward  # pyright: ignore
from rm_gallery.core.reward.registry import RewardRegistry  # pyright: ignore
from rm_gallery.core.reward.schema import RewardDimensionWithScore, RewardResult  # pyright: ignore

from worldpm.integrations.score_files import ScoredCount, write_scores
from worldpm.integrations.source import numbers_of, open_reward
from worldpm.rewards.base import Sample
from worldpm.schema import Group, parse_messages


@RewardRegistry.register("worldpm")
class WorldPMReward(BasePointWiseReward):
    """The score of a trained preference model for the whole conversation."""

    name: str = "worldpm"
    source: str | None = Field(default=None, description="server URL, reward file or checkpoint")
    on_abstain: float | None = Field(default=None, description="number in place of an abstention")

    def _evaluate(self, sample: Any, **_: Any) -> Any:
        prompt = parse_messages(
            [{"role": turn.role.value, "content": turn.content} for turn in sample.input],
            where=f"sample {sample.unique_id}",
        )
        samples = [Sample(prompt, output.answer.content) for output in sample.output]
        values = open_reward(self.source).score(samples)
        numbers = numbers_of(values, self.on_abstain, where="RM-Gallery")
        return RewardResult(
            name=self.name,
            details=[
                RewardDimensionWithScore(
                    name=self.name, reason=value.reason or "preference model", score=number
                )
                for number, value in zip(numbers, values, strict=True)
            ],
            extra_data={},
        )


def score_group_file(
    reward: Any, groups_path: Path, output: Path, *, benchmark: str
) -> ScoredCount:
    """Score a group file with any pointwise or listwise reward of RM-Gallery.

    Writes the lines that `worldpm eval aggregate scores=…` reads. A group to whose responses the
    reward gives no detail is left out and counted: its score of 0.0 would be none.
    """

    def score(group: Group) -> list[float] | None:
        judged = reward.evaluate(_to_sample(group))
        answers = [item.answer.reward for item in judged.output]
        return [answer.score for answer in answers] if all(a.details for a in answers) else None

    return write_scores(score, groups_path, output, benchmark=benchmark)


def _to_sample(group: Group) -> Any:
    turns = [ChatMessage(role=turn.role, content=turn.content) for turn in group.prompt]
    outputs = [
        DataOutput(answer=Step(role="assistant", content=response)) for response in group.responses
    ]
    return DataSample(unique_id=group.group_id, input=turns, output=outputs)
