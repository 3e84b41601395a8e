"""Write a tiny random checkpoint in the portable layout: python checkpoint.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel

ARCHITECTURE = {
    "model_type": "qwen2",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def byte_tokenizer() -> Tokenizer:
    """One token a byte, and ChatML's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    # As Qwen's, which transformers 5 puts in place of any other for this model type.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    return tokenizer


if __name__ == "__main__":
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=5)
    encoder = Encoder(byte_tokenizer(), CHATML_OWN)
    save_portable(model, encoder, Path(sys.argv[1]), score_mean=0.0, score_std=1.0)
