"""OpenJudge's own GradingRunner with our grader, and one of its graders on a group file."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from openjudge.graders.base_grader import BaseGrader
from openjudge.graders.schema import GraderScore
from openjudge.runner.grading_runner import GraderConfig, GradingRunner

from worldpm.client import ScoringClient
from worldpm.group_files import write_group_file
from worldpm.integrations.openjudge import WorldPMGrader, score_group_file
from worldpm.schema import Group, Message

url = os.environ["WORLDPM_REWARD"]
question, responses = "Capital of France?", ("Paris.", "I do not know.", "Lyon, surely.")
group = Group("1", (Message("user", question),), responses)
with ScoringClient(url) as client:
    expected = list(client.score([group])[0].scores)

runner = GradingRunner(grader_configs={"worldpm": GraderConfig(grader=WorldPMGrader(url))})
rows = [{"query": question, "response": response} for response in responses]
results = asyncio.run(runner.arun(rows))["worldpm"]
assert all(isinstance(result, GraderScore) for result in results), results
found = [result.score for result in results]
assert all(abs(a - b) < 1e-5 for a, b in zip(found, expected, strict=True)), (found, expected)
print(f"OpenJudge: GradingRunner: {found}")


class WordCount(BaseGrader):
    """A grader as their users write it."""

    async def _aevaluate(self, query: str, response: str, **_: object) -> GraderScore:
        return GraderScore(name=self.name, score=float(len(response.split())), reason="words")


groups, lines = Path("groups.jsonl"), Path("scores.jsonl")
write_group_file(groups, [group])
for grader, scores in ((WordCount(name="words"), [1.0, 4.0, 2.0]), (WorldPMGrader(url), expected)):
    assert score_group_file(grader, groups, lines, benchmark="mine").num_scored == 1
    written = json.loads(lines.read_text())["scores"]
    assert all(abs(a - b) < 1e-5 for a, b in zip(written, scores, strict=True)), written
print("OpenJudge: graders measured on a group file")
