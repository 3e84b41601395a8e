"""Who computes the scores: the model in this process, or a vLLM server that has loaded it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from worldpm.chat_template import Encoder
from worldpm.errors import ServerError
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.schema import Group, GroupScores
from worldpm.scoring.heap import keep_freed_memory
from worldpm.scoring.scorer import GroupScorer, Scorer, join_scores

# A response of 2,048 tokens through a 72B model on one busy server, with a wide margin.
REQUEST_TIMEOUT_S = 600.0
# vLLM schedules a request's inputs together; more would only lengthen the answer.
INPUTS_PER_REQUEST = 64


class VllmScorer:
    """Scores through vLLM's `/classify`; token ids are sent, so the template stays ours.

    The server must serve the same checkpoint (`vllm serve FOLDER --runner pooling`).
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        max_tokens: int | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        card = CheckpointCard.read(folder)
        self.encoder = Encoder.from_folder(folder)
        card.check_encoder(self.encoder, folder)
        self.max_tokens = max_tokens or card.max_tokens
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, transport=transport)
        self._model = self._served_model()

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        """Score every response of every group, in order.

        Raises:
            ServerError: the server cannot be reached or answers without scores.
        """
        encoded = [
            self.encoder.encode(group.prompt, group.responses, self.max_tokens) for group in groups
        ]
        inputs = [ids.prompt_ids + response for ids in encoded for response in ids.response_ids]
        scores: list[float] = []
        for start in range(0, len(inputs), INPUTS_PER_REQUEST):
            scores += self._classify(inputs[start : start + INPUTS_PER_REQUEST])
        remaining = iter(scores)
        rows = [list(islice(remaining, len(ids.response_ids))) for ids in encoded]
        return join_scores(groups, encoded, rows)

    def _classify(self, inputs: list[list[int]]) -> list[float]:
        # Raw scores by two locks: problem_type in config.json, and this flag.
        body = {"model": self._model, "input": inputs, "use_activation": False}
        answer = self._request("POST", "/classify", body)
        try:
            ordered = sorted(answer["data"], key=lambda item: item["index"])
            scores = [float(item["probs"][-1]) for item in ordered]
        except (KeyError, IndexError, TypeError) as exc:
            raise ServerError(f"{self._client.base_url}classify answered without scores") from exc
        if len(scores) != len(inputs):
            raise ServerError(
                f"{self._client.base_url}classify: {len(inputs)} inputs, {len(scores)} scores"
            )
        return scores

    def _served_model(self) -> str:
        answer = self._request("GET", "/v1/models", None)
        try:
            return answer["data"][0]["id"]
        except (KeyError, IndexError, TypeError) as exc:
            raise ServerError(f"{self._client.base_url} serves no model") from exc

    def _request(self, method: str, path: str, body: Any) -> Any:
        try:
            response = self._client.request(method, path, json=body)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise ServerError(f"vLLM at {self._client.base_url}: {method} {path}: {exc}") from exc


def make_scorer(
    checkpoint: Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    max_tokens: int | None = None,
    token_budget: int = 16384,
    vllm: str | None = None,
) -> GroupScorer:
    """The scorer that a command's options ask for."""
    if vllm is not None:
        return VllmScorer(vllm, checkpoint, max_tokens=max_tokens)
    keep_freed_memory()
    return Scorer.from_checkpoint(
        checkpoint, device=device, dtype=dtype, max_tokens=max_tokens, token_budget=token_budget
    )
