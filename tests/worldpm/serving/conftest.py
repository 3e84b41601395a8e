"""A tiny random checkpoint, and a server on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.scoring import Scorer
from worldpm.serving.app import create_app
from worldpm.serving.config import ServerConfig
from worldpm.serving.run import load_scorer

ARCHITECTURE = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 4096,
}
MAX_TOKENS = 512


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with one token a byte and ChatML's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    # As Qwen's, which transformers 5 puts in place of any other for this model type.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
        ]
    )
    return tokenizer


def write_checkpoint(folder: Path, **fields: Any) -> Path:
    """A random model in the portable layout, which records its self-test scores."""
    encoder = Encoder(byte_tokenizer(), CHATML_OWN)
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=1)
    save_portable(model, encoder, folder, max_tokens=MAX_TOKENS, **fields)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with a calibration."""
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    return write_checkpoint(folder, score_mean=0.5, score_std=2.0)


@pytest.fixture(scope="session")
def scorer(checkpoint: Path) -> Scorer:
    """The checkpoint's own scorer."""
    return Scorer.from_checkpoint(checkpoint)


class Servers:
    """Starts servers in this process: for the test client, or on a socket in a thread."""

    def __init__(self, stack: ExitStack, checkpoint: Path) -> None:
        self._stack = stack
        self._checkpoint = checkpoint

    def client(self, config: ServerConfig, *, ready: bool = True, **arguments: Any) -> TestClient:
        """A client without a socket."""
        app = self._app(config, arguments)
        client = self._stack.enter_context(TestClient(app, raise_server_exceptions=False))
        if ready:
            wait_ready(client)
        return client

    def on_socket(self, config: ServerConfig, **arguments: Any) -> RunningServer:
        """A ready server on a free port of loopback; it stops with the test."""
        app = self._app(config, arguments)
        options = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=20)
        running = RunningServer(uvicorn.Server(options))
        self._stack.callback(running.stop)
        running.start()
        with httpx.Client(base_url=running.url) as client:
            wait_ready(client)
        return running

    def _app(self, config: ServerConfig, arguments: dict[str, Any]) -> FastAPI:
        load = arguments.pop("load", lambda: load_scorer(self._checkpoint, config))
        return create_app(load, config, **arguments)


class RunningServer:
    """A server in a thread."""

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server
        self._thread = threading.Thread(target=server.run)

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start, and return when it listens."""
        self._thread.start()
        while not self.server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


def wait_ready(client: httpx.Client) -> None:
    """Ask for the health until the model is loaded."""
    while (answer := client.get("/health")).status_code != 200:
        assert answer.json()["status"] == "loading"
        time.sleep(0.005)


@pytest.fixture
def servers(checkpoint: Path) -> Iterator[Servers]:
    """Starts servers that stop with the test."""
    with ExitStack() as stack:
        yield Servers(stack, checkpoint)


@pytest.fixture(scope="session")
def client(checkpoint: Path) -> Iterator[TestClient]:
    """A ready server with the default limits."""
    with ExitStack() as stack:
        yield Servers(stack, checkpoint).client(ServerConfig(), model_name="tiny")
