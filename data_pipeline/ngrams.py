"""Word n-grams of many texts at once as 64-bit numbers, in numpy.

Near-duplicates and benchmark overlap both speak of n-grams of words; here is what a word is.
The constants are part of the format: changing one changes every signature.
"""

# D texts, S n-grams of all of them together.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from data_pipeline.keyed_hash import mix

UInt8s = npt.NDArray[np.uint8]
UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

BASE = 0x100000001B3  # odd, so it has an inverse modulo 2^64
SPACE = 32

# Letters, digits and every byte of a character beyond ASCII belong to words; NUL separates texts.
_TO_WORDS = bytes(
    code if code == 0 or code >= 128 or chr(code).isalnum() else SPACE for code in range(256)
)
_BATCH_CHARACTERS = 1 << 19


@dataclass(frozen=True, slots=True)
class Shingles:
    """The n-grams of D texts: `hashes_S`, of which text d has those from `ends_D[d - 1]` on."""

    hashes_S: UInt64s
    ends_D: Int64s

    def of(self, text: int) -> UInt64s:
        """The n-grams of one text, with repeats, in the order of the text."""
        start = int(self.ends_D[text - 1]) if text else 0
        return self.hashes_S[start : int(self.ends_D[text])]

    def set_of(self, text: int) -> UInt64s:
        """The n-grams of one text as a sorted set."""
        return np.unique(self.of(text))


def shingle(texts: Sequence[str], ngram: int, *, whole_if_shorter: bool = True) -> Shingles:
    """Hash every n-gram of consecutive words of each text to 64 bits.

    Words are runs of letters and digits, without regard to case, punctuation and spacing. A text
    of fewer words has one n-gram, the whole text, or with `whole_if_shorter=False` none; a text
    without words has none.

    The hash is polynomial in the bytes of the words joined by single spaces, so the hash of any
    stretch is a difference of two prefix sums.
    """
    if not texts:
        return Shingles(np.empty(0, np.uint64), np.empty(0, np.int64))
    codes = _word_bytes(texts)
    separators = np.flatnonzero(codes == 0)
    word_starts, word_ends = _words(codes)
    lengths = word_ends - word_starts
    compact = codes[_kept(codes)]
    prefix, inverse = _prefix_sums(compact)
    starts = np.cumsum(lengths + 1) - (lengths + 1)
    word_counts = np.searchsorted(word_starts, separators)
    firsts = np.concatenate([[0], word_counts[:-1]])
    begin, end, counts = _stretches(firsts, word_counts, ngram, whole_if_shorter)
    first_byte, last_byte = starts[begin], starts[end] + lengths[end]
    hashes = (prefix[last_byte] - prefix[first_byte]) * inverse[first_byte]
    return Shingles(mix(hashes), np.cumsum(counts))


def _word_bytes(texts: Sequence[str]) -> UInt8s:
    joined = "\0".join(texts)
    if joined.count("\0") != len(texts) - 1:
        joined = "\0".join(text.replace("\0", " ") for text in texts)
    data = f"{joined}\0".lower().encode("utf-8", "replace").translate(_TO_WORDS)
    return np.frombuffer(data, np.uint8)


def _words(codes: UInt8s) -> tuple[Int64s, Int64s]:
    """Where words begin and end; the last byte never belongs to a word."""
    in_word = codes > SPACE
    changes = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    if in_word[0]:
        changes = np.concatenate([[0], changes])
    return changes[0::2], changes[1::2]


def _kept(codes: UInt8s) -> npt.NDArray[np.bool_]:
    """The bytes of words, and of every gap the first."""
    kept = codes > SPACE
    kept[1:] |= kept[:-1]
    return kept


def _prefix_sums(compact: UInt8s) -> tuple[UInt64s, UInt64s]:
    powers, inverse = _powers(1 << max(12, len(compact).bit_length()))
    # A gap counts the same whether it was a space or the end of a text.
    values = np.maximum(compact, SPACE).astype(np.uint64) * powers[: len(compact)]
    prefix = np.empty(len(compact) + 1, np.uint64)
    prefix[0] = 0
    np.cumsum(values, out=prefix[1:])
    return prefix, inverse


@lru_cache(maxsize=4)
def _powers(count: int) -> tuple[UInt64s, UInt64s]:
    """BASE to the powers 0, 1, … and to 0, -1, …, modulo 2^64."""
    factors = np.ones(count + 1, np.uint64)
    tables: list[UInt64s] = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        factors[1:] = base
        tables.append(np.cumprod(factors))
    return tables[0], tables[1]


def _stretches(
    firsts: Int64s, word_counts: Int64s, ngram: int, whole_if_shorter: bool
) -> tuple[Int64s, Int64s, Int64s]:
    """First and last word of every n-gram, and how many n-grams each text has."""
    num_words = word_counts - firsts
    counts = np.maximum(num_words - ngram + 1, 0)
    if whole_if_shorter:
        counts = np.where((num_words > 0) & (num_words < ngram), 1, counts)
    total = int(counts.sum())
    offsets = np.cumsum(counts) - counts
    begin = np.arange(total) + np.repeat(firsts - offsets, counts)
    end = begin + np.repeat(np.minimum(num_words, ngram) - 1, counts)
    return begin, end, counts


def jaccard(first: UInt64s, second: UInt64s) -> float:
    """Similarity of two sorted sets of n-grams, 0 for two empty ones."""
    if not len(first) or not len(second):
        return 0.0
    places = second.searchsorted(first)
    places[places == len(second)] = 0
    common = int(np.count_nonzero(second[places] == first))
    return common / (len(first) + len(second) - common)


def batches_of_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Runs of texts of about half a million characters together: what `shingle` takes well."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def words(text: str) -> list[str]:
    """The words of a text as `shingle` sees them: n-gram i begins with word i."""
    data = text.replace("\0", " ").lower().encode("utf-8", "replace").translate(_TO_WORDS)
    return [word.decode("utf-8", "replace") for word in data.split()]
