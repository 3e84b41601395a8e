"""RM-Gallery's own registry, evaluation, best of N and composition with our reward, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rm_gallery.core.data.schema import DataOutput, DataSample, Step
from rm_gallery.core.model.message import ChatMessage
from rm_gallery.core.reward.composition import SimpleComposition
from rm_gallery.core.reward.registry import RewardRegistry
from rm_gallery.gallery.rm import general as _general  # noqa: F401  registers its rewards

from worldpm.client import ScoringClient
from worldpm.group_files import write_group_file
from worldpm.integrations.rm_gallery import WorldPMReward, score_group_file
from worldpm.schema import Group, Message

url = os.environ["WORLDPM_REWARD"]
question, responses = "Capital of France?", ("Paris.", "I do not know.", "Lyon, surely.")


def sample() -> DataSample:
    """Their record of the question and its responses."""
    return DataSample(
        unique_id="1",
        input=[ChatMessage(role="user", content=question)],
        output=[DataOutput(answer=Step(role="assistant", content=text)) for text in responses],
    )


def scores_of(judged: DataSample) -> list[float]:
    """The scores where RM-Gallery puts them."""
    return [output.answer.reward.score for output in judged.output]


def close(left: list[float], right: list[float]) -> bool:
    """Equal up to rounding."""
    return all(abs(a - b) < 1e-5 for a, b in zip(left, right, strict=True))


group = Group("1", (Message("user", question),), responses)
with ScoringClient(url) as client:
    expected = list(client.score([group])[0].scores)
assert RewardRegistry.get("worldpm") is WorldPMReward
reward = WorldPMReward(source=url)
assert close(scores_of(reward.evaluate(sample())), expected)
assert close(scores_of(reward.evaluate_batch([sample()])[0]), expected)
best = reward.best_of_n(sample(), n=1).output[0].answer.content
assert best == responses[expected.index(max(expected))]
composition = SimpleComposition(
    name="composed",
    weights={"worldpm": 1.0},
    rewards={"worldpm": {"cls": "worldpm", "params": {"source": url}}},
)
assert close(scores_of(composition.evaluate(sample())), expected)
print(f"RM-Gallery: evaluate, evaluate_batch, best_of_n, composition: {expected}")

groups, lines = Path("groups.jsonl"), Path("scores.jsonl")
write_group_file(groups, [group])
assert score_group_file(reward, groups, lines, benchmark="mine").num_scored == 1
assert close(json.loads(lines.read_text())["scores"], expected)
theirs = RewardRegistry.get("length_penalty")(name="length_penalty")
counts = score_group_file(theirs, groups, lines, benchmark="mine")
print(f"RM-Gallery: its length_penalty on a group file: {counts}, {lines.read_text().strip()}")
assert counts.num_scored == 1
