"""Cut the attributes of many rows out of their bytes at once, by array operations.

It relies on what the publisher's writer guarantees: quotes and `<` stand escaped in values. Rows of
which that, their keys or their end are not as expected are only named, for a careful reader; so are
rows with raw control characters or unusual character references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

QUOTE, LESS, AMPERSAND, HASH = (ord(character) for character in '"<&#')
# Keys and row ends are compared by this many bytes; longer ones go to the careful reader.
WINDOW_BYTES = 24
PADDING = b" " * 32
KEY = re.compile(rb" [A-Za-z_][A-Za-z0-9_.-]*=")
ROW_END = re.compile(rb"\s*(?:/>|>\s*</row>)\s*")

# What the writer uses, with what it stands for: one ASCII byte each.
ENTITIES: dict[bytes, bytes] = {
    b"&lt;": b"<",
    b"&gt;": b">",
    b"&amp;": b"&",
    b"&quot;": b'"',
    b"&apos;": b"'",
    b"&#xA;": b"\n",
    b"&#xD;": b"\r",
    b"&#x9;": b"\t",
    b"&#39;": b"'",
}
# In no UTF-8 text, so it can mark what is to be deleted.
MARK = 0xFF


@dataclass(frozen=True, slots=True)
class Attributes:
    """Texts by attribute, one a row, entities resolved; null where a row has none or an empty one.

    `starts` and `ends` bound each row in `data`; rows in `careful` have no right values yet.
    """

    columns: dict[str, pa.Array]
    starts: Int64s
    ends: Int64s
    careful: Int64s
    data: bytes

    def text_of(self, row: int) -> bytes:
        """The bytes of a row behind its `<row`, with what stands between it and the next row."""
        return self.data[int(self.starts[row]) + 4 : int(self.ends[row])]


def cut_attributes(data: bytes, wanted: tuple[str, ...]) -> Attributes:
    """The wanted attributes of every row of `data`.

    It ends behind a row, and stands between two `PADDING`s, so that windows may look beyond it.
    """
    array = np.frombuffer(data, np.uint8)
    less = np.flatnonzero(array == LESS)
    is_row = _windows(data, less, 4) == _window_of(b"<row")
    is_row &= array[less + 4] <= ord(" ")
    starts = less[is_row]
    ends = np.append(starts[1:], len(data) - len(PADDING))
    if len(starts) == 0:
        nothing = {name: pa.array([], pa.string()) for name in wanted}
        return Attributes(nothing, starts, starts, starts, data)
    quotes = np.flatnonzero(array == QUOTE)
    first = np.searchsorted(quotes, starts)
    num_quotes = np.diff(np.append(first, len(quotes)))
    careful = (num_quotes % 2 == 1) | (num_quotes == 0)
    # Pairs of quotes of the rows whose quotes pair up.
    quotes = quotes[int(first[0]) :]
    row_of_quote = np.repeat(np.arange(len(starts)), num_quotes)
    paired = ~careful[row_of_quote]
    quotes, row = quotes[paired], row_of_quote[paired][::2]
    opening, closing = quotes[::2], quotes[1::2]
    last = np.full(len(starts), -1, np.int64)
    last[row] = closing
    key_starts = _key_starts(opening, closing, row, starts)
    keys, known = _codes_and_fits(data, key_starts, opening - key_starts, KEY)
    careful[row[~known]] = True
    _, known = _codes_and_fits(data, last + 1, ends - last - 1, ROW_END)
    careful |= ~known
    clean, moved, strange_references = _resolve_entities(data, array)
    for strange in (less[~is_row], np.flatnonzero(array < ord(" ")), strange_references):
        owner = np.searchsorted(starts, strange, side="right") - 1
        inside = (owner >= 0) & (strange < last[owner])
        careful[owner[inside]] = True
    quotes = moved(quotes)
    begins, ends_of_values = quotes[::2] + 1, quotes[1::2]
    columns: dict[str, pa.Array] = {}
    for name in wanted:
        has = np.flatnonzero(keys == _code_of(f" {name}=".encode()))
        careful[row[has[1:]][np.diff(row[has]) == 0]] = True
        columns[name] = _texts(clean, len(starts), row[has], begins[has], ends_of_values[has])
    return Attributes(columns, starts, ends, np.flatnonzero(careful), data)


def _key_starts(opening: Int64s, closing: Int64s, row: Int64s, starts: Int64s) -> Int64s:
    """Where the text before each value begins: behind the last value, or behind `<row`."""
    before = np.empty(len(opening), np.int64)
    before[1:] = closing[:-1] + 1
    is_first = np.ones(len(opening), dtype=bool)
    is_first[1:] = row[1:] != row[:-1]
    before[is_first] = starts[row[is_first]] + 4
    return before


def _texts(
    data: bytes | bytearray, num_rows: int, rows: Int64s, starts: Int64s, ends: Int64s
) -> pa.Array:
    """Slices of `data` as an Arrow column, by views into it: no text passes through Python.

    Rows without a slice, or with an empty one, are null.
    """
    lengths = ends - starts
    views = np.zeros((num_rows, 4), "<i4")
    views[rows, 0] = lengths
    # A view holds up to 12 bytes itself, else their first four, a buffer's number and a place.
    head = np.stack([_windows(data, starts, 8), _windows(data, starts + 8, 8)], axis=1)
    head = head.view("<i4").reshape(-1, 4)[:, :3]
    is_long = lengths > 12
    for word in range(3):
        left = np.clip(lengths - 4 * word, 0, 4)
        mask = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], "<u4").view("<i4")[left]
        views[rows, word + 1] = head[:, word] & mask
    views[rows[is_long], 2] = 0
    views[rows[is_long], 3] = starts[is_long]
    valid = np.zeros(num_rows, dtype=bool)
    valid[rows] = lengths > 0
    buffers = [np.packbits(valid, bitorder="little"), views, data]
    array = pa.Array.from_buffers(pa.string_view(), num_rows, [pa.py_buffer(b) for b in buffers])
    return array.cast(pa.string())


def _windows(data: bytes | bytearray, places: Int64s, num_bytes: int) -> UInt64s:
    """The `num_bytes` (at most 8) at each place as one number."""
    at_every_byte = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    words = at_every_byte[places]
    return words if num_bytes == 8 else words & np.uint64((1 << 8 * num_bytes) - 1)


def _window_of(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


# Odd numbers whose products scatter: the multipliers of the Murmur and SplitMix finalisers.
_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0xBF58476D1CE4E5B9)
# The lowest n bytes of a number, for n from 0 to 8.
_BYTE_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


def _codes(data: bytes, starts: Int64s, lengths: Int64s) -> UInt64s:
    """A 64-bit code of each text of at most `WINDOW_BYTES` bytes."""
    codes = lengths.astype(np.uint64)
    for window, factor in enumerate(_FACTORS):
        left = np.clip(lengths - 8 * window, 0, 8)
        words = _windows(data, starts + 8 * window, 8) & _BYTE_MASKS[left]
        codes = (codes ^ words) * np.uint64(factor)
        codes ^= codes >> np.uint64(32)
    return codes


@cache
def _code_of(text: bytes) -> np.uint64:
    padded = text + PADDING
    return _codes(padded, np.zeros(1, np.int64), np.array([len(text)]))[0]


def _codes_and_fits(
    data: bytes, starts: Int64s, lengths: Int64s, pattern: re.Pattern[bytes]
) -> tuple[UInt64s, Bools]:
    """The code of each text, and whether the text fits the pattern: one look a kind of text."""
    codes = _codes(data, starts, lengths)
    kinds, first = np.unique(codes, return_index=True)
    fits = np.zeros(len(kinds), dtype=bool)
    for number, place in enumerate(first.tolist()):
        length = int(lengths[place])
        if 0 <= length <= WINDOW_BYTES:
            text = data[int(starts[place]) : int(starts[place]) + length]
            fits[number] = pattern.fullmatch(text) is not None
    known = fits[np.searchsorted(kinds, codes)] & (lengths >= 0) & (lengths <= WINDOW_BYTES)
    return codes, known


class _Moved:
    """Where a place of the original bytes is once the resolved entities have become shorter."""

    def __init__(self, places: Int64s, num_deleted: Int64s) -> None:
        self._places = places
        self._deleted_before = np.concatenate(([0], np.cumsum(num_deleted)))

    def __call__(self, places: Int64s) -> Int64s:
        return places - self._deleted_before[np.searchsorted(self._places, places)]


def _resolve_entities(
    data: bytes, array: npt.NDArray[np.uint8]
) -> tuple[bytearray, _Moved, Int64s]:
    """The bytes with entities resolved, where places moved, and the places of odd references."""
    places = np.flatnonzero(array == AMPERSAND)
    words = _windows(data, places, 8)
    kinds = _KIND_BY_START[(words >> np.uint64(8)).astype(np.uint16)]
    kinds[(words & _ENTITY_MASKS[kinds]) != _ENTITY_WORDS[kinds]] = 0
    for kind in _KINDS_OF_SHARED_START:
        kinds[(words & _ENTITY_MASKS[kind]) == _ENTITY_WORDS[kind]] = kind
    strange = places[(kinds == 0) & (array[places + 1] == HASH)]
    found = kinds > 0
    places, lengths = places[found], _ENTITY_LENGTHS[kinds[found]]
    resolved = bytearray(data)
    work = np.frombuffer(resolved, np.uint8)
    work[places] = _ENTITY_CHARACTERS[kinds[found]]
    shortest, longest = min(map(len, ENTITIES)), max(map(len, ENTITIES))
    for offset in range(1, longest):
        longer = places if offset < shortest else places[lengths > offset]
        work[longer + offset] = MARK
    clean = resolved.translate(None, bytes([MARK]))
    return clean, _Moved(places, lengths - 1), strange


# Tables by kind of entity: 0 is none, then the order of ENTITIES.
_ENTITY_WORDS = np.array([0, *(int.from_bytes(e, "little") for e in ENTITIES)], np.uint64)
_ENTITY_MASKS = np.array([0, *((1 << 8 * len(e)) - 1 for e in ENTITIES)], np.uint64)
_ENTITY_LENGTHS = np.array([1, *map(len, ENTITIES)], np.int64)
_ENTITY_CHARACTERS = np.array([0, *(c[0] for c in ENTITIES.values())], np.uint8)
# The two bytes behind the ampersand tell the kind, but for `&#x`, of which the line feed is common.
_KIND_BY_START = np.zeros(1 << 16, np.uint8)
for _number, _entity in reversed(list(enumerate(ENTITIES, start=1))):
    _KIND_BY_START[int.from_bytes(_entity[1:3], "little")] = _number
_KINDS_OF_SHARED_START = (7, 8)
