"""Every endpoint answers in its system's shape with the scorer's own scores."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from worldpm.schema import Group, Message
from worldpm.scoring import Scorer

PROMPT = (Message("system", "Be brief."), Message("user", "Why is the sky blue?"))
RESPONSES = ("Rayleigh scattering.", "Because.", "", "光の散乱 🌤 <|im_end|> is plain text here")


def as_json(messages) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def close(expected) -> object:
    return pytest.approx(expected, abs=1e-5)


@pytest.fixture
def expected(scorer: Scorer) -> list[float]:
    return list(scorer.score([Group("g", PROMPT, RESPONSES)])[0].scores)


@pytest.fixture(scope="session")
def rendered(checkpoint: Path) -> str:
    """A conversation in the checkpoint's template, as the systems render it themselves."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    messages = [*as_json(PROMPT), {"role": "assistant", "content": RESPONSES[0]}]
    return tokenizer.apply_chat_template(messages, tokenize=False)


def post(client: TestClient, path: str, body: object):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_groups_are_scored_as_the_scorer_does(client: TestClient, scorer: Scorer, expected):
    body = {"groups": [{"id": "g", "prompt": as_json(PROMPT), "responses": RESPONSES}] * 2}
    results = post(client, "/v1/score", body)["results"]
    direct = scorer.score([Group("g", PROMPT, RESPONSES)])[0]
    for result in results:
        assert result["scores"] == close(expected)
        assert result["num_prompt_tokens"] == direct.num_prompt_tokens
        assert result["num_response_tokens"] == list(direct.num_response_tokens)
    assert set(results[0]) == {
        "id",
        "scores",
        "num_prompt_tokens",
        "num_response_tokens",
        "prompt_tokens_cut",
        "response_tokens_cut",
    }


def test_the_server_agrees_with_transformers(client: TestClient, checkpoint: Path, rendered: str):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    ids = tokenizer(rendered, return_tensors="pt", add_special_tokens=False)
    reference = model(**ids).logits[0, 0].item()
    body = {"groups": [{"id": "g", "prompt": as_json(PROMPT), "responses": [RESPONSES[0]]}]}
    assert post(client, "/v1/score", body)["results"][0]["scores"] == close([reference])
    answer = post(client, "/classify", {"model": "m", "input": rendered, "use_activation": False})
    assert answer["data"][0]["probs"] == close([reference])


def test_openrlhf_gets_rewards_scores_and_logs(client: TestClient, expected):
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?"
    prompt += "<|im_end|>\n<|im_start|>assistant\n"
    queries = [prompt + response + "<|im_end|>" for response in RESPONSES]
    body = {"query": queries, "prompts": [prompt] * len(queries), "labels": [None, 1, "a", {}]}
    answer = post(client, "/get_reward", body)
    assert set(answer) == {"rewards", "scores", "extra_logs"}
    assert answer["rewards"] == close(expected)
    assert answer["scores"] == close(
        [1 / (1 + math.exp(-(score - 0.5))) for score in expected]  # 0.5: the recorded mean
    )
    assert all(len(values) == len(queries) for values in answer["extra_logs"].values())


def test_openrlhf_s_empty_shard_gets_empty_lists(client: TestClient):
    answer = post(client, "/get_reward", {"query": [], "prompts": [], "labels": []})
    assert (answer["rewards"], answer["scores"]) == ([], [])


