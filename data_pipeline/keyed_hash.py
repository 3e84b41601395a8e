"""Hashes that decide order, buckets and draws: the same on every machine, keyed by the seed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]


def text_key(*parts: object) -> int:
    """A 64-bit key of values, from the SHA-256 of their text."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def mix(values: UInt64s) -> UInt64s:
    """SplitMix64's finaliser: a bijection of the 64-bit integers that scatters neighbours."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def order_keys(question_ids: npt.NDArray[np.int64], site: str, seed: int) -> UInt64s:
    """The place of each question in the global pseudo-random order; no two of a site are equal."""
    site_key = np.uint64(text_key("order", seed, site))
    return mix(mix(question_ids.astype(np.uint64)) ^ site_key)


def answer_keys(order_keys: UInt64s, post_ids: npt.NDArray[np.int64]) -> UInt64s:
    """A key of each answer for draws among those of its question; carries the build's seed."""
    return mix(order_keys ^ mix(post_ids.astype(np.uint64)))


def buckets_of(keys: UInt64s, num_buckets: int) -> npt.NDArray[np.int64]:
    """The bucket of each key: a range of the global order, so buckets in turn give the order."""
    if num_buckets == 1:
        return np.zeros(len(keys), dtype=np.int64)
    shift = np.uint64(64 - num_buckets.bit_length() + 1)
    return (keys >> shift).astype(np.int64)


def unit_interval(key: int) -> float:
    """A 64-bit key as a number in [0, 1)."""
    return (key >> 11) / (1 << 53)
