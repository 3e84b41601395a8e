"""Take `<row …/>` elements out of a dump's XML, as raw attribute texts.

The fast path splits at `<row` and at quotes, which is what the publisher's writer guarantees to be
safe (both are escaped in values). A row that does not tokenise so is given to a strict XML parser;
one that this refuses too is counted with its place, and the rows around it are kept. No entity but
XML's own five and character references is ever expanded, and a file that declares some is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  it is compiled

from worldpm.errors import InputError

Row = dict[str, str]
"""Attribute texts as they stand in the file, keyed by the raw text before the quote (` Id=`)."""

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


@dataclass(slots=True)
class Damage:
    """What was wrong with a file and where; `num_rows_lost` of its rows could not be read."""

    num_rows_lost: int = 0
    notes: list[str] = field(default_factory=list[str])

    def note(self, text: str) -> None:
        """Remember a place; beyond `MAX_DAMAGE_NOTES` only the count of lost rows grows."""
        if len(self.notes) < MAX_DAMAGE_NOTES:
            self.notes.append(text)

    def add(self, other: Damage) -> None:
        """Take over what was found in the next part of the same file."""
        self.num_rows_lost += other.num_rows_lost
        for text in other.notes:
            self.note(text)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file, none of them cut; the first is the file's row `first_row`."""

    data: bytes
    first_row: int


@dataclass(slots=True)
class ParsedPiece:
    """The rows of a piece; `root_closed_at` is the row behind which the root element ends."""

    rows: list[Row] = field(default_factory=list[Row])
    num_rows: int = 0  # complete or not
    damage: Damage = field(default_factory=Damage)
    root_closed_at: int | None = None


def whole_rows(chunks: Iterable[bytes], where: str) -> Iterator[Piece]:
    """Cut the bytes of a file (whose chunks may end anywhere) between rows.

    Raises:
        InputError: the file is no dump, declares entities, or has a row of absurd size; the text
            begins with `where`.
    """
    rest = b""
    num_rows = 0
    started = False
    for chunk in chunks:
        data = rest + chunk
        cut = data.rfind(b"<row")
        if not started and (cut >= 0 or len(data) > MAX_HEADER_BYTES):
            _check_header(data[: data.find(b"<row")] if cut >= 0 else data, where)
            started = True
        if cut > 0:
            yield Piece(data[:cut], num_rows + 1)
            num_rows += _count_rows(data[:cut])
        rest = data[cut:] if cut > 0 else data
        if len(rest) > MAX_ROW_BYTES:
            raise InputError(
                f"{where}: row {num_rows + 1} is longer than {MAX_ROW_BYTES:,} bytes: no post is; "
                "the file is damaged or hostile"
            )
    if not started:
        _check_header(rest, where)
    yield Piece(rest, num_rows + 1)


def _count_rows(data: bytes) -> int:
    return data.count(b"<row") - data.count(b"<rows>")


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


def parse_rows(piece: Piece) -> ParsedPiece:
    """Read the rows of a piece; what cannot be read is counted and its place noted."""
    return _PieceParser(piece).parse()


class _PieceParser:
    def __init__(self, piece: Piece) -> None:
        self._data = piece.data
        self._row = piece.first_row - 1
        self._first_row = piece.first_row
        self._parsed = ParsedPiece()
        self._known_keys: set[str] = set()
        self._good_tails: set[str] = set()

    def parse(self) -> ParsedPiece:
        data = self._data
        if len(data.translate(None, _CONTROLS)) != len(data):
            data = _REPLACE_CONTROL.sub(_REPLACEMENT, data)
        rows = self._parsed.rows
        for piece in data.decode("utf-8", errors="replace").split("<row")[1:]:
            self._row += 1
            parts = piece.split('"')
            row = dict(zip(parts[0:-1:2], parts[1::2], strict=False))
            if (
                len(parts) == 2 * len(row) + 1
                and parts[-1] in self._good_tails
                and self._known_keys.issuperset(row)
                and "\t" not in piece
                and piece.find("\n", 0, len(piece) - len(parts[-1])) < 0
            ):
                rows.append(row)
            else:
                careful = self._read_carefully(piece)
                if careful is not None:
                    rows.append(careful)
        self._parsed.num_rows = self._row - self._first_row + 1
        return self._parsed

    def _read_carefully(self, piece: str) -> Row | None:
        if piece.startswith("s>"):  # a root element called <rows>
            self._row -= 1
            return None
        return self._split_loosely(piece) or self._parse_strictly(piece)

    def _split_loosely(self, piece: str) -> Row | None:
        parts = piece.split('"')
        tail = _TAIL.fullmatch(parts[-1])
        keys = [_KEY.fullmatch(key) for key in parts[0:-1:2]]
        if tail is None or len(parts) % 2 == 0 or not all(keys):
            return None
        if tail.group(1):
            self._close_root()
        elif len(parts[-1]) < 64:
            self._good_tails.add(parts[-1])
        names = [f" {key.group(1)}=" for key in keys if key]
        if len(set(names)) < len(names):
            return None
        self._known_keys.update(names)
        return dict(
            zip(names, (value.translate(_WHITESPACE) for value in parts[1::2]), strict=True)
        )

    def _close_root(self) -> None:
        if self._parsed.root_closed_at is None:
            self._parsed.root_closed_at = self._row

    def _parse_strictly(self, piece: str) -> Row | None:
        end = max(piece.rfind("/>"), piece.rfind("</row>"))
        text = piece[: end + 2] if end >= 0 and piece[end] == "/" else piece[: end + 6]
        try:
            element = etree.fromstring(f"<row{text}", etree.XMLParser(**_PARSER_OPTIONS))
        except etree.XMLSyntaxError as exc:
            start = re.sub(r"\s+", " ", piece[:60]).strip()
            self._parsed.damage.num_rows_lost += 1
            self._parsed.damage.note(f"row {self._row} ({start} …) is broken: {exc.msg}")
            return None
        if "</" in piece[end + 2 :].replace("</row>", ""):
            self._close_root()
        return {f" {name}=": _escape(str(value)) for name, value in element.attrib.items()}


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


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
