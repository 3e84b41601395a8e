"""Start, self-test, disconnects, shutdown: on real sockets where it matters."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from worldpm.artifacts import read_json, write_json
from worldpm.chat_template import EncodedGroup
from worldpm.cli.main import cli
from worldpm.errors import CheckpointError, ConfigError
from worldpm.scoring import Scorer
from worldpm.serving.config import QueueConfig, ServerConfig
from worldpm.serving.run import load_scorer, read_api_key

GROUP = {"id": "g", "prompt": [{"role": "user", "content": "hi"}], "responses": ["a"]}
BODY = {"groups": [GROUP]}


class GatedModel:
    """A real scorer that waits at a gate before each forward pass."""

    def __init__(self, scorer: Scorer) -> None:
        self.gate = threading.Event()
        self.num_scored = 0
        self._scorer = scorer
        self.encoder = scorer.encoder
        self.max_tokens = scorer.max_tokens
        self.score_mean = self.score_std = None

    def score_encoded(self, encoded: list[EncodedGroup]) -> list[list[float]]:
        self.gate.wait(timeout=20)
        self.num_scored += sum(len(group.response_ids) for group in encoded)
        return self._scorer.score_encoded(encoded)


def wait_for(condition) -> None:
    limit_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit_s, "waited too long"
        time.sleep(0.005)


def open_requests(client: httpx.Client) -> int:
    text = client.get("/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("worldpm_requests_open "))
    return round(float(line.split()[1]))


def body(text: str) -> dict:
    return {"groups": [{**GROUP, "responses": [text]}]}


def test_scores_are_refused_until_the_self_test_has_passed(servers, scorer: Scorer):
    gate = threading.Event()

    def load() -> Scorer:
        gate.wait(timeout=20)
        return scorer

    client = servers.client(ServerConfig(), load=load, ready=False)
    assert client.get("/health").status_code == 503
    refused = client.post("/v1/score", json=BODY)
    assert refused.status_code == 503
    assert refused.json()["error"]["type"] == "model_loading"
    assert int(refused.headers["Retry-After"]) >= 1
    gate.set()
    wait_for(lambda: client.get("/health").status_code == 200)
    assert client.post("/v1/score", json=BODY).status_code == 200


def test_a_checkpoint_with_other_scores_never_becomes_ready(
    servers, checkpoint: Path, tmp_path: Path
):
    changed = tmp_path / "changed"
    shutil.copytree(checkpoint, changed)
    card = read_json(changed / "worldpm.json")
    card["self_test"][0]["score"] += 0.01
    write_json(changed / "worldpm.json", card)
    errors: list[BaseException] = []
    client = servers.client(
        ServerConfig(),
        load=lambda: load_scorer(changed, ServerConfig()),
        ready=False,
        on_failure=errors.append,
    )
    wait_for(lambda: errors)
    assert isinstance(errors[0], CheckpointError)
    assert "expected" in str(errors[0])
    assert client.get("/health").status_code == 503
    assert client.get("/health").json()["status"] == "failed"
    assert client.post("/v1/score", json=BODY).status_code == 503


def test_normalized_scores_need_a_calibration(
    checkpoint: Path, servers, scorer: Scorer, tmp_path: Path
):
    config = ServerConfig(scores="normalized")
    client = servers.client(config)
    raw = scorer.score_encoded([scorer.encoder.encode(load_prompt(), ["a"])])[0][0]
    scores = client.post("/v1/score", json=BODY).json()["results"][0]["scores"]
    assert scores == pytest.approx([(raw - 0.5) / 2.0], abs=1e-5)
    plain = tmp_path / "plain"
    shutil.copytree(checkpoint, plain)
    card = read_json(plain / "worldpm.json")
    write_json(plain / "worldpm.json", card | {"score_mean": None, "score_std": None})
    with pytest.raises(ConfigError, match="normalized"):
        load_scorer(plain, config)


def load_prompt():
    from worldpm.schema import Message

    return (Message("user", "hi"),)


def test_a_client_that_goes_away_leaves_the_queue(servers, scorer: Scorer):
    model = GatedModel(scorer)
    server = servers.on_socket(ServerConfig(), load=lambda: model)
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=server.url) as client:
        first = pool.submit(httpx.post, f"{server.url}/v1/score", json=body("first"), timeout=20)
        wait_for(lambda: open_requests(client) == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/score", json=body("impatient"), timeout=0.2)
        wait_for(lambda: open_requests(client) == 1)
        model.gate.set()
        assert first.result().status_code == 200
        assert client.post("/v1/score", json=body("later")).status_code == 200
        assert "worldpm_requests_cancelled_total 1.0" in client.get("/metrics").text
    assert model.num_scored == 2


def test_a_full_queue_answers_429_and_the_client_may_come_back(servers, scorer: Scorer):
    model = GatedModel(scorer)
    config = ServerConfig(queue=QueueConfig(max_waiting_requests=1))
    server = servers.on_socket(config, load=lambda: model)
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=server.url) as client:
        first = pool.submit(httpx.post, f"{server.url}/v1/score", json=BODY, timeout=20)
        wait_for(lambda: open_requests(client) == 1)
        refused = client.post("/v1/score", json=BODY)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        model.gate.set()
        assert first.result().status_code == 200
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_shutdown_answers_everything_that_was_accepted(servers, scorer: Scorer):
    model = GatedModel(scorer)
    server = servers.on_socket(ServerConfig(), load=lambda: model)
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=server.url) as client:
        accepted = [
            pool.submit(httpx.post, f"{server.url}/v1/score", json=body(str(number)), timeout=20)
            for number in range(8)
        ]
        wait_for(lambda: open_requests(client) == 8)
        client.close()
        server.server.should_exit = True
        time.sleep(0.2)
        model.gate.set()
        assert [answer.result().status_code for answer in accepted] == [200] * 8
    server.stop()


def test_the_command_serves_a_checkpoint_and_stops_with_code_0(checkpoint: Path, tmp_path: Path):
    worldpm = str(Path(sys.executable).with_name("worldpm"))
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [worldpm, "serve", str(checkpoint), "--port", "0"],
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    text = log.read_text
    wait_for(lambda: "ready" in text() or process.poll() is not None)
    url = next(word for word in text().split() if word.startswith("http://"))
    answer = httpx.post(f"{url}/v1/score", json=BODY)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0, text()
    assert answer.status_code == 200


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path):
    result = CliRunner().invoke(cli, ["serve", str(tmp_path)])
    assert isinstance(result.exception, CheckpointError)
    help_text = CliRunner().invoke(cli, ["serve", "--help"]).stdout
    assert "/v1/score" in help_text


def test_a_key_file_must_be_private_and_not_empty(tmp_path: Path, monkeypatch):
    key = tmp_path / "key"
    with pytest.raises(ConfigError, match="no file"):
        read_api_key(key)
    key.write_text("\n")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_api_key(key)
    key.chmod(0o600)
    with pytest.raises(ConfigError, match="empty"):
        read_api_key(key)
    key.write_text("s3cret\n")
    assert read_api_key(key) == "s3cret"
    monkeypatch.setenv("WORLDPM_API_KEY", "other")
    assert read_api_key(None) == "other"
    monkeypatch.delenv("WORLDPM_API_KEY")
    assert read_api_key(None) is None
