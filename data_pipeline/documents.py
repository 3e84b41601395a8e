"""Every question and every answer of a file of groups as a document of its own, in file order:
each question is followed by its answers."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

GROUPS_PER_BATCH = 2048
_RESPONSE = "responses.list.element"

DOCUMENTS_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("response_id", pa.int64()),  # null: the question
        ("score", pa.int32()),
        ("question_document", pa.int64()),  # place of the question in the same file
    ]
)


def document_texts(groups: Path) -> Iterator[list[str]]:
    """The texts of all documents, a list for every few thousand groups."""
    for batch in _batches(groups, ["prompt.list.element.content", f"{_RESPONSE}.content"]):
        order, _ = _document_order(batch)
        questions = pc.binary_join(_contents(batch["prompt"]), "\n")
        answers = _contents(batch["responses"]).flatten()
        yield pa.concat_arrays([questions, answers]).take(order).to_pylist()


def document_table(groups: Path) -> pa.Table:
    """Where every document belongs; `DOCUMENTS_SCHEMA`."""
    tables = [DOCUMENTS_SCHEMA.empty_table()]
    offset = 0
    columns = ["site", "question_id", f"{_RESPONSE}.response_id", f"{_RESPONSE}.score"]
    for batch in _batches(groups, columns):
        order, groups_of = _document_order(batch)
        nulls = pa.nulls(len(batch))
        starts = np.flatnonzero(np.diff(groups_of, prepend=-1))
        responses = batch["responses"].flatten()
        values = [
            batch["site"].take(groups_of),
            batch["question_id"].take(groups_of),
            *(
                pa.concat_arrays([nulls.cast(column.type), column]).take(order)
                for column in (responses.field("response_id"), responses.field("score"))
            ),
            pa.array(starts[groups_of] + offset),
        ]
        offset += len(groups_of)
        tables.append(pa.table(values, schema=DOCUMENTS_SCHEMA))
    return pa.concat_tables(tables)


def _batches(groups: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(groups) as file:
        yield from file.iter_batches(batch_size=GROUPS_PER_BATCH, columns=columns)


def _contents(lists: pa.ListArray) -> pa.ListArray:
    """The texts of a column of lists of messages or responses."""
    return pa.ListArray.from_arrays(
        _offsets(lists), pc.cast(lists.flatten().field("content"), pa.string())
    )


def _offsets(lists: pa.ListArray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(_lengths(lists))]).astype(np.int32))


def _lengths(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    return pc.list_value_length(lists).to_numpy().astype(np.int64)


def _document_order(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each document its place among (questions, then answers), and its group."""
    counts = _lengths(batch["responses"])
    groups_of = np.repeat(np.arange(len(counts)), counts + 1)
    is_question = np.diff(groups_of, prepend=-1) > 0
    order = np.where(is_question, groups_of, len(counts) + np.cumsum(~is_question) - 1)
    return order, groups_of
