"""Questions and answers of a dump as a typed Arrow table."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.sources.rows import Row, RowReader, unescape
from worldpm.artifacts import StageCounts

QUESTION, ANSWER = 1, 2

POSTS_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("post_id", pa.int64()),
        ("post_type", pa.int8()),  # 1 question, 2 answer
        ("question_id", pa.int64()),  # of a question its own id
        ("accepted_answer_id", pa.int64()),
        ("created", pa.timestamp("ms")),
        ("net_votes", pa.int32()),  # the dump's Score
        ("title", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("body", pa.string()),
        ("author", pa.string()),  # user id, else display name, null where the account is deleted
        ("is_closed", pa.bool_()),
        ("is_community_wiki", pa.bool_()),
        ("licence", pa.string()),
    ]
)
"""`posts/*.parquet`."""

# Before 2020 the dump names no licence: the date decides (Stack Exchange's help centre).
LICENCE_CHANGES = (
    ("CC BY-SA 2.5", "2011-04-08"),
    ("CC BY-SA 3.0", "2018-05-02"),
)
LATEST_LICENCE = "CC BY-SA 4.0"
UNDATED_LICENCE = "CC BY-SA"

_ATTRIBUTES = (
    *("Id", "PostTypeId", "ParentId", "AcceptedAnswerId", "CreationDate", "Score", "Body"),
    *("OwnerUserId", "OwnerDisplayName", "Title", "Tags", "ClosedDate", "CommunityOwnedDate"),
    *("ContentLicense", "DeletionDate"),
)
_COLUMNS = [(name, f" {name}=") for name in _ATTRIBUTES]
_ESCAPED = ("Body", "Title", "Tags", "OwnerDisplayName")


def read_posts(
    chunks: Iterable[bytes], site: str, reader: RowReader, counts: StageCounts
) -> Iterator[pa.Table]:
    """Questions and answers, a table for each chunk; everything else is counted in `counts`.

    Raises:
        InputError: the file is no dump.
    """
    for rows in reader.read(chunks):
        lost = reader.damage.num_rows_lost - counts.dropped.get("broken_row", 0)
        counts.rows_in += len(rows) + lost
        counts.drop("broken_row", lost)
        if rows:
            table = _to_table(rows, site, reader, counts)
            counts.rows_out += table.num_rows
            yield table


def _to_table(rows: list[Row], site: str, reader: RowReader, counts: StageCounts) -> pa.Table:
    raw = {name: [row.get(key) for row in rows] for name, key in _COLUMNS}
    for name in _ESCAPED:
        raw[name] = [unescape(v) if v is not None and "&" in v else v for v in raw[name]]
    where = f"rows {reader.num_rows - len(rows) + 1} to {reader.num_rows}"
    num = {
        name: _integers(raw[name], name, where, reader)
        for name in ("Id", "PostTypeId", "ParentId", "AcceptedAnswerId", "Score", "OwnerUserId")
    }
    created = _timestamps(raw["CreationDate"], where, reader)
    is_question = pc.equal(num["PostTypeId"], QUESTION)
    question_id = pc.if_else(is_question, num["Id"], num["ParentId"])
    table = pa.table(
        [
            pa.repeat(pa.scalar(site), len(rows)),
            num["Id"],
            num["PostTypeId"],
            question_id,
            num["AcceptedAnswerId"],
            created,
            num["Score"],
            pa.array(raw["Title"], pa.string()),
            pa.array([split_tags(tags) for tags in raw["Tags"]], pa.list_(pa.string())),
            pa.array(raw["Body"], pa.string()),
            _authors(num["OwnerUserId"], raw["OwnerDisplayName"]),
            pa.array([bool(value) for value in raw["ClosedDate"]]),
            pa.array([bool(value) for value in raw["CommunityOwnedDate"]]),
            _licences(raw["ContentLicense"], created),
        ],
        names=POSTS_SCHEMA.names,
    )
    reasons = _drop_reasons(raw, num, question_id)
    for reason in set(reasons) - {None}:
        assert reason is not None
        counts.drop(reason, reasons.count(reason))
    return table.filter(pa.array([reason is None for reason in reasons])).cast(POSTS_SCHEMA)


def _drop_reasons(
    raw: dict[str, list[str | None]], num: dict[str, pa.Array], question_id: pa.Array
) -> list[str | None]:
    needed = pc.and_(pc.is_valid(num["Id"]), pc.is_valid(num["Score"]))
    reasons: list[str | None] = []
    for post_type, has_needed, question, body, deleted in zip(
        num["PostTypeId"].to_pylist(),
        needed.to_pylist(),
        question_id.to_pylist(),
        raw["Body"],
        raw["DeletionDate"],
        strict=True,
    ):
        if post_type is None or not has_needed:
            reasons.append("unreadable_fields")
        elif post_type not in (QUESTION, ANSWER):
            reasons.append(f"post_type_{post_type}")
        elif deleted:
            reasons.append("deleted_post")
        elif question is None:
            reasons.append("answer_without_question_id")
        elif not body:
            reasons.append("empty_body")
        else:
            reasons.append(None)
    return reasons


def split_tags(text: str | None) -> list[str] | None:
    """`<a><b>` (dumps up to 2023-12) or `|a|b|` (from 2024-04 on) as a list."""
    if not text:
        return None
    if text[0] == "<":
        return text[1:-1].split("><")
    return [tag for tag in text.split("|") if tag]


def _integers(values: list[str | None], name: str, where: str, reader: RowReader) -> pa.Array:
    texts = pa.array([value or None for value in values], pa.string())
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        parsed = [_integer(value) for value in values]
        bad = [v for v, number in zip(values, parsed, strict=True) if v and number is None]
        reader.damage.note(f"{where}: {len(bad)} of {name} are no numbers, such as {bad[0][:40]!r}")
        return pa.array(parsed, pa.int64())


def _integer(value: str | None) -> int | None:
    text = (value or "").strip()
    is_number = text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
    return int(text) if is_number and len(text) < 19 else None


def _timestamps(values: list[str | None], where: str, reader: RowReader) -> pa.Array:
    texts = pa.array([value or None for value in values], pa.string())
    try:
        return texts.cast(pa.timestamp("ms"))
    except pa.ArrowInvalid:
        parsed = [_timestamp(text) for text in texts]
        bad = [
            text.as_py()
            for text, date in zip(texts, parsed, strict=True)
            if text.is_valid and not date
        ]
        reader.damage.note(
            f"{where}: {len(bad)} of CreationDate are no dates, such as {bad[0][:40]!r}; the posts "
            "are kept without a date"
        )
        return pa.array(parsed, pa.timestamp("ms"))


def _timestamp(text: pa.Scalar) -> datetime | None:
    try:
        return text.cast(pa.timestamp("ms")).as_py()
    except pa.ArrowInvalid:
        return None


def _authors(user_ids: pa.Array, names: list[str | None]) -> pa.Array:
    display_names = pa.array([name or None for name in names], pa.string())
    return pc.coalesce(user_ids.cast(pa.string()), display_names)


def _licences(named: list[str | None], created: pa.Array) -> pa.Array:
    by_date = pa.repeat(pa.scalar(LATEST_LICENCE), len(created))
    for licence, until in reversed(LICENCE_CHANGES):
        limit = pa.scalar(until).cast(pa.timestamp("ms"))
        by_date = pc.if_else(pc.less(created, limit), pa.scalar(licence), by_date)
    by_date = pc.fill_null(by_date, UNDATED_LICENCE)
    return pc.coalesce(pa.array([name or None for name in named], pa.string()), by_date)
