"""Which n-grams occur in a benchmark, and which texts share one with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.ngrams import Shingles, UInt64s, batches_of_texts, shingle
from worldpm.group_files import read_group_file

Bools = npt.NDArray[np.bool_]

# 2^27 bits, 16 MB: most n-grams of a corpus are in no benchmark, and one look at a bit says so.
_BITMAP_BITS = 27


def benchmark_ngrams(path: Path, ngram: int) -> tuple[UInt64s, int, int]:
    """The sorted set of n-grams of a benchmark's prompts and responses.

    Also how many texts it has, and how many of them are too short to have an n-gram.

    Raises:
        InputError: the file is no group file.
    """
    parts = [np.empty(0, np.uint64)]
    num_texts = num_short = 0
    for batch in batches_of_texts(_texts(path)):
        shingles = shingle(batch, ngram, whole_if_shorter=False)
        parts.append(np.unique(shingles.hashes_S))
        num_texts += len(batch)
        num_short += int((np.diff(shingles.ends_D, prepend=0) == 0).sum())
    return np.unique(np.concatenate(parts)), num_texts, num_short


def _texts(path: Path) -> Iterator[str]:
    for group in read_group_file(path):
        for message in group.prompt:
            yield message.content
        yield from group.responses


class NgramIndex:
    """The n-grams of several benchmarks, for fast look-up."""

    def __init__(self, ngrams: Mapping[str, UInt64s]) -> None:
        self._by_name = dict(sorted(ngrams.items()))
        self._all = np.unique(np.concatenate([np.empty(0, np.uint64), *self._by_name.values()]))
        self._bitmap = np.zeros(1 << (_BITMAP_BITS - 3), np.uint8)
        byte, bit = _bitmap_place(self._all)
        np.bitwise_or.at(self._bitmap, byte, bit)

    def hits(self, shingles: Shingles) -> Bools:
        """Which n-grams `[S]` occur in any benchmark."""
        byte, bit = _bitmap_place(shingles.hashes_S)
        found = (self._bitmap[byte] & bit) != 0
        places = np.flatnonzero(found)
        found[places] = _contains(self._all, shingles.hashes_S[places])
        return found

    def benchmarks_of(self, hashes: UInt64s) -> tuple[str, ...]:
        """The names of the benchmarks that have one of these n-grams, in alphabetical order."""
        return tuple(
            name for name, known in self._by_name.items() if _contains(known, hashes).any()
        )


def _bitmap_place(hashes: UInt64s) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    position = (hashes >> np.uint64(64 - _BITMAP_BITS)).astype(np.int64)
    return position >> 3, np.left_shift(1, position & 7).astype(np.uint8)


def _contains(known: UInt64s, hashes: UInt64s) -> Bools:
    if not len(known):
        return np.zeros(len(hashes), bool)
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return known[places] == hashes