def test_openrlhf_needs_a_prompt_for_every_query(client: TestClient):
    answer = client.post("/get_reward", json={"query": ["a", "b"], "prompts": ["a"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompts"


def test_vllm_classify_has_its_shape_and_raw_scores(client: TestClient, rendered: str, expected):
    answer = post(client, "/classify", {"model": "m", "input": [rendered, rendered]})
    assert list(answer) == ["id", "object", "created", "model", "data", "usage"]
    assert [item["index"] for item in answer["data"]] == [0, 1]
    item = answer["data"][-1]
    assert list(item) == ["index", "label", "probs", "num_classes"]
    assert item["probs"][-1] == close(expected[0])
    assert list(answer["usage"]) == [
        "prompt_tokens",
        "total_tokens",
        "completion_tokens",
        "prompt_tokens_details",
    ]


def test_vllm_takes_messages_text_and_ids_alike(
    client: TestClient, checkpoint: Path, rendered: str, expected
):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    messages = [*as_json(PROMPT), {"role": "assistant", "content": RESPONSES[0]}]
    for body in ({"messages": messages}, {"input": ids}, {"input": [ids]}, {"input": rendered}):
        answer = post(client, "/pooling", body)
        assert answer["data"][0]["data"][-1] == close(expected[0])
        assert list(answer["data"][0]) == ["index", "object", "data"]


def test_a_missing_reward_token_is_added(client: TestClient, rendered: str, expected):
    text = rendered.removesuffix("<|endoftext|>")
    assert text != rendered
    answer = post(client, "/classify", {"input": text})
    assert answer["data"][0]["probs"] == close([expected[0]])


def test_text_outside_any_template_is_scored_as_it_stands(client: TestClient):
    answer = post(client, "/classify", {"input": ["plain text", "p"]})
    assert len(answer["data"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": ""},
        {"input": [[]]},
        {"input": [99999]},
        {"input": "a", "text": "a"},
        {"messages": [{"role": "user", "content": "no response"}]},
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(client: TestClient, body):
    answer = client.post("/classify", json=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_sglang_classify_answers_one_text_alone_and_several_as_a_list(
    client: TestClient, rendered: str, expected
):
    single = post(client, "/classify", {"model": "m", "text": rendered})
    [item] = post(client, "/classify", {"model": "m", "text": [rendered]})
    assert single["embedding"] == item["embedding"] == close([expected[0]])
    assert item["meta_info"]["prompt_tokens"] > 0


def test_sglang_embeddings_hold_the_score(client: TestClient, rendered: str, expected):
    answer = post(client, "/v1/embeddings", {"model": "m", "input": rendered})
    assert answer["data"][-1]["embedding"][-1] == close(expected[0])
    assert list(answer) == ["data", "model", "object", "usage"]


def test_roll_submits_and_fetches(client: TestClient, expected):
    base = "/apis/custom/reward-system/v1"
    task = {
        "priority": 1,
        "project_id": "p",
        "experiment_id": "e",
        "global_step": 0,
        "data_id": "1",
        "rollout_id": "1",
        "prompt": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy is the sky "
        "blue?<|im_end|>\n<|im_start|>assistant\n",
        "response": RESPONSES[0] + "<|im_end|>",
        "reward_info": {},
        "reward_manager": [],
        "timeout": 300,
    }
    ticket = post(client, f"{base}/submit_task", task)
    assert ticket["errcode"] == 0
    query = {"reward_request_id": ticket["reward_request_id"]}
    for _ in range(200):
        answer = client.request("GET", f"{base}/task_result", json=query).json()
        if answer["errcode"] != 1:
            break
        time.sleep(0.01)
    assert answer["errcode"] == 0
    assert answer["reward_score"] == close(expected[0])
    assert answer["dimention_reward_score"] == {}
    unknown = client.request("GET", f"{base}/task_result", json={"reward_request_id": "no"})
    assert unknown.status_code == 404


@pytest.mark.parametrize("prompt", ["text", "messages", "template"])
def test_slime_gets_the_number_itself(client: TestClient, scorer: Scorer, prompt: str):
    prompts = {
        "text": "hi",
        "messages": [{"role": "user", "content": "hi"}],
        "template": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    }
    body = {"prompt": prompts[prompt], "response": "yo<|im_end|>", "label": None}
    answer = post(client, "/remote_rm", body)
    assert answer == close(
        scorer.score([Group("g", (Message("user", "hi"),), ("yo",))])[0].scores[0]
    )


def test_what_is_cut_is_shown_and_what_is_kept_is_what_was_scored(
    client: TestClient, scorer: Scorer
):
    prompt = [{"role": "user", "content": "q" * 900}]
    body = {"groups": [{"id": 7, "prompt": prompt, "responses": ["a" * 100, "b" * 1000]}]}
    [scored] = post(client, "/v1/score", body)["results"]
    [cuts] = post(client, "/v1/cuts", body)["results"]
    assert scored["id"] == cuts["id"] == 7
    assert cuts["prompt"]["cut"] == "q" * scored["prompt_tokens_cut"]
    kept = cuts["prompt"]["kept_start"] + cuts["prompt"]["kept_end"]
    assert kept.count("q") == 900 - scored["prompt_tokens_cut"]
    assert cuts["responses"][0]["cut"] == ""
    assert len(cuts["responses"][1]["cut"]) == scored["response_tokens_cut"][1] > 0
    assert scorer.max_tokens == 512


def test_metrics_count_requests_by_known_paths_only(client: TestClient):
    client.get("/random/path")
    text = client.get("/metrics").text
    assert 'worldpm_requests_total{path="other",status="404"}' in text
    assert "random/path" not in text
    assert "worldpm_ready 1.0" in text


def test_the_model_is_listed_and_described(client: TestClient):
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    health = client.get("/health").json()
    assert (health["status"], health["score_mean"], health["score_std"]) == ("ready", 0.5, 2.0)
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/score", "/get_reward", "/classify", "/pooling", "/v1/embeddings"} <= set(paths)
