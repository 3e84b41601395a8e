"""A vLLM server as the scorer: its request and answer as vLLM 0.33 has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from worldpm.errors import ServerError
from worldpm.schema import Group, Message
from worldpm.scoring import Scorer
from worldpm.scoring.backends import INPUTS_PER_REQUEST, VllmScorer

GROUPS = [
    Group("a", (Message("user", "Hi"),), ("one", "two", "")),
    Group("b", (Message("user", "Ho"),), ()),
    Group("c", (Message("user", "Hum"),), tuple("xy"[i % 2] * i for i in range(70))),
]


class FakeVllm:
    """Answers /classify with our own scorer's rewards, entries out of order."""

    def __init__(self, folder: Path) -> None:
        self.scorer = Scorer.from_checkpoint(folder)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "served"}]})
        body = json.loads(request.content)
        self.bodies.append(body)
        encoded = [self.scorer.encoder.encode_ids(ids) for ids in body["input"]]
        scores = self.scorer.score_encoded(encoded)
        data = [
            {"index": index, "label": "LABEL_0", "probs": group_scores, "num_classes": 1}
            for index, group_scores in enumerate(scores)
        ]
        return httpx.Response(200, json={"data": data[::-1]})


def test_scores_through_vllm_are_the_scorers_own(tiny_checkpoint: Path) -> None:
    server = FakeVllm(tiny_checkpoint)
    scorer = VllmScorer("http://vllm", tiny_checkpoint, transport=httpx.MockTransport(server))
    results = scorer.score(GROUPS)
    expected = server.scorer.score(GROUPS)
    for result, own in zip(results, expected, strict=True):
        assert result.scores == pytest.approx(own.scores, abs=1e-5)
        assert result.num_response_tokens == own.num_response_tokens
    assert len(server.bodies) == -(-73 // INPUTS_PER_REQUEST)
    assert all(body["model"] == "served" for body in server.bodies)
    assert all(body["use_activation"] is False for body in server.bodies)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="no"),
        httpx.Response(200, text="no JSON"),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"error": "x"}),
    ],
)
def test_an_answer_without_scores_is_an_error(
    tiny_checkpoint: Path, answer: httpx.Response
) -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        return answer

    scorer = VllmScorer("http://vllm", tiny_checkpoint, transport=httpx.MockTransport(serve))
    with pytest.raises(ServerError):
        scorer.score(GROUPS)
