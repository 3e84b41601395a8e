"""Collect what many requests ask into few forward passes, without letting one delay the others.

Requests give encoded groups and wait. One worker thread scores; while it is busy the others gather,
and the next batch takes a part of every waiting request in turn. Groups with the same prompt ids
share one prompt, whoever sent them; a cancelled request leaves before the next batch.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

from worldpm.chat_template import EncodedGroup
from worldpm.errors import ServerError
from worldpm.serving.config import QueueConfig
from worldpm.serving.errors import RefusalError

# Scores of every response of every group, in their order.
GroupScoresList = list[list[float]]
ScoreFunction = Callable[[Sequence[EncodedGroup]], Sequence[Sequence[float]]]


@dataclass(eq=False, slots=True)
class _Piece:
    """Some responses of one request's group: what a batch takes at once."""

    ticket: _Ticket
    group: int
    responses: range
    num_tokens: int


@dataclass(eq=False, slots=True)
class _Ticket:
    """A waiting request."""

    groups: Sequence[EncodedGroup]
    future: asyncio.Future[GroupScoresList]
    scores: list[list[float | None]]
    pieces: deque[_Piece] = field(default_factory=deque)
    num_waiting_tokens: int = 0
    num_missing: int = 0


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """What one forward pass served."""

    num_requests: int
    num_responses: int
    num_tokens: int
    duration_s: float


class Batcher:
    """Scores encoded groups for many concurrent callers on one event loop."""

    def __init__(
        self,
        score: ScoreFunction,
        config: QueueConfig,
        *,
        on_batch: Callable[[BatchStatistics], None] | None = None,
    ) -> None:
        self._score = score
        self._config = config
        self._on_batch = on_batch
        self._waiting: deque[_Ticket] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")
        self._worker: asyncio.Task[None] | None = None
        self._closing = False
        self._last_batch_requests = 0
        self._tokens_per_s = 0.0
        self.num_open_requests = 0
        self.num_waiting_tokens = 0

    async def score(self, groups: Sequence[EncodedGroup]) -> GroupScoresList:
        """Score groups; leaving the awaiting task withdraws them.

        Raises:
            RefusalError: 429 with the time to wait where the queue is full; 503 during shutdown.
            ServerError: the model gave a score that is not finite.
        """
        self.check_room(sum(_num_tokens(group) for group in groups))
        future: asyncio.Future[GroupScoresList] = asyncio.get_running_loop().create_future()
        missing: list[list[float | None]] = [[None] * len(group.response_ids) for group in groups]
        ticket = _Ticket(groups, future, missing)
        self._split(ticket)
        if not ticket.pieces:
            return [[] for _ in groups]
        self._waiting.append(ticket)
        self.num_waiting_tokens += ticket.num_waiting_tokens
        self.num_open_requests += 1
        self._start()
        try:
            return await future
        finally:
            self.num_open_requests -= 1
            self._withdraw(ticket)

    def check_room(self, num_tokens: int) -> None:
        """Whether a request of so many tokens would be accepted now.

        Raises:
            RefusalError: 429 where the queue is full, 503 during shutdown.
        """
        if self._closing:
            raise RefusalError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "shutting_down",
                "the server is shutting down",
                retry_after_s=5,
            )
        config = self._config
        # A request larger than the whole queue is taken when nothing else waits.
        tokens_full = self.num_waiting_tokens + num_tokens > config.max_waiting_tokens
        requests_full = self.num_open_requests >= config.max_waiting_requests
        if requests_full or (tokens_full and self.num_waiting_tokens):
            raise RefusalError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "queue_full",
                f"{self.num_open_requests} requests with {self.num_waiting_tokens:,} tokens wait "
                "already: try again later",
                retry_after_s=self._expected_wait_s(),
            )

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        self._closing = True
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._executor.shutdown()

    def _expected_wait_s(self) -> float:
        if not self._tokens_per_s:
            return 1.0
        return min(60.0, self.num_waiting_tokens / self._tokens_per_s)

    def _split(self, ticket: _Ticket) -> None:
        for index, group in enumerate(ticket.groups):
            start = 0
            while start < len(group.response_ids):
                end, num_tokens = self._fill(group, start)
                ticket.pieces.append(_Piece(ticket, index, range(start, end), num_tokens))
                ticket.num_waiting_tokens += num_tokens
                start = end
            ticket.num_missing += len(group.response_ids)

    def _fill(self, group: EncodedGroup, start: int) -> tuple[int, int]:
        """The end of the responses from `start` that fit a batch (at least one), and the tokens."""
        num_tokens = len(group.prompt_ids)
        for index in range(start, len(group.response_ids)):
            length = len(group.response_ids[index])
            if index > start and num_tokens + length > self._config.batch_tokens:
                return index, num_tokens
            num_tokens += length
        return len(group.response_ids), num_tokens

    def _withdraw(self, ticket: _Ticket) -> None:
        self.num_waiting_tokens -= ticket.num_waiting_tokens
        ticket.num_waiting_tokens = 0
        if ticket.pieces:
            ticket.pieces.clear()
            self._waiting.remove(ticket)

    def _start(self) -> None:
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._run())
        self._arrived.set()

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            if self._last_batch_requests > 1 and not self._closing:
                await asyncio.sleep(self._config.gather_ms / 1000)
            pieces = self._take_batch()
            if pieces:
                await self._score_pieces(pieces)
            elif self._closing:
                return
            else:
                self._last_batch_requests = 0
                self._arrived.clear()

    def _take_batch(self) -> list[_Piece]:
        """One piece of every waiting request in turn, until the batch is full."""
        pieces: list[_Piece] = []
        num_tokens = 0
        while self._waiting:
            ticket = self._waiting[0]
            piece = ticket.pieces[0]
            if pieces and num_tokens + piece.num_tokens > self._config.batch_tokens:
                break
            self._waiting.popleft()
            pieces.append(ticket.pieces.popleft())
            num_tokens += piece.num_tokens
            ticket.num_waiting_tokens -= piece.num_tokens
            self.num_waiting_tokens -= piece.num_tokens
            if ticket.pieces:
                self._waiting.append(ticket)
        return pieces

    async def _score_pieces(self, pieces: list[_Piece]) -> None:
        merged, places = _merge(pieces)
        started_s = time.monotonic()
        job = asyncio.get_running_loop().run_in_executor(self._executor, self._score, merged)
        await asyncio.wait([job])
        error = job.exception()
        if error is None:
            for place, scores in zip(places, job.result(), strict=True):
                _deliver(place, scores)
            self._record(pieces, merged, time.monotonic() - started_s)
        elif len(tickets := {piece.ticket for piece in pieces}) > 1:
            # One request's failure is not the others': each is scored alone.
            for ticket in tickets:
                await self._score_pieces([piece for piece in pieces if piece.ticket is ticket])
        else:
            _fail(pieces[0].ticket, error)

    def _record(self, pieces: list[_Piece], merged: list[EncodedGroup], duration_s: float) -> None:
        num_tokens = sum(_num_tokens(group) for group in merged)
        num_requests = len({piece.ticket for piece in pieces})
        self._last_batch_requests = num_requests
        speed = num_tokens / max(duration_s, 1e-6)
        self._tokens_per_s = speed if not self._tokens_per_s else (self._tokens_per_s + speed) / 2
        if self._on_batch is not None:
            num_responses = sum(len(piece.responses) for piece in pieces)
            self._on_batch(BatchStatistics(num_requests, num_responses, num_tokens, duration_s))


