"""Our own endpoints: scores of groups, what was cut, health, metrics, and the page."""

from __future__ import annotations

from http import HTTPStatus
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

import worldpm
from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.schema import Group
from worldpm.serving.protocol import (
    CutsResponse,
    CutText,
    GroupCuts,
    GroupScoresModel,
    HealthResponse,
    ModelCard,
    ModelList,
    ScoreRequest,
    ScoreResponse,
)
from worldpm.serving.routes.common import ERRORS, service_of, state_of
from worldpm.serving.service import check_groups

router = APIRouter()

# The page needs no other origin; nothing may frame it or load from elsewhere.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


@router.post("/v1/score", response_model=ScoreResponse, responses=ERRORS)
async def score(body: ScoreRequest, request: Request) -> JSONResponse:
    """Score the responses of each group; the prompt of a group is computed once."""
    answers = await service_of(request).score_groups([group.to_group() for group in body.groups])
    results = [
        GroupScoresModel(
            id=group.id,
            scores=answer.scores,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_response_tokens=answer.num_response_tokens,
            prompt_tokens_cut=answer.encoded.prompt_tokens_cut,
            response_tokens_cut=answer.encoded.response_tokens_cut,
        )
        for group, answer in zip(body.groups, answers, strict=True)
    ]
    return JSONResponse(ScoreResponse(results=results).model_dump())


@router.post("/v1/cuts", response_model=CutsResponse, responses=ERRORS)
async def cuts(body: ScoreRequest, request: Request) -> JSONResponse:
    """Show which part of each text is cut to fit the model's context."""
    service = service_of(request)
    groups = [group.to_group() for group in body.groups]
    check_groups(groups, service.config.limits)
    encoder, max_tokens = service.model.encoder, service.model.max_tokens

    def find_cuts() -> list[tuple[CutText, list[CutText]]]:
        return [_cuts_of(group, encoder, max_tokens) for group in groups]

    found = await service.in_encoding_thread(find_cuts)
    results = [
        GroupCuts(id=group.id, prompt=prompt, responses=responses)
        for group, (prompt, responses) in zip(body.groups, found, strict=True)
    ]
    return JSONResponse(CutsResponse(results=results).model_dump())


@router.get("/health", response_model=HealthResponse, responses={503: {"model": HealthResponse}})
async def health(request: Request) -> JSONResponse:
    """200 once the model is loaded and gives its recorded self-test scores, 503 before."""
    state = state_of(request)
    model = state.model
    content = HealthResponse(
        status=state.status,
        model=state.model_name,
        version=worldpm.__version__,
        score_mean=None if model is None else model.score_mean,
        score_std=None if model is None else model.score_std,
        max_tokens=None if model is None else model.max_tokens,
    )
    status = HTTPStatus.OK if state.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(content.model_dump(), status_code=status)


@router.get("/v1/models", response_model=ModelList, responses={401: ERRORS[401]})
async def models(request: Request) -> ModelList:
    """The one served model."""
    return ModelList(data=[ModelCard(id=state_of(request).model_name)])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    content = state_of(request).metrics.render()
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """A page to try prompts and responses by hand."""
    return HTMLResponse(read_page(), headers=PAGE_HEADERS)


def read_page() -> str:
    """The page's text: one file without parts from elsewhere."""
    return resources.files("worldpm.serving").joinpath("page.html").read_text(encoding="utf-8")


def _cuts_of(
    group: Group, encoder: Encoder, max_tokens: int | None
) -> tuple[CutText, list[CutText]]:
    whole = encoder.encode(group.prompt, group.responses)
    fitted: EncodedGroup = encoder.encode(group.prompt, group.responses, max_tokens)
    responses = [
        _cut_text(encoder, ids, len(kept))
        for ids, kept in zip(whole.response_ids, fitted.response_ids, strict=True)
    ]
    return _cut_text(encoder, whole.prompt_ids, len(fitted.prompt_ids)), responses


def _cut_text(encoder: Encoder, ids: list[int], num_kept: int) -> CutText:
    # The middle is cut, and the start keeps the odd token: as Encoder.encode does.
    start = (num_kept + 1) // 2 if num_kept < len(ids) else len(ids)
    end = len(ids) - (num_kept - start)

    def decode(part: list[int]) -> str:
        return encoder.tokenizer.decode(part, skip_special_tokens=False)

    return CutText(
        kept_start=decode(ids[:start]), cut=decode(ids[start:end]), kept_end=decode(ids[end:])
    )
