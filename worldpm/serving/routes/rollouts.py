"""The endpoints of reinforcement-learning systems that send policy text: OpenRLHF, ROLL, slime."""

from __future__ import annotations

import asyncio
import math

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from worldpm.errors import InputError
from worldpm.policy_text import detect_template, parse, split_query, strip_end_tokens
from worldpm.schema import Group, Message
from worldpm.serving.config import PolicyTextConfig
from worldpm.serving.emulated import (
    OpenRLHFRequest,
    OpenRLHFResponse,
    RollQuery,
    RollResult,
    RollTask,
    RollTicket,
    SlimeRequest,
)
from worldpm.serving.errors import RefusalError, bad_input
from worldpm.serving.routes.common import ERRORS, service_of, state_of
from worldpm.serving.service import Answer, ScoringService

router = APIRouter()

# The paths that ROLL's remote reward worker asks by default.
ROLL_SUBMIT_PATH = "/apis/custom/reward-system/v1/submit_task"
ROLL_RESULT_PATH = "/apis/custom/reward-system/v1/task_result"
ROLL_PENDING, ROLL_FAILED = 1, 2


@router.post("/get_reward", response_model=OpenRLHFResponse, responses=ERRORS)
async def get_reward(body: OpenRLHFRequest, request: Request) -> JSONResponse:
    """OpenRLHF's remote reward; empty lists get empty lists."""
    service = service_of(request)
    groups = _openrlhf_groups(body, service.config.policy_text)
    answers = await service.score_groups(groups)
    rewards = [answer.scores[0] for answer in answers]
    content = OpenRLHFResponse(
        rewards=rewards,
        scores=[_between_0_and_1(answer, service) for answer in answers],
        extra_logs={
            "worldpm_score": rewards,
            "response_tokens": [float(answer.num_response_tokens[0]) for answer in answers],
            "tokens_cut": [
                float(answer.encoded.prompt_tokens_cut + sum(answer.encoded.response_tokens_cut))
                for answer in answers
            ],
        },
    )
    return JSONResponse(content.model_dump())


@router.post(ROLL_SUBMIT_PATH, response_model=RollTicket, responses=ERRORS)
async def submit_task(body: RollTask, request: Request) -> JSONResponse:
    """ROLL: start to score one response."""
    service = service_of(request)
    group = _policy_group(body.prompt, body.response, service.config.policy_text)
    # A full queue is said now: a number given out is a promise.
    service.batcher.check_room(1)
    number = state_of(request).jobs.submit(_score_one(group, service, body.timeout))
    return JSONResponse(RollTicket(reward_request_id=number).model_dump())


@router.get(ROLL_RESULT_PATH, response_model=RollResult, responses={**ERRORS, 404: ERRORS[400]})
async def task_result(body: RollQuery, request: Request) -> JSONResponse:
    """ROLL: ask for the result, with the number in the body of the GET request."""
    task = state_of(request).jobs.find(body.reward_request_id)
    return JSONResponse(_roll_result(task).model_dump())


@router.post("/remote_rm", response_model=float, responses=ERRORS)
async def remote_rm(body: SlimeRequest, request: Request) -> JSONResponse:
    """slime's `--rm-type remote_rm`: the answer is the reward itself."""
    service = service_of(request)
    if isinstance(body.prompt, str):
        group = _policy_group(body.prompt, body.response, service.config.policy_text)
    else:
        prompt = tuple(message.to_message() for message in body.prompt)
        group = Group("0", prompt, (strip_end_tokens(body.response),))
    [answer] = await service.score_groups([group])
    return JSONResponse(answer.scores[0])


def _openrlhf_groups(body: OpenRLHFRequest, config: PolicyTextConfig) -> list[Group]:
    prompts = body.prompts or [None] * len(body.query)
    if len(prompts) != len(body.query):
        raise bad_input(f"{len(body.query)} queries but {len(prompts)} prompts", param="prompts")
    groups: list[Group] = []
    for index, (query, prompt) in enumerate(zip(body.query, prompts, strict=True)):
        try:
            messages, response = split_query(
                query,
                prompt,
                config.template,
                drop_injected_system=config.drop_injected_system,
            )
        except InputError as exc:
            raise bad_input(str(exc), param=f"query[{index}]") from exc
        groups.append(Group(str(index), messages, (response,)))
    return groups


def _policy_group(prompt: str, response: str, config: PolicyTextConfig) -> Group:
    template = config.template or detect_template(prompt)
    if template == "plain":
        messages: tuple[Message, ...] = (Message("user", prompt),)
        return Group("0", messages, (strip_end_tokens(response),))
    parsed = parse(prompt, template, drop_injected_system=config.drop_injected_system)
    if not parsed.messages:
        raise bad_input("the prompt holds no message", param="prompt")
    return Group("0", parsed.messages, (strip_end_tokens((parsed.opening or "") + response),))


def _between_0_and_1(answer: Answer, service: ScoringService) -> float:
    """The chance that this response beats one of average score: OpenRLHF filters by 0 to 1."""
    score = answer.scores[0]
    if service.config.scores == "raw":
        score -= service.model.score_mean or 0.0
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))


async def _score_one(group: Group, service: ScoringService, timeout_s: float | None) -> float:
    async with asyncio.timeout(timeout_s):
        [answer] = await service.score_groups([group])
    return answer.scores[0]


def _roll_result(task: asyncio.Task[float]) -> RollResult:
    if not task.done():
        return RollResult(errcode=ROLL_PENDING, errmsg="the task is waiting")
    error = task.exception()
    if error is None:
        return RollResult(errcode=0, reward_score=task.result())
    if not isinstance(error, RefusalError | InputError | TimeoutError):
        raise error
    return RollResult(errcode=ROLL_FAILED, errmsg=str(error) or "no score in time")
