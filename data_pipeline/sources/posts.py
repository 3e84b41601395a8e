"""Questions and answers of a dump as a typed Arrow table."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.sources.rows import Damage, ParsedPiece, Piece, parse_rows, whole_rows
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

_NUMBERS: dict[str, pa.DataType] = {
    **dict.fromkeys(("Id", "PostTypeId", "ParentId", "AcceptedAnswerId"), pa.int64()),
    "Score": pa.int32(),
    "OwnerUserId": pa.int64(),
}
_TEXTS = ("Title", "Tags", "Body", "OwnerDisplayName", "ContentLicense")
_DATES = ("CreationDate", "ClosedDate", "CommunityOwnedDate", "DeletionDate")


@dataclass(frozen=True, slots=True)
class ParsedPosts:
    """The questions and answers of a piece of a file, whose rows count from 1 here."""

    table: pa.Table
    counts: StageCounts
    damage: Damage
    root_closed_at: int | None


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
        damage.add(part.damage, num_rows_before=last_row)
        if root_closed_at is None and part.root_closed_at is not None:
            root_closed_at = last_row + part.root_closed_at
        last_row += part.counts.rows_in
        yield part.table, part.counts
    if root_closed_at is None:
        damage.note(f"the closing tag is missing after row {last_row}: the file may have been cut")
    elif root_closed_at < last_row:
        damage.note(f"rows {root_closed_at + 1} to {last_row} stand after the closing tag; kept")


def parse_posts(piece: Piece, site: str) -> ParsedPosts:
    """Read one piece of a site's file."""
    parsed = parse_rows(piece, (*_NUMBERS, *_DATES, *_TEXTS))
    counts = StageCounts(rows_in=parsed.num_rows)
    counts.drop("broken_row", parsed.damage.num_rows_lost)
    table = _to_table(parsed, site, counts)
    counts.rows_out = table.num_rows
    return ParsedPosts(table, counts, parsed.damage, parsed.root_closed_at)


def _to_table(parsed: ParsedPiece, site: str, counts: StageCounts) -> pa.Table:
    num = {name: _integers(parsed.column(name), name, parsed) for name in _NUMBERS}
    created = _timestamps(parsed.column("CreationDate"), parsed)
    question_id = pc.if_else(pc.equal(num["PostTypeId"], QUESTION), num["Id"], num["ParentId"])
    reasons = _drop_reasons(parsed, num, question_id)
    for entry in reasons.value_counts().to_pylist():
        if entry["values"] is not None:
            counts.drop(entry["values"], entry["counts"])
    is_kept = pc.is_null(reasons)
    num = {name: column.filter(is_kept) for name, column in num.items()}
    created = created.filter(is_kept)
    # Texts are made of the rows alone that are kept.
    where = is_kept.to_numpy(zero_copy_only=False)
    text = {name: parsed.column(name, where) for name in _TEXTS}
    columns = [
        pa.repeat(pa.scalar(site), len(created)),
        num["Id"],
        num["PostTypeId"],
        question_id.filter(is_kept),
        num["AcceptedAnswerId"],
        created,
        num["Score"],
        text["Title"],
        split_all_tags(text["Tags"]),
        text["Body"],
        pc.coalesce(num["OwnerUserId"].cast(pa.string()), text["OwnerDisplayName"]),
        pa.array(parsed.has("ClosedDate")[where]),
        pa.array(parsed.has("CommunityOwnedDate")[where]),
        _licences(text["ContentLicense"], created),
    ]
    return pa.table(columns, names=POSTS_SCHEMA.names).cast(POSTS_SCHEMA)


