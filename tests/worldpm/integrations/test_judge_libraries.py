"""RM-Gallery and OpenJudge: registered, graded, and any of their judges measured on group files."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from worldpm.errors import InputError, ServerError
from worldpm.group_files import write_group_file
from worldpm.integrations.score_files import ScoredCount, write_scores
from worldpm.rewards.base import Sample
from worldpm.schema import Group, Message

HI = (Message("user", "hi"),)
GROUPS = [Group("a", HI, ("x", "yy")), Group("b", HI, ("?", "z"))]


@pytest.fixture
def groups_path(tmp_path):
    path = tmp_path / "groups.jsonl"
    write_group_file(path, GROUPS)
    return path


@pytest.fixture
def rm_gallery(with_modules):
    registry: dict[str, type] = {}

    class Role(StrEnum):
        user = "user"
        assistant = "assistant"

    class ChatMessage(BaseModel):
        role: Role
        content: str

    class Detail(BaseModel):
        name: str
        reason: str
        score: float

    class Result(BaseModel):
        name: str
        details: list[Detail]
        extra_data: dict[str, Any]

    class Step(ChatMessage):
        reward: Any = None

        def model_post_init(self, _):
            self.reward = SimpleNamespace(score=0.0, details=[])

    class DataOutput(BaseModel):
        answer: Step

    class DataSample(BaseModel):
        unique_id: str
        input: list[ChatMessage]
        output: list[DataOutput]

    class BasePointWiseReward(BaseModel):
        name: str
        max_workers: int = 8

        def evaluate(self, sample):
            for output in sample.output:
                one = DataSample(unique_id=sample.unique_id, input=sample.input, output=[output])
                output.answer.reward.details += self._evaluate(one).details
                scores = [detail.score for detail in output.answer.reward.details]
                if scores:
                    output.answer.reward.score = sum(scores) / len(scores)
            return sample

    module = with_modules(
        "worldpm.integrations.rm_gallery",
        {
            "rm_gallery.core.data.schema": {
                "DataOutput": DataOutput,
                "DataSample": DataSample,
                "Step": Step,
            },
            "rm_gallery.core.model.message": {"ChatMessage": ChatMessage},
            "rm_gallery.core.reward.base": {"BasePointWiseReward": BasePointWiseReward},
            "rm_gallery.core.reward.registry": {
                "RewardRegistry": SimpleNamespace(
                    register=lambda name: lambda cls: registry.setdefault(name, cls)
                )
            },
            "rm_gallery.core.reward.schema": {
                "RewardDimensionWithScore": Detail,
                "RewardResult": Result,
            },
        },
    )
    return SimpleNamespace(
        module=module, registry=registry, base=BasePointWiseReward, result=Result
    )


def test_rm_gallery_scores_every_output(reward, rm_gallery, groups_path, tmp_path):
    judge = rm_gallery.registry["worldpm"](source="http://server", on_abstain=9.0)
    output = tmp_path / "scores.jsonl"
    counts = rm_gallery.module.score_group_file(judge, groups_path, output, benchmark="mine")
    assert counts == ScoredCount(num_scored=2, num_abstained=0)
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {"benchmark": "mine", "id": "a", "scores": [1.0, 2.0]},
        {"benchmark": "mine", "id": "b", "scores": [9.0, 1.0]},
    ]
    assert reward.samples[0] == Sample(HI, "x")


def test_rm_gallery_an_abstention_is_no_score_of_zero(reward, rm_gallery, groups_path, tmp_path):
    judge = rm_gallery.registry["worldpm"](source="http://server")
    with pytest.raises(ServerError, match="abstains"):
        rm_gallery.module.score_group_file(judge, groups_path, tmp_path / "s", benchmark="mine")

    class Silent(rm_gallery.base):
        name: str = "silent"

        def _evaluate(self, sample, **_):
            return rm_gallery.result(name="silent", details=[], extra_data={})

    counts = rm_gallery.module.score_group_file(
        Silent(), groups_path, tmp_path / "scores", benchmark="mine"
    )
    assert counts == ScoredCount(num_scored=0, num_abstained=2)


@pytest.fixture
def openjudge(with_modules):
    @dataclass
    class GraderScore:
        name: str
        score: float
        reason: str
        metadata: dict = field(default_factory=dict)

    @dataclass
    class GraderError:
        name: str
        error: str
        reason: str

    class BaseGrader:
        def __init__(self, name, mode, description, strategy=None):
            self.name, self.mode, self.strategy = name, mode, strategy

        async def aevaluate(self, **arguments):
            return await self._aevaluate(**arguments)

    return with_modules(
        "worldpm.integrations.openjudge",
        {
            "openjudge.graders.base_grader": {"BaseGrader": BaseGrader},
            "openjudge.graders.schema": {
                "GraderError": GraderError,
                "GraderMode": SimpleNamespace(POINTWISE="pointwise"),
                "GraderScore": GraderScore,
            },
        },
    )


def test_openjudge_grades_and_says_when_it_cannot(reward, openjudge, groups_path, tmp_path):
    grader = openjudge.WorldPMGrader("http://server")
    result = asyncio.run(grader.aevaluate(query="hi", response="yes", reference_response="no"))
    assert (result.name, result.score) == ("worldpm", 3.0)
    assert reward.samples == [Sample(HI, "yes", "no")]
    error = asyncio.run(grader.aevaluate(query="hi", response="?"))
    assert (error.error, error.reason) == ("abstained", "no idea")

    output = tmp_path / "scores.jsonl"
    counts = openjudge.score_group_file(grader, groups_path, output, benchmark="mine")
    assert counts == ScoredCount(num_scored=1, num_abstained=1)
    assert json.loads(output.read_text())["id"] == "a"


def test_openjudge_sees_every_turn_of_a_conversation(reward, openjudge, tmp_path):
    prompt = (*HI, Message("assistant", "hello"), Message("user", "why?"))
    groups, output = tmp_path / "groups.jsonl", tmp_path / "scores.jsonl"
    write_group_file(groups, [Group("a", prompt, ("yes",))])
    ours = openjudge.WorldPMGrader("http://server")
    openjudge.score_group_file(ours, groups, output, benchmark="mine")
    assert reward.samples == [Sample(prompt, "yes")]

    class Theirs:
        async def aevaluate(self, query, response):
            assert query == "user: hi\n\nassistant: hello\n\nuser: why?"
            return SimpleNamespace(score=1.0)

    openjudge.score_group_file(Theirs(), groups, output, benchmark="mine")
    assert json.loads(output.read_text())["scores"] == [1.0]


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan")]])
def test_a_judge_must_score_every_response(groups_path, tmp_path, scores):
    with pytest.raises(InputError, match="group a"):
        write_scores(lambda group: scores, groups_path, tmp_path / "s", benchmark="mine")
    assert not (tmp_path / "s").exists()
