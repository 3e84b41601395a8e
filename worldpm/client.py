"""The typed client of a scoring server, blocking and asynchronous, with retries.

Imports neither torch nor the server, so that it runs inside any reward worker. It never returns
a default score: what cannot be scored raises `ServerError`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from worldpm.errors import ServerError
from worldpm.schema import Group, GroupScores, Message

# Busy or restarting: the same request may succeed later. Other errors are the request's own.
RETRIED_STATUS = (408, 425, 429, 502, 503, 504)
MAX_GROUPS_PER_REQUEST = 64
MAX_RESPONSES_PER_REQUEST = 256


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a server says about its model; mean and standard deviation normalise its scores."""

    model: str
    score_mean: float | None
    score_std: float | None
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a request is repeated.

    The n-th pause is `first_pause_s * 2**n` with up to half of it random, at most `max_pause_s`; a
    `Retry-After` of the server is a lower bound.
    """

    num_attempts: int = 6
    first_pause_s: float = 0.25
    max_pause_s: float = 20.0

    def pause_s(self, attempt: int, retry_after_s: float) -> float:
        """Seconds to wait after the failed attempt `attempt` (from 0)."""
        backoff_s = min(self.first_pause_s * 2**attempt, self.max_pause_s)
        return max(backoff_s * (1 + random.random() / 2), retry_after_s)


@dataclass(frozen=True, slots=True)
class _Settings:
    url: str
    api_key: str | None
    timeout_s: float
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def client_arguments(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {
            "base_url": self.url.rstrip("/"),
            "headers": headers,
            # A request waits in the server's queue: the read time-out is the whole patience.
            "timeout": httpx.Timeout(self.timeout_s, connect=10.0),
            "limits": httpx.Limits(max_connections=128, max_keepalive_connections=32),
        }


class ScoringClient:
    """A blocking client; safe to share among threads.

    Raises:
        ServerError: the server refuses the request, answers without scores, or stays unreachable
            after all attempts.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 180.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout_s, retry or RetryPolicy())
        self._http = httpx.Client(transport=transport, **self._settings.client_arguments())

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        """Score groups, in their order; long lists travel as several requests."""
        results: list[GroupScores] = []
        for chunk in _chunks(groups):
            body = {"groups": [_to_json(group) for group in chunk]}
            results += _parse_results(self._request("POST", "/v1/score", body), chunk)
        return results

    def score_responses(self, prompt: Sequence[Message], responses: Sequence[str]) -> list[float]:
        """Score responses to one prompt."""
        [result] = self.score([Group("0", tuple(prompt), tuple(responses))])
        return list(result.scores)

    def model_info(self) -> ModelInfo:
        """The served model's name, calibration and context."""
        return _parse_info(self._request("GET", "/health", None))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        retry = self._settings.retry
        for attempt in range(retry.num_attempts):
            outcome = self._attempt(method, path, body)
            if not isinstance(outcome, _Failure):
                return outcome
            if attempt + 1 == retry.num_attempts:
                raise _exhausted(outcome, self._settings)
            time.sleep(retry.pause_s(attempt, outcome.retry_after_s))
        raise AssertionError("a retry policy has at least one attempt")

    def _attempt(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as exc:
            return _Failure(_describe_transport(exc))
        return _read(response)


class AsyncScoringClient:
    """The same client for asynchronous callers, from any number of event loops.

    Connections belong to the event loop that opened them: each loop gets its own.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 180.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout_s, retry or RetryPolicy())
        self._transport = transport
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    async def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        """Score groups, in their order; long lists travel as several requests."""
        results: list[GroupScores] = []
        for chunk in _chunks(groups):
            body = {"groups": [_to_json(group) for group in chunk]}
            results += _parse_results(await self._request("POST", "/v1/score", body), chunk)
        return results

    async def score_responses(
        self, prompt: Sequence[Message], responses: Sequence[str]
    ) -> list[float]:
        """Score responses to one prompt."""
        [result] = await self.score([Group("0", tuple(prompt), tuple(responses))])
        return list(result.scores)

    async def model_info(self) -> ModelInfo:
        """The served model's name, calibration and context."""
        return _parse_info(await self._request("GET", "/health", None))

    async def close(self) -> None:
        """Close the connections of this event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> AsyncScoringClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        retry = self._settings.retry
        for attempt in range(retry.num_attempts):
            outcome = await self._attempt(method, path, body)
            if not isinstance(outcome, _Failure):
                return outcome
            if attempt + 1 == retry.num_attempts:
                raise _exhausted(outcome, self._settings)
            await asyncio.sleep(retry.pause_s(attempt, outcome.retry_after_s))
        raise AssertionError("a retry policy has at least one attempt")

    async def _attempt(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            response = await self._http().request(method, path, json=body)
        except httpx.TransportError as exc:
            return _Failure(_describe_transport(exc))
        return _read(response)

    def _http(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            arguments = self._settings.client_arguments()
            self._clients[loop] = httpx.AsyncClient(transport=self._transport, **arguments)
        return self._clients[loop]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed attempt that may be repeated."""

    reason: str
    retry_after_s: float = 0.0


def _chunks(groups: Sequence[Group]) -> Iterator[list[Group]]:
    chunk: list[Group] = []
    num_responses = 0
    for group in groups:
        too_many = num_responses + len(group.responses) > MAX_RESPONSES_PER_REQUEST
        if chunk and (too_many or len(chunk) == MAX_GROUPS_PER_REQUEST):
            yield chunk
            chunk, num_responses = [], 0
        chunk.append(group)
        num_responses += len(group.responses)
    if chunk:
        yield chunk


def _to_json(group: Group) -> dict[str, Any]:
    return {
        "id": group.group_id,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in group.prompt],
        "responses": list(group.responses),
    }


