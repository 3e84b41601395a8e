"""Between protocols and batcher: limits, encoding off the event loop, scores with counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeVar

from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.errors import ServerError
from worldpm.schema import Group
from worldpm.serving.batcher import Batcher
from worldpm.serving.config import LimitsConfig, ServerConfig
from worldpm.serving.errors import RefusalError, bad_input, too_large
from worldpm.serving.metrics import ServerMetrics

T = TypeVar("T")
NUM_ENCODING_THREADS = 2


class ScoringModel(Protocol):
    """What the server needs of a `worldpm.scoring.Scorer`."""

    @property
    def encoder(self) -> Encoder:
        """The checkpoint's encoder."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The context of prompt and response together."""
        ...

    @property
    def score_mean(self) -> float | None:
        """The mean score on the checkpoint's calibration set."""
        ...

    @property
    def score_std(self) -> float | None:
        """The standard deviation there."""
        ...

    def score_encoded(self, encoded: Sequence[EncodedGroup]) -> Sequence[Sequence[float]]:
        """The score of every response of every group."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The scores of one group, and the ids they were computed from."""

    scores: list[float]
    encoded: EncodedGroup

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt, after any cut."""
        return len(self.encoded.prompt_ids)

    @property
    def num_response_tokens(self) -> list[int]:
        """Tokens of every response, after any cut."""
        return [len(ids) for ids in self.encoded.response_ids]


class ScoringService:
    """Scores conversations, rendered texts and token ids within the server's limits."""

    def __init__(self, model: ScoringModel, config: ServerConfig, metrics: ServerMetrics) -> None:
        self.model = model
        self.config = config
        self._metrics = metrics
        self._encoding = ThreadPoolExecutor(NUM_ENCODING_THREADS, "encoding")
        self.batcher = Batcher(model.score_encoded, config.queue, on_batch=metrics.record_batch)
        metrics.watch_queue(self.batcher)

    async def score_groups(self, groups: Sequence[Group]) -> list[Answer]:
        """Score conversations.

        Raises:
            RefusalError: a limit is exceeded, the queue is full, or the time is over.
            InputError: a conversation cannot be encoded.
        """
        check_groups(groups, self.config.limits)
        encode = self.model.encoder.encode

        def encode_all() -> list[EncodedGroup]:
            limit = self.model.max_tokens
            return [encode(group.prompt, group.responses, limit) for group in groups]

        return await self._score(encode_all)

    async def score_rendered(self, inputs: Sequence[str | Sequence[int]]) -> list[Answer]:
        """Score texts in the checkpoint's own template, or their token ids: one score each.

        Raises:
            RefusalError, InputError: as `score_groups`.
        """
        limits = self.config.limits
        if len(inputs) > limits.max_responses:
            raise too_large(f"{len(inputs)} inputs; a request may hold {limits.max_responses}")
        for index, text in enumerate(inputs):
            _check_length(len(text), limits, f"input[{index}]")
        encoder, limit = self.model.encoder, self.model.max_tokens

        def encode_all() -> list[EncodedGroup]:
            return [
                encoder.encode_rendered(item, limit)
                if isinstance(item, str)
                else encoder.encode_ids(item, limit)
                for item in inputs
            ]

        return await self._score(encode_all)

    async def in_encoding_thread(self, function: Callable[[], T]) -> T:
        """Run tokenizer work off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, function)

    async def close(self) -> None:
        """Finish what was accepted."""
        await self.batcher.close()
        self._encoding.shutdown()

    async def _score(self, encode_all: Callable[[], list[EncodedGroup]]) -> list[Answer]:
        try:
            async with asyncio.timeout(self.config.queue.request_timeout_s):
                encoded = await self.in_encoding_thread(encode_all)
                self._check_tokens(encoded)
                scores = await self.batcher.score(encoded)
        except TimeoutError as exc:
            raise RefusalError(
                HTTPStatus.GATEWAY_TIMEOUT,
                "timeout",
                f"no scores within {self.config.queue.request_timeout_s:g} s",
                retry_after_s=1,
            ) from exc
        except ServerError as exc:
            raise RefusalError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "score_not_finite", str(exc)
            ) from exc
        self._metrics.record_cuts(encoded)
        return [
            Answer(self._calibrate(row), group) for row, group in zip(scores, encoded, strict=True)
        ]

    def _check_tokens(self, encoded: Sequence[EncodedGroup]) -> None:
        num_tokens = sum(
            len(group.prompt_ids)
            + group.prompt_tokens_cut
            + sum(len(ids) for ids in group.response_ids)
            + sum(group.response_tokens_cut)
            for group in encoded
        )
        limit = self.config.limits.max_request_tokens
        if num_tokens > limit:
            raise too_large(f"the request has {num_tokens:,} tokens; {limit:,} are allowed")

    def _calibrate(self, scores: list[float]) -> list[float]:
        if self.config.scores == "raw":
            return scores
        mean, std = self.model.score_mean, self.model.score_std
        assert mean is not None, "checked at start-up"
        assert std is not None, "checked at start-up"
        return [(score - mean) / std for score in scores]


def check_groups(groups: Sequence[Group], limits: LimitsConfig) -> None:
    """Refuse more groups, responses or text than a request may hold.

    Raises:
        RefusalError: naming the part and the limit.
    """
    if len(groups) > limits.max_groups:
        raise too_large(f"{len(groups)} groups; a request may hold {limits.max_groups}")
    num_responses = sum(len(group.responses) for group in groups)
    if num_responses > limits.max_responses:
        raise too_large(f"{num_responses} responses; a request may hold {limits.max_responses}")
    for index, group in enumerate(groups):
        if not group.prompt:
            raise bad_input("a prompt needs at least one message", param=f"groups[{index}].prompt")
        for place, message in enumerate(group.prompt):
            _check_length(len(message.content), limits, f"groups[{index}].prompt[{place}]")
        for place, response in enumerate(group.responses):
            _check_length(len(response), limits, f"groups[{index}].responses[{place}]")


def _check_length(length: int, limits: LimitsConfig, param: str) -> None:
    if length > limits.max_text_chars:
        raise too_large(
            f"a text of {length:,} characters; {limits.max_text_chars:,} are allowed", param=param
        )
