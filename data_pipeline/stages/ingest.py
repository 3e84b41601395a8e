"""Turn the dump's archives into Parquet files of questions and answers."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.sources import archives, posts, rows
from data_pipeline.sources.archives import ByteSource, DamagedArchiveError
from data_pipeline.sources.discovery import Site, identify
from data_pipeline.sources.posts import POSTS_SCHEMA, read_posts
from data_pipeline.sources.rows import Damage, RowReader
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import StageCounts, write_atomic
from worldpm.errors import InputError

# A part holds about 350 MB of HTML: one task of the next stage, in less than a gigabyte.
ROWS_PER_PART = 250_000
ROWS_PER_ROW_GROUP = 25_000


@dataclass(frozen=True)
class Ingest(Stage):
    """One task a site; a site's posts go to `<host>-NNNNN.parquet`, in the order of the file."""

    sites: tuple[Site, ...]
    strict: bool

    @property
    def name(self) -> str:
        return "ingest"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (archives, posts, rows)

    def settings(self) -> Mapping[str, Any]:
        return {
            "strict": self.strict,
            "sites": {site.host: identify(site.posts) for site in self.sites},
        }

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def tasks(self) -> list[str]:
        return [site.host for site in self.sites]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        site = next(site for site in self.sites if site.host == task)
        return ingest_site(site, directory, strict=self.strict)


def ingest_site(site: Site, directory: Path, *, strict: bool) -> TaskResult:
    """Read one site's posts into `directory`.

    Raises:
        InputError: the file is no dump, has no rows, or `strict` and it is damaged.
    """
    counts = StageCounts()
    reader = RowReader(site.posts.label)
    chunks = _until_damage(site.posts, reader.damage)
    last_created = _write_parts(read_posts(chunks, site.host, reader, counts), site.host, directory)
    damage = reader.damage
    if counts.rows_in == 0:
        detail = f" ({damage.notes[0]})" if damage.notes else ""
        raise InputError(f"{site.posts.label} holds no rows: the dump is empty{detail}")
    if strict and damage.notes:
        found = "\n".join(damage.notes)
        raise InputError(f"{site.posts.label} is damaged, and source.strict refuses that:\n{found}")
    notes: list[dict[str, Any]] = [{"site": site.host, "damage": text} for text in damage.notes]
    if last_created is not None:
        notes.append({"site": site.host, "last_created": last_created.isoformat()})
    return TaskResult({f"ingest/{site.host}": counts, "ingest": counts}, notes)


def _until_damage(source: ByteSource, damage: Damage) -> Iterator[bytes]:
    try:
        yield from source.chunks()
    except DamagedArchiveError as exc:
        damage.note(f"the compressed data is broken ({exc}); kept what came before")


def _write_parts(tables: Iterator[pa.Table], host: str, directory: Path) -> datetime | None:
    last_created: datetime | None = None
    for number, part in enumerate(_chunked(tables, ROWS_PER_PART)):
        write_atomic(
            directory / f"{host}-{number:05d}.parquet",
            lambda path, part=part: pq.write_table(
                part, path, compression="zstd", row_group_size=ROWS_PER_ROW_GROUP
            ),
        )
        dates = [last_created, pc.max(part["created"]).as_py()]
        last_created = max((date for date in dates if date is not None), default=None)
    return last_created


def _chunked(tables: Iterator[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    # Parts end where a chunk of the file ends, so that no table is ever cut or copied.
    waiting: list[pa.Table] = [POSTS_SCHEMA.empty_table()]
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= num_rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