def _describe_transport(exc: httpx.TransportError) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _read(response: httpx.Response) -> Any:
    if response.status_code in RETRIED_STATUS:
        return _Failure(_error_text(response), _retry_after_s(response))
    if response.status_code != httpx.codes.OK:
        raise ServerError(f"the scoring server refused the request: {_error_text(response)}")
    try:
        return response.json()
    except ValueError as exc:
        raise ServerError("the scoring server's answer is no JSON: is the URL right?") from exc


def _error_text(response: httpx.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"HTTP {response.status_code}: {message}"


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _exhausted(failure: _Failure, settings: _Settings) -> ServerError:
    return ServerError(
        f"no scores from {settings.url} after {settings.retry.num_attempts} attempts; the last: "
        f"{failure.reason}. Is `worldpm serve` running there?"
    )


def _parse_results(answer: Any, groups: Sequence[Group]) -> list[GroupScores]:
    try:
        results = [
            GroupScores(
                group_id=result["id"],
                scores=tuple(float(score) for score in result["scores"]),
                num_prompt_tokens=result["num_prompt_tokens"],
                num_response_tokens=tuple(result["num_response_tokens"]),
                prompt_tokens_cut=result["prompt_tokens_cut"],
                response_tokens_cut=tuple(result["response_tokens_cut"]),
            )
            for result in answer["results"]
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise ServerError(f"the answer of the scoring server has another shape: {exc!r}") from exc
    expected = [(group.group_id, len(group.responses)) for group in groups]
    if [(result.group_id, len(result.scores)) for result in results] != expected:
        raise ServerError("the scoring server answered for other groups than were asked")
    if not all(math.isfinite(score) for result in results for score in result.scores):
        raise ServerError("the scoring server answered with a score that is not finite")
    return results


def _parse_info(answer: Any) -> ModelInfo:
    try:
        return ModelInfo(
            answer["model"], answer["score_mean"], answer["score_std"], answer["max_tokens"]
        )
    except (KeyError, TypeError) as exc:
        raise ServerError(f"the health answer of the server has another shape: {exc!r}") from exc
