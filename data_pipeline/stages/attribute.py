"""Write who has to be named for which text: URL, author, date and licence of every post.

CC BY-SA asks for this when the data is passed on.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.split import SplitGroups
from worldpm.artifacts import write_atomic

POST_FIELDS = [
    ("url", pa.string()),
    ("author", pa.string()),  # user id or display name; null where the account is deleted
    ("author_url", pa.string()),
    ("created", pa.timestamp("ms")),
    ("licence", pa.string()),
]
ATTRIBUTION_SCHEMA = pa.schema(
    [("group_id", pa.string()), *POST_FIELDS, ("answers", pa.list_(pa.struct(POST_FIELDS)))]
)
"""`attribution/*.parquet`: one row a group, in the order of `groups/*.parquet`."""


@dataclass(frozen=True)
class Attribute(Stage):
    """One task a bucket."""

    split: SplitGroups

    @property
    def name(self) -> str:
        return "attribute"

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.split,)

    def tasks(self) -> list[str]:
        return self.split.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        columns = ["group_id", "site", "question_id", "responses"]
        columns += ["question_author", "question_created", "question_licence"]
        groups = pq.read_table(self.split.directory / f"{task}.parquet", columns=columns)
        table = attribution(groups.combine_chunks())
        write_atomic(
            directory / f"{task}.parquet",
            lambda path: pq.write_table(table, path, compression="zstd"),
        )
        return TaskResult({})


def attribution(groups: pa.Table) -> pa.Table:
    """The posts of each group with what has to be named."""
    responses = groups["responses"].combine_chunks()
    flat = responses.flatten()
    owner = pc.list_parent_indices(responses)
    site, answer_site = groups["site"], groups["site"].take(owner)
    answers = _posts(
        _url(answer_site, "/a/", flat.field("response_id")),
        answer_site,
        *(flat.field(name) for name in ("author", "created", "licence")),
    )
    structs = pa.StructArray.from_arrays(
        [column.combine_chunks() for column in answers.columns], fields=list(answers.schema)
    )
    question = _posts(
        _url(site, "/questions/", groups["question_id"]),
        site,
        *(groups[f"question_{name}"] for name in ("author", "created", "licence")),
    )
    lists = pa.ListArray.from_arrays(responses.offsets, structs)
    return pa.table([groups["group_id"], *question.columns, lists], schema=ATTRIBUTION_SCHEMA)


def _posts(url: Any, site: Any, author: Any, created: Any, licence: Any) -> pa.Table:
    is_user_id = pc.match_substring_regex(author, r"^-?\d+$")
    author_url = pc.if_else(is_user_id, _url(site, "/users/", author), None)
    return pa.table([url, author, author_url, created, licence], schema=pa.schema(POST_FIELDS))


def _url(site: Any, kind: str, number: Any) -> Any:
    return pc.binary_join_element_wise("https://", site, kind, number.cast(pa.string()), "")
