"""Sort the posts into buckets of the global order, a question and its answers in the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import bucket_files, keyed_hash
from data_pipeline.bucket_files import write_bucket_file
from data_pipeline.keyed_hash import buckets_of, order_keys
from data_pipeline.sources.posts import POSTS_SCHEMA
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.ingest import Ingest
from worldpm.artifacts import Manifest

# About 130 MB of HTML on StackOverflow.
POSTS_PER_BUCKET = 200_000

ARRANGED_SCHEMA = POSTS_SCHEMA.append(pa.field("order_key", pa.uint64()))
"""`*.arrow`: IPC files whose record batch b holds the posts of bucket b."""


@dataclass(frozen=True)
class Arrange(Stage):
    """One task a file of posts; every post of a question lands in the question's bucket."""

    ingest: Ingest
    seed: int
    configured_buckets: int | None

    @property
    def name(self) -> str:
        return "arrange"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (bucket_files, keyed_hash)

    def settings(self) -> Mapping[str, Any]:
        return {"seed": self.seed, "buckets": self.configured_buckets}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.ingest,)

    @property
    def num_buckets(self) -> int:
        """A power of two that follows from the number of posts, unless it is configured."""
        if self.configured_buckets is not None:
            return self.configured_buckets
        posts = Manifest.read(self.ingest.directory).counts["ingest"]["rows_out"]
        return 1 << max(0, (posts - 1) // POSTS_PER_BUCKET).bit_length()

    def tasks(self) -> list[str]:
        return [path.stem for path in sorted(self.ingest.directory.glob("*.parquet"))]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        posts = pq.read_table(self.ingest.directory / f"{task}.parquet")
        site = posts["site"][0].as_py() if posts.num_rows else ""
        keys = order_keys(posts["question_id"].to_numpy(), site, self.seed)
        write_bucket_file(
            directory / f"{task}.arrow",
            posts.append_column("order_key", pa.array(keys)).cast(ARRANGED_SCHEMA),
            buckets_of(keys, self.num_buckets),
            self.num_buckets,
        )
        return TaskResult({})
