"""Limits, keys and malformed bodies: every refusal is structured, none is a score, none a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldpm.serving.config import LimitsConfig, QueueConfig, ServerConfig

GROUP = {"id": "g", "prompt": [{"role": "user", "content": "hi"}], "responses": ["a", "b"]}
POST_PATHS = (
    "/v1/score",
    "/v1/cuts",
    "/get_reward",
    "/classify",
    "/pooling",
    "/v1/embeddings",
    "/remote_rm",
    "/apis/custom/reward-system/v1/submit_task",
)


def error_of(answer) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status_code
    return error


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({"max_groups": 1}, {"groups": [GROUP, GROUP]}),
        ({"max_responses": 3}, {"groups": [GROUP, GROUP]}),
        ({"max_text_chars": 1}, {"groups": [GROUP]}),
        ({"max_request_tokens": 30}, {"groups": [GROUP]}),
        ({"max_body_bytes": 50}, {"groups": [GROUP]}),
    ],
)
def test_more_than_a_limit_is_refused(servers, limits, body):
    client = servers.client(ServerConfig(limits=LimitsConfig(**limits)))
    answer = client.post("/v1/score", json=body)
    assert answer.status_code == 413
    assert error_of(answer)["type"] == "limit_exceeded"


def test_a_body_in_chunks_is_counted_too(servers):
    client = servers.client(ServerConfig(limits=LimitsConfig(max_body_bytes=1000)))
    assert client.post("/v1/score", content=iter([b" " * 600] * 3)).status_code == 413
    fits = json.dumps({"groups": [GROUP]}).encode()
    answer = client.post(
        "/v1/score", content=iter([fits]), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200


def test_bytes_in_flight_are_bounded_and_given_back(servers):
    client = servers.client(ServerConfig(queue=QueueConfig(max_body_bytes_in_flight=10_000)))
    for _ in range(3):
        answer = client.post("/v1/score", content=b" " * 20_000)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
    for _ in range(200):
        assert client.post("/v1/score", json={"groups": [GROUP]}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret"},
        {"X-API-Key": "s3cret"},
        {"XRL-Authorization": "Bearer s3cret"},
    ],
)
def test_with_a_key_only_page_and_health_are_open(servers, headers):
    client = servers.client(ServerConfig(), api_key="s3cret")
    body = {"groups": [GROUP]}
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer s3cre\xfc"}):
        answer = client.post(
            "/v1/score", json=body, headers=[(k, v.encode("latin-1")) for k, v in wrong.items()]
        )
        assert answer.status_code == 401
        assert error_of(answer)["type"] == "unauthorized"
    assert client.get("/metrics").status_code == 401
    assert client.get("/").status_code == 200
    assert client.post("/v1/score", json=body, headers=headers).status_code == 200


def test_no_scores_in_time_is_an_error(servers):
    client = servers.client(ServerConfig(queue=QueueConfig(request_timeout_s=1e-6)))
    answer = client.post("/v1/score", json={"groups": [GROUP]})
    assert answer.status_code == 504
    assert error_of(answer)["type"] == "timeout"


def test_a_prompt_is_needed_and_responses_may_be_none(client):
    empty = client.post("/v1/score", json={"groups": [{**GROUP, "prompt": []}]})
    assert empty.status_code == 422
    none = client.post("/v1/score", json={"groups": [{**GROUP, "responses": []}]})
    assert none.json()["results"][0]["scores"] == []
    assert client.post("/v1/score", json={"groups": []}).json() == {"results": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"groups": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"groups": [{"id": 1e999, "prompt": [], "responses": []}]}',
        b'{"groups": [{"id": ' + b"9" * 10_000 + b', "prompt": [], "responses": []}]}',
        json.dumps({"groups": [{**GROUP, "responses": ["\ud800"]}]}).encode(),
        json.dumps({"groups": [{**GROUP, "\ud800": 1}]}).encode(),
        json.dumps({"groups": [{**GROUP, "responses": [None]}]}).encode(),
        json.dumps({"groups": [{**GROUP, "prompt": "text"}]}).encode(),
        json.dumps({"groups": [{**GROUP, "prompt": [{"role": "tool", "content": "x"}]}]}).encode(),
        json.dumps({"groups": [GROUP], "unknown": 1}).encode(),
    ],
    ids=range(15),
)
def test_malformed_bodies_are_refused_and_not_repeated(client, content):
    answer = client.post("/v1/score", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    error_of(answer)
    assert len(answer.content) < 4000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["groups", "query", "prompts", "input", "text", "messages", "prompt",
                         "response", "id", "role", "content", "responses", "input_ids"]),
        inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("path", POST_PATHS)
def test_no_body_brings_the_server_down(client, path):
    @given(value=json_values)
    @settings(max_examples=30)
    def check(value):
        content = json.dumps(value).encode()
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (value, answer.text)
        if answer.status_code != 200:
            error_of(answer)

    check()


@pytest.mark.parametrize(
    "text", ["\x00", "\u202e", "a\u0300" * 50, "🏳️‍🌈", "<|endoftext|>" * 20, "\ufffd", " " * 100]
)
def test_any_text_is_scored(client, text):
    group = {"id": "g", "prompt": [{"role": "user", "content": text}], "responses": [text, ""]}
    answer = client.post("/v1/score", json={"groups": [group]})
    assert answer.status_code == 200
    assert len(answer.json()["results"][0]["scores"]) == 2


def test_unknown_paths_and_methods_get_the_same_shape(client):
    assert error_of(client.get("/nothing"))["type"] == "not_found"
    assert error_of(client.get("/v1/score"))["type"] == "method_not_allowed"
