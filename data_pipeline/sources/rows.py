"""Take `<row …/>` elements out of a dump's XML, as columns of attribute texts.

Rows as the publisher writes them are cut by array operations (`attributes`). A row that looks
otherwise is read on its own, at last by a strict XML parser; one that this refuses too is counted
with its place, and the rows around it are kept. No entity but XML's own five and character
references is ever expanded, and a file that declares some is refused.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lxml import etree

from data_pipeline.sources.attributes import Attributes, cut_attributes
from data_pipeline.sources.entities import PADDING, Bools, Int64s
from worldpm.errors import InputError

Row = dict[str, str]
"""The attributes of one row, entities resolved."""

# A row of 64 MB is no post (the site's own limit is 30,000 characters): an attack or a broken file.
MAX_ROW_BYTES = 64 * 1024 * 1024
MAX_DAMAGE_NOTES = 20
MAX_HEADER_BYTES = 64 * 1024

# Bytes that XML 1.0 forbids even as text; in UTF-8 they stand for nothing else.
_CONTROLS = bytes(set(range(32)) - {9, 10, 13})
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()
_REPLACE_CONTROL = re.compile(b"[" + re.escape(_CONTROLS) + b"]")

_KEY = re.compile(r"\s+([A-Za-z_][\w.-]*)\s*=\s*")
_TAIL = re.compile(r"\s*(?:/>|>\s*</row>)\s*(</[\w:.-]+>\s*)?")
_WHITESPACE = str.maketrans("\t\n\r", "   ")
_NUMERIC = re.compile(r"&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,8}));")
_PARSER_OPTIONS = {"resolve_entities": False, "no_network": True, "load_dtd": False}


@dataclass(frozen=True, slots=True)
class Note:
    """What was found in some rows (their numbers, first and last), or in a file as a whole."""

    text: str
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.rows is None:
            return self.text
        first, last = self.rows
        return (f"row {first}" if first == last else f"rows {first} to {last}") + self.text


@dataclass(slots=True)
class Damage:
    """What was wrong with a file and where; `num_rows_lost` of its rows could not be read."""

    num_rows_lost: int = 0
    notes: list[Note] = field(default_factory=list[Note])

    def note(self, text: str, rows: tuple[int, int] | None = None) -> None:
        """Remember a place; beyond `MAX_DAMAGE_NOTES` only the count of lost rows grows."""
        if len(self.notes) < MAX_DAMAGE_NOTES:
            self.notes.append(Note(text, rows))

    def add(self, other: Damage, *, num_rows_before: int) -> None:
        """Take over what was found in the next part of the same file."""
        self.num_rows_lost += other.num_rows_lost
        for note in other.notes:
            rows = note.rows
            if rows is not None:
                rows = rows[0] + num_rows_before, rows[1] + num_rows_before
            self.note(note.text, rows)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole rows of a file, with `PADDING` before and behind them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ParsedPiece:
    """The readable rows of a piece, whose texts are made by column when they are asked for.

    Rows count from 1 here, broken ones too; behind row `root_closed_at` the root element ends.
    """

    num_rows: int
    damage: Damage
    root_closed_at: int | None
    _cut: Attributes
    _readable: Int64s
    _read_carefully: dict[int, Row]

    def has(self, name: str) -> Bools:
        """Which of the readable rows have this attribute, and not an empty one."""
        has = self._cut.has(name)
        for row, texts in self._read_carefully.items():
            has[row] = bool(texts.get(name))
        return has[self._readable]

    def column(self, name: str, where: Bools | None = None) -> pa.Array:
        """An attribute's texts in the readable rows, or some of them; null where empty."""
        rows = self._readable if where is None else self._readable[where]
        column = self._cut.column(name, rows)
        is_careful = np.isin(rows, list(self._read_carefully))
        if not is_careful.any():
            return column
        texts = [self._read_carefully[row].get(name) or None for row in rows[is_careful].tolist()]
        return pc.replace_with_mask(column, pa.array(is_careful), pa.array(texts, pa.string()))


def whole_rows(chunks: Iterable[bytes], where: str) -> Iterator[Piece]:
    """Cut the bytes of a file (whose chunks may end anywhere) between rows.

    Raises:
        InputError: the file is no dump, declares entities, or has a row of absurd size; the text
            begins with `where`.
    """
    rest = b""
    started = False
    for chunk in chunks:
        cut = chunk.rfind(b"<row")
        if not started and (cut >= 0 or len(rest) + len(chunk) > MAX_HEADER_BYTES):
            header = rest + chunk
            _check_header(header[: header.find(b"<row")] if cut >= 0 else header, where)
            started = True
        if cut > 0 or (cut == 0 and rest):
            view = memoryview(chunk)
            yield Piece(b"".join((PADDING, rest, view[:cut], PADDING)))
            rest = bytes(view[cut:])
        else:
            rest += chunk
        if len(rest) > MAX_ROW_BYTES:
            raise InputError(
                f"{where}: a row is longer than {MAX_ROW_BYTES:,} bytes: no post is; the file is "
                "damaged or hostile"
            )
    if not started:
        _check_header(rest, where)
    yield Piece(b"".join((PADDING, rest, PADDING)))


