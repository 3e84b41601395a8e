"""Turn the posts' HTML into Markdown and sort them into buckets of the global order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import bucket_files, html_text, keyed_hash, plain_markdown
from data_pipeline.bucket_files import write_bucket_file
from data_pipeline.html_text import to_markdown
from data_pipeline.keyed_hash import buckets_of, order_keys
from data_pipeline.sources.posts import POSTS_SCHEMA
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.ingest import Ingest
from worldpm.artifacts import Manifest, StageCounts

POSTS_PER_BUCKET = 500_000

TEXTS_SCHEMA = POSTS_SCHEMA.append(pa.field("order_key", pa.uint64()))
"""`texts/*.arrow`: IPC files whose record batch b holds the posts of bucket b, body in Markdown."""


@dataclass(frozen=True)
class Normalise(Stage):
    """One task a file of posts; every post of a question lands in the question's bucket."""

    ingest: Ingest
    seed: int
    configured_buckets: int | None

    @property
    def name(self) -> str:
        return "normalise"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (bucket_files, html_text, keyed_hash, plain_markdown)

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
        counts, num_plain = normalise_posts(
            self.ingest.directory / f"{task}.parquet",
            directory / f"{task}.arrow",
            num_buckets=self.num_buckets,
            seed=self.seed,
        )
        notes = [{"task": task, "num_plainly_converted": num_plain}] if num_plain else []
        return TaskResult({"normalise": counts}, notes)


def normalise_posts(
    posts: Path, output: Path, *, num_buckets: int, seed: int
) -> tuple[StageCounts, int]:
    """Convert one Parquet file of posts into an IPC file with a record batch for each bucket.

    Also returns how many posts the fast converter would have lost text of.
    """
    parts: list[pa.Table] = []
    counts = StageCounts()
    num_plain = 0
    with pq.ParquetFile(posts) as file:
        for batch in file.iter_batches(batch_size=8192):
            part, was_plain = _convert(pa.Table.from_batches([batch]), seed, counts)
            parts.append(part)
            num_plain += was_plain
    table = pa.concat_tables(parts) if parts else TEXTS_SCHEMA.empty_table()
    buckets = buckets_of(table["order_key"].to_numpy(), num_buckets)
    write_bucket_file(output, table.cast(TEXTS_SCHEMA), buckets, num_buckets)
    return counts, num_plain


def _convert(table: pa.Table, seed: int, counts: StageCounts) -> tuple[pa.Table, int]:
    counts.rows_in += table.num_rows
    converted = [to_markdown(html) for html in table["body"].to_pylist()]
    bodies = [text for text, _ in converted]
    titles = [_plain_title(title) for title in table["title"].to_pylist()]
    site = table["site"][0].as_py() if table.num_rows else ""
    keys = order_keys(table["question_id"].to_numpy(), site, seed)
    table = (
        table.set_column(table.schema.get_field_index("body"), "body", pa.array(bodies))
        .set_column(table.schema.get_field_index("title"), "title", pa.array(titles, pa.string()))
        .append_column("order_key", pa.array(keys))
    )
    has_text = [bool(body) for body in bodies]
    counts.drop("no_text", has_text.count(False))
    table = table.filter(pa.array(has_text, pa.bool_()))
    counts.rows_out += table.num_rows
    return table, sum(was_plain for _, was_plain in converted)


def _plain_title(title: str | None) -> str | None:
    return " ".join(title.split()) if title else None