# Where the scores of one merged group go: for every response, the pieces that wait for it.
_Place = list[list[tuple[_Ticket, int, int]]]


def _merge(pieces: Sequence[_Piece]) -> tuple[list[EncodedGroup], list[_Place]]:
    """Join pieces with the same prompt ids; the same response ids are scored once."""
    by_prompt: dict[tuple[int, ...], dict[tuple[int, ...], list[tuple[_Ticket, int, int]]]] = {}
    for piece in pieces:
        group = piece.ticket.groups[piece.group]
        responses = by_prompt.setdefault(tuple(group.prompt_ids), {})
        for index in piece.responses:
            key = tuple(group.response_ids[index])
            responses.setdefault(key, []).append((piece.ticket, piece.group, index))
    merged = [
        EncodedGroup(list(prompt), [list(ids) for ids in responses], 0, [0] * len(responses))
        for prompt, responses in by_prompt.items()
    ]
    return merged, [list(responses.values()) for responses in by_prompt.values()]


def _deliver(place: _Place, scores: Sequence[float]) -> None:
    for receivers, score in zip(place, scores, strict=True):
        for ticket, group, index in receivers:
            if not math.isfinite(score):
                _fail(ticket, ServerError(f"the model gave the score {score}, which is no number"))
                continue
            ticket.scores[group][index] = score
            ticket.num_missing -= 1
            if not ticket.num_missing and not ticket.future.done():
                ticket.future.set_result([_complete(row) for row in ticket.scores])


def _complete(row: Sequence[float | None]) -> list[float]:
    assert all(score is not None for score in row)
    return [float(score) for score in row if score is not None]


def _fail(ticket: _Ticket, error: BaseException) -> None:
    if not ticket.future.done():
        ticket.future.set_exception(error)


def _num_tokens(group: EncodedGroup) -> int:
    return len(group.prompt_ids) + sum(len(ids) for ids in group.response_ids)
