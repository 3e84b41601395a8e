"""Word n-grams as numbers, MinHash signatures and their band keys, many documents at once in numpy.

MinHash (Broder 1997) keeps, of every document's set of word n-grams, the least value under each of
many hash functions; two documents agree in a value with the probability of their Jaccard
similarity. Values are taken together in bands: documents that agree in a whole band are candidates
(Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).

The constants below are part of the format: changing one changes every signature.
"""

# D documents, S n-grams of all documents together, K hash functions, B bands.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from data_pipeline.keyed_hash import mix

UInt8s = npt.NDArray[np.uint8]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

BASE = 0x100000001B3  # odd, so it has an inverse modulo 2^64
SIGNATURE_SEED = 0x5EED
SPACE = 32

# Letters, digits and every byte of a character beyond ASCII belong to words; NUL separates texts.
_TO_WORDS = bytes(
    code if code == 0 or code >= 128 or chr(code).isalnum() else SPACE for code in range(256)
)
# N-grams are signed in pieces that stay in the processor's cache.
_SIGNING_PIECE = 1 << 14
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


@lru_cache(maxsize=8)
def _hash_functions(count: int) -> tuple[UInt32s, UInt32s]:
    keys = mix(np.arange(2 * count, dtype=np.uint64) + np.uint64(SIGNATURE_SEED << 32))
    return (keys[:count] >> 32).astype(np.uint32) | np.uint32(1), keys[count:].astype(np.uint32)


def sign(shingles: Shingles, num_hashes: int) -> UInt32s:
    """MinHash signatures, `[K, D]`; a text without n-grams gets the largest value everywhere."""
    multipliers_K, offsets_K = _hash_functions(num_hashes)
    ends_D = shingles.ends_D
    counts_D = np.diff(ends_D, prepend=0)
    signatures = np.full((num_hashes, len(ends_D)), np.iinfo(np.uint32).max, np.uint32)
    filled = np.flatnonzero(counts_D)
    for piece in _pieces(filled, ends_D):
        first = int(ends_D[piece[0]] - counts_D[piece[0]])
        values_S = (shingles.hashes_S[first : int(ends_D[piece[-1]])] >> 32).astype(np.uint32)
        starts = ends_D[piece] - counts_D[piece] - first
        hashed = np.empty_like(values_S)
        for row, (multiplier, offset) in enumerate(zip(multipliers_K, offsets_K, strict=True)):
            np.multiply(values_S, multiplier, out=hashed)
            np.add(hashed, offset, out=hashed)
            signatures[row, piece] = np.minimum.reduceat(hashed, starts)
    return signatures


def _pieces(filled: Int64s, ends_D: Int64s) -> Iterator[Int64s]:
    """Runs of texts of about `_SIGNING_PIECE` n-grams together."""
    numbers = ends_D[filled] // _SIGNING_PIECE
    for piece in np.split(filled, np.flatnonzero(np.diff(numbers)) + 1):
        if len(piece):
            yield piece


def band_keys(signatures: UInt32s, num_bands: int) -> UInt64s:
    """Hash the K / B values of each band into one key, `[B, D]`."""
    num_hashes, num_texts = signatures.shape
    assert num_hashes % num_bands == 0, "bands must have equally many rows"
    rows = signatures.reshape(num_bands, -1, num_texts)
    keys = np.zeros((num_bands, num_texts), np.uint64)
    for row in range(rows.shape[1]):
        keys = mix(keys ^ rows[:, row])
    return keys


def jaccard(first: UInt64s, second: UInt64s) -> float:
    """Similarity of two sorted sets of n-grams, 0 for two empty ones."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - common
    return common / union if union else 0.0


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
