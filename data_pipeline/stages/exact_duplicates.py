"""Find posts whose normalised text occurs more than once, over all sites.

First every post's text is hashed, bucket by bucket; then each range of hashes is looked at on its
own: questions first, so that an answer is never kept only inside a question that is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data_pipeline import bucket_files, keyed_hash, removals, sql
from data_pipeline.bucket_files import read_bucket, write_bucket_file
from data_pipeline.keyed_hash import buckets_of
from data_pipeline.removals import REMOVALS_SCHEMA, read_removals, removals_dir
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.pair import Pair
from worldpm.artifacts import write_atomic

KEYS_SCHEMA = pa.schema(
    [
        ("key_high", pa.uint64()),  # xxh3_128 of the normalised text
        ("key_low", pa.uint64()),
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("response_id", pa.int64()),  # null: the question
        ("num_responses", pa.int32()),
        ("score", pa.int32()),
        ("order_key", pa.uint64()),
    ]
)
# What `str.split` takes for white space among the ASCII characters.
ASCII_SPACE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "
TEXT_COLUMNS = [
    *("site", "question_id", "order_key", "question_net_votes", "prompt.list.element.content"),
    *(f"responses.list.element.{name}" for name in ("response_id", "content", "score")),
]


def normalise_text(text: str) -> bytes:
    """What two texts must share to be the same: everything but case and white space."""
    folded = text.casefold()
    if folded.isascii():  # three times as fast
        return folded.encode().translate(None, ASCII_SPACE)
    return "".join(folded.split()).encode()


@dataclass(frozen=True)
class TextKeys(Stage):
    """Hashes of every question and answer; one task a bucket of groups."""

    pair: Pair

    @property
    def name(self) -> str:
        return "text_keys"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (bucket_files, keyed_hash)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.pair,)

    @property
    def num_buckets(self) -> int:
        """Ranges of hashes: as many as there are buckets of groups."""
        return self.pair.arrange.num_buckets

    def tasks(self) -> list[str]:
        return self.pair.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        tables = list(hash_texts(self.pair.directory / f"{task}.parquet"))
        table = pa.concat_tables([KEYS_SCHEMA.empty_table(), *tables])
        buckets = buckets_of(table["key_high"].to_numpy(), self.num_buckets)
        write_bucket_file(directory / f"{task}.arrow", table, buckets, self.num_buckets)
        return TaskResult({})


def hash_texts(groups: Path) -> Iterator[pa.Table]:
    """One row a question or answer of a file of groups."""
    with pq.ParquetFile(groups) as file:
        for batch in file.iter_batches(batch_size=2048, columns=TEXT_COLUMNS):
            rows = [row for group in batch.to_pylist() for row in _group_keys(group)]
            columns = list(zip(*rows, strict=True)) or [[] for _ in KEYS_SCHEMA]
            yield pa.table(
                [pa.array(c, f.type) for c, f in zip(columns, KEYS_SCHEMA, strict=True)],
                schema=KEYS_SCHEMA,
            )


def _group_keys(group: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    question = "\n".join(message["content"] for message in group["prompt"])
    place = (group["site"], group["question_id"])
    num_responses, order_key = len(group["responses"]), group["order_key"]
    yield *_key(question), *place, None, num_responses, group["question_net_votes"], order_key
    for response in group["responses"]:
        key = _key(response["content"])
        yield *key, *place, response["response_id"], num_responses, response["score"], order_key


def _key(text: str) -> tuple[int, int]:
    digest = xxhash.xxh3_128_intdigest(normalise_text(text))
    return digest >> 64, digest & 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class ExactDuplicates(Stage):
    """Removals of repeated questions or repeated answers; one task a range of hashes."""

    keys: TextKeys
    what: Literal["questions", "answers"]
    before: ExactDuplicates | None
    memory_mb: int

    @property
    def name(self) -> str:
        return f"exact_duplicates_{self.what}"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (bucket_files, removals, sql)

    def settings(self) -> Mapping[str, Any]:
        return {"what": self.what, "sql": sql.sql_files()["exact_duplicates"]}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.keys, self.before) if self.before else (self.keys,)

    def tasks(self) -> list[str]:
        return [f"range-{number:05d}" for number in range(self.keys.num_buckets)]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        number = int(task.removeprefix("range-"))
        keys = read_bucket(self.keys.directory.glob("*.arrow"), number, KEYS_SCHEMA)
        before = read_removals([self.before.directory] if self.before else [])
        found = self._find(keys, before, directory)
        path = removals_dir(directory) / f"{task}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, lambda hidden: pq.write_table(found, hidden, compression="zstd"))
        return TaskResult({})

    def _find(self, keys: pa.Table, before: pa.Table, directory: Path) -> pa.Table:
        of_answers = self.what == "answers"
        with sql.connect(self.memory_mb, directory) as connection:
            connection.register("all_keys", keys)
            connection.register("removed", before)
            connection.execute(
                "CREATE TEMP VIEW keys AS SELECT * FROM all_keys ANTI JOIN removed "
                "USING (site, question_id) WHERE (response_id IS NOT NULL) = "
                + ("TRUE" if of_answers else "FALSE")
            )
            rows = sql.query_file(connection, "exact_duplicates")
        reason = "duplicate_answer" if of_answers else "duplicate_question"
        return rows.append_column("reason", pa.repeat(pa.scalar(reason), rows.num_rows)).cast(
            REMOVALS_SCHEMA
        )
