"""Documents that share a band: from columns of band keys to pairs worth comparing, and back to
clusters. A pair is a row of two ascending document numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

# Within a run of equal keys every document is paired with the next few and with the run's first:
# all pairs of a small run, and a linear number in a run of a million copies.
NEIGHBOURS = 7


def pairs_of_band(
    columns: Callable[[], Iterable[UInt64s]], num_documents: int, *, documents_at_once: int
) -> Int64s:
    """Pairs `[E, 2]` of documents with equal keys, sorted.

    `columns()` yields the band's keys in pieces, in document order; it is called once for every
    pass. A pass takes the keys of one range, so memory holds about `documents_at_once` documents
    (40 bytes each) however many there are.
    """
    passes = 1 << max(0, (num_documents - 1) // documents_at_once).bit_length()
    found: list[Int64s] = []
    for number in range(passes):
        keys, documents = _keys_of_range(columns(), number, passes)
        found.extend(_pairs_of_equal_keys(keys, documents))
    return unique_pairs(found)


def _keys_of_range(columns: Iterable[UInt64s], number: int, passes: int) -> tuple[UInt64s, Int64s]:
    shift = np.uint64(64 - passes.bit_length() + 1)
    keys: list[UInt64s] = [np.empty(0, np.uint64)]
    documents: list[Int64s] = [np.empty(0, np.int64)]
    offset = 0
    for column in columns:
        if passes == 1:
            keys.append(np.asarray(column))
            documents.append(np.arange(offset, offset + len(column)))
        else:
            places = np.flatnonzero((column >> shift) == np.uint64(number))
            keys.append(column[places])
            documents.append(places + offset)
        offset += len(column)
    return np.concatenate(keys), np.concatenate(documents)


def _pairs_of_equal_keys(keys: UInt64s, documents: Int64s) -> Iterator[Int64s]:
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_repeat = np.concatenate([[False], keys[1:] == keys[:-1]])
    in_run = is_repeat.copy()
    in_run[:-1] |= is_repeat[1:]
    places = np.flatnonzero(in_run)
    if not len(places):
        return
    members = documents[order[places]]
    starts = np.flatnonzero(~is_repeat[places])
    runs = np.cumsum(~is_repeat[places])
    for distance in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero(runs[distance:] == runs[:-distance])
        yield np.stack([members[same], members[same + distance]], axis=1)
    firsts = starts[runs - 1]
    far = np.flatnonzero(np.arange(len(members)) - firsts > NEIGHBOURS)
    yield np.stack([members[firsts[far]], members[far]], axis=1)


def unique_pairs(parts: Sequence[Int64s]) -> Int64s:
    """All pairs of several arrays once, sorted. Documents are numbered below 2^31."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *parts])
    # As one number each: sorting by two columns takes several times as long.
    packed = pairs[:, 0] << 32 | pairs[:, 1]
    packed.sort()
    packed = packed[np.diff(packed, prepend=-1) != 0]
    return np.stack([packed >> 32, packed & 0xFFFFFFFF], axis=1)


def connected_components(pairs: Int64s) -> tuple[Int64s, Int64s]:
    """The documents of all pairs, ascending, and for each the least document it hangs with."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as find

    documents, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    ones = np.ones(len(pairs), np.int8)
    shape = (len(documents), len(documents))
    _, labels = find(coo_array((ones, (places[:, 0], places[:, 1])), shape=shape), directed=False)
    least = np.full(len(documents), np.iinfo(np.int64).max)
    np.minimum.at(least, labels, documents)
    return documents, least[labels]