def _check_header(header: bytes, where: str) -> None:
    text = header[:MAX_HEADER_BYTES].decode("utf-8", errors="replace").lstrip("\ufeff \r\n\t")
    if header.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{where} is UTF-16: convert it to UTF-8 first")
    if text.startswith("version https://git-lfs"):
        raise InputError(f"{where} is a Git LFS pointer, not the file itself: run `git lfs pull`")
    if "<!doctype html" in text.lower() or text.lower().startswith("<html"):
        raise InputError(f"{where} is a web page, not a dump: download the file again")
    # Some copies name an external `posts.dtd`: harmless, for it is never loaded.
    if "<!ENTITY" in text or re.search(r"<!DOCTYPE[^>]*\[", text):
        raise InputError(
            f"{where} declares entities, which can read files or fill the memory; no dump needs "
            "them: refused"
        )
    if not text.startswith("<"):
        found = repr(text[:40]) if text else "nothing"
        raise InputError(f"{where} is no XML of a StackExchange dump: found {found}")


def parse_rows(piece: Piece, wanted: tuple[str, ...]) -> ParsedPiece:
    """Read the rows of a piece; what cannot be read is counted and its place noted."""
    cut = cut_attributes(_as_utf8(piece.data), wanted)
    reader = _CarefulReader()
    read = {row: reader.read(cut.bytes_of(row), row + 1) for row in cut.careful.tolist()}
    num_rows = len(cut.starts)
    readable = np.delete(np.arange(num_rows), [row for row in read if read[row] is None])
    read_carefully = {row: texts for row, texts in read.items() if texts is not None}
    return ParsedPiece(
        num_rows, reader.damage, reader.root_closed_at, cut, readable, read_carefully
    )


def _as_utf8(data: bytes) -> bytes:
    # Arrow checks in place, where decoding would fill as much memory again.
    ends = pa.py_buffer(np.array([0, len(data)], np.int64))
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(data)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return data.decode(errors="replace").encode()
    return data


class _CarefulReader:
    """Reads one row after the other, resolving what it may resolve and noting what is broken."""

    def __init__(self) -> None:
        self.damage = Damage()
        self.root_closed_at: int | None = None
        self._row = 0

    def read(self, data: bytes, row: int) -> Row | None:
        """The attributes of the row with this number, or None if it is broken."""
        self._row = row
        text = _REPLACE_CONTROL.sub(_REPLACEMENT, data).decode()
        return self._split_loosely(text) or self._parse_strictly(text)

    def _split_loosely(self, piece: str) -> Row | None:
        parts = piece.split('"')
        tail = _TAIL.fullmatch(parts[-1])
        keys = [_KEY.fullmatch(key) for key in parts[0:-1:2]]
        if tail is None or len(parts) % 2 == 0 or not all(keys):
            return None
        names = [key.group(1) for key in keys if key]
        if len(set(names)) < len(names):
            return None
        if tail.group(1):
            self._close_root()
        values = (unescape(value.translate(_WHITESPACE)) for value in parts[1::2])
        return dict(zip(names, values, strict=True))

    def _close_root(self) -> None:
        if self.root_closed_at is None:
            self.root_closed_at = self._row

    def _parse_strictly(self, piece: str) -> Row | None:
        end = max(piece.rfind("/>"), piece.rfind("</row>"))
        text = piece[: end + 2] if end >= 0 and piece[end] == "/" else piece[: end + 6]
        try:
            element = etree.fromstring(f"<row{text}", etree.XMLParser(**_PARSER_OPTIONS))
        except etree.XMLSyntaxError as exc:
            start = re.sub(r"\s+", " ", piece[:60]).strip()
            self.damage.num_rows_lost += 1
            self.damage.note(f" ({start} …) is broken: {exc.msg}", (self._row, self._row))
            return None
        if "</" in piece[end + 2 :].replace("</row>", ""):
            self._close_root()
        return {str(name): str(value) for name, value in element.attrib.items()}


def unescape(text: str) -> str:
    """Resolve XML's five entities and character references, as a parser does.

    A reference to what is no character (NUL, a lone surrogate) becomes U+FFFD.
    """
    if "&#" in text:
        text = text.replace("&#xA;", "\n").replace("&#xD;", "\r")
        if "&#" in text:
            text = _NUMERIC.sub(_character, text)
    return (
        text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", '"')
        .replace("&apos;", "'")
        .replace("&amp;", "&")
    )


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16) if match[1] else int(match[2])
    if code == 38:  # stays escaped until the last step, or "&#38;lt;" would be resolved twice
        return "&amp;"
    is_character = (
        code in (0x9, 0xA, 0xD)
        or 0x20 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
    )
    return chr(code) if is_character else "\N{REPLACEMENT CHARACTER}"
