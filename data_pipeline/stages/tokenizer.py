"""Train a byte-level BPE tokenizer on the train split, or take the configured one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders
from tokenizers import normalizers as token_normalizers

from data_pipeline.config import TokenizerConfig
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import file_sha256
from worldpm.chat_template import CHATML_OWN, TEMPLATE_FILE, Encoder
from worldpm.fast_bpe import QWEN_WORDS

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")


@dataclass(frozen=True)
class MakeTokenizer(Stage):
    """One task; the directory is a tokenizer folder that `transformers` loads."""

    split: Stage
    config: TokenizerConfig

    @property
    def name(self) -> str:
        return "tokenizer"

    def settings(self) -> Mapping[str, Any]:
        settings = self.config.model_dump(mode="json")
        if self.config.path is None:
            return settings
        files = [self.config.path / name for name in ("tokenizer.json", TEMPLATE_FILE)]
        return {
            "template": self.config.template,
            "files": {file.name: file_sha256(file) for file in files if file.is_file()},
        }

    def upstream(self) -> tuple[Stage, ...]:
        return (self.split,) if self.config.path is None else ()

    def tasks(self) -> list[str]:
        return ["tokenizer"]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        del task
        if self.config.path is not None:
            encoder = Encoder.from_folder(self.config.path, self.config.template)
        else:
            limit = int(self.config.training_megabytes * 1e6)
            texts = training_texts(self.split.directory, limit)
            encoder = Encoder(train_tokenizer(texts, self.config.vocab_size), CHATML_OWN)
        encoder.save(directory)
        return TaskResult({})


def training_texts(groups_dir: Path, max_bytes: int) -> Iterator[str]:
    """Prompts and responses of the train split in the global order, up to `max_bytes` of text."""
    remaining = max_bytes
    for path in sorted(groups_dir.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(512, columns=["prompt", "responses", "split"]):
                for group in batch.to_pylist():
                    if group["split"] != "train":
                        continue
                    for message in (*group["prompt"], *group["responses"]):
                        remaining -= len(message["content"].encode())
                        if remaining < 0:
                            return
                        yield message["content"]


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with Qwen2's cutting into words and the ChatML special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = token_normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = token_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
