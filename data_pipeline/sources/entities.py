"""Resolve the entities in a run of bytes at once, by array operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

AMPERSAND, HASH = (ord(character) for character in "&#")
# Windows look this far beyond a place.
PADDING = b" " * 32

# What the publisher's writer uses, with what it stands for: one ASCII byte each.
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


@dataclass(frozen=True, slots=True)
class Resolved:
    """Bytes with their entities resolved, and where each place of the original is in them.

    Character references that `ENTITIES` lacks are left as they are: their places in the original
    are `odd_references`.
    """

    data: pa.Buffer
    odd_references: Int64s
    _entities: Int64s
    _num_left_out: npt.NDArray[np.integer]  # before each entity, and at the end

    def cut(self, starts: Int64s, ends: Int64s) -> pa.Array:
        """Slices of the original, in order, as strings: element 2 n + 1 is the n-th.

        The others are what stands before each. No slice cuts an entity, and all are UTF-8.
        """
        offsets = np.zeros(2 * len(starts) + 1, np.int32)
        offsets[1::2], offsets[2::2] = self._moved(starts), self._moved(ends)
        buffers = [None, pa.py_buffer(offsets), self.data]
        return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)

    def _moved(self, places: Int64s) -> Int64s:
        return places - self._num_left_out.take(np.searchsorted(self._entities, places))


def resolve_entities(data: bytes) -> Resolved:
    """Resolve what `ENTITIES` names in bytes that end with `PADDING`."""
    array = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(array == AMPERSAND)
    words = windows(data, places, 8)
    # All indices are in range: `clip` says so, and numpy need not look first.
    kinds = _KIND_BY_START.take((words >> np.uint64(8)).astype(np.uint16), mode="clip")
    is_other = words & _MASKS.take(kinds, mode="clip") != _WORDS.take(kinds, mode="clip")
    kinds[is_other] = 0
    for kind in _KINDS_OF_SHARED_START:
        kinds[(words & _MASKS[kind]) == _WORDS[kind]] = kind
    unknown = places[kinds == 0]
    if len(unknown):
        places, kinds = places[kinds > 0], kinds[kinds > 0]
    ends = places + _LENGTHS.take(kinds, mode="clip")
    resolved, offsets = _leave_out(data, places + 1, ends)
    np.frombuffer(resolved, np.uint8)[offsets[1:-1] - 1] = _CHARACTERS.take(kinds, mode="clip")
    odd = unknown[array[unknown + 1] == HASH]
    return Resolved(resolved, odd, places, np.concatenate(([0], ends)) - offsets[:-1])


def _leave_out(
    data: bytes, starts: Int64s, ends: Int64s
) -> tuple[pa.Buffer, npt.NDArray[np.int32]]:
    """The bytes without these slices; where each of the texts between them begins, and the end."""
    # Texts to keep and to leave out by turns: Arrow's filter copies those with even numbers.
    offsets = np.zeros(2 * len(starts) + 2, np.int32)
    offsets[1:-1:2], offsets[2:-1:2], offsets[-1] = starts, ends, len(data)
    num_texts = len(offsets) - 1
    even = np.full(num_texts // 8 + 1, 0b01010101, np.uint8)
    texts = pa.Array.from_buffers(
        pa.binary(), num_texts, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    kept = texts.filter(pa.Array.from_buffers(pa.bool_(), num_texts, [None, pa.py_buffer(even)]))
    _, kept_offsets, kept_data = kept.buffers()
    return kept_data, np.frombuffer(kept_offsets, np.int32)[: len(starts) + 2]


def windows(data: bytes | bytearray, places: Int64s, num_bytes: int) -> UInt64s:
    """The `num_bytes` (at most 8) at each place as one number."""
    at_every_byte = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    words = at_every_byte[places]
    return words if num_bytes == 8 else words & np.uint64((1 << 8 * num_bytes) - 1)


# Tables by kind of entity: 0 is none, then the order of ENTITIES.
_WORDS = np.array([0, *(int.from_bytes(e, "little") for e in ENTITIES)], np.uint64)
_MASKS = np.array([0, *((1 << 8 * len(e)) - 1 for e in ENTITIES)], np.uint64)
_LENGTHS = np.array([1, *map(len, ENTITIES)], np.int64)
_CHARACTERS = np.array([0, *(c[0] for c in ENTITIES.values())], np.uint8)
# The two bytes behind the ampersand tell the kind, but for `&#x`, of which the line feed is common.
_KIND_BY_START = np.zeros(1 << 16, np.int64)
for _number, _entity in reversed(list(enumerate(ENTITIES, start=1))):
    _KIND_BY_START[int.from_bytes(_entity[1:3], "little")] = _number
_KINDS_OF_SHARED_START = (7, 8)
