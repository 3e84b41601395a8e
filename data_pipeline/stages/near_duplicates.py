"""Say which questions and answers are near-duplicates, and what follows from it.

Questions that hang together form a cluster, which the split keeps whole; of near-duplicate answers
to one cluster of questions the best voted stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import candidate_pairs, removals, sql
from data_pipeline.candidate_pairs import Int64s, connected_components, unique_pairs
from data_pipeline.config import NearDuplicatesConfig
from data_pipeline.documents import DOCUMENTS_SCHEMA
from data_pipeline.removals import (
    CLUSTERS_SCHEMA,
    REMOVALS_SCHEMA,
    clusters_dir,
    read_removals,
    removals_dir,
)
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.near_duplicate_candidates import (
    GatherCandidates,
    MatchBands,
    SignDocuments,
    VerifyCandidates,
    bucket_range,
)
from worldpm.artifacts import write_atomic


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """One task: clusters of questions, and the answers that repeat another of their cluster."""

    verified: VerifyCandidates
    before: tuple[Stage, ...]
    """Cleaning stages that come earlier: what they remove is never the copy that stays."""
    memory_mb: int

    @property
    def name(self) -> str:
        return "near_duplicates"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (candidate_pairs, removals, sql)

    def settings(self) -> Mapping[str, Any]:
        files = sql.sql_files()
        return {name: files[name] for name in ("near_duplicate_answers", "question_clusters")}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.verified, *self.before)

    def tasks(self) -> list[str]:
        return ["clusters"]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        files = [self.verified.directory / f"{name}.npy" for name in self.verified.tasks()]
        pairs = unique_pairs([np.load(path) for path in files])
        numbers, clusters = connected_components(pairs)
        documents = self._documents(numbers).append_column("number", pa.array(numbers))
        with sql.connect(self.memory_mb, directory) as connection:
            connection.register("documents", documents.append_column("cluster", pa.array(clusters)))
            connection.register("removed", read_removals(s.directory for s in self.before))
            answers = sql.query_file(connection, "near_duplicate_answers").cast(REMOVALS_SCHEMA)
            questions = sql.query_file(connection, "question_clusters").cast(CLUSTERS_SCHEMA)
        _write_table(removals_dir(directory) / f"{task}.parquet", answers)
        _write_table(clusters_dir(directory) / f"{task}.parquet", questions)
        return TaskResult({})

    def _documents(self, numbers: Int64s) -> pa.Table:
        """The rows of some documents, with `question_document` counted over all buckets."""
        signatures = self.verified.candidates.matches.signatures
        tables = [DOCUMENTS_SCHEMA.empty_table()]
        for task in signatures.tasks():
            low, high = bucket_range(signatures, task)
            wanted = numbers[(numbers >= low) & (numbers < high)]
            table = pq.read_table(signatures.directory / f"{task}.parquet").take(wanted - low)
            questions = pa.array(table["question_document"].to_numpy() + low)
            place = table.schema.get_field_index("question_document")
            tables.append(table.set_column(place, "question_document", questions))
        return pa.concat_tables(tables)


def near_duplicate_stages(
    work: Path,
    pair: Stage,
    config: NearDuplicatesConfig,
    *,
    memory_mb: int,
    before: tuple[Stage, ...] = (),
) -> tuple[Stage, ...]:
    """The stages in their order; the last has the removals and clusters.

    `pair` writes a file of groups a task; `before` are cleaning stages that come earlier.
    """
    signatures = SignDocuments(work / "sign_documents", pair, config)
    matches = MatchBands(work / "match_bands", signatures, memory_mb)
    candidates = GatherCandidates(work / "gather_candidates", matches)
    verified = VerifyCandidates(work / "verify_candidates", candidates)
    last = NearDuplicates(work / "near_duplicates", verified, before, memory_mb)
    return (signatures, matches, candidates, verified, last)


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, lambda hidden: pq.write_table(table, hidden, compression="zstd"))
