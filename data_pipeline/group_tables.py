"""Groups as Arrow tables: the columns of the groups files, and how text is attached to pairs."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.sources.discovery import is_meta
from worldpm.artifacts import StageCounts
from worldpm.schema import GROUPS_SCHEMA, MESSAGE_TYPE, PAIR_TYPE, RESPONSE_TYPE

CANDIDATES_SCHEMA = pa.schema(
    [
        *GROUPS_SCHEMA,
        ("margin_buckets", pa.list_(pa.string())),  # one a pair: 1-2, 3-5, 6-10, 11+
        ("tags", pa.list_(pa.string())),
        ("is_meta", pa.bool_()),
        ("question_author", pa.string()),
        ("question_created", pa.timestamp("ms")),
        ("question_licence", pa.string()),
        ("question_net_votes", pa.int32()),
        ("order_key", pa.uint64()),  # place in the global order
    ]
)
"""Groups before cleaning: `split` is empty until the split stage."""

# The paper's Table 5.
MARGIN_LIMITS = np.array([2, 5, 10])
MARGIN_BUCKETS = ("1-2", "3-5", "6-10", "11+")

GROUPS_PER_ROW_GROUP = 5_000


@dataclass(frozen=True, slots=True)
class PairTables:
    """Groups as row numbers of a table of posts, all in the global order.

    `question_rows`, `num_answers`, `num_pairs` have one entry a question; `answer_rows`, `scores`,
    `is_accepted` one an answer; `chosen`, `rejected` (places among the question's answers) and
    `margin` one a pair.
    """

    question_rows: np.ndarray
    num_answers: np.ndarray
    answer_rows: np.ndarray
    scores: np.ndarray
    is_accepted: np.ndarray
    num_pairs: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    margin: np.ndarray
    counts: StageCounts
    question_counts: StageCounts

    def rows(self) -> np.ndarray:
        """The posts of all groups, in their order."""
        return np.sort(np.concatenate([self.question_rows, self.answer_rows]))


def attach_text(posts: pa.Table, found: PairTables) -> Iterator[pa.Table]:
    """The groups with their text, a row group at a time."""
    answer_ends = np.concatenate(([0], np.cumsum(found.num_answers)))
    pair_ends = np.concatenate(([0], np.cumsum(found.num_pairs)))
    for start in range(0, len(found.question_rows), GROUPS_PER_ROW_GROUP):
        end = min(start + GROUPS_PER_ROW_GROUP, len(found.question_rows))
        questions = posts.take(pa.array(found.question_rows[start:end]))
        answers = slice(int(answer_ends[start]), int(answer_ends[end]))
        pairs = slice(int(pair_ends[start]), int(pair_ends[end]))
        pair_offsets = pair_ends[start : end + 1] - pair_ends[start]
        responses = pa.ListArray.from_arrays(
            _offsets(answer_ends[start : end + 1]), _responses(posts, found, answers)
        )
        columns = {
            "responses": responses,
            "pairs": pa.ListArray.from_arrays(_offsets(pair_offsets), _pairs(found, pairs)),
            "margin_buckets": pa.ListArray.from_arrays(
                _offsets(pair_offsets), margin_buckets(found.margin[pairs])
            ),
        }
        yield _question_columns(questions, columns)


def margin_buckets(margins: np.ndarray) -> pa.Array:
    """The paper's bucket of each margin."""
    codes = np.searchsorted(MARGIN_LIMITS, margins)
    return pa.array(MARGIN_BUCKETS).take(pa.array(codes))


def write_groups(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of groups as one Parquet file, a row group each."""
    with pq.ParquetWriter(path, CANDIDATES_SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _question_columns(questions: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    num = questions.num_rows
    text = pc.binary_join_element_wise(
        questions["title"].cast(pa.large_string()),
        questions["body"],
        pa.scalar("\n\n", pa.large_string()),
        null_handling="skip",
    )
    messages = pa.StructArray.from_arrays(
        [pa.repeat(pa.scalar("user"), num), _flat(text).cast(pa.string())],
        fields=list(MESSAGE_TYPE),
    )
    is_meta_site = {host: is_meta(host) for host in questions["site"].unique().to_pylist()}
    columns |= {
        "group_id": pc.binary_join_element_wise(
            questions["site"], questions["question_id"].cast(pa.string()), "/"
        ),
        "site": questions["site"],
        "question_id": questions["question_id"],
        "prompt": pa.ListArray.from_arrays(pa.array(np.arange(num + 1, dtype=np.int32)), messages),
        "split": pa.nulls(num, pa.string()),
        "tags": questions["tags"],
        "is_meta": pa.array([is_meta_site[host] for host in questions["site"].to_pylist()]),
        "question_author": questions["author"],
        "question_created": questions["created"],
        "question_licence": questions["licence"],
        "question_net_votes": questions["net_votes"],
        "order_key": questions["order_key"],
    }
    return pa.table([columns[name] for name in CANDIDATES_SCHEMA.names], schema=CANDIDATES_SCHEMA)


def _responses(posts: pa.Table, found: PairTables, part: slice) -> pa.StructArray:
    names = ["post_id", "body", "net_votes", "author", "created", "licence"]
    answers = posts.select(names).take(pa.array(found.answer_rows[part]))
    columns = [
        answers["post_id"],
        answers["body"].cast(pa.string()),
        pa.array(found.scores[part], pa.int32()),
        answers["net_votes"],
        pa.array(found.is_accepted[part], pa.bool_()),
        answers["author"],
        answers["created"],
        answers["licence"],
    ]
    return pa.StructArray.from_arrays(
        [_flat(column) for column in columns], fields=list(RESPONSE_TYPE)
    )


def _pairs(found: PairTables, part: slice) -> pa.StructArray:
    margins = found.margin[part]
    return pa.StructArray.from_arrays(
        [
            pa.array(found.chosen[part], pa.int32()),
            pa.array(found.rejected[part], pa.int32()),
            pa.array(margins, pa.int32()),
            pa.array(np.ones(len(margins), dtype=np.float32)),
        ],
        fields=list(PAIR_TYPE),
    )


def _offsets(ends: np.ndarray) -> pa.Array:
    return pa.array((ends - ends[0]).astype(np.int32))


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
