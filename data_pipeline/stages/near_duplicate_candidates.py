"""Pairs of similar documents, found without comparing all: sign, match bands, gather, verify.

Documents are signed bucket by bucket; each band of all signatures is searched for equal keys; the
n-grams of the documents found are gathered, and their exact Jaccard similarity decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_pipeline import candidate_pairs, documents, minhash, ngrams
from data_pipeline.candidate_pairs import Int64s, pairs_of_band, unique_pairs
from data_pipeline.config import NearDuplicatesConfig
from data_pipeline.documents import document_table, document_texts
from data_pipeline.minhash import band_keys, sign
from data_pipeline.ngrams import UInt64s, batches_of_texts, jaccard, shingle
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import write_atomic

# An answer never meets a question: their keys differ by this.
ANSWER_MARK = np.uint64(0xA5A5A5A5A5A5A5A5)
# What looking for equal keys takes in memory.
BYTES_PER_DOCUMENT = 48
PAIRS_AT_ONCE = 10_000


@dataclass(frozen=True)
class SignDocuments(Stage):
    """One task a bucket of groups: a table of documents and their band keys, `[B, D]`."""

    pair: Stage
    config: NearDuplicatesConfig

    @property
    def name(self) -> str:
        return "sign_documents"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (documents, minhash, ngrams)

    def settings(self) -> Mapping[str, Any]:
        return {
            "ngram": self.config.ngram,
            "num_bands": self.config.num_bands,
            "rows_per_band": self.config.rows_per_band,
        }

    def upstream(self) -> tuple[Stage, ...]:
        return (self.pair,)

    def tasks(self) -> list[str]:
        return self.pair.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        groups = self.pair.directory / f"{task}.parquet"
        table = document_table(groups)
        texts = chain.from_iterable(document_texts(groups))
        keys = [self._sign(batch) for batch in batches_of_texts(texts)]
        empty = np.empty((self.config.num_bands, 0), np.uint64)
        all_keys = np.concatenate([empty, *keys], axis=1)
        is_answer = table["response_id"].is_valid().to_numpy()
        all_keys[:, is_answer] ^= ANSWER_MARK
        path = directory / f"{task}.parquet"
        write_atomic(path, lambda hidden: pq.write_table(table, hidden, compression="zstd"))
        _save(directory / f"{task}.npy", all_keys)
        return TaskResult({})

    def _sign(self, texts: Sequence[str]) -> np.ndarray:
        num_hashes = self.config.num_bands * self.config.rows_per_band
        signatures = sign(shingle(texts, self.config.ngram), num_hashes)
        return band_keys(signatures, self.config.num_bands)

    def bucket_ends(self) -> Int64s:
        """The number of documents up to and including each bucket: documents are numbered on."""
        files = [self.directory / f"{task}.parquet" for task in self.tasks()]
        return np.cumsum([pq.read_metadata(path).num_rows for path in files])


@dataclass(frozen=True)
class MatchBands(Stage):
    """One task a band: pairs of documents whose signatures agree in all of it."""

    signatures: SignDocuments
    memory_mb: int

    @property
    def name(self) -> str:
        return "match_bands"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (candidate_pairs,)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.signatures,)

    def tasks(self) -> list[str]:
        return [f"band-{number:02d}" for number in range(self.signatures.config.num_bands)]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        band = int(task.removeprefix("band-"))
        files = [self.signatures.directory / f"{bucket}.npy" for bucket in self.signatures.tasks()]
        num_documents = int(self.signatures.bucket_ends()[-1])
        pairs = pairs_of_band(
            lambda: (np.load(path, mmap_mode="r")[band] for path in files),
            num_documents,
            documents_at_once=self.memory_mb * 1_000_000 // BYTES_PER_DOCUMENT,
        )
        _save(directory / f"{task}.npy", pairs)
        is_named = np.zeros(num_documents, bool)
        is_named[pairs.ravel()] = True
        _save(directory / f"{task}.documents.npy", np.flatnonzero(is_named))
        return TaskResult({})

    def pairs_from(self, low: int, high: int) -> Int64s:
        """Pairs of all bands of which the first document lies in `[low, high)`."""
        found: list[Int64s] = []
        for pairs in self._arrays(""):  # sorted by their first document
            start, end = np.searchsorted(pairs[:, 0], [low, high])
            found.append(np.asarray(pairs[start:end]))
        return unique_pairs(found)

    def documents_within(self, low: int, high: int) -> Int64s:
        """The documents in `[low, high)` that some pair of any band names, ascending."""
        is_named = np.zeros(high - low, bool)
        for named in self._arrays(".documents"):
            start, end = np.searchsorted(named, [low, high])
            is_named[named[start:end] - low] = True
        return np.flatnonzero(is_named) + low

    def _arrays(self, kind: str) -> Iterator[Int64s]:
        for task in self.tasks():
            yield np.load(self.directory / f"{task}{kind}.npy", mmap_mode="r")


@dataclass(frozen=True)
class GatherCandidates(Stage):
    """One task a bucket: the sets of n-grams of its documents that some pair names."""

    matches: MatchBands

    @property
    def name(self) -> str:
        return "gather_candidates"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (ngrams,)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.matches, self.matches.signatures.pair)

    def tasks(self) -> list[str]:
        return self.matches.signatures.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        signatures = self.matches.signatures
        low, high = bucket_range(signatures, task)
        wanted = self.matches.documents_within(low, high)
        texts = _texts_at(signatures.pair.directory / f"{task}.parquet", wanted - low)
        sets = [np.empty(0, np.uint64)]
        for batch in batches_of_texts(texts):
            shingles = shingle(batch, signatures.config.ngram)
            sets.extend(shingles.set_of(text) for text in range(len(batch)))
        _save(directory / f"{task}.documents.npy", wanted)
        _save(directory / f"{task}.ends.npy", np.cumsum([len(s) for s in sets[1:]], dtype=np.int64))
        _save(directory / f"{task}.hashes.npy", np.concatenate(sets))
        return TaskResult({})


@dataclass(frozen=True)
class VerifyCandidates(Stage):
    """One task a bucket: the pairs, by their first document, that are similar enough."""

    candidates: GatherCandidates

    @property
    def name(self) -> str:
        return "verify_candidates"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (ngrams,)

    def settings(self) -> Mapping[str, Any]:
        return {"threshold": self.candidates.matches.signatures.config.threshold}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.candidates,)

    def tasks(self) -> list[str]:
        return self.candidates.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        matches = self.candidates.matches
        low, high = bucket_range(matches.signatures, task)
        pairs = matches.pairs_from(low, high)
        sets = _NgramSets(self.candidates)
        threshold = matches.signatures.config.threshold
        chunks = np.split(pairs, range(PAIRS_AT_ONCE, len(pairs), PAIRS_AT_ONCE))
        similar = np.concatenate([sets.similar(chunk, threshold) for chunk in chunks])
        _save(directory / f"{task}.npy", similar)
        note = {"candidate_pairs": len(pairs), "similar_pairs": len(similar)}
        return TaskResult({}, [note])


class _NgramSets:
    """The gathered sets of n-grams by document number, on disk until they are looked at."""

    def __init__(self, candidates: GatherCandidates) -> None:
        folder, tasks = candidates.directory, candidates.tasks()
        self._documents = [np.load(folder / f"{task}.documents.npy") for task in tasks]
        self._ends = [np.load(folder / f"{task}.ends.npy") for task in tasks]
        # As plain arrays: cutting a memory map itself costs several times as much.
        self._hashes = [
            np.asarray(np.load(folder / f"{task}.hashes.npy", mmap_mode="r")) for task in tasks
        ]
        self._bucket_ends = candidates.matches.signatures.bucket_ends()

    def similar(self, pairs: Int64s, threshold: float) -> Int64s:
        """The pairs of documents whose Jaccard similarity is at least the threshold."""
        places = [self._places(pairs[:, side]) for side in (0, 1)]
        smaller, larger = np.sort([place[:, 2] - place[:, 1] for place in places], axis=0)
        # No pair is more similar than the smaller set is large beside the larger one.
        may_be = np.flatnonzero(smaller / np.maximum(larger, 1) >= threshold)
        both = zip(*(place[may_be].tolist() for place in places), strict=True)
        is_similar = [jaccard(self._set(*a), self._set(*b)) >= threshold for a, b in both]
        return pairs[may_be[np.array(is_similar, bool)]]

    def _set(self, bucket: int, start: int, end: int) -> UInt64s:
        return self._hashes[bucket][start:end]

    def _places(self, documents: Int64s) -> Int64s:
        """Bucket, start and end of each document's set [documents, 3]."""
        buckets = np.searchsorted(self._bucket_ends, documents, side="right")
        starts, ends = np.zeros((2, len(documents)), np.int64)
        for bucket in np.unique(buckets):
            here = np.flatnonzero(buckets == bucket)
            places = np.searchsorted(self._documents[bucket], documents[here])
            ends[here] = self._ends[bucket][places]
            starts[here] = np.where(places > 0, self._ends[bucket][places - 1], 0)
        return np.stack([buckets, starts, ends], axis=1)


def bucket_range(signatures: SignDocuments, task: str) -> tuple[int, int]:
    """The numbers of a bucket's documents, from and up to but excluding."""
    ends = signatures.bucket_ends()
    place = signatures.tasks().index(task)
    return int(ends[place - 1]) if place else 0, int(ends[place])


def _texts_at(groups: Path, places: Int64s) -> Iterator[str]:
    wanted = iter(places.tolist())
    next_place = next(wanted, None)
    for place, text in enumerate(chain.from_iterable(document_texts(groups))):
        if next_place is None:
            return
        if place == next_place:
            yield text
            next_place = next(wanted, None)


def _save(path: Path, array: np.ndarray) -> None:
    def write(hidden: Path) -> None:
        with hidden.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    write_atomic(path, write)
