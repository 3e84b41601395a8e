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
import pyarrow as pa

from data_pipeline.sources.entities import (
    PADDING,
    Bools,
    Int64s,
    UInt64s,
    resolve_entities,
    windows,
)

QUOTE, LESS = (ord(character) for character in '"<')
# Keys and row ends are compared by this many bytes; longer ones go to the careful reader.
WINDOW_BYTES = 24
KEY = re.compile(rb" [A-Za-z_][A-Za-z0-9_.-]*=")
ROW_END = re.compile(rb"\s*(?:/>|>\s*</row>)\s*")
# Further attributes of the publisher's rows: known keys are not looked at one by one.
OTHER_ATTRIBUTES = (
    *("ViewCount", "AnswerCount", "CommentCount", "FavoriteCount", "LastActivityDate"),
    *("LastEditDate", "LastEditorUserId", "LastEditorDisplayName"),
)


@dataclass(frozen=True, slots=True)
class Values:
    """Quoted values of several rows in turn: the places of their quotes, and the row of each."""

    opening: Int64s
    closing: Int64s
    row: Int64s

    def at(self, which: Int64s | Bools) -> Values:
        """Some of them."""
        return Values(self.opening[which], self.closing[which], self.row[which])


@dataclass(frozen=True, slots=True)
class Attributes:
    """The wanted attributes of some rows: a text each, entities resolved.

    `starts` and `ends` bound each row in `data`; rows in `careful` have no right texts.
    `number_of` has for each wanted attribute the number of each row's value, -1 for none or an
    empty one; of `texts` element 2 n + 1 is the value with number n.
    """

    data: bytes
    starts: Int64s
    ends: Int64s
    careful: Int64s
    wanted: tuple[str, ...]
    number_of: Int64s
    texts: pa.Array

    def bytes_of(self, row: int) -> bytes:
        """The bytes of a row behind its `<row`, with what stands between it and the next row."""
        return self.data[int(self.starts[row]) + 4 : int(self.ends[row])]

    def has(self, name: str) -> Bools:
        """Which rows have this attribute, and not an empty one."""
        return self.number_of[self.wanted.index(name)] >= 0

    def column(self, name: str, rows: Int64s) -> pa.Array:
        """An attribute's texts in these rows; null for none or an empty one."""
        number = self.number_of[self.wanted.index(name)].take(rows)
        return self.texts.take(pa.array(2 * number + 1, mask=number < 0))


def cut_attributes(data: bytes, wanted: tuple[str, ...]) -> Attributes:
    """Find the wanted attributes of every row of `data`.

    It ends behind a row, and stands between two `PADDING`s, so that windows may look beyond it.
    """
    array = np.frombuffer(data, np.uint8)
    less = np.flatnonzero(array == LESS)
    is_row = windows(data, less, 4) == np.uint64(int.from_bytes(b"<row", "little"))
    is_row &= array[less + 4] <= ord(" ")
    starts = less[is_row]
    ends = np.append(starts[1:], len(data) - len(PADDING))[: len(starts)]
    values, careful = _pair_quotes(np.flatnonzero(array == QUOTE), starts)
    last = np.full(len(starts), -1, np.int64)
    last[values.row] = values.closing
    codes = _codes(data, last + 1, ends - last - 1)
    careful |= ~_fits(data, last + 1, ends - last - 1, codes, ROW_END)
    attribute, has_odd_key = _attributes_of(data, values, starts, wanted)
    careful[values.row[has_odd_key]] = True
    values, attribute = values.at(attribute >= 0), attribute[attribute >= 0]
    number_of, repeated = _number_by_row(values, attribute, (len(wanted), len(starts)))
    careful[values.row[repeated]] = True
    resolved = resolve_entities(data)
    controls = np.flatnonzero(array < ord(" "))
    for strange in (less[~is_row], controls, resolved.odd_references):
        owner = np.searchsorted(starts, strange, side="right") - 1
        in_a_row = owner >= 0
        owner = owner[in_a_row]
        careful[owner[strange[in_a_row] < last[owner]]] = True
    texts = resolved.cut(values.opening + 1, values.closing)
    return Attributes(data, starts, ends, np.flatnonzero(careful), wanted, number_of, texts)


