"""Turn questions and their voted answers into groups with preference pairs.

Pairs are found by SQL on narrow columns, one bucket at a time; the text is attached last.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import bucket_files, group_tables, keyed_hash, pair_drawing, sql
from data_pipeline.bucket_files import read_bucket
from data_pipeline.config import FilterConfig, PairingConfig
from data_pipeline.group_tables import PairTables, attach_text, write_groups
from data_pipeline.keyed_hash import answer_keys
from data_pipeline.pair_drawing import draw_pairs
from data_pipeline.sources.discovery import is_meta
from data_pipeline.sources.posts import QUESTION
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages import normalise
from data_pipeline.stages.normalise import TEXTS_SCHEMA, Normalise
from worldpm.artifacts import Manifest, StageCounts, write_atomic


@dataclass(frozen=True)
class Pair(Stage):
    """One task a bucket of questions; writes `bucket-NNNNN.parquet` in the global order."""

    normalise: Normalise
    filters: FilterConfig
    pairing: PairingConfig
    memory_mb: int

    @property
    def name(self) -> str:
        return "pair"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (bucket_files, group_tables, keyed_hash, normalise, pair_drawing, sql)

    def settings(self) -> Mapping[str, Any]:
        return {
            "filters": self.filters.model_dump(mode="json"),
            "pairing": self.pairing.model_dump(mode="json"),
            "sql": {n: text for n, text in sql.sql_files().items() if n in _sql_names()},
        }

    def upstream(self) -> tuple[Stage, ...]:
        return (self.normalise,)

    def tasks(self) -> list[str]:
        return [f"bucket-{number:05d}" for number in range(self.normalise.num_buckets)]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        texts = self.normalise.directory.glob("*.arrow")
        bucket = int(task.removeprefix("bucket-"))
        posts = in_global_order(read_bucket(texts, bucket, TEXTS_SCHEMA))
        narrow = narrow_posts(posts, dump_ends(self.normalise.ingest.directory))
        with sql.connect(self.memory_mb, directory) as connection:
            found = pair_answers(connection, narrow, self.filters, self.pairing)
        write_atomic(
            directory / f"{task}.parquet",
            lambda path: write_groups(path, attach_text(posts, found)),
        )
        return TaskResult({"pair": found.counts, "pair/questions": found.question_counts})


def _sql_names() -> list[str]:
    return ["judge_posts", "count_reasons", *pair_drawing.sql_names()]


def dump_ends(ingest_dir: Path) -> dict[str, datetime]:
    """The date of each site's last post: what an answer's age is measured from."""
    notes = Manifest.read(ingest_dir).counts["notes"]
    return {
        note["site"]: datetime.fromisoformat(note["last_created"])
        for note in notes
        if "last_created" in note
    }


def in_global_order(posts: pa.Table) -> pa.Table:
    """Sort posts by question in the global order, each question before its answers."""
    site_codes = posts["site"].combine_chunks().dictionary_encode().indices.to_numpy()
    is_answer = posts["post_type"].to_numpy() != QUESTION
    order = np.lexsort(
        (posts["post_id"].to_numpy(), is_answer, site_codes, posts["order_key"].to_numpy())
    )
    # 64-bit offsets: a bucket may hold more than 2 GB of text.
    wide = posts.set_column(
        posts.schema.get_field_index("body"), "body", posts["body"].cast(pa.large_string())
    )
    return wide.combine_chunks().take(pa.array(order))


def narrow_posts(posts: pa.Table, ends: Mapping[str, datetime]) -> pa.Table:
    """What the SQL needs of posts in the global order: `row` is the place in `posts`."""
    key, sites = posts["order_key"].to_numpy(), posts["site"].combine_chunks().dictionary_encode()
    codes = sites.indices.to_numpy()
    begins = np.ones(len(key), dtype=bool)
    begins[1:] = (key[1:] != key[:-1]) | (codes[1:] != codes[:-1])
    hosts = sites.dictionary.to_pylist()
    last = pa.array([ends.get(host) for host in hosts], pa.timestamp("ms")).take(sites.indices)
    age_ms = pc.subtract(last, posts["created"]).cast(pa.int64())
    return pa.table(
        {
            "row": pa.array(np.arange(len(key))),
            "question": pa.array(np.cumsum(begins) - 1),
            "key": answer_keys(key, posts["post_id"].to_numpy()),
            "post_id": posts["post_id"],
            "is_question": pc.equal(posts["post_type"], QUESTION),
            "net_votes": posts["net_votes"],
            "accepted_answer_id": posts["accepted_answer_id"],
            "author": posts["author"],
            "is_closed": posts["is_closed"],
            "is_wiki": posts["is_community_wiki"],
            "is_meta": pa.array([is_meta(host) for host in hosts], pa.bool_()).take(sites.indices),
            "age_days": pc.divide(age_ms.cast(pa.float64()), 86_400_000.0),
        }
    )


def pair_answers(
    connection: duckdb.DuckDBPyConnection,
    posts: pa.Table,
    filters: FilterConfig,
    pairing: PairingConfig,
) -> PairTables:
    """Judge every post of a narrow table, and draw the pairs of each question."""
    variables = {**filters.model_dump(), "accepted_bonus": pairing.accepted_bonus}
    connection.register("posts", posts)
    sql.run_file(connection, "judge_posts", variables)
    pairs = draw_pairs(connection, pairing)
    questions = sql.fetch(connection, _QUESTIONS)
    answers = sql.fetch(connection, _ANSWERS)
    counts, question_counts = _count(sql.run_file(connection, "count_reasons").fetchall())
    ids = questions["question"]
    return PairTables(
        question_rows=questions["row"],
        num_answers=_count_of(answers["question"], ids),
        answer_rows=answers["row"],
        scores=answers["score"],
        is_accepted=answers["is_accepted"],
        num_pairs=_count_of(pairs["question"], ids),
        chosen=pairs["chosen"],
        rejected=pairs["rejected"],
        margin=pairs["margin"],
        counts=counts,
        question_counts=question_counts,
    )


_QUESTIONS = """
SELECT question, row FROM judged
WHERE is_question AND reason IS NULL AND question IN (SELECT question FROM pairs)
ORDER BY row
"""
_ANSWERS = """
SELECT question, row, score, is_accepted FROM answers
WHERE question IN (SELECT question FROM pairs)
ORDER BY row
"""


def _count_of(sorted_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.searchsorted(sorted_ids, ids, "right") - np.searchsorted(sorted_ids, ids, "left")


def _count(rows: list[tuple[str | None, int, int]]) -> tuple[StageCounts, StageCounts]:
    posts, questions = StageCounts(), StageCounts()
    for reason, num_posts, num_questions in rows:
        for counts, amount in ((posts, num_posts), (questions, num_questions)):
            counts.rows_in += amount
            if reason is None:
                counts.rows_out += amount
            else:
                counts.drop(reason, amount)
    return posts, questions
