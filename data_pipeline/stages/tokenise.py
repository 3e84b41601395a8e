"""Encode the groups of a bucket: only responses that stand in a pair, none of them cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.tokenizer import MakeTokenizer
from worldpm.artifacts import StageCounts, write_atomic
from worldpm.chat_template import Encoder
from worldpm.schema import SPLITS, TOKEN_SHARD_SCHEMA, parse_messages

ROWS_PER_BATCH = 64


@dataclass(frozen=True)
class Tokenise(Stage):
    """One task a row group of groups; writes `<split>-bucket-NNNNN.NNNNN.arrow`, in global order.

    Not a bucket: encoding takes the longest of all, and a small dump has only one bucket.
    """

    split: Stage
    tokenizer: MakeTokenizer
    max_tokens: int

    @property
    def name(self) -> str:
        return "tokenise"

    def settings(self) -> Mapping[str, Any]:
        return {"max_tokens": self.max_tokens}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.split, self.tokenizer)

    def tasks(self) -> list[str]:
        return [
            f"{bucket}.{number:05d}"
            for bucket in self.split.tasks()
            for number in range(_num_row_groups(self.split.directory / f"{bucket}.parquet"))
        ]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        encoder = _encoder(self.tokenizer.directory, self.tokenizer.fingerprint)
        counts = StageCounts()
        bucket, number = task.split(".")
        groups = _read_groups(self.split.directory / f"{bucket}.parquet", int(number))
        rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for split, row in encode_groups(groups, encoder, self.max_tokens, counts):
            rows[split].append(row)
        for split in SPLITS:
            table = pa.Table.from_pylist(rows[split], schema=TOKEN_SHARD_SCHEMA)
            write_shard(directory / f"{split}-{task}.arrow", table)
        num_rows = {f"{split}-{task}": len(rows[split]) for split in SPLITS}
        return TaskResult({"shard": counts}, [{"num_rows": num_rows}])


def write_shard(path: Path, table: pa.Table) -> None:
    """Write an uncompressed IPC file that can be memory-mapped."""

    def write(hidden: Path) -> None:
        with pa.OSFile(str(hidden), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=ROWS_PER_BATCH)

    write_atomic(path, write)


@lru_cache(maxsize=1)
def _encoder(directory: Path, fingerprint: str) -> Encoder:
    """The encoder of a process: a large vocabulary takes a second to load."""
    del fingerprint
    return Encoder.from_folder(directory).with_fast_bpe()


def _num_row_groups(path: Path) -> int:
    """One at least, so that a bucket without groups is counted too."""
    return max(1, pq.read_metadata(path).num_row_groups)


def _read_groups(path: Path, row_group: int) -> Iterator[Mapping[str, Any]]:
    responses = [f"responses.list.element.{name}" for name in ("content", "score")]
    columns = ["group_id", "prompt", *responses, "pairs", "split"]
    with pq.ParquetFile(path) as file:
        if row_group >= file.num_row_groups:
            return
        for batch in file.iter_batches(512, row_groups=[row_group], columns=columns):
            yield from batch.to_pylist()


def encode_groups(
    groups: Iterable[Mapping[str, Any]], encoder: Encoder, max_tokens: int, counts: StageCounts
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Split and token row of each group; posts that do not come out are counted.

    A response that does not fit into the context beside its prompt would lose text and is left out
    with its pairs; a pair whose two responses have the same ids is left out.
    """
    for group in groups:
        counts.rows_in += 1 + len(group["responses"])
        row = _encode_group(group, encoder, max_tokens, counts)
        if row is not None:
            counts.rows_out += 1 + len(row["response_ids"])
            yield group["split"], row


def _encode_group(
    group: Mapping[str, Any], encoder: Encoder, max_tokens: int, counts: StageCounts
) -> dict[str, Any] | None:
    prompt = parse_messages(group["prompt"], where=f"group {group['group_id']}")
    contents = [response["content"] for response in group["responses"]]
    paired = _members(group["pairs"])
    counts.drop("not_in_a_pair", len(contents) - len(paired))
    first = encoder.encode(prompt, [contents[i] for i in paired], max_tokens)
    fits = [i for i, cut in zip(paired, first.response_tokens_cut, strict=True) if not cut]
    counts.drop("response_too_long", len(paired) - len(fits))
    # Without the long response the prompt may keep more of its middle.
    whole = len(fits) == len(paired)
    encoded = first if whole else encoder.encode(prompt, [contents[i] for i in fits], max_tokens)
    ids = dict(zip(fits, encoded.response_ids, strict=True))
    pairs = [
        pair
        for pair in group["pairs"]
        if pair["chosen"] in ids
        and pair["rejected"] in ids
        and ids[pair["chosen"]] != ids[pair["rejected"]]
    ]
    kept = _members(pairs)
    if not kept:
        counts.drop("no_pair_left", 1 + len(fits))
        return None
    counts.drop("same_tokens_or_alone", len(fits) - len(kept))
    place = {index: number for number, index in enumerate(kept)}
    return {
        "group_id": group["group_id"],
        "prompt_ids": np.array(encoded.prompt_ids, np.int32),
        "response_ids": [np.array(ids[index], np.int32) for index in kept],
        "response_scores": [group["responses"][index]["score"] for index in kept],
        "pairs": [
            {**pair, "chosen": place[pair["chosen"]], "rejected": place[pair["rejected"]]}
            for pair in pairs
        ],
    }


def _members(pairs: Iterable[Mapping[str, Any]]) -> list[int]:
    return sorted({pair[side] for pair in pairs for side in ("chosen", "rejected")})
