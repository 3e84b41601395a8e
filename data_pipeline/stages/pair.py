"""Turn questions and their voted answers into groups with preference pairs.

Pairs are found by SQL on narrow columns, one bucket at a time. Only the posts of groups become
Markdown: that takes the longest, and a third of a dump's posts stand in no group. Pairs are found
anew among the posts that have text.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import (
    bucket_files,
    group_tables,
    html_text,
    keyed_hash,
    pair_drawing,
    plain_markdown,
    sql,
)
from data_pipeline.bucket_files import read_bucket
from data_pipeline.config import FilterConfig, PairingConfig
from data_pipeline.group_tables import PairTables, attach_text, write_groups
from data_pipeline.html_text import to_markdown
from data_pipeline.keyed_hash import answer_keys
from data_pipeline.pair_drawing import draw_pairs
from data_pipeline.sources.discovery import is_meta
from data_pipeline.sources.posts import QUESTION
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages import arrange
from data_pipeline.stages.arrange import ARRANGED_SCHEMA, Arrange
from worldpm.artifacts import Manifest, StageCounts, write_atomic


@dataclass(frozen=True)
class Pair(Stage):
    """One task a bucket of questions; writes `bucket-NNNNN.parquet` in the global order."""

    arrange: Arrange
    filters: FilterConfig
    pairing: PairingConfig
    memory_mb: int

    @property
    def name(self) -> str:
        return "pair"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (
            *(arrange, bucket_files, group_tables, html_text),
            *(keyed_hash, pair_drawing, plain_markdown, sql),
        )

    def settings(self) -> Mapping[str, Any]:
        return {
            "filters": self.filters.model_dump(mode="json"),
            "pairing": self.pairing.model_dump(mode="json"),
            "sql": {n: text for n, text in sql.sql_files().items() if n in _sql_names()},
        }

    def upstream(self) -> tuple[Stage, ...]:
        return (self.arrange,)

    def tasks(self) -> list[str]:
        return [f"bucket-{number:05d}" for number in range(self.arrange.num_buckets)]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        bucket = int(task.removeprefix("bucket-"))
        posts = read_bucket(self.arrange.directory.glob("*.arrow"), bucket, ARRANGED_SCHEMA)
        ends = dump_ends(self.arrange.ingest.directory)
        with sql.connect(self.memory_mb, directory) as connection:
            find = partial(pair_answers, connection, filters=self.filters, pairing=self.pairing)
            paired = pair_posts(posts, lambda rows: find(narrow_posts(rows, ends)))
        write_atomic(
            directory / f"{task}.parquet",
            lambda path: write_groups(path, attach_text(paired.posts, paired.found)),
        )
        notes = [{"task": task, "num_plainly_converted": paired.num_plain}]
        return TaskResult(paired.counts, notes if paired.num_plain else [])


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


@dataclass(frozen=True, slots=True)
class PairedPosts:
    """The posts of groups, in the global order, with their text in Markdown and their pairs.

    `num_plain` posts lost text in the fast converter and went through the plain one.
    """

    posts: pa.Table
    found: PairTables
    counts: dict[str, StageCounts]
    num_plain: int


def pair_posts(posts: pa.Table, find: Callable[[pa.Table], PairTables]) -> PairedPosts:
    """Judge posts by what is known of them, convert what is left, and pair what has text.

    `find` is given posts in the global order, without their text.
    """
    # 64-bit offsets: a bucket may hold more than 2 GB of text.
    place = posts.schema.get_field_index("body")
    posts = posts.set_column(place, "body", posts["body"].cast(pa.large_string()))
    order = global_order(posts)
    judged = find(posts.drop_columns(["title", "tags", "body"]).take(pa.array(order)))
    texts, num_plain = _to_markdown(posts.take(pa.array(order[judged.rows()])))
    texts = texts.filter(pc.not_equal(texts["body"], "")).combine_chunks()
    found = find(texts)
    counts = StageCounts(judged.counts.rows_out, found.counts.rows_out)
    counts.drop("no_text", counts.rows_in - texts.num_rows)
    counts.drop("no_pair_left", texts.num_rows - counts.rows_out)
    steps = {"pair": judged.counts, "normalise": counts, "pair/questions": judged.question_counts}
    return PairedPosts(texts, found, steps, num_plain)


def _to_markdown(posts: pa.Table) -> tuple[pa.Table, int]:
    bodies: list[pa.Array] = []
    num_plain = 0
    for batch in posts.to_batches(max_chunksize=8192):
        converted = [to_markdown(html) for html in batch["body"].to_pylist()]
        bodies.append(pa.array([text for text, _ in converted], pa.large_string()))
        num_plain += sum(was_plain for _, was_plain in converted)
    titles = [" ".join(title.split()) if title else None for title in posts["title"].to_pylist()]
    place = posts.schema.get_field_index
    body = pa.chunked_array(bodies, pa.large_string()).combine_chunks()
    posts = posts.set_column(place("body"), "body", body)
    return posts.set_column(place("title"), "title", pa.array(titles, pa.string())), num_plain


def global_order(posts: pa.Table) -> np.ndarray:
    """The rows of posts by question in the global order, each question before its answers."""
    site_codes = posts["site"].combine_chunks().dictionary_encode().indices.to_numpy()
    is_answer = posts["post_type"].to_numpy() != QUESTION
    return np.lexsort(
        (posts["post_id"].to_numpy(), is_answer, site_codes, posts["order_key"].to_numpy())
    )


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
