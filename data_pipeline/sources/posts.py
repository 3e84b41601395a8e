"""Questions and answers of a dump as a typed Arrow table."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.sources.rows import Damage, Piece, Row, parse_rows, unescape, whole_rows
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
_NUMBERS = ("Id", "PostTypeId", "ParentId", "AcceptedAnswerId", "Score", "OwnerUserId")


@dataclass(frozen=True, slots=True)
class ParsedPosts:
    """The questions and answers of a piece of a file; `last_row` is its last row's number."""

    table: pa.Table
    counts: StageCounts
    damage: Damage
    root_closed_at: int | None
    last_row: int


Mapper = Callable[[Callable[[Piece], ParsedPosts], Iterable[Piece]], Iterable[ParsedPosts]]
"""`map`, or something that does the same in several processes, in the order of the pieces."""


def read_posts(
    chunks: Iterable[bytes], site: str, where: str, damage: Damage, mapper: Mapper = map
) -> Iterator[tuple[pa.Table, StageCounts]]:
    """Questions and answers with the counts of their rows, a table for each chunk.

    Everything else is counted, and the places of damage are noted in `damage`.

    Raises:
        InputError: the file is no dump; the text begins with `where`.
    """
    last_row, root_closed_at = 0, None
    for part in mapper(partial(parse_posts, site=site), whole_rows(chunks, where)):
        damage.add(part.damage)
        last_row = part.last_row
        root_closed_at = part.root_closed_at if root_closed_at is None else root_closed_at
        yield part.table, part.counts
    if root_closed_at is None:
        damage.note(f"the closing tag is missing after row {last_row}: the file may have been cut")
    elif root_closed_at < last_row:
        damage.note(f"rows {root_closed_at + 1} to {last_row} stand after the closing tag; kept")


def parse_posts(piece: Piece, site: str) -> ParsedPosts:
    """Read one piece of a site's file."""
    parsed = parse_rows(piece)
    lost = parsed.damage.num_rows_lost
    last_row = piece.first_row + parsed.num_rows - 1
    counts = StageCounts(rows_in=parsed.num_rows)
    counts.drop("broken_row", lost)
    where = f"rows {piece.first_row} to {last_row}"
    table = _to_table(parsed.rows, site, where, parsed.damage, counts)
    counts.rows_out = table.num_rows
    return ParsedPosts(table, counts, parsed.damage, parsed.root_closed_at, last_row)


def _to_table(
    rows: list[Row], site: str, where: str, damage: Damage, counts: StageCounts
) -> pa.Table:
    raw = {name: [row.get(key) for row in rows] for name, key in _COLUMNS}
    for name in _ESCAPED:
        raw[name] = [unescape(v) if v is not None and "&" in v else v for v in raw[name]]
    num = {name: _integers(raw[name], name, where, damage) for name in _NUMBERS}
    created = _timestamps(raw["CreationDate"], where, damage)
    is_question = pc.equal(num["PostTypeId"], QUESTION)
    question_id = pc.if_else(is_question, num["Id"], num["ParentId"])
    columns = [
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
        pa.array([bool(value) for value in raw["ClosedDate"]], pa.bool_()),
        pa.array([bool(value) for value in raw["CommunityOwnedDate"]], pa.bool_()),
        _licences(raw["ContentLicense"], created),
    ]
    reasons = _drop_reasons(raw, num, question_id)
    for reason, amount in Counter(reason for reason in reasons if reason is not None).items():
        counts.drop(reason, amount)
    keep = pa.array([reason is None for reason in reasons], pa.bool_())
    return pa.table(columns, names=POSTS_SCHEMA.names).filter(keep).cast(POSTS_SCHEMA)


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


def _integers(values: list[str | None], name: str, where: str, damage: Damage) -> pa.Array:
    texts = pa.array([value or None for value in values], pa.string())
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        parsed = [_integer(value) for value in values]
        bad = [v for v, number in zip(values, parsed, strict=True) if v and number is None]
        damage.note(f"{where}: {len(bad)} of {name} are no numbers, such as {bad[0][:40]!r}")
        return pa.array(parsed, pa.int64())


def _integer(value: str | None) -> int | None:
    text = (value or "").strip()
    is_number = text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
    return int(text) if is_number and len(text) < 19 else None


def _timestamps(values: list[str | None], where: str, damage: Damage) -> pa.Array:
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
        damage.note(
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
