"""A small learnable data set, written as the data build writes it, with its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from worldpm.artifacts import Manifest
from worldpm.chat_template import TEMPLATES, Encoder
from worldpm.group_files import write_group_file
from worldpm.schema import SHARD_INDEX_SCHEMA, TOKEN_SHARD_SCHEMA, Group, Message, Pair

WORDS = 40
MAX_TOKENS = 128


def byte_encoder() -> Encoder:
    """A tokenizer of the 256 bytes and the template's special tokens."""
    template = TEMPLATES["chatml-own"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|pad|>"])
    return Encoder(tokenizer, template)


def learnable_groups(count: int, seed: int = 0) -> list[Group]:
    """Questions whose better answers hold more of the letter z."""
    random = np.random.default_rng(seed)
    groups: list[Group] = []
    for number in range(count):
        num_answers = int(random.integers(2, 5))
        quality = sorted(random.choice(8, num_answers, replace=False).tolist(), reverse=True)
        answers = []
        for good in quality:
            letters = list("z" * good + "a" * int(random.integers(4, 12)))
            random.shuffle(letters)
            answers.append("".join(letters))
        pairs = [Pair(i, i + 1, quality[i] - quality[i + 1]) for i in range(num_answers - 1)]
        question = "q" * int(random.integers(1, 20))
        groups.append(
            Group(
                f"site/{seed}-{number}", (Message("user", question),), tuple(answers), tuple(pairs)
            )
        )
    return groups


def write_split(folder: Path, split: str, groups: list[Group], encoder: Encoder) -> None:
    """Write one split of token shards in two shards."""
    target = folder / "shards" / split
    target.mkdir(parents=True)
    rows, pairs, tokens = [], [], []
    for group in groups:
        encoded = encoder.encode(group.prompt, group.responses, MAX_TOKENS)
        rows.append(
            {
                "group_id": group.group_id,
                "prompt_ids": encoded.prompt_ids,
                "response_ids": encoded.response_ids,
                "response_scores": [len(group.responses) - i for i in range(len(group.responses))],
                "pairs": [
                    {"chosen": p.chosen, "rejected": p.rejected, "margin": p.margin, "weight": 1.0}
                    for p in group.pairs
                ],
            }
        )
        pairs.append(len(group.pairs))
        tokens.append(len(encoded.prompt_ids) + sum(map(len, encoded.response_ids)))
    half = (len(rows) + 1) // 2
    sizes = []
    for number, part in enumerate((rows[:half], rows[half:])):
        write_table(
            target / f"shard-{number:05d}.arrow", pa.Table.from_pylist(part, TOKEN_SHARD_SCHEMA), 64
        )
        sizes.append(len(part))
    index = {"cumulative_pairs": np.cumsum(pairs), "cumulative_tokens": np.cumsum(tokens)}
    write_table(target / "index.arrow", pa.table(index, schema=SHARD_INDEX_SCHEMA), 1 << 20)
    Manifest(
        kind="token_shards",
        fingerprint="d" * 64,
        config={
            "tokenizer_hash": encoder.hash,
            "template_hash": encoder.template.hash,
            "max_tokens": MAX_TOKENS,
        },
        inputs={},
        counts={
            "num_groups": len(rows),
            "num_pairs": sum(pairs),
            "num_tokens": sum(tokens),
            "groups_per_shard": sizes,
        },
    ).write(target)


def write_table(path: Path, table: pa.Table, chunk: int) -> None:
    """Write an Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)


def write_data_set(folder: Path, sizes: tuple[int, int, int] = (120, 30, 20)) -> Path:
    """Write train, validation and test splits, the tokenizer, and a test set of groups."""
    encoder = byte_encoder()
    encoder.save(folder / "tokenizer")
    for seed, (split, size) in enumerate(zip(("train", "validation", "test"), sizes, strict=True)):
        write_split(folder, split, learnable_groups(size, seed), encoder)
    write_group_file(folder / "adversarial.jsonl", learnable_groups(25, seed=9))
    return folder


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 120 training questions."""
    return write_data_set(tmp_path_factory.mktemp("data") / "out")


@pytest.fixture(scope="session")
def make_data_set() -> Callable[..., Path]:
    """Write another: `make_data_set(folder, sizes)`."""
    return write_data_set
