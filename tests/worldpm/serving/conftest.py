"""A tiny random checkpoint, and a server on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.modeling.checkpoint_card import SelfTest
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Group, Message
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
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
        ]
    )
    return tokenizer


def self_test_groups() -> list[Group]:
    """What the recorded scores belong to."""
    return [Group("0", (Message("user", "Is water wet?"),), ("Yes.", "No."))]


def write_checkpoint(folder: Path) -> Path:
    """A random model in the portable layout, with its self-test scores."""
    encoder = Encoder(byte_tokenizer(), CHATML_OWN)
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=1)
    save_portable(model, encoder, folder, max_tokens=MAX_TOKENS)
    [group] = self_test_groups()
    scores = Scorer.from_checkpoint(folder).score([group])[0].scores
    tests = tuple(
        SelfTest(group.prompt, response, score)
        for response, score in zip(group.responses, scores, strict=True)
    )
    with_tests = folder.with_name(folder.name + "-tested")
    save_portable(
        model,
        encoder,
        with_tests,
        max_tokens=MAX_TOKENS,
        score_mean=0.5,
        score_std=2.0,
        self_test=tests,
    )
    return with_tests


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="session")
def scorer(checkpoint: Path) -> Scorer:
    """The checkpoint's own scorer."""
    return Scorer.from_checkpoint(checkpoint)


def start_client(checkpoint: Path, config: ServerConfig, **arguments) -> TestClient:
    """A client of a server in this process; use it as a context manager, then `wait_ready`."""
    app = create_app(lambda: load_scorer(checkpoint, config), config, **arguments)
    return TestClient(app, raise_server_exceptions=False)


def wait_ready(client: TestClient) -> None:
    """Ask for the health until the model is loaded."""
    while (answer := client.get("/health")).status_code != 200:
        assert answer.json()["status"] == "loading"


@pytest.fixture(scope="session")
def client(checkpoint: Path) -> Iterator[TestClient]:
    """A ready server with the default limits."""
    with start_client(checkpoint, ServerConfig(), model_name="tiny") as client:
        wait_ready(client)
        yield client