def _drop_reasons(parsed: ParsedPiece, num: dict[str, pa.Array], question_id: pa.Array) -> pa.Array:
    """Why each row is no question or answer; null where it is one. The first reason counts."""
    kind = num["PostTypeId"]
    reasons = (
        (
            pc.or_(pc.is_null(kind), pc.or_(pc.is_null(num["Id"]), pc.is_null(num["Score"]))),
            "unreadable_fields",
        ),
        (
            pc.invert(pc.is_in(kind, pa.array([QUESTION, ANSWER]))),
            pc.binary_join_element_wise("post_type", kind.cast(pa.string()), "_"),
        ),
        (pa.array(parsed.has("DeletionDate")), "deleted_post"),
        (pc.is_null(question_id), "answer_without_question_id"),
        (pa.array(~parsed.has("Body")), "empty_body"),
    )
    conditions = pa.StructArray.from_arrays([c for c, _ in reasons], names=list("abcde"))
    return pc.case_when(conditions, *(reason for _, reason in reasons))


def split_all_tags(texts: pa.Array) -> pa.Array:
    """`split_tags` of each, at once where all are spelt alike."""
    if pc.all(pc.starts_with(texts, "<"), min_count=0).as_py():
        return pc.split_pattern(pc.utf8_slice_codeunits(texts, 1, -1), "><")
    barred = pc.utf8_trim(texts, "|")
    is_odd = pc.or_(pc.starts_with(texts, "<"), pc.match_substring(barred, "||"))
    if not pc.any(pc.or_(is_odd, pc.equal(barred, "")), min_count=0).as_py():
        return pc.split_pattern(barred, "|")
    return pa.array([split_tags(text) for text in texts.to_pylist()], pa.list_(pa.string()))


def split_tags(text: str | None) -> list[str] | None:
    """`<a><b>` (dumps up to 2023-12) or `|a|b|` (from 2024-04 on) as a list."""
    if not text:
        return None
    if text[0] == "<":
        return text[1:-1].split("><")
    return [tag for tag in text.split("|") if tag]


def _integers(texts: pa.Array, name: str, parsed: ParsedPiece) -> pa.Array:
    kind = _NUMBERS[name]
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        values = texts.to_pylist()
        numbers = [_integer(value, kind.bit_width) for value in values]
        bad = [v for v, number in zip(values, numbers, strict=True) if v and number is None]
        if bad:
            text = f": {len(bad)} of {name} are no numbers, such as {bad[0][:40]!r}"
            parsed.damage.note(text, (1, parsed.num_rows))
        return pa.array(numbers, kind)


def _integer(value: str | None, num_bits: int) -> int | None:
    text = (value or "").strip()
    is_number = text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
    if not is_number or len(text) > 20:
        return None
    return int(text) if -(2 ** (num_bits - 1)) <= int(text) < 2 ** (num_bits - 1) else None


def _timestamps(texts: pa.Array, parsed: ParsedPiece) -> pa.Array:
    try:
        return texts.cast(pa.timestamp("ms"))
    except pa.ArrowInvalid:
        dates = [_timestamp(text) for text in texts]
        bad = [t.as_py() for t, date in zip(texts, dates, strict=True) if t.is_valid and not date]
        parsed.damage.note(
            f": {len(bad)} of CreationDate are no dates, such as {bad[0][:40]!r}; the posts "
            "are kept without a date",
            (1, parsed.num_rows),
        )
        return pa.array(dates, pa.timestamp("ms"))


def _timestamp(text: pa.Scalar) -> datetime | None:
    try:
        return text.cast(pa.timestamp("ms")).as_py()
    except pa.ArrowInvalid:
        return None


def _licences(named: pa.Array, created: pa.Array) -> pa.Array:
    by_date = pa.repeat(pa.scalar(LATEST_LICENCE), len(created))
    for licence, until in reversed(LICENCE_CHANGES):
        limit = pa.scalar(until).cast(pa.timestamp("ms"))
        by_date = pc.if_else(pc.less(created, limit), pa.scalar(licence), by_date)
    by_date = pc.fill_null(by_date, UNDATED_LICENCE)
    return pc.coalesce(named, by_date)
