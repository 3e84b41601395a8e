"""Small models and tokenizers that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.fast_bpe import QWEN_WORDS

TEXT = [
    "What is the best way to sleep well? Keep a regular schedule, and avoid coffee at night.",
    "The cat sat on the mat; the dog did not.\n\n* a list\n* of two `items`",
    "def add(a, b):\n    return a + b\n",
]


def train_tokenizer(special_tokens: list[str], vocab_size: int = 384) -> Tokenizer:
    """A byte-level BPE tokenizer of a few hundred tokens that cuts text as Qwen2's does."""
    tokenizer = Tokenizer(models.BPE())
    # transformers cuts text into words so for every Qwen2 model, whatever tokenizer.json says.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[list[str]], Tokenizer]:
    """Train a tokenizer with given special tokens."""
    return train_tokenizer


@pytest.fixture
def own_encoder() -> Encoder:
    """An encoder as the data build makes it."""
    return Encoder(
        train_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]), CHATML_OWN
    )


@pytest.fixture(scope="session")
def tiny_architecture() -> Callable[[str], dict[str, Any]]:
    """The mapping of a two-layer model of a family, with grouped key heads."""

    def make(model_type: str = "qwen2") -> dict[str, Any]:
        return {
            "model_type": model_type,
            "vocab_size": 384,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_theta": 1e6,
            # Qwen3's width of a head is its own, 128 by default.
            **({"head_dim": 16} if model_type == "qwen3" else {}),
        }

    return make


@pytest.fixture
def tiny_checkpoint(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: Callable[[str], dict[str, Any]]
) -> Path:
    """A portable checkpoint with random weights, large enough that scores differ."""
    import torch

    from worldpm.modeling.checkpoint_io import save_portable
    from worldpm.modeling.preference_model import PreferenceModel

    model = PreferenceModel.from_architecture(
        tiny_architecture("qwen2"), seed=1, head_init="inverse_sqrt"
    )
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    save_portable(model, own_encoder, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"
