"""Say which questions and answers are near-duplicates, and what follows from it.

Questions that hang together form a cluster, which the split keeps whole; of near-duplicate answers
to one cluster of questions the best voted stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import candidate_pairs, removals
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

REASON = "near_duplicate_answer"
NAMES = ("site", "question_id")
PLACE = (*NAMES, "response_id")


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """One task: clusters of questions, and the answers that repeat another of their cluster."""

    verified: VerifyCandidates
    before: tuple[Stage, ...]
    """Cleaning stages that come earlier: what they remove is never the copy that stays."""

    @property
    def name(self) -> str:
        return "near_duplicates"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (candidate_pairs, removals)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.verified, *self.before)

    def tasks(self) -> list[str]:
        return ["clusters"]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        files = [self.verified.directory / f"{name}.npy" for name in self.verified.tasks()]
        pairs = unique_pairs([np.load(path) for path in files])
        numbers, clusters = connected_components(pairs)
        documents = self._documents(numbers)
        removed = read_removals(stage.directory for stage in self.before)
        tables = {
            removals_dir(directory): repeated_answers(numbers, clusters, documents, removed),
            clusters_dir(directory): question_clusters(numbers, clusters, documents),
        }
        for folder, table in tables.items():
            folder.mkdir(exist_ok=True)
            _write_table(folder / f"{task}.parquet", table)
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
    last = NearDuplicates(work / "near_duplicates", verified, before)
    return (signatures, matches, candidates, verified, last)


def question_clusters(numbers: Int64s, clusters: Int64s, documents: pa.Table) -> pa.Table:
    """Which question stands in which cluster, for all that are not alone; `CLUSTERS_SCHEMA`."""
    is_question = documents["response_id"].is_null().to_numpy()
    rows = documents.filter(is_question)
    names = [f"{s}/{q}" for s, q in zip(*(rows[c].to_pylist() for c in NAMES), strict=True)]
    name_of = dict(zip(numbers[is_question].tolist(), names, strict=True))
    labels = [name_of[number] for number in clusters[is_question].tolist()]
    columns = [rows["site"], rows["question_id"], pa.array(labels, pa.string())]
    return pa.table(columns, schema=CLUSTERS_SCHEMA)


def repeated_answers(
    numbers: Int64s, clusters: Int64s, documents: pa.Table, removed: pa.Table
) -> pa.Table:
    """The answers of which a similar one answers the same cluster of questions better.

    The highest score stays, then the first in the global order; `REMOVALS_SCHEMA`.
    """
    cluster_of = dict(zip(numbers.tolist(), clusters.tolist(), strict=True))
    gone = set(zip(*(removed[name].to_pylist() for name in PLACE), strict=True))
    columns = [documents[name].to_pylist() for name in (*PLACE, "score", "question_document")]
    answers = [
        (cluster_of[number], cluster_of.get(question, question), -score, number, place)
        for number, *place, score, question in zip(numbers.tolist(), *columns, strict=True)
        if place[2] is not None and (*place[:2], None) not in gone and tuple(place) not in gone
    ]
    answers.sort(key=lambda answer: answer[:4])
    worse = [new for old, new in pairwise(answers) if old[:2] == new[:2]]
    rows = [(*answer[4], REASON) for answer in sorted(worse, key=lambda answer: answer[3])]
    return _table(list(zip(*rows, strict=True)), REMOVALS_SCHEMA)


def _table(columns: Sequence[Iterable[Any]], schema: pa.Schema) -> pa.Table:
    filled = columns or [[] for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(filled, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _write_table(path: Path, table: pa.Table) -> None:
    write_atomic(path, lambda hidden: pq.write_table(table, hidden, compression="zstd"))
