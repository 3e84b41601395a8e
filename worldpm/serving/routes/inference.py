"""The pooling endpoints of vLLM and SGLang, for systems that expect such a server.

Scores are raw, whatever the client says about activations: a squashed reward trains worse and
looks right.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from worldpm.schema import Group
from worldpm.serving.emulated import (
    ClassificationItem,
    ClassificationResponse,
    EmbeddingItem,
    EmbeddingRequest,
    EmbeddingResponse,
    PoolingItem,
    PoolingRequest,
    PoolingResponse,
    SGLangItem,
    SGLangMeta,
)
from worldpm.serving.errors import bad_input
from worldpm.serving.protocol import MessageModel
from worldpm.serving.routes.common import ERRORS, new_id, now_s, service_of, state_of, usage_of
from worldpm.serving.service import Answer, ScoringService

router = APIRouter()

Inputs = list[str | list[int]]


@router.post(
    "/classify",
    response_model=ClassificationResponse | SGLangItem | list[SGLangItem],
    responses=ERRORS,
)
async def classify(body: PoolingRequest, request: Request) -> JSONResponse:
    """vLLM's `/classify` (`input`, `messages`) and SGLang's (`text`, `input_ids`)."""
    answers, field = await _score(body, service_of(request))
    if field in ("text", "input_ids"):
        return JSONResponse(_sglang(body.text if field == "text" else body.input_ids, answers))
    content = ClassificationResponse(
        id=new_id("classify"),
        created=now_s(),
        model=state_of(request).model_name,
        data=[
            ClassificationItem(index=index, probs=answer.scores)
            for index, answer in enumerate(answers)
        ],
        usage=usage_of(answers),
    )
    return JSONResponse(content.model_dump())


@router.post("/pooling", response_model=PoolingResponse, responses=ERRORS)
async def pooling(body: PoolingRequest, request: Request) -> JSONResponse:
    """vLLM's `/pooling`: the last value of `data[i].data` is the score."""
    answers, _ = await _score(body, service_of(request))
    content = PoolingResponse(
        id=new_id("pool"),
        created=now_s(),
        model=state_of(request).model_name,
        data=[PoolingItem(index=index, data=answer.scores) for index, answer in enumerate(answers)],
        usage=usage_of(answers),
    )
    return JSONResponse(content.model_dump())


@router.post("/v1/embeddings", response_model=EmbeddingResponse, responses=ERRORS)
async def embeddings(body: EmbeddingRequest, request: Request) -> JSONResponse:
    """SGLang's way of serving a reward model: the one number of the embedding is the score."""
    answers = await service_of(request).score_rendered(_as_list(body.input))
    content = EmbeddingResponse(
        data=[
            EmbeddingItem(embedding=answer.scores, index=index)
            for index, answer in enumerate(answers)
        ],
        model=state_of(request).model_name,
        usage=usage_of(answers),
    )
    return JSONResponse(content.model_dump())


async def _score(body: PoolingRequest, service: ScoringService) -> tuple[list[Answer], str]:
    given = [
        name
        for name in ("input", "messages", "text", "input_ids")
        if getattr(body, name) is not None
    ]
    if len(given) != 1:
        raise bad_input("give exactly one of input, messages, text and input_ids")
    [field] = given
    if body.messages is not None:
        return await service.score_groups([_conversation(body.messages)]), field
    value = body.input if field == "input" else body.text if field == "text" else body.input_ids
    assert value is not None
    return await service.score_rendered(_as_list(value)), field


def _conversation(messages: list[MessageModel]) -> Group:
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise bad_input(
            "messages must hold a prompt and end with the assistant's response", param="messages"
        )
    prompt = tuple(message.to_message() for message in messages[:-1])
    return Group("0", prompt, (messages[-1].content,))


def _as_list(value: str | list[str] | list[int] | list[list[int]]) -> Inputs:
    if isinstance(value, str):
        return [value]
    if not value:
        raise bad_input("the input is empty", param="input")
    if all(isinstance(item, int) for item in value):
        return [[item for item in value if isinstance(item, int)]]
    return [item for item in value if not isinstance(item, int)]


def _sglang(given: Any, answers: list[Answer]) -> Any:
    items = [
        SGLangItem(
            embedding=answer.scores,
            meta_info=SGLangMeta(
                id=new_id("classify").partition("-")[2],
                prompt_tokens=answer.num_prompt_tokens + sum(answer.num_response_tokens),
            ),
        ).model_dump()
        for answer in answers
    ]
    is_single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    return items[0] if is_single else items