def _pair_quotes(quotes: Int64s, starts: Int64s) -> tuple[Values, Bools]:
    """The values of the rows whose quotes pair up, and which rows' quotes do not."""
    first = np.searchsorted(quotes, starts)
    num_quotes = np.diff(np.append(first, len(quotes)))
    is_unpaired = (num_quotes % 2 == 1) | (num_quotes == 0)
    row = np.repeat(np.arange(len(starts)), num_quotes)
    quotes = quotes[len(quotes) - len(row) :]
    if is_unpaired.any():
        paired = ~is_unpaired[row]
        quotes, row = quotes[paired], row[paired]
    return Values(quotes[::2], quotes[1::2], row[::2]), is_unpaired


def _attributes_of(
    data: bytes, values: Values, row_starts: Int64s, wanted: tuple[str, ...]
) -> tuple[Int64s, Int64s]:
    """Which of the wanted each value is, or -1; and the values whose keys look odd."""
    starts = _key_starts(values, row_starts)
    lengths = values.opening - starts
    codes = _codes(data, starts, lengths)
    expected, attribute_of = _expected_keys(wanted)
    place = np.searchsorted(expected[:-1], codes)
    attribute = attribute_of.take(place)
    other = np.flatnonzero(expected.take(place) != codes)
    attribute[other] = -1
    fits = _fits(data, starts[other], lengths[other], codes[other], KEY)
    return attribute, other[~fits]


def _number_by_row(
    values: Values, attribute: Int64s, shape: tuple[int, int]
) -> tuple[Int64s, Bools]:
    """The number of each attribute's value in each row, or -1; and which values come twice."""
    number_of = np.full(shape, -1, np.int64)
    numbers = np.arange(len(attribute))
    number_of[attribute, values.row] = numbers
    repeated = number_of[attribute, values.row] != numbers
    is_empty = values.closing == values.opening + 1
    number_of[attribute[is_empty], values.row[is_empty]] = -1
    return number_of, repeated


def _key_starts(values: Values, row_starts: Int64s) -> Int64s:
    """Where the text before each value begins: behind the last value, or behind `<row`."""
    before = np.empty(len(values.row), np.int64)
    before[1:] = values.closing[:-1] + 1
    is_first = np.ones(len(values.row), dtype=bool)
    is_first[1:] = values.row[1:] != values.row[:-1]
    before[is_first] = row_starts[values.row[is_first]] + 4
    return before


# Odd numbers whose products scatter: the multipliers of the Murmur and SplitMix finalisers.
_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0xBF58476D1CE4E5B9)
# The lowest n bytes of a number, for n from 0 to 8.
_BYTE_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


def _codes(data: bytes, starts: Int64s, lengths: Int64s) -> UInt64s:
    """A 64-bit code of each text of at most `WINDOW_BYTES` bytes."""
    codes = lengths.astype(np.uint64)
    for window, factor in enumerate(_FACTORS):
        left = np.clip(lengths - 8 * window, 0, 8)
        words = windows(data, starts + 8 * window, 8) & _BYTE_MASKS[left]
        codes = (codes ^ words) * np.uint64(factor)
        codes ^= codes >> np.uint64(32)
    return codes


@cache
def _expected_keys(wanted: tuple[str, ...]) -> tuple[UInt64s, Int64s]:
    """The codes of the publisher's keys in order, and which of the wanted each is, or -1.

    Both end with an element for what is none of them.
    """
    names = (*wanted, *(name for name in OTHER_ATTRIBUTES if name not in wanted))
    codes = np.array([_code_of(f" {name}=".encode()) for name in names], np.uint64)
    numbers = np.array([n if n < len(wanted) else -1 for n in range(len(names))], np.int64)
    order = np.argsort(codes)
    return np.append(codes[order], np.uint64(0)), np.append(numbers[order], -1)


def _code_of(text: bytes) -> np.uint64:
    padded = text + PADDING
    return _codes(padded, np.zeros(1, np.int64), np.array([len(text)]))[0]


def _fits(
    data: bytes, starts: Int64s, lengths: Int64s, codes: UInt64s, pattern: re.Pattern[bytes]
) -> Bools:
    """Whether each text fits the pattern: one look a kind of text."""
    kinds, first = np.unique(codes, return_index=True)
    fits = np.zeros(len(kinds), dtype=bool)
    for number, place in enumerate(first.tolist()):
        length = int(lengths[place])
        if 0 <= length <= WINDOW_BYTES:
            text = data[int(starts[place]) : int(starts[place]) + length]
            fits[number] = pattern.fullmatch(text) is not None
    return fits[np.searchsorted(kinds, codes)] & (lengths >= 0) & (lengths <= WINDOW_BYTES)
