"""The client retries what may pass, refuses what is no score, and keeps the order."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from worldpm.client import (
    MAX_GROUPS_PER_REQUEST,
    AsyncScoringClient,
    ModelInfo,
    RetryPolicy,
    ScoringClient,
)
from worldpm.errors import ServerError
from worldpm.schema import Group, Message

FAST = RetryPolicy(num_attempts=3, first_pause_s=0.001, max_pause_s=0.002)
PROMPT = (Message("user", "hi"),)


class Server:
    """Answers a request's groups by the length of their responses, after planned failures."""

    def __init__(self, *failures: httpx.Response | Exception) -> None:
        self.failures = list(failures)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        if request.url.path == "/health":
            info = {"model": "m", "score_mean": 1.0, "score_std": 2.0, "max_tokens": 64}
            return httpx.Response(200, json=info)
        groups = json.loads(request.content)["groups"]
        return httpx.Response(200, json={"results": [answer(group) for group in groups]})


def answer(group: dict) -> dict:
    lengths = [len(response) for response in group["responses"]]
    return {
        "id": group["id"],
        "scores": [float(length) for length in lengths],
        "num_prompt_tokens": 3,
        "num_response_tokens": lengths,
        "prompt_tokens_cut": 0,
        "response_tokens_cut": [0] * len(lengths),
    }


def score(server: Server, groups: list[Group], *, use_async: bool):
    transport = httpx.MockTransport(server)
    if not use_async:
        with ScoringClient("http://server", retry=FAST, transport=transport) as client:
            return client.score(groups)

    async def run():
        async with AsyncScoringClient("http://server", retry=FAST, transport=transport) as client:
            return await client.score(groups)

    return asyncio.run(run())


both = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


@both
def test_long_lists_travel_in_parts_and_keep_their_order(use_async):
    groups = [Group(str(n), PROMPT, ("a" * n, "bb")) for n in range(MAX_GROUPS_PER_REQUEST + 5)]
    server = Server()
    results = score(server, groups, use_async=use_async)
    assert [result.group_id for result in results] == [group.group_id for group in groups]
    assert [result.scores for result in results] == [(float(n), 2.0) for n in range(len(groups))]
    assert len(server.requests) == 2


@both
@pytest.mark.parametrize(
    "failure",
    [
        429,
        503,
        httpx.ConnectError("refused"),
        httpx.ReadError("broken"),
        httpx.ReadTimeout("slow"),
    ],
    ids=["429", "503", "connect", "read", "timeout"],
)
def test_what_may_pass_is_tried_again(use_async, failure):
    server = Server(httpx.Response(failure) if isinstance(failure, int) else failure)
    [result] = score(server, [Group("g", PROMPT, ("abc",))], use_async=use_async)
    assert result.scores == (3.0,)
    assert len(server.requests) == 2


@both
def test_the_request_s_own_fault_is_not_repeated(use_async):
    refused = httpx.Response(413, json={"error": {"message": "too long"}})
    server = Server(refused)
    with pytest.raises(ServerError, match="too long"):
        score(server, [Group("g", PROMPT, ("abc",))], use_async=use_async)
    assert len(server.requests) == 1


@both
def test_a_server_that_stays_away_is_named(use_async):
    server = Server(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(ServerError, match=r"http://server after 3 attempts.*refused"):
        score(server, [Group("g", PROMPT, ("abc",))], use_async=use_async)


@pytest.mark.parametrize(
    "content",
    [
        "<html>",
        "{}",
        '{"results": []}',
        json.dumps({"results": [answer({"id": "other", "responses": ["a"]})]}),
        json.dumps({"results": [answer({"id": "g", "responses": []})]}),
        json.dumps({"results": [answer({"id": "g", "responses": ["a"]}) | {"scores": [None]}]}),
        '{"results": [{"id": "g", "scores": [NaN], "num_prompt_tokens": 1, '
        '"num_response_tokens": [1], "prompt_tokens_cut": 0, "response_tokens_cut": [0]}]}',
    ],
)
def test_an_answer_without_the_asked_scores_is_an_error(content):
    server = Server(httpx.Response(200, text=content))
    with pytest.raises(ServerError):
        score(server, [Group("g", PROMPT, ("a",))], use_async=False)


def test_a_servers_wait_is_respected():
    policy = RetryPolicy(first_pause_s=0.5, max_pause_s=4)
    assert 0.5 <= policy.pause_s(0, 0.0) <= 0.75
    assert 4.0 <= policy.pause_s(10, 0.0) <= 6.0
    assert policy.pause_s(0, 7.0) == 7.0


def test_the_key_is_sent_and_the_model_described():
    server = Server()
    transport = httpx.MockTransport(server)
    with ScoringClient("http://server/", api_key="k", transport=transport) as client:
        assert client.model_info() == ModelInfo("m", 1.0, 2.0, 64)
        assert client.score_responses(PROMPT, ["a", "bb"]) == [1.0, 2.0]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer k"}


def test_one_async_client_serves_several_event_loops():
    client = AsyncScoringClient("http://server", transport=httpx.MockTransport(Server()))

    async def run():
        scores = await client.score_responses(PROMPT, ["abc"])
        await client.close()
        return scores

    assert [asyncio.run(run()) for _ in range(2)] == [[3.0], [3.0]]
