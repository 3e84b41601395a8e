"""What the cleaning stages say about groups: narrow tables of removals and of question clusters.

Stages such as deduplication and decontamination read the candidate groups and write which posts
have to go, and why. The split stage applies all of them, in order, when it writes the final groups,
so the text is moved once however many stages there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

REMOVALS_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("response_id", pa.int64()),  # null: the whole group
        ("reason", pa.string()),
    ]
)
"""`<stage>/removals/*.parquet`: at most one row a post."""

CLUSTERS_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("cluster", pa.string()),  # the group_id of the cluster's representative
    ]
)
"""`<stage>/clusters/*.parquet`: questions that must stand in one split; others are alone."""


def removals_dir(stage_dir: Path) -> Path:
    """Where a cleaning stage writes its removals."""
    return stage_dir / "removals"


def clusters_dir(stage_dir: Path) -> Path:
    """Where a cleaning stage writes its clusters."""
    return stage_dir / "clusters"


def read_removals(stage_dirs: Iterable[Path]) -> pa.Table:
    """All removals of some cleaning stages, in the order of stages and file names."""
    return _read((removals_dir(stage_dir) for stage_dir in stage_dirs), REMOVALS_SCHEMA)


def read_clusters(stage_dirs: Iterable[Path]) -> pa.Table:
    """All question clusters of some cleaning stages."""
    return _read((clusters_dir(stage_dir) for stage_dir in stage_dirs), CLUSTERS_SCHEMA)


def _read(folders: Iterable[Path], schema: pa.Schema) -> pa.Table:
    found = [(folder, folder.stat()) for folder in folders if folder.is_dir()]
    tables = [_read_folder(path, (st.st_ino, st.st_mtime_ns), schema) for path, st in found]
    return pa.concat_tables([schema.empty_table(), *tables])


@lru_cache(maxsize=8)
def _read_folder(folder: Path, identity: tuple[int, int], schema: pa.Schema) -> pa.Table:
    """All files of a folder. Every bucket asks for all removals: a process reads them once."""
    del identity  # a stage that is made anew has another folder
    tables = [pq.read_table(path, schema=schema) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
