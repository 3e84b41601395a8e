"""Find questions and answers that share a long n-gram of words with a benchmark.

A question that does takes its whole group away; an answer only itself. `removed/*.parquet` shows
every removed text with the words it shares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import benchmark_overlap, documents, ngrams, removals
from data_pipeline.benchmark_overlap import NgramIndex, benchmark_ngrams
from data_pipeline.config import DecontaminationConfig
from data_pipeline.documents import document_table, document_texts
from data_pipeline.ngrams import batches_of_texts, shingle, words
from data_pipeline.removals import REMOVALS_SCHEMA, removals_dir
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import file_sha256, write_atomic
from worldpm.errors import InputError

REMOVED_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("response_id", pa.int64()),  # null: the question, and with it the group
        ("benchmarks", pa.list_(pa.string())),
        ("num_shared", pa.int32()),  # n-grams of the text that occur in a benchmark
        ("shared_words", pa.string()),  # the first of them
        ("content", pa.string()),
    ]
)


@dataclass(frozen=True)
class IndexBenchmarks(Stage):
    """One task a benchmark: the sorted set of its n-grams."""

    config: DecontaminationConfig

    @property
    def name(self) -> str:
        return "index_benchmarks"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (benchmark_overlap, ngrams)

    def settings(self) -> Mapping[str, Any]:
        hashes = {name: _files_sha256(path) for name, path in self.config.benchmarks.items()}
        return {"ngram": self.config.ngram, "benchmarks": dict(sorted(hashes.items()))}

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def tasks(self) -> list[str]:
        return sorted(self.config.benchmarks)

    def run_task(self, task: str, directory: Path) -> TaskResult:
        path = self.config.benchmarks[task]
        known, num_texts, num_short = benchmark_ngrams(path, self.config.ngram)

        def write(hidden: Path) -> None:
            with hidden.open("wb") as file:
                np.save(file, known, allow_pickle=False)

        write_atomic(directory / f"{task}.npy", write)
        note = {
            "benchmark": task,
            "num_texts": num_texts,
            "num_too_short": num_short,
            "num_ngrams": len(known),
        }
        return TaskResult({}, [note])

    def index(self) -> NgramIndex:
        """The n-grams of all benchmarks."""
        return NgramIndex({name: np.load(self.directory / f"{name}.npy") for name in self.tasks()})


def _files_sha256(path: Path) -> list[str]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"decontamination.benchmarks: there is no group file {path}")
    return [file_sha256(file) for file in files]


@dataclass(frozen=True)
class Decontaminate(Stage):
    """One task a bucket of groups: removals, and a file of the removed texts to look at."""

    pair: Stage
    benchmarks: IndexBenchmarks

    @property
    def name(self) -> str:
        return "decontaminate"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (benchmark_overlap, documents, ngrams, removals)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.pair, self.benchmarks)

    def tasks(self) -> list[str]:
        return self.pair.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        groups = self.pair.directory / f"{task}.parquet"
        hits = list(_find(groups, self.benchmarks.index(), self.benchmarks.config.ngram))
        places = pa.array([place for place, *_ in hits], pa.int64())
        owners = document_table(groups).select(REMOVALS_SCHEMA.names[:3]).take(places)
        columns: list[list[Any]] = [list(column) for column in zip(*hits, strict=True)]
        _, names, num_shared, shared, content = columns or [[]] * 5
        shown = [names, num_shared, shared, content]
        arrays = [*owners.columns, *(pa.array(c, t) for c, t in zip(shown, _types(), strict=True))]
        reasons = pa.array([f"overlaps_{name[0]}" for name in names], pa.string())
        removed = pa.table([*owners.columns, reasons], schema=REMOVALS_SCHEMA)
        _write(removals_dir(directory) / f"{task}.parquet", removed)
        _write(directory / "removed" / f"{task}.parquet", pa.table(arrays, schema=REMOVED_SCHEMA))
        return TaskResult({}, _hits_per_benchmark(owners, names))


def decontamination_stages(
    work: Path, pair: Stage, config: DecontaminationConfig
) -> tuple[Stage, ...]:
    """The stages in their order; the last has the removals.

    Raises:
        InputError: a benchmark's name cannot be part of a file name.
    """
    for name in config.benchmarks:
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(
                f"decontamination.benchmarks: the name {name!r} may hold letters, digits, dots, "
                "dashes and underscores"
            )
    benchmarks = IndexBenchmarks(work / "index_benchmarks", config)
    return (benchmarks, Decontaminate(work / "decontaminate", pair, benchmarks))


def _types() -> list[pa.DataType]:
    return [field.type for field in REMOVED_SCHEMA][3:]


def _find(
    groups: Path, index: NgramIndex, ngram: int
) -> Iterator[tuple[int, tuple[str, ...], int, str, str]]:
    """Place, benchmarks, number of shared n-grams, first shared words and text of every hit."""
    offset = 0
    for batch in batches_of_texts(chain.from_iterable(document_texts(groups))):
        shingles = shingle(batch, ngram, whole_if_shorter=False)
        places = np.flatnonzero(index.hits(shingles))
        texts = np.searchsorted(shingles.ends_D, places, side="right")
        for text in np.unique(texts).tolist():
            found = places[texts == text]
            first = int(found[0]) - (int(shingles.ends_D[text - 1]) if text else 0)
            shared = " ".join(words(batch[text])[first : first + ngram])
            names = index.benchmarks_of(shingles.hashes_S[found])
            yield offset + text, names, len(found), shared, batch[text]
        offset += len(batch)


def _hits_per_benchmark(owners: pa.Table, names: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    is_question = owners["response_id"].is_null().to_pylist()
    hits: dict[str, dict[str, int]] = {}
    for question, found in zip(is_question, names, strict=True):
        for name in found:
            counts = hits.setdefault(name, {"questions": 0, "answers": 0})
            counts["questions" if question else "answers"] += 1
    return [{"benchmark": name, **counts} for name, counts in sorted(hits.items())]


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, lambda hidden: pq.write_table(table, hidden, compression="zstd"))
