"""MinHash signatures and their band keys, many documents at once in numpy.

MinHash (Broder 1997) keeps, of every document's set of word n-grams, the least value under each of
many hash functions; two documents agree in a value with the probability of their Jaccard
similarity. Values are taken together in bands: documents that agree in a whole band are candidates
(Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
"""

# D documents, S n-grams of all documents together, K hash functions, B bands.

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from data_pipeline.keyed_hash import mix
from data_pipeline.ngrams import Int64s, Shingles, UInt64s

UInt32s = npt.NDArray[np.uint32]

SIGNATURE_SEED = 0x5EED
# N-grams are signed in pieces that stay in the processor's cache.
_SIGNING_PIECE = 1 << 14


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
