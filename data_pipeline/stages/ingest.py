"""Turn the dump's archives into Parquet files of questions and answers."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.sources import archives, attributes, entities, posts, rows, unpackers
from data_pipeline.sources.archives import ByteSource
from data_pipeline.sources.discovery import Site, identify
from data_pipeline.sources.posts import POSTS_SCHEMA, Mapper, ParsedPosts, read_posts
from data_pipeline.sources.rows import Damage, Piece
from data_pipeline.sources.unpackers import DamagedArchiveError
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import StageCounts, write_atomic
from worldpm.errors import InputError

# A part holds about 350 MB of HTML: one task of the next stage, in less than a gigabyte.
ROWS_PER_PART = 250_000
ROWS_PER_ROW_GROUP = 25_000

# Where the files of an object store stand while they are read.
FETCHED = ".fetched"

# Files from this size on are parsed by several processes while one decompresses.
LARGE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Ingest(Stage):
    """One task a site; a site's posts go to `<host>-NNNNN.parquet`, in the order of the file."""

    sites: tuple[Site, ...]
    strict: bool
    parse_workers: int = 1

    @property
    def name(self) -> str:
        return "ingest"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (archives, attributes, entities, posts, rows, unpackers)

    def settings(self) -> Mapping[str, Any]:
        return {
            "strict": self.strict,
            "sites": {site.host: identify(site.posts) for site in self.sites},
        }

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def tasks(self) -> list[str]:
        # The largest first: it decides how long the stage takes.
        by_size = sorted(self.sites, key=lambda site: (-site.posts.size, site.host))
        return [site.host for site in by_size]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        site = next(site for site in self.sites if site.host == task)
        if self.parse_workers <= 1 or site.posts.size < LARGE_BYTES:
            return ingest_site(site, directory, strict=self.strict)
        # One stream of bytes out of the archive feeds several parsers.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.parse_workers, mp_context=context) as pool:
            mapper = partial(map_in_order, pool, self.parse_workers + 2)
            return ingest_site(site, directory, strict=self.strict, mapper=mapper)


def ingest_site(site: Site, directory: Path, *, strict: bool, mapper: Mapper = map) -> TaskResult:
    """Read one site's posts into `directory`.

    Raises:
        InputError: the file is no dump, has no rows, or `strict` and it is damaged.
    """
    damage, tally = Damage(), _Tally()
    with site.posts.at_hand(directory / FETCHED) as source:
        chunks = _until_damage(source, damage)
        parts = read_posts(chunks, site.host, site.posts.label, damage, mapper)
        _write_parts(tally.passing(parts), site.host, directory)
    if tally.counts.rows_in == 0:
        detail = f" ({damage.notes[0]})" if damage.notes else ""
        raise InputError(f"{site.posts.label} holds no rows: the dump is empty{detail}")
    if strict and damage.notes:
        found = "\n".join(map(str, damage.notes))
        raise InputError(f"{site.posts.label} is damaged, and source.strict refuses that:\n{found}")
    notes: list[dict[str, Any]] = [
        {"site": site.host, "damage": str(note)} for note in damage.notes
    ]
    if tally.last_created is not None:
        notes.append({"site": site.host, "last_created": tally.last_created.isoformat()})
    return TaskResult({f"ingest/{site.host}": tally.counts, "ingest": tally.counts}, notes)


def _until_damage(source: ByteSource, damage: Damage) -> Iterator[bytes]:
    try:
        yield from source.chunks()
    except DamagedArchiveError as exc:
        damage.note(f"the compressed data is broken ({exc}); kept what came before")


@dataclass(slots=True)
class _Tally:
    """What is said of a site's tables once they have passed."""

    counts: StageCounts = field(default_factory=StageCounts)
    last_created: datetime | None = None

    def passing(self, parts: Iterator[tuple[pa.Table, StageCounts]]) -> Iterator[pa.Table]:
        """The tables of the parts, tallied as they pass."""
        for table, counts in parts:
            self.counts.add(counts)
            dates = [self.last_created, pc.max(table["created"]).as_py()]
            self.last_created = max((date for date in dates if date is not None), default=None)
            yield table


def _write_parts(tables: Iterator[pa.Table], host: str, directory: Path) -> None:
    for number in itertools.count():
        first = next(tables, None)
        if first is None and number > 0:
            return
        part = _part(tables, POSTS_SCHEMA.empty_table() if first is None else first)
        write_atomic(directory / f"{host}-{number:05d}.parquet", partial(_write_part, part))


def _part(tables: Iterator[pa.Table], first: pa.Table) -> Iterator[pa.Table]:
    # Parts end where a chunk of the file ends: they do not depend on the size of a row group.
    num_rows = first.num_rows
    yield first
    while num_rows < ROWS_PER_PART and (table := next(tables, None)) is not None:
        num_rows += table.num_rows
        yield table


def _write_part(tables: Iterable[pa.Table], path: Path) -> None:
    """Write rows as soon as they fill a row group: while an archive is unpacked, for example."""
    waiting = POSTS_SCHEMA.empty_table()
    with pq.ParquetWriter(path, POSTS_SCHEMA, compression="zstd") as writer:
        for table in tables:
            waiting = pa.concat_tables([waiting, table])
            num_whole = waiting.num_rows - waiting.num_rows % ROWS_PER_ROW_GROUP
            if num_whole:
                writer.write_table(waiting.slice(0, num_whole), ROWS_PER_ROW_GROUP)
                waiting = waiting.slice(num_whole)
        writer.write_table(waiting)


def map_in_order(
    pool: Executor,
    num_ahead: int,
    function: Callable[[Piece], ParsedPosts],
    pieces: Iterable[Piece],
) -> Iterator[ParsedPosts]:
    """`map` in a pool, with a bounded number of pieces in memory."""
    waiting: deque[Future[ParsedPosts]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(function, piece))
        if len(waiting) > num_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
