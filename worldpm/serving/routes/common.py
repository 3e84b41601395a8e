"""What the endpoints share: the service behind a request, and the documented errors."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import Request

from worldpm.serving.emulated import Usage
from worldpm.serving.protocol import ErrorResponse
from worldpm.serving.service import Answer, ScoringService
from worldpm.serving.state import ServerState

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "The request cannot be scored",
        401: "A key is needed",
        408: "The body did not arrive in time",
        413: "A limit of the server is exceeded",
        422: "The body has another shape",
        429: "The queue is full: `Retry-After` says when to try again",
        500: "A fault of the server",
        503: "The model is loading, or the server is shutting down",
        504: "No scores in time",
    }.items()
}


def state_of(request: Request) -> ServerState:
    """The server's state."""
    return request.app.state.server


def service_of(request: Request) -> ScoringService:
    """The scoring service.

    Raises:
        RefusalError: 503 until the self-test has passed.
    """
    return state_of(request).service


def usage_of(answers: list[Answer]) -> Usage:
    """Token counts in OpenAI's shape."""
    total = sum(answer.num_prompt_tokens + sum(answer.num_response_tokens) for answer in answers)
    return Usage(prompt_tokens=total, total_tokens=total)


def new_id(prefix: str) -> str:
    """An identifier as vLLM makes them."""
    return f"{prefix}-{uuid.uuid4().hex}"


def now_s() -> int:
    """Seconds since 1970, for `created`."""
    return int(time.time())
