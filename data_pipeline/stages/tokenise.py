"""Encode the groups of a bucket: only responses that stand in a pair, none of them cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """One task a bucket; writes `<split>-bucket-NNNNN.arrow` in the global order."""

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
        return self.split.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        encoder = Encoder.from_folder(self.tokenizer.directory)
        counts = StageCounts()
        groups = _read_groups(self.split.directory / f"{task}.parquet")
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


def _read_groups(path: Path) -> Iterator[Mapping[str, Any]]:
    columns = ["group_id", "prompt", "responses", "pairs", "split"]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(512, columns=columns):
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
        "prompt_ids": encoded.prompt_ids,
        "response_ids": [ids[index] for index in kept],
        "response_scores": [group["responses"][index]["score"] for index in kept],
        "pairs": [
            {**pair, "chosen": place[pair["chosen"]], "rejected": place[pair["rejected"]]}
            for pair in pairs
        ],
    }


def _members(pairs: Iterable[Mapping[str, Any]]) -> list[int]:
    return sorted({pair[side] for pair in pairs for side in ("chosen", "rejected")})
