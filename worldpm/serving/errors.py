"""Refusals as structured answers: what is wrong, where, and whether trying again can help.

Every error of the server has the shape that vLLM, SGLang and OpenAI clients know:
`{"error": {"message", "type", "param", "code"}}`; `type` is stable and meant for programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from worldpm.errors import InputError

MAX_REPORTED_PROBLEMS = 5


class RefusalError(Exception):
    """A request that gets no scores: an HTTP status and the reason.

    `retry_after_s` says when the same request may succeed; `param` names the part at fault.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s

    def to_response(self) -> JSONResponse:
        """The answer over HTTP."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        content = error_body(self.status, self.kind, str(self), self.param)
        return JSONResponse(content, status_code=self.status, headers=headers)


def too_large(message: str, *, param: str | None = None) -> RefusalError:
    """A request beyond a limit of the server."""
    return RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "limit_exceeded", message, param=param)


def bad_input(message: str, *, param: str | None = None) -> RefusalError:
    """A request that no server could score."""
    return RefusalError(HTTPStatus.BAD_REQUEST, "invalid_request", message, param=param)


def error_body(status: int, kind: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of every error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": int(status)}}


def add_error_handlers(app: FastAPI) -> None:
    """Answer refusals, malformed bodies and unknown paths in the one shape."""
    app.add_exception_handler(RefusalError, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(InputError, _answer_input)


async def _answer_refusal(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RefusalError)
    return exc.to_response()


async def _answer_input(_: Request, exc: Exception) -> JSONResponse:
    return bad_input(str(exc)).to_response()


async def _answer_http(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)
    kind = HTTPStatus(exc.status_code).phrase.lower().replace(" ", "_")
    content = error_body(exc.status_code, kind, str(exc.detail))
    return JSONResponse(content, status_code=exc.status_code, headers=exc.headers)


async def _answer_validation(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    problems = [_describe(error) for error in exc.errors()[:MAX_REPORTED_PROBLEMS]]
    param = problems[0][0] if problems else None
    # The offending value is not repeated: it may be ten megabytes, or no valid text at all.
    message = "; ".join(f"{place}: {text}" for place, text in problems)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    content = error_body(status, "invalid_request", message[:2000], param)
    return JSONResponse(content, status_code=status)


def _describe(error: Mapping[str, Any]) -> tuple[str, str]:
    place = ".".join(str(part) for part in error["loc"] if part != "body") or "body"
    return place.encode("ascii", "replace").decode()[:200], str(error["msg"])[:300]
