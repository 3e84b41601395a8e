"""What every HTTP request passes first: the key, the size of the body, and the client's presence.

A plain ASGI layer: it reads the body within the limits, runs the application, and cancels it when
the client goes away, so that a cancelled request leaves the queue.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worldpm.serving.config import ServerConfig
from worldpm.serving.errors import RefusalError, bad_input, too_large
from worldpm.serving.metrics import ServerMetrics

# Readable without a key: the page holds no data, and a load balancer needs the health.
OPEN_PATHS = frozenset({"/", "/health"})


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete."""


class Guard:
    """Wraps an ASGI application with authorisation, body limits, cancellation and metrics."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        metrics: ServerMetrics,
        known_paths: frozenset[str],
        api_key: str | None,
    ) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._known_paths = known_paths
        self._api_key = api_key
        self._bytes_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Unknown paths share one label: a scanner must not fill the memory with time series.
        path = scope["path"] if scope["path"] in self._known_paths else "other"
        started_s = time.monotonic()
        status = _StatusRecorder(send)
        try:
            await self._serve(scope, receive, status)
        except ClientGoneError:
            self._metrics.cancelled.inc()
        except RefusalError as refusal:
            await refusal.to_response()(scope, receive, status)
        finally:
            if status.code is not None:
                self._metrics.requests.labels(path, str(status.code)).inc()
                self._metrics.latency_s.labels(path).observe(time.monotonic() - started_s)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._authorize(scope["path"], headers)
        reserved = self._reserve(headers)
        try:
            body = await self._read_in_time(receive, reserved)
            self._bytes_in_flight += len(body) - reserved
            reserved = len(body)
            await self._run(scope, body, receive, send)
        finally:
            self._bytes_in_flight -= reserved

    def _authorize(self, path: str, headers: Mapping[str, str]) -> None:
        if self._api_key is None or path in OPEN_PATHS:
            return
        given = headers.get("authorization") or headers.get("xrl-authorization") or ""
        given = given.removeprefix("Bearer ") or headers.get("x-api-key") or ""
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise RefusalError(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "a valid key is needed: send it as 'Authorization: Bearer KEY'",
            )

    def _reserve(self, headers: Mapping[str, str]) -> int:
        """Account for the announced body; one that is sent in chunks may become the largest."""
        limit = self._config.limits.max_body_bytes
        text = headers.get("content-length", "")
        if text and not text.isdigit():
            raise bad_input("the Content-Length is no number")
        chunked = "chunked" in headers.get("transfer-encoding", "")
        announced = int(text) if text else limit if chunked else 0
        if announced > limit:
            raise too_large(f"a body of {announced:,} bytes; {limit:,} are allowed")
        if self._bytes_in_flight + announced > self._config.queue.max_body_bytes_in_flight:
            raise RefusalError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "queue_full",
                "too many bytes of requests are in flight: try again later",
                retry_after_s=1,
            )
        self._bytes_in_flight += announced
        return announced

    async def _read_in_time(self, receive: Receive, allowed: int) -> bytes:
        try:
            async with asyncio.timeout(self._config.limits.body_timeout_s):
                return await self._read_body(receive, allowed)
        except TimeoutError as exc:
            raise RefusalError(
                HTTPStatus.REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time"
            ) from exc

    async def _read_body(self, receive: Receive, allowed: int) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            body += message.get("body", b"")
            if len(body) > allowed:
                raise too_large(f"the body is longer than the allowed {allowed:,} bytes")
            if not message.get("more_body", False):
                return bytes(body)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_wait_for_disconnect(receive))
        app = asyncio.create_task(self._run_app(scope, body, gone, send))
        try:
            await asyncio.wait({app, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not app.done():
                app.cancel()
                await asyncio.wait({app})
                raise ClientGoneError
            app.result()
        finally:
            gone.cancel()
            app.cancel()

    async def _run_app(
        self, scope: Scope, body: bytes, gone: asyncio.Task[None], send: Send
    ) -> None:
        is_read = False

        async def replay() -> Message:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        await self._app(scope, replay, send)


class _StatusRecorder:
    """Passes messages on and remembers the status of the answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.code: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.code = message["status"]
        await self._send(message)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
