"""The server's application: endpoints, guard, and the life of the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

import worldpm
from worldpm.log import logger
from worldpm.serving.config import ServerConfig
from worldpm.serving.errors import add_error_handlers, error_body
from worldpm.serving.guard import Guard
from worldpm.serving.routes import inference, own, rollouts
from worldpm.serving.service import ScoringModel
from worldpm.serving.state import ServerState


def create_app(
    load: Callable[[], ScoringModel],
    config: ServerConfig,
    *,
    model_name: str = "worldpm",
    api_key: str | None = None,
    on_failure: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """Build the application; `load` runs in the background once the server has started.

    `on_failure` is told why the model could not be loaded.
    """
    state = ServerState(load, config, model_name=model_name, on_failure=on_failure)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        state.start()
        yield
        await state.stop()

    app = FastAPI(
        title="WorldPM scoring server",
        version=worldpm.__version__,
        lifespan=lifespan,
        # Both pages would load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = state
    for module in (own, inference, rollouts):
        app.include_router(module.router)
    add_error_handlers(app)
    app.add_exception_handler(Exception, _answer_bug)
    known_paths = frozenset(
        route.path for route in app.routes if isinstance(route, Route)
    ) | frozenset(_documented_paths(app))
    app.add_middleware(
        Guard, config=config, metrics=state.metrics, known_paths=known_paths, api_key=api_key
    )
    return app


def _documented_paths(app: FastAPI) -> list[str]:
    return list(app.openapi()["paths"])


async def _answer_bug(request: Request, exc: Exception) -> JSONResponse:
    logger.error("no answer for %s", request.url.path, exc_info=exc)
    content: dict[str, Any] = error_body(
        500, "internal_error", "a fault of the server; see its log"
    )
    return JSONResponse(content, status_code=500)
