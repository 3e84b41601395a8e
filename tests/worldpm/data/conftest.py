"""Small token shards written from the schema, as the data build writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from worldpm.artifacts import Manifest
from worldpm.data.token_group import TokenGroup
from worldpm.schema import SHARD_INDEX_SCHEMA, TOKEN_SHARD_SCHEMA, Pair

WriteShards = Callable[..., Path]


def write_shards(
    folder: Path,
    groups: Sequence[TokenGroup],
    *,
    split: str = "train",
    groups_per_shard: int = 1000,
    rows_per_batch: int = 64,
) -> Path:
    """Write one split of a data set; returns the data set's folder."""
    target = folder / "shards" / split
    target.mkdir(parents=True)
    sizes: list[int] = []
    for start in range(0, len(groups), groups_per_shard):
        part = groups[start : start + groups_per_shard]
        table = pa.Table.from_pylist([_row(group) for group in part], TOKEN_SHARD_SCHEMA)
        path = str(target / f"shard-{len(sizes):05d}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, TOKEN_SHARD_SCHEMA) as writer:
            writer.write_table(table, max_chunksize=rows_per_batch)
        sizes.append(len(part))
    write_index(
        target,
        np.asarray([group.num_pairs for group in groups], np.int64),
        np.asarray([group.num_tokens for group in groups], np.int64),
    )
    Manifest(
        kind="token_shards",
        fingerprint="f" * 64,
        config={"tokenizer_hash": "t", "template_hash": "h", "max_tokens": 512},
        inputs={},
        counts={
            "num_groups": len(groups),
            "num_pairs": sum(group.num_pairs for group in groups),
            "num_tokens": sum(group.num_tokens for group in groups),
            "groups_per_shard": sizes,
        },
    ).write(target)
    return folder


def write_index(target: Path, pairs: np.ndarray, tokens: np.ndarray, chunk: int = 1 << 20) -> None:
    """Write `index.arrow` in record batches of `chunk` rows."""
    table = pa.table(
        {"cumulative_pairs": np.cumsum(pairs), "cumulative_tokens": np.cumsum(tokens)},
        schema=SHARD_INDEX_SCHEMA,
    )
    path = str(target / "index.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, SHARD_INDEX_SCHEMA) as writer:
        writer.write_table(table, max_chunksize=chunk)


def _row(group: TokenGroup) -> dict:
    return {
        "group_id": group.group_id,
        "prompt_ids": group.prompt_ids,
        "response_ids": list(group.response_ids),
        "response_scores": group.scores,
        "pairs": [
            {"chosen": int(c), "rejected": int(r), "margin": int(m), "weight": float(w)}
            for c, r, m, w in zip(
                group.chosen, group.rejected, group.margin, group.weight, strict=True
            )
        ],
    }


def random_groups(count: int, seed: int = 0) -> list[TokenGroup]:
    """Groups of 2 to 5 responses of random ids and lengths."""
    random = np.random.default_rng(seed)
    groups = []
    for number in range(count):
        num_responses = int(random.integers(2, 6))
        pairs = [Pair(index, index + 1, margin=2) for index in range(num_responses - 1)]
        groups.append(
            TokenGroup.from_ids(
                f"site/{number}",
                random.integers(1, 90, int(random.integers(3, 30))).tolist(),
                [
                    random.integers(1, 90, int(random.integers(2, 40))).tolist()
                    for _ in range(num_responses)
                ],
                pairs[: int(random.integers(1, num_responses))],
                list(range(num_responses, 0, -1)),
            )
        )
    return groups


@pytest.fixture(name="write_shards")
def write_shards_fixture(tmp_path: Path) -> WriteShards:
    """Write groups as a data set below the test's folder."""

    def write(groups: Sequence[TokenGroup], **options: object) -> Path:
        return write_shards(tmp_path / "data", groups, **options)  # type: ignore[arg-type]

    return write


@pytest.fixture(name="random_groups")
def random_groups_fixture() -> Callable[..., list[TokenGroup]]:
    """Make random groups: `random_groups(count, seed=0)`."""
    return random_groups


@pytest.fixture(name="write_index")
def write_index_fixture() -> Callable[..., None]:
    """Write an index alone: `write_index(folder, pairs, tokens)`."""
    return write_index
